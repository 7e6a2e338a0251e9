# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which helpers a program type may call, and by which prototype: data.

A word is NAME, or NAME=PROTOTYPE where the prototype (harness.verify.helperprotos) has another
name; NAME=- takes a helper away. A type has its own words, then those of the type that it builds
on. Loaders are assumed to be root's, on a kernel as Debian configures it (every CONFIG_ that such
tables ask for is on, no lockdown).

Source: the *_func_proto() functions of Linux 6.12.107 and 7.3: bpf_base_func_proto() in
kernel/bpf/helpers.c, kernel/trace/bpf_trace.c, kernel/bpf/cgroup.c, kernel/bpf/bpf_lsm.c,
kernel/bpf/syscall.c, net/core/filter.c, net/ipv4/bpf_tcp_ca.c.
"""

# every type, but for lirc_mode2
BASE = """
    map_lookup_elem map_update_elem map_delete_elem map_push_elem map_pop_elem map_peek_elem
    map_lookup_percpu_elem get_prandom_u32 get_smp_processor_id=get_raw_smp_processor_id
    get_numa_node_id tail_call ktime_get_ns ktime_get_boot_ns ktime_get_tai_ns ringbuf_output
    ringbuf_reserve ringbuf_submit ringbuf_discard ringbuf_query strncmp strtol strtoul
    get_current_pid_tgid get_ns_current_pid_tgid spin_lock spin_unlock jiffies64 per_cpu_ptr
    this_cpu_ptr timer_init timer_set_callback timer_start timer_cancel kptr_xchg
    for_each_map_elem loop user_ringbuf_drain ringbuf_reserve_dynptr ringbuf_submit_dynptr
    ringbuf_discard_dynptr dynptr_from_mem dynptr_read dynptr_write dynptr_data cgrp_storage_get
    cgrp_storage_delete get_current_cgroup_id get_current_ancestor_cgroup_id trace_printk
    get_current_task get_current_task_btf probe_read_user probe_read_kernel probe_read_user_str
    probe_read_kernel_str snprintf_btf snprintf task_pt_regs trace_vprintk
"""
# in BASE since 6.16 or later (Linux 7.3 has them there, 6.12 has not): before, of the types below
BASE_LATER = """
    get_current_uid_gid current_task_under_cgroup get_cgroup_classid=get_cgroup_classid_curr
    task_storage_get task_storage_delete get_current_comm copy_from_user copy_from_user_task
    perf_event_read_value perf_event_read send_signal send_signal_thread get_task_stack
    get_branch_snapshot find_vma
"""
_SK_BASE = """
    skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock
    skc_to_udp6_sock skc_to_unix_sock skc_to_mptcp_sock ktime_get_coarse_ns
"""
_SOCKET = """
    skb_load_bytes skb_load_bytes_relative get_socket_cookie get_socket_uid
    perf_event_output=skb_event_output
"""
_LOOKUP = "sk_release get_listener_sock skb_ecn_set_ce tcp_sock "
_SYNCOOKIES = """
    tcp_check_syncookie tcp_gen_syncookie tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6
    tcp_raw_check_syncookie_ipv4 tcp_raw_check_syncookie_ipv6
"""
_TC = f"""
    skb_store_bytes skb_load_bytes skb_load_bytes_relative skb_pull_data csum_diff csum_update
    csum_level l3_csum_replace l4_csum_replace clone_redirect get_cgroup_classid skb_vlan_push
    skb_vlan_pop skb_change_proto skb_change_type skb_adjust_room skb_change_tail skb_change_head
    skb_get_tunnel_key skb_set_tunnel_key skb_get_tunnel_opt skb_set_tunnel_opt redirect
    redirect_neigh redirect_peer get_route_realm get_hash_recalc set_hash_invalid set_hash
    perf_event_output=skb_event_output get_smp_processor_id skb_under_cgroup get_socket_cookie
    get_socket_uid fib_lookup=skb_fib_lookup check_mtu=skb_check_mtu sk_fullsock sk_storage_get
    sk_storage_delete skb_get_xfrm_state skb_cgroup_classid skb_cgroup_id skb_ancestor_cgroup_id
    sk_lookup_tcp=tc_sk_lookup_tcp sk_lookup_udp=tc_sk_lookup_udp skc_lookup_tcp=tc_skc_lookup_tcp
    sk_assign skb_set_tstamp {_LOOKUP} {_SYNCOOKIES}
"""
_XDP = f"""
    perf_event_output=xdp_event_output get_smp_processor_id csum_diff xdp_adjust_head
    xdp_adjust_meta redirect=xdp_redirect redirect_map=xdp_redirect_map xdp_adjust_tail
    xdp_get_buff_len xdp_load_bytes xdp_store_bytes fib_lookup=xdp_fib_lookup
    check_mtu=xdp_check_mtu sk_lookup_udp=xdp_sk_lookup_udp sk_lookup_tcp=xdp_sk_lookup_tcp
    sk_release skc_lookup_tcp=xdp_skc_lookup_tcp {_SYNCOOKIES}
"""
_CGROUP_SKB = f"""
    sk_fullsock sk_storage_get sk_storage_delete perf_event_output=skb_event_output skb_cgroup_id
    skb_ancestor_cgroup_id sk_cgroup_id sk_ancestor_cgroup_id sk_lookup_tcp sk_lookup_udp
    skc_lookup_tcp {_LOOKUP}
"""
_SOCK_OPS = """
    setsockopt=sock_ops_setsockopt getsockopt=sock_ops_getsockopt sock_ops_cb_flags_set
    sock_map_update sock_hash_update get_socket_cookie=get_socket_cookie_sock_ops
    perf_event_output=event_output_data sk_storage_get sk_storage_delete
    get_netns_cookie=get_netns_cookie_sock_ops load_hdr_opt=sock_ops_load_hdr_opt
    store_hdr_opt=sock_ops_store_hdr_opt reserve_hdr_opt=sock_ops_reserve_hdr_opt tcp_sock
"""
_SOCK_ADDR = """
    get_socket_cookie=get_socket_cookie_sock_addr get_netns_cookie=get_netns_cookie_sock_addr
    perf_event_output=event_output_data sk_lookup_tcp=sock_addr_sk_lookup_tcp
    sk_lookup_udp=sock_addr_sk_lookup_udp sk_release skc_lookup_tcp=sock_addr_skc_lookup_tcp
    sk_storage_get sk_storage_delete
"""
_CGROUP_SOCK = """
    get_socket_cookie=get_socket_cookie_sock get_netns_cookie=get_netns_cookie_sock
    perf_event_output=event_output_data sk_storage_get=sk_storage_get_cg_sock ktime_get_coarse_ns
"""
_SYSCTL = """
    sysctl_get_name sysctl_get_current_value sysctl_get_new_value sysctl_set_new_value
    ktime_get_coarse_ns perf_event_output=event_output_data
"""
_SOCKOPT = """
    get_netns_cookie=get_netns_cookie_sockopt sk_storage_get sk_storage_delete tcp_sock
    perf_event_output=event_output_data
"""
_SK_SKB = """
    skb_store_bytes skb_load_bytes skb_pull_data=sk_skb_pull_data
    skb_change_tail=sk_skb_change_tail skb_change_head=sk_skb_change_head
    skb_adjust_room=sk_skb_adjust_room get_socket_cookie get_socket_uid sk_redirect_map
    sk_redirect_hash perf_event_output=skb_event_output sk_lookup_tcp sk_lookup_udp sk_release
    skc_lookup_tcp
"""
_SK_MSG = """
    msg_redirect_map msg_redirect_hash msg_apply_bytes msg_cork_bytes msg_pull_data msg_push_data
    msg_pop_data perf_event_output=event_output_data sk_storage_get sk_storage_delete
    get_netns_cookie=get_netns_cookie_sk_msg
"""
_LWT_OUT = """
    skb_load_bytes skb_pull_data csum_diff get_cgroup_classid get_route_realm get_hash_recalc
    perf_event_output=skb_event_output get_smp_processor_id skb_under_cgroup
"""
_LWT_XMIT = """
    skb_get_tunnel_key skb_set_tunnel_key skb_get_tunnel_opt skb_set_tunnel_opt redirect
    clone_redirect skb_change_tail skb_change_head skb_store_bytes csum_update csum_level
    l3_csum_replace l4_csum_replace set_hash_invalid lwt_push_encap=lwt_xmit_push_encap
"""
_ANY_TRACING = """
    get_smp_processor_id get_func_ip=get_func_ip_tracing probe_read=probe_read_compat
    probe_read_str=probe_read_compat_str probe_write_user
"""
# in 7.3; not in 6.12
SOCKET_LATER = "get_netns_cookie"
# as of 6.12
ANY_TRACING_EARLIER = """
    get_current_uid_gid get_current_comm perf_event_read current_task_under_cgroup send_signal
    send_signal_thread perf_event_read_value get_task_stack copy_from_user copy_from_user_task
    task_storage_get task_storage_delete get_branch_snapshot find_vma
"""
_RAW_TP = """
    perf_event_output=perf_event_output_raw_tp get_stackid=get_stackid_raw_tp
    get_stack=get_stack_raw_tp get_attach_cookie=get_attach_cookie_tracing
"""
_TRACING = """
    skb_output xdp_output skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock
    skc_to_tcp_request_sock skc_to_udp6_sock skc_to_unix_sock skc_to_mptcp_sock
    sk_storage_get=sk_storage_get_tracing sk_storage_delete=sk_storage_delete_tracing
    sock_from_file get_socket_cookie=get_socket_ptr_cookie xdp_get_buff_len=xdp_get_buff_len_trace
    d_path
"""
# fentry, fexit, fmod_ret, BPF_LSM_MAC: they run in a trampoline
_TRAMPOLINE = (
    "get_func_arg get_func_ret get_func_arg_cnt get_attach_cookie=get_attach_cookie_tracing"
)
# program types with get_local_storage, get_retval and set_retval (by attach type); before 6.16 or
# later also CGROUP_EARLIER, but for cgroup_skb and sock_ops
CGROUPS = frozenset({
    "cgroup_skb", "sock_ops", "cgroup_sock", "cgroup_sock_addr", "cgroup_device", "cgroup_sysctl",
    "cgroup_sockopt",
})  # fmt: skip
CGROUP_EARLIER = """
    get_current_uid_gid get_current_comm get_cgroup_classid=get_cgroup_classid_curr
    current_task_under_cgroup
"""

_SK_REUSEPORT = """
    sk_select_reuseport skb_load_bytes=sk_reuseport_load_bytes
    skb_load_bytes_relative=sk_reuseport_load_bytes_relative
    get_socket_cookie=get_socket_ptr_cookie ktime_get_coarse_ns
"""
_KPROBE = """
    perf_event_output get_stackid get_stack override_return get_func_ip=get_func_ip_kprobe
    get_attach_cookie=get_attach_cookie_trace
"""
_TRACEPOINT = """
    perf_event_output=perf_event_output_tp get_stackid=get_stackid_tp get_stack=get_stack_tp
    get_attach_cookie=get_attach_cookie_trace
"""
_PERF_EVENT = """
    perf_event_output=perf_event_output_tp get_stackid=get_stackid_pe get_stack=get_stack_pe
    perf_prog_read_value read_branch_records get_attach_cookie=get_attach_cookie_pe
"""
_LSM = """
    inode_storage_get inode_storage_delete sk_storage_get sk_storage_delete bprm_opts_set
    ima_inode_hash ima_file_hash
"""
_SYSCALL = "get_attach_cookie=- sys_bpf btf_find_by_name_kind sys_close kallsyms_lookup_name"

# program type -> (what it builds on, "" for BASE only; its words)
TYPES: dict[str, tuple[str, str]] = {
    "sk_base": ("", _SK_BASE),
    "any_tracing": ("", _ANY_TRACING),
    "tracing": ("raw_tp", _TRACING),
    "trampoline": ("tracing", _TRAMPOLINE),
    "tc": ("sk_base", _TC),
    "sched_act": ("sk_base", _TC),
    "xdp": ("sk_base", _XDP),
    "socket_filter": ("sk_base", _SOCKET),
    "cgroup_skb": ("socket_filter", _CGROUP_SKB),
    "sock_ops": ("sk_base", _SOCK_OPS),
    "cgroup_sock_addr": ("sk_base", _SOCK_ADDR),
    "cgroup_sock": ("", _CGROUP_SOCK),
    "cgroup_device": ("", "perf_event_output=event_output_data"),
    "cgroup_sysctl": ("", _SYSCTL),
    "cgroup_sockopt": ("", _SOCKOPT),
    "sk_skb": ("sk_base", _SK_SKB),
    "sk_msg": ("sk_base", _SK_MSG),
    "sk_lookup": (
        "sk_base", "perf_event_output=event_output_data sk_assign=sk_lookup_assign sk_release"
    ),
    "sk_reuseport": ("", _SK_REUSEPORT),
    "flow_dissector": ("sk_base", "skb_load_bytes=flow_dissector_load_bytes"),
    "lwt_out": ("sk_base", _LWT_OUT),
    "lwt_in": ("lwt_out", "lwt_push_encap=lwt_in_push_encap"),
    "lwt_xmit": ("lwt_out", _LWT_XMIT),
    "netfilter": ("", ""),
    "kprobe": ("any_tracing", _KPROBE),
    "tracepoint": ("any_tracing", _TRACEPOINT),
    "perf_event": ("any_tracing", _PERF_EVENT),
    "raw_tp": ("any_tracing", _RAW_TP),
    "raw_tp_writable": ("any_tracing", _RAW_TP),
    # at a raw tracepoint
    "tp_btf": ("tracing", "get_func_arg get_func_arg_cnt"),
    "fentry": ("trampoline", ""),
    "fexit": ("trampoline", ""),
    "fmod_ret": ("trampoline", ""),
    # what an iterator's target adds is not here (setsockopt of TCP and UNIX sockets)
    "iter": ("tracing", "get_attach_cookie=- seq_printf seq_write seq_printf_btf"),
    "lsm": ("trampoline", _LSM),
    "syscall": ("tracing", _SYSCALL),
    # of struct tcp_congestion_ops: the member decides about setsockopt
    "tcp_congestion_ops": (
        "", "tcp_send_ack sk_storage_get sk_storage_delete ktime_get_coarse_ns"
    ),
}  # fmt: skip
# helpers whose availability depends on more than the type: attach type, hook or member
DEPENDS: dict[str, frozenset[str]] = {
    "cgroup_sock_addr": frozenset({"bind", "setsockopt", "getsockopt"}),
    "cgroup_sock": frozenset({"setsockopt", "getsockopt"}),
    "cgroup_sockopt": frozenset({"setsockopt", "getsockopt"}),
    "lsm": frozenset({"setsockopt", "getsockopt"}),
    "iter": frozenset({"setsockopt", "getsockopt"}),
    "tcp_congestion_ops": frozenset({"setsockopt", "getsockopt"}),
    "kprobe": frozenset({"get_func_ip", "get_attach_cookie"}),
    # they have it in some series only
    "tp_btf": frozenset({"get_attach_cookie", "get_func_arg", "get_func_arg_cnt"}),
}
# of CGROUPS: the attach type decides
CGROUP_DEPENDS = frozenset({"get_retval", "set_retval"})
# map type -> the only helpers that may be given a map of it (check_map_func_compatibility())
ONLY_WITH: dict[str, str] = {
    "PROG_ARRAY": "tail_call",
    "PERF_EVENT_ARRAY": "perf_event_read perf_event_output skb_output perf_event_read_value "
    "xdp_output",
    "RINGBUF": "ringbuf_output ringbuf_reserve ringbuf_query ringbuf_reserve_dynptr "
    "ringbuf_submit_dynptr ringbuf_discard_dynptr",
    "USER_RINGBUF": "user_ringbuf_drain",
    "STACK_TRACE": "get_stackid",
    "CGROUP_ARRAY": "skb_under_cgroup current_task_under_cgroup",
    "CGROUP_STORAGE": "get_local_storage",
    "PERCPU_CGROUP_STORAGE": "get_local_storage",
    "DEVMAP": "redirect_map map_lookup_elem",
    "DEVMAP_HASH": "redirect_map map_lookup_elem",
    "CPUMAP": "redirect_map",
    "XSKMAP": "redirect_map map_lookup_elem",
    "ARRAY_OF_MAPS": "map_lookup_elem",
    "HASH_OF_MAPS": "map_lookup_elem",
    "SOCKMAP": "sk_redirect_map sock_map_update msg_redirect_map sk_select_reuseport "
    "map_lookup_elem map_update_elem map_delete_elem",
    "SOCKHASH": "sk_redirect_hash sock_hash_update msg_redirect_hash sk_select_reuseport "
    "map_lookup_elem map_update_elem map_delete_elem",
    "REUSEPORT_SOCKARRAY": "sk_select_reuseport",
    "QUEUE": "map_peek_elem map_pop_elem map_push_elem",
    "STACK": "map_peek_elem map_pop_elem map_push_elem",
    "SK_STORAGE": "sk_storage_get sk_storage_delete kptr_xchg",
    "INODE_STORAGE": "inode_storage_get inode_storage_delete kptr_xchg",
    "TASK_STORAGE": "task_storage_get task_storage_delete kptr_xchg",
    "CGRP_STORAGE": "cgrp_storage_get cgrp_storage_delete kptr_xchg",
    "BLOOM_FILTER": "map_peek_elem map_push_elem",
}
# helpers -> the only map types that they may be given (the same function's second half)
ONLY_ON: dict[str, str] = {
    "tail_call": "PROG_ARRAY",
    "perf_event_read perf_event_output perf_event_read_value skb_output xdp_output":
        "PERF_EVENT_ARRAY",
    "ringbuf_output ringbuf_reserve ringbuf_query ringbuf_reserve_dynptr ringbuf_submit_dynptr "
    "ringbuf_discard_dynptr": "RINGBUF",
    "user_ringbuf_drain": "USER_RINGBUF",
    "get_stackid": "STACK_TRACE",
    "current_task_under_cgroup skb_under_cgroup": "CGROUP_ARRAY",
    "redirect_map": "DEVMAP DEVMAP_HASH CPUMAP XSKMAP",
    "sk_redirect_map msg_redirect_map sock_map_update": "SOCKMAP",
    "sk_redirect_hash msg_redirect_hash sock_hash_update": "SOCKHASH",
    "get_local_storage": "CGROUP_STORAGE PERCPU_CGROUP_STORAGE",
    "sk_select_reuseport": "REUSEPORT_SOCKARRAY SOCKMAP SOCKHASH",
    "map_pop_elem": "QUEUE STACK",
    "map_peek_elem map_push_elem": "QUEUE STACK BLOOM_FILTER",
    "map_lookup_percpu_elem": "PERCPU_ARRAY PERCPU_HASH LRU_PERCPU_HASH",
    "sk_storage_get sk_storage_delete": "SK_STORAGE",
    "inode_storage_get inode_storage_delete": "INODE_STORAGE",
    "task_storage_get task_storage_delete": "TASK_STORAGE",
    "cgrp_storage_get cgrp_storage_delete": "CGRP_STORAGE",
}  # fmt: skip
