# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One call of a Python function for a million arguments: integers side by side, in lanes.

The function is the source as it is, called with Lanes where it expects integers. Arithmetic is
done for all lanes at once. Where the source branches and lanes disagree, the fewer are put aside
and the others go on; with those put aside the function is called again, until there are none. So
every lane goes its own way through the source and no other. Numbers have 32 bits and are meant to
be small: they wrap. Knows nothing of what is computed.

    through(lambda a, b: a // b if b else 0, (numpy.array([7, 8]), numpy.array([2, 0])))  # [3, 0]

A function that is called inside another can be `joined`: its lanes part and come together again in
the call, so that the ways through both add up and do not multiply.
"""

from __future__ import annotations

import operator
from functools import reduce, wraps

import numpy as np

_INT = np.int32
# the innermost last
_ways: list[_Way] = []


class _Way:
    """One call of a function, for the lanes that have come the same way so far."""

    def __init__(self, here):
        # which of the call's lanes are still on it; those that were put aside
        self.here, self.aside = here, []
        # for each time that lanes were put aside: places of those that stayed
        self.cuts = []

    def part(self, truth):
        """What most lanes say; the others are put aside."""
        many = np.count_nonzero(truth)
        if many in (0, truth.size):
            return many != 0
        answer = many * 2 >= truth.size
        stay = truth if answer else ~truth
        self.aside.append(self.here[~stay])
        self.cuts.append(np.flatnonzero(stay))
        self.here = self.here[self.cuts[-1]]
        return answer


def _number(other):
    return other.now() if isinstance(other, Lanes) else other


def _binary(function):
    def method(self, other):
        return Lanes(function(self.now(), _number(other)))

    return method


def _reflected(function):
    def method(self, other):
        return Lanes(function(_number(other), self.now()))

    return method


class Lanes:
    """Integers of the lanes that are on the way at present."""

    __slots__ = ("age", "numbers", "way")

    def __init__(self, numbers):
        self.way = _ways[-1]
        self.age = len(self.way.cuts)
        self.numbers = numbers if numbers.dtype in (_INT, np.bool_) else numbers.astype(_INT)

    def now(self):
        """Array of the numbers, of those lanes only that have stayed."""
        way = self.way
        assert way is _ways[-1], "lanes of another call"
        while self.age < len(way.cuts):
            self.numbers = self.numbers[way.cuts[self.age]]
            self.age += 1
        return self.numbers

    def _counted(self):
        numbers = self.now()
        return numbers.astype(_INT) if numbers.dtype == np.bool_ else numbers

    def __bool__(self):
        return bool(_ways[-1].part(self.now() != 0))

    # of itself only: what was computed from the very same lanes is found again
    __hash__ = object.__hash__

    def __invert__(self):
        return Lanes(~self._counted())

    def __neg__(self):
        return Lanes(-self._counted())

    def __abs__(self):
        return Lanes(abs(self._counted()))

    def bit_length(self):
        """As int.bit_length, of numbers from 0 on."""
        return Lanes(np.frexp(self.now().astype(np.float64))[1])

    def bit_count(self):
        """As int.bit_count."""
        return Lanes(np.bitwise_count(self.now()))


def _add_operators():
    for name in ("and", "or", "xor", "add", "sub", "mul", "floordiv", "lshift", "rshift"):
        plain = f"{name}_" if name in ("and", "or") else name
        function = _of_integers(getattr(operator, plain))
        setattr(Lanes, f"__{name}__", _binary(function))
        setattr(Lanes, f"__r{name}__", _reflected(function))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Lanes, f"__{name}__", _binary(getattr(operator, name)))


def _of_integers(function):
    """numpy's logic of truth values is not that of integers, which True and False are in Python."""

    def applied(a, b):
        return function(
            a.astype(_INT) if getattr(a, "dtype", None) == np.bool_ else a,
            b.astype(_INT) if getattr(b, "dtype", None) == np.bool_ else b,
        )

    return applied


_add_operators()


def _extreme(pick, of_arrays):
    def of_two(a, b):
        if isinstance(a, Lanes) or isinstance(b, Lanes):
            return Lanes(of_arrays(_number(a), _number(b)))
        return pick(a, b)

    def chosen(*numbers):
        return reduce(of_two, numbers if len(numbers) > 1 else numbers[0])

    return chosen


# max() and min() of Python compare two at a time, and each comparison would part the lanes
largest, smallest = _extreme(max, np.maximum), _extreme(min, np.minimum)


# calls -------------------------------------------------------------------------------------


def _leaves(value, found):
    """Arrays and integers of nested tuples, in order."""
    if isinstance(value, tuple | list):
        for each in value:
            _leaves(each, found)
    else:
        found.append(value)
    return found


def _rebuilt(value, leaves):
    """The same tuples with other leaves."""
    if not isinstance(value, tuple):
        return next(leaves)
    parts = [_rebuilt(each, leaves) for each in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def _shape(value):
    if not isinstance(value, tuple):
        return None
    return type(value), tuple(map(_shape, value))


def through(function, arguments):
    """Results for tuples of arrays: the tuples that the function gives, with arrays of the results.

    Each argument is an array, an integer, or a (named) tuple of such, however deep. The function
    has to give integers, truth values or tuples of them, of one shape.
    """
    flat = _leaves(arguments, [])
    size = size_of(flat)
    todo, first, results = [np.arange(size)], None, []
    while todo:
        way = _Way(todo.pop())
        _ways.append(way)
        try:
            given = (
                Lanes(each[way.here] if way.here.size < size else each)
                if isinstance(each, np.ndarray)
                else each
                for each in flat
            )
            made = function(*_rebuilt(arguments, given))
            leaves = [_number(each) for each in _leaves(made, [])]
        finally:
            _ways.pop()
        if first is None:
            first = made
            results = [np.zeros(size, _INT) for _ in leaves]
        assert _shape(made) == _shape(first), "results of different shapes"
        for column, leaf in zip(results, leaves, strict=True):
            column[way.here] = leaf
        todo += way.aside
    return _rebuilt(first, iter(results))


def joined(function):
    """The function, at whose end lanes come together again that parted in it."""

    @wraps(function)
    def call(*arguments):
        if not any(isinstance(each, Lanes) for each in _leaves(arguments, [])):
            return function(*arguments)
        flat = (_number(each) for each in _leaves(arguments, []))
        made = through(function, _rebuilt(arguments, flat))
        return _rebuilt(made, (Lanes(each) for each in _leaves(made, [])))

    return call


# makes one number of a row of them; distinct() sees to it that it is of one row only
_MIX = 0x9E3779B1
# room for a number in the key of once()
_LEAF_BITS = 10


def distinct(function):
    """The joined function, called for one lane of those whose arguments are all the same."""

    @wraps(function)
    def call(*arguments):
        flat = [_number(each) for each in _leaves(arguments, [])]
        columns = [each for each in flat if isinstance(each, np.ndarray)]
        if not columns:
            return function(*arguments)
        rows = np.zeros(columns[0].size, np.int64)
        for column in columns:
            rows = rows * _MIX + column
        _, first, back = np.unique(rows, return_index=True, return_inverse=True)
        some = [each[first] if isinstance(each, np.ndarray) else each for each in flat]
        for each, few in zip(flat, some, strict=True):
            assert each is few or np.array_equal(each, few[back]), "rows that only look the same"
        made = through(function, _rebuilt(arguments, iter(some)))
        return changed(made, lambda leaf: Lanes(leaf[back]))

    return call


def once(function):
    """The function, called once for each distinct row of arguments, ever.

    For functions in which lanes go hundreds of ways. Up to six integers from 0 to 1023.
    """
    keys, values, shape = np.zeros(0, np.int64), [], None

    def learn(missing, arguments):
        nonlocal keys, values, shape
        flat = _leaves(arguments, [])
        columns = [
            (missing >> _LEAF_BITS * place & (1 << _LEAF_BITS) - 1).astype(_INT)
            for place in range(len(flat))
        ]
        shape = through(function, _rebuilt(arguments, iter(columns)))
        made = _leaves(shape, [])
        keys = np.concatenate([keys, missing])
        order = np.argsort(keys)
        keys = keys[order]
        values = [
            np.concatenate(pair)[order]
            for pair in zip(values or [np.zeros(0, _INT)] * len(made), made, strict=True)
        ]

    @wraps(function)
    def call(*arguments):
        flat = [_number(each) for each in _leaves(arguments, [])]
        if not any(isinstance(each, np.ndarray) for each in flat):
            return function(*arguments)
        assert len(flat) <= 6
        assert all(np.min(each) >= 0 and np.max(each) >> _LEAF_BITS == 0 for each in flat)
        rows = sum(np.int64(1 << _LEAF_BITS * place) * each for place, each in enumerate(flat))
        each_once, back = np.unique(rows, return_inverse=True)
        missing = each_once[~np.isin(each_once, keys)]
        if missing.size:
            learn(missing, arguments)
        places = np.searchsorted(keys, each_once)[back]
        return _rebuilt(shape, (Lanes(each[places]) for each in values))

    return call


# arguments and results -----------------------------------------------------------------------


def changed(value, change):
    """The same tuples with change(leaf) of each leaf."""
    return _rebuilt(value, (change(each) for each in _leaves(value, [])))


def concatenated(parts):
    """Tuples of arrays of one shape, one behind the other."""
    columns = zip(*(_leaves(each, []) for each in parts), strict=True)
    return _rebuilt(parts[0], (np.concatenate(column) for column in columns))


def unlike(value):
    """Of lanes that are the same in everything, one."""
    leaves = _leaves(value, [])
    rows = np.unique(np.stack(leaves, axis=1), axis=0)
    return _rebuilt(value, (np.ascontiguousarray(column) for column in rows.T))


def size_of(value):
    """How many lanes there are."""
    return next(each.size for each in _leaves(value, []) if isinstance(each, np.ndarray))


def one(value, place):
    """What a tuple of arrays has at a place, as integers of Python."""
    return changed(value, lambda leaf: leaf[place].item())
