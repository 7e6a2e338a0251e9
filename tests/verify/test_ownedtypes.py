# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Objects whose types a kernel refuses: 6.12.107, 6.18.15 and 7.3.4 did, with list and tree."""

import pytest

from harness.bpf.elf import read_object
from harness.verify.predict import predict

PROGRAM = """
struct kept { long number; %s };
struct kept *unused;
SEC("tc") int entry(struct __sk_buff *skb) { return skb->len; }
"""
LISTS = """
struct bpf_list_node { __u64 x[3]; };
struct bpf_rb_node { __u64 x[4]; };
struct bpf_refcount { __u32 x; };
"""


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ("struct bpf_list_node l; struct bpf_rb_node r;", "nodes of a list and of a tree"),
        ("struct bpf_spin_lock a, b;", "more than one bpf_spin_lock"),
        ("struct bpf_list_node l; struct bpf_rb_node r; struct bpf_refcount c;", ""),
        ("struct bpf_list_node l;", ""),
        ("struct bpf_spin_lock a; struct bpf_rb_node r;", ""),
    ],
)
def test_types_that_no_kernel_takes_make_everything_unknown(compiled, members, problem):
    found = predict(read_object(compiled(LISTS + PROGRAM % members)), "entry", "7.3")
    assert found.verdict == ("unknown" if problem else "accept"), found.why
    assert problem in found.why


GLOBALS = """
#undef __hidden
#define __hidden __attribute__((visibility("hidden")))
%s struct bpf_spin_lock lock SEC(".bss.A");
%s int other SEC(".bss.A");
SEC("tc") int entry(struct __sk_buff *skb) {
	bpf_spin_lock(&lock); other = 1; bpf_spin_unlock(&lock); return 0;
}
"""


@pytest.mark.parametrize(
    ("lock", "other", "taken"),
    [
        ("", "", False),
        ("static", "", False),
        ("", "__hidden", False),
        ("__hidden", "__hidden", True),
        ("static", "static volatile", True),
    ],
)
def test_a_section_with_a_lock_is_not_mapped(compiled, lock, other, taken):
    found = predict(read_object(compiled(GLOBALS % (lock, other))), "entry", "6.12")
    assert found.verdict == ("accept" if taken else "reject"), found
    if not taken:
        assert (found.errno, "static or __hidden" in found.fix) == (524, True)
