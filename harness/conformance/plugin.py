# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""bpfthrow-plugin: runs one program for the public suite bpf_conformance, by its protocol.

Owns arguments, standard input and output, exit codes. Starts once for each test of a suite: what
is not needed for a run of raw instructions is imported where it is used, and argparse is not used.
"""

import gc
import os
import sys

# the process ends before a collection would find anything
gc.disable()

from harness.conformance import machine  # noqa: E402  # after the switch: imports trigger most of it
from harness.errors import BpfthrowError, ObjectError, UsageError  # noqa: E402

# typing costs more than the rest of this module
TYPE_CHECKING = False
if TYPE_CHECKING:
    from harness.bpf.program import Program

_HELP = """\
usage: bpfthrow-plugin [MEMORY] [--elf] [--program HEX] [--engine NAME] [--debug]

Runs one BPF program from its first instruction and prints R0 in hex: a plugin for the public
suite bpf_conformance.

  MEMORY         bytes in hex that R1 points to; R2 is their number. Without it both are 0
  --program HEX  the instructions; otherwise they are read from standard input, in hex
  --elf          what is read is an ELF object, in hex too; its function `main` is run
  --engine NAME  reference (default), source or native
  --debug        each instruction on standard error before it runs, with the registers it reads

exit codes: 0 it ran   1 it did not: one line on standard error says why   2 wrong usage

examples:
  echo 'b7 00 00 00 2a 00 00 00  95 00 00 00 00 00 00 00' | bpfthrow-plugin
  bpfthrow-plugin '01 02' --program '79 10 00 00 00 00 00 00  95 00 00 00 00 00 00 00'
  bpf_conformance_runner --test_file_directory tests --plugin_path .venv/bin/bpfthrow-plugin
"""
_MAX_INPUT_BYTES = 64 << 20
_FLAGS = ("--elf", "--debug")
_VALUES = ("--program", "--engine")


def script() -> None:
    """What the console script calls: ends the process at once, without taking Python apart."""
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = 1
    os._exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Run one program; the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if "--help" in given or "-h" in given:
        print(_HELP, end="")
        return 0
    try:
        return _run(*_parse(given))
    except BpfthrowError as error:
        print(f"bpfthrow-plugin: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 130


def _parse(given: list[str]) -> tuple[bytes, dict[str, str]]:
    """Memory and options. The suite puts memory first, and only where a test has some."""
    options: dict[str, str] = {}
    memory: bytes | None = None
    rest = iter(given)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in _VALUES:
            options[name] = value if equals else next(rest, "")
        elif word in _FLAGS:
            options[word] = "yes"
        elif word.startswith("-") or memory is not None:
            raise UsageError(f"unexpected argument {word[:60]!r}", fix="bpfthrow-plugin --help")
        else:
            memory = _hexadecimal(word, "memory")
    return memory or b"", options


def _run(memory: bytes, options: dict[str, str]) -> int:
    text = options.get("--program")
    if text is None:
        text = _standard_input()
    data = _hexadecimal(text, "the program")
    try:
        code = _code_of(data) if "--elf" in options else data
    except ObjectError as error:
        print(error.message, file=sys.stderr)
        return 1
    result = machine.run(
        code,
        memory,
        options.get("--engine", "reference"),
        watch=_watch if "--debug" in options else None,
    )
    if result.r0 is None:
        print(result.error, file=sys.stderr)
        return 1
    print(f"{result.r0:x}")
    return 0


def _standard_input() -> str:
    data = sys.stdin.buffer.read(_MAX_INPUT_BYTES + 1)
    if len(data) > _MAX_INPUT_BYTES:
        raise UsageError(f"more than {_MAX_INPUT_BYTES >> 20} MiB on standard input")
    return data.decode("ascii", "replace")


def _hexadecimal(text: str, what: str) -> bytes:
    """Bytes of "b7 00 ..."; spaces do not matter."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        bad = next((word for word in text.split() if not _is_hexadecimal(word)), "")
        said = f"{bad[:40]!r} is no byte in hex" if bad else "odd number of digits"
        raise UsageError(f"{what}: {said}", fix="write bytes as: b7 00 00 00") from None


def _is_hexadecimal(word: str) -> bool:
    return len(word) % 2 == 0 and all(digit in "0123456789abcdefABCDEF" for digit in word)


def _code_of(data: bytes) -> bytes:
    """Instructions of the function `main` of an ELF object."""
    from harness.conformance.elf import main_of  # noqa: PLC0415  # see the module's docstring

    return main_of(data)


def _watch(program: "Program", pc: int, registers: list[int | None]) -> None:
    from harness.bpf.disasm import instruction  # noqa: PLC0415  # see the module's docstring
    from harness.bpf.isa import registers_read  # noqa: PLC0415

    values = (
        f"R{number}={'nothing' if registers[number] is None else hex(registers[number] or 0)}"
        for number in registers_read(program.insns[pc])
    )
    print(f"{pc:4}: {instruction(program, pc):40} {' '.join(values)}".rstrip(), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
