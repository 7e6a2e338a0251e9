// SPDX-License-Identifier: GPL-2.0-only
/* Programs of these types may not call bpf_throw(), whatever they throw. */
#include "verdict.h"

#define TYPE(section, name)                                       \
	SEC("?" section) __failure                                \
	__errno(13)                                               \
	__msg("calling kernel function bpf_throw is not allowed") \
	int name(void *ctx)                                       \
	{                                                         \
		bpf_throw(0);                                     \
		return 0;                                         \
	}
TYPE("kretprobe", kretprobe)
TYPE("uprobe", uprobe)
TYPE("ksyscall/getpid", ksyscall)
TYPE("sk_msg", sk_msg)
TYPE("sk_skb/stream_parser", sk_skb_parser)
TYPE("sk_skb/stream_verdict", sk_skb_verdict)
TYPE("lwt_out", lwt_out)
TYPE("lwt_xmit", lwt_xmit)
TYPE("lwt_seg6local", lwt_seg6local)
TYPE("netfilter", netfilter)
TYPE("sk_reuseport", sk_reuseport)
TYPE("flow_dissector", flow_dissector)
TYPE("raw_tp.w/nbd_send_request", raw_tp_writable)

/* In a function that is called, too. */
__noinline int throws(int x)
{
	barrier_var(x);
	bpf_throw(0);
	return x;
}

SEC("?socket") __failure
__errno(13)
__msg("calling kernel function bpf_throw is not allowed")
int below_socket(struct __sk_buff *skb)
{
	return throws(skb->len);
}

/* Raw tracepoints may, since 7.3. */
SEC("?raw_tp/sys_enter") __success
__hook("load")
__on("6.12,6.18", "failure")
__on("6.12,6.18", "errno=13")
__on("6.12,6.18", "msg=1=calling kernel function bpf_throw is not allowed")
int raw_tracepoint(void *ctx)
{
	bpf_throw(0);
	return 0;
}

/* Near misses: types much like those above. */
SEC("?tcx/ingress") __success
__retval(3)
__hook("test_run")
int tcx(struct __sk_buff *skb)
{
	bpf_throw(3);
	return 0;
}

SEC("?xdp.frags") __success
__retval(3)
__hook("test_run")
int xdp_frags(struct xdp_md *ctx)
{
	bpf_throw(3);
	return 0;
}

SEC("?syscall") __success
__retval(3)
int syscall(void *ctx)
{
	bpf_throw(3);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
