# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table of rules, against what kernels said (tests/data/load-log) and what cases declare."""

import re
from pathlib import Path

import pytest

from harness import normalize, refusals
from harness.refusals import RULES, rule_of

DATA = Path(__file__).parent.parent / "data" / "load-log"
CATEGORIES = {
    "register-type", "memory", "resource-lifetime", "call-type", "execution-context",
    "program-structure", "policy", "loader",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("6.1-no-kfunc", "no-exceptions"),
        ("6.12-reference-held", "reference-held"),
        ("6.12-iterator-live", "reference-held"),
        ("6.18-iterator-live", "reference-held"),
        ("7.3-iterator-live", "reference-held"),
        ("7.3-rcu-held", "rcu-held"),
        ("6.12-too-deep", "calls-too-deep"),
        ("7.3-missing-newline", "callback-called"),
        ("6.18-unguarded-index", "out-of-bounds"),
    ],
)
def test_rule_of_real_logs(name, rule):
    found = rule_of(normalize.messages((DATA / f"{name}.txt").read_text()))
    assert found is not None
    assert found.rule.name == rule


@pytest.mark.parametrize(
    ("wordings", "rule"),
    [
        # one rule, as 6.12, 6.18 and 7.3 word it
        (("bpf_rcu_read_unlock is missing",
          "BPF_EXIT instruction in main prog cannot be used inside bpf_rcu_read_lock-ed region",
          "bpf_throw cannot be used inside bpf_rcu_read_lock-ed region"), "rcu-held"),
        (("1 bpf_preempt_enable is missing", "2 bpf_preempt_enable(s) are missing",
          "bpf_throw cannot be used inside bpf_preempt_disable-ed region"), "preemption-disabled"),
        (("Global function cb() doesn't return scalar. Only those are supported.",
          "Global function cb() return value not void or scalar. Only those are supported.",
          "exception cb cannot return void"), "callback-returns"),
        (("cannot tail call within exception cb", "cannot tail call within callback"),
         "tail-call-in-callback"),
        (("prog 'refused': cannot find exception callback 'nowhere'",
          "exception callback 'nowhere' could not be found in BTF"), "callback-unknown"),
        (("verifier bug: scc exit: no visit info for call chain (2)",), "throw-in-loop"),
        (("the call stack of 9 frames is too deep !",), "calls-too-deep"),
        (("Extension programs cannot attach to exception callback",
          "Tracing programs cannot attach to exception callback"), "attached-to-callback"),
        (("variable ctx access var_off=(0x0; 0xf) disallowed",
          "dereference of modified ctx ptr R1 off=8 disallowed"), "context-access"),
        (("R1 is not a scalar", "variable ? access var_off=(0x0; 0xf) disallowed"),
         "cookie-is-no-number"),
        (("invalid indirect access to stack R3 off=-64 size=65",
          "invalid write to stack R3 off=-64 size=65",
          "invalid variable-offset write to stack R2 var_off=(0x0; 0x1f) off=-16 size=1",
          "invalid unbounded variable-offset read from stack R1"), "out-of-bounds"),
        (("invalid read from stack off -8+0 size 8", "invalid indirect read from stack R2 off -8+0 "
          "size 8"), "never-written"),
        (("R4 invalid zero-sized read: u64=[0,64]", "invalid zero-sized read"), "no-bytes"),
        (("cannot write into packet", "only read is supported",
          "R6 cannot write into rdonly_mem"), "read-only"),
        (("value -2147483648 makes fp pointer be out of bounds",
          "math between fp pointer and register with unbounded min value is not allowed"),
         "offset-of-pointer"),
        (("Possibly NULL pointer passed to trusted arg0",
          "Possibly NULL pointer passed to trusted R1"), "may-be-null"),
        (("arg#0 pointer type STRUCT task_struct must point to scalar, or struct with scalar",
          "release kfunc bpf_task_release expects referenced PTR_TO_BTF_ID passed to R1"),
         "not-owned"),
        (("At callback return the register R0 has smin=0 smax=5 should have been in [0, 1]",
          "At async callback return the register R1 has smin=1 smax=1 should have been in [0, 0]"),
         "callback-value"),
        (("cannot return stack pointer to the caller",
          "cannot spill pointers to stack into stack frame of the caller"), "frame-left"),
        (("Arg#0 type STRUCT in f() is not supported yet.",
          "Caller passes invalid args into func#1 ('f')"), "argument-of-global"),
        (("bpf_spin_lock at off=0 must be held for bpf_list_head",), "lock-of-another"),
        (("timer pointer in R1 map_uid=0 doesn't match map pointer in R2 map_uid=0",),
         "of-another-map"),
        (("BPF_ATOMIC stores into R6 pkt is not allowed",), "atomic-elsewhere"),
        (("R4 must be a known constant",), "not-constant"),
        (("Expected an initialized dynptr as arg #0", "cannot overwrite referenced dynptr",
          "expected an initialized iter_num as arg #0"), "dynptr-or-iterator"),
        (("program of this type cannot use helper bpf_redirect_map",), "helper-not-for-type"),
        (("cannot pass map_type 1 into func bpf_redirect_map",), "wrong-map"),
        (("sleepable helper bpf_copy_from_user in rcu_read_lock region",
          "helper call might sleep in a non-sleepable prog"), "sleeps"),
        (("cannot call kernel function from non-GPL compatible program",
          "cannot call GPL-restricted function from non-GPL compatible program"), "licence"),
        # the general row does not hide the one for bpf_throw
        (("calling kernel function bpf_throw is not allowed",), "type-may-not-throw"),
        (("calling kernel function bpf_obj_new_impl is not allowed",), "no-such-kfunc"),
    ],
)  # fmt: skip
def test_wordings(wordings, rule):
    for wording in wordings:
        found = rule_of([normalize.message(wording)])
        assert found is not None, wording
        assert found.rule.name == rule


def test_the_last_message_decides_and_the_others_of_its_rule_have_the_numbers():
    found = rule_of([
        "R1 is not a scalar",
        "Unreleased reference id=# alloc_insn=5",
        "Unreleased reference id=# alloc_insn=22",
        "bpf_throw would lead to reference leak",
    ])  # fmt: skip
    assert found.rule.name == "reference-held"
    assert found.numbers("taken") == [5, 22]
    assert len(found.messages) == 3
    assert rule_of(["something that nobody has heard of"]) is None
    assert rule_of([]) is None


def test_a_part_of_a_message_is_no_message():
    assert rule_of(["R1 is not a scalar value of some other kind"]) is None


def test_rows_are_complete():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    for rule in RULES:
        assert rule.category in CATEGORIES
        assert rule.words
        assert rule.fix
        assert rule.said_by
        assert refusals.named(rule.name) is rule
        for wording in rule.wordings:
            re.compile(wording)


def test_wordings_are_written_as_messages_are_normalised():
    """A wording with a BTF id or an object id could never match."""
    for rule in RULES:
        for wording in rule.wordings:
            plain = re.sub(r"\\(.)", r"\1", wording)
            assert not re.search(r"(?<!alloc_insn=)\bid=\d|bpf_throw#\d", plain)
