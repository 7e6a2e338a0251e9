# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Objects that nobody compiled: one clear error, soon, and without much memory."""

import struct
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from libbpf_witness import HERE, compiled

from harness.bpf import btf, btfext, rawelf
from harness.bpf.elf import read_object
from harness.bpf.environment import SEEDED, Environment
from harness.bpf.link import link
from harness.errors import ObjectError

OBJECTS = sorted((HERE / "data/objects").glob("*.o"))
EDGES = (0, 1, 2, 7, 0x7F, 0xFF, 0x100, 0xFFFF, 0x10000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
WORDS = st.one_of(st.sampled_from(EDGES), st.integers(0, 0xFFFF_FFFF))


def section(data, name):
    """(start, length) of a section in the file."""
    found = next(h for h in rawelf.section_headers("x", data) if h.name == name)
    return found.offset, found.size


@pytest.fixture(scope="module")
def originals():
    return [path.read_bytes() for path in OBJECTS]


@settings(max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_changed_words_are_an_error_or_nothing(data, originals, tmp_path_factory):
    content = bytearray(data.draw(st.sampled_from(originals)))
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from((".BTF", ".BTF.ext", ".symtab", ".text", ".strtab", "")))
        try:
            start, length = section(bytes(content), name) if name else (0, len(content))
        except (ObjectError, StopIteration):
            continue
        if length < 4 or start + length > len(content):
            continue
        at = start + data.draw(st.integers(0, (length - 4) // 4)) * 4
        content[at : at + 4] = data.draw(WORDS).to_bytes(4, "little")
    path = tmp_path_factory.getbasetemp() / "hostile.o"
    path.write_bytes(content)
    try:
        obj = read_object(path)
    except ObjectError as error:
        assert str(path) in error.message  # noqa: PT017  # no error is right, too
        return
    environment = Environment(obj.btf, "6.12", SEEDED, complete=False)
    for program in obj.programs:
        try:
            link(obj, program.name, environment)
        except ObjectError as error:
            assert str(path) in error.message  # noqa: PT017


@settings(max_examples=200, deadline=2000)
@given(cut=st.integers(0, 7000))
def test_truncated_objects(cut, originals, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "short.o"
    path.write_bytes(originals[-1][: min(cut, len(originals[-1]) - 1)])
    with pytest.raises(ObjectError, match="short"):
        read_object(path)


def types_of(words, strings=b"\0x\0y\0"):
    body = struct.pack(f"<{len(words)}I", *words)
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings))
    return head + body + strings


def record(kind, vlen=0, name=0, size_or_type=0):
    return [name, kind << 24 | vlen, size_or_type]


@pytest.mark.parametrize("kind", [8, 9, 10, 11, 18], ids=lambda k: btf.Kind(k).name)
def test_modifiers_in_a_circle(kind):
    types = btf.parse(types_of([*record(kind, size_or_type=2), *record(kind, size_or_type=1)]))
    for ask in (types.resolve, types.size_of):
        with pytest.raises(ObjectError, match="nest too deep or in a circle"):
            ask(1)


def test_array_of_itself():
    types = btf.parse(types_of([*record(3), 1, 1, 1000]))
    with pytest.raises(ObjectError, match="nest too deep or in a circle"):
        types.size_of(1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([0, 31 << 24, 0], "type 1 is of unknown kind 31"),
        ([0, 0, 0], "type 1 is of unknown kind 0"),
        ([0, 4 << 24 | 0xFFFF, 8], "type 1 runs past the end"),
        ([0, 1 << 24], "type 0 runs past the end"),
    ],
)
def test_broken_type_section(words, message):
    with pytest.raises(ObjectError, match=message):
        btf.parse(types_of(words))


def test_names_and_types_out_of_range():
    types = btf.parse(types_of(record(8, name=500, size_or_type=77)))
    with pytest.raises(ObjectError, match="string offset 500 out of range"):
        types.type(1)
    with pytest.raises(ObjectError, match=r"type id 2 out of range \(0..1\)"):
        types.type(2)


def test_a_record_that_is_found_broken_late_names_its_file(originals, tmp_path):
    data = bytearray(originals[0])
    at, size = section(data, ".BTF")
    found = btf.parse(bytes(data[at : at + size]))
    struct_id = next(found.of_kind(btf.Kind.STRUCT)).id
    # behind the header, and without its name
    start = at + 24 + 4 * found._starts[struct_id - 1]
    struct.pack_into("<I", data, start, 1 << 30)
    path = tmp_path / "damaged.bpf.o"
    path.write_bytes(data)
    types = read_object(path).btf
    with pytest.raises(ObjectError, match=f"^{path}: BTF: string offset 1073741824 out of range$"):
        types.type(struct_id)
    with pytest.raises(ObjectError, match=f"^{path}: BTF: type id 999999 out of range"):
        types.type(999_999)


def test_strings_that_overlap_are_not_decoded_for_ever():
    count, length = 3000, 1 << 16
    words = [w for i in range(count) for w in record(7, name=i + 1)]
    types = btf.parse(types_of(words, b"\0" + b"a" * length + b"\0"))
    with pytest.raises(ObjectError, match="overlapping strings"):
        types.find(btf.Kind.FWD, "b")


def test_too_many_types():
    with pytest.raises(ObjectError, match="more than 400000 are not taken"):
        btf.parse(types_of(record(7) * 400_001))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (struct.pack("<III", 16, 1, 0xFFFF_FFFF), "records of section 'x' are not all there"),
        (struct.pack("<I", 4), "record size 4, at least 16"),
        (struct.pack("<II", 16, 1), "truncated"),
        (struct.pack("<IIIIIII", 16, 1, 1, 0, 900, 1, 0), "string offset 900 out of range"),
    ],
)
def test_broken_lines(rows, message):
    types = btf.parse(types_of(record(7)))
    if len(rows) == 4:
        rows += bytes(8)
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, len(rows))
    with pytest.raises(ObjectError, match=message):
        btfext.parse_ext(head + rows, types)


def elf_of(sections):
    """An ELF file for BPF; a section is (name, type, flags, content, link, info, claimed size)."""
    names = b"\0" + b"\0".join(s[0].encode() for s in sections) + b"\0.shstrtab\0"
    sections = [("", 0, 0, b"", 0, 0, None), *sections, (".shstrtab", 3, 0, names, 0, 0, None)]
    body, rows = b"", []
    for name, kind, flags, content, link_to, info, claimed in sections:
        at = names.index(b"\0" + name.encode() + b"\0") + 1 if name else 0
        size = len(content) if claimed is None else claimed
        rows.append(
            struct.pack(
                "<IIQQQQIIQQ", at, kind, flags, 0, 64 + len(body), size, link_to, info, 0, 0
            )
        )
        body += content
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 1, 247, 1, 0, 0,
        64 + len(body), 0, 64, 0, 0, 64, len(rows), len(rows) - 1)  # fmt: skip
    return head + body + b"".join(rows)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ([(".bss", 8, 3, b"", 0, 0, 1 << 40)], "too large in all"),
        ([(".bss", 8, 3, b"", 0, 0, 60 << 20)] * 3, "too large in all"),
        ([(".data", 1, 3, b"x", 0, 0, 1 << 30)], "too large in all"),
        ([(".data", 1, 3, b"x", 0, 0, 5000)], r"truncated: section '.data' ends at byte \d+"),
        ([(".symtab", 2, 0, bytes(23), 0, 0, None)], "symbol table of 23 bytes"),
        ([(".symtab", 2, 0, bytes(24), 99, 0, None)], "symbol names are in section 99"),
        ([(".symtab", 2, 0, bytes(24), 2, 0, None),
          (".strtab", 3, 0, b"a", 0, 0, None)], "no name"),
        ([(".symtab", 2, 0, struct.pack("<IBBHQQ", 0, 0, 0, 77, 0, 0), 2, 0, None),
          (".strtab", 3, 0, b"\0", 0, 0, None)], "a symbol is in section 77"),
        ([(".text", 1, 4, bytes(8), 0, 0, None), (".rel.text", 9, 0, bytes(15), 0, 1, None)],
         "relocations of 15 bytes"),
        ([(".text", 1, 4, bytes(8), 0, 0, None),
          (".rel.text", 9, 0, struct.pack("<QQ", 0, 9 << 32), 0, 1, None)], "symbol #9 not found"),
    ],
)  # fmt: skip
def test_broken_tables(sections, message):
    with pytest.raises(ObjectError, match=message):
        rawelf.parse("x.o", elf_of(sections))


def test_relocations_of_debug_information_are_left_alone():
    broken = (".rel.debug_info", 9, 0, struct.pack("<QQ", 0, 9 << 32), 0, 1, None)
    read = rawelf.parse("x.o", elf_of([(".debug_info", 1, 0, bytes(8), 0, 0, None), broken]))
    assert read.relocations == {}


DEEP = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define F(n, next) __attribute__((noinline)) int f##n(int x) {{ return next(x) + n; }}
char _license[] SEC("license") = "GPL";
int last(int x) {{ return x; }}
{functions}
SEC("tc") int entry(struct __sk_buff *s) {{ return f{top}(s->len); }}
"""


def test_calls_that_nest_deeper_than_pythons_own(tmp_path):
    count = 1500
    functions = "\n".join(f"F({i}, {f'f{i - 1}' if i else 'last'})" for i in range(count))
    text = DEEP.format(functions=functions, top=count - 1)
    obj = read_object(compiled(tmp_path, text, "-fno-inline"))
    before = time.process_time()
    program = link(obj, "entry")
    # the innermost are so small that clang puts them into their callers
    assert len(program.functions) >= count
    assert time.process_time() - before < 5
