# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Test vectors in the text format of the public conformance suite: one test for each .data file.

Owns the sections (`-- asm`, `-- raw`, `-- mem`, `-- result`, `-- error`) and what they mean.
Running a vector is harness.conformance.runner's business.
"""

from dataclasses import dataclass, field
from pathlib import Path

from harness.conformance.assembler import assemble
from harness.errors import ObjectError, UsageError

_M64 = 0xFFFF_FFFF_FFFF_FFFF
# looked for in this order, anywhere in the line: the suite's own parser does so
_SECTIONS = (
    ("asm", "asm"),
    ("result", "result"),
    ("mem", "mem"),
    ("raw", "raw"),
    ("no register offset", ""),
    (" c", ""),
    ("error", "error"),
)
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Vector:
    """One test: raw instructions, memory for R1, and what must come out."""

    # path below the directory that was asked for, without ".data"
    name: str
    code: bytes = field(repr=False)
    # bytes that R1 points to; b"": R1 and R2 are 0
    memory: bytes = b""
    # 64-bit R0; None where an error is expected
    result: int | None = None
    # exact text that is expected of the plugin, "" for none
    error: str = ""
    # why the format says that this is no test; "" where it is one
    skipped: str = ""
    # what is wrong with the file; "" where nothing is
    broken: str = ""

    @property
    def group(self) -> str:
        """Directory of the file; at the top, its name up to the first "-"."""
        directory, _, stem = self.name.rpartition("/")
        return directory or stem.partition("-")[0]


def read(directory: Path) -> list[Vector]:
    """All vectors below a directory, or of one file, by name.

    A file that cannot be understood is a vector that is `broken`. Raises UsageError where there
    are none.
    """
    if directory.is_file():
        return [_of_file(directory, directory.stem)]
    if not directory.is_dir():
        raise UsageError(f"{directory}: no such directory", fix="give a directory of .data files")
    files = sorted(directory.rglob("*.data"))
    if not files:
        raise UsageError(f"{directory}: no .data file in it")
    return [_of_file(f, f.relative_to(directory).with_suffix("").as_posix()) for f in files]


def _of_file(file: Path, name: str) -> Vector:
    try:
        return parse(_text(file), name, str(file))
    except ObjectError as error:
        return Vector(name, b"", broken=error.message)


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ObjectError(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise ObjectError(f"{file}: larger than {_MAX_BYTES >> 20} MiB: not a test vector")
    return data.decode("utf-8", "replace")


def parse(text: str, name: str, path: str) -> Vector:
    """One vector out of a file's text. Raises ObjectError that says `path:line: ...`."""
    lines: dict[str, list[tuple[int, str]]] = {
        key: [] for key in ("", "asm", "raw", "mem", "result", "error")
    }
    section = ""
    for number, whole in enumerate(text.splitlines(), 1):
        line = whole.partition("#")[0]
        if "--" in line:
            found = next((key for word, key in _SECTIONS if word in line), None)
            if found is None:
                return Vector(name, b"", skipped=f"unknown directive {line.strip()!r}")
            section = found
        elif line.strip():
            lines[section].append((number, line))
    if not lines["result"] and not lines["error"]:
        return Vector(name, b"", skipped="neither a result nor an error is expected")
    code = _raw(lines["raw"], path) if lines["raw"] else assemble(lines["asm"], path)
    if not code:
        return Vector(name, b"", skipped="no instructions")
    return Vector(
        name=name,
        code=code,
        memory=_memory(lines["mem"], path),
        result=_last(lines["result"], path) if lines["result"] else None,
        error=lines["error"][-1][1].strip() if lines["error"] else "",
    )


def _integer(word: str, base: int, number: int, path: str, limit: int) -> int:
    try:
        value = int(word, base)
    except ValueError:
        raise ObjectError(f"{path}:{number}: {word!r} is not a number") from None
    if not -(limit >> 1) - 1 <= value <= limit:
        raise ObjectError(f"{path}:{number}: {word} is larger than {limit.bit_length()} bits")
    return value & limit


def _base(word: str) -> int:
    return 16 if "0x" in word.lower() else 10


def _raw(lines: list[tuple[int, str]], path: str) -> bytes:
    """Instructions as numbers of 64 bits, low byte first: opcode, registers, offset, immediate."""
    return b"".join(
        _integer(word, _base(word), number, path, _M64).to_bytes(8, "little")
        for number, line in lines
        for word in line.split()
    )


def _memory(lines: list[tuple[int, str]], path: str) -> bytes:
    return bytes(
        _integer(word, 16, number, path, 0xFF) for number, line in lines for word in line.split()
    )


def _last(lines: list[tuple[int, str]], path: str) -> int:
    number, line = lines[-1]
    return _integer(line.strip(), _base(line), number, path, _M64)
