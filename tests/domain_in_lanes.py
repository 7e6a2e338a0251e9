# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The verifier model's domain of small numbers in lanes, and all the operands that there are.

Makes the model's source take lanes and lists what to try it with, as Scalars of arrays beside the
numbers that each stands for. What has to come out is the tests' business (tests/exhaustive).
"""

from functools import cache, reduce

import lanes
import numpy as np
from lanes import through
from sets_in_lanes import gathered, of_scalars
from small_numbers import tnums

from harness.verify import branches, consistency, ranges, scalar, tnum, transfer
from harness.verify.precision import PRECISIONS
from harness.verify.ranges import ArcKind, BoundsKind
from harness.verify.tnum import Tnum


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


def run_in_lanes(monkeypatch):
    """Let functions of the domain take lanes, as long as pytest's monkeypatch holds."""
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
    """What there can be: combinations that have informed each other, if a number is left."""
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
