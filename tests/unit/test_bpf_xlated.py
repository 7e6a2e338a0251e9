# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel's dialect, against what bpftool showed of the same bytes in guests.

tests/record_xlated.py makes the recordings. Bytes are those after the verifier's rewriting, with
addresses of that kernel's helpers and functions, whose names were recorded from its own tables.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.bpf import disasm, isa
from harness.bpf.disasm import Names
from harness.bpf.helper_names import name_of

RECORDINGS = sorted((Path(__file__).parents[1] / "data/xlated").glob("*.txt"))


@dataclass
class Recorded:
    """One program of a recording."""

    name: str
    functions: dict[int, str] = field(default_factory=dict)
    # imm of a call -> name of what is there
    calls: dict[int, str] = field(default_factory=dict)
    code: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def programs(path):
    found = []
    for line in path.read_text().splitlines():
        first, _, rest = line.partition(" ")
        if first == "program":
            found.append(Recorded(rest))
        elif first in ("function", "call"):
            number, name = rest.split(" ", 1)
            target = found[-1].functions if first == "function" else found[-1].calls
            target[int(number)] = name
        elif first not in ("#", "kernel"):
            found[-1].code.append(first)
            found[-1].lines.append(rest)
    return found


def names_of(program):
    """What bpftool knows: print_call() in tools/bpf/bpftool/xlated_dumper.c."""

    def call(_pc, insn):
        if insn.src == isa.PSEUDO_CALL:
            return f"pc{insn.off:+d}#{program.functions[insn.imm]}"
        if insn.src == isa.HELPER_CALL and name_of(insn.imm) is not None:
            return None
        return f"{program.calls[insn.imm]}#{insn.imm}"

    return Names(call=call)


def test_there_are_recordings_of_two_kernels():
    assert [path.stem for path in RECORDINGS] == ["6.12", "7.3"]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_listing_is_what_bpftool_showed(path):
    recorded = programs(path)
    assert len(recorded) >= 40
    shown = 0
    for program in recorded:
        insns = isa.decode(bytes.fromhex("".join(program.code)))
        names = names_of(program)
        ours = [disasm.line(insns, pc, names) for pc in disasm.starts(insns)]
        assert ours == program.lines, program.name
        shown += len(ours)
    assert shown > 1000


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recordings_hold_every_way_to_call_and_to_load(path):
    text = path.read_text()
    for words in ("call pc+", "map[id:", "][0]+", "subprog[", "call bpf_throw#", "goto pc+"):
        assert words in text, words
