# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is known about a register's number: sound by trying at 4 and 8 bits, by chance at 64.

tests/exhaustive has every range of 8 bits with every constant; here is a choice of them.
"""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_numbers import COMPARISONS, OPERATIONS, members, of_range, of_scalar, tnums

from harness.errors import UsageError
from harness.verify import scalar
from harness.verify.ranges import ArcKind, BoundsKind
from harness.verify.scalar import PRECISIONS, REVERSED, Domain
from harness.verify.tnum import Tnum

U64 = (1 << 64) - 1
SERIES = ("6.12", "6.18", "7.3")
ENDS = (0, 1, 15, 16, 17, 100, 127, 128, 129, 240, 254, 255)
MASKS = (0x01, 0x0F, 0xF0, 0x80, 0x7F, 0xFE, 0x55, 0xFF)


@cache
def small(series, bits=8):
    return Domain(PRECISIONS[series], bits)


def spans(domain, ends):
    """Unsigned and signed ranges between the ends, as raw parts of a Scalar."""
    kind, half = domain.wide, domain.wide.width.half
    for low in ends:
        for high in ends:
            if low <= high:
                yield kind.unsigned(low, high)
                yield kind.signed(low - half, high - half)


@cache
def elements(series):
    """A choice of Scalars of 8 bits: constants, ranges, bits, and some of both."""
    domain = small(series)
    full = domain.unknown
    found = [domain.known(each) for each in (0, 1, 7, 16, 100, 127, 128, 200, 255)]
    found += [domain.sync(full.tnum, span, full.narrow) for span in spans(domain, ENDS[::2])]
    for mask in MASKS:
        for value in (0, 0x80, 0x21):
            known = Tnum(value & ~mask, mask)
            found += [
                domain.sync(known, full.wide, full.narrow),
                domain.sync(known, domain.wide.unsigned(17, 200), domain.narrow.signed(-3, 6)),
            ]
    return [each for each in dict.fromkeys(found) if of_scalar(each, 8)]


def few(series):
    """Second operands, of not too many numbers."""
    return [each for each in elements(series) if of_scalar(each, 8).bit_count() <= 18][::2]


@cache
def rows(op, right, bits):
    """For each first operand the set of results with all of `right`; of `bits` of both."""
    rule, ones = OPERATIONS[op], (1 << bits) - 1
    others = {each & ones for each in members(right)}
    found = []
    for a in range(256):
        reached = 0
        for b in others:
            reached |= 1 << (rule(a & ones, b, bits) & ones)
        found.append(reached)
    return found


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("series", SERIES)
def test_alu(series, op):
    """Every result of members is a member of the result; on all bits and on the low half."""
    domain = small(series)
    for bits in (8, 4):
        for b in few(series):
            reach = rows(op, of_scalar(b, 8), bits)
            for a in elements(series):
                expected = 0
                for number in members(of_scalar(a, 8)):
                    expected |= reach[number]
                result = domain.alu(op, a, b, bits)
                assert not expected & ~of_scalar(result, 8), f"{a} {op} {b} = {result}"


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("series", SERIES)
def test_branches(series, op):
    """Where a comparison holds and where not: no number is lost, and no answer is wrong."""
    domain, rule = small(series), COMPARISONS[op]
    for bits in (8, 4):
        ones = (1 << bits) - 1
        for b in few(series)[::3]:
            right = list(members(of_scalar(b, 8)))
            for a in elements(series)[::3]:
                left = list(members(of_scalar(a, 8)))
                for first, second in ((a, b), (b, a)):
                    one, other = (left, right) if first is a else (right, left)
                    truths = {(x, y): rule(x & ones, y & ones, bits) for x in one for y in other}
                    answer = domain.decide(op, first, second, bits)
                    assert answer is None or set(truths.values()) == {answer}
                    if answer is not None:
                        continue
                    for what, truth in ((op, True), (REVERSED[op], False)):
                        after = domain.learn(what, first, second, bits)
                        kept = [of_scalar(each, 8) for each in after]
                        for (x, y), holds in truths.items():
                            if holds is truth:
                                assert kept[0] >> x & 1, f"{first} {what} {second}: {x}"
                                assert kept[1] >> y & 1, f"{first} {what} {second}: {y}"


@pytest.mark.parametrize("series", SERIES)
def test_sync(series):
    """All tracked numbers of 4 bits, all their ranges, some of the low half: nothing is lost."""
    domain = small(series, 4)
    lows = [domain.narrow.full, domain.narrow.unsigned(1, 2), domain.narrow.signed(-1, 0)]
    for known in tnums(4):
        for span in spans(domain, range(0, 16, 2)):
            for low in lows:
                raw = scalar.Scalar(known, span, low)
                made = domain.sync(*raw)
                expected = of_scalar(raw, 4)
                assert not expected & ~of_scalar(made, 4), f"{raw} -> {made}"
                if made.impossible:
                    assert not expected


@pytest.mark.parametrize("series", SERIES)
def test_casts(series):
    """Truncation and extension of the sign; of two bits, as of one byte at 64 bits."""
    domain = small(series)
    for a in elements(series):
        numbers = list(members(of_scalar(a, 8)))
        for bits in (2, 3, 4):
            ones, sign = (1 << bits) - 1, 1 << bits - 1
            cut, stretched = domain.truncate(a, bits), domain.extend(a, bits)
            low = domain.extend(a, bits, 4) if bits < 4 else domain.low_half(a)
            for number in {each & ones for each in numbers}:
                extended = (number - (ones + 1) if number & sign else number) & 255
                assert of_scalar(cut, 8) >> number & 1
                assert of_scalar(stretched, 8) >> extended & 1
                assert of_scalar(low, 8) >> (extended & 15 if bits < 4 else number) & 1


@pytest.mark.parametrize("series", SERIES)
def test_covers(series):
    """What is covered has no number that the other has not."""
    domain = small(series)
    some = elements(series)[::3]
    for a in some:
        assert domain.covers(a, a)
        assert domain.covers(domain.unknown, a)
        for b in some:
            if domain.covers(a, b):
                assert not of_scalar(b, 8) & ~of_scalar(a, 8)


def test_arcs_of_four_bits():
    """Every pair of arcs: what they have in common, sums, differences."""
    kind = ArcKind(4)
    arcs = {kind.arc(base, size) for base in range(16) for size in range(16)}
    assert len(arcs) == 16 * 15 + 1
    sets = {}
    for arc in arcs:
        numbers = {(arc.base + each) & 15 for each in range(arc.size + 1)}
        sets[arc] = numbers
        views = of_range(*arc[:4], 4)
        assert numbers <= set(members(views))
    for a in arcs:
        for b in arcs:
            both = sets[a] & sets[b]
            met = kind.meet(a, b)
            assert met.empty == (not both)
            if not met.empty:
                assert both <= sets[met]
                # two pieces are not an arc
                assert sets[met] == both or met in (a, b)
            assert {x + y & 15 for x in sets[a] for y in sets[b]} == sets[kind.add(a, b)]
            assert {x - y & 15 for x in sets[a] for y in sets[b]} == sets[kind.subtract(a, b)]
            assert kind.covers(a, b) == (sets[b] <= sets[a])


def test_arcs_with_low_halves():
    """All arcs of 6 bits with all of 3: the shortest arc that has all of them."""
    wide, narrow = ArcKind(6), ArcKind(3)
    for base in range(0, 64, 3):
        for size in range(63):
            numbers = [base + each & 63 for each in range(size + 1)]
            for start in range(8):
                for width in range(7):
                    low = {start + each & 7 for each in range(width + 1)}
                    kept = [each for each in numbers if each & 7 in low]
                    made = wide.with_low(wide.arc(base, size), narrow.arc(start, width), 7)
                    assert made.empty == (not kept)
                    if kept:
                        ends = (made.base, made.base + made.size & 63)
                        assert ends == (kept[0], kept[-1])


def test_bounds_inform_each_other():
    kind = BoundsKind(4, wraps=False)
    for umin in range(16):
        for umax in range(umin, 16):
            for smin in range(-8, 8):
                for smax in range(smin, 8):
                    raw = kind.both((umin, umax), (smin, smax))
                    numbers = of_range(umin, umax, smin, smax, 4)
                    made = kind.settle(raw)
                    assert not numbers & ~of_range(*made, 4)


# 64 bits -----------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(0, U64),
    st.sampled_from([0, 1, 2, 255, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 32, 1 << 63, U64]),
    st.integers(0, 300),
    st.integers(U64 - 300, U64),
)
STEPS = st.one_of(
    st.tuples(
        st.just("alu"), st.sampled_from(sorted(OPERATIONS)), NUMBERS, st.sampled_from([32, 64])
    ),
    st.tuples(
        st.just("if"), st.sampled_from(sorted(COMPARISONS)), NUMBERS, st.sampled_from([32, 64])
    ),
    st.tuples(
        st.just("cut"), st.sampled_from([8, 16, 32]), st.booleans(), st.sampled_from([32, 64])
    ),
    st.tuples(st.just("swap"), st.sampled_from([16, 32, 64]), st.booleans(), st.just(64)),
)


def follow(domain, known, number, step):
    """One step of a program: (what is known after it, the number itself)."""
    kind, what, operand, bits = step
    ones = (1 << bits) - 1
    if kind == "alu":
        result = OPERATIONS[what](number & ones, operand & ones, bits) & ones
        return domain.alu(what, known, domain.known(operand), bits), result
    if kind == "if":
        holds = COMPARISONS[what](number & ones, operand & ones, bits)
        other = domain.known(operand)
        answer = domain.decide(what, known, other, bits)
        assert answer in (None, holds)
        if answer is not None:
            return known, number
        return domain.learn(what if holds else REVERSED[what], known, other, bits)[0], number
    if kind == "swap":
        low = (number & (1 << what) - 1).to_bytes(what // 8, "little")
        result = int.from_bytes(low, "big" if operand else "little")
        return domain.swap(known, what, reverse=operand), result
    low = number & (1 << what) - 1
    if not operand or (what == 32 and bits == 32):
        return domain.truncate(known, what), low
    extended = (low - (1 << what) if low >> what - 1 else low) & ones
    return domain.extend(known, what, bits), extended


@pytest.mark.parametrize("series", SERIES)
@given(number=NUMBERS, size=st.sampled_from([1, 2, 4, 8]), steps=st.lists(STEPS, max_size=12))
def test_programs(series, number, size, steps):
    """The number that a program computes is always one of those that may be."""
    domain = scalar.domain(series)
    number &= (1 << 8 * size) - 1
    known = domain.loaded(size) if size < 8 else domain.unknown
    for step in steps:
        assert known.contains(number)
        known, number = follow(domain, known, number, step)
        assert not known.impossible
    assert known.contains(number)


@pytest.mark.parametrize("series", SERIES)
@given(
    first=st.tuples(NUMBERS, st.lists(STEPS, max_size=4)),
    second=st.tuples(NUMBERS, st.lists(STEPS, max_size=4)),
    step=STEPS,
)
def test_two_registers(series, first, second, step):
    """The same where the second operand is not a constant either."""
    domain = scalar.domain(series)
    known, numbers = [], []
    for number, steps in (first, second):
        state = domain.unknown, number
        for each in steps:
            state = follow(domain, *state, each)
        known.append(state[0])
        numbers.append(state[1])
    kind, op, _, bits = step
    ones = (1 << bits) - 1
    x, y = (each & ones for each in numbers)
    if kind == "alu":
        made = domain.alu(op, *known, bits)
        # a shift by more than the width is of no interest: kernels make no claim
        if op not in ("lsh", "rsh", "arsh") or y < bits:
            assert made.contains(OPERATIONS[op](x, y, bits) & ones)
    elif kind == "if":
        holds = COMPARISONS[op](x, y, bits)
        answer = domain.decide(op, *known, bits)
        assert answer in (None, holds)
        if answer is None:
            after = domain.learn(op if holds else REVERSED[op], *known, bits)
            assert all(each.contains(n) for each, n in zip(after, numbers, strict=True))


@pytest.mark.parametrize("op", ["and", "or"])
@pytest.mark.parametrize("series", ["6.12", "7.3"])
def test_fork(series, op):
    """0 or -1: the two are followed apart."""
    domain = scalar.domain(series)
    either = domain.alu("arsh", domain.unknown, domain.known(63), 64)
    assert (either.smin, either.smax) == (-1, 0)
    halves = domain.fork(op, either, domain.known(5))
    assert [each.value for each in halves] == [U64, 0]
    assert domain.fork(op, domain.known(3), domain.known(5)) is None
    assert domain.fork("xor", either, domain.known(5)) is None


def test_known_results():
    """What the kernels are known to conclude (Linux 7.3; reg_bounds selftests, by hand)."""
    domain = scalar.domain("7.3")
    index = domain.loaded(4)
    small_index, _ = domain.learn("lt", index, domain.known(10), 64)
    assert (small_index.umin, small_index.umax, small_index.tnum) == (0, 9, Tnum(0, 15))
    scaled = domain.alu("lsh", small_index, domain.known(3), 64)
    assert (scaled.umax, scaled.tnum) == (72, Tnum(0, 0x78))
    other, _ = domain.learn("ne", small_index, domain.known(0), 64)
    assert other.umin == 1
    assert domain.decide("eq", other, domain.known(0), 64) is False
    assert str(domain.known(-7)) == "-7"
    assert str(small_index) == "0..9"
    assert str(scaled) == "0..72, bits (0x0; 0x78)"
    assert str(domain.unknown) == "anything"


def test_series_differ():
    """Linux 6.12 forgets at a negation, a division and a byte swap; 7.3 does not."""
    for series, knows in (("6.12", False), ("7.3", True)):
        domain = scalar.domain(series)
        byte = domain.loaded(1)
        ten = domain.known(10)
        for made in (
            domain.alu("neg", byte, ten, 64),
            domain.alu("div", byte, ten, 64),
            domain.alu("mod", byte, ten, 64),
            domain.swap(byte, 64, reverse=True),
        ):
            assert (made != domain.unknown) is knows


def test_no_such_profile():
    with pytest.raises(UsageError, match="no domain for '5.4'"):
        scalar.domain("5.4")


@pytest.mark.parametrize(
    ("series", "signed"),
    [("6.12", "signed -32..31"), ("6.18", "signed -0x80000000..31"), ("7.3", "signed -32..31")],
)
def test_a_sign_that_is_extended_by_two_shifts(series, signed):
    """w1 s>>= 26; r1 <<= 32; r1 s>>= 32: as the three kernels print it."""
    domain = scalar.domain(series)
    number = domain.alu("arsh", domain.loaded(4), domain.known(26), 32)
    number = domain.alu("lsh", number, domain.known(32), 64)
    assert str(domain.alu("arsh", number, domain.known(32), 64)) == signed
