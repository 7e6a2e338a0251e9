# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""CO-RE: hand-written and random pairs of types, every kind of relocation, held against libbpf."""

import random
import struct
from dataclasses import dataclass

import pytest
from libbpf_witness import check, compiled, recorder, small_types

from harness.bpf import core, corepatch
from harness.bpf.btf import essential, parse
from harness.bpf.btfext import CoreRelocation
from harness.bpf.elf import read_object
from harness.bpf.environment import Environment
from harness.bpf.link import link
from harness.bpf.vmlinux import kernel_types
from harness.errors import ObjectError

PRELUDE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#define RELOC __attribute__((preserve_access_index))
volatile __u64 sink; char _license[] SEC("license") = "GPL";
"""
# what a program says of its types, and what the kernel has in their place
PROGRAM = """
struct plain { int a; long b; short c; } RELOC;
struct nested { struct { int x; struct { long y; }; } in; union { int u1; long u2; }; int arr[4]; }
    RELOC;
struct bits { __u32 one:3; __u32 two:7; __s64 three:40; unsigned char four:1; } RELOC;
struct gone { int nothing; } RELOC;
struct plain___old { int a_before; } RELOC;
struct widths { __u32 grows; __u64 shrinks; int grows_signed; void *p; char text[8]; } RELOC;
struct flex { int n; int tail[]; } RELOC;
enum colour { RED = 1, GREEN = 2, BLUE = 7, MISSING = 9 };
enum wide { FAR = 0x123456789abULL };
enum negative { MINUS = -5 };
typedef int (*callback)(struct plain *p, int n);
typedef struct plain alias;
union either { int i; long l; } RELOC;
#define USE(x) sink += (x)
SEC("tc") int offsets(struct plain *p) { return p->a + p->b + p->c; }
SEC("tc") int deep(struct nested *n) { return n->in.x + n->in.y + n->u1 + n->u2 + n->arr[2]; }
SEC("tc") int exists(struct plain *p) {
    struct plain___old *o = (void *)p; struct gone *g = (void *)p; struct nested *n = (void *)p;
    USE(bpf_core_field_exists(p->a)); USE(bpf_core_field_exists(p->c));
    USE(bpf_core_field_exists(o->a_before)); USE(bpf_core_field_exists(g->nothing));
    USE(bpf_core_field_exists(n->in.y)); USE(bpf_core_field_exists(n->arr[3])); return 0; }
SEC("tc") int sizes(struct plain *p) { struct nested *n = (void *)p;
    USE(bpf_core_field_size(p->b)); USE(bpf_core_field_size(n->arr));
    USE(bpf_core_field_size(n->in)); USE(bpf_core_field_offset(n->arr)); return 0; }
SEC("tc") int bitfields(struct bits *b) {
    USE(BPF_CORE_READ_BITFIELD(b, one)); USE(BPF_CORE_READ_BITFIELD(b, two));
    USE(BPF_CORE_READ_BITFIELD(b, three)); USE(BPF_CORE_READ_BITFIELD_PROBED(b, four)); return 0; }
SEC("tc") int absent(struct gone *g) { return g->nothing; }
SEC("tc") int loads(struct widths *w) { return w->grows + w->shrinks + (w->p != 0) + w->text[2]; }
SEC("tc") int signed_load(struct widths *w) { return w->grows_signed; }
SEC("tc") int stores(struct widths *w) { w->grows = 5; w->shrinks = 1ull << 40; return 0; }
SEC("tc") int flexible(struct flex *f) { return f->tail[3]; }
SEC("tc") int types(void *p) {
    USE(bpf_core_type_exists(struct plain)); USE(bpf_core_type_exists(struct gone));
    USE(bpf_core_type_size(struct nested)); USE(bpf_core_type_size(struct gone));
    USE(bpf_core_type_id_local(struct plain)); USE(bpf_core_type_id_kernel(struct plain));
    USE(bpf_core_type_id_kernel(struct gone)); USE(bpf_core_type_exists(callback));
    USE(bpf_core_type_exists(alias)); USE(bpf_core_type_exists(union either)); return 0; }
SEC("tc") int matching(void *p) {
    USE(bpf_core_type_matches(struct plain)); USE(bpf_core_type_matches(struct nested));
    USE(bpf_core_type_matches(struct widths)); USE(bpf_core_type_matches(enum colour));
    USE(bpf_core_type_matches(callback)); USE(bpf_core_type_matches(struct gone)); return 0; }
SEC("tc") int enums(void *p) {
    USE(bpf_core_enum_value_exists(enum colour, GREEN));
    USE(bpf_core_enum_value_exists(enum colour, MISSING));
    USE(bpf_core_enum_value(enum colour, BLUE)); USE(bpf_core_enum_value(enum wide, FAR));
    USE(bpf_core_enum_value(enum negative, MINUS)); return 0; }
SEC("tc") int no_value(void *p) { return bpf_core_enum_value(enum colour, MISSING); }
"""
KERNEL = """
typedef unsigned long long u64; typedef unsigned int u32; typedef long long s64;
struct plain { long pad; short c; int a; long b; };
struct nested { long pad; union { long u2; struct { int u1; int more; }; };
    struct { char c; int x; union { long z; long y; }; } in; int arr[6]; };
struct bits { u64 before:9; u32 two:9; u32 gap; u32 one:5; s64 three:33; unsigned char four:1; };
struct widths { u64 grows; u32 shrinks; long grows_signed; void *p; char text[16]; };
struct flex { long n; int more; int tail[]; };
enum colour { BLUE = 70, GREEN = 2, RED = 1, EXTRA = 5 };
enum wide { FAR = 0xba987654321ULL, NEAR = 0 };
enum negative { MINUS = -6 };
typedef int (*callback)(struct plain *p, int n);
typedef struct plain alias;
union either { long l; int i; };
struct plain p; struct nested n; struct bits b; struct widths w; struct flex *f; enum colour c;
enum wide e; enum negative g; callback cb; alias al; union either ei;
"""


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return recorder(tmp_path_factory.mktemp("recorder"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(object, types of its kernel)."""
    place = tmp_path_factory.mktemp("written")
    types = small_types(place, KERNEL)
    return compiled(place, PRELUDE + PROGRAM), types


def test_hand_written_types(written, record):
    recordings = record(*written)
    assert len(recordings) == 14
    # a bit field of another size than the load that clang chose is refused by both
    assert check(*written, recordings) == 0


# ---- random pairs of types ----------------------------------------------------------------------

SCALARS = ("char", "short", "int", "long", "unsigned char", "unsigned int", "unsigned long",
           "_Bool", "void *", "enum level")  # fmt: skip


@dataclass(frozen=True)
class Declared:
    """One member: its text, its name ("" for an anonymous one), the names it brings in."""

    text: str
    name: str
    names: frozenset[str]


def members(rng, depth=0):
    """Members of a struct, with names that do not clash."""
    return unique([one(rng, depth) for _ in range(rng.randint(1, 5))])


def unique(found):
    """Those whose names were not there before."""
    seen, kept = set(), []
    for each in found:
        if not each.names & seen:
            seen |= each.names
            kept.append(each)
    return kept


def one(rng, depth):
    name, what, kind = f"m{rng.randint(0, 9)}", rng.random(), rng.choice(SCALARS)
    if what < 0.7 or depth > 1:
        array = f"[{rng.randint(1, 6)}]" if what < 0.2 else ""
        return Declared(f"{kind} {name}{array};", name, frozenset({name}))
    if what < 0.8 and kind not in ("void *", "_Bool", "enum level"):
        return Declared(f"{kind} {name}:{rng.randint(1, 7)};", name, frozenset({name}))
    inner, word = members(rng, depth + 1), rng.choice(("struct", "union"))
    body = " ".join(each.text for each in inner)
    if what < 0.9:
        return Declared(f"{word} {{ {body} }} {name};", name, frozenset({name}))
    names = frozenset(n for each in inner for n in each.names)
    return Declared(f"{word} {{ {body} }};", "", names)


def random_source(seed, count=40):
    """(program, kernel) with `count` pairs of structs and relocations of each."""
    rng = random.Random(seed)
    programs = ["enum level { LOW, MID = 5, HIGH = 9 };"]
    kernels = ["enum level { HIGH = 90, LOW };"]
    for number in range(count):
        mine = members(rng)
        theirs = [m for m in mine if rng.random() < 0.8] + members(rng)
        rng.shuffle(theirs)
        theirs = unique(theirs)
        kernels.append(f"struct r{number} {{ {' '.join(m.text for m in theirs)} }} k{number};")
        programs.append(f"struct r{number} {{ {' '.join(m.text for m in mine)} }} RELOC;")
        programs.extend(relocations(rng, number, mine))
    return "\n".join(programs), "\n".join(kernels)


def relocations(rng, number, mine):
    """Programs: one for each relocation, because a refused one takes its program along."""
    uses = [f"bpf_core_type_{what}(struct r{number})" for what in ("exists", "size", "matches")]
    for text, name in ((m.text, m.name) for m in mine if m.name):
        path = f"x->{name}"
        uses.append(f"bpf_core_field_exists({path})")
        if ":" in text and "{" not in text:
            uses.append(f"BPF_CORE_READ_BITFIELD_PROBED(x, {name})")
            continue
        uses.append(f"bpf_core_field_size({path})")
        uses.append(f"(__u64)__builtin_preserve_field_info({path}, BPF_FIELD_BYTE_OFFSET)")
        if "[" in text and "{" not in text:
            uses.append(f"bpf_core_field_exists({path}[{rng.randint(0, 5)}])")
            path += "[0]"
        if "{" not in text and "void" not in text:
            uses.append(f"{path}")
            uses.append(f"bpf_core_field_size({path})")
    for index, use in enumerate(uses):
        name = f"p{number}_{index}"
        yield f'SEC("tc") int {name}(struct r{number} *x) {{ sink += {use}; return 0; }}'


@pytest.mark.parametrize("seed", range(3))
def test_random_types(seed, record, tmp_path):
    program, kernel = random_source(seed)
    place = tmp_path / "kernel"
    place.mkdir()
    types = small_types(place, kernel)
    path = compiled(tmp_path, PRELUDE + program, "-Wno-array-bounds")
    recordings = record(path, types)
    assert len(recordings) > 200
    # not all are refused, else this would hold nothing against anything
    assert check(path, types, recordings) < len(recordings) / 2


# ---- without libbpf -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"),
    [("task_struct", "task_struct"), ("task_struct___old", "task_struct"), ("a___b___c", "a___b"),
     ("___x", "___x"), ("a____b", "a____b"), ("a___", "a___"), ("", "")],
)  # fmt: skip
def test_essential_name(name, found):
    assert essential(name) == found


def test_poison_says_what_the_kernel_lacks(written):
    program = link(read_object(written[0]), "absent", Environment(kernel_types(written[1])))
    ((pc, why),) = program.poisoned.items()
    what = "CO-RE relocation field_byte_offset of struct gone.nothing"
    assert why == f"{what}: the kernel has nothing that fits"
    assert program.insns[pc].imm == corepatch.POISON


def test_without_a_kernel_only_what_depends_on_none_is_relocated(written):
    obj = read_object(written[0])
    assert not link(obj, "offsets").unknown
    unknown = set(link(obj, "types").unknown.values())
    assert "CO-RE relocation type_exists of struct plain: no types of a kernel are given" in unknown
    assert not any("type_id_local" in why for why in unknown)


def test_the_programs_own_types_may_be_given(written):
    obj, own = read_object(written[0]), Environment(kernel_types(written[0]))
    # "types" asks for the id of struct plain, and of those there are two: plain___old
    for program in (p for p in obj.programs if p.name != "types"):
        linked = link(obj, program.name, own)
        assert not linked.unknown
        assert not linked.poisoned


def test_types_that_would_take_for_ever_are_an_error():
    """Anonymous members that share one type double the way at every level."""
    levels = 40
    types, strings = [], b"\0deep\0wanted\0other\0"
    types += [0, 1 << 24, 4, 32 << 0]  # 1: int without a name
    for level in range(levels):
        inner = level + 1
        types += [0, 4 << 24 | 2, 8, 0, inner, 0, 0, inner, 32]
    types[-9] = 1  # the outermost is called "deep"
    types += [1, 4 << 24 | 1, 4, 6, 1, 0]  # the program's: struct deep { int wanted; }
    body = struct.pack(f"<{len(types)}I", *types)
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings))
    btf = parse(head + body + strings)
    relocation = CoreRelocation(levels + 2, "0:0", core.Relo.FIELD_EXISTS)
    with pytest.raises(ObjectError, match="comparisons"):
        core.resolve(relocation, btf, btf)
