# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A vector before it is a file: what it shows, its program, and what must come out."""

from dataclasses import dataclass, field

M64 = 2**64 - 1
HEADER = "# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause\n"


@dataclass(frozen=True)
class Spec:
    """One file. `name` is "group/form-kind", as "add64/imm-sign-boundary"."""

    name: str
    # what it shows, one line
    says: str
    # assembly in the public format; or
    asm: tuple[str, ...] = ()
    # instructions as (opcode, dst, src, off, imm), each with a word about it
    raw: tuple[tuple[tuple[int, int, int, int, int], str], ...] = ()
    memory: bytes = b""
    result: int | None = None
    error: str = ""
    # where the rule is written
    source: str = field(default="RFC 9669")

    def text(self):
        parts = [HEADER, f"# {self.says}\n", f"# {self.source}\n"]
        if self.memory:
            parts += ["-- mem\n", *_rows(self.memory)]
        if self.raw:
            parts += ["-- raw\n", *(f"{_word(insn)} # {note}\n" for insn, note in self.raw)]
        else:
            parts += ["-- asm\n", *(f"{line}\n" for line in self.asm)]
        if self.error:
            parts += ["-- error\n", f"{self.error}\n"]
        else:
            parts += ["-- result\n", f"0x{self.result:x}\n"]
        return "".join(parts)


def _rows(data):
    return [data[start : start + 8].hex(" ") + "\n" for start in range(0, len(data), 8)]


def _word(insn):
    """Section 3.1: opcode, registers, offset, immediate, from the low byte up."""
    code, dst, src, off, imm = insn
    return f"0x{code | dst << 8 | src << 12 | (off & 0xFFFF) << 16 | (imm & 0xFFFFFFFF) << 32:016x}"


def hexadecimal(number):
    return f"0x{number % 2**64:x}"


def put(register, number):
    """Line that puts 64 bits into a register."""
    return f"lddw %r{register}, {hexadecimal(number)}"
