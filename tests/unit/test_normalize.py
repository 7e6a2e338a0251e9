# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is volatile in logs, on logs as kernels really wrote them (tests/data/load-log)."""

from collections import Counter
from pathlib import Path

import pytest

from harness import normalize
from harness.normalize import Kind

DATA = Path(__file__).parent.parent / "data" / "load-log"
LOGS = {file.stem: file.read_text() for file in DATA.glob("*.txt")}
# same object on two kernels: the way to the end differs in these lines only
SAME_WAY = [
    ("6.12-iterator-live", "6.18-iterator-live",
     ["+BPF_EXIT instruction in main prog would lead to reference leak"]),
    ("6.18-iterator-live", "7.3-iterator-live",
     ["-BPF_EXIT instruction in main prog would lead to reference leak",
      "+bpf_throw would lead to reference leak"]),
    ("6.18-unguarded-index", "7.3-unguarded-index", []),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "changed"), SAME_WAY)
def test_two_kernels_go_the_same_way(one, other, changed):
    found = normalize.difference(LOGS[one], LOGS[other], context=0)
    assert [line for line in found[2:] if not line.startswith("@@")] == changed


def test_a_log_does_not_differ_from_itself_with_other_addresses_and_ids():
    log = LOGS["6.12-everything-held"]
    other = (
        log.replace("0xff191a3801c75d00", "0xff3fffa6c71f0c00")
        .replace("bpf_throw#59519", "bpf_throw#63305")
        .replace("id=5", "id=25")
        .replace("refs=2,5", "refs=2,25")
    )
    assert other.count("id=25") > 3
    assert normalize.telling(other) == normalize.telling(log)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        # what stands before and behind the explanation, and nothing of it
        ("7.3-iterator-live", ("Unreleased reference id=# alloc_insn=5",
                               "bpf_throw would lead to reference leak")),
        ("7.3-rcu-held", ("bpf_throw cannot be used inside bpf_rcu_read_lock-ed region",)),
        # the newline that the kernel forgot
        ("7.3-missing-newline", ("insn 1 cannot call exception cb directly",)),
        # not what it said on the way
        ("6.12-too-deep", ("the call stack of 9 frames is too deep",)),
        ("6.1-no-kfunc", ("kfunc 'bpf_throw' is referenced but wasn't resolved",)),
        # the verifier was never asked
        ("libbpf-no-callback", ()),
    ],
)  # fmt: skip
def test_messages(name, said):
    assert normalize.messages(LOGS[name]) == said


@pytest.mark.parametrize("name", LOGS)
def test_every_instruction_of_a_log_has_its_number(name):
    found = normalize.lines(LOGS[name])
    numbers = [line.number for line in found if line.kind is Kind.INSTRUCTION]
    assert None not in numbers
    # the verifier says what it looks at as it goes; none of these logs has a loop or a branch back
    assert numbers == sorted(numbers)


def test_kinds_of_lines():
    kinds = Counter(line.kind for line in normalize.lines(LOGS["7.3-everything-held"]))
    assert kinds[Kind.MESSAGE] == 4  # three references, each explained, and what they come to
    assert kinds[Kind.STATISTICS] == 1
    assert kinds[Kind.EXPLANATION] > 100
    # state behind an iterator's next function: a line of its own
    text = [line.text for line in normalize.lines(LOGS["6.12-iterator-live"])]
    assert "7: (85) call bpf_iter_num_next" in text
    assert any(line.startswith("8: R0=rdonly_mem(id=#2,ref_obj_id=#1,sz=4)") for line in text)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("libbpf: prog 'x': BPF program load failed: Invalid argument", Kind.LOADER),
        ("processed 19 insns (limit 1000000) max_states_per_insn 0", Kind.STATISTICS),
        ("verification time 5908 usec", Kind.STATISTICS),
        ("stack depth 16+8", Kind.STATISTICS),
        ("stack depth max 16", Kind.STATISTICS),
        ("subprog 0 (both) main insns_self 5 insns_total 9 stack 0", Kind.STATISTICS),
        ("0: (85) call bpf_throw#71958", Kind.INSTRUCTION),
        ("1: <invalid kfunc call>", Kind.INSTRUCTION),
        ("; bpf_throw(1); @ a.bpf.c:14", Kind.SOURCE),
        ("0: R1=ctx() R10=fp0", Kind.STATE),
        ("16: frame1: R1=scalar() R10=fp0 refs=2", Kind.STATE),
        (" R6=ctx() R7_w=0 R10=fp0 refs=2", Kind.STATE),
        ("caller:", Kind.STATE),
        ("from 6 to 12: R0=0 R6=ctx() R10=fp0", Kind.PROGRESS),
        ("Validating callback() func#1...", Kind.PROGRESS),
        ("Func#1 ('thrower') is global and assumed valid.", Kind.PROGRESS),
        ("Func#1 is safe for any args that match its prototype", Kind.PROGRESS),
        ("returning from callee:", Kind.PROGRESS),
        ("mark_precise: frame0: last_idx 7 first_idx 0 subseq_idx -1", Kind.BOOKKEEPING),
        ("func#0 @0", Kind.BOOKKEEPING),
        ("  0: .1........ (bf) r6 = r1", Kind.BOOKKEEPING),
        ("R1 is not a scalar", Kind.MESSAGE),
        ("R2 unbounded memory access, make sure to bounds check any such access", Kind.MESSAGE),
        ("At program exit the register R1 has smin=2 smax=2 should have been in [0, 1]",
         Kind.MESSAGE),
        ("func 'x' doesn't have 2-th argument", Kind.MESSAGE),
        ("the call stack of 9 frames is too deep", Kind.MESSAGE),
    ],
)  # fmt: skip
def test_kind_of(line, kind):
    assert normalize.kind_of(line) is kind


@pytest.mark.parametrize(
    ("said", "means"),
    [
        # liveness marks of 6.12 and earlier
        ("1: (b7) r1 = 1 ; R1_w=1 fp-8_rw=mmmmmmmm", "1: (b7) r1 = 1 ; R1=1 fp-8=mmmmmmmm"),
        # 6.1
        ("0: R1=ctx(off=0,imm=0) R10=fp0", "0: R1=ctx() R10=fp0"),
        ("R2=map_value(off=0,ks=4,vs=32,imm=0)", "R2=map_value(ks=4,vs=32)"),
        ("R0=mem(id=1,off=0,imm=0)", "R0=mem(id=#)"),
        ("R2=map_value(map=unguarde.bss,ks=4,vs=32)", "R2=map_value(ks=4,vs=32)"),
        ("R1=scalar(s32_min=-1,u32_max=7)", "R1=scalar(smin32=-1,umax32=7)"),
        ("R1=scalar(smin=umin=1,smax=umax=9,var_off=(0x0; 0xf))",
         "R1=scalar(smin=1,umin=1,smax=9,umax=9,var_off=(0x0; 0xf))"),
        # an offset that says something stays
        ("R2=pkt(off=14,r=34)", "R2=pkt(off=14,r=34)"),
        # addresses go, constants stay
        ("18: (18) r1 = 0xff191a3801c75d00 ; R1=map_ptr(map=e,ks=0,vs=0)",
         "18: (18) r1 = ADDRESS ; R1=map_ptr(ks=0,vs=0)"),
        ("18: (18) r1 = 0xff191a3801c75d00 ; R1=0xff191a3801c75d00",
         "18: (18) r1 = 0xff191a3801c75d00 ; R1=0xff191a3801c75d00"),
        ("2: (18) r1 = 0x1f ; R1=31", "2: (18) r1 = 0x1f ; R1=31"),
        # BTF ids go; numbers of functions and arguments stay
        ("8: (85) call bpf_throw#59519", "8: (85) call bpf_throw"),
        ("Caller passes invalid args into func#1 ('f')",
         "Caller passes invalid args into func#1 ('f')"),
        ("arg#0 expected pointer to ctx", "arg#0 expected pointer to ctx"),
        # which reference it is called says nothing; where it was taken does
        ("Unreleased reference id=6 alloc_insn=43", "Unreleased reference id=# alloc_insn=43"),
        ("R10 !read_ok", "R10 !read_ok"),
    ],
)  # fmt: skip
def test_message(said, means):
    assert normalize.message(said) == means
    assert normalize.message(means) == means


def test_ids_are_numbered_by_appearance_and_stay_told_apart():
    log = "0: R0=mem(id=7,ref_obj_id=7) refs=7\n1: R1=mem(id=9,ref_obj_id=7) refs=7,9\n"
    assert normalize.telling(log) == [
        "0: R0=mem(id=#1,ref_obj_id=#1) refs=#1",
        "1: R1=mem(id=#2,ref_obj_id=#1) refs=#1,#2",
    ]


def test_the_last_load_counts():
    log = LOGS["6.12-reference-held"] + LOGS["7.3-rcu-held"]
    assert normalize.messages(log) == normalize.messages(LOGS["7.3-rcu-held"])


def test_a_rule_per_row_does_something():
    """A row that no log and no example needs would be a guess."""
    texts = [*LOGS.values(), *(str(row) for row in test_message.pytestmark[0].args[1])]
    for rule in normalize.RULES:
        hit = any(rule.pattern.search(line) for text in texts for line in text.splitlines())
        assert hit, rule.what


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("WARNING: CPU: 0 PID: 99 at kernel/bpf/states.c:207 maybe_exit_scc+0x12/0x80",
         "WARNING: CPU: 1 PID: 412 at kernel/bpf/states.c:211 maybe_exit_scc+0x1f/0x90"),
        ("BUG: unable to handle page fault for address: ffffffffc0a01234",
         "BUG: unable to handle page fault for address: ffffffffc0b0beef"),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 21s! [python3:77]",
         "watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [python3:78]"),
        ("BUG: scheduling while atomic: python3/77/0x00000002",
         "BUG: scheduling while atomic: bpftool/912/0x00000002"),
        ("  in bpf_prog_0123456789abcdef_main < bpf_test_run",
         "  in bpf_prog_fedcba9876543210_main < bpf_test_run"),
        ("Oops: 0002 [#1] PREEMPT SMP", "Oops: 0002 [#2] PREEMPT SMP"),
    ],
)  # fmt: skip
def test_splat(one, other):
    assert normalize.splat(one) == normalize.splat(other)


def test_a_report_of_two_builds_of_a_kernel():
    """As 7.3 and the same with a patch wrote it: other offsets, another process."""
    report = (
        "verifier bug: scc exit: no visit info for call chain (1)\n"
        "  WARNING: kernel/bpf/states.c:207 at bpf_update_branch_counts+{0}, CPU#0: python3/{1}\n"
        "  in bpf_update_branch_counts < do_check_common < bpf_check"
    )
    one, other = report.format("0x196/0x280", 78), report.format("0x1f6/0x2b0", 128)
    assert normalize.splat(one) == normalize.splat(other)
    assert "states.c at bpf_update_branch_counts, CPU#N: TASK\n" in normalize.splat(one)


def test_splats_of_two_kinds_stay_apart():
    one = "WARNING: CPU: 0 PID: 9 at kernel/bpf/states.c:207 maybe_exit_scc+0x12/0x80"
    assert normalize.splat(one) != normalize.splat(one.replace("maybe_exit_scc", "bpf_throw"))


def test_leak():
    assert normalize.leak("prog 17 'main'") == normalize.leak("prog 23 'main'") == "prog 'main'"
    assert normalize.leak("map 3 'hits'") != normalize.leak("map 3 'other'")
