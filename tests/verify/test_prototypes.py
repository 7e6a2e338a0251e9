# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Prototypes of helpers: the tables hold together, and say what they should of some."""

import pytest

from harness.bpf.helper_names import NAMES, NUMBERS
from harness.bpf.mapdef import MapType
from harness.sim import semantics
from harness.sim.helpers import HELPERS
from harness.sim.kfuncs import exists
from harness.verify import availability, kfuncprotos, prototypes
from harness.verify.kfuncprotos import allowed, kfunc
from harness.verify.prediction import NotModelled
from harness.verify.prototypes import helper, map_allowed

PROFILES = ("6.12", "6.18", "7.3")


def of(name, program_type, profile="7.3"):
    return helper(NUMBERS[f"bpf_{name}"], program_type, profile)


@pytest.mark.parametrize("late", [False, True])
def test_every_word_is_a_helper_with_a_prototype(late):
    rows = prototypes._prototypes(late)
    for kind in availability.TYPES:
        for name, row in prototypes._table(kind, late).items():
            assert f"bpf_{name}" in NUMBERS, (kind, name)
            assert row == "-" or row in rows, (kind, name, row)


def test_sizes_come_behind_their_memory():
    for row in prototypes._prototypes(True).values():
        for before, arg in zip((None, *row.args), row.args, strict=False):
            if arg.kind in ("size", "size0"):
                assert before is not None, row
                assert (before.kind, before.size_bytes) == ("mem", 0), row
            if before is not None and before.kind == "mem" and not before.size_bytes:
                assert arg.kind in ("size", "size0"), row
        assert row.returns.kind in {
            "int", "void", "value", "socket", "sock_common", "tcp_sock", "ringbuf", "dynptr_mem",
            "mem_or_btf", "btf",
        }  # fmt: skip


def test_arguments_are_as_many_as_the_simulator_takes():
    """Two tables, written apart."""
    differ = {}
    for number, (name, count, _, _) in HELPERS.items():
        for kind in ("tc", "xdp", "raw_tp", "tracepoint", "cgroup_skb", "sock_ops"):
            try:
                row = helper(number, kind, "7.3")
            except NotModelled:
                continue
            if row is not None and len(row.args) != count:
                differ[name] = (len(row.args), count)
    assert not differ


def test_some():
    lookup = of("map_lookup_elem", "xdp")
    assert [arg.kind for arg in lookup.args] == ["map", "key"]
    assert (lookup.returns.kind, lookup.returns.null, lookup.packet) == ("value", True, True)
    load = of("skb_load_bytes", "tc")
    assert load.args[2].uninit
    assert load.args[2].writes
    assert not load.args[3].null
    reserve = of("ringbuf_reserve", "tc")
    assert (reserve.returns.kind, reserve.returns.null) == ("ringbuf", True)
    assert "release" in of("ringbuf_submit", "tc").args[0].flags
    assert of("csum_diff", "xdp").args[0].null
    assert of("check_mtu", "xdp").args[2].size_bytes == 4
    assert of("get_current_task_btf", "tc").returns.what == "task_struct"


def test_who_may_call():
    assert of("skb_load_bytes", "xdp") is None
    assert of("xdp_adjust_head", "tc") is None
    assert of("redirect", "tc").name == "redirect"
    assert of("redirect", "xdp").name == "xdp_redirect"
    assert of("skb_load_bytes", "cgroup_skb").name == "skb_load_bytes"
    assert of("skb_store_bytes", "cgroup_skb") is None
    assert of("get_func_arg", "fentry") is not None
    assert of("sys_close", "syscall").sleeps
    assert of("get_attach_cookie", "syscall") is None
    assert of("get_local_storage", "cgroup_device") is not None
    assert helper(0, "tc", "7.3") is None
    assert helper(len(NAMES), "tc", "7.3") is None


def test_series_differ():
    """Since 6.16 or so every type has what only tracing programs had."""
    assert of("get_current_comm", "xdp", "6.12") is None
    assert of("get_current_comm", "xdp", "7.3") is not None
    assert of("get_current_comm", "kprobe", "6.12") is not None
    assert of("get_current_comm", "cgroup_sock_addr", "6.12") is not None
    assert of("get_netns_cookie", "tc", "6.12") is None
    assert of("get_netns_cookie", "tc", "7.3") is not None
    assert of("loop", "tc", "6.12").args[0].kind == "any"
    assert of("loop", "tc", "7.3").args[0].kind == "scalar"
    with pytest.raises(NotModelled):
        of("get_current_comm", "xdp", "6.18")


@pytest.mark.parametrize("profile", PROFILES)
def test_what_is_not_decided_here(profile):
    for name, kind in (
        ("bind", "cgroup_sock_addr"), ("get_retval", "cgroup_sock"), ("skb_load_bytes", "freplace"),
        ("setsockopt", "cgroup_sockopt"), ("get_func_ip", "kprobe"), ("d_path", "fentry"),
        ("loop", "lirc_mode2"),
    ):  # fmt: skip
        with pytest.raises(NotModelled):
            of(name, kind, profile)
    assert of("loop", "freplace", profile) is not None
    assert of("map_lookup_elem", "struct_ops", profile) is not None


def test_maps():
    assert map_allowed("bpf_map_lookup_elem", MapType.HASH)
    assert not map_allowed("bpf_map_lookup_elem", MapType.RINGBUF)
    assert not map_allowed("bpf_ringbuf_reserve", MapType.ARRAY)
    assert map_allowed("bpf_ringbuf_reserve", MapType.RINGBUF)
    assert map_allowed("bpf_map_lookup_elem", MapType.SOCKMAP)
    assert not map_allowed("bpf_map_push_elem", MapType.HASH)
    assert not map_allowed("bpf_tail_call", MapType.ARRAY)
    for kinds in availability.ONLY_ON.values():
        assert all(hasattr(MapType, kind) for kind in kinds.split())
    assert all(hasattr(MapType, kind) for kind in availability.ONLY_WITH)


def test_kernel_functions():
    """The simulator's table of names, and who may call what."""
    for name in kfuncprotos._rows():
        for profile in PROFILES:
            try:
                row = kfunc(name, profile)
            except NotModelled:
                continue
            if not exists(name, semantics.profile("7.3")):
                continue  # the simulator has none of them
            assert (row is not None) == exists(name, semantics.profile(profile)), (name, profile)
    throw = kfunc("bpf_throw", "6.12")
    assert [arg.kind for arg in throw.args] == ["scalar"]
    for profile, kind, expected in (
        ("6.12", "tc", True), ("6.12", "raw_tp", False), ("7.3", "raw_tp", True),
        ("6.12", "sock_ops", False), ("6.18", "sock_ops", True), ("7.3", "kprobe", False),
        ("7.3", "socket_filter", False), ("7.3", "raw_tp_writable", False),
    ):  # fmt: skip
        assert allowed(kfunc("bpf_throw", profile), kind, profile) is expected
        assert allowed(kfunc("bpf_rcu_read_lock", profile), kind, profile)
    assert "locked" in kfunc("bpf_list_push_front_impl", "6.12")
    assert "locked" not in kfunc("bpf_iter_num_new", "6.12")
    assert "locked" in kfunc("bpf_iter_num_new", "7.3")
    assert "sleeps" in kfunc("bpf_arena_alloc_pages", "6.12")
    assert "sleeps" not in kfunc("bpf_arena_alloc_pages", "7.3")
    assert kfunc("bpf_obj_new", "6.12") is None
    assert kfunc("bpf_obj_new_impl", "6.12").returns.null
    with pytest.raises(NotModelled):
        kfunc("bpf_cpumask_create", "7.3")
