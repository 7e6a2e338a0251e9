# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Accesses to contexts: against the simulator's tables, which were written apart, and by hand."""

import pytest

from harness.sim import ctxfields
from harness.sim.context import packet_contexts
from harness.verify.contexts import (
    FLOW_KEYS,
    PACKET,
    PACKET_END,
    PACKET_META,
    SCALAR,
    SOCKET,
    SOCKET_OR_NULL,
    TP_BUFFER,
    access,
)
from harness.verify.prediction import NotModelled

# attach types that have every field
FULL = {"cgroup_sock": "sock_create", "cgroup_sockopt": "getsockopt"}


def read(kind, offset, size, attach="", **more):
    return access(kind, attach, offset, size, write=False, **more)


def write(kind, offset, size, attach="", **more):
    return access(kind, attach, offset, size, write=True, **more)


@pytest.mark.parametrize("kind", ["sock_ops", "cgroup_sysctl", "cgroup_device"])
def test_as_the_simulator_has_it(kind):
    """All offsets and widths, read and written."""
    _, bytes_, fields = ctxfields.RECORDS[kind]
    for offset in range(-8, bytes_ + 16):
        for width in (1, 2, 4, 8):
            for writes in (False, True):
                allowed = access(kind, "", offset, width, write=writes) is not None
                expected = not ctxfields.refusal(fields, offset, width, write=writes)
                if kind == "sock_ops" and 212 <= offset < 216:
                    continue  # the simulator reads skb_tcp_flags as a whole only
                assert allowed == expected, (kind, offset, width, writes)


@pytest.mark.parametrize("attach", ["connect4", "connect6", "sendmsg4", "sendmsg6"])
def test_addresses(attach):
    """Fields of the other family are not there."""
    _, bytes_, fields = ctxfields.RECORDS["cgroup_sock_addr"]
    hidden = {"4": {"user_ip6", "msg_src_ip6"}, "6": {"user_ip4", "msg_src_ip4"}}[attach[-1]]
    if attach.startswith("connect"):
        hidden |= {"msg_src_ip4", "msg_src_ip6"}
    there = {name: field for name, field in fields.items() if name not in hidden}
    for offset in range(bytes_ + 8):
        for width in (1, 2, 4, 8):
            for writes in (False, True):
                allowed = access("cgroup_sock_addr", attach, offset, width, write=writes)
                expected = not ctxfields.refusal(there, offset, width, write=writes)
                assert (allowed is not None) == expected, (offset, width, writes)
    with pytest.raises(NotModelled):
        read("cgroup_sock_addr", 4, 4)


@pytest.mark.parametrize("row", list(packet_contexts()), ids=lambda row: row[0])
def test_words_of_packets_contexts(row):
    """Whole fields of __sk_buff and xdp_md."""
    kind, _, fields, hidden, writable = row
    for name, (offset, size) in fields.items():
        width = 4 if size > 8 else size
        if name in ("tstamp_type", "egress_ifindex"):
            continue
        if kind == "cgroup_skb" and name == "sk":
            assert read(kind, offset, 8) == "sock_common_or_null"
            continue
        assert (read(kind, offset, width) is None) == (name in hidden), name
        assert (write(kind, offset, width) is not None) == (name in writable), name


def test_packets():
    for kind in ("tc", "cgroup_skb"):
        assert (read(kind, 76, 4), read(kind, 80, 4)) == (PACKET, PACKET_END)
        assert read(kind, 76, 8) is None
        assert read(kind, 76, 2) is None
        assert read(kind, 76, 4, signed=True) is None
    assert read("tc", 140, 4) == PACKET_META
    assert read("cgroup_skb", 140, 4) is None
    assert [read("xdp", at, 4) for at in (0, 4, 8)] == [PACKET, PACKET_END, PACKET_META]
    assert read("xdp", 20, 4) is None
    assert read("xdp", 20, 4, "devmap") == SCALAR
    assert write("xdp", 16, 4) is None
    assert read("xdp", 12, 2) is None
    assert read("socket_filter", 76, 4) is None
    assert read("lwt_in", 76, 4) == PACKET
    assert read("sk_msg", 0, 8) == PACKET
    assert read("flow_dissector", 144, 8) == FLOW_KEYS


def test_skb():
    for kind in ("tc", "sched_act", "socket_filter", "cgroup_skb", "lwt_out"):
        assert read(kind, 0, 1) == read(kind, 2, 2) == read(kind, 0, 4) == SCALAR
        assert read(kind, 0, 8) is None
        assert read(kind, 2, 4) is None
        assert write(kind, 0, 4) is None
        # cb[]: any width, but not over its end
        assert write(kind, 48, 8) == read(kind, 56, 8) == write(kind, 67, 1) == SCALAR
        assert read(kind, 64, 8) is None
        assert read(kind, 192, 4) is None
        assert read(kind, -4, 4) is None
        assert read(kind, 168, 8) == "sock_common_or_null"
        assert read(kind, 168, 4) is None
        assert read(kind, 144, 8) is None
    assert write("tc", 8, 4) == SCALAR
    assert write("tc", 8, 2) is None
    assert write("tc", 44, 4) == SCALAR
    assert write("cgroup_skb", 44, 4) is None
    assert write("sk_skb", 48, 4) is None
    assert read("sk_skb", 8, 4) is None
    assert read("tc", 180, 1) == SCALAR
    assert read("tc", 181, 1) is None
    assert read("tc", 88, 4) is None
    assert read("cgroup_skb", 88, 4) == SCALAR
    assert read("cgroup_skb", 100, 2) is None
    assert write("tc", 152, 8) == write("cgroup_skb", 152, 8) == SCALAR
    assert write("socket_filter", 152, 8) is None


def test_sockets():
    assert read("sock_ops", 184, 8) == SOCKET_OR_NULL
    assert read("sock_ops", 212, 1) == SCALAR
    assert read("sock_ops", 213, 1) is None
    assert read("cgroup_sock_addr", 64, 8, "bind4") == SOCKET
    assert write("cgroup_sock", 16, 4, "sock_create") == SCALAR
    assert write("cgroup_sock", 16, 4, "post_bind4") is None
    assert read("cgroup_sock", 16, 4, "post_bind4") is None
    assert read("cgroup_sock", 24, 1, "post_bind4") == SCALAR
    assert read("cgroup_sock", 24, 4, "post_bind6") is None
    assert read("cgroup_sock", 4, 1, "sock") == SCALAR
    assert read("cgroup_sock", 5, 1, "sock") is None
    assert read("cgroup_sock", 48, 4, "sock") == read("cgroup_sock", 49, 1, "sock") == SCALAR
    assert read("cgroup_sock", 50, 2, "sock") is None
    assert write("cgroup_sockopt", 36, 4, "getsockopt") == SCALAR
    assert write("cgroup_sockopt", 36, 4, "setsockopt") is None
    assert write("cgroup_sockopt", 24, 4, "setsockopt") == SCALAR
    assert write("cgroup_sockopt", 24, 4, "getsockopt") is None
    assert read("sk_lookup", 0, 8) == SOCKET_OR_NULL
    assert read("sk_lookup", 38, 2) == SCALAR
    assert read("sk_lookup", 38, 4) is None


def test_tracing():
    assert read("kprobe", 160, 8) == SCALAR
    assert read("kprobe", 168, 8) is None
    assert write("kprobe", 0, 8, release=(6, 12)) is None
    assert write("kprobe", 0, 8) == SCALAR
    assert read("tracepoint", 0, 8) is None
    assert read("tracepoint", 8, 8) == SCALAR
    assert write("tracepoint", 8, 8) is None
    assert read("raw_tp", 88, 8) == SCALAR
    assert read("raw_tp", 96, 8) is None
    assert read("raw_tp_writable", 0, 8) == TP_BUFFER
    assert read("perf_event", 168, 2) == SCALAR
    assert read("perf_event", 8, 4) is None
    assert read("syscall", 3, 4) == write("syscall", 65534, 8) == SCALAR
    assert read("syscall", 65535, 1) is None


def test_arguments():
    assert read("fentry", 0, 4, "bpf_fentry_test1") == SCALAR
    assert read("fentry", 8, 4, "bpf_fentry_test1") is None
    assert read("fexit", 8, 8, "bpf_fentry_test1") == SCALAR
    assert read("fexit", 16, 8, "bpf_fentry_test1") is None
    assert read("fentry", 4, 4, "bpf_fentry_test1") is None
    assert write("fentry", 0, 8, "bpf_fentry_test1") is None
    assert read("lsm", 0, 8, "file_open") == "btf:file"
    assert read("lsm", 0, 4, "file_open") is None
    assert read("tp_btf", 8, 8, "sched_switch") == "btf:task_struct"
    for kind, offset, attach in (
        ("fentry", 0, "some_function"), ("lsm", 8, "file_open"), ("struct_ops", 0, ""),
        ("iter", 0, "task"), ("freplace", 0, "it"),
    ):  # fmt: skip
        with pytest.raises(NotModelled):
            read(kind, offset, 8, attach)
