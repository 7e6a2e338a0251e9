# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Format strings of bpf_trace_printk, as far as their length can be known (lib/vsprintf.c)."""

import re

from harness.sim.alu import signed
from harness.sim.memory import Memory
from harness.sim.signals import Fault, Unsupported

_FIELD = re.compile(rb"%(%|(?:(0?\d*)(ll|l)?([diuxXsc])))|%([-+ ]|p)?")
_BITS = {None: 32, b"l": 64, b"ll": 64}
_MAX_STRING_BYTES = 1024


class _RefusedError(Exception):
    """A conversion that the kernel does not know."""


def string_at(memory: Memory, address: int, limit: int = _MAX_STRING_BYTES) -> bytes:
    """Bytes up to the first NUL (left out) or `limit`."""
    found = bytearray()
    for at in range(limit):
        byte = memory.load(address + at, 1)
        if not byte:
            break
        found.append(byte)
    return bytes(found)


def expand(memory: Memory, form: bytes, args: list[int | None]) -> str | None:
    """The printed text, or None for a format that bpf_bprintf_prepare() refuses.

    Raises Unsupported for conversions whose output is the kernel's secret.
    """
    form, values = form.split(b"\0")[0], iter(args)

    def one(match: re.Match[bytes]) -> bytes:
        if match[1] == b"%":
            return b"%"
        if match[4] is None and match[5]:
            raise Unsupported(f"bpf_trace_printk with {form!r}")
        if match[4] is None:
            raise _RefusedError
        number = next(values, None)
        if number is None:
            raise Fault("bpf_trace_printk: argument is not initialised")
        return _format(memory, match, number)

    try:
        return _FIELD.sub(one, form).decode(errors="replace")
    except _RefusedError:
        return None


def _format(memory: Memory, match: re.Match[bytes], number: int) -> bytes:
    width, conversion = match[2] or b"", match[4]
    if conversion == b"s":
        return string_at(memory, number).rjust(int(width or 0))
    if conversion == b"c":
        return bytes((number & 0xFF,))
    bits = _BITS[match[3]]
    shown = signed(number, bits) if conversion in b"di" else number & ((1 << bits) - 1)
    kind = "d" if conversion in b"diu" else conversion.decode()
    return format(shown, width.decode() + kind).encode()
