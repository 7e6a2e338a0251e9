# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The guest's libbpf as a witness: what it would hand to the kernel, and whether we link the same.

tests/data/recorder/recorder.c loads an object by libbpf and answers its bpf(2) calls in place of a
kernel. libbpf comes out of the guest root (vm/root.toml).
"""

import dataclasses
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness import build, tools
from harness.bpf import isa
from harness.bpf.elf import ARENA, read_object
from harness.bpf.environment import Environment
from harness.bpf.link import RefKind, link
from harness.bpf.vmlinux import kernel_types, section_of, unpack
from harness.errors import ObjectError
from harness.kernels import catalogue, root, store

HERE = Path(__file__).resolve().parent
RECORDER = HERE / "data/recorder/recorder.c"
KCONFIG = {
    "CONFIG_HZ": "250",
    "CONFIG_BPF": "y",
    "CONFIG_DEFAULT_HOSTNAME": '"(none)"',
    "CONFIG_NET_SCH_INGRESS": "m",
    "CONFIG_LETTER": "n",
}
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass
class Recording:
    """What libbpf did with one program."""

    name: str
    section: str
    words: dict[str, list[str]] = field(default_factory=dict)
    # map -> file descriptor
    maps: dict[str, int] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    @property
    def insns(self):
        """Instructions of the load, or those that were ready when the load was not made."""
        code = self.words.get("insns")
        if code is None and any("failed to prepare load attributes" in line for line in self.log):
            code = self.words["unloaded"]
        return isa.decode(bytes.fromhex(code[0])) if code else None

    def rows(self, word):
        """Records of func_info or line_info as lists of 32-bit words."""
        if word not in self.words:
            return None
        size, data = int(self.words[word][0]), "".join(self.words[word][1:])
        content = bytes.fromhex(data)
        rows = [content[at : at + size] for at in range(0, len(content), size)]
        return [[int.from_bytes(r[i : i + 4], "little") for i in range(0, size, 4)] for r in rows]


def parse(text):
    """Recordings out of what the recorder printed."""
    found = []
    for line in text.splitlines():
        word, *rest = line.split()
        if word == "program":
            found.append(Recording(*rest))
        elif word == "map":
            found[-1].maps[rest[0]] = int(rest[1])
        elif word == "log":
            target = found[-1].log if found else []
            target.append(line)
        elif word != "end":
            found[-1].words[word] = rest
    return found


def recorder(place):
    """Set it up in directory `place`; a function (object, types) -> a recording per program."""
    built = root.ensure_root()
    tree, program = place / "root", place / "recorder"
    tools.run([tools.need("fsck.erofs"), f"--extract={tree}", os.fspath(built.image)])
    libraries = tree / LIBRARIES
    tools.run(
        [build.find_clang(), "-O1", "-Wall", "-Wno-unused-result", "-rdynamic", "-o", str(program),
         str(RECORDER), f"-L{libraries}", "-l:libbpf.so.1", "-Wl,--allow-shlib-undefined"]
    )  # fmt: skip
    loader = _loader(tree)
    kconfig = "".join(f"{name}={value}\n" for name, value in KCONFIG.items())

    def run(path, types):
        done = subprocess.run(
            [*loader, program, path, kconfig, types],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        return parse(done.stdout)

    return run


def _loader(tree):
    return [tree / "usr/lib64/ld-linux-x86-64.so.2", "--library-path", tree / LIBRARIES]


def statically_linked(place, target, *objects):
    """`bpftool gen object`, with the guest's bpftool in a recorder's directory."""
    tree = place / "root"
    subprocess.run(
        [*_loader(tree), tree / "usr/sbin/bpftool", "gen", "object", target, *objects],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip


def compiled(place, text, *flags):
    source, target = place / "x.bpf.c", place / "x.bpf.o"
    source.write_text(text)
    include = [f"-I{d}" for d in build.include_dirs()]
    tools.run(
        [build.find_clang(), "-target", "bpf", "-g", "-O2", "-mcpu=v3", *include, *flags,
         "-c", str(source), "-o", str(target)]
    )  # fmt: skip
    return target


def small_types(place, text):
    """Types of a kernel in small, as a raw file: that is how libbpf finds them in sysfs."""
    data = compiled(place, text).read_bytes()
    types = place / "small.btf"
    types.write_bytes(section_of("small", data, ".BTF"))
    return types


def real_types(place):
    """Types of Linux 6.12, as a file in directory `place`."""
    image = store.fetch(catalogue.load(), "6.12").image
    types = place / "vmlinux.btf"
    types.write_bytes(section_of("vmlinux", unpack("vmlinuz", image.read_bytes()), ".BTF"))
    return types


def expected(program, recording):
    """Our instructions with libbpf's file descriptors in them."""
    insns = list(program.insns)
    for pc, ref in program.refs.items():
        if ref.kind is RefKind.MAP:
            insns[pc] = dataclasses.replace(insns[pc], imm=recording.maps[ref.name[:15]])
        elif ref.kind is RefKind.GLOBAL:
            insns[pc] = dataclasses.replace(insns[pc], imm=section_map(recording.maps, ref.name))
    return tuple(insns)


def section_map(maps, section):
    """libbpf calls the map of a section of globals by the section, the object or both."""
    names = ["arena"] if section == ARENA else [f"o{section}", section[:15]]
    return next(maps[name] for name in names if name in maps)


def check(path, types, recordings):
    """Every program of the object; the number of programs that libbpf refuses."""
    obj = read_object(path)
    environment = Environment(kernel_types(types), "6.12.107", KCONFIG)
    assert [(r.name, r.section) for r in recordings] == [
        (p.name, p.section.removeprefix("?")) for p in obj.programs
    ]
    refused = 0
    for recording in recordings:
        if recording.insns is None:
            with pytest.raises(ObjectError):
                link(obj, recording.name, environment)
            refused += 1
            continue
        program = link(obj, recording.name, environment)
        assert_same(expected(program, recording), recording.insns, recording.name)
        functions, lines = recording.rows("funcs"), recording.rows("lines")
        if functions is not None:
            assert [(f.start, f.name) for f in program.functions] == [
                (row[0], obj.btf.type(row[1]).name) for row in functions
            ]
            assert [(pc, x.file, x.number, x.text) for pc, x in sorted(program.lines.items())] == [
                (pc, obj.btf.string(f), place >> 10, obj.btf.string(text).strip())
                for pc, f, text, place in lines
            ]
    return refused


def assert_same(ours, theirs, name):
    different = [
        f"{name} {pc}: {a} is {b} with libbpf"
        for pc, (a, b) in enumerate(zip(ours, theirs, strict=False))
        if a != b
    ]
    assert not different
    assert len(ours) == len(theirs)
