# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The types of a kernel, out of an image, an ELF file and a raw file; what is broken is named."""

import bz2
import gzip
import lzma
import os
import struct
import subprocess
import time

import pytest
from libbpf_witness import compiled, small_types

from harness.bpf import vmlinux
from harness.bpf.btf import Kind
from harness.bpf.elf import read_object
from harness.bpf.environment import Environment
from harness.bpf.link import link
from harness.bpf.vmlinux import kernel_types
from harness.errors import ObjectError
from harness.kernels import catalogue, store
from harness.model import Case, Input
from harness.sim import run_case

SOURCE = "struct wanted { int a; long b; }; struct wanted w;"


@pytest.fixture(scope="module")
def elf(tmp_path_factory):
    """A file with a section .BTF, as a vmlinux has one."""
    return compiled(tmp_path_factory.mktemp("elf"), SOURCE)


def command(name):
    def pack(data):
        return subprocess.run([name, "-c"], input=data, capture_output=True, check=True).stdout

    return pack


METHODS = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": command("zstd"),
}


def image(payload):
    """A bzImage: one setup sector and what it unpacks."""
    head = bytearray(1024)
    head[0x1F1] = 1
    head[0x202:0x206] = b"HdrS"
    payload += struct.pack("<I", 12345)
    struct.pack_into("<II", head, 0x248, 64, len(payload))
    return bytes(head) + bytes(64) + payload


@pytest.mark.parametrize("method", METHODS)
def test_image(method, elf, tmp_path, cache):
    path = tmp_path / "vmlinuz"
    path.write_bytes(image(METHODS[method](elf.read_bytes())))
    types = kernel_types(path)
    assert types.find(Kind.STRUCT, "wanted").size_bytes == 16
    kept = list((cache / "btf").iterdir())
    assert len(kept) == 1
    # the second time nothing is unpacked
    vmlinux._types.cache_clear()
    path.write_bytes(path.read_bytes())
    assert kernel_types(path).find(Kind.STRUCT, "wanted") is not None


def test_elf_and_raw_file(elf, tmp_path):
    raw = small_types(tmp_path, SOURCE)
    for path in (elf, raw):
        assert [m.name for m in kernel_types(path).find(Kind.STRUCT, "wanted").members] == [
            "a",
            "b",
        ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"hello", "neither a kernel image nor BTF"),
        (b"\x9f\xeb\1", "truncated header"),
        (b"\x9f\xeb\1\0" + struct.pack("<IIIII", 24, 0, 400, 400, 4), "truncated"),
        (b"\x7fELF" + bytes(60), "not a 64-bit little-endian ELF"),
        (image(b"no such method"), "compressed in an unknown way"),
        (image(b"\x1f\x8b garbage"), "broken gzip data"),
        (image(b"\xfd7zXZ\0 garbage"), "broken xz data"),
        (image(b"\x28\xb5\x2f\xfd garbage"), "broken zstd data"),
        (image(gzip.compress(b"not an ELF file")), "not a 64-bit little-endian ELF"),
        (image(gzip.compress(bytes(64)))[:1100], "ends before byte"),
    ],
)
def test_broken_file(content, message, tmp_path, cache):
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(ObjectError, match=message) as caught:
        kernel_types(path)
    assert str(path) in caught.value.message


def test_missing_file(tmp_path):
    with pytest.raises(ObjectError, match="absent: cannot be read: No such file"):
        kernel_types(tmp_path / "absent")


def test_bomb_is_not_unpacked(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(vmlinux, "_MAX_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "bomb"
    for method in METHODS.values():
        path.write_bytes(image(method(bytes(4 << 20))))
        with pytest.raises(ObjectError, match="unpacks to more than"):
            kernel_types(path)


def test_a_file_with_holes_is_not_read_into_memory(tmp_path, cache):
    """Files of 8 GiB that take a few blocks of the disk."""
    path = tmp_path / "holes"
    huge = bytearray(image(b""))
    struct.pack_into("<I", huge, 0x24C, 0xFFFF_0000)
    for content, words in (
        (bytes(huge), "the packed kernel: larger than 192 MiB"),
        (b"\x9f\xeb\1\0" + bytes(60), "BTF: header of 0 bytes"),
    ):
        path.write_bytes(content)
        os.truncate(path, 8 << 30)
        with pytest.raises(ObjectError, match=words):
            kernel_types(path)


PROGRAM = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
struct task_struct { int pid; } __attribute__((preserve_access_index));
SEC("tc") int reads(struct __sk_buff *s) {
    return bpf_core_field_offset(((struct task_struct *)0)->pid); }
char _license[] SEC("license") = "GPL";
"""


def test_a_real_kernel_is_opened_fast(tmp_path):
    """Types of Linux 6.12 and one relocated program: half a second on an idle machine."""
    real = store.fetch(catalogue.load(), "6.12").image
    obj = read_object(compiled(tmp_path, PROGRAM))
    took_s = []
    for _ in range(3):
        vmlinux._types.cache_clear()
        before = time.process_time()
        program = link(obj, "reads", Environment(kernel_types(real)))
        took_s.append(time.process_time() - before)
    assert program.insns[0].imm > 1000
    assert min(took_s) < 0.5


def test_poison_faults_where_it_is_reached(tmp_path, elf):
    text = PROGRAM.replace("task_struct", "absent_struct").replace(
        "return bpf_core_field_offset", "if (s->len < 20) return 3; return bpf_core_field_offset"
    )
    path = compiled(tmp_path, text)
    environment = Environment(kernel_types(elf))
    case = Case("t", str(path), "reads", "tc", "test_run", Input(packet=bytes(64)))
    seen = run_case(case, "6.12", environment=environment)
    assert seen.verdict == "rejected"
    assert "invalid func unknown#195896080: CO-RE relocation field_byte_offset" in seen.message
    assert "x.bpf.c:" in seen.message
    unknown = run_case(case, "6.12")
    assert unknown.verdict == "ran"
