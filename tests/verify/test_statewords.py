# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the kernel's selftests claim of registers in a log, held against the model's states."""

import pytest

from harness.suite import collect
from harness.verify import accuracy, statewords
from harness.verify.accuracy import Outcome

# as the kernel's exceptions_assert: what is learnt shows in the log of a load that is refused
PROGRAM = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
extern void bpf_throw(__u64 cookie) __weak __ksym;
#define TAG(text) __attribute__((btf_decl_tag("comment:" text)))
SEC("?tc") TAG("test_expect_failure") TAG("test_log_level=%d") %s
int below(struct __sk_buff *skb)
{
	__s64 time = bpf_ktime_get_ns();

	asm volatile goto("if %%[time] s< 5 goto %%l[holds]" ::[time] "r"(time)::holds);
	bpf_throw(0);
holds:
	return *(__u64 *)time;
}
char LICENSE[] SEC("license") = "GPL";
"""


def _judged(tmp_path, *claims, level=2):
    source = tmp_path / "theirs.bpf.c"
    tags = " ".join(f'TAG("test_expect_msg={i}={text}")' for i, text in enumerate(claims))
    source.write_text(PROGRAM % (level, tags))
    (judged,) = accuracy.measure(collect([source]), ["7.3"])
    return judged


@pytest.mark.parametrize(
    "claim",
    [
        ": R0=scalar(id=1,smax=4)",
        "R{{.}}=scalar(id=1,smax=4)",
        ": R0_w=scalar(id=1,smax=4",  # cut off: only what is there counts
        ": R0=scalar(id=1",
        ": R10=fp0",
    ],
)
def test_what_the_model_knows_is_right(tmp_path, claim):
    assert _judged(tmp_path, claim).outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    "claim",
    [
        ": R0=scalar(id=1,smax=5)",
        ": R0=scalar(id=1,smax=4,umin=1)",
        "R{{.}}=scalar(id=1,smax=3",
        ": R0=scalar(id=1,smax=4) R10=ctx()",
        ": R0=7",
    ],
)
def test_what_it_does_not_know_is_wrong(tmp_path, claim):
    judged = _judged(tmp_path, claim)
    assert (judged.outcome, judged.unseen) == (Outcome.WRONG, (claim,))
    assert f"claimed {claim}; predicted reject" in str(judged)


def test_states_come_in_order(tmp_path):
    early, late = ": R1=ctx() R10=fp0", ": R0=scalar(id=1,smax=4)"
    assert _judged(tmp_path, early, late).outcome is Outcome.RIGHT
    assert _judged(tmp_path, late, early).unseen == (early,)


def test_a_refusal_is_one_of_the_words(tmp_path):
    states, said = ": R0=scalar(id=1,smax=4)", "invalid mem access 'scalar'"
    assert _judged(tmp_path, states, said).outcome is Outcome.RIGHT
    assert _judged(tmp_path, states, "R1 type=ctx expected=fp").outcome is Outcome.WRONG
    # a log of level 1 shows no states
    assert _judged(tmp_path, ": R0=scalar(id=1,smax=9)", level=1).outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    "words",
    [
        "R1 !read_ok",
        "5: safe",
        "fp-8=ctx()",
        "R0={{scalar.*}}",
        "R0=scalar(smin=0,umax=",
        "mark_precise: frame0: parent state regs= stack=:  R0=P4",
        "frame1: R0=scalar() R10=fp0",
    ],
)
def test_other_words_are_no_claims_about_registers(words):
    assert not statewords.is_claim(words)
    assert statewords.unseen([words], []) == ()
