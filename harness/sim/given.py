# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a user of `bpfthrow sim` gives as input: --packet and --ctx become an Input.

Owns the three ways to write a frame (hex, @FILE, words of the frame language) and their limits.
"""

import re

from harness.errors import UsageError
from harness.frames import DEFAULT_FRAME, parse_input
from harness.model import Input
from harness.reading import read_asked

# 64 KiB less the head room and tail room that the kernel keeps in the same buffer
MAX_PACKET_BYTES = 0xFFFF - 256 - 320
# the limit of ctx_size_in for syscall programs
MAX_CTX_BYTES = 0xFFFF
PACKET_TYPES = frozenset({"xdp", "tc", "cgroup_skb"})
_HINT = "give hex digits, @FILE with raw bytes, or words as in 'eth ipv4 udp payload=22'"


def read_input(packet: str | None, ctx: str | None, program_type: str) -> Input:
    """Input of a program of this type. Raises UsageError."""
    if packet is not None and ctx is not None:
        raise UsageError("--packet and --ctx exclude each other")
    if ctx is not None:
        return Input(ctx=_bytes("--ctx", ctx, MAX_CTX_BYTES))
    if packet is None:
        return parse_input(DEFAULT_FRAME) if program_type in PACKET_TYPES else Input()
    return _packet(packet)


def _packet(text: str) -> Input:
    """Hex, @FILE, or words of the frame language."""
    words = text.split()
    if words and not text.startswith("@") and re.fullmatch(r"[a-z][a-z0-9]*(=\S*)?", words[0]):
        known = re.search(r"[g-z=]", words[0])
        if known is not None:
            try:
                return parse_input(text)
            except UsageError as error:
                place = f"not hex (character {known.start() + 1} is {known[0]!r})"
                raise UsageError(
                    f"--packet: {place}, and as words: {error.message}", fix=error.fix or _HINT
                ) from error
    return Input(packet=_bytes("--packet", text, MAX_PACKET_BYTES))


def _bytes(option: str, text: str, most: int) -> bytes:
    """Raw bytes of @FILE, or hex digits (blanks and colons between bytes are skipped)."""
    if text.startswith("@"):
        try:
            return read_asked(text[1:], most, _HINT)
        except UsageError as error:
            raise UsageError(f"{option}: {error.message}", fix=error.fix) from error
    wrong = re.search(r"[^0-9a-fA-F\s:]", text)
    if wrong is not None:
        raise UsageError(
            f"{option}: not hex: character {wrong.start() + 1} is {wrong[0]!r}", fix=_HINT
        )
    digits = re.sub(r"[\s:]", "", text)
    if len(digits) % 2:
        raise UsageError(f"{option}: odd number of hex digits ({len(digits)})", fix=_HINT)
    if len(digits) // 2 > most:
        raise UsageError(
            f"{option}: {len(digits) // 2} bytes is too long", fix=f"at most {most} bytes"
        )
    return bytes.fromhex(digits)
