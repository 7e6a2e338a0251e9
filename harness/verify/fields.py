# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Opcodes and fields of single instructions: what a kernel refuses at once, and what on the way.

Source: resolve_pseudo_ldimm64() and do_check() of 6.12, check_and_resolve_insns() of 7.3. The table
is harness.bpf.reserved's.
"""

from collections.abc import Iterator

from harness.bpf import reserved
from harness.bpf.reserved import Problem
from harness.verify.prediction import Subject
from harness.verify.rules import rules_of

# what kernels before 7.3, too, look at before they follow paths
_EARLY = ("unknown opcode", "BPF_LDX uses", "invalid bpf_ld_imm64", "unrecognized bpf_ld_imm64")


def early_problems(subject: Subject) -> Iterator[Problem]:
    """What is refused before any path is followed."""
    rules = rules_of(subject.profile)
    for problem in reserved.problems(subject.program.insns, rules.release):
        if rules.fields_first or problem.words.startswith(_EARLY):
            yield problem


def late_problems(subject: Subject) -> dict[int, str]:
    """Instruction -> what a kernel before 7.3 says of its fields when a path comes there."""
    rules = rules_of(subject.profile)
    if rules.fields_first:
        return {}
    found = reserved.problems(subject.program.insns, rules.release)
    return {each.pc: each.words for each in found if not each.words.startswith(_EARLY)}
