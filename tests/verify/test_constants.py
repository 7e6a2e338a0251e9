# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Branches that 7.3 decides before it follows a path; rule: kernel/bpf/const_fold.c."""

import pytest

from harness.bpf import asm, isa, writeelf
from harness.bpf.elf import read_object
from harness.bpf.link import link
from harness.verify import constants
from harness.verify.predict import predict
from harness.verify.prediction import Verdict

# what is compared -> whether the branch behind it is taken (None: it stays one)
BRANCHES = {
    "r2 = 5\nif r2 > 4 goto out": True,
    "r2 = 5\nif r2 == 4 goto out": False,
    "w2 = -1\nif r2 s< 0 goto out": False,
    "w2 = -1\nif w2 s< 0 goto out": True,
    # 64 bits are not kept
    "r2 = -1\nif r2 s< 0 goto out": None,
    "r2 = 5\nr2 += -5\nif r2 == 0 goto out": True,
    "r2 = *(u32 *)(r1 +0)\nr2 &= 0\nif r2 == 0 goto out": True,
    "r2 = *(u32 *)(r1 +0)\nr2 &= 1\nif r2 > 1 goto out": None,
    "r2 = 5\nr3 = 5\nif r2 == r3 goto out": True,
    "r2 = 5\ncall bpf_ktime_get_ns\nif r0 == 5 goto out": None,
    "r6 = 5\ncall bpf_ktime_get_ns\nif r6 & 4 goto out": True,
    "r2 = 255\nr2 = (s8)r2\nr2 += 1\nif r2 == 0 goto out": True,
    # two ways with two numbers
    "r2 = 5\nr3 = *(u32 *)(r1 +0)\nif r3 == 0 goto on\nr2 = 6\non: if r2 == 5 goto out": None,
    # a shift is not followed
    "r2 = 5\nr2 <<= 1\nif r2 == 10 goto out": None,
}
END = "r0 = 0\nout: r0 = 1\nexit"


def linked(tmp_path, body):
    path = tmp_path / "p.bpf.o"
    text = f".section tc\n.func main global\n{body}"
    path.write_bytes(writeelf.write_object(asm.assemble(text), "GPL"))
    return read_object(path)


@pytest.mark.parametrize("body", BRANCHES)
def test_which_branches_are_jumps(tmp_path, body):
    program = link(linked(tmp_path, f"{body}\n{END}"), "main")
    at = max(pc for pc, insn in enumerate(program.insns) if insn.op in isa.JUMP_OPS
             and insn.code & 7 in (5, 6))  # fmt: skip
    after = constants.pruned(program, {}).insns[at]
    off = program.insns[at].off
    taken = {(isa.JA, off): True, (isa.JA, 0): False}.get((after.code, after.off))
    assert taken is BRANCHES[body]
    assert taken is not None or after == program.insns[at]


DEAD_RECURSION = f"""
    call f
    exit
.func f
    r6 = 0
    if r6 == 0 goto out
    call f
    {END}
"""


def test_recursion_behind_a_decided_branch_is_found_later(tmp_path):
    """7.3 said so of such a program: the walk over all calls refuses it, not the one before."""
    found = predict(linked(tmp_path, DEAD_RECURSION), "main", "7.3")
    assert (found.verdict, found.errno) == (Verdict.REJECT, 7)
    alive = DEAD_RECURSION.replace("r6 = 0", "r6 = *(u32 *)(r1 +0)").replace("r6 == 0", "r6 == 9")
    found = predict(linked(tmp_path, alive), "main", "7.3")
    assert found.errno == 22
    assert found.message.startswith("recursive call")


LOOP = f"""
    r6 = *(u32 *)(r1 +0)
again:
    if r6 != 0 goto on
    r1 = 0
    call bpf_throw
on: r7 = 0
    if r7 != 0 goto again
    {END}
"""


def test_a_loop_that_is_none(tmp_path):
    """Its way back is never taken, so that the throw in it is in no loop of 7.3 (kernel bug C)."""
    assert predict(linked(tmp_path, LOOP), "main", "7.3").verdict is Verdict.ACCEPT
    assert predict(linked(tmp_path, LOOP), "main", "6.18").errno == 14
