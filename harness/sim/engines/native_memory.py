# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Loads, stores and atomics as LLVM IR, with all checks of harness.sim.memory.

Three ways, the cheapest that is safe: the function's own stack at a known place (no check of
bounds; none of what was written, where the analysis knows it); in loops the region table (one
comparison for region and bounds); a call of a function of harness.sim.engines.native_text, which
looks into the region table and the stacks of live frames, and ends in Python.
"""

from typing import TYPE_CHECKING

from harness.bpf import isa
from harness.bpf.isa import Class, Insn, registers_read
from harness.sim.alu import M64, signed
from harness.sim.engines.native_alu import atomic
from harness.sim.engines.native_facts import mask, own_bytes
from harness.sim.engines.native_insns import accesses
from harness.sim.engines.native_text import GUEST, ones, probe

if TYPE_CHECKING:
    from harness.sim.engines.native_emit import Function


def access(text: "Function", insn: Insn) -> None:
    """Write a load, store or atomic in its valid form."""
    for register in registers_read(insn):
        text.get(register)
    place = _Place(text, insn)
    if insn.cls is Class.LDX:
        value = place.load()
        if insn.mode == "memsx":
            narrow = text.op(f"trunc i64 {value} to {place.kind}")
            value = text.op(f"sext {place.kind} {narrow} to i64")
        text.put(insn.dst, value)
    elif insn.cls is Class.ST:
        place.store(str(signed(insn.imm & M64)))
    elif insn.mode == "mem":
        place.store(text.get(insn.src))
    else:
        _atomic(text, insn, place)


def _atomic(text: "Function", insn: Insn, place: "_Place") -> None:
    """One CPU: an atomic is a load and a store, in the order in which they can fault."""
    name = isa.ATOMIC_OPS[insn.imm]
    if name == "load_acquire":
        text.put(insn.dst, place.load())
        return
    operand = text.get(insn.src)
    if name == "store_release":
        place.store(operand)
        return
    old = place.load()
    if name == "cmpxchg":
        expected = _cut(text, text.get(0), place.size)
        store, done = text.fresh(), text.fresh()
        same = text.op(f"icmp eq i64 {old}, {expected}")
        text.add(f"br i1 {same}, label %{store}, label %{done}")
        text.label(store)
        place.store(operand)
        text.add(f"br label %{done}")
        text.label(done)
        text.put(0, old)
        return
    combine = atomic(name)
    place.store(combine(text, 64, old, operand) if combine else operand)
    if name == "xchg" or name.startswith("fetch_"):
        text.put(insn.src, old)


def _cut(text: "Function", value: str, size: int) -> str:
    return value if size == 8 else text.op(f"and i64 {value}, {(1 << size * 8) - 1}")


class _Place:
    """Where one instruction touches memory."""

    def __init__(self, text: "Function", insn: Insn) -> None:
        found = accesses(insn)
        assert found is not None  # only called for those
        self.text = text
        self.size = insn.size_bytes
        self.kind = f"i{self.size * 8}"
        self.own = own_bytes(insn, text.facts)
        self.base, self.offset = found[0], found[1]
        self._address = ""

    @property
    def address(self) -> str:
        """Synthetic address, an i64."""
        if not self._address:
            base = self.text.get(self.base)
            self._address = self.text.op(f"add i64 {base}, {self.offset}")
        return self._address

    def load(self) -> str:
        """The value there, zero-extended to i64."""
        text = self.text
        if self.own is None:
            return self._dynamic("")
        own = text.op(f"getelementptr i8, ptr %data, i64 {self.own.start}")
        if text.known.stack & mask(self.own) == mask(self.own):
            return self._read(own)
        shadow = text.op(f"getelementptr i8, ptr %shadow, i64 {self.own.start}")
        written = text.op(f"load {self.kind}, ptr {shadow}, align 1{GUEST}")
        good = text.op(f"icmp eq {self.kind} {written}, {ones(self.size)}")
        self._address = text.op(f"add i64 %top, {self.offset}")
        return self._checked(own, good, "")

    def store(self, value: str) -> None:
        """Put the low bytes of an i64 there."""
        text = self.text
        if self.own is None:
            self._dynamic(value)
            return
        own = text.op(f"getelementptr i8, ptr %data, i64 {self.own.start}")
        self._write(own, value)
        if not text.facts.pure and text.known.stack & mask(self.own) != mask(self.own):
            shadow = text.op(f"getelementptr i8, ptr %shadow, i64 {self.own.start}")
            text.add(f"store {self.kind} {ones(self.size)}, ptr {shadow}, align 1{GUEST}")

    def _dynamic(self, value: str) -> str:
        """An access that needs all checks: inline in loops, where the time goes, else a call."""
        if not self.text.in_loop:
            return self._called(value)
        host, inside = probe(self.text, self.address, self.size, store=bool(value))
        return self._checked(host, inside, value)

    def _called(self, value: str) -> str:
        text = self.text
        what, extra = ("store", f", i64 {value}") if value else ("load", "")
        made = text.op(
            f"call %a @{what}{self.size}(ptr %st, i64 {text.site()}, i64 {self.address}, "
            f"i64 %depth, i64 {text.budget}{extra})"
        )
        text.leave_unless_ok(text.op(f"extractvalue %a {made}, 1"))
        return "" if value else text.op(f"extractvalue %a {made}, 0")

    def _checked(self, host: str, good: str, value: str) -> str:
        """Touch the host address where it is good, else with all checks. A load's value."""
        text, direct, slow, done = self.text, *(self.text.fresh() for _ in range(3))
        text.add(f"br i1 {good}, label %{direct}, label %{slow}")
        text.label(slow)
        late = self._called(value)
        from_slow = text.fresh()
        text.add(f"br label %{from_slow}")
        text.label(from_slow)
        text.add(f"br label %{done}")
        text.label(direct)
        if value:
            self._write(host, value)
        early = "" if value else self._read(host)
        text.add(f"br label %{done}")
        text.label(done)
        if value:
            return ""
        return text.op(f"phi i64 [ {early}, %{direct} ], [ {late}, %{from_slow} ]")

    def _read(self, host: str) -> str:
        value = self.text.op(f"load {self.kind}, ptr {host}, align 1{GUEST}")
        return value if self.size == 8 else self.text.op(f"zext {self.kind} {value} to i64")

    def _write(self, host: str, value: str) -> None:
        text = self.text
        low = value
        if self.size < 8:
            low = text.op(f"trunc i64 {value} to {self.kind}")
        text.add(f"store {self.kind} {low}, ptr {host}, align 1{GUEST}")
