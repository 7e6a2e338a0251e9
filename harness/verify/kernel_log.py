# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The verifier's log at level 2 as data: what a kernel knew before each instruction.

Owns the format of kernel/bpf/log.c as Linux 6.12 to 7.3 print it (print_verifier_state(),
print_reg_state(), print_scalar_ranges(), print_insn_state()). Text in, values out: asks no kernel
and judges nothing. A log prints whole states where a path begins and after calls, in between only
what changed; states() puts them together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

U64, U32 = (1 << 64) - 1, (1 << 32) - 1
_INSN = re.compile(r"(\d+): \(([0-9a-f]{2})\) (.*)$")
_AT = re.compile(r"(\d+):(?=\s|$)(.*)$")
_FROM = re.compile(r"from (\d+) to (\d+)(?: \(speculative execution\))?:(.*)$")
_PRUNED = re.compile(r"(\d+): safe$")
_RETURN = re.compile(r"to caller at (\d+):$")
_FRAME = re.compile(r"\s*frame(\d+):")
# what is known of one register or stack slot begins here
_ITEM = re.compile(r"(?:^|\s)(R\d+|fp-\d+)(?:_[a-zA-Z]+)?=")
_TAIL = re.compile(r"\s(?:refs=[\d,]+|cb|async_cb)(?=\s|$)")
_PROCESSED = re.compile(r"processed (\d+) insns")
# programs are listed before they are verified, with lines like those of instructions
_LISTING = re.compile(r"subprog#\d+ |stack use/def|Live regs before insn")
# what is in the bytes of a stack slot that holds no whole register
_SLOT_BYTES = re.compile(r"[?m0ird]{1,7}(?=P?(?:[a-z]+\(|-?\d+$|-?0x))")
# the register that an instruction writes
_WRITTEN = re.compile(r"[rw](\d+) \S*= ")
_CALL = "85"
_COMPARED = re.compile(r"if ([rw]\d+)[^:]*? ([rw]\d+|[-x0-9a-f]+) goto")
# in `fields`: more may have been learnt since by way of a register with the same id. Linux 6.12
# does not print that (sync_linked_regs() marks nothing there), 7.3 does
STALE = "stale"
_BEGIN, _END = "-- BEGIN PROG LOAD LOG --", "-- END PROG LOAD LOG --"
_REFUSED = re.compile(r"libbpf: prog '([^']*)': failed to load")
# what a call leaves undefined, unless it is printed: R0 too where nothing is returned
_CALL_CLOBBERS = tuple(f"R{number}" for number in range(6))
_TNUM = re.compile(r"\((0x[0-9a-f]+|\d+); (0x[0-9a-f]+|\d+)\)")
_NUMBER = re.compile(r"-?(?:0x[0-9a-f]+|\d+)$")
_STACK = re.compile(r"fp(?:\[(\d+)\])?(-?\d+)$")
_OR_NULL = "_or_null"


@dataclass(frozen=True, slots=True)
class Known:
    """What was known of one register.

    kind as printed: "scalar", "ctx", "fp", "pkt", "map_value", "ptr_task_struct", ...; `null`: it
    may be NULL. For a pointer the numbers are those of its offset in bytes, fixed part included
    only in `off`.
    """

    kind: str
    null: bool = False
    off: int = 0
    # of a scalar or of the variable part of an offset
    umin: int = 0
    umax: int = U64
    smin: int = -(1 << 63)
    smax: int = (1 << 63) - 1
    umin32: int = 0
    umax32: int = U32
    smin32: int = -(1 << 31)
    smax32: int = (1 << 31) - 1
    value: int = 0
    mask: int = U64
    # as printed: id, map, ks, vs, r, sz, imm, ...
    fields: dict[str, str] = field(default_factory=dict)

    def contains(self, number: int) -> bool:
        """Whether the unsigned 64-bit number is among those that a scalar may be."""
        signed = number - (1 << 64) if number >> 63 else number
        low = number & U32
        signed_low = low - (1 << 32) if low >> 31 else low
        return (
            number & ~self.mask == self.value
            and self.umin <= number <= self.umax
            and self.smin <= signed <= self.smax
            and self.umin32 <= low <= self.umax32
            and self.smin32 <= signed_low <= self.smax32
        )

    def contains_offset(self, offset: int) -> bool:
        """Whether a pointer may lie so many bytes behind the start of its object."""
        return self.contains(offset - self.off & U64)


# register ("R0") or slot ("fp-8") -> what was known
State = dict[str, Known]


@dataclass(slots=True)
class Log:
    """What a log has of one program."""

    # instruction -> the states before it, in the order of exploration
    states: dict[int, list[State]] = field(default_factory=dict)
    # (instruction, what was known before it, what was printed to have changed), as explored
    steps: list[tuple[int, State, State]] = field(default_factory=list)
    # of each step: the instruction that the path came from; -1: it begins there
    origins: list[int] = field(default_factory=list)
    # ways (from, to) that were not followed, for a state like theirs had been explored
    pruned: set[tuple[int, int]] = field(default_factory=set)
    # instructions in front of which a path ended for the same reason
    ended: set[int] = field(default_factory=set)
    # instructions that the verifier went through; None: the log does not say
    processed: int | None = None
    # lines that are none of the above: messages
    others: list[str] = field(default_factory=list)


def programs(text: str) -> dict[str, str]:
    """The log of each accepted program in what libbpf says while it loads an object."""
    found: dict[str, str] = {}
    name = ""
    lines: list[str] = []
    for line in text.splitlines():
        if line.endswith(_BEGIN):
            name, lines = line.partition("'")[2].rpartition("'")[0], []
        elif line == _END and name:
            found[name], name = "\n".join(lines), ""
        elif name:
            lines.append(line)
    for refused in _REFUSED.findall(text):
        found.pop(refused, None)
    return found


def parse(text: str) -> Log:
    """Read the log of one program. What is cut off or not understood is left out, never guessed."""
    reader = _Reader()
    for line in text.splitlines():
        reader.line(line)
    return reader.log


class _Reader:
    """Goes through the lines with the state of the path that they are about."""

    def __init__(self) -> None:
        self.log = Log()
        self.state: State = {}
        self.at = -1
        # the next line is a whole state; it is that of a caller to whose call a callback returns
        self.whole = self.widened = False
        self.listing = False

    def line(self, line: str) -> None:
        insn = _INSN.match(line)
        if insn is not None and self.listing:
            return
        if insn is not None:
            self._instruction(int(insn[1]), insn[2], insn[3])
            return
        if self.whole and line.startswith(" "):
            self._whole(items(line))
            return
        back = _RETURN.match(line)
        self.whole = back is not None or line in ("caller:", "callee:", "returning from callee:")
        if self.whole:
            self.widened = back is not None and int(back[1]) in self.log.states
            return
        pruned = _PRUNED.match(line)
        if pruned is not None:
            self.log.ended.add(int(pruned[1]))
            self.log.pruned.add((self.at, int(pruned[1])))
            return
        self._rest(line)

    def _whole(self, state: State) -> None:
        if self.widened:
            # what a callback may have changed is forgotten in silence (widen_imprecise_scalars())
            state = {name: known for name, known in state.items() if known.kind != "scalar"}
        self.state, self.whole = state, False

    def _rest(self, line: str) -> None:
        if _LISTING.match(line):
            self.listing = True
        jump = _FROM.match(line)
        if jump is not None:
            way = int(jump[1]), int(jump[2])
            if jump[3].strip() == "safe":
                self.log.pruned.add(way)
            else:
                self.state = items(jump[3])
                self.at = way[0]
            return
        change = _AT.match(line)
        if change is not None and (not change[2].strip() or _ITEM.search(change[2])):
            # what a path begins with is printed without "from"
            begins = "R10=" in change[2]
            self.listing = False
            self.state = items(change[2]) if begins else self.state | items(change[2])
            return
        processed = _PROCESSED.match(line)
        if processed is not None:
            self.log.processed = int(processed[1])
        elif (
            line
            and not self.listing
            and not line.startswith(";")
            and not line.startswith("mark_precise:")
        ):
            self.log.others.append(line)

    def _instruction(self, pc: int, code: str, rest: str) -> None:
        changes = items(rest.partition(" ; ")[2])
        self.log.states.setdefault(pc, []).append(dict(self.state))
        self.log.steps.append((pc, self.state, changes))
        self.log.origins.append(self.at)
        self.at = pc
        written = _WRITTEN.match(rest)
        # what is written and not printed: nobody reads it (7.3)
        lost = _CALL_CLOBBERS if code == _CALL else (f"R{written[1]}",) if written else ()
        kept = {name: known for name, known in self.state.items() if name not in lost}
        compared = _COMPARED.match(rest)
        if compared is not None:
            names = {f"R{name[1:]}" for name in compared.groups() if name[0] in "rw"}
            kept = _outdated(kept, names | set(changes))
        self.state = kept | changes


def _outdated(state: State, compared: set[str]) -> State:
    """Behind a jump, where only what it compares is printed, and copies of that are not."""
    ids = {_id(state[name]) for name in compared if name in state} - {""}
    return {
        name: replace(known, fields=known.fields | {STALE: "1"})
        if name not in compared and _id(known) in ids
        else known
        for name, known in state.items()
    }


def _id(known: Known) -> str:
    """Without the distance that 6.12 and later print behind it: "3+8"."""
    return re.split(r"[-+]", known.fields.get("id", ""), maxsplit=1)[0]


def items(text: str) -> State:
    """Registers and slots in a printed state, or part of one."""
    text = _FRAME.sub(" ", _TAIL.sub(" ", text), count=1)
    marks = list(_ITEM.finditer(text))
    found: State = {}
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    for mark, end in zip(marks, ends, strict=False):
        described = text[mark.end() : end].strip()
        if mark[1].startswith("fp"):
            described = _SLOT_BYTES.sub("", described, count=1)
        known = known_of(described)
        if known is not None:
            found[mark[1]] = known
    return found


def known_of(text: str) -> Known | None:
    """What stands behind "R1="; None for a stack slot of plain bytes, and for what is unknown."""
    text = text.removeprefix("P")
    if _NUMBER.match(text):
        return _constant(_integer(text) & U64)
    stack = _STACK.match(text)
    if stack is not None:
        return _fixed("fp", False, int(stack[2]), {"frame": stack[1]} if stack[1] else {})
    kind, opened, inside = text.partition("(")
    if not opened:
        return Known(kind) if kind == "arena" else None
    if kind.startswith("fp["):
        kind = "fp"
    # "map_value_or_null", "ptr_or_null_task_struct"
    named = kind.replace(_OR_NULL, "", 1)
    try:
        return _described(named, named != kind, inside.rpartition(")")[0])
    except ValueError:
        return None  # cut off inside of a number


def _fixed(kind: str, null: bool, off: int, fields: dict[str, str]) -> Known:
    """A pointer whose offset does not vary."""
    return Known(kind, null, off, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, fields)


def _constant(number: int) -> Known:
    low = number & U32
    signed = number - (1 << 64) if number >> 63 else number
    signed_low = low - (1 << 32) if low >> 31 else low
    return Known(
        "scalar", False, 0, number, number, signed, signed, low, low, signed_low, signed_low,
        number, 0,
    )  # fmt: skip


def _described(kind: str, null: bool, inside: str) -> Known:
    fields: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for part in inside.split(","):
        *names, value = part.strip().split("=")
        for name in names:
            if name in _RANGES:
                numbers[name] = _range(name, value)
            else:
                fields[name] = value
    bits = _TNUM.search(fields.get("var_off", ""))
    if bits is not None:
        numbers["value"], numbers["mask"] = _integer(bits[1]), _integer(bits[2])
    off = _integer(fields["off"]) if _NUMBER.match(fields.get("off", "")) else 0
    if kind != "scalar" and bits is None and not numbers:
        # "imm" is what 7.3 prints of an offset
        moved = _integer(fields["imm"]) if "imm" in fields else 0
        return _fixed(kind, null, off + moved, fields)
    return Known(kind, null, off, fields=fields, **numbers)


# name -> bits
_RANGES = {
    "smin": 64, "smax": 64, "umin": 64, "umax": 64, "smin32": 32, "smax32": 32, "umin32": 32,
    "umax32": 32,
}  # fmt: skip


def _range(name: str, text: str) -> int:
    number, bits = _integer(text), _RANGES[name]
    if name.startswith("s") and text.startswith("0x") and number >> bits - 1:
        # hexadecimal is of the bare width
        return number - (1 << bits)
    return number if name.startswith("s") else number & ((1 << bits) - 1)


def _integer(text: str) -> int:
    return int(text, 0)
