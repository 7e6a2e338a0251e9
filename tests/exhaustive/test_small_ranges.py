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
A range is unsigned or signed or, of kernels that have arcs, goes over both ends. Then every tracked
number with every tracked number, at BITS bits.
"""

import os
from functools import cache, partial, reduce

import lanes
import numpy as np
import pytest
from lanes import through
from sets_in_lanes import gathered, of_scalars, results, singles, truths
from small_numbers import OPERATIONS, tnums

from harness.verify import branches, consistency, ranges, scalar, tnum, transfer
from harness.verify.precision import PRECISIONS
from harness.verify.ranges import ArcKind, BoundsKind
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


class Domain(scalar.Domain):
    """The model's, for lanes: they come together again where it calls itself."""

    def sync(self, *parts):
        return lanes.distinct(super().sync)(*parts)

    def learn(self, *key):
        if key not in self._learnt:
            self._learnt[key] = lanes.joined(self._learn)(*key)
        return self._learnt[key]

    def forget(self):
        """Lanes of another call are of no use."""
        self._learnt.clear()


@cache
def domains(series, bits):
    """The domain for lanes, and the model's own."""
    return Domain(PRECISIONS[series], bits), scalar.Domain(PRECISIONS[series], bits)


ONCE = {name: lanes.once(getattr(tnum, name)) for name in ("mul", "mul_split")}
# where lanes part most
JOINED = {
    BoundsKind: ("_placed", "settle", "signed", "unsigned"),
    ArcKind: ("add", "arc", "meet", "subtract", "with_low", "without"),
    branches: ("ordered",),
    consistency: ("_bits_into_arcs", "_low_of", "_wide_of", "of_bits"),
}


@pytest.fixture
def _in_lanes(monkeypatch):
    for module in (branches, consistency, ranges, scalar, transfer):
        monkeypatch.setattr(module, "max", lanes.largest, raising=False)
        monkeypatch.setattr(module, "min", lanes.smallest, raising=False)
    for name, product in ONCE.items():
        monkeypatch.setattr(tnum, name, product)
    for place, names in JOINED.items():
        for name in names:
            monkeypatch.setattr(place, name, lanes.joined(getattr(place, name)))
    for name, rule in list(transfer._OPERATIONS.items()):
        monkeypatch.setitem(transfer._OPERATIONS, name, lanes.joined(rule))


# operands ----------------------------------------------------------------------------------


class Operands:
    """Scalars as arrays, and the numbers that each is made of.

    Either base, base + 1, ... base + size of `spans`, or those that are true in `held`, an array
    of operands x numbers.
    """

    def __init__(self, scalars, spans=None, held=None):
        self.scalars, self.spans, self.held = scalars, spans, held

    def __len__(self):
        return lanes.size_of(self.scalars)

    def some(self, places):
        """Those at these places."""
        spans = self.spans and tuple(each[places] for each in self.spans)
        held = None if self.held is None else self.held[places]
        return Operands(lanes.changed(self.scalars, lambda leaf: leaf[places]), spans, held)


def constants(domain, *, low):
    """Each number; for operations on the low half, each of those extended in both ways."""
    numbers = np.arange(domain.ones + 1)
    if low:
        high = numbers & ~domain.low
        numbers = numbers[(high == 0) | (high == (domain.ones & ~domain.low))]
    return Operands(through(domain.known, (numbers,)), (numbers, 0 * numbers))


def every_range(domain):
    """Each once: unsigned ones, signed ones that are not unsigned too, arcs that are neither."""
    full, kind, count, half = domain.unknown, domain.wide, domain.ones + 1, domain.wide.width.half
    base, size = (each.ravel() for each in np.indices((count, count)))
    straight = base + size < count
    crossing = ~straight & ((base ^ half) + size < count)
    made = [
        (straight, lambda low, more: kind.unsigned(low, low + more)),
        (crossing, lambda low, more: kind.signed(low - count, low - count + more)),
    ]
    if domain.precision.arcs:
        made.append((~straight & ~crossing & (size < count - 1), kind.arc))
    parts = []
    for which, rule in made:
        given = base[which], size[which]

        def spanned(low, more, rule=rule):
            return domain.sync(full.tnum, rule(low, more), full.narrow)

        parts.append((through(spanned, given), given))
    found = Operands(*lanes.concatenated(parts))
    return found.some(np.lexsort(found.spans[::-1]))


def every_span(kind):
    """Every range of a kind, bounds of both signs included, as arrays."""
    numbers = np.arange(kind.width.ones + 1)
    if isinstance(kind, ArcKind):
        return lanes.unlike(through(kind.arc, tuple(map(np.ravel, np.meshgrid(numbers, numbers)))))
    ends = [each.ravel() for each in np.meshgrid(*[numbers] * 4)]
    ends = [each[(ends[0] <= ends[1]) & (ends[2] <= ends[3])] for each in ends]
    ends[2:] = [each + kind.width.lowest for each in ends[2:]]
    found = lanes.unlike(
        through(lambda *four: kind.settle(kind.both(four[:2], four[2:])), tuple(ends))
    )
    return lanes.changed(
        found, lambda leaf: leaf[(found.umin <= found.umax) & (found.smin <= found.smax)]
    )


def every_combination(domain):
    """Every tracked number with every range with every range of the low half, as they come."""
    known = Tnum(*(np.array(column) for column in zip(*tnums(domain.bits), strict=True)))
    parts = known, every_span(domain.wide), every_span(domain.narrow)
    places = np.meshgrid(*(np.arange(lanes.size_of(each)) for each in parts))
    return scalar.Scalar(
        *(
            lanes.changed(part, lambda leaf, place=place: leaf[place.ravel()])
            for part, place in zip(parts, places, strict=True)
        )
    )


def every_scalar(domain):
    """What there can be: combinations after they have informed each other, if any number is left."""
    found = lanes.unlike(through(domain.sync, every_combination(domain)))
    numbers = np.arange(domain.ones + 1, dtype=np.uint64)
    held = (of_scalars(found, domain.bits)[0][:, None] >> numbers & 1).astype(bool)
    return Operands(found, held=held).some(held.any(axis=1))


MADE_BY = {"ranges": every_range, "scalars": every_scalar}


@cache
def made_of(series, bits, what):
    return MADE_BY[what](domains(series, bits)[0])


def operands(series, bits, what, *, low):
    if what == "constants":
        return constants(domains(series, bits)[0], low=low)
    return made_of(series, bits, what)


# sets of what may come out -----------------------------------------------------------------


def unions(sets, which, axis):
    """Sets by number -> by operand: of each the union over its numbers, along an axis."""
    if which.held is not None:
        shape = [len(which) if place == axis else 1 for place in range(sets.ndim)]
        held = [column.reshape(shape) for column in which.held.T]
        rows = np.split(sets, len(held), axis=axis)
        return reduce(np.bitwise_or, (np.where(*pair, 0) for pair in zip(held, rows, strict=True)))
    parts = []
    bases, sizes = which.spans
    for base in np.unique(bases):
        some = sizes[bases == base]
        parts.append(np.take(gathered(sets, base, some.max() + 1, axis), some, axis=axis))
    return np.concatenate(parts, axis=axis)


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
@pytest.mark.usefixtures("_in_lanes")
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
@pytest.mark.usefixtures("_in_lanes")
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
@pytest.mark.usefixtures("_in_lanes")
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


# tracked numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["add", "sub", "bit_and", "bit_or", "bit_xor", "mul", "mul_split"])
def test_every_pair_of_tracked_numbers(name):
    """A result stands for all numbers if it says no more than the bits that they share."""
    function, ones = getattr(tnum, name), (1 << BITS) - 1
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
