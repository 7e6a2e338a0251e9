# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Objects that the assembler writes: read, linked, listed and run like compiled ones."""

import subprocess

import pytest

from harness import cli
from harness.bpf.asm import assemble
from harness.bpf.elf import read_object
from harness.bpf.link import RefKind, link
from harness.bpf.writeelf import write_object
from harness.errors import UsageError
from harness.model import Case, Input
from harness.sim import run_case

SOURCE = """
.section tc
.callback handler
.func entry global
        r6 = r1
        r1 = 3
        r2 = subprog[each]
        r3 = 0
        r4 = 0
        call bpf_loop
        r1 = 40
        call leaf
        r0 = 7
        exit
.func leaf
        call inner
        r1 = r0
        call bpf_throw
        r0 = 0
        exit
.func inner
        r1 += 2
        r0 = r1
        exit
.func each
        r0 = 0
        exit
.func handler global
        r0 = r1
        r0 += 1
        exit
"""


@pytest.fixture
def path(tmp_path):
    source, out = tmp_path / "x.s", tmp_path / "x.bpf.o"
    source.write_text(SOURCE)
    assert cli.main(["asm", str(source), "-o", str(out)]) == 0
    return out


def test_object_has_what_was_written(path):
    obj = read_object(path)
    assert [(p.name, p.section, p.tags) for p in obj.programs] == [
        ("entry", "tc", ("exception_callback:handler",))
    ]
    assert {(f.name, f.linkage) for f in obj.functions} == {
        ("leaf", "static"), ("inner", "static"), ("each", "static"), ("handler", "global"),
    }  # fmt: skip
    assert obj.license == "GPL"


def test_linker_makes_the_same_program_of_it(path):
    program, linked = assemble(SOURCE), link(read_object(path), "entry")
    assert {f.name for f in linked.functions} == {f.name for f in program.functions}
    assert linked.exception_callback is not None
    assert linked.functions[linked.exception_callback].name == "handler"
    assert [r.name for r in linked.refs.values() if r.kind is RefKind.KFUNC] == ["bpf_throw"]
    entry = program.functions[0]
    ours, theirs = (p.insns[entry.start : entry.end] for p in (program, linked))
    assert [(i.code, i.src) for i in ours] == [(i.code, i.src) for i in theirs]


def test_simulator_runs_it(path):
    frame = bytes(14) + bytes(50)
    case = Case("t", str(path), "entry", "tc", "test_run", Input(packet=frame), 1)
    seen = run_case(case, "6.12", trace=True)
    assert (seen.verdict, seen.retval) == ("ran", 43)
    # lines of the assembler text are the lines of the trace
    assert "x.s:" in seen.trace


def test_llvm_reads_it(path):
    dumped = subprocess.run(
        ["llvm-objdump-19", "-d", "-r", path], capture_output=True, text=True, check=True
    ).stdout
    assert "R_BPF_64_32\tbpf_throw" in dumped
    assert "<entry>:" in dumped
    assert "<handler>:" in dumped


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (".section tc\nr1 = map[hits]\nexit", "map 'hits': nobody declared it"),
        (".section tc\nr1 = ksym[x]\nexit", "extern x: an assembled object does not know"),
        (".section tc\ncall bpf_unheard_of\nexit", "does not know its prototype"),
        (".section tc\ncall pc-9\nexit", "leads to -8, where no function starts"),
    ],
)
def test_what_only_c_can_say(text, words):
    with pytest.raises(UsageError, match=words):
        write_object(assemble(text))


def test_an_object_needs_a_section(tmp_path, capsys):
    (tmp_path / "x.s").write_text("exit")
    assert cli.main(["asm", str(tmp_path / "x.s"), "-o", str(tmp_path / "x.o")]) == 2
    assert ".section tc" in capsys.readouterr().err
