# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Reading objects: what is in them, and one clear error for everything that is none."""

import shutil
import struct
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import build
from harness.bpf.elf import decode_globals, read_object
from harness.bpf.link import RefKind, link
from harness.bpf.mapdef import MapType
from harness.errors import ObjectError

SOURCE = """
#include "exceptions.h"
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, int);
    __type(value, long); __uint(map_flags, BPF_F_NO_PREALLOC); } hits SEC(".maps");
int target(struct __sk_buff *ctx);
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 3); __uint(key_size, 4);
    __array(values, int (struct __sk_buff *)); } jump SEC(".maps") = {
    .values = { [2] = (void *)&target } };
int counter, big[3]; static volatile int five = 5; long named SEC(".data.named") = 7;
const volatile int limit = 3;
static __noinline int leaf(int x) { if (x > limit) bpf_throw(x); named++; return x + five; }
__noinline int middle(int x) { counter++; big[1]++; return leaf(x) + 1; }
__noinline int helper(int x) { counter--; return x; }
__noinline int handler(__u64 cookie) { return helper(cookie); }
static long each(__u32 i, void *c) { counter++; return 0; }
__target SEC("?tc") int target(struct __sk_buff *ctx) { return leaf(3); }
__retval(5) __hook("test_run") __exception_cb(handler)
SEC("tc") int entry(struct __sk_buff *ctx) {
    int k = 1; long v = 2; bpf_map_update_elem(&hits, &k, &v, 0); bpf_loop(3, each, 0, 0);
    bpf_tail_call(ctx, &jump, 2); return middle(ctx->len); }
char _license[] SEC("license") = "GPL";
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A compiled object with one of everything."""
    root = tmp_path_factory.mktemp("object")
    source = root / "all.bpf.c"
    source.write_text(SOURCE)
    return build.build([source], root)[0]


@pytest.fixture(scope="module")
def obj(path):
    return read_object(path)


def test_programs_and_their_tags(obj):
    seen = {p.name: (p.section, p.autoload) for p in obj.programs}
    assert seen == {"target": ("?tc", False), "entry": ("tc", True)}
    tags = obj.program("entry").tags
    assert "bpfthrow:retval=5" in tags
    assert "bpfthrow:hook=test_run" in tags
    assert obj.program("entry").exception_callbacks == ("handler",)
    assert obj.license == "GPL"


def test_subprograms_and_their_linkage(obj):
    assert {f.name: f.linkage for f in obj.functions} == {
        "leaf": "static", "middle": "global", "helper": "global", "handler": "global",
        "each": "static",
    }  # fmt: skip


def test_maps(obj):
    hits, jump = obj.map("hits"), obj.map("jump")
    assert (hits.type, hits.key_size, hits.value_size, hits.max_entries) == (MapType.HASH, 4, 8, 4)
    assert hits.flags == 1
    assert hits.type_name == "hash"
    assert (jump.max_entries, jump.values) == (3, ((2, "target"),))


def test_globals(obj):
    seen = {s.name: {v.name: (v.offset, v.size_bytes) for v in s.variables} for s in obj.sections}
    assert seen[".data"] == {"five": (0, 4)}
    assert seen[".data.named"] == {"named": (0, 8)}
    assert seen[".rodata"] == {"limit": (0, 4)}
    assert {name: size for name, (_, size) in seen[".bss"].items()} == {"counter": 4, "big": 12}
    assert obj.data_section(".rodata").read_only


def test_decode_globals(obj):
    section = obj.data_section(".bss")
    content = bytearray(len(section.data))
    offset = next(v.offset for v in section.variables if v.name == "counter")
    content[offset : offset + 4] = b"\x01\x02\x03\x04"
    assert decode_globals(obj, ".bss", bytes(content)) == {"counter": "01020304", "big": "0" * 24}
    with pytest.raises(ObjectError, match="16 bytes, 3 were given"):
        decode_globals(obj, ".bss", b"abc")
    with pytest.raises(ObjectError, match="no section of globals"):
        decode_globals(obj, ".nix", b"")


def test_externs(obj):
    (throw,) = obj.externs
    assert (throw.name, throw.section, throw.is_function, throw.weak) == (
        "bpf_throw", ".ksyms", True, True,
    )  # fmt: skip


def test_callback_and_what_it_calls_come_last(obj):
    program = link(obj, "entry")
    names = [f.name for f in program.functions]
    assert names[0] == "entry"
    assert names[-2:] == ["handler", "helper"]
    assert set(names) == {"entry", "each", "middle", "leaf", "handler", "helper"}
    assert program.functions[program.exception_callback].name == "handler"
    assert [f.start for f in program.functions[1:]] == [f.end for f in program.functions[:-1]]


def test_calls_and_references_are_resolved(obj):
    program = link(obj, "entry")
    calls = {
        (program.function_at(pc).name, program.function_at(pc + 1 + insn.imm).name)
        for pc, insn in enumerate(program.insns)
        if insn.is_call and insn.src == 1
    }
    assert calls == {("entry", "middle"), ("middle", "leaf"), ("handler", "helper")}
    refs = {(r.kind, r.name) for r in program.refs.values()}
    assert refs == {
        (RefKind.MAP, "hits"), (RefKind.MAP, "jump"), (RefKind.FUNCTION, "each"),
        (RefKind.KFUNC, "bpf_throw"), (RefKind.GLOBAL, ".bss"), (RefKind.GLOBAL, ".data"),
        (RefKind.GLOBAL, ".data.named"), (RefKind.GLOBAL, ".rodata"),
    }  # fmt: skip


def test_program_without_callback_leaves_it_out(obj):
    program = link(obj, "target")
    assert program.exception_callback is None
    assert [f.name for f in program.functions] == ["target", "leaf"]


def test_lines_name_the_source(obj):
    program = link(obj, "entry")
    leaf = next(f for f in program.functions if f.name == "leaf")
    line = program.line_at(leaf.end - 1)
    assert line.file.endswith("all.bpf.c")
    assert "leaf(int x)" in line.text


def compile_text(tmp_path, text, *flags):
    source, target = tmp_path / "x.c", tmp_path / "x.o"
    source.write_text(text)
    include = [f"-I{d}" for d in build.include_dirs()]
    command = [build.find_clang(), "-target", "bpf", "-O2", *flags, *include]
    subprocess.run([*command, "-c", str(source), "-o", str(target)], check=True)
    return target


@pytest.mark.parametrize(
    ("text", "tags", "message"),
    [
        ("static __noinline int f(__u64 c) { return c; }", '"exception_callback:nix"',
         "cannot find exception callback 'nix'"),
        ("static __noinline int f(__u64 c) { return c; }", '"exception_callback:f"',
         "must be a global non-hidden function"),
        ("", '"exception_callback:"', "contains empty value"),
    ],
)  # fmt: skip
def test_callback_tags_that_libbpf_refuses(tmp_path, text, tags, message):
    source = f"""#include "exceptions.h"
    {text} __attribute__((btf_decl_tag({tags}))) SEC("tc") int entry(struct __sk_buff *c)
    {{ {"return f(c->len);" if text else ""} return 0; }}"""
    obj = read_object(compile_text(tmp_path, source, "-g"))
    with pytest.raises(ObjectError, match=message):
        link(obj, "entry")


def test_unknown_program_lists_the_names(obj):
    with pytest.raises(ObjectError, match="no program 'nix'") as caught:
        obj.program("nix")
    assert caught.value.fix == "programs: entry, target"


def test_object_without_btf_says_how_to_get_it(tmp_path):
    path = compile_text(tmp_path, "int f(void) { return 0; }")
    with pytest.raises(ObjectError, match=r"x\.o: no type information") as caught:
        read_object(path)
    assert "-g" in caught.value.fix


def test_two_programs_of_one_name(tmp_path, path):
    data = path.read_bytes()
    target = tmp_path / "two.o"
    # the names in the symbol table's strings: let "target" become a second "entry"
    target.write_bytes(data.replace(b"\0target\0", b"\0entry\0\0"))
    with pytest.raises(ObjectError, match="'entry'"):
        read_object(target)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"int main;", "not an ELF file"),
        (b"\x7fELF", "truncated ELF header"),
        (b"\x7fELF\2\1\1" + bytes(11) + struct.pack("<H", 62) + bytes(60), "for x86-64, not for"),
        (b"\x7fELF\2\1\1" + bytes(11) + struct.pack("<H", 999) + bytes(60), "number 999"),
        (b"\x7fELF\2\2\1" + bytes(11) + struct.pack(">H", 247) + bytes(60), "little-endian"),
    ],
)
def test_files_that_are_no_bpf_objects(tmp_path, content, words):
    path = tmp_path / "x.o"
    path.write_bytes(content)
    with pytest.raises(ObjectError, match=words) as caught:
        read_object(path)
    assert str(path) in caught.value.message
    assert caught.value.fix


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(ObjectError, match="no such file"):
        read_object(tmp_path / "nix.o")
    with pytest.raises(ObjectError, match="cannot be read"):
        read_object(tmp_path)
    with pytest.raises(ObjectError, match="cannot be read"):
        read_object("a\0b")


def test_x86_object_says_target_bpf(tmp_path):
    compiler = shutil.which("gcc") or build.find_clang()
    (tmp_path / "x.c").write_text("int f(void) { return 0; }")
    subprocess.run([compiler, "-c", "x.c", "-o", "x.o"], cwd=tmp_path, check=True)
    with pytest.raises(ObjectError, match="not for BPF") as caught:
        read_object(tmp_path / "x.o")
    assert "-target bpf" in caught.value.fix


def test_every_truncation_is_an_object_error(tmp_path, path):
    data, target = path.read_bytes(), tmp_path / "cut.o"
    for size in range(0, len(data), 97):
        target.write_bytes(data[:size])
        with pytest.raises(ObjectError):
            read_object(target)


@settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1))
def test_hostile_bytes_never_escape_as_another_error(tmp_path, path, edits):
    data = bytearray(path.read_bytes())
    for at, byte in edits:
        data[at % len(data)] = byte
    target = tmp_path / "hostile.o"
    target.write_bytes(data)
    try:
        obj = read_object(target)
        for program in obj.programs:
            link(obj, program.name)
    except ObjectError as error:
        message = error.message
    else:
        message = str(target)
    assert str(target) in message
