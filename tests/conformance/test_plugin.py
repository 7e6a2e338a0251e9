# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The plugin's protocol, and that nothing that it is given breaks it."""

import contextlib
import io
import struct
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conformance import elf, machine, plugin
from harness.errors import ObjectError

EXIT = "95 00 00 00 00 00 00 00"
RETURN_R2 = "bf 20 00 00 00 00 00 00  " + EXIT
LOAD_R1 = "79 10 00 00 00 00 00 00  " + EXIT
FOREVER = bytes.fromhex("05 00 ff ff 00 00 00 00" + EXIT)


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the plugin: (exit code, standard output, standard error)."""

    def run(*argv, stdin=b""):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
        code = plugin.main(list(argv))
        return (code, *capsys.readouterr())

    return run


def test_program_on_standard_input_and_memory_as_first_argument(call):
    """As the public runner writes them: two spaces behind each byte, one line."""
    memory = "".join(f"{byte:02x}  " for byte in (1, 2, 3, 4, 5, 6, 7, 0x88))
    assert call(memory, stdin=LOAD_R1.encode() + b"\n") == (0, "8807060504030201\n", "")
    assert call(memory, "--debug", stdin=RETURN_R2.encode())[:2] == (0, "8\n")


def test_without_memory(call):
    assert call(stdin=RETURN_R2.encode()) == (0, "0\n", "")


@pytest.mark.parametrize("argv", [("--program", RETURN_R2), (f"--program={RETURN_R2}",)])
def test_program_as_option(call, argv):
    assert call("00 00 00", *argv) == (0, "3\n", "")


def test_engine(call):
    assert call("--engine", "reference", "--program", RETURN_R2) == (0, "0\n", "")
    code, out, error = call("--engine", "none", "--program", RETURN_R2)
    assert (code, out) == (2, "")
    assert "no engine 'none'" in error
    assert "reference" in error


def test_debug_shows_instructions_and_what_they_read(call):
    code, out, error = call("01 02", "--debug", "--program", RETURN_R2)
    assert (code, out) == (0, "2\n")
    assert "0: r0 = r2" in error
    assert "R2=0x2" in error
    assert "exit" in error


@pytest.mark.parametrize(
    ("program", "said"),
    [("b7", "code of 1 bytes"), ("", "no instructions"), (EXIT, "R0 of main is not initialised"),
     ("85 00 00 00 63 00 00 00 " + EXIT, "helper 99"),
     ("85 20 00 00 01 00 00 00 " + EXIT, "instruction 0"),
     ("20 00 00 00 00 00 00 00 " + EXIT, "instruction 0"),
     ("40 00 00 00 00 00 00 00 " + EXIT, "instruction 0"),
     ("bf 11 01 00 01 00 00 00 " + EXIT, "instruction 0"),
     ("0d 10 00 00 00 00 00 00 " + EXIT, "instruction 0"),
     *((f"18 {src}0 00 00 01 00 00 00 00 00 00 00 00 00 00 00 " + EXIT, "instruction 0")
       for src in range(1, 7)),
     ("79 10 00 00 00 00 00 00 " + EXIT, "not a pointer"),
     ("79 a0 00 00 00 00 00 00 " + EXIT, "out of bounds"),
     ("79 a0 f8 ff 00 00 00 00 " + EXIT, "never written")],
)  # fmt: skip
def test_program_that_does_not_run(call, engine, program, said):
    """One line on standard error, exit code 1: the runner compares it with the test's text."""
    code, out, error = call("--engine", engine, "--program", program)
    assert (code, out) == (1, "")
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [("xyz",), ("0",), ("00", "11"), ("--elfe",), ("--program", "0g"), ("-x",),
     ("--program", "b7", "--engine"), ("00 1",)],
)  # fmt: skip
def test_wrong_usage(call, argv):
    code, out, error = call(*argv)
    assert (code, out) == (2, "")
    assert error.startswith("bpfthrow-plugin: ")


def test_help(call):
    code, out, error = call("--help")
    assert (code, error) == (0, "")
    assert "examples:" in out


def test_endless_loop_ends_with_the_budget():
    result = machine.run(FOREVER, budget=1000)
    assert result.r0 is None
    assert result.error.startswith("instruction budget used up")
    assert result.budget == 0


def test_memory_afterwards():
    store = bytes.fromhex("72 01 01 00 2a 00 00 00  b7 00 00 00 00 00 00 00" + EXIT)
    assert machine.run(store, b"\1\2\3").memory == b"\1\x2a\3"


def test_far_jump():
    """Distance 33000: beyond the 16 bits of ja; as a file it would have as many lines."""
    far = struct.pack("<BBhi", 0x06, 0, 0, 33000)
    between = struct.pack("<BBhi", 0xB7, 0, 0, 9) * 33000
    start = struct.pack("<BBhi", 0xB7, 0, 0, 7)
    result = machine.run(start + far + between + bytes.fromhex(EXIT))
    assert (result.r0, result.error) == (7, "")
    assert result.budget == machine.DEFAULT_BUDGET - 3


# ---- ELF ---------------------------------------------------------------------------------------


def elf_object(code, *, name="main", section=".text", size=None, kind=2, relocation=b""):
    """An object as the public runner writes them: names, symbols, code."""
    names = f"\0.shstrtab\0.symtab\0{section}\0.rel\0{name}\0".encode()

    def at(word):
        return names.index(b"\0" + word.encode() + b"\0") + 1

    symbols = bytes(24) + struct.pack(
        "<IBBHQQ", at(name), 0x10 | kind, 0, 3, 0, len(code) if size is None else size
    )
    parts = [(".shstrtab", 3, names, 0, 0), (".symtab", 2, symbols, 1, 1), (section, 1, code, 0, 0)]
    if relocation:
        parts.append((".rel", 9, relocation, 2, 3))
    body, headers = b"", bytes(64)
    for word, section_type, data, link, info in parts:
        headers += struct.pack(
            "<IIQQQQIIQQ", at(word), section_type, 6 if word == section else 0, 0,
            64 + len(body), len(data), link, info, 8, 0,
        )  # fmt: skip
        body += data
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 1, 247, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64,
        len(parts) + 1, 1,
    )  # fmt: skip
    return header + body + headers


def test_elf(call):
    data = elf_object(bytes.fromhex(LOAD_R1))
    memory = "01 00 00 00 00 00 00 00"
    assert call(memory, "--elf", stdin=data.hex(" ").encode()) == (0, "1\n", "")
    data = elf_object(bytes.fromhex(LOAD_R1), section="xdp", size=0)
    assert call(memory, "--elf", stdin=data.hex(" ").encode()) == (0, "1\n", "")


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "empty file"), (b"\x7fELF", "truncated"), (b"hello", "not an ELF"),
     (elf_object(b"\0" * 8)[:-1], "truncated"),
     (elf_object(b"\0" * 8, name="other"), "no function 'main'"),
     (elf_object(b"\0" * 8, kind=1), "no function 'main'"),
     (elf_object(b"\0" * 8, size=16), "outside its section"),
     (elf_object(b"\0" * 8, relocation=bytes(16)), "relocations"),
     (elf_object(b"\0" * 8).replace(b"\xf7\0", b"\x3e\0", 1), "not for BPF")],
)  # fmt: skip
def test_broken_elf(call, data, said):
    with pytest.raises(ObjectError, match=said):
        elf.main_of(data)
    code, out, error = call("--elf", stdin=data.hex().encode())
    assert (code, out) == (1, "")
    assert said in error
    assert error.count("\n") == 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_any_elf_is_read_or_refused(data, place, change):
    good = elf_object(bytes.fromhex(RETURN_R2))
    place %= len(good)
    for given_data in (
        data,
        b"\x7fELF" + data,
        good[:place] + change + good[place + len(change) :],
    ):
        with contextlib.suppress(ObjectError):
            assert isinstance(elf.main_of(given_data), bytes)


# ---- any bytes as a program --------------------------------------------------------------------

_OPCODES = sorted({
    0x18, 0x85, 0x95, 0x05, 0x06, 0xE5, 0x8D, 0x0D, 0xD4, 0xDC, 0xD7, 0x84, 0x87,
    *(op | cls | x for op in range(0, 0xE0, 0x10) for cls in (4, 5, 6, 7) for x in (0, 8)),
    *(0x60 | size | cls for size in (0, 8, 16, 24) for cls in (1, 2, 3)),
    *(0x80 | size | 1 for size in (0, 8, 16)), 0xC3, 0xDB, 0xD3, 0xCB,
    0x20, 0x28, 0x30, 0x40, 0x48, 0x50,
})  # fmt: skip
_INSN = st.builds(
    lambda code, dst, src, off, imm: struct.pack("<BBhi", code, dst | src << 4, off, imm),
    st.sampled_from(_OPCODES), st.integers(0, 10), st.integers(0, 10),
    st.sampled_from([0, 0, 0, 1, -1, 2, -8, 8, 16, 32, -512]),
    st.sampled_from([0, 0, 0, 1, 2, 5, -1, 16, 32, 64, 0xE1, 0xF1, 0x100, 0x110, -(2**31)]),
)  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(st.one_of(st.lists(_INSN, max_size=12).map(b"".join), st.binary(max_size=64)),
       st.sampled_from(list(machine.ENGINES)))  # fmt: skip
def test_any_program_is_a_result(code, engine):
    """A number or one line of text, and no more work than the budget."""
    try:
        machine.engine_named(engine)
    except machine.UsageError:
        engine = "reference"
    result = machine.run(code + bytes.fromhex(EXIT), b"\1" * 16, engine, budget=2000)
    assert (result.r0 is None) == bool(result.error)
    assert "\n" not in result.error
    assert 0 <= result.budget <= 2000
    assert result.r0 is None or 0 <= result.r0 < 2**64
