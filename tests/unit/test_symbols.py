# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Bare addresses of an oops get names, from wherever a kernel's symbols are; lines where known."""

import base64
import os
import struct
import zlib
from pathlib import Path

import pytest

from harness import symbols
from harness.errors import UsageError, WorldError
from harness.kernels import Kernel
from harness.symbols import decode, parse, read_vmlinux
from harness.target import symbols as places
from harness.target.agent import kallsyms

BASE = 0xFFFFFFFF81000000
COUNT = 1200


def rows(base=BASE):
    """A kernel of COUNT functions, 0x100 bytes each, with data and init code behind."""
    text = [("_text", base), *((f"f{n}", base + 0x100 * n) for n in range(COUNT))]
    end = base + 0x100 * COUNT
    behind = [("_etext", end), ("table", end + 0x200), ("_sinittext", end + 0x1000)]
    return [*text, *behind, ("setup", end + 0x1000), ("_einittext", end + 0x1100)]


def system_map(base=BASE):
    """The same as System.map and /proc/kallsyms write it."""
    return "".join(f"{address:016x} T {name}\n" for name, address in rows(base))


@pytest.fixture
def known():
    return parse(system_map())


def test_an_address_is_named_as_kernels_do(known):
    assert known.name(BASE + 0x105) == "f1+0x5/0x100"
    assert known.name(BASE + 0x100 * COUNT + 0x1010) == "setup+0x10/0x100"
    # before the first, in data, behind the last
    for address in (BASE - 1, BASE + 0x100 * COUNT + 0x200, BASE + 0x100 * COUNT + 0x9000):
        assert known.name(address) == ""
    assert (known.address("f7"), known.address("nobody")) == (BASE + 0x700, None)


@pytest.mark.parametrize(
    "text", ["", "ffffffffffffffff B The real System.map is elsewhere\n", "x T _text\n" * 2000]
)
def test_a_stub_is_no_map(text):
    assert parse(text) is None


def test_a_panic_says_where_its_kernel_was(known):
    slid = 0x37A00000
    log = (
        f"[    1.0] RAX: {BASE + slid + 0x210:x} RBX: ff16ac2302570000\n"
        f"[    1.1] Kernel Offset: {slid:#x} from 0xffffffff81000000 (relocation range: ...)"
    )
    first, last = decode(log, known).splitlines()
    assert first.endswith(f"RBX: ff16ac2302570000    <- {BASE + slid + 0x210:x} is f2+0x10/0x100")
    assert "<-" not in last
    # one that lies about the base loses against the panic's own words
    assert decode(log, known, BASE + 0x1000).splitlines()[0] == first


def test_without_a_panic_the_guest_must_have_said_where_it_is(known):
    line = f"RIP: 0010:0x{BASE + 0x5210:x}"
    assert decode(line, known) == line
    assert decode(line, known, BASE + 0x5000).endswith("is f2+0x10/0x100")
    assert decode("Kernel Offset: disabled\nRCX: ffffffff81000305", known).endswith(
        "is f3+0x5/0x100"
    )


def test_jitted_code_is_called_that_and_nothing_is_decoded_twice(known):
    log = "RIP: 0010:0xffffffffc02006a5"
    once = decode(log, known)
    assert once == f"{log}    <- ffffffffc02006a5 is a BPF program or module"
    assert decode(once, known, BASE) == once


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("ffffffffc0200630", "keeps+0x0/0x20 (BPF)"),
        ("ffffffffc020064f", "keeps+0x1f/0x20 (BPF)"),
        ("ffffffffc0200651", "keeps+0x21/0x20 (BPF), behind its end"),
        ("ffffffffc0200708", "keeps/1+0x8/0x10 (BPF)"),
        ("ffffffffc0200830", "a BPF program or module"),
    ],
)
def test_a_program_that_the_agent_announced_is_named(known, address, name):
    log = (
        "[ 1.0] bpfthrow: program keeps at ffffffffc0200630, 32 bytes\n"
        "[ 1.0] bpfthrow: program keeps/1 at ffffffffc0200700, 16 bytes\n"
        f"[ 1.1] RIP: 0010:0x{address}"
    )
    *said, last = decode(log, known).splitlines()
    assert last.endswith(f"    <- {address} is {name}")
    assert said == log.splitlines()[:2]


# ---- vmlinux --------------------------------------------------------------------------------


def vmlinux(path, *, lines=True):
    """An ELF file of symbols and nothing else."""
    names, table = b"\0", struct.pack("<IBBHQQ", 0, 0, 0, 0, 0, 0)
    for name, address in rows():
        table += struct.pack("<IBBHQQ", len(names), 2, 0, 1, address, 0x100)
        names += name.encode() + b"\0"
    sections = [("", 0, b""), (".symtab", 2, table), (".strtab", 3, names)]
    sections += [(".debug_line", 1, b"x")] * lines
    headings = b"".join(name.encode() + b"\0" for name, _, _ in sections) + b".shstrtab\0"
    sections.append((".shstrtab", 3, headings))
    body, headers, at = b"", b"", 0
    for name, kind, data in sections:
        link, size = (2, 24) if kind == 2 else (0, 0)
        headers += struct.pack(
            "<IIQQQQIIQQ", at, kind, 0, 0, 64 + len(body), len(data), link, 0, 1, size
        )
        at += len(name) + 1
        body += data
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0, 0, 64 + len(body), 0,
                       64, 0, 0, 64, len(sections), len(sections) - 1)  # fmt: skip
    path.write_bytes(head + body + headers)


def test_a_vmlinux_gives_names_and_lines(tmp_path):
    vmlinux(tmp_path / "vmlinux")
    asked = []

    def lines(addresses):
        asked.extend(addresses)
        return {BASE + 0x20F: "kernel/bpf/helpers.c:3406"}

    found = read_vmlinux(tmp_path / "vmlinux", lines)
    assert found is not None
    assert found.name(BASE + 0x210) == "f2+0x10/0x100"
    log = "[ 1.0]  f2+0x10/0x100\n[ 1.1]  f3+0x1/0x100\n[ 1.2] RIP: 0010:f4+0x8/0x100"
    first, *others = decode(log, found).splitlines()
    assert first == "[ 1.0]  f2+0x10/0x100    <- kernel/bpf/helpers.c:3406"
    assert not any("<-" in line for line in others)
    # a return address is behind its call, the instruction pointer is not
    assert asked == [BASE + 0x20F, BASE + 0x300, BASE + 0x408]


def test_what_is_no_vmlinux(tmp_path):
    file = tmp_path / "vmlinux"
    file.write_text("no ELF")
    with pytest.raises(UsageError, match="no vmlinux"):
        read_vmlinux(file)
    vmlinux(file, lines=False)
    assert read_vmlinux(file, lambda _: pytest.fail("no debug information")).lines is None


# ---- where they come from -------------------------------------------------------------------


class Guest:
    """Answers for its kernel, or cannot."""

    def __init__(self, error=None):
        self.asked = 0
        self.error = error

    def kallsyms(self):
        self.asked += 1
        if self.error:
            raise self.error
        return zlib.compress(system_map(BASE + 0x1000000).encode())


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image = tmp_path / "tree/arch/x86/boot/bzImage"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"image")
    return Kernel("6.12", "6.12.1", image, None, None, expects_throw=True, origin="")


def test_a_guest_is_asked_once(kernel):
    guest = Guest()
    (kernel.image.parent / "System.map-6.12.1").write_text("ffffffffffffffff B a stub\n")
    assert places.at_hand(kernel) is None
    found = places.symbols_of(kernel, guest)
    assert found == places.symbols_of(kernel, guest) == places.at_hand(kernel)
    assert (found.base, guest.asked) == (BASE + 0x1000000, 1)
    kernel.image.write_bytes(b"another image of the same release")
    assert places.at_hand(kernel) is None


@pytest.mark.parametrize("place", [".", "../../.."])
def test_a_map_beside_the_image_or_in_the_tree_needs_no_guest(kernel, place):
    (kernel.image.parent / place / "System.map").write_text(system_map())
    found = places.symbols_of(kernel, Guest(AssertionError("asked")))
    assert (found.base, Path(found.origin).name) == (BASE, "System.map")


def test_a_tree_with_debug_information_gets_lines_from_binutils(kernel, tmp_path, monkeypatch):
    tree = kernel.image.parents[3]
    vmlinux(tree / "vmlinux")
    tool = tmp_path / "bin/addr2line"
    tool.parent.mkdir()
    tool.write_text(
        "#!/bin/sh\nshift 2\n"
        f'for a; do case $a in *20f) echo "{tree}/kernel/x.c:12 (discriminator 1)";;'
        ' *) echo "??:0";; esac; done\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    log = " f2+0x10/0x100\n f3+0x10/0x100"
    assert decode(log, places.at_hand(kernel)) == (
        " f2+0x10/0x100    <- kernel/x.c:12\n f3+0x10/0x100"
    )
    tool.write_text("#!/bin/sh\nexit 1\n")
    assert decode(log, places.at_hand(kernel)) == log
    monkeypatch.setenv("PATH", str(tmp_path))
    assert decode(log, places.at_hand(kernel)) == log


def test_old_ones_go_and_a_broken_one_is_no_answer(kernel):
    places.symbols_of(kernel, Guest())
    (kept,) = (Path(os.environ["XDG_CACHE_HOME"]) / "bpfthrow/symbols").iterdir()
    for number in range(20):
        old = kept.with_name(f"old-{number}.z")
        old.write_bytes(b"")
        os.utime(old, (number, number))
    kept.write_bytes(b"half of it")
    assert places.at_hand(kernel) is None
    assert places.symbols_of(kernel, Guest()) is not None
    names = {path.name for path in kept.parent.iterdir()}
    assert len(names) == 12
    assert kept.name in names
    assert "old-0.z" not in names


def test_learning_is_a_convenience(kernel):
    places.learn(kernel, Guest(WorldError("the guest does not say")))
    assert places.at_hand(kernel) is None
    guest = Guest()
    places.learn(kernel, guest)
    places.learn(kernel, guest)
    assert guest.asked == 1


# ---- the agent's part -----------------------------------------------------------------------


def test_the_agent_sends_functions_of_the_kernel_itself(tmp_path):
    file = tmp_path / "kallsyms"
    other = "0000000000000000 A fixed_percpu_data\n"
    module = "ffffffffc0000000 t erofs_init\t[erofs]\nffffffff82000000 D jiffies\n"
    file.write_text(other + system_map() + module)
    assert kallsyms.base(file) == BASE
    sent = zlib.decompress(base64.b64decode(kallsyms.packed(file))).decode()
    assert sent == system_map()
    assert symbols.parse(sent) is not None


@pytest.mark.parametrize("text", ["0000000000000000 T _text\n", "", "0000000000000000 T other\n"])
def test_hidden_addresses_are_an_error(tmp_path, text):
    file = tmp_path / "kallsyms"
    file.write_text(text)
    with pytest.raises(WorldError, match="shows no addresses"):
        kallsyms.base(file)
