# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Contexts: which fields each program type may read and write, and how wide."""

import pytest


def prog(section, struct, body):
    return f'SEC("{section}") int entry(struct {struct} *ctx) {{ {body} }}\n'


def u32s(*numbers):
    return b"".join(n.to_bytes(4, "little") for n in numbers)


NARROW = "return *((volatile __u8 *)&ctx->{0} + 1);"
HALF = "*(volatile __u16 *)&ctx->{0} = 1; return 0;"
WRITE = "ctx->{0} = 1; return 0;"
READ = "volatile __u64 x = (__u64)ctx->{0}; return x;"


@pytest.mark.parametrize(
    ("section", "struct", "body", "valid"),
    [
        ("tc", "__sk_buff", NARROW.format("mark"), True),
        ("tc", "__sk_buff", NARROW.format("data"), False),
        ("tc", "__sk_buff", HALF.format("mark"), False),
        ("tc", "__sk_buff", HALF.format("cb"), True),
        ("tc", "__sk_buff", WRITE.format("len"), False),
        ("tc", "__sk_buff", WRITE.format("tstamp"), True),
        ("tc", "__sk_buff", READ.format("family"), False),
        ("tc", "__sk_buff", "return *(volatile __u16 *)((char *)&ctx->mark + 1);", False),
        ("cgroup_skb/ingress", "__sk_buff", READ.format("tc_classid"), False),
        ("cgroup_skb/ingress", "__sk_buff", WRITE.format("tc_index"), False),
        ("xdp", "xdp_md", NARROW.format("rx_queue_index"), False),
        ("xdp", "xdp_md", WRITE.format("rx_queue_index"), False),
        ("xdp", "xdp_md", READ.format("rx_queue_index"), True),
        ("sockops", "bpf_sock_ops", READ.format("op"), True),
        ("sockops", "bpf_sock_ops", NARROW.format("op"), False),
        ("sockops", "bpf_sock_ops", WRITE.format("reply"), True),
        ("sockops", "bpf_sock_ops", WRITE.format("op"), False),
        ("sockops", "bpf_sock_ops", WRITE.format("replylong[1]"), False),
        ("sockops", "bpf_sock_ops", READ.format("bytes_acked"), True),
        ("sockops", "bpf_sock_ops", NARROW.format("bytes_acked"), False),
        ("cgroup/connect4", "bpf_sock_addr", WRITE.format("user_ip4"), True),
        ("cgroup/connect4", "bpf_sock_addr", NARROW.format("user_port"), True),
        ("cgroup/connect4", "bpf_sock_addr", HALF.format("user_port"), False),
        ("cgroup/connect4", "bpf_sock_addr", WRITE.format("protocol"), False),
        ("cgroup/connect6", "bpf_sock_addr", "*(volatile __u64 *)ctx->user_ip6 = 1; return 0;",
         True),
        ("cgroup/getsockopt", "bpf_sockopt", WRITE.format("optlen"), True),
        ("cgroup/getsockopt", "bpf_sockopt", "ctx->optval = ctx; return 0;", False),
        ("cgroup/dev", "bpf_cgroup_dev_ctx", NARROW.format("access_type"), True),
        ("cgroup/dev", "bpf_cgroup_dev_ctx", NARROW.format("major"), False),
        ("cgroup/sysctl", "bpf_sysctl", WRITE.format("file_pos"), True),
        ("cgroup/sysctl", "bpf_sysctl", WRITE.format("write"), False),
        ("cgroup/sock_create", "bpf_sock", WRITE.format("mark"), True),
        ("cgroup/sock_create", "bpf_sock", WRITE.format("family"), False),
        ("cgroup/sock_create", "bpf_sock", NARROW.format("src_port"), False),
    ],
)  # fmt: skip
def test_access(run, section, struct, body, valid):
    packet = {} if struct in ("__sk_buff", "xdp_md") else {"ctx": b""}
    seen = run(prog(section, struct, body), **packet)
    assert (seen.verdict == "ran") is valid, seen.message
    if not valid:
        assert any(words in seen.message for words in ("invalid", "read-only", "as a whole"))
        assert ".bpf.c:" in seen.message


def test_values_come_from_the_given_struct(run):
    seen = run(
        prog("cgroup/connect4", "bpf_sock_addr", "return ctx->user_ip4 * 10 + ctx->user_family;"),
        ctx=u32s(2, 7),
    )
    assert seen.retval == 72


def test_an_option_value_is_bounded(run):
    body = """__u8 *value = ctx->optval, *end = ctx->optval_end;
    if (value + 2 > end) return 9; return value[{0}] + ctx->optlen;"""
    given = bytes(32) + u32s(3, 0) + b"\5\6"
    text = prog("cgroup/getsockopt", "bpf_sockopt", body)
    assert run(text.replace("{0}", "1"), ctx=given).retval == 9
    assert "option value" in run(text.replace("{0}", "2"), ctx=given).message


def test_retval_of_cgroup_programs(run):
    body = "bpf_set_retval(-1); return bpf_get_retval() == -1;"
    assert run(prog("cgroup/getsockopt", "bpf_sockopt", body), ctx=b"").retval == 1
