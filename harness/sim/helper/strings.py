# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers on text: printing, comparing, reading numbers (kernel/bpf/helpers.c, bpf_trace.c)."""

import re
from typing import TYPE_CHECKING

from harness.sim import text
from harness.sim.alu import M64
from harness.sim.errnos import EINVAL, ERANGE
from harness.sim.helper import Table

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_BASES = frozenset({0, 8, 10, 16})
_BASE_MASK = 0x1F
_MAX_DIGITS = 63
_SPACES = b" \t\n\v\f\r\xa0"  # isspace() of the kernel
_DIGITS = {8: rb"[0-7]*", 10: rb"[0-9]*", 16: rb"[0-9a-fA-F]*"}
_WORD_BYTES = 8
_MAX_ARGS = 12
_BUFFER_BYTES = 1024  # MAX_BPRINTF_BUF


def _trace_printk(machine: "Machine", form: int, size: int, *args: int | None) -> int:
    form_text = machine.memory.read(form, size)
    return _say(machine, text.expand(machine.memory, form_text, list(args), _BUFFER_BYTES))


def _say(machine: "Machine", shown: bytes | int) -> int:
    if isinstance(shown, int):
        return shown
    machine.trace.say(f"bpf_printk: {shown.decode(errors='replace').strip()}")
    return len(shown)


def _words(machine: "Machine", data: int, size_bytes: int) -> list[int | None] | None:
    """Arguments that stand in memory; None where their size is wrong."""
    if size_bytes % _WORD_BYTES or size_bytes > _MAX_ARGS * _WORD_BYTES:
        return None
    if size_bytes and not data:
        return None
    return [machine.memory.load(data + at, _WORD_BYTES) for at in range(0, size_bytes, 8)]


def _trace_vprintk(machine: "Machine", form: int, size: int, data: int, data_size: int) -> int:
    args = _words(machine, data, data_size)
    if args is None:
        return EINVAL
    form_text = machine.memory.read(form, size)
    return _say(machine, text.expand(machine.memory, form_text, args, _BUFFER_BYTES))


def _snprintf(
    machine: "Machine", target: int, size: int, form: int, data: int, data_size: int
) -> int:
    """Bytes that the whole text takes, its end included; what fits is written, NUL behind it."""
    args = _words(machine, data, data_size)
    if args is None:
        return EINVAL
    form_text = text.string_at(machine.memory, form) + b"\0"
    shown = text.expand(machine.memory, form_text, args, size)
    if isinstance(shown, int):
        return shown
    if size:
        machine.memory.write(target, shown[: size - 1] + b"\0")
    return len(shown) + 1


def _strncmp(machine: "Machine", left: int, size: int, right: int) -> int:
    first = machine.memory.read(left, size)
    second = text.string_at(machine.memory, right, size) + b"\0"
    for a, b in zip(first, second.ljust(size, b"\0"), strict=False):
        if a != b or not a:
            return (a > b) - (a < b)
    return 0


def parse_number(given: bytes, base: int) -> tuple[int, int, bool]:
    """__bpf_strtoull(): bytes consumed or an error number, magnitude, whether it is negative."""
    if base & ~_BASE_MASK or base not in _BASES or not given:
        return EINVAL, 0, False
    rest = given.lstrip(_SPACES)
    negative = rest.startswith(b"-")
    rest = rest[negative:]
    skipped = len(given) - len(rest)
    rest = rest[:_MAX_DIGITS].split(b"\0")[0]
    prefixed = re.match(rb"0[xX][0-9a-fA-F]", rest) is not None
    base = base or (16 if prefixed else 8 if rest.startswith(b"0") else 10)
    prefix = 2 if base == 16 and rest[:2].lower() == b"0x" else 0
    match = re.match(_DIGITS[base], rest[prefix:])
    digits = match[0] if match else b""
    if not digits:
        return EINVAL, 0, negative
    number = int(digits, base)
    if number > M64:
        return ERANGE, 0, negative
    return skipped + prefix + len(digits), number, negative


def _strtol(machine: "Machine", source: int, size: int, flags: int, target: int) -> int:
    machine.memory.write(target, bytes(8))
    used, number, negative = parse_number(machine.memory.read(source, size), flags)
    if used < 0:
        return used
    if number >> 63 and not (negative and number == 1 << 63):
        # (long long)-_res > 0 lets a negative number through whose low 64 bits stay negative
        return ERANGE
    machine.memory.store(target, 8, (-number if negative else number) & M64)
    return used


def _strtoul(machine: "Machine", source: int, size: int, flags: int, target: int) -> int:
    machine.memory.write(target, bytes(8))
    used, number, negative = parse_number(machine.memory.read(source, size), flags)
    if used < 0:
        return used
    if negative:
        return EINVAL
    machine.memory.store(target, 8, number)
    return used


_PRINTS = "%d %i %u %x %X, l and ll, %c %s %pks %px %pI4 %pi4 %pI6 %pi6; no %p, %pB, %pS"
HELPERS: Table = {
    6: ("bpf_trace_printk", 2, _trace_printk, _PRINTS),
    105: ("bpf_strtol", 4, _strtol, ""),
    106: ("bpf_strtoul", 4, _strtoul, ""),
    165: ("bpf_snprintf", 5, _snprintf, _PRINTS),
    177: ("bpf_trace_vprintk", 4, _trace_vprintk, _PRINTS),
    182: ("bpf_strncmp", 3, _strncmp, ""),
}
