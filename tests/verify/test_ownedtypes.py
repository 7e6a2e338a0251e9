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
