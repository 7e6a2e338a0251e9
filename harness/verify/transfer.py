# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Arithmetic on what is known about numbers: one function per ALU operation.

Each gives bits, range and low half's range of the result before these inform each other. Source:
adjust_scalar_min_max_vals() and what it calls in kernel/bpf/verifier.c of Linux 6.12.107 and 7.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from harness.verify import tnum

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.verify.consistency import Parts
    from harness.verify.ranges import Kind, Range
    from harness.verify.scalar import Domain, Scalar
    from harness.verify.tnum import Tnum

Operation: TypeAlias = "Callable[[Domain, Scalar, Scalar, bool], Parts]"

_SHIFTS = frozenset({"lsh", "rsh", "arsh"})
_DIVISIONS = frozenset({"div", "mod", "sdiv", "smod"})


def apply(domain: Domain, op: str, a: Scalar, b: Scalar, *, whole: bool) -> Scalar:
    """Result of an operation; on the low halves, extended with zeros, unless `whole`."""
    if not _tracked(domain, op, b, whole=whole):
        # also of the low half alone: then not even the zeros above are remembered
        return domain.unknown
    known, wide, narrow = _OPERATIONS[op](domain, a, b, whole)
    if not whole:
        known = tnum.truncate(known, domain.low)
        wide = domain.wide.unsigned(narrow.umin, narrow.umax)
    return domain.sync(known, wide, narrow)


def _tracked(domain: Domain, op: str, b: Scalar, *, whole: bool) -> bool:
    if op == "neg":
        return domain.precision.negates
    if op not in _SHIFTS and op not in _DIVISIONS:
        return True
    if op in _DIVISIONS and not domain.precision.arcs:
        return False
    span = b.wide if whole else b.narrow
    mask = b.tnum.mask if whole else b.tnum.mask & domain.low
    if mask or span.umin != span.umax or span.smin != span.smax:
        return False
    return op in _DIVISIONS or b.wide.umax < (domain.bits if whole else domain.bits // 2)


def _add(domain: Domain, a: Scalar, b: Scalar, _whole: bool) -> Parts:
    return (
        tnum.add(a.tnum, b.tnum, domain.ones),
        domain.wide.add(a.wide, b.wide),
        domain.narrow.add(a.narrow, b.narrow),
    )


def _sub(domain: Domain, a: Scalar, b: Scalar, _whole: bool) -> Parts:
    return (
        tnum.sub(a.tnum, b.tnum, domain.ones),
        domain.wide.subtract(a.wide, b.wide),
        domain.narrow.subtract(a.narrow, b.narrow),
    )


def _neg(domain: Domain, a: Scalar, _b: Scalar, whole: bool) -> Parts:
    return _sub(domain, domain.known(0), a, whole)


def _mul(domain: Domain, a: Scalar, b: Scalar, _whole: bool) -> Parts:
    product = tnum.mul if domain.precision.joined_products else tnum.mul_split
    ranges = _products if domain.precision.signed_products else _small_products
    return (
        product(a.tnum, b.tnum, domain.ones),
        ranges(domain.wide, a.wide, b.wide),
        ranges(domain.narrow, a.narrow, b.narrow),
    )


def _products(kind: Kind, a: Range, b: Range) -> Range:
    width = kind.width
    low, high = a.umin * b.umin, a.umax * b.umax
    if high > width.ones:
        low, high = 0, width.ones
    corners = [x * y for x in (a.smin, a.smax) for y in (b.smin, b.smax)]
    smin, smax = min(corners), max(corners)
    if smin < width.lowest or smax > width.top:
        smin, smax = width.lowest, width.top
    return kind.both((low, high), (smin, smax))


def _small_products(kind: Kind, a: Range, b: Range) -> Range:
    """Only of numbers without sign that fit into half of the width."""
    half = (1 << kind.width.bits // 2) - 1
    if a.smin < 0 or b.smin < 0 or a.umax > half or b.umax > half:
        return kind.full
    return kind.unsigned(a.umin * b.umin, a.umax * b.umax)


# bits --------------------------------------------------------------------------------------


def _and(domain: Domain, a: Scalar, b: Scalar, _whole: bool) -> Parts:
    known = tnum.bit_and(a.tnum, b.tnum)
    lower = tnum.truncate(known, domain.low)
    return (
        known,
        _upto(domain.wide, known, known.value, min(a.wide.umax, b.wide.umax)),
        _upto(domain.narrow, lower, lower.value, min(a.narrow.umax, b.narrow.umax)),
    )


def _or(domain: Domain, a: Scalar, b: Scalar, _whole: bool) -> Parts:
    known = tnum.bit_or(a.tnum, b.tnum)
    lower = tnum.truncate(known, domain.low)
    return (
        known,
        _upto(domain.wide, known, max(a.wide.umin, b.wide.umin), known.highest),
        _upto(domain.narrow, lower, max(a.narrow.umin, b.narrow.umin), lower.highest),
    )


def _xor(domain: Domain, a: Scalar, b: Scalar, _whole: bool) -> Parts:
    known = tnum.bit_xor(a.tnum, b.tnum)
    lower = tnum.truncate(known, domain.low)
    return (
        known,
        domain.wide.unsigned(known.value, known.highest),
        domain.narrow.unsigned(lower.value, lower.highest),
    )


def _upto(kind: Kind, known: Tnum, low: int, high: int) -> Range:
    if known.is_const:
        return kind.unsigned(known.value, known.value)
    # bits and ranges that know nothing of each other may contradict each other
    return kind.unsigned(low, high) if low <= high else kind.full


# shifts ------------------------------------------------------------------------------------


def _lsh(domain: Domain, a: Scalar, b: Scalar, whole: bool) -> Parts:
    count = b.wide.umin if whole else b.narrow.umin
    narrow = _shifted(domain.narrow, a.narrow, count)
    if not whole:
        known = tnum.shift_left(tnum.truncate(a.tnum, domain.low), count, domain.low)
        return known, domain.wide.full, narrow
    wide = _shifted(domain.wide, a.wide, count)
    if count == domain.bits // 2:
        # half of how compilers extend a sign
        smin, smax = a.narrow.smin << count, a.narrow.smax << count
        if not domain.precision.shifts_signs:
            smin = smin if smin >= 0 else domain.wide.width.lowest
            smax = smax if smax >= 0 else domain.wide.width.top
        wide = domain.wide.both((wide.umin, wide.umax), (smin, smax))
    return tnum.shift_left(a.tnum, count, domain.ones), wide, narrow


def _shifted(kind: Kind, span: Range, count: int) -> Range:
    room = kind.width.bits - 1 - count
    if room < 0 or span.umax > 1 << room:
        return kind.full
    return kind.unsigned(span.umin << count, span.umax << count)


def _rsh(domain: Domain, a: Scalar, b: Scalar, whole: bool) -> Parts:
    if not whole:
        count, span = b.narrow.umin, a.narrow
        known = tnum.shift_right(tnum.truncate(a.tnum, domain.low), count)
        narrow = domain.narrow.unsigned(span.umin >> count, span.umax >> count)
        return known, domain.wide.full, narrow
    count, span = b.wide.umin, a.wide
    wide = domain.wide.unsigned(span.umin >> count, span.umax >> count)
    return tnum.shift_right(a.tnum, count), wide, domain.narrow.full


def _arsh(domain: Domain, a: Scalar, b: Scalar, whole: bool) -> Parts:
    if not whole:
        count, span = b.narrow.umin, a.narrow
        known = tnum.truncate(a.tnum, domain.low)
        known = tnum.shift_right_signed(known, count, domain.low)
        narrow = domain.narrow.signed(span.smin >> count, span.smax >> count)
        return known, domain.wide.full, narrow
    count, span = b.wide.umin, a.wide
    wide = domain.wide.signed(span.smin >> count, span.smax >> count)
    return tnum.shift_right_signed(a.tnum, count, domain.ones), wide, domain.narrow.full


# division by a known number ----------------------------------------------------------------


def _div(domain: Domain, a: Scalar, b: Scalar, whole: bool) -> Parts:
    return _divided(domain, a, b, whole, _quotients)


def _sdiv(domain: Domain, a: Scalar, b: Scalar, whole: bool) -> Parts:
    return _divided(domain, a, b, whole, _signed_quotients)


def _mod(domain: Domain, a: Scalar, b: Scalar, whole: bool) -> Parts:
    return _divided(domain, a, b, whole, _remainders)


def _smod(domain: Domain, a: Scalar, b: Scalar, whole: bool) -> Parts:
    return _divided(domain, a, b, whole, _signed_remainders)


def _divided(
    domain: Domain,
    a: Scalar,
    b: Scalar,
    whole: bool,
    rule: Callable[[Kind, Range, Range], Range | None],
) -> Parts:
    """Range by `rule`, which gives None where `a` stays as it is; nothing of bits."""
    kind, span, by = (domain.wide, a.wide, b.wide) if whole else (domain.narrow, a.narrow, b.narrow)
    if not by.umin:
        # x / 0 is 0, x % 0 is x
        same = rule in (_remainders, _signed_remainders)
        return (a if same else domain.known(0))[:3]
    result = rule(kind, span, by)
    if result is None:
        return a[:3]
    unknown = domain.unknown
    return (unknown.tnum, result, unknown.narrow) if whole else (unknown.tnum, unknown.wide, result)


def _quotients(kind: Kind, a: Range, b: Range) -> Range:
    return kind.unsigned(a.umin // b.umin, a.umax // b.umin)


def _signed_quotients(kind: Kind, a: Range, b: Range) -> Range:
    width, by = kind.width, b.smin
    if a.smin == width.lowest and by == -1:
        # the smallest number divided by -1 is itself
        return kind.signed(width.lowest, a.smax if a.smax == width.lowest else width.top)
    ends = [_toward_zero(a.smin, by), _toward_zero(a.smax, by)]
    return kind.signed(min(ends), max(ends))


def _toward_zero(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _remainders(kind: Kind, a: Range, b: Range) -> Range | None:
    largest = b.umin - 1
    return None if a.umax <= largest else kind.unsigned(0, largest)


def _signed_remainders(kind: Kind, a: Range, b: Range) -> Range | None:
    largest = abs(b.smin) - 1
    if -largest <= a.smin and a.smax <= largest:
        return None
    if a.smin >= 0:
        return kind.signed(0, min(a.smax, largest))
    if a.smax <= 0:
        return kind.signed(max(a.smin, -largest), 0)
    return kind.signed(-largest, largest)


_OPERATIONS: dict[str, Operation] = {
    "add": _add, "sub": _sub, "mul": _mul, "neg": _neg, "and": _and, "or": _or, "xor": _xor,
    "lsh": _lsh, "rsh": _rsh, "arsh": _arsh,
    "div": _div, "sdiv": _sdiv, "mod": _mod, "smod": _smod,
}  # fmt: skip
