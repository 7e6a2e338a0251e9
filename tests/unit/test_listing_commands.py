# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow disasm` and `bpfthrow asm`."""

import io
import json
import subprocess
from dataclasses import replace

import pytest

from harness import build, cli
from harness.bpf import isa
from harness.bpf.asm import assemble
from harness.bpf.elf import read_object
from harness.bpf.link import link


@pytest.fixture(scope="module")
def path():
    return str(build.build([build.PROGS / "packet" / "parser_xdp.bpf.c"])[0])


def output(capsys, *arguments, code=0):
    assert cli.main(list(arguments)) == code
    return capsys.readouterr().out


def test_linked_program_with_lines_of_c(path, capsys):
    text = output(capsys, "disasm", path, "--prog", "truncated", "--linked")
    lines = text.splitlines()
    assert lines[0] == "truncated:\t\t; section xdp"
    assert "; bpf_throw(SHORT); @ parser.h:35" in lines
    assert any(line.endswith(": (85) call bpf_throw") for line in lines)
    assert any("#parse_network" in line for line in lines)


def test_functions_of_an_object_name_what_relocations_refer_to(path, capsys):
    lines = output(capsys, "disasm", path, "--prog", "truncated", "--no-lines").splitlines()
    assert lines[1] == "   0: (61) r2 = *(u32 *)(r1 +4)"
    assert "\t; parse" in lines[3] or "\t; .text" in lines[3]
    assert not any(line.startswith(";") for line in lines)


def test_llvm_without_lines_is_llvm_objdump(path, capsys):
    expected = subprocess.run(
        ["llvm-objdump-19", "-d", path], capture_output=True, text=True, check=True
    )
    assert output(capsys, "disasm", path, "--dialect", "llvm", "--no-lines") == expected.stdout


def test_source_of_a_linked_program_is_what_asm_reads(path, capsys):
    text = output(capsys, "disasm", path, "--prog", "truncated", "--linked", "--dialect", "source")
    program, again = link(read_object(path), "truncated"), assemble(text)
    assert (again.name, again.section) == ("truncated", "xdp")
    assert [(f.name, f.start, f.end, f.linkage) for f in again.functions] == [
        (f.name, f.start, f.end, f.linkage) for f in program.functions
    ]
    # that a kernel may lack the function is not in the text
    assert again.refs == {pc: replace(ref, weak=False) for pc, ref in program.refs.items()}
    assert again.insns == program.insns


def test_json_of_a_listing(path, capsys):
    listed = json.loads(output(capsys, "disasm", path, "--prog", "truncated", "--json"))
    (function,) = listed["functions"]
    assert (function["name"], function["section"]) == ("truncated", "xdp")
    first = function["instructions"][0]
    assert (first["index"], first["text"]) == (0, "(61) r2 = *(u32 *)(r1 +4)")
    assert bytes.fromhex(first["bytes"]) == read_object(path).text["xdp"][:8]
    assert first["line"]["number"] == 9


def test_bare_instructions(tmp_path, capsys):
    file = tmp_path / "x.bin"
    file.write_bytes(isa.encode(assemble("r0 = 5\nexit").insns))
    assert output(capsys, "disasm", str(file), "--raw").splitlines() == [
        "main:", "   0: (b7) r0 = 5", "   1: (95) exit",
    ]  # fmt: skip


def test_asm_prints_hex_and_writes_bytes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "sys.stdin", io.TextIOWrapper(io.BytesIO(b"r1 = 0x5\ncall f\nexit\nf: exit"))
    )
    assert output(capsys, "asm", "-").splitlines() == [
        "1801000005000000  # r1 = 0x5", "0000000000000000",
        "8510000001000000  # call pc+1#f", "9500000000000000  # exit", "9500000000000000  # exit",
    ]  # fmt: skip
    source, out = tmp_path / "x.s", tmp_path / "x.bin"
    source.write_text("call bpf_throw\nexit")
    assert output(capsys, "asm", str(source), "-o", str(out)) == ""
    assert out.read_bytes().hex() == "85200000000000009500000000000000"
    made = json.loads(output(capsys, "asm", str(source), "--json"))
    assert made["refers_to"] == [{"index": 0, "kind": "kfunc", "name": "bpf_throw", "offset": 0}]
    assert made["functions"] == [{"name": "main", "start": 0, "end": 2, "linkage": "global"}]


def test_check_names_what_a_kernel_does_not_take(tmp_path, capsys):
    source = tmp_path / "x.s"
    source.write_text("r0 = load_acquire((u8 *)(r1 +0))\nexit")
    assert cli.main(["asm", str(source), "--check", "6.12"]) == 1
    assert "instruction 0: unknown opcode d3" in capsys.readouterr().err
    assert cli.main(["asm", str(source), "--check", "6.18"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["asm", "absent.s"], "absent.s: cannot be read: No such file"),
        (["asm", ""], "'': cannot be read: No such file"),
        (["asm", "/dev/zero"], "/dev/zero: larger than 64 MiB"),
        (["asm", "wrong.s"], "wrong.s:2:4: expected"),
        (["asm", "bytes.s"], "bytes.s: not text (byte 0)"),
        (["asm", "good.s", "--check", "new"], "--check new: no kernel release"),
        (["asm", "good.s", "-o", "absent/x.bin"], "absent/x.bin: cannot be written"),
        (["disasm", "absent.o"], "absent.o: no such file"),
        (["disasm", "good.s"], "good.s: not an ELF file"),
        (["disasm", "good.s", "--raw"], "is not a whole number of instructions"),
        (["disasm", "good.s", "--raw", "--linked"], "--raw knows no programs"),
    ],
)
def test_mistakes_are_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.s").write_text("r0 = 0\nr0 )")
    (tmp_path / "good.s").write_text("exit\n")
    (tmp_path / "bytes.s").write_bytes(b"\xff\xfe")
    assert cli.main(arguments) == 2
    assert words in capsys.readouterr().err
