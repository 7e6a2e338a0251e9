# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a verifier knows about a number in a register: bits, and ranges of it and of its low half.

Domain has every operation on Scalars, as precise as the kernels of one series are, since what a
kernel does not know decides what it rejects. Arithmetic itself is harness.verify.transfer's.
Source: kernel/bpf/verifier.c of Linux 6.12.107 and 7.3 (reg_bounds_sync, regs_refine_cond_op,
is_scalar_branch_taken, coerce_reg_to_size*). Knows nothing of pointers, registers and paths.

    domain = scalar.domain("7.3")
    index = domain.loaded(4)                                # what a load of 4 bytes gives
    small, _ = domain.learn("lt", index, domain.known(10), 64)
    domain.alu("lsh", small, domain.known(3), 64).umax      # 72
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from harness.errors import UsageError
from harness.verify import branches, consistency, tnum, transfer
from harness.verify.branches import FLIPPED, OF_ITSELF, REVERSED
from harness.verify.precision import PRECISIONS, Precision
from harness.verify.ranges import ArcKind, BoundsKind, Kind, Range
from harness.verify.tnum import Tnum

_REMEMBERED = 1 << 16


class Scalar(NamedTuple):
    """A set of numbers. Ranges: `wide` of all bits, `narrow` of the low half."""

    tnum: Tnum
    wide: Range
    narrow: Range

    @property
    def is_const(self) -> bool:
        """Whether it is one known number, `value`."""
        return not self.tnum.mask

    @property
    def value(self) -> int:
        """The known bits; of a constant the number, unsigned."""
        return self.tnum.value

    @property
    def umin(self) -> int:
        """Smallest unsigned number."""
        return self.wide.umin

    @property
    def umax(self) -> int:
        """Largest unsigned number."""
        return self.wide.umax

    @property
    def smin(self) -> int:
        """Smallest signed number."""
        return self.wide.smin

    @property
    def smax(self) -> int:
        """Largest signed number."""
        return self.wide.smax

    @property
    def impossible(self) -> bool:
        """Whether no number is left: the path that led here cannot be taken."""
        return self.wide.empty or self.narrow.empty

    def contains(self, number: int) -> bool:
        """Whether the unsigned 64-bit `number` is one of them."""
        return (
            self.tnum.contains(number)
            and _within(self.wide, number, 64)
            and _within(self.narrow, number & 0xFFFFFFFF, 32)
        )

    def __str__(self) -> str:
        wide, narrow = self.wide, self.narrow
        return in_words(
            (wide.umin, wide.umax), (wide.smin, wide.smax),
            (narrow.umin, narrow.umax), (narrow.smin, narrow.smax),
            self.tnum,
        )  # fmt: skip


def _within(known: Range, number: int, bits: int) -> bool:
    signed = number - (1 << bits) if number >> bits - 1 else number
    return known.umin <= number <= known.umax and known.smin <= signed <= known.smax


Span = tuple[int, int]


def in_words(
    unsigned: Span, signed: Span, low: Span, signed_low: Span, tnum: tuple[int, int]
) -> str:
    """What is known of a number, smallest and largest each, without what follows from the rest."""
    value, mask = tnum
    if not mask:
        return str(value - (1 << 64) if value >> 63 else value)
    parts = []
    if unsigned != (0, (1 << 64) - 1):
        parts.append(_span(unsigned))
    if signed not in (unsigned, (-(1 << 63), (1 << 63) - 1)):
        parts.append("signed " + _span(signed))
    if low not in (unsigned, (0, (1 << 32) - 1)):
        parts.append("low32 " + _span(low))
    if signed_low not in (low, signed, unsigned, (-(1 << 31), (1 << 31) - 1)):
        parts.append("signed low32 " + _span(signed_low))
    if value or mask != (1 << unsigned[1].bit_length()) - 1:
        parts.append(f"bits ({value:#x}; {mask:#x})")
    return ", ".join(parts) or "anything"


def _span(span: Span) -> str:
    low, high = (str(n) if abs(n) < 1 << 20 else f"{n:#x}" for n in span)
    return f"{low}..{high}" if low != high else low


@cache
def domain(profile: str) -> Domain:
    """The domain of a profile of harness.sim.semantics. Raises UsageError listing the names."""
    if profile not in PRECISIONS:
        raise UsageError(f"no domain for {profile!r}", fix=f"profiles: {', '.join(PRECISIONS)}")
    return Domain(PRECISIONS[profile])


class Domain:
    """Operations on Scalars. `bits` is for tests: registers have 64."""

    def __init__(self, precision: Precision, bits: int = 64) -> None:
        self.precision = precision
        self.bits = bits
        half, wraps = bits // 2, precision.wraps
        if precision.arcs:
            self.wide: Kind = ArcKind(bits)
            self.narrow: Kind = ArcKind(half)
        else:
            self.wide = BoundsKind(bits, wraps=wraps)
            self.narrow = BoundsKind(half, wraps=wraps, crosses=precision.low_crosses)
        self.ones = self.wide.width.ones
        self.low = self.narrow.width.ones
        self.unknown = Scalar(Tnum(0, self.ones), self.wide.full, self.narrow.full)
        self._loads: dict[tuple[int, bool], Scalar] = {}
        # answers that were given before: paths compute the same again and again
        self._results: dict[tuple[str, Scalar, Scalar, int], Scalar] = {}
        self._learnt: dict[tuple[str, Scalar, Scalar, int], tuple[Scalar, Scalar]] = {}

    # values --------------------------------------------------------------------------------

    def known(self, number: int) -> Scalar:
        """The one number, signed or unsigned."""
        number &= self.ones
        low = number & self.low
        return Scalar(
            Tnum(number, 0), self.wide.unsigned(number, number), self.narrow.unsigned(low, low)
        )

    def between(self, low: int, high: int) -> Scalar:
        """All of low..high: signed when `low` is negative."""
        kind = self.wide.signed if low < 0 else self.wide.unsigned
        return self.sync(Tnum(0, self.ones), kind(low, high), self.narrow.full)

    def loaded(self, size_bytes: int, *, signed: bool = False) -> Scalar:
        """What a load of so many bytes gives, extended with zeros or with its sign."""
        key = size_bytes, signed
        if key not in self._loads:
            cut = self.extend if signed else self.truncate
            self._loads[key] = cut(self.unknown, 8 * size_bytes)
        return self._loads[key]

    # ALU -----------------------------------------------------------------------------------

    def alu(self, op: str, a: Scalar, b: Scalar, bits: int) -> Scalar:
        """Result of an operation of harness.bpf.isa.ALU_OPS, "sdiv" or "smod"; not "mov" and "end".

        bits 32: on the low halves, extended with zeros. "neg" ignores `b`.
        """
        key = op, a, b, bits
        if key not in self._results:
            _make_room(self._results)
            self._results[key] = transfer.apply(self, op, a, b, whole=bits == self.bits)
        return self._results[key]

    def fork(self, op: str, a: Scalar, b: Scalar) -> tuple[Scalar, Scalar] | None:
        """What `a` is on the path that goes on and on one more that is explored later, or None."""
        if not self.precision.forks or op not in ("and", "or") or not b.is_const:
            return None
        if (a.smin, a.smax) == (-1, 0):
            return self.known(-1), self.known(0)
        if (a.narrow.smin, a.narrow.smax) == (-1, 0):
            return self._with_low(a, self.low), self._with_low(a, 0)
        return None

    def _with_low(self, a: Scalar, low: int) -> Scalar:
        return Scalar(
            tnum.with_low(a.tnum, Tnum(low, 0), self.low), a.wide, self.narrow.unsigned(low, low)
        )

    def swap(self, a: Scalar, bits: int, *, reverse: bool) -> Scalar:
        """Instruction `end`: `reverse` for bswap and be, else le, of a little-endian machine."""
        if not self.precision.arcs:
            return self.unknown
        if reverse:
            a = Scalar(tnum.swapped(a.tnum, bits // 8), self.wide.full, self.narrow.full)
        return self.truncate(a, bits) if bits < self.bits else self.sync(*a)

    def truncate(self, a: Scalar, bits: int) -> Scalar:
        """The low bits, extended with zeros: narrow loads, and what a spill keeps of them."""
        ones = (1 << bits) - 1
        wide = a.wide
        if wide.umin & ~ones == wide.umax & ~ones:
            cut = self.wide.unsigned(wide.umin & ones, wide.umax & ones)
        else:
            cut = self.wide.unsigned(0, ones)
        narrow = self.narrow.full if ones < self.low else a.narrow
        return self.sync(tnum.truncate(a.tnum, ones), cut, narrow)

    def low_half(self, a: Scalar) -> Scalar:
        """A 32-bit move: the low half, extended with zeros."""
        narrow = a.narrow
        return self.sync(
            tnum.truncate(a.tnum, self.low), self.wide.unsigned(narrow.umin, narrow.umax), narrow
        )

    def extend(self, a: Scalar, bits: int, to: int = 0) -> Scalar:
        """The low 8, 16 or 32 bits with their sign: movsx to 64 bits, or `to` 32."""
        if to and to < self.bits:
            return self.low_half(self._extend_low(a, bits))
        sign = 1 << bits - 1
        if a.is_const:
            return self.known(_signed(a.value, bits))
        smin, smax = a.wide.smin, a.wide.smax
        if smin >> bits == smax >> bits:
            low, high = sorted((_signed(smin, bits), _signed(smax, bits)))
            if (low < 0) == (high < 0):
                known = tnum.between(low & self.ones, high & self.ones)
                return Scalar(known, self.wide.signed(low, high), self._signed_low(low, high))
        return Scalar(
            Tnum(0, self.ones), self.wide.signed(-sign, sign - 1), self._signed_low(-sign, sign - 1)
        )

    def _signed_low(self, low: int, high: int) -> Range:
        half = self.narrow.width.half
        return self.narrow.signed(low, high) if -half <= low and high < half else self.narrow.full

    def _extend_low(self, a: Scalar, bits: int) -> Scalar:
        """Ranges and bits of the low half only; the others are of no use."""
        sign = 1 << bits - 1
        if a.is_const:
            return self.known(_signed(a.value, bits))
        smin, smax = a.narrow.smin, a.narrow.smax
        if smin >> bits == smax >> bits:
            low, high = sorted((_signed(smin, bits), _signed(smax, bits)))
            if (low < 0) == (high < 0):
                known = tnum.between(low & self.low, high & self.low)
                return Scalar(known, a.wide, self.narrow.signed(low, high))
        return Scalar(Tnum(0, self.low), a.wide, self.narrow.signed(-sign, sign - 1))

    # order ---------------------------------------------------------------------------------

    def covers(self, outer: Scalar, inner: Scalar) -> bool:
        """Whether everything in `inner` is in `outer`."""
        return (
            outer.tnum.covers(inner.tnum)
            and self.wide.covers(outer.wide, inner.wide)
            and self.narrow.covers(outer.narrow, inner.narrow)
        )

    # branches ------------------------------------------------------------------------------

    def decide(
        self, op: str, a: Scalar, b: Scalar, bits: int, *, same: bool = False
    ) -> bool | None:
        """Whether a OP b holds; None: that depends. `same`: both are one register."""
        if same and self.precision.arcs:
            return self._decide_itself(op, a, bits)
        answer = branches.decide(op, a, b, whole=bits == self.bits, low=self.low)
        if answer is not None or not self.precision.arcs:
            return answer
        if any(each.impossible for each in self.learn(REVERSED[op], a, b, bits)):
            return True
        if any(each.impossible for each in self.learn(op, a, b, bits)):
            return False
        return None

    def _decide_itself(self, op: str, a: Scalar, bits: int) -> bool | None:
        if op != "set":
            return OF_ITSELF[op]
        known = a.tnum if bits == self.bits else tnum.truncate(a.tnum, self.low)
        span = a.wide if bits == self.bits else a.narrow
        if known.is_const:
            return known.value != 0
        return None if span.smin <= 0 <= span.smax else True

    def learn(self, op: str, a: Scalar, b: Scalar, bits: int) -> tuple[Scalar, Scalar]:
        """What `a` and `b` are where a OP b holds; `op` may be REVERSED of one, "nset" too.

        A result may be `impossible`. Ask decide() first: it knows more.
        """
        key = op, a, b, bits
        if key not in self._learnt:
            _make_room(self._learnt)
            self._learnt[key] = self._learn(op, a, b, bits)
        return self._learnt[key]

    def learn_itself(self, op: str, a: Scalar, bits: int) -> Scalar:
        """What `a` is where a OP a holds: kernels before 7.0 learn from both sides."""
        one, other = self.learn(op, a, a, bits)
        return self._whole(
            Scalar(
                tnum.intersect(one.tnum, other.tnum),
                self.wide.meet(one.wide, other.wide),
                self.narrow.meet(one.narrow, other.narrow),
            )
        )

    def _learn(self, op: str, a: Scalar, b: Scalar, bits: int) -> tuple[Scalar, Scalar]:
        if op in ("gt", "ge", "sgt", "sge"):
            b, a = self.learn(FLIPPED[op], b, a, bits)
            return a, b
        whole = bits == self.bits
        if op in ("ne", "set", "nset"):
            if not _is_const(b, whole=whole, low=self.low):
                if not _is_const(a, whole=whole, low=self.low):
                    return self._whole(a), self._whole(b)
                b, a = self.learn(op, b, a, bits)
                return a, b
            return self._whole(self._learn_const(op, a, b.value, whole=whole)), self._whole(b)
        kind = self.wide if whole else self.narrow
        one, other = (a.wide, b.wide) if whole else (a.narrow, b.narrow)
        if op == "eq":
            known = tnum.intersect(a.tnum, b.tnum)
            met = kind.meet(one, other)
            return self._narrowed(a, known, met, whole), self._narrowed(b, known, met, whole)
        one, other = branches.ordered(kind, op, one, other)
        return self._narrowed(a, None, one, whole), self._narrowed(b, None, other, whole)

    def _learn_const(self, op: str, a: Scalar, number: int, *, whole: bool) -> Scalar:
        kind, ones = (self.wide, self.ones) if whole else (self.narrow, self.low)
        number &= ones
        if op == "ne":
            left = kind.without(a.wide if whole else a.narrow, number)
            return Scalar(a.tnum, left, a.narrow) if whole else Scalar(a.tnum, a.wide, left)
        if op == "nset":
            # the ranges are forgotten: the bits could contradict them on a dead branch
            known = Tnum(a.value & ~number, a.tnum.mask & ~number)
            return Scalar(known, self.wide.full, self.narrow.full)
        if number.bit_count() != 1:
            return a
        known = Tnum(a.value | number, a.tnum.mask & ~number)
        return Scalar(known, a.wide, a.narrow)

    def _narrowed(self, a: Scalar, known: Tnum | None, span: Range, whole: bool) -> Scalar:
        if whole:
            return self._whole(Scalar(known or a.tnum, span, a.narrow))
        bits = tnum.with_low(a.tnum, known, self.low) if known else a.tnum
        return self._whole(Scalar(bits, a.wide, span))

    def _whole(self, a: Scalar) -> Scalar:
        made = self.sync(*a)
        if self.precision.arcs or not made.impossible:
            return made
        # such a kernel notes an "invariants violation" and goes on without ranges
        return Scalar(made.tnum, self.wide.full, self.narrow.full)

    # consistency ---------------------------------------------------------------------------

    def sync(self, known: Tnum, wide: Range, narrow: Range) -> Scalar:
        """A Scalar of parts, after they have informed each other as far as the kernel does."""
        if self.precision.arcs:
            return Scalar(*consistency.of_arcs(self.wide, self.narrow, known, wide, narrow))
        return Scalar(*consistency.of_bounds(self.wide, self.narrow, known, wide, narrow))


def _make_room(answers: dict[Any, Any]) -> None:
    if len(answers) >= _REMEMBERED:
        answers.clear()


def _signed(number: int, bits: int) -> int:
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> bits - 1 else number


def _is_const(a: Scalar, *, whole: bool, low: int) -> bool:
    return not (a.tnum.mask if whole else a.tnum.mask & low)
