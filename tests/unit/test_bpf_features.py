# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What objects may hold beyond our collection, each held against libbpf, and what is read of it."""

import functools
import gzip

import pytest
from libbpf_witness import KCONFIG, check, compiled, recorder, small_types, statically_linked

from harness.bpf.elf import read_object
from harness.bpf.environment import Environment, read_kconfig, version_code
from harness.bpf.link import RefKind, link
from harness.bpf.mapdef import MapType
from harness.bpf.vmlinux import kernel_types
from harness.errors import ObjectError, UsageError

# a kernel in small: the functions, variables and types that the programs below ask for
KERNEL = """
#define KFUNC __attribute__((used, noinline))
typedef unsigned long long u64;
KFUNC void bpf_throw(u64 cookie) { asm volatile(""); }
KFUNC int bpf_flavoured(int x) { return x; }
KFUNC int bpf_other_type(void *p) { return 0; }
struct rq { int cpu; u64 clock; };
struct rq runqueues; int plain_variable = 3;
KFUNC int reader(void) { return runqueues.cpu + plain_variable; }
"""
PRELUDE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#undef __noinline
#define __noinline __attribute__((noinline))
/* newer than some libbpf-dev */
#ifndef bpf_ksym_exists
#define bpf_ksym_exists(sym) (!!sym)
#endif
#ifndef __ulong
#define __ulong(name, val) enum { __bpf_concat(__unique_value, __COUNTER__) = val } name
#define __bpf_concat(a, b) __bpf_concat2(a, b)
#define __bpf_concat2(a, b) a ## b
#endif
char _license[] SEC("license") = "GPL";
"""
SOURCES = {
    "globals": """
int bss_var, bss_more[4]; int data_var = 5; const volatile int rodata_var = 3;
long custom SEC(".data.custom") = 7; const volatile char text[] SEC(".rodata.longer.than.15") = "x";
int zeros SEC(".bss.zeros"); static int hidden_static = 9;
__attribute__((visibility("hidden"))) int hidden_global = 8;
SEC("tc") int use(struct __sk_buff *s) { const char *p = "a string";
    bss_var++; bss_more[s->len & 3]++; custom += rodata_var; zeros++; hidden_static += s->len;
    hidden_global++; bpf_trace_printk(p, 9); return data_var + text[0] + hidden_static; }
""",
    "kfuncs": """
extern void bpf_throw(__u64) __weak __ksym; extern int bpf_flavoured___v2(int x) __ksym;
extern int bpf_absent(int) __weak __ksym; extern int bpf_other_type(int) __weak __ksym;
SEC("tc") int calls(struct __sk_buff *s) { if (bpf_ksym_exists(bpf_throw)) bpf_throw(1);
    if (s->len > 5) return bpf_absent(3); if (s->len > 4) return bpf_other_type(3);
    return bpf_flavoured___v2(2); }
SEC("?tc") int addresses(struct __sk_buff *s) {
    return (bpf_ksym_exists(bpf_absent) ? 1 : 0) | (bpf_ksym_exists(bpf_throw) ? 2 : 0); }
""",
    "variables": """
struct rq { int cpu; }; extern const struct rq runqueues __ksym;
extern const int plain_variable __weak __ksym; extern const struct rq no_such_rq __weak __ksym;
extern const void no_such_symbol_anywhere __weak __ksym;
SEC("tc") int reads(struct __sk_buff *s) {
    struct rq *r = bpf_per_cpu_ptr(&runqueues, 0);
    return (&no_such_rq ? 1 : 0) | (&no_such_symbol_anywhere ? 2 : 0) | (r ? r->cpu : 0)
        | plain_variable; }
""",
    "kconfig": """
extern int LINUX_KERNEL_VERSION __kconfig; extern int CONFIG_HZ __kconfig;
extern _Bool CONFIG_BPF __kconfig; extern char CONFIG_DEFAULT_HOSTNAME[20] __kconfig __weak;
extern enum libbpf_tristate CONFIG_NET_SCH_INGRESS __kconfig;
extern long CONFIG_ABSENT_NUMBER __kconfig __weak; extern char CONFIG_LETTER __kconfig __weak;
extern _Bool LINUX_HAS_SYSCALL_WRAPPER __kconfig;
SEC("tc") int config(struct __sk_buff *s) { return LINUX_KERNEL_VERSION + CONFIG_HZ + CONFIG_BPF
    + CONFIG_DEFAULT_HOSTNAME[1] + CONFIG_NET_SCH_INGRESS + CONFIG_ABSENT_NUMBER + CONFIG_LETTER
    + LINUX_HAS_SYSCALL_WRAPPER; }
""",
    "maps": """
struct inner { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, int);
    __type(value, long); } first SEC(".maps"), second SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 4); __type(key, int);
    __array(values, struct inner); } outer SEC(".maps") = {
    .values = { [0] = &first, [3] = &second } };
struct { __uint(type, BPF_MAP_TYPE_HASH_OF_MAPS); __uint(max_entries, 4); __type(key, int);
    __array(values, struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 9);
        __uint(key_size, 8); __uint(value_size, 16); }); } hashed SEC(".maps");
int target_a(struct __sk_buff *s); int target_b(struct __sk_buff *s);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 8); __uint(key_size, 4);
    __array(values, int (void *)); } jumps SEC(".maps") = {
    .values = { [1] = (void *)&target_a, [5] = (void *)&target_b } };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 5000); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_BLOOM_FILTER); __uint(max_entries, 100); __type(value, int);
    __uint(map_extra, 3); __uint(pinning, LIBBPF_PIN_BY_NAME); __uint(numa_node, 0);
    __uint(map_flags, BPF_F_NUMA_NODE); } bloom SEC(".maps");
SEC("tc") int target_a(struct __sk_buff *s) { return 1; }
SEC("tc") int target_b(struct __sk_buff *s) { return 2; }
SEC("tc") int use(struct __sk_buff *s) { int k = 3, v = 4; long *p;
    void *in = bpf_map_lookup_elem(&outer, &k); if (!in) return 0;
    p = bpf_map_lookup_elem(in, &k); bpf_map_push_elem(&bloom, &v, 0); bpf_tail_call(s, &jumps, 1);
    return bpf_map_lookup_elem(&hashed, &k) ? 7 : p ? *p : 0; }
SEC("tc") int reserve(struct __sk_buff *s) { void *r = bpf_ringbuf_reserve(&ring, 8, 0);
    if (r) bpf_ringbuf_discard(r, 0); return bpf_map_lookup_elem(&second, &(int){1}) != 0; }
""",
    "arena": """
#define __arena __attribute__((address_space(1)))
struct { __uint(type, 33); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 10);
    __ulong(map_extra, 0x1ull << 44); } arena SEC(".maps");
int __arena counter; int __arena numbers[4] = { 1, 2, 3 };
SEC("syscall") int use(void *ctx) { counter += numbers[2]; return counter; }
""",
    "functions": """
static __noinline int shared(int x) { asm volatile("" : "+r"(x)); return x + 1; }
__weak __noinline int weak_one(int x) { return shared(x) + 2; }
__attribute__((visibility("hidden"))) __noinline int hidden_one(int x) { return weak_one(x) + 3; }
static long each(__u32 i, void *c) { return hidden_one(i) > 100; }
__noinline long each_global(__u32 i, void *c) { return shared(i) > 100; }
SEC("tc") int one(struct __sk_buff *s) { bpf_loop(3, each, 0, 0); return hidden_one(s->len); }
SEC("tc") int two(struct __sk_buff *s) { bpf_loop(3, each_global, 0, 0);
    bpf_loop(3, each, 0, 0); return weak_one(s->mark) + shared(1); }
SEC("?xdp") int off(struct xdp_md *s) { return shared(s->ingress_ifindex); }
SEC("xdp/devmap") int three(struct xdp_md *s) { return 2; }
""",
    "wide": """
enum wide { SMALL = 1, LARGE = 0x123456789abcULL }; enum wide chosen = LARGE;
typedef int __attribute__((btf_type_tag("user"))) tagged;
struct holder { tagged *p; int __attribute__((btf_decl_tag("counter"))) n; } held;
SEC("tc") __attribute__((btf_decl_tag("mine"))) int use(struct __sk_buff *s) {
    held.n++; return chosen == LARGE ? 1 : held.p != 0; }
""",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the recorder is."""
    return tmp_path_factory.mktemp("recorder")


@pytest.fixture(scope="module")
def record(place):
    return recorder(place)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    return small_types(tmp_path_factory.mktemp("kernel"), KERNEL)


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """A function: name of a source -> path of the compiled object."""
    return functools.cache(
        lambda name: compiled(tmp_path_factory.mktemp(name), PRELUDE + SOURCES[name])
    )


@pytest.mark.parametrize("name", SOURCES)
def test_is_linked_as_libbpf_links_it(name, objects, record, kernel):
    recordings = record(objects(name), kernel)
    assert recordings
    assert check(objects(name), kernel, recordings) == 0


# ---- what is in them ----------------------------------------------------------------------------


def test_maps_and_what_they_start_with(objects):
    obj = read_object(objects("maps"))
    outer, hashed = obj.map("outer"), obj.map("hashed")
    assert (outer.values, outer.value_size) == (((0, "first"), (3, "second")), 4)
    assert (outer.inner.name, outer.inner.type) == ("outer.inner", MapType.ARRAY)
    assert (outer.inner.key_size, outer.inner.value_size, outer.inner.max_entries) == (4, 8, 2)
    assert (hashed.inner.type, hashed.inner.key_size, hashed.inner.value_size) == (1, 8, 16)
    assert obj.map("jumps").values == ((1, "target_a"), (5, "target_b"))
    assert obj.map("ring").max_entries == 8192
    bloom = obj.map("bloom")
    assert (bloom.map_extra, bloom.pinned, bloom.numa_node, bloom.flags) == (3, True, 0, 4)


def test_arena_is_recognised(objects):
    obj = read_object(objects("arena"))
    assert obj.map("arena").map_extra == 1 << 44
    assert obj.arena.data[:16] == bytes.fromhex("01000000020000000300000000000000")
    assert not obj.sections


def test_kconfig_values(objects):
    obj = read_object(objects("kconfig"))
    program = link(obj, "config", Environment(release="6.12.107", kconfig=KCONFIG))
    values = {
        e.name: program.kconfig[e.offset : e.offset + e.size_bytes]
        for e in obj.externs
        if e.section == ".kconfig"
    }
    assert int.from_bytes(values["LINUX_KERNEL_VERSION"], "little") == 0x060C6B
    assert values["CONFIG_BPF"] == b"\1"
    assert values["CONFIG_DEFAULT_HOSTNAME"] == b"(none)".ljust(20, b"\0")
    assert values["CONFIG_NET_SCH_INGRESS"] == b"\2\0\0\0"
    assert values["CONFIG_LETTER"] == b"n"
    assert values["CONFIG_ABSENT_NUMBER"] == bytes(8)
    assert not program.unknown


def test_what_was_not_given_is_unknown_and_not_made_up(objects):
    obj = read_object(objects("kconfig"))
    program = link(obj, "config")
    assert "LINUX_KERNEL_VERSION: no kernel release is given" in program.unknown.values()
    assert "CONFIG_HZ: no kernel configuration is given" in program.unknown.values()


@pytest.mark.parametrize(
    ("kconfig", "message"),
    [
        (
            {"CONFIG_HZ": "250", "CONFIG_NET_SCH_INGRESS": "y"},
            "'CONFIG_BPF' .strong.: not resolved",
        ),
        ({**KCONFIG, "CONFIG_BPF": "m"}, "implies tristate or char"),
        ({**KCONFIG, "CONFIG_HZ": "y"}, "implies bool, tristate, or char"),
        ({**KCONFIG, "CONFIG_HZ": "12x"}, "isn't a valid integer"),
        ({**KCONFIG, "CONFIG_HZ": "0x100000000"}, "doesn't fit in 4 bytes"),
        ({**KCONFIG, "CONFIG_HZ": '"text"'}, "implies char array"),
    ],
)
def test_kconfig_value_that_libbpf_refuses(objects, kconfig, message):
    obj = read_object(objects("kconfig"))
    with pytest.raises(ObjectError, match=message):
        link(obj, "config", Environment(release="6.12.107", kconfig=kconfig))


def test_kconfig_file(tmp_path):
    text = '# CONFIG_A is not set\nCONFIG_HZ=1000\nCONFIG_HZ=2\nCONFIG_NAME="a=b"\n'
    plain, packed = tmp_path / "config", tmp_path / "config.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    expected = {"CONFIG_HZ": "1000", "CONFIG_NAME": '"a=b"'}
    assert read_kconfig(plain) == read_kconfig(packed) == expected
    plain.write_text("CONFIG_HZ\n")
    with pytest.raises(UsageError, match=r"config: line 1: 'CONFIG_HZ' has no value"):
        read_kconfig(plain)
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(UsageError, match="cannot be read"):
        read_kconfig(packed)


def test_a_configuration_may_have_everything_off(tmp_path):
    config = tmp_path / "config"
    config.write_text("#\n# CONFIG_A is not set\n")
    assert read_kconfig(config) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"CONFIG\nwhat a CONFIG_NAME is\n",
        b"\x7fELF\0\nCONFIG_HZ=100\n\0",
        gzip.compress(b"nothing of the kind\n"),
    ],
)
def test_what_names_no_option_is_no_configuration(tmp_path, content):
    """With it, every option would be off."""
    config = tmp_path / "config"
    config.write_bytes(content)
    with pytest.raises(UsageError, match="config: no kernel configuration") as caught:
        read_kconfig(config)
    assert "/proc/config.gz" in caught.value.fix


def test_a_configuration_has_an_end(tmp_path):
    with pytest.raises(UsageError, match="/dev/zero: larger than 8 MiB"):
        read_kconfig("/dev/zero")
    packed = tmp_path / "config.gz"
    packed.write_bytes(gzip.compress(b"CONFIG_A=y\n" + b"\n" * (9 << 20)))
    with pytest.raises(UsageError, match="larger than 8 MiB"):
        read_kconfig(packed)


@pytest.mark.parametrize(
    ("release", "code"),
    [("6.12.107+deb13-amd64", 0x060C6B), ("7.3", 0x070300), ("5.10.300", 0x050AFF), ("", 0)],
)
def test_version_code(release, code):
    assert version_code(release) == code


def test_absent_kernel_function_is_poison_where_it_is_called(objects, kernel):
    obj = read_object(objects("kfuncs"))
    program = link(obj, "calls", Environment(kernel_types(kernel)))
    assert sorted(program.poisoned.values()) == [
        "kernel function bpf_absent is not in the kernel's types",
        "kernel function bpf_other_type is not in the kernel's types",
    ]
    assert {r.name for r in program.refs.values()} == {"bpf_throw", "bpf_flavoured"}
    without = link(obj, "calls")
    assert not without.poisoned
    assert all(r.btf_id is None for r in without.refs.values())


STRONG = """
extern int bpf_nowhere(int) __ksym;
SEC("tc") int calls(struct __sk_buff *s) { return bpf_nowhere(1); }
"""
STATIC_MAP = """
static struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int);
    __type(value, int); } m SEC(".maps");
SEC("tc") int use(struct __sk_buff *s) { return bpf_map_lookup_elem(&m, &(int){0}) != 0; }
"""
SUBPROGRAM_ELSEWHERE = """
SEC("tc") __noinline int callee(struct __sk_buff *s) { return s->len; }
SEC("tc") int caller(struct __sk_buff *s) { return callee(s); }
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STRONG, r"extern \(func ksym\) 'bpf_nowhere': not found in kernel BTF"),
        (STATIC_MAP, "unsupported map linkage static"),
        (SUBPROGRAM_ELSEWHERE, "bad call relo against 'callee' in section 'tc'"),
    ],
)
def test_refused_by_libbpf_and_by_us(text, message, record, kernel, tmp_path):
    path = compiled(tmp_path, PRELUDE + text)
    recordings = record(path, kernel)
    assert any(r.insns is None for r in recordings)
    with pytest.raises(ObjectError, match=message):
        link_all(path, Environment(kernel_types(kernel)))


def link_all(path, environment):
    obj = read_object(path)
    return [link(obj, p.name, environment) for p in obj.programs]


def test_references_name_what_they_refer_to(objects):
    program = link(read_object(objects("globals")), "use")
    names = {r.name for r in program.refs.values() if r.kind is RefKind.GLOBAL}
    assert {".bss", ".data", ".data.custom", ".rodata.longer.than.15", ".bss.zeros"} <= names


ONE = """
int shared_counter; static int private_counter; extern void bpf_throw(__u64) __weak __ksym;
static __noinline int same_name(int x) { private_counter++; asm volatile("" : "+r"(x)); return x; }
__weak __noinline int chosen(int x) { if (x > 99) bpf_throw(x); return same_name(x) + 1; }
SEC("tc") int first(struct __sk_buff *s) { shared_counter++; return chosen(s->len); }
"""
# the other one's `chosen` is thrown away, its code and relocations stay in .text
TWO = """
struct task { int pid; } __attribute__((preserve_access_index));
extern int shared_counter; static long private_counter;
static __noinline int same_name(int x) { private_counter--; asm volatile("" : "+r"(x)); return -x; }
__weak __noinline int chosen(int x) {
    return same_name(x) + __builtin_preserve_field_info(((struct task *)0)->pid, 0); }
SEC("tc") int second(struct __sk_buff *s) { return chosen(s->len) + same_name(shared_counter); }
"""


def test_weak_function_that_another_object_overrides(place, record, kernel, tmp_path):
    parts = []
    for name, text in (("one", ONE), ("two", TWO)):
        (tmp_path / name).mkdir()
        parts.append(compiled(tmp_path / name, PRELUDE + text))
    both = tmp_path / "both.o"
    statically_linked(place, both, *parts)
    recordings = record(both, kernel)
    assert [r.name for r in recordings] == ["first", "second"]
    assert check(both, kernel, recordings) == 0
    obj = read_object(both)
    assert sorted(f.name for f in obj.functions) == ["chosen", "same_name", "same_name"]
    second = link(obj, "second", Environment(kernel_types(kernel)))
    assert [f.name for f in second.functions] == ["second", "chosen", "same_name", "same_name"]
