# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Format strings as the printing helpers take them.

Owns what bpf_bprintf_prepare() (kernel/bpf/helpers.c) refuses and what bstr_printf()
(lib/vsprintf.c) makes of the rest. Conversions that print addresses or symbols of a kernel are
unsupported: their output is the kernel's secret.
"""

import re
from dataclasses import dataclass

from harness.sim.alu import signed
from harness.sim.errnos import EINVAL, ENOSPC
from harness.sim.memory import TAG, Memory
from harness.sim.signals import Fault, Unsupported

# flags, width, conversion; what follows decides whether a pointer or string is well formed
_FIELD = re.compile(rb"%(?P<flags>[0+\- ]*)(?P<width>[1-9][0-9]*)?(?P<rest>.{0,3})", re.DOTALL)
_NUMBER = re.compile(rb"(?P<size>l{0,2})(?P<kind>[diuxX])")
_ENDS_WORD = rb" \t\n\v\f\r!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_PRINTABLE = re.compile(rb"[\t-\r -~]*", re.DOTALL)
_BITS = {b"": 32, b"l": 64, b"ll": 64}
_MAX_STRING_BYTES = 1024
_MAX_ARGS_BYTES = 512  # MAX_BPRINTF_BIN_ARGS
_MAX_WIDTH = 4096
_USER_SPACE_BYTES = 1 << 47


class _RefusedError(Exception):
    """A format that the kernel does not take; its argument is the error number."""


@dataclass(slots=True)
class _Writer:
    memory: Memory
    args: list[int | None]
    used: int = 0
    # of the kernel's buffer for arguments
    args_bytes: int = 0
    # the conversion's text was made when arguments were gathered
    ready: bool = False
    # the kernel reads the wrong arguments from here on
    astray: bool = False

    def next(self) -> int:
        """Value of the next argument."""
        if self.used >= len(self.args):
            raise _RefusedError(EINVAL)
        number = self.args[self.used]
        self.used += 1
        if number is None:
            raise Unsupported("printing an argument that is not initialised")
        return number

    def take(self, size_bytes: int, align: int = 1) -> None:
        """Room for an argument in the kernel's buffer."""
        start = (self.args_bytes + align - 1) & -align
        if start + size_bytes > _MAX_ARGS_BYTES:
            raise _RefusedError(ENOSPC)
        self.args_bytes = start + size_bytes


def string_at(memory: Memory, address: int, limit: int = _MAX_STRING_BYTES) -> bytes:
    """Bytes up to the first NUL (left out) or `limit`. Raises Fault where memory ends first."""
    region, offset = memory.find(address, 1, "read of a string")
    room = min(limit, region.high - offset)
    data = memory.read(address, room) if region.shadow is None else _written(memory, address, room)
    end = data.find(b"\0")
    if end < 0 and room < limit and len(data) == room:
        raise Fault(memory.describe(address, room + 1, "read of a string"))
    return data if end < 0 else data[:end]


def _written(memory: Memory, address: int, room: int) -> bytes:
    """Bytes up to the first NUL, of memory that may have holes behind it."""
    found = bytearray()
    for at in range(room):
        byte = memory.load(address + at, 1)
        found.append(byte)
        if not byte:
            break
    return bytes(found)


def expand(memory: Memory, form: bytes, args: list[int | None], size_bytes: int) -> bytes | int:
    """The printed text without its NUL, or a negative error number. Raises Unsupported.

    The text is whole, however long; `size_bytes` is where the kernel's buffer ends.
    """
    if b"\0" not in form:
        return EINVAL
    form = form.split(b"\0")[0]
    writer, shown, at = _Writer(memory, args), bytearray(), 0
    try:
        while at < len(form):
            if form[at : at + 2] == b"%%":
                shown += b"%"
                at += 2
            elif form[at] == ord("%"):
                if writer.astray:
                    raise Unsupported("printing on behind the end of the buffer")
                text, at = _conversion(writer, form, at)
                if writer.ready and len(shown) >= size_bytes:
                    # bstr_printf() then leaves it out, and takes it for the next argument
                    text, writer.astray = b"", True
                writer.ready = False
                shown += text
            else:
                _check_character(form[at])
                shown.append(form[at])
                at += 1
    except _RefusedError as refused:
        return int(refused.args[0])
    return bytes(shown)


def _check_character(byte: int) -> None:
    if byte >= 0x80:
        raise Unsupported("text beyond ASCII: kernels differ in taking it")
    if not _PRINTABLE.fullmatch(bytes((byte,))):
        raise _RefusedError(EINVAL)


def _conversion(writer: _Writer, form: bytes, at: int) -> tuple[bytes, int]:
    """Text of the conversion at `at`, and where the form goes on."""
    field = _FIELD.match(form, at)
    assert field is not None
    if writer.used >= len(writer.args):
        raise _RefusedError(EINVAL)
    flags, rest, end = field["flags"], field["rest"], field.start("rest")
    width = int(field["width"] or 0)
    if width > _MAX_WIDTH:
        raise Unsupported(f"printing {width} columns")
    if rest.startswith(b"p"):
        return _pointer(writer, form, end, flags, width)
    if rest.startswith(b"s"):
        _check_end(form, end + 1)
        return _padded(_string(writer, kernel=False), flags, width), end + 1
    if rest.startswith(b"c"):
        writer.take(1)
        return _padded(bytes((writer.next() & 0xFF,)), flags, width), end + 1
    number = _NUMBER.match(form, end)
    if number is None:
        raise _RefusedError(EINVAL)
    size = 8 if number["size"] else 4
    writer.take(size, 4)
    shown = _number(writer.next(), _BITS[number["size"]], number["kind"], flags, width)
    return shown, number.end()


def _check_end(form: bytes, at: int) -> None:
    """A string or pointer must end its word."""
    if at < len(form) and form[at] not in _ENDS_WORD:
        raise _RefusedError(EINVAL)


def _padded(text: bytes, flags: bytes, width: int) -> bytes:
    return text.ljust(width) if b"-" in flags else text.rjust(width)


def _number(number: int, bits: int, kind: bytes, flags: bytes, width: int) -> bytes:
    """number() of lib/vsprintf.c."""
    if kind in b"di":
        number = signed(number, bits)
        sign = "-" if number < 0 else "+" if b"+" in flags else " " if b" " in flags else ""
        digits = str(abs(number))
    else:
        sign, digits = "", format(number & ((1 << bits) - 1), "d" if kind == b"u" else "x")
        digits = digits.upper() if kind == b"X" else digits
    if b"-" in flags:
        return (sign + digits).ljust(width).encode()
    if b"0" in flags:
        return (sign + digits.rjust(width - len(sign), "0")).encode()
    return (sign + digits).rjust(width).encode()


def _string(writer: _Writer, *, kernel: bool) -> bytes:
    """A string of the program; a NULL pointer, as anything in the first page, gives none."""
    address = writer.next()
    room = _MAX_ARGS_BYTES - writer.args_bytes
    if room <= 0:
        raise _RefusedError(ENOSPC)
    if address < _MAX_WIDTH:
        found = b""
    elif address >> 56 != TAG or (not kernel and address < _USER_SPACE_BYTES):
        raise Unsupported("printing a string outside the program")
    else:
        found = string_at(writer.memory, address, room)[: room - 1]
    writer.take(len(found) + 1)
    return found


def _pointer(writer: _Writer, form: bytes, at: int, flags: bytes, width: int) -> tuple[bytes, int]:
    """A conversion that starts with p, which is at `at`.

    bstr_printf() gives those that are ready no width.
    """
    kind = form[at + 1 : at + 3]
    if kind in (b"ks", b"us"):
        _check_end(form, at + 3)
        if kind == b"us":
            raise Unsupported("printing a string of user space")
        writer.ready = True
        return _string(writer, kernel=True), at + 3
    if kind in (b"I4", b"i4", b"I6", b"i6"):
        # and it leaves out every letter and digit behind the conversion
        end = at + 3
        while form[end : end + 1].isalnum():
            end += 1
        writer.ready = True
        return _address(writer, kind), end
    if kind[:1] == b"x":
        writer.take(8, 4)
        number = writer.next()
        if number >> 56 != TAG:
            shape = (flags, width) if width else (flags + b"0", 16)
            return _number(number, 64, b"x", *shape), at + 2
    if not kind or kind[:1] in b"xKsSB" or kind[0] in _ENDS_WORD:
        raise Unsupported("printing an address or symbol of a kernel")
    raise _RefusedError(EINVAL)


def _address(writer: _Writer, kind: bytes) -> bytes:
    """An IP address in network order; zeros where it cannot be read."""
    size = 4 if kind.endswith(b"4") else 16
    if writer.args_bytes + size > _MAX_ARGS_BYTES:
        raise _RefusedError(ENOSPC)
    pointer = writer.next()
    if pointer >> 56 != TAG:
        raise Unsupported("printing an IP address outside the program")
    data = writer.memory.read(pointer, size)
    if size == 4:
        width = 3 if kind[:1] == b"i" else 0
        shown = ".".join(f"{byte:0{width}d}" for byte in data).encode()
    else:
        words = [data[i : i + 2].hex() for i in range(0, 16, 2)]
        shown = (":" if kind[:1] == b"I" else "").join(words).encode()
    writer.args_bytes += len(shown) + 1
    return shown
