# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Unwinding as a property: call chains that hypothesis makes, held against what they took."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from harness.bpf import btf
from harness.bpf.btfext import Ext
from harness.bpf.elf import Object
from harness.bpf.isa import Insn
from harness.bpf.program import LinkedFunction, Program, Ref, RefKind
from harness.sim import semantics
from harness.sim.context import Context
from harness.sim.frames import allow_depth
from harness.sim.machine import Machine
from harness.sim.signals import Fault
from harness.sim.trace import Trace

CALL, EXIT, MOV64_IMM, MOV64_REG, ADD64_IMM = 0x85, 0x95, 0xB7, 0xBF, 0x07
KFUNC, SUBPROGRAM = 2, 1
# what is taken -> kernel function, whether it needs a stack slot, what gives it back
TAKEN = {
    "rcu": ("bpf_rcu_read_lock", False, "bpf_rcu_read_unlock"),
    "preempt": ("bpf_preempt_disable", False, "bpf_preempt_enable"),
    "irq": ("bpf_local_irq_save", True, "bpf_local_irq_restore"),
    "iterator": ("bpf_iter_num_new", True, "bpf_iter_num_destroy"),
}
COOKIE = 77
NO_TYPES = btf.parse(struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 1) + b"\0")

# of each function, outermost first: linkage, and what it takes before it calls or throws
CHAINS = st.lists(
    st.tuples(st.sampled_from(["static", "global"]), st.lists(st.sampled_from(sorted(TAKEN)))),
    min_size=1,
    max_size=7,
)


def insn(code, dst=0, src=0, off=0, imm=0):
    return Insn(code, dst, src, off, imm)


def body(taken, is_last):
    """Instructions of one function, and its kernel functions by index."""
    code, refs, slot = [], {}, 0
    for name in taken:
        kfunc, needs_slot, _ = TAKEN[name]
        if needs_slot:
            slot -= 8
            code += [insn(MOV64_REG, 1, 10), insn(ADD64_IMM, 1, 0, 0, slot)]
            code += [insn(MOV64_IMM, 2), insn(MOV64_IMM, 3, imm=5)]
        refs[len(code)] = Ref(RefKind.KFUNC, kfunc)
        code.append(insn(CALL, 0, KFUNC))
    if is_last:
        code.append(insn(MOV64_IMM, 1, imm=COOKIE))
        refs[len(code)] = Ref(RefKind.KFUNC, "bpf_throw")
        code.append(insn(CALL, 0, KFUNC))
    else:  # the next function follows this one
        code.append(insn(CALL, 0, SUBPROGRAM, 0, 2))
    return [*code, insn(MOV64_IMM), insn(EXIT)], refs


def linked(chain):
    """The program of a chain: each function calls the next one, the last one throws."""
    insns, functions, refs = [], [], {}
    for number, (linkage, taken) in enumerate(chain):
        start = len(insns)
        code, found = body(taken[:20], number == len(chain) - 1)
        insns += code
        refs |= {start + at: ref for at, ref in found.items()}
        functions.append(LinkedFunction(f"f{number}", start, len(insns), linkage))
    return Program("f0", "tc", tuple(insns), tuple(functions), refs, {})


def machine_of(chain, profile):
    empty = Object("", (), (), (), (), (), "GPL", NO_TYPES, Ext())
    made = Machine(empty, semantics.profile(profile), Trace(on=True))
    made.program_type = "tc"
    made._programs["f0"] = linked(chain)
    return made


def context_of(machine):
    return Context(machine.memory.region("ctx", bytearray(8)).address)


# hypothesis minds a limit that moves while it runs
allow_depth()


@given(CHAINS)
def test_cleanup_releases_all_newest_first_frame_by_frame(chain):
    machine = machine_of(chain, "cleanup")
    assert machine.run("f0", context_of(machine)) == COOKIE
    told = [line.strip() for line in machine.trace.text().splitlines()]
    told = [line.split()[1 if line[0] == "~" else 3] for line in told if line[0] in "~x"]
    expected = []
    for number, (_, taken) in reversed(list(enumerate(chain))):
        expected += [TAKEN[name][2] for name in reversed(taken[:20])]
        expected.append(f"f{number}")
    assert told == expected
    assert machine.resources.live == []


@given(CHAINS)
def test_newest_kernel_refuses_a_throw_with_anything_held(chain):
    machine = machine_of(chain, "7.3")
    holds = any(taken for _, taken in chain)
    try:
        value = machine.run("f0", context_of(machine))
    except Fault:
        value = None
    assert value == (None if holds else COOKIE)
    assert machine.resources.leaked == []


@given(CHAINS)
def test_older_kernel_refuses_or_leaks_but_never_forgets(chain):
    machine = machine_of(chain, "6.18")
    try:
        machine.run("f0", context_of(machine))
    except Fault:
        assert machine.resources.leaked == []
    else:
        assert len(machine.resources.leaked) == sum(len(taken[:20]) for _, taken in chain)
        assert machine.resources.live == []
