// SPDX-License-Identifier: GPL-2.0-only
/* What a cgroup_skb program sees in BPF_PROG_TEST_RUN.
 * Not cases of the suite: `bpfthrow run tests/sim/probes` holds the simulator against a kernel. */
#pragma clang diagnostic ignored "-Wunused-variable"
#include "exceptions.h"
#define G(name, expr)                                       \
	SEC("cgroup_skb/egress") __success                  \
	__hook("test_run")                                  \
	int name(struct __sk_buff *ctx)                     \
	{                                                   \
		unsigned char *d = (void *)(long)ctx->data; \
		void *e = (void *)(long)ctx->data_end;      \
		return (expr);                              \
	}
G(len50, ctx->len == 50)
G(len64, ctx->len == 64)
G(has1, (void *)(d + 1) <= e)
G(has50, (void *)(d + 50) <= e)
G(has51, (void *)(d + 51) <= e)
G(ver, (void *)(d + 1) <= e ? d[0] == 0x45 : 0)
G(mac, (void *)(d + 1) <= e ? d[0] == 0x02 : 0)
G(zero, (void *)(d + 1) <= e ? d[0] == 0x0 : 0)
G(proto8, ctx->protocol == 8)
G(iif0, ctx->ingress_ifindex == 0)
G(if1, ctx->ifindex == 1)
G(hash0, ctx->hash == 0)
G(pt, ctx->pkt_type & 3)
G(tst, ctx->tstamp == 0)
G(vp, ctx->vlan_present & 1)
G(napi, ctx->napi_id & 1)
G(prio, ctx->priority & 1)
G(mark, ctx->mark & 1)
char _license[] SEC("license") = "GPL";
