# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""LLVM IR as text, and the functions that every module of native code contains.

Owns the slow paths of memory access: the stacks of live native frames, then Python. Layout of the
shared memory is harness.sim.engines.native_layout's.
"""

from harness.sim.engines import native_layout as at
from harness.sim.memory import STACK_BYTES, STACKS

SIZES = (1, 2, 4, 8)
# accesses of the program never touch what native code keeps for itself, and the other way round
GUEST = ", !alias.scope !3, !noalias !4"
OWN = ", !alias.scope !4, !noalias !3"

_HEAD = """
%r = type { i64, i64, i64 }
%a = type { i64, i64 }
declare i16 @llvm.bswap.i16(i16)
declare i32 @llvm.bswap.i32(i32)
declare i64 @llvm.bswap.i64(i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
!0 = distinct !{!0}
!1 = distinct !{!1, !0}
!2 = distinct !{!2, !0}
!3 = !{!1}
!4 = !{!2}
!5 = !{!"branch_weights", i32 1, i32 1000000}
"""
# of a field of a context
_FIELD_BYTES = 4
# the branch is almost never taken to its first label
COLD = ", !prof !5"


class Text:
    """One function being written: `op` numbers each value."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0

    def op(self, text: str) -> str:
        """Add an instruction that has a value; its name."""
        self._count += 1
        self.lines.append(f"  %t{self._count} = {text}")
        return f"%t{self._count}"

    def add(self, text: str) -> None:
        """Add an instruction without a value."""
        self.lines.append("  " + text)

    def fresh(self) -> str:
        """A name for a label that nobody has."""
        self._count += 1
        return f"l{self._count}"

    def label(self, name: str) -> None:
        """Start a block."""
        self.lines.append(f"{name}:")

    def cell(self, offset: int) -> str:
        """Address of a cell of the shared memory."""
        return self.op(f"getelementptr i8, ptr %st, i64 {offset}")

    def read(self, offset: int) -> str:
        """Value of a cell."""
        return self.op(f"load i64, ptr {self.cell(offset)}{OWN}")

    def write(self, offset: int, value: str | int) -> None:
        """Put an i64 into a cell."""
        self.add(f"store i64 {value}, ptr {self.cell(offset)}{OWN}")


def results(text: Text, value: str, budget: str, status: str) -> str:
    """The three results of a native function as one value, all i64."""
    first = text.op(f"insertvalue %r poison, i64 {value}, 0")
    second = text.op(f"insertvalue %r {first}, i64 {budget}, 1")
    return text.op(f"insertvalue %r {second}, i64 {status}, 2")


def prelude(body: str) -> str:
    """What is the same in every module, as far as `body` uses it."""
    parts = {"stack_address": _stack_address(), "call_out": _call_out()}
    for size in SIZES:
        parts[f"load{size}"] = _access(size, store=False)
        parts[f"store{size}"] = _access(size, store=True)
    used = [text for name, text in parts.items() if f"@{name}(" in body or name == "call_out"]
    return "\n".join([_HEAD, *used])


def probe(text: Text, address: str, size: int, *, store: bool) -> tuple[str, str]:
    """Host address by the region table, and whether it may be used."""
    slot = text.op(f"and i64 {text.op(f'lshr i64 {address}, 32')}, {at.TABLE_ENTRIES - 1}")
    offset = text.op(f"mul i64 {slot}, {at.ENTRY_BYTES}")
    entry = text.op(f"getelementptr i8, ptr {text.cell(at.TABLE)}, i64 {offset}")
    distance = text.op(f"sub i64 {address}, {text.op(f'load i64, ptr {entry}{OWN}')}")
    limits = at.ENTRY_STORES if store else at.ENTRY_LOADS
    cell = text.op(f"getelementptr i8, ptr {entry}, i64 {limits + 4 * SIZES.index(size)}")
    limit = text.op(f"zext i32 {text.op(f'load i32, ptr {cell}{OWN}')} to i64")
    inside = text.op(f"icmp ult i64 {distance}, {limit}")
    host = pointer(text, entry, at.ENTRY_HOST)
    return text.op(f"getelementptr i8, ptr {host}, i64 {distance}"), inside


def _call_out() -> str:
    """Let Python do something: budget and depth go with it, the budget comes back."""
    text = Text()
    text.write(at.BUDGET, "%bud")
    text.write(at.DEPTH, "%depth")
    callback = text.op(f"load ptr, ptr {text.cell(at.CALLBACK)}{OWN}")
    arguments = "i64 %op, i64 %site, i64 %a, i64 %b, i64 %c"
    status = text.op(f"call i64 {callback}({arguments})")
    value, budget = text.read(at.VALUE), text.read(at.BUDGET)
    text.add(f"ret %r {results(text, value, budget, status)}")
    head = (
        "define internal %r @call_out(ptr %st, i64 %op, i64 %site, i64 %a, i64 %b, i64 %c, "
        "i64 %depth, i64 %bud) noinline {"
    )
    return "\n".join([head, *text.lines, "}"])


def _stack_address() -> str:
    """Memory.stack(): by the budget, past the stacks of live frames."""
    text = Text()
    text.label("start")
    top = text.op(f"lshr i64 %depth, {at.LIVE_SHIFT}")
    records = text.cell(at.RECORDS)
    low = text.op(f"and i64 %bud, {STACKS - 1}")
    text.add("br label %again")
    text.label("again")
    text.add(f"%number = phi i64 [ {low}, %start ], [ %after, %taken ]")
    tagged = text.op(f"or i64 %number, {at.TAG_BITS >> 32 | STACKS}")
    text.add(f"%address = shl i64 {tagged}, 32")
    text.add("br label %loop")
    text.label("loop")
    text.add(f"%i = phi i64 [ {top}, %again ], [ %below, %other ]")
    offset = text.op(f"mul i64 %i, {at.RECORD_BYTES}")
    record = text.op(f"getelementptr i8, ptr {records}, i64 {offset}")
    same = text.op(f"icmp eq i64 {text.op(f'load i64, ptr {record}{OWN}')}, %address")
    text.add(f"br i1 {same}, label %taken, label %other")
    text.label("taken")
    text.add(f"%after = and i64 {text.op('add i64 %number, 1')}, {STACKS - 1}")
    text.add("br label %again")
    text.label("other")
    text.add("%below = add i64 %i, -1")
    more = text.op("icmp sge i64 %below, 1")
    text.add(f"br i1 {more}, label %loop, label %free")
    text.label("free")
    text.add("ret i64 %address")
    head = "define internal i64 @stack_address(ptr %st, i64 %depth, i64 %bud) {"
    return "\n".join([head, *text.lines, "}"])


def _access(size: int, *, store: bool) -> str:
    """An access with all checks: the region table, the stacks of live frames, Python.

    Gives the value of a load, and a status.
    """
    text, kind = Text(), f"i{size * 8}"
    text.label("start")
    host, inside = probe(text, "%addr", size, store=store)
    text.add(f"br i1 {inside}, label %direct, label %frames")
    text.label("direct")
    _touch(text, host, size, store=store)
    text.label("frames")
    first = "frames"
    if size == _FIELD_BYTES and not store:
        first = _context_field(text)
    floor = text.read(at.FLOOR)
    top = text.op(f"lshr i64 %depth, {at.LIVE_SHIFT}")
    text.add("br label %loop")
    text.label("loop")
    text.add(f"%i = phi i64 [ {top}, %{first} ], [ %below, %other ]")
    offset = text.op(f"mul i64 %i, {at.RECORD_BYTES}")
    record = text.op(f"getelementptr i8, ptr {text.cell(at.RECORDS)}, i64 {offset}")
    distance = text.op(f"sub i64 %addr, {text.op(f'load i64, ptr {record}{OWN}')}")
    found = text.op(f"icmp ule i64 {distance}, {STACK_BYTES - size}")
    text.add(f"br i1 {found}, label %found, label %other")
    text.label("other")
    text.add("%below = add i64 %i, -1")
    more = text.op(f"icmp sge i64 %below, {floor}")
    text.add(f"br i1 {more}, label %loop, label %python")
    text.label("found")
    data, shadow = (
        text.op(f"getelementptr i8, ptr {pointer(text, record, field)}, i64 {distance}")
        for field in (at.RECORD_DATA, at.RECORD_SHADOW)
    )
    if store:
        text.add(f"store {kind} {ones(size)}, ptr {shadow}, align 1{GUEST}")
    else:
        written = text.op(f"load {kind}, ptr {shadow}, align 1{GUEST}")
        good = text.op(f"icmp eq {kind} {written}, {ones(size)}")
        text.add(f"br i1 {good}, label %read, label %python")
        text.label("read")
    _touch(text, data, size, store=store)
    text.label("python")
    what, value = (at.STORE, "%value") if store else (at.LOAD, "0")
    made = text.op(
        f"call %r @call_out(ptr %st, i64 {what}, i64 %site, i64 %addr, i64 {size}, i64 {value}, "
        "i64 %depth, i64 %bud)"
    )
    value, status = (text.op(f"extractvalue %r {made}, {i}") for i in (0, 2))
    _give(text, value, status)
    name, extra = ("store", ", i64 %value") if store else ("load", "")
    head = (
        f"define internal %a @{name}{size}(ptr %st, i64 %site, i64 %addr, i64 %depth, i64 %bud"
        f"{extra}) noinline {{"
    )
    return "\n".join([head, *text.lines, "}"])


def _context_field(text: Text) -> str:
    """Fields of the context of a batch; the label where other addresses go on."""
    distance = text.op(f"sub i64 %addr, {text.read(at.CONTEXT)}")
    inside = text.op(f"icmp ult i64 {distance}, {at.CONTEXT_BYTES}")
    text.add(f"br i1 {inside}, label %aligned, label %elsewhere")
    text.label("aligned")
    slot = text.op(f"mul i64 {text.op(f'lshr i64 {distance}, 2')}, 8")
    odd = text.op(f"icmp ne i64 {text.op(f'and i64 {distance}, 3')}, 0")
    valid = text.op(f"getelementptr i8, ptr {text.cell(at.VALID)}, i64 {slot}")
    empty = text.op(f"icmp eq i64 {text.op(f'load i64, ptr {valid}{OWN}')}, 0")
    text.add(f"br i1 {text.op(f'or i1 {odd}, {empty}')}, label %elsewhere, label %field")
    text.label("field")
    value = text.op(f"getelementptr i8, ptr {text.cell(at.SLOTS)}, i64 {slot}")
    _give(text, text.op(f"load i64, ptr {value}{OWN}"), "0")
    text.label("elsewhere")
    return "elsewhere"


def _touch(text: Text, host: str, size: int, *, store: bool) -> None:
    """Load or store at a host address, and return."""
    kind, value = f"i{size * 8}", "0"
    if store:
        low = text.op(f"trunc i64 %value to {kind}") if size < 8 else "%value"
        text.add(f"store {kind} {low}, ptr {host}, align 1{GUEST}")
    else:
        value = text.op(f"load {kind}, ptr {host}, align 1{GUEST}")
        value = text.op(f"zext {kind} {value} to i64") if size < 8 else value
    _give(text, value, "0")


def _give(text: Text, value: str, status: str) -> None:
    first = text.op(f"insertvalue %a poison, i64 {value}, 0")
    text.add(f"ret %a {text.op(f'insertvalue %a {first}, i64 {status}, 1')}")


def pointer(text: Text, record: str, field: int) -> str:
    cell = text.op(f"getelementptr i8, ptr {record}, i64 {field}")
    return text.op(f"load ptr, ptr {cell}{OWN}")


def ones(size: int) -> int:
    """What `size` bytes of shadow are when all of them were written."""
    return int.from_bytes(b"\1" * size, "little")
