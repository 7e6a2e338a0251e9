// SPDX-License-Identifier: GPL-2.0-only
/* Maps and what takes memory: LPM tries, maps of maps, ring buffers, dynptrs, storage, timers.
 * Not cases of the suite: `bpfthrow run tests/sim/probes` holds the simulator against a kernel. */
#pragma clang diagnostic ignored "-Wunused-variable"
#include "exceptions.h"
#define B(name, ...)                    \
	SEC("tc") __success             \
	__hook("test_run")              \
	int name(struct __sk_buff *ctx) \
	{                               \
		__VA_ARGS__             \
	}
struct lpm {
	__u32 len;
	__u32 data;
};
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 3);
	__type(key, struct lpm);
	__type(value, __u32);
} trie SEC(".maps");
static __always_inline long put(__u32 len, __u32 data, __u32 value, __u64 flags)
{
	struct lpm k = {len, data};
	return bpf_map_update_elem(&trie, &k, &value, flags);
}
static __always_inline __u32 get(__u32 len, __u32 data)
{
	struct lpm k = {len, data};
	__u32 *v = bpf_map_lookup_elem(&trie, &k);
	return v ? *v : 9999;
}
B(t_none, return get(32, 5);)
B(t_long, return get(33, 5);)
B(t_pref, put(8, 0x0a, 1, 0); put(16, 0x010a, 2, 0); put(24, 0x02010a, 3, 0);
  return get(32, 0x0302010a) * 100 + get(32, 0x0303010a) * 10 + get(32, 0x0301020a);)
B(t_short, put(16, 0x010a, 2, 0); return get(8, 0x010a);)
B(t_zero, put(0, 0, 7, 0); return get(32, 0x01020304);)
B(t_mask, put(8, 0xffffff0a, 1, 0); return get(32, 0x0a) * 10 + (get(32, 0xff0a) == 1);)
B(t_full, put(8, 1, 1, 0); put(8, 2, 1, 0); put(8, 3, 1, 0); return put(8, 4, 1, 0);)
B(t_over, put(8, 1, 1, 0); put(8, 2, 1, 0); put(8, 3, 1, 0); return put(8, 3, 5, 0) + get(8, 3);)
B(t_exist, return put(8, 1, 1, 2);)
B(t_noexist, put(8, 1, 1, 0); return put(8, 1, 1, 1);)
B(t_flag, return put(8, 1, 1, 3);)
B(t_33, return put(33, 1, 1, 0);)
B(t_del, struct lpm k = {8, 1}; put(8, 1, 1, 0); long r = bpf_map_delete_elem(&trie, &k);
  return r * 100 + bpf_map_delete_elem(&trie, &k);)
B(t_del33, struct lpm k = {33, 1}; return bpf_map_delete_elem(&trie, &k);)
B(t_delmid, put(8, 1, 1, 0); put(16, 0x0101, 2, 0); put(16, 0x0201, 3, 0); struct lpm k = {8, 1};
  bpf_map_delete_elem(&trie, &k); return get(32, 0x0101) * 100 + get(32, 0x0201) * 10 + get(8, 1);)
B(t_old, struct lpm k = {8, 1}; put(8, 1, 1, 0); __u32 *p = bpf_map_lookup_elem(&trie, &k);
  if (!p) return -1; put(8, 1, 5, 0); return *p * 10 + get(8, 1);)
struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} in0 SEC(".maps"), in1 SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = {.values = {&in0, 0, &in1}};
struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, __u32);
	__array(values, struct inner);
} outerh SEC(".maps") = {.values = {[2] = &in1}};
static __always_inline long nested(void *map, __u32 i, __u32 k, __u64 v)
{
	void *m = bpf_map_lookup_elem(map, &i);
	if (!m)
		return -1;
	bpf_map_update_elem(m, &k, &v, 0);
	__u64 *p = bpf_map_lookup_elem(m, &k);
	return p ? *p : -2;
}
B(o_0, return nested(&outer, 0, 1, 11);)
B(o_1, return nested(&outer, 1, 1, 12);)
B(o_2, return nested(&outer, 2, 1, 13);)
B(o_3, return nested(&outer, 3, 1, 14);)
B(o_k, return nested(&outer, 0, 2, 15);)
B(h_0, return nested(&outerh, 0, 1, 16);)
B(h_2, return nested(&outerh, 2, 0, 17);)
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} rb SEC(".maps"), rb2 SEC(".maps"), rb3 SEC(".maps"), rb4 SEC(".maps"), rb5 SEC(".maps"),
	rb6 SEC(".maps");
__u8 bytes[4096];
B(q_size, return bpf_ringbuf_query(&rb, 1);)
B(q_5, return bpf_ringbuf_query(&rb, 5);)
B(q_avail, bpf_ringbuf_output(&rb2, bytes, 13, 0); return bpf_ringbuf_query(&rb2, 0) * 10000 +
  bpf_ringbuf_query(&rb2, 3) * 100 + bpf_ringbuf_query(&rb2, 2);)
B(r_flag, return bpf_ringbuf_output(&rb, bytes, 8, 4);)
B(r_wake, return bpf_ringbuf_output(&rb3, bytes, 8, 3);)
B(r_max, return bpf_ringbuf_output(&rb4, bytes, 4088, 0);)
B(r_most, return bpf_ringbuf_output(&rb5, bytes, 4080, 0) * 100 +
  bpf_ringbuf_output(&rb5, bytes, 1, 0);)
B(r_resf, void *p = bpf_ringbuf_reserve(&rb, 8, 1); if (p) bpf_ringbuf_discard(p, 0); return !p;)
B(r_pend, void *p = bpf_ringbuf_reserve(&rb6, 8, 0); if (!p) return -1;
  long r = bpf_ringbuf_output(&rb6, bytes, 4064, 0); bpf_ringbuf_discard(p, 0);
  return r * 10000 + bpf_ringbuf_query(&rb6, 3);)
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} rd SEC(".maps");
B(d_res, struct bpf_dynptr p; long r = bpf_ringbuf_reserve_dynptr(&rd, 16, 0, &p);
  __u64 v = 5, w = 0; long a = bpf_dynptr_write(&p, 8, &v, 8, 0), b = bpf_dynptr_read(&w, 8, &p, 8, 0);
  bpf_ringbuf_submit_dynptr(&p, 0); return r * 1000 + a * 100 + b * 10 + w;)
B(d_resf, struct bpf_dynptr p; long r = bpf_ringbuf_reserve_dynptr(&rd, 16, 1, &p);
  bpf_ringbuf_discard_dynptr(&p, 0); return r;)
B(d_resbig, struct bpf_dynptr p; long r = bpf_ringbuf_reserve_dynptr(&rd, 8000, 0, &p);
  __u64 v = 5; long a = bpf_dynptr_write(&p, 8, &v, 8, 0);
  bpf_ringbuf_discard_dynptr(&p, 0); return r * 1000 + a;)
B(d_reshuge, struct bpf_dynptr p; long r = bpf_ringbuf_reserve_dynptr(&rd, 1 << 24, 0, &p);
  bpf_ringbuf_discard_dynptr(&p, 0); return r;)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[64]);
} mem SEC(".maps");
#define D(name, ...)                                                \
	B(name, __u32 zero = 0; __u8 *m = bpf_map_lookup_elem(&mem, &zero); \
	  struct bpf_dynptr p; __u64 w = 0x1122334455667788; if (!m) return -1; \
	  long r = bpf_dynptr_from_mem(m, 64, 0, &p); __VA_ARGS__)
D(d_mem, return r;)
B(d_memf, __u32 zero = 0; __u8 *m = bpf_map_lookup_elem(&mem, &zero); struct bpf_dynptr p;
  if (!m) return -1; return bpf_dynptr_from_mem(m, 64, 1, &p);)
D(d_rd, long a = bpf_dynptr_read(&w, 8, &p, 56, 0); return a * 10 + (w == 0);)
D(d_rd57, long a = bpf_dynptr_read(&w, 8, &p, 57, 0); return a * 10 + (w == 0);)
D(d_rdf, long a = bpf_dynptr_read(&w, 8, &p, 0, 1); return a * 10 + (w == 0);)
D(d_wr, long a = bpf_dynptr_write(&p, 3, &w, 8, 0); return a * 1000 + m[3];)
D(d_wrf, return bpf_dynptr_write(&p, 3, &w, 8, 1);)
D(d_wr60, return bpf_dynptr_write(&p, 60, &w, 8, 0);)
D(d_data, __u8 *q = bpf_dynptr_data(&p, 8, 8); if (!q) return -1; *q = 5; return m[8];)
D(d_data60, return !bpf_dynptr_data(&p, 60, 8);)
extern int bpf_dynptr_from_skb(struct __sk_buff *, __u64, struct bpf_dynptr *) __weak __ksym;
extern int bpf_dynptr_from_xdp(struct xdp_md *, __u64, struct bpf_dynptr *) __weak __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *, __u32, void *, __u32) __weak __ksym;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *, __u32, void *, __u32) __weak __ksym;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *, __u32, __u32) __weak __ksym;
extern _Bool bpf_dynptr_is_null(const struct bpf_dynptr *) __weak __ksym;
extern _Bool bpf_dynptr_is_rdonly(const struct bpf_dynptr *) __weak __ksym;
extern __u32 bpf_dynptr_size(const struct bpf_dynptr *) __weak __ksym;
extern int bpf_dynptr_clone(const struct bpf_dynptr *, struct bpf_dynptr *) __weak __ksym;
D(k_size, return bpf_dynptr_size(&p) * 10 + bpf_dynptr_is_null(&p) + bpf_dynptr_is_rdonly(&p);)
D(k_adj, int a = bpf_dynptr_adjust(&p, 8, 24); return a * 1000 + bpf_dynptr_size(&p);)
D(k_adjb, return bpf_dynptr_adjust(&p, 9, 8);)
D(k_adjr, return bpf_dynptr_adjust(&p, 0, 65);)
D(k_adjrd, bpf_dynptr_adjust(&p, 8, 24); m[9] = 7; __u8 c = 0; bpf_dynptr_read(&c, 1, &p, 1, 0);
  return c * 100 + bpf_dynptr_read(&c, 1, &p, 16, 0);)
D(k_clone, struct bpf_dynptr q; bpf_dynptr_clone(&p, &q); bpf_dynptr_adjust(&p, 4, 5);
  return bpf_dynptr_size(&q) * 100 + bpf_dynptr_size(&p);)
D(k_slice, __u8 *q = bpf_dynptr_slice(&p, 60, 0, 4); return q ? *q : -1;)
D(k_slice5, __u8 *q = bpf_dynptr_slice(&p, 60, 0, 5); return q ? *q : -1;)
#define K(name, ...)                                                   \
	SEC("tc") __success                                            \
	__hook("test_run")                                             \
	__input(d, "eth ipv4 udp payload=22")                          \
	int name(struct __sk_buff *ctx)                                \
	{                                                              \
		struct bpf_dynptr p;                                   \
		__u64 w = 0x1122334455667788;                          \
		int r = bpf_dynptr_from_skb(ctx, 0, &p);               \
		__VA_ARGS__                                            \
	}
K(s_size, return r * 100 + bpf_dynptr_size(&p);)
K(s_read, long a = bpf_dynptr_read(&w, 8, &p, 14, 0); return a + w;)
K(s_readx, long a = bpf_dynptr_read(&w, 8, &p, 57, 0); return a;)
K(s_write, return bpf_dynptr_write(&p, 20, &w, 8, 0);)
K(s_writef, return bpf_dynptr_write(&p, 20, &w, 8, 4);)
K(s_data, return !bpf_dynptr_data(&p, 8, 8);)
K(s_slice, __u8 buf[8]; __u8 *q = bpf_dynptr_slice(&p, 56, buf, 8); return q ? *q : -1;)
K(s_rdwr, __u8 buf[8]; __u8 *q = bpf_dynptr_slice_rdwr(&p, 14, buf, 8); if (!q) return -1;
  *q = 9; return r;)
K(s_cut, bpf_skb_change_tail(ctx, 40, 0); long a = bpf_dynptr_read(&w, 8, &p, 40, 0);
  return a * 100 + bpf_dynptr_size(&p);)
K(s_adj, bpf_dynptr_adjust(&p, 14, 34); long a = bpf_dynptr_read(&w, 8, &p, 0, 0); return a + w;)
SEC("tc") __success
__hook("test_run")
int s_flag(struct __sk_buff *ctx)
{
	struct bpf_dynptr p;
	int r = bpf_dynptr_from_skb(ctx, 1, &p);
	return r * 100 + bpf_dynptr_is_null(&p) * 10 + (bpf_dynptr_size(&p) == (__u32)-22);
}
SEC("xdp") __success
__hook("test_run")
int x_dyn(struct xdp_md *ctx)
{
	struct bpf_dynptr p;
	__u32 w = 0x55667788;
	int r = bpf_dynptr_from_xdp(ctx, 0, &p);
	long a = bpf_dynptr_write(&p, 4, &w, 4, 0), b = bpf_dynptr_read(&w, 4, &p, 61, 0);
	return r * 1000 + a * 100 + b * 10 + bpf_dynptr_size(&p);
}
struct timed {
	struct bpf_timer timer;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct timed);
} timers SEC(".maps");
static int fired(void *map, __u32 *key, struct timed *v)
{
	return 0;
}
#define TM(name, ...)                                                          \
	B(name, __u32 k = 1; struct timed *t = bpf_map_lookup_elem(&timers, &k); \
	  if (!t) return -1; __VA_ARGS__)
TM(tm_init, return bpf_timer_init(&t->timer, &timers, 1) * 100 +
   bpf_timer_init(&t->timer, &timers, 1);)
TM(tm_clock, return bpf_timer_init(&t->timer, &timers, 2);)
TM(tm_flag, return bpf_timer_init(&t->timer, &timers, 16);)
TM(tm_none, return bpf_timer_start(&t->timer, 1, 0) * 10000 + bpf_timer_cancel(&t->timer) * 100 +
   bpf_timer_set_callback(&t->timer, fired);)
TM(tm_nocb, bpf_timer_init(&t->timer, &timers, 1); return bpf_timer_start(&t->timer, 1, 0);)
TM(tm_run, bpf_timer_init(&t->timer, &timers, 1); long a = bpf_timer_set_callback(&t->timer, fired);
   long b = bpf_timer_start(&t->timer, 1000000000000ULL, 0); long c = bpf_timer_cancel(&t->timer);
   return a * 10000 + b * 100 + c;)
TM(tm_bad, bpf_timer_init(&t->timer, &timers, 1); bpf_timer_set_callback(&t->timer, fired);
   return bpf_timer_start(&t->timer, 1, 4);)
TM(tm_idle, bpf_timer_init(&t->timer, &timers, 1); return bpf_timer_cancel(&t->timer);)
struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__uint(max_entries, 100);
	__type(value, __u64);
} bloom SEC(".maps");
B(b_miss, __u64 v = 5; return bpf_map_peek_elem(&bloom, &v);)
/* not on the stack: 7.3 takes a slot that is peeked with for dead */
__u64 pushed = 5;
B(b_hit, long r = bpf_map_push_elem(&bloom, &pushed, 0); return r * 10 +
  bpf_map_peek_elem(&bloom, &pushed);)
B(b_flag, __u64 v = 5; return bpf_map_push_elem(&bloom, &v, 1);)
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} dev SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} cpu SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} xsk SEC(".maps");
#define X(name, ...)                 \
	SEC("xdp") __success         \
	__hook("test_run")           \
	int name(struct xdp_md *ctx) \
	{                            \
		__VA_ARGS__          \
	}
X(rm_none, return bpf_redirect_map(&dev, 0, 2);)
X(rm_abort, return bpf_redirect_map(&dev, 0, 0);)
X(rm_flag, return bpf_redirect_map(&dev, 0, 32 | 2);)
X(rm_excl, return bpf_redirect_map(&dev, 0, 16 | 2);)
X(rm_over, return bpf_redirect_map(&dev, 7, 3);)
X(rm_bcast, return bpf_redirect_map(&dev, 7, 8 | 1);)
X(rm_cpu, return bpf_redirect_map(&cpu, 1, 2);)
X(rm_cpuf, return bpf_redirect_map(&cpu, 1, 8 | 2);)
X(rm_xsk, return bpf_redirect_map(&xsk, 1, 1);)
X(dev_look, __u32 k = 0; return !bpf_map_lookup_elem(&dev, &k);)
X(xsk_look, __u32 k = 0; return !bpf_map_lookup_elem(&xsk, &k);)
X(x_len, return bpf_xdp_get_buff_len(ctx);)
X(x_ld, __u32 w = 0; return bpf_xdp_load_bytes(ctx, 60, &w, 4) + w;)
X(x_ldx, __u32 w = 7; return bpf_xdp_load_bytes(ctx, 61, &w, 4) * 10 + w;)
X(x_ldbig, __u32 w = 7; return bpf_xdp_load_bytes(ctx, 65536, &w, 4) * 10 + w;)
X(x_st, __u32 w = 7; return bpf_xdp_store_bytes(ctx, 60, &w, 4);)
X(x_stx, __u32 w = 7; return bpf_xdp_store_bytes(ctx, 61, &w, 4);)
X(x_grow, return bpf_xdp_adjust_tail(ctx, 100) * 1000 + bpf_xdp_get_buff_len(ctx);)
X(x_growmax, long r = bpf_xdp_adjust_tail(ctx, 3456); bpf_xdp_adjust_tail(ctx, -3456); return r;)
X(x_growover, return bpf_xdp_adjust_tail(ctx, 3457);)
X(x_mtuf, __u32 n = 0; return bpf_check_mtu(ctx, 0, &n, 0, 1);)
struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 2);
} perf SEC(".maps");
B(p_none, __u64 v = 1; return bpf_perf_event_output(ctx, &perf, 0, &v, 8);)
B(p_cur, __u64 v = 1; return bpf_perf_event_output(ctx, &perf, 0xffffffff, &v, 8);)
B(p_over, __u64 v = 1; return bpf_perf_event_output(ctx, &perf, 2, &v, 8);)
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} sks SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} lru SEC(".maps");
B(lru_flag, __u32 k = 1; __u64 v = 2; return bpf_map_update_elem(&lru, &k, &v, 4);)
B(lru_exist, __u32 k = 1; __u64 v = 2; return bpf_map_update_elem(&lru, &k, &v, 2);)
B(lru_del, __u32 k = 1; return bpf_map_delete_elem(&lru, &k);)
char _license[] SEC("license") = "GPL";
