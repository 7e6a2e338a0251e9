// SPDX-License-Identifier: GPL-2.0-only
/* Printing and reading numbers, time and identity: one value a program.
 * Not cases of the suite: `bpfthrow run tests/sim/probes` holds the simulator against a kernel. */
#pragma clang diagnostic ignored "-Wunused-variable"
#include "exceptions.h"
char out[64];
#define B(name, ...)                    \
	SEC("tc") __success             \
	__hook("test_run")              \
	int name(struct __sk_buff *ctx) \
	{                               \
		__VA_ARGS__             \
	}
/* an address that is no constant: initialisers of arrays are not relocated */
#define PTR(x) ({ const void *p_ = (x); asm volatile("" : "+r"(p_)); (__u64)p_; })
/* a text that bpf_snprintf() takes stands in read-only data */
#define S(name, form, ...)                                                  \
	static const char form_##name[] = form;                             \
	B(name, __u64 a[] = {__VA_ARGS__}; __builtin_memset(out, 'x', 64); \
	  return bpf_snprintf(out, 64, form_##name, a, sizeof(a));)
/* the verifier checks formats of bpf_snprintf(), not those that are printed */
#define P(name, form, ...)                                           \
	static const char form_##name[] = form;                      \
	B(name, __u64 a[] = {__VA_ARGS__};                           \
	  return bpf_trace_vprintk(form_##name, sizeof(form_##name), a, sizeof(a));)
static const char word[] = "hello";
static const __u8 v4[] = {10, 0, 200, 7};
static const __u8 v6[] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
S(s_d, "%d %i|", -5, 7)
S(s_u, "%u %x %X", -1, 0xabc, 0xabc)
S(s_l, "%ld %lu %lx", -1, -1, -1)
S(s_ll, "%lld %llu %llx", -1, 5, 1ULL << 40)
S(s_w, "%5d|%-5d|%05d|%+d|% d", 42, 42, 42, 42, 42)
S(s_wn, "%5d|%-5d|%05d|%+d|% d", -42, -42, -42, -42, -42)
S(s_x, "%08x|%-8x|%8x|%+x", 0xbeef, 0xbeef, 0xbeef, 0xbeef)
S(s_m, "%-05d|%0-5d|%+5d|% 5d|%+05d", 1, 2, 3, 4, 5)
S(s_c, "%c%c|%3c|%-3c|", 'a', 'b', 'c', 'd')
S(s_s, "%s|%8s|%-8s|%2s|", PTR(word), PTR(word), PTR(word), PTR(word))
S(s_ks, "%pks|%8pks|", PTR(word), PTR(word))
S(s_pct, "100%% %d", 3)
S(s_ip, "%pI4 %pi4 %pI6 %pi6", PTR(v4), PTR(v4), PTR(v6), PTR(v6))
S(s_ip4, "%pI4 %pi4 %pI6", PTR(v4), PTR(v4), PTR(v6))
S(s_ip6, "%pi6", PTR(v6))
S(s_ipw, "%20pI4|%pI6c|", PTR(v4), PTR(v6))
S(s_null, "%s|", 0)
P(s_few, "%d %d", 1)
S(s_many, "%d", 1, 2, 3)
P(s_end, "%", 1)
P(s_hh, "%hhd", 1)
P(s_o, "%o", 8)
P(s_f, "%f", 8)
P(s_star, "%*d", 1, 2)
P(s_prec, "%.3d", 1)
P(s_hash, "%#x", 1)
P(s_sx, "%sx", PTR(word))
P(s_pI5, "%pI5", PTR(v4))
P(s_pM, "%pM", PTR(v4))
P(s_lll, "%llld", 1)
S(s_nl, "a\tb\n%d", 1)
P(s_ctl, "a\x01" "b%d", 1)
S(s_long, "%060d|", 5)
S(s_over, "%070d|", 5)
S(s_i7, "%d", 0x1ffffffffULL)
S(s_px, "%px %px", 0x1234, 0xffff1234abcdULL)
S(s_pxw, "%20px|%-20px|", 0x1234, 0x1234)
static const char f0[] = "abc";
B(sn_0, return bpf_snprintf(out, 0, f0, 0, 0);)
B(sn_2, long r = bpf_snprintf(out, 2, f0, 0, 0); return r * 100 + out[1];)
B(tp_0, return bpf_trace_printk(f0, 3);)
B(tp_4, return bpf_trace_printk(f0, 4);)
B(tp_4a, static const char f[] = "%d %d %d"; return bpf_trace_printk(f, sizeof(f), 1, 2, 3);)
B(tp_c, static const char f[] = "a\x02"; return bpf_trace_printk(f, sizeof(f));)
static const char fv[] = "%d %d %d %d %d";
B(tv_5, __u64 a[] = {1, 22, 333, 4444, 5}; return bpf_trace_vprintk(fv, sizeof(fv), a, sizeof(a));)
B(tv_4, __u64 a[] = {1, 22, 333, 4444}; return bpf_trace_vprintk(fv, sizeof(fv), a, sizeof(a));)
B(tv_7, __u64 a[] = {1, 22}; return bpf_trace_vprintk(fv, sizeof(fv), a, 9);)
#define N(name, text, base)                                                       \
	B(name, char s[] = text; long v = 77; long r = bpf_strtol(s, sizeof(s) - 1, base, &v); \
	  return r * 1000 + v;)
#define NU(name, text, base)                                                       \
	B(name, char s[] = text; unsigned long v = 77;                                 \
	  long r = bpf_strtoul(s, sizeof(s) - 1, base, &v); return r * 1000 + v;)
N(n_10, "123", 10)
N(n_0, "123", 0)
N(n_neg, "-45", 0)
N(n_sp, " \t-45x", 0)
N(n_hex, "0x1fg", 0)
N(n_hexb, "0x1f", 16)
N(n_hexn, "1f", 16)
N(n_hexd, "0x1f", 10)
N(n_oct, "0178", 0)
N(n_oct8, "17", 8)
N(n_08, "08", 0)
N(n_0x, "0x", 0)
N(n_0x16, "0x", 16)
N(n_bad, "x", 0)
N(n_sign, "-", 0)
N(n_plus, "+5", 0)
N(n_mm, "--5", 0)
N(n_base, "12", 7)
N(n_base2, "12", 64)
N(n_max, "9223372036854775807", 0)
N(n_max1, "9223372036854775808", 0)
N(n_min, "-9223372036854775808", 0)
N(n_min1, "-9223372036854775809", 0)
N(n_big, "18446744073709551616", 0)
N(n_nul, "12\0" "34", 0)
NU(u_10, "123", 10)
NU(u_neg, "-1", 0)
NU(u_neg0, "-0", 0)
NU(u_max, "18446744073709551615", 0)
NU(u_over, "18446744073709551616", 0)
B(pr_str, char a[8]; long r = bpf_probe_read_kernel_str(a, 8, word); return r * 100 + a[4];)
B(pr_cut, char a[4]; long r = bpf_probe_read_kernel_str(a, 4, word); return r * 100 + a[3];)
B(pr_0, char a[4] = "abc"; long r = bpf_probe_read_kernel_str(a, 4, 0); return r * 100 + a[0];)
B(pu_0, char a[4] = "abc"; long r = bpf_probe_read_user(a, 4, 0); return r * 100 + a[0];)
B(pus_0, char a[4] = "abc"; long r = bpf_probe_read_user_str(a, 4, 0); return r * 100 + a[0];)
B(j_64, return bpf_jiffies64() != 0;)
B(k_tai, return bpf_ktime_get_tai_ns() != 0;)
B(k_up, __u64 a = bpf_ktime_get_ns(); return bpf_ktime_get_ns() >= a;)
char _license[] SEC("license") = "GPL";
