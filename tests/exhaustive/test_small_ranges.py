# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every range and every tracked number of a width: what tests/verify takes a choice of.

    make test-exhaustive                       # 8 bits
    make test-exhaustive BITS=6                # the same of 6 bits, for a quick answer
    make test-exhaustive PAIRS=6               # pairs of ranges of 6 bits, not of 4

The model's source runs as it is, for a million operands at once (tests/lanes.py); some of each
million are computed again one by one and have to be the same. What an operation really gives is a
set: of a range, the union of what it gives for each number.

Of each series all ALU operations and comparisons
 - of every range and every constant, at BITS bits; for sub and mul, in which the model takes the
   operands for different things, of every constant and every range too. Of the low half: with the
   constants that are a low half extended by zeros or by its sign, as those of 32 bits are;
 - of every range and every range, at PAIRS bits: of all bits and of the low half;
 - of every Scalar that can be, whatever its bits, range and low half's range know, and every
   constant: of 4 bits, and of the low 2.
A range is unsigned or signed or, of kernels that have arcs, goes over both ends. All casts of every
range, at BITS bits, and of every Scalar, of 4; all of every tracked number with every tracked
number, at BITS bits. Byte swaps need more than one byte and are not here (tests/verify has them).
"""

import inspect
import os
from functools import partial

import lanes
import numpy as np
import pytest
from domain_in_lanes import domains, every_combination, operands, run_in_lanes, unions
from lanes import through
from sets_in_lanes import of_scalars, results, singles, truths
from small_numbers import OPERATIONS, signed, tnums

from harness.verify import scalar, tnum, transfer
from harness.verify.tnum import Tnum

SERIES = ("6.12", "6.18", "7.3")
BITS = int(os.environ.get("EXHAUSTIVE_BITS", "8"))
PAIRS = int(os.environ.get("EXHAUSTIVE_PAIRS", "4"))
if {BITS, PAIRS} - {4, 6, 8}:
    raise pytest.UsageError(f"BITS={BITS} PAIRS={PAIRS}: widths are 4, 6 or 8, which have halves")
# lanes at once
BATCH = 1 << 19
# what is tried: (width, first operands, second operands)
CONSTANTS = (BITS, "ranges", "constants")
TURNED = (BITS, "constants", "ranges")
RANGES = (PAIRS, "ranges", "ranges")
SCALARS = (4, "scalars", "constants")
TURNED_SCALARS = (4, "constants", "scalars")
ALU = [
    (op, what)
    for op in OPERATIONS
    for what in (CONSTANTS, TURNED, RANGES, SCALARS, TURNED_SCALARS)
    if what[1] != "constants" or op in ("sub", "mul")
]
# a comparison and its opposite at once
OPPOSITES = [
    ("eq", "ne"),
    ("gt", "le"),
    ("ge", "lt"),
    ("sgt", "sle"),
    ("sge", "slt"),
    ("set", "nset"),
]


def named(each):
    """What pytest calls a parameter."""
    return each if isinstance(each, str) else "-".join(map(str, each))


@pytest.fixture(autouse=True)
def _in_lanes(monkeypatch):
    run_in_lanes(monkeypatch)


# sets of what may come out -----------------------------------------------------------------


def batches(firsts, seconds, rows):
    """(Scalars, Scalars, sets...) in lanes: pairs of operands, unions of rows over the firsts.

    `rows`: words x numbers x seconds.
    """
    step = max(1, BATCH // len(seconds))
    for start in range(0, len(firsts), step):
        some = firsts.some(slice(start, start + step))
        a = lanes.changed(some.scalars, partial(np.repeat, repeats=len(seconds)))
        b = lanes.changed(seconds.scalars, partial(np.tile, reps=len(some)))
        yield a, b, *(unions(each, some, 1).reshape(each.shape[0], -1) for each in rows)


def check(lost, text, *shown):
    """Fail for the first lane that lost a number."""
    wrong = np.flatnonzero(lost if lost.ndim == 1 else lost.any(axis=0))
    if wrong.size:
        pytest.fail(text.format(*(lanes.one(each, wrong[0]) for each in shown)))


def some_of(columns):
    """Places and operands of a few lanes, which are computed again one by one."""
    size = lanes.size_of(columns)
    for place in range(size // 17 % 97, size, max(1, size // 40)):
        yield place, lanes.one(columns, place)


# tests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("series", SERIES)
def test_sync(series):
    """No number is lost where bits, range and low half's range inform each other."""
    domain, plain = domains(series, 4)
    raw = every_combination(domain)
    made = through(domain.sync, raw)
    check(of_scalars(raw, 4) & ~of_scalars(made, 4), "{} -> {}", raw, made)
    for place, parts in some_of(raw):
        assert plain.sync(*parts) == lanes.one(made, place)


@pytest.mark.parametrize("low", [False, True], ids=["whole", "low"])
@pytest.mark.parametrize(("op", "what"), ALU, ids=named)
@pytest.mark.parametrize("series", SERIES)
def test_alu(series, op, what, low):
    """Every number that comes out is one of the result."""
    bits, *kinds = what
    (domain, plain), width = domains(series, bits), bits // 2 if low else bits
    constants_first = kinds[0] == "constants"
    table = results(op, width, bits)
    if constants_first:
        kinds, table = kinds[::-1], table.T
    firsts, seconds = (operands(series, bits, each, low=low) for each in kinds)
    if op == "neg":
        # which ignores it
        seconds = seconds.some([0])

    def apply(a, b):
        return transfer.apply(domain, op, a, b, whole=not low)

    for a, b, reached in batches(firsts, seconds, [unions(singles(bits)[:, table], seconds, 2)]):
        pair = (b, a) if constants_first else (a, b)
        made = through(apply, pair)
        check(reached & ~of_scalars(made, bits), f"{{}} {op} {{}} = {{}}", *pair, made)
        for place, one_pair in some_of(pair):
            assert plain.alu(op, *one_pair, width) == lanes.one(made, place)


def answered(domain, ops, a, b, width):
    """What decide() and learn() say of a comparison and its opposite; 0 for None, else 1 or 2."""
    said = []
    for op in ops:
        answer = domain.decide(op, a, b, width) if op != "nset" else None
        said.append(0 if answer is None else 2 if answer else 1)
    return tuple(said), tuple(domain.learn(op, a, b, width) for op in ops)


@pytest.mark.parametrize("low", [False, True], ids=["whole", "low"])
@pytest.mark.parametrize("what", [CONSTANTS, RANGES, SCALARS], ids=named)
@pytest.mark.parametrize("ops", OPPOSITES, ids=named)
@pytest.mark.parametrize("series", SERIES)
def test_branch(series, ops, what, low):
    """No answer of decide() is wrong, and on neither side of the branch is a number lost."""
    bits, *kinds = what
    (domain, plain), width = domains(series, bits), bits // 2 if low else bits
    firsts, seconds = (operands(series, bits, each, low=low) for each in kinds)
    holds = truths(ops[0], width, bits)
    rows = [*of_both(holds, seconds, bits), *of_both(~holds, seconds, bits)]

    def ask(a, b):
        domain.forget()
        return answered(domain, ops, a, b, width)

    for a, b, *sides in batches(firsts, seconds, rows):
        answers, learnt = through(ask, (a, b))
        for op, answer, after, (left, right), (no, _) in zip(
            ops, answers, learnt, (sides[:2], sides[2:]), (sides[2:], sides[:2]), strict=True
        ):
            check((answer == 2) & no.any(axis=0), f"{{}} {op} {{}} is not always so", a, b)
            check((answer == 1) & left.any(axis=0), f"{{}} {op} {{}} can be so", a, b)
            check(left & ~of_scalars(after[0], bits), f"{{}} {op} {{}} -> {{}}", a, b, after[0])
            check(right & ~of_scalars(after[1], bits), f"{{}} {op} {{}} -> {{}}", a, b, after[1])
        for place, pair in some_of((a, b)):
            assert answered(plain, ops, *pair, width) == lanes.one((answers, learnt), place)


def of_both(holds, seconds, bits):
    """Rows for batches(): numbers of a first and of a second operand for which something holds."""
    own = singles(bits)
    right = unions(np.where(holds, own[:, None, :], 0), seconds, 2)
    return [np.where(right.any(axis=0), own[:, :, None], 0), right]


# casts: name -> (domain, Scalar, bits) -> Scalar, and (number, bits, width of the domain) -> number
CASTS = {
    "truncate": (
        lambda domain, a, bits: domain.truncate(a, bits),
        lambda number, bits, _: number & (1 << bits) - 1,
    ),
    "extend": (
        lambda domain, a, bits: domain.extend(a, bits),
        lambda number, bits, width: signed(number, bits) & (1 << width) - 1,
    ),
    "extend_low": (
        lambda domain, a, bits: domain.extend(a, bits, domain.bits // 2),
        lambda number, bits, width: signed(number, bits) & (1 << width // 2) - 1,
    ),
    "low_half": (
        lambda domain, a, _: domain.low_half(a),
        lambda number, _, width: number & (1 << width // 2) - 1,
    ),
}


@pytest.mark.parametrize("what", [CONSTANTS[:2], SCALARS[:2]], ids=named)
@pytest.mark.parametrize("name", CASTS)
@pytest.mark.parametrize("series", SERIES)
def test_cast(series, name, what):
    """Truncations, extensions of the sign from so many bits, moves of the low half."""
    width, kind = what
    (domain, plain), (cast, rule) = domains(series, width), CASTS[name]
    given = operands(series, width, kind, low=False)
    narrower = {"extend_low": range(1, width // 2), "low_half": [width // 2]}
    for bits in narrower.get(name, range(1, width // 2 + 1)):
        table = [rule(number, bits, width) for number in range(1 << width)]
        reached = unions(singles(width)[:, table, None], given, 1)[..., 0]

        def apply(*a, bits=bits):
            return cast(domain, scalar.Scalar(*a), bits)

        made = through(apply, given.scalars)
        check(reached & ~of_scalars(made, width), f"{name} {bits} {{}} = {{}}", given.scalars, made)
        for place, a in some_of(given.scalars):
            assert cast(plain, a, bits) == lanes.one(made, place)


# tracked numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["add", "sub", "bit_and", "bit_or", "bit_xor", "mul", "mul_split"])
def test_every_pair_of_tracked_numbers(name):
    """A result stands for all numbers if it says no more than the bits that they share."""
    # each pair comes once: there is nothing to remember
    function, ones = inspect.unwrap(getattr(tnum, name)), (1 << BITS) - 1
    given = () if name.startswith("bit_") else (ones,)
    table = results(name.removeprefix("bit_").partition("_")[0], BITS, BITS).astype(np.uint8)
    known = sorted(tnums(BITS), key=lambda each: each.mask.bit_count())
    value, mask = (np.array(column) for column in zip(*known, strict=True))
    place = np.zeros(1 << 2 * BITS, int)
    place[value << BITS | mask] = np.arange(len(known))
    # of the lowest unknown bit: where the two are in which it is known
    bit = mask & -mask
    halves = place[value << BITS | mask & ~bit], place[(value | bit) << BITS | mask & ~bit]
    levels = [np.flatnonzero(np.bitwise_count(mask) == count) for count in range(1, BITS + 1)]
    always, ever = (np.zeros((len(known), len(known)), np.uint8) for _ in range(2))
    for at, a in enumerate(known):
        if a.mask:
            one, other = halves[0][at], halves[1][at]
            always[at], ever[at] = always[one] & always[other], ever[one] | ever[other]
        else:
            always[at] = ever[at] = table[a.value, value]
            for level in levels:
                one, other = (each[level] for each in halves)
                always[at, level] = always[at, one] & always[at, other]
                ever[at, level] = ever[at, one] | ever[at, other]
        made = through(lambda *b, a=a: function(a, Tnum(*b), *given), (value, mask))
        lost = (always[at] ^ made.value | ever[at] ^ always[at]) & ~made.mask
        lost |= made.value & made.mask | (made.value | made.mask) & ~ones
        check(lost, f"{a} {name} {{}} = {{}}", Tnum(value, mask), made)
        for there, b in some_of(Tnum(value, mask)) if at % 97 == 0 else ():
            assert function(a, b, *given) == lanes.one(made, there)
