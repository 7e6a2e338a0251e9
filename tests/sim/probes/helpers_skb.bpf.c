// SPDX-License-Identifier: GPL-2.0-only
/* Helpers of socket buffer programs at their limits: one value a program, and the frame it leaves.
 * Not cases of the suite: `bpfthrow run tests/sim/probes` holds the simulator against a kernel. */
#pragma clang diagnostic ignored "-Wunused-variable"
#include "exceptions.h"
#include <bpf/bpf_endian.h>
#define T(name, ...)                                   \
	SEC("tc") __success                            \
	__hook("test_run")                             \
	__input(d, "eth ipv4 udp payload=22")          \
	int name(struct __sk_buff *ctx)                \
	{                                              \
		__VA_ARGS__                            \
	}
#define V(name, ...)                                       \
	SEC("tc") __success                                \
	__hook("test_run")                                 \
	__input(d, "eth ipv4 udp payload=22")              \
	__input(v, "eth vlan=5 ipv4 udp payload=22")       \
	__input(q, "eth qinq=7 vlan=5 ipv4 udp payload=22") \
	__input(six, "eth ipv6 udp payload=22")            \
	__input(short, "eth vlan=5 ipv4 cut=17")           \
	int name(struct __sk_buff *ctx)                    \
	{                                                  \
		__VA_ARGS__                                \
	}
T(rel_mac, __u32 w = 0; long r = bpf_skb_load_bytes_relative(ctx, 12, &w, 4, 0); return r + w;)
T(rel_net, __u32 w = 0; long r = bpf_skb_load_bytes_relative(ctx, 0, &w, 4, 1); return r + w;)
T(rel_end, __u32 w = 7; long r = bpf_skb_load_bytes_relative(ctx, 46, &w, 4, 1); return r + w;)
T(rel_far, __u32 w = 7; long r = bpf_skb_load_bytes_relative(ctx, 47, &w, 4, 1); return r + w;)
T(rel_big, __u32 w = 7; long r = bpf_skb_load_bytes_relative(ctx, 65536, &w, 4, 0); return r + w;)
T(rel_bad, __u32 w = 7; long r = bpf_skb_load_bytes_relative(ctx, 0, &w, 4, 2); return r + w;)
T(store_re, __u32 w = 0x01020304; return bpf_skb_store_bytes(ctx, 26, &w, 4, 1);)
T(store_hash, __u32 w = 9; bpf_set_hash(ctx, 77); bpf_skb_store_bytes(ctx, 26, &w, 4, 2);
  return ctx->hash;)
T(l3_2, return bpf_l3_csum_replace(ctx, 24, bpf_htons(0x4011), bpf_htons(0x3f11), 2);)
T(l3_4, return bpf_l3_csum_replace(ctx, 24, bpf_htonl(0x0a000001), bpf_htonl(0xc0a80001), 4);)
T(l3_0, __u32 a = 0x11223344, b = 0x55667788; long d = bpf_csum_diff(&a, 4, &b, 4, 0);
  return bpf_l3_csum_replace(ctx, 24, 0, d, 0);)
T(l3_bad, return bpf_l3_csum_replace(ctx, 24, 0, 0, 3);)
T(l3_0f, return bpf_l3_csum_replace(ctx, 24, 1, 0, 0);)
T(l3_flag, return bpf_l3_csum_replace(ctx, 24, 1, 0, 0x12);)
T(l3_odd, return bpf_l3_csum_replace(ctx, 25, 1, 0, 2);)
T(l3_far, return bpf_l3_csum_replace(ctx, 64, 1, 0, 2);)
T(l3_end, return bpf_l3_csum_replace(ctx, 62, 1, 0, 2);)
T(l3_big, return bpf_l3_csum_replace(ctx, 65538, 1, 0, 2);)
T(l4_2, return bpf_l4_csum_replace(ctx, 40, bpf_htons(53), bpf_htons(5353), 2);)
T(l4_4p, return bpf_l4_csum_replace(ctx, 40, bpf_htonl(0x0a000001), bpf_htonl(0x0a000002), 0x14);)
T(l4_0, return bpf_l4_csum_replace(ctx, 40, 0, 0x1234, 0x10);)
T(l4_m0, __u16 z = 0; bpf_skb_store_bytes(ctx, 40, &z, 2, 0);
  return bpf_l4_csum_replace(ctx, 40, 1, 2, 0x22);)
T(l4_m0e, __u16 z = 0; bpf_skb_store_bytes(ctx, 40, &z, 2, 0);
  return bpf_l4_csum_replace(ctx, 40, 1, 2, 0x62);)
T(l4_m0f, __u16 z = 0xfffe; bpf_skb_store_bytes(ctx, 40, &z, 2, 0);
  return bpf_l4_csum_replace(ctx, 40, 0xffff, 0, 0x22);)
T(l4_bad, return bpf_l4_csum_replace(ctx, 40, 1, 2, 0x100);)
T(l4_b2, return bpf_l4_csum_replace(ctx, 40, 1, 2, 6);)
T(l4_same, return bpf_l4_csum_replace(ctx, 40, 0x1234, 0x1234, 4);)
T(csum_up, return bpf_csum_update(ctx, 5);)
T(lvl_q, return bpf_csum_level(ctx, 0);)
T(lvl_i, bpf_csum_level(ctx, 1); return bpf_csum_level(ctx, 0);)
T(lvl_iii, bpf_csum_level(ctx, 1); bpf_csum_level(ctx, 1); return bpf_csum_level(ctx, 0);)
T(lvl_6, bpf_csum_level(ctx, 1); bpf_csum_level(ctx, 1); bpf_csum_level(ctx, 1);
  bpf_csum_level(ctx, 1); bpf_csum_level(ctx, 1); return bpf_csum_level(ctx, 0);)
T(lvl_d, bpf_csum_level(ctx, 1); bpf_csum_level(ctx, 2); return bpf_csum_level(ctx, 0);)
T(lvl_r, bpf_csum_level(ctx, 1); bpf_csum_level(ctx, 3); return bpf_csum_level(ctx, 0);)
T(lvl_bad, return bpf_csum_level(ctx, 4);)
V(tail_g, long r = bpf_skb_change_tail(ctx, 100, 0); return r * 1000 + ctx->len;)
V(tail_s, long r = bpf_skb_change_tail(ctx, 14, 0); return r * 1000 + ctx->len;)
V(tail_13, long r = bpf_skb_change_tail(ctx, 13, 0); return r * 1000 + ctx->len;)
T(tail_f, return bpf_skb_change_tail(ctx, 50, 1);)
T(tail_max, long r = bpf_skb_change_tail(ctx, 16064, 0); bpf_skb_change_tail(ctx, 20, 0); return r;)
T(tail_over, return bpf_skb_change_tail(ctx, 16065, 0);)
V(head_20, long r = bpf_skb_change_head(ctx, 20, 0); return r * 1000 + ctx->len;)
T(head_200, long r = bpf_skb_change_head(ctx, 200, 0); return r * 1000 + ctx->len;)
T(head_neg, return bpf_skb_change_head(ctx, -1, 0);)
T(head_f, return bpf_skb_change_head(ctx, 4, 1);)
T(head_max, return bpf_skb_change_head(ctx, 16001, 0);)
T(head_rel, bpf_skb_change_head(ctx, 20, 0); __u32 w = 0;
  long r = bpf_skb_load_bytes_relative(ctx, 0, &w, 4, 1); return r + w;)
T(head_tail, bpf_skb_change_head(ctx, 20, 0); return bpf_skb_change_tail(ctx, 33, 0);)
V(type_0, long r = bpf_skb_change_type(ctx, 0); return r * 10 + ctx->pkt_type;)
T(type_3, long r = bpf_skb_change_type(ctx, 3); return r * 10 + ctx->pkt_type;)
T(type_4, long r = bpf_skb_change_type(ctx, 4); return r * 10 + ctx->pkt_type;)
V(proto_46, long r = bpf_skb_change_proto(ctx, bpf_htons(0x86dd), 0);
  return r * 100000 + ctx->len * 100 + ctx->protocol;)
V(proto_64, long r = bpf_skb_change_proto(ctx, bpf_htons(0x0800), 0);
  return r * 100000 + ctx->len * 100 + ctx->protocol;)
T(proto_f, return bpf_skb_change_proto(ctx, bpf_htons(0x86dd), 1);)
V(push, long r = bpf_skb_vlan_push(ctx, bpf_htons(0x8100), 9);
  return r * 1000 + ctx->len * 100 + ctx->vlan_tci + ctx->vlan_present + ctx->protocol;)
V(push_2, bpf_skb_vlan_push(ctx, bpf_htons(0x8100), 9);
  long r = bpf_skb_vlan_push(ctx, bpf_htons(0x88a8), 0x1234);
  return r * 1000 + ctx->len * 100 + ctx->vlan_tci + ctx->vlan_proto + ctx->protocol;)
T(push_odd, bpf_skb_vlan_push(ctx, 7, 0x9009); return ctx->vlan_proto * 100000 + ctx->vlan_tci;)
V(pop, long r = bpf_skb_vlan_pop(ctx);
  return r * 1000 + ctx->len * 100 + ctx->vlan_tci + ctx->vlan_present + ctx->protocol;)
V(pop_2, bpf_skb_vlan_pop(ctx); long r = bpf_skb_vlan_pop(ctx);
  return r * 1000 + ctx->len * 100 + ctx->vlan_tci + ctx->vlan_present + ctx->protocol;)
V(push_pop, bpf_skb_vlan_push(ctx, bpf_htons(0x8100), 9); long r = bpf_skb_vlan_pop(ctx);
  return r * 1000 + ctx->len * 100 + ctx->vlan_tci + ctx->vlan_present + ctx->protocol;)
V(ppp, bpf_skb_vlan_push(ctx, bpf_htons(0x8100), 9); bpf_skb_vlan_push(ctx, bpf_htons(0x8100), 8);
  long r = bpf_skb_vlan_pop(ctx);
  return r * 1000 + ctx->len * 100 + ctx->vlan_tci + ctx->vlan_present + ctx->protocol;)
#define R(name, delta, mode, flags)                                             \
	V(name, long r = bpf_skb_adjust_room(ctx, delta, mode, flags);          \
	  return r * 100000 + ctx->len * 100 + (ctx->protocol & 0xff);)
R(room_m8, 8, 1, 0)
R(room_n8, 8, 0, 0)
R(room_ms, -8, 1, 0)
R(room_ns, -8, 0, 0)
R(room_ns22, -22, 0, 0)
R(room_ns30, -30, 0, 0)
R(room_ns31, -31, 0, 0)
R(room_big, 4096, 1, 0)
V(room_4095, long r = bpf_skb_adjust_room(ctx, 4095, 1, 0); __u32 n = ctx->len;
  bpf_skb_adjust_room(ctx, -4095, 1, 0); return r * 100000 + n;)
R(room_mode, 8, 2, 0)
R(room_flag, 8, 1, 1 << 14)
R(room_e4, 20, 1, 2)
R(room_e6, 40, 1, 4)
R(room_e46, 40, 1, 6)
R(room_gre, 24, 1, 2 | 8)
R(room_udp, 48, 1, 4 | 16)
R(room_both, 48, 1, 4 | 8 | 16)
R(room_l2, 34, 1, 2 | (14ULL << 56))
R(room_l2o, 10, 1, 2 | (14ULL << 56))
R(room_eth, 40, 1, 2 | 64 | (14ULL << 56))
R(room_eth0, 40, 1, 2 | 64)
R(room_d4, -8, 1, 128)
R(room_d6, -8, 1, 256)
R(room_d46, -8, 1, 128 | 256)
R(room_dg, 8, 1, 128)
R(room_se, -8, 1, 2)
R(room_sc, -8, 1, 32)
V(room_twice, bpf_skb_adjust_room(ctx, 20, 1, 2); return bpf_skb_adjust_room(ctx, 20, 1, 2);)
V(room_tail, bpf_skb_adjust_room(ctx, 28, 1, 2 | 16); long r = bpf_skb_change_tail(ctx, 33, 0);
  return r * 1000 + ctx->len;)
V(room_cut, bpf_skb_adjust_room(ctx, 28, 1, 0); long r = bpf_skb_change_tail(ctx, 33, 0);
  return r * 1000 + ctx->len;)
#define H(name, room) /* what is cut after the headroom did not suffice */     \
	V(name##_a, bpf_skb_change_head(ctx, room, 0); bpf_skb_change_head(ctx, 8, 0); \
	  long r = bpf_skb_change_tail(ctx, 60, 0); return r * 1000 + ctx->len;)    \
	V(name##_b, bpf_skb_adjust_room(ctx, room, 1, 0);                           \
	  long r = bpf_skb_change_tail(ctx, room - 2, 0); return r * 1000 + ctx->len;)
H(h40, 40)
H(h64, 64)
H(h65, 65)
H(h100, 100)
H(h200, 200)
T(lvl_room, bpf_csum_level(ctx, 1); bpf_skb_adjust_room(ctx, 8, 1, 0); return bpf_csum_level(ctx, 0);)
T(lvl_keep, bpf_csum_level(ctx, 1); bpf_skb_adjust_room(ctx, 8, 1, 32);
  return bpf_csum_level(ctx, 0);)
T(hash_set, bpf_set_hash(ctx, 1234); return bpf_get_hash_recalc(ctx) + ctx->hash;)
T(hash_inv, bpf_set_hash(ctx, 1234); bpf_set_hash_invalid(ctx); return ctx->hash;)
T(r_peer, return bpf_redirect_peer(1, 0);)
T(r_peer_f, return bpf_redirect_peer(1, 1);)
T(r_peer_e, return bpf_redirect_peer(1, 2);)
T(r_neigh, return bpf_redirect_neigh(1, 0, 0, 0);)
T(r_neigh_f, return bpf_redirect_neigh(1, 0, 0, 1);)
T(r_neigh_p, struct bpf_redir_neigh n = {.nh_family = 2}; return bpf_redirect_neigh(1, &n, 20, 0);)
T(clone_f, return bpf_clone_redirect(ctx, 1, 2);)
T(fib_small, struct bpf_fib_lookup p = {}; return bpf_fib_lookup(ctx, &p, 60, 0);)
T(fib_flag, struct bpf_fib_lookup p = {}; return bpf_fib_lookup(ctx, &p, 64, 1 << 9);)
T(mtu_f, __u32 n = 0; return bpf_check_mtu(ctx, 0, &n, 0, 2);)
T(mtu_seg, __u32 n = 0; return bpf_check_mtu(ctx, 0, &n, 5, 1);)
SEC("cgroup_skb/ingress") __success
__hook("test_run")
int cg_rel(struct __sk_buff *ctx)
{
	__u32 mac = 0, net = 0;
	bpf_skb_load_bytes_relative(ctx, 12, &mac, 2, 0);
	bpf_skb_load_bytes_relative(ctx, 0, &net, 4, 1);
	return mac == 8 && net != 0;
}
SEC("cgroup_skb/ingress") __success
__hook("test_run")
int cg_load(struct __sk_buff *ctx)
{
	__u8 first = 0;
	bpf_skb_load_bytes(ctx, 0, &first, 1);
	return first == 0x45;
}
char _license[] SEC("license") = "GPL";
