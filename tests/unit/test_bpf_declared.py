# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What assembler text declares, into an object and out of one again."""

import pytest

from harness import cli
from harness.bpf.asm import assemble_unit
from harness.bpf.asmtext import render
from harness.bpf.btf import Kind, parse
from harness.bpf.declare import unit_of
from harness.bpf.declared import size_of
from harness.bpf.elf import read_object
from harness.bpf.isa import encode
from harness.bpf.link import link
from harness.bpf.program import RefKind
from harness.bpf.writebtf import write
from harness.bpf.writeelf import write_object
from harness.build import PROGS, build
from harness.errors import UsageError
from harness.verify.predict import predict
from harness.verify.prediction import Verdict

TEXT = """\
.section cgroup_skb/egress
.license Dual BSD/GPL
.callback on_throw
.struct node 40
.member 0 struct bpf_rb_node link
.member 32 u64 number
.struct elem 32
.member 0 u8[3] bytes
.member 4 struct bpf_spin_lock lock
.member 8 struct bpf_rb_root root
.tag contains:node:link
.member 24 struct node __kptr * node
.inner outer.inner array key u32 value u64 entries 1
.map elems array key u32 value struct elem entries 1 flags 0x400
.map outer array_of_maps key u32 entries 2 of outer.inner
.map ring ringbuf entries 4096
.globals .rodata 8 0100000002
.globals .bss 16
.variable 8 struct bpf_spin_lock lock
.extern weak void bpf_each(bool(struct node *, void *) *, u8[4] *)
.extern struct task_struct * bpf_task_acquire(struct task_struct *)
.extern struct rq runqueues

.func entry global int(struct __sk_buff *)
        r0 = type[struct node]
        r1 = map[elems]
        r2 = map[outer]
        r3 = map[.bss][0]+8
        r4 = map[.rodata][0]+4
        r5 = map[ring]
        r6 = ksym[runqueues]
        call bpf_task_acquire
        call bpf_each
        call shared
        if r0 == 0x0 goto l1
        r0 = 1
l1:
        exit

.func shared global int(struct elem *)
.argument 1 arg:nonnull
        r0 = 0
        exit

.func on_throw global
        r0 = r1
        exit
"""


@pytest.fixture
def path(tmp_path):
    source, out = tmp_path / "x.bpf.s", tmp_path / "x.bpf.o"
    source.write_text(TEXT)
    assert cli.main(["asm", str(source), "-o", str(out)]) == 0
    return out


def test_an_object_has_what_was_declared(path):
    obj = read_object(path)
    elems, outer, ring = obj.maps
    assert (elems.type_name, elems.key_size, elems.value_size, elems.flags) == (
        "array", 4, 32, 0x400,
    )  # fmt: skip
    assert (outer.type_name, outer.inner.type_name, outer.inner.value_size) == (
        "array_of_maps", "array", 8,
    )  # fmt: skip
    assert (ring.type_name, ring.max_entries) == ("ringbuf", 4096)
    assert {s.name: s.data for s in obj.sections} == {
        ".rodata": bytes.fromhex("0100000002000000"), ".bss": bytes(16),
    }  # fmt: skip
    assert [v.name for s in obj.sections for v in s.variables] == ["lock"]
    assert obj.license == "Dual BSD/GPL"
    assert obj.program("entry").tags == ("exception_callback:on_throw",)
    weak = {extern.name: extern.weak for extern in obj.externs}
    assert weak == {"bpf_task_acquire": False, "bpf_each": True, "runqueues": False}


def test_types_and_tags_are_those_that_were_written(path):
    btf = read_object(path).btf
    elem = btf.find(Kind.STRUCT, "elem")
    assert [(m.name, m.offset // 8) for m in elem.members] == [
        ("bytes", 0), ("lock", 4), ("root", 8), ("node", 24),
    ]  # fmt: skip
    tags = {(t.name, t.type_id, t.component) for t in btf.of_kind(Kind.DECL_TAG)}
    assert ("contains:node:link", elem.id, 2) in tags
    shared = next(t for t in btf.of_kind(Kind.FUNC) if t.name == "shared")
    assert ("arg:nonnull", shared.id, 0) in tags
    kptr = btf.type(btf.type(elem.members[3].type_id).type_id)
    assert (kptr.kind, kptr.name) == (Kind.TYPE_TAG, "kptr")
    assert btf.type(kptr.type_id).id == btf.find(Kind.STRUCT, "node").id


def test_a_variable_is_as_large_as_its_type():
    program, declared = assemble_unit(
        ".section tc\n.struct bpf_spin_lock 4\n.globals .data.A 24\n"
        ".variable 0 struct bpf_spin_lock lock\n.variable 8 u64[2] root\n"
        "r1 = map[.data.A][0]+0\nexit"
    )
    body = write(program, {program.functions[0].name: ("tc", 0)}, declared)[0]
    types = parse(body)
    section = types.find(Kind.DATASEC, ".data.A")
    assert [(m.offset, m.size_bytes) for m in section.members] == [(0, 4), (8, 16)]


def test_the_linker_puts_in_the_number_of_a_type(path):
    obj = read_object(path)
    linked = link(obj, "entry")
    assert linked.insns[0].imm == obj.btf.find(Kind.STRUCT, "node").id


def test_text_and_object_are_the_same_thing(path):
    again = render(unit_of(read_object(path), "entry"))
    assert without_lines(again) == without_lines(TEXT)
    program, declared = assemble_unit(again, file="x.bpf.s")
    out = path.with_name("again.bpf.o")
    out.write_bytes(write_object(program, declared=declared))
    assert without_lines(render(unit_of(read_object(out), "entry"))) == without_lines(TEXT)


def without_lines(text):
    return [line for line in text.splitlines() if line and not line.startswith(";")]


@pytest.mark.parametrize("topic", ["reject", "callback", "assert"])
def test_every_program_can_be_written_down(topic, tmp_path):
    """The same instructions, and the same prediction: so the same types, maps and globals."""
    known = 0
    for number, path in enumerate(build([PROGS / topic])):
        obj = read_object(path)
        for each in obj.programs:
            if each.section.lstrip("?").startswith(("freplace", "fentry", "fexit", "fmod_ret")):
                continue  # what they attach to is another program
            unit = unit_of(obj, each.name)
            program, declared = assemble_unit(render(unit), file="small.bpf.s")
            # numbers of types, and how an address in the kernel is said, are libbpf's to put in
            if not {RefKind.EXTERN, RefKind.TYPE} & {r.kind for r in unit.program.refs.values()}:
                assert encode(program.insns) == encode(unit.program.insns), each.name
            out = tmp_path / f"{number}-{each.name}.bpf.o"
            out.write_bytes(write_object(program, declared=declared))
            before, after = predict(obj, each.name, "7.3"), predict(out, each.name, "7.3")
            if before.verdict is Verdict.UNKNOWN:
                continue  # it depends on the types of a kernel
            assert (before.verdict, before.message) == (after.verdict, after.message), each.name
            known += 1
    assert known > 20


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (".struct", "1:8: expected the name of the struct"),
        (".struct x", "1:10: expected its size in bytes"),
        (".struct x 8 9", "1:13: did not expect '9'"),
        (".struct x 8\n.struct x 8", "2:9: struct x is there already"),
        (".member 0 int x", "1:1: there is no .struct or .union before this member"),
        (".struct x 8\n.member 0", "2:10: expected a type"),
        (".variable 0 int x", "1:1: there is no .globals before this variable"),
        (".globals .bss 8\n.variable 8 int x", "2:1: byte 8 is not in .bss"),
        (".map x", "1:7: expected a type of map, such as array"),
        (".map x tree", "1:8: no type of map 'tree'"),
        (".map x array size 5", "1:14: expected one of key, value, entries, flags, extra, of"),
        (".map x array entries", "1:21: expected a number"),
        (".map x array\n.map x array", "2:6: 'x' is there already"),
        (".globals data 8", "1:10: expected a section"),
        (".globals:odata 8", "1:9: expected a section"),
        (".argument; 1 x", "1:1: expected `.argument NUMBER TEXT`"),
        (".globals .data", "1:10: expected its size"),
        (".globals .data 2 010203", "1:10: 3 bytes of content in a section of 2"),
        (".globals .data 2 0x", "1:10: '0x' is not hexadecimal"),
        (".extern void", "1:13: expected a name"),
        (".extern void f(u64", "1:19: expected ',' or ')'"),
        (".extern void f(" + "int(" * 5000, "1:48: functions of functions: too deep"),
        (".extern void f(u64 u64)", "1:20: expected ',' or ')'"),
        (".struct x -8", "1:11: -8 is not between 0 and 536870911"),
        (".struct x 8\n.member 0 u8[0x7fffffffff] x", "2:14: 0x7fffffffff is not between"),
        (".struct x 8\n.member 0 u8[] x", "2:14: expected how many there are"),
        (".map x array entries 0x100000000", "1:22: 0x100000000 is not between"),
        (".tag x", "1:1: a tag needs text, and a struct"),
        (".license", "1:9: expected a licence"),
        (".argument 1 x", "1:1: expected `.argument NUMBER TEXT`"),
    ],
)
def test_mistakes(lines, words):
    with pytest.raises(UsageError) as caught:
        assemble_unit(f"{lines}\nexit", file="x.s")
    assert caught.value.message.removeprefix("x.s:").startswith(words)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (".extern struck x bpf_y", "expected the name|'struck'|expected a name|did not expect"),
        (".map m hash key struct value u32", "expected|there is no"),
    ],
)
def test_a_word_that_is_no_type(lines, words):
    with pytest.raises(UsageError, match=words):
        write_object(*_unit(f".section tc\n{lines}\nr1 = map[m]\nexit"))


def _unit(text):
    program, declared = assemble_unit(text)
    return program, "GPL", declared


def test_a_type_that_nobody_knows_is_named():
    text = ".section tc\n.map m hash key u33 value u32 entries 1\nr1 = map[m]\nexit"
    with pytest.raises(UsageError, match="'u33': 'u33' is no type"):
        write_object(*_unit(text))


def test_sizes():
    declared = assemble_unit(TEXT)[1]
    sizes = {"int": 4, "u8[3]": 3, "struct elem[2]": 64, "void *": 8, "struct other": 0, "s64": 8}
    assert {text: size_of(text, declared) for text in sizes} == sizes
