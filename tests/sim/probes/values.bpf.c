// SPDX-License-Identifier: GPL-2.0-only
/* Contexts, helpers, maps and kfuncs in BPF_PROG_TEST_RUN: one value a program.
 * Not cases of the suite: `bpfthrow run tests/sim/probes` holds the simulator against a kernel. */
#pragma clang diagnostic ignored "-Wunused-variable"
#include "exceptions.h"
#include <bpf/bpf_endian.h>
#define P(name, expr)                                 \
	SEC("tc") __success                           \
	__hook("test_run")                            \
	__input(d, "eth ipv4 udp payload=22")         \
	__input(v, "eth vlan=5 ipv4 udp payload=22")  \
	__input(s, "eth ethertype=0x0040 payload=40") \
	int name(struct __sk_buff *ctx)               \
	{                                             \
		return (expr);                        \
	}
P(f_len, ctx->len)
P(f_pkt_type, ctx->pkt_type)
P(f_mark, ctx->mark)
P(f_qm, ctx->queue_mapping)
P(f_proto, ctx->protocol)
P(f_vp, ctx->vlan_present)
P(f_vt, ctx->vlan_tci)
P(f_vpr, ctx->vlan_proto)
P(f_prio, ctx->priority)
P(f_iif, ctx->ingress_ifindex)
P(f_if, ctx->ifindex)
P(f_tci, ctx->tc_index)
P(f_cb, ctx->cb[0] + ctx->cb[4])
P(f_hash, ctx->hash)
P(f_cls, ctx->tc_classid)
P(f_napi, ctx->napi_id)
P(f_tst, ctx->tstamp)
P(f_gs, ctx->gso_segs)
P(f_gsz, ctx->gso_size)
P(f_meta, ctx->data - ctx->data_meta)
P(f_narrow, *((volatile __u8 *)&ctx->protocol + 1))
#define X(name, expr)                \
	SEC("xdp") __success         \
	__hook("test_run")           \
	int name(struct xdp_md *ctx) \
	{                            \
		return (expr);       \
	}
X(x_iif, ctx->ingress_ifindex)
X(x_rq, ctx->rx_queue_index)
X(x_meta, ctx->data - ctx->data_meta)
X(x_head_m, bpf_xdp_adjust_head(ctx, -200))
X(x_head_m2, bpf_xdp_adjust_head(ctx, -230))
X(x_head_m216, bpf_xdp_adjust_head(ctx, -216))
X(x_head_m217, bpf_xdp_adjust_head(ctx, -217))
X(x_head_p, bpf_xdp_adjust_head(ctx, 50))
X(x_head_p51, bpf_xdp_adjust_head(ctx, 51))
X(x_tail, bpf_xdp_adjust_tail(ctx, -50))
X(x_tail51, bpf_xdp_adjust_tail(ctx, -51))
X(x_am4, bpf_xdp_adjust_meta(ctx, -4))
X(x_am5, bpf_xdp_adjust_meta(ctx, -5))
X(x_am252, bpf_xdp_adjust_meta(ctx, -252))
X(x_am216, bpf_xdp_adjust_meta(ctx, -216))
X(x_am_p, bpf_xdp_adjust_meta(ctx, 4))
X(x_redir, bpf_redirect(1, 0))
X(x_redirf, bpf_redirect(1, 1))
P(t_redir, bpf_redirect(1, 0))
P(t_redirf, bpf_redirect(1, 2))
P(t_redir1, bpf_redirect(1, 1))
P(pull, bpf_skb_pull_data(ctx, 64))
P(pull0, bpf_skb_pull_data(ctx, 0))
P(pull65, bpf_skb_pull_data(ctx, 65))
#define B(name, ...)                    \
	SEC("tc") __success             \
	__hook("test_run")              \
	int name(struct __sk_buff *ctx) \
	{                               \
		__VA_ARGS__             \
	}
#define C(name, ...)                                                                          \
	SEC("tc") __success                                                                   \
	__hook("test_run")                                                                    \
	int name(struct __sk_buff *ctx)                                                       \
	{                                                                                     \
		__u32 gone[2] = {0x12345678, 0xffff0001}, come[2] = {0xdeadbeef, 0x80000000}; \
		__VA_ARGS__                                                                   \
	}
C(csum_both, return bpf_csum_diff(gone, 8, come, 8, 0x1111);)
C(csum_old, return bpf_csum_diff(gone, 8, 0, 0, 0x1111);)
C(csum_new, return bpf_csum_diff(0, 0, come, 8, 0xfff1111);)
C(csum_none, return bpf_csum_diff(0, 0, 0, 0, 0x5fff1111);)
C(csum_same, return bpf_csum_diff(gone, 8, gone, 8, 0);)
C(csum_z, __u32 z[2] = {}; return bpf_csum_diff(z, 8, z, 8, 0);)
C(csum_more, return bpf_csum_diff(gone, 4, come, 8, 7);)
B(load_ok, __u8 b[4] = {}; return bpf_skb_load_bytes(ctx, 60, b, 4) * 1000 + b[3];)
B(load_far, __u8 b[4] = {1, 1, 1, 1}; long r = bpf_skb_load_bytes(ctx, 61, b, 4);
  return r * 1000 + b[3];)
B(store, __u8 b[4] = {9, 8, 7, 6}; return bpf_skb_store_bytes(ctx, 6, b, 4, 0);)
B(store_far, __u8 b[4] = {9, 8, 7, 6}; return bpf_skb_store_bytes(ctx, 61, b, 4, 0);)
B(store_flag, __u8 b[4] = {9, 8, 7, 6}; return bpf_skb_store_bytes(ctx, 6, b, 4, 8);)
B(printk1, return bpf_printk("hello %d %x", 5, 255);)
B(printk2, return bpf_printk("a %lld %s", -5LL, "str");)
B(printk3, return bpf_printk("%5d|%05x|%c%%", 5, 255, 'c');)
B(printk4, return bpf_printk("%hhd %u %lu", 300, -1, -1L);)
B(cpu, return bpf_get_smp_processor_id();)
B(numa, return bpf_get_numa_node_id();)
B(cbw, ctx->cb[2] = 7; ctx->mark = 9; ctx->priority = 3; ctx->tc_index = 70000; ctx->tc_classid = 5;
  barrier(); return ctx->cb[2] * 10000 + ctx->mark * 1000 + ctx->priority * 100 + ctx->tc_classid +
	 ctx->tc_index;)
B(qmw, ctx->queue_mapping = 5; barrier(); return ctx->queue_mapping;)
B(qmw2, ctx->queue_mapping = 70000; barrier(); return ctx->queue_mapping;)
B(tsw, ctx->tstamp = 12345678; return ctx->tstamp;)
B(strn, char a[8] = "abcdefg"; return bpf_strncmp(a, 8, "abcdxfg");)
B(strn2, char a[8] = "abc"; return bpf_strncmp(a, 8, "abcd");)
B(strn3, char a[8] = "abc"; return bpf_strncmp(a, 2, "abX");)
static long stop3(__u32 i, void *c)
{
	return i == 3;
}
static long never(__u32 i, void *c)
{
	return 0;
}
B(loop_stop, return bpf_loop(10, stop3, 0, 0);)
B(loop_all, return bpf_loop(10, never, 0, 0);)
B(loop_0, return bpf_loop(0, never, 0, 0);)
B(loop_flag, return bpf_loop(3, never, 0, 1);)
B(loop_many, return bpf_loop((8 << 20) + 1, never, 0, 0);)
#define M(n, t)                                 \
	struct {                                \
		__uint(type, BPF_MAP_TYPE_##t); \
		__uint(max_entries, 2);         \
		__type(key, __u32);             \
		__type(value, __u64);           \
	} n SEC(".maps");
M(ha, HASH)
M(ar, ARRAY)
M(pa, PERCPU_ARRAY)
M(ph, PERCPU_HASH)
M(lr, LRU_HASH)
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 2);
	__type(value, __u64);
} qu SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 2);
	__type(value, __u64);
} sk SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} rb SEC(".maps");
#define U(n, m, k, f) B(n, __u32 key = k; __u64 v = 5; return bpf_map_update_elem(&m, &key, &v, f);)
U(u1, ha, 7, 0)
U(u2, ha, 7, 1)
U(u3, ha, 7, 2)
U(u4, ha, 7, 3)
U(u5, ar, 1, 0)
U(u6, ar, 1, 1)
U(u7, ar, 2, 0)
U(u8, ar, 1, 2)
U(u9, pa, 1, 0)
U(u10, pa, 2, 0)
U(u11, pa, 0, 1)
U(u12, ph, 9, 0)
U(u13, ph, 9, 2)
U(u14, lr, 9, 0)
U(u15, lr, 9, 2)
U(u16, ar, 5, 1)
U(u17, ar, 5, 8)
U(u18, ha, 1, 8)
B(d1, __u32 k = 1; return bpf_map_delete_elem(&ha, &k);)
B(d2, __u32 k = 1; return bpf_map_delete_elem(&ar, &k);)
B(d3, __u32 k = 1; __u64 v = 3; bpf_map_update_elem(&ha, &k, &v, 0);
  return bpf_map_delete_elem(&ha, &k);)
B(d4, __u32 k = 1; return bpf_map_delete_elem(&ph, &k);)
B(full, __u32 k = 1; __u64 v = 3; bpf_map_update_elem(&ha, &k, &v, 0); k++;
  bpf_map_update_elem(&ha, &k, &v, 0); k++; return bpf_map_update_elem(&ha, &k, &v, 0);)
B(oldptr, __u32 k = 1; __u64 v = 3; bpf_map_update_elem(&ha, &k, &v, 0);
  __u64 *p = bpf_map_lookup_elem(&ha, &k); if (!p) return -1; v = 4;
  bpf_map_update_elem(&ha, &k, &v, 0); *p += 10; __u64 *q = bpf_map_lookup_elem(&ha, &k);
  return q ? *q : -2;)
B(oldptr_a, __u32 k = 1; __u64 v = 3; __u64 *p = bpf_map_lookup_elem(&ar, &k); if (!p) return -1;
  v = 4; bpf_map_update_elem(&ar, &k, &v, 0); *p += 10; __u64 *q = bpf_map_lookup_elem(&ar, &k);
  return q ? *q : -2;)
B(oldptr_p, __u32 k = 1; __u64 v = 3; bpf_map_update_elem(&ph, &k, &v, 0);
  __u64 *p = bpf_map_lookup_elem(&ph, &k); if (!p) return -1; v = 4;
  bpf_map_update_elem(&ph, &k, &v, 0); *p += 10; __u64 *q = bpf_map_lookup_elem(&ph, &k);
  return q ? *q : -2;)
B(lpc, __u32 k = 1; __u64 *p = bpf_map_lookup_percpu_elem(&pa, &k, 0); return p ? *p + 1 : -1;)
B(lpc1, __u32 k = 1; __u64 *p = bpf_map_lookup_percpu_elem(&pa, &k, 200); return p ? *p + 1 : -1;)
B(q1, __u64 v = 1; bpf_map_push_elem(&qu, &v, 0); v = 2; bpf_map_push_elem(&qu, &v, 0); v = 3;
  long r = bpf_map_push_elem(&qu, &v, 0); bpf_map_push_elem(&qu, &v, 2); __u64 w;
  bpf_map_pop_elem(&qu, &w); return w * 100 + r;)
B(q2, __u64 v = 1; bpf_map_push_elem(&sk, &v, 0); v = 2; bpf_map_push_elem(&sk, &v, 0); v = 3;
  long r = bpf_map_push_elem(&sk, &v, 0); bpf_map_push_elem(&sk, &v, 2); __u64 w;
  bpf_map_peek_elem(&sk, &w); return w * 100 + r;)
B(q4, __u64 w = 5; return bpf_map_push_elem(&qu, &w, 1);)
static long each(void *m, __u32 *k, __u64 *v, __u64 *s)
{
	*s += *k * 10 + *v;
	return *k == 1;
}
B(fe, __u64 s = 0; long n = bpf_for_each_map_elem(&ar, each, &s, 0); return n * 1000 + s;)
B(fe2, __u64 s = 0; return bpf_for_each_map_elem(&ar, each, &s, 1);)
B(fe3, __u64 s = 0; return bpf_for_each_map_elem(&ha, each, &s, 0);)
B(rb1, __u64 v = 1; return bpf_ringbuf_output(&rb, &v, 8, 0);) __u8 big[4096];
B(rb3, return bpf_ringbuf_output(&rb, big, 4088, 0);)
struct bpf_iter_num {
	__u64 __opaque[1];
} __attribute__((aligned(8)));
extern int bpf_iter_num_new(struct bpf_iter_num *, int, int) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *) __weak __ksym;
#define I(n, a, b)                                                                       \
	B(n, struct bpf_iter_num it; int *v, s = 0; int r = bpf_iter_num_new(&it, a, b); \
	  for (int i = 0; i < 20 && (v = bpf_iter_num_next(&it)); i++) s = s * 3 + *v;   \
	  bpf_iter_num_destroy(&it); return s + r;)
I(it1, 2, 6)
I(it2, 5, 5)
I(it3, 6, 5)
I(it4, 0, (8 << 20) + 1)
I(it5, -5, -1)
I(it6, (int)0x80000000, (int)0x80000003)
I(it7, 0, 8 << 20)
B(probe, __u64 x = 7, y = 1; long r = bpf_probe_read_kernel(&y, 8, &x); return r * 10 + y;)
B(probe0, __u64 y = 1; long r = bpf_probe_read_kernel(&y, 8, 0); return r * 10 + y;)
SEC("cgroup_skb/ingress") __success
__hook("test_run")
int cg(struct __sk_buff *ctx)
{
	void *d = (void *)(long)ctx->data;
	if (d + 1 > (void *)(long)ctx->data_end)
		return 0;
	return *(__u8 *)d == 0x45 && ctx->len == 50;
}
SEC("cgroup_skb/egress") __success
__hook("test_run")
int cg2(struct __sk_buff *ctx)
{
	return (ctx->protocol == 8) + 2 * (ctx->mark == 0);
}
char _license[] SEC("license") = "GPL";
