# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Logs of refused loads as kernels and libbpf 1.5 really wrote them (tests/data/load-log)."""

import datetime as dt
import struct
from pathlib import Path

import pytest

from harness.errors import WorldError
from harness.repro_log import evidence
from harness.target import splats
from harness.target.agent import kernelbtf, kmsg, verifierlog

DATA = Path(__file__).parent.parent / "data" / "load-log"


@pytest.mark.parametrize(
    ("name", "errno", "message"),
    [
        # the line before 7.3's explanation, not its last line
        ("7.3-rcu-held", 22, "bpf_throw cannot be used inside bpf_rcu_read_lock-ed region"),
        # "...directlyprocessed 9 insns": the kernel forgot the newline
        ("7.3-missing-newline", 22, "insn 1 cannot call exception cb directly"),
        ("6.12-reference-held", 22, "Unreleased reference id=2 alloc_insn=4"),
        ("6.12-too-deep", 7, "the call stack of 9 frames is too deep"),
        ("6.1-no-kfunc", 22, "kfunc 'bpf_throw' is referenced but wasn't resolved"),
        # the verifier was never asked, and bpftool does not say the errno
        ("libbpf-no-callback", None, "prog 'refused': cannot find exception callback 'nowhere'"),
    ],
)
def test_message_and_errno(name, errno, message):
    log = (DATA / f"{name}.txt").read_text()
    assert verifierlog.useful_line(log, "refused") == message
    assert verifierlog.load_errno(log) == errno


def test_section_of_the_asked_program():
    log = "".join(
        f"libbpf: prog '{name}': -- BEGIN PROG LOAD LOG --\nwords of {name}\n"
        "processed 1 insns\n-- END PROG LOAD LOG --\n"
        for name in ("first", "second")
    )
    assert verifierlog.useful_line(log, "first") == "words of first"
    assert verifierlog.useful_line(log, "second") == "words of second"


# libbpf 1.5 on 7.3: an array of a mebibyte's values, a thousand million times
MAP_TOO_LARGE = """\
libbpf: BTF loading error: -22
libbpf: -- BEGIN BTF LOAD LOG ---
magic: 0xeb9f
[1] PTR (anon) type_id=3
\tcb type_id=1 bits_offset=0
[6] ARRAY (anon) type_id=2 index_type_id=4 nr_elems=1073741824 Array size overflows U32_MAX

-- END BTF LOAD LOG --
libbpf: Error loading .BTF into kernel: -22. BTF is optional, ignoring.
libbpf: map 'huge': failed to create: Cannot allocate memory(-12)
libbpf: failed to load object '/run/bpfthrow/objects/6fd371f567887eb6/mapbig.bpf.o'
Error: failed to load object file
"""
MAP_OF_NO_ENTRIES = """\
libbpf: Error in bpf_create_map_xattr(none):Invalid argument(-22). Retrying without BTF.
libbpf: map 'none': failed to create: Invalid argument(-22)
libbpf: failed to load object '/run/bpfthrow/objects/335d88c9cc8a9c19/mapzero.bpf.o'
Error: failed to load object file
"""


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (MAP_TOO_LARGE, "map 'huge': failed to create: Cannot allocate memory(-12)"),
        (MAP_OF_NO_ENTRIES, "map 'none': failed to create: Invalid argument(-22)"),
    ],
)
def test_a_map_that_cannot_be_created_is_named(log, message):
    assert verifierlog.useful_line(log, "main_prog") == message
    found = evidence(log, message)
    assert found.messages == (message,)
    assert found.found.rule.name == "map-not-created"


def test_a_log_of_megabytes_loses_its_middle_and_says_so():
    log = "-- BEGIN PROG LOAD LOG --\n" + "0: (b7) r0 = 0\n" * 1000 + "R1 is not a scalar\n"
    assert verifierlog.shortened(log, len(log)) == log
    short = verifierlog.shortened(log + "-- END PROG LOAD LOG --\n", 200)
    assert len(short) < 500
    assert short.startswith("-- BEGIN PROG LOAD LOG --\n0: (b7) r0 = 0\n")
    assert short.endswith("R1 is not a scalar\n-- END PROG LOAD LOG --\n")
    found = evidence(short, "")
    assert found.messages == ("R1 is not a scalar",)
    assert "letters of its middle are left out" in found.cut


@pytest.mark.parametrize(
    ("text", "errno"),
    [
        ("libbpf: prog 'x': failed to load: -524", 524),
        ("libbpf: prog 'x': failed to load: -EINVAL", 22),
        ("libbpf: prog 'x': failed to load: -ENOTSUPP", 524),
        ("libbpf: failed to load object 'x': -E2BIG", 7),
        ("libbpf: prog 'x': BPF program load failed: Argument list too long", 7),
        ("Error: failed to load object file", None),
        ("", None),
    ],
)
def test_errno_in_every_spelling(text, errno):
    assert verifierlog.load_errno(text) == errno


def test_a_kernel_function_that_is_not_there_is_named():
    said = "extern (func ksym) 'bpf_no_such': not found in kernel or module BTFs"
    log = f"libbpf: {said}\nlibbpf: failed to load object 'a.o'\nError: failed to load object file"
    assert verifierlog.useful_line(log) == said
    # where the verifier was asked all the same, its words count
    words = f"prog 'p': -- BEGIN PROG LOAD LOG --\ninvalid func unknown#2\n{verifierlog._END}\n"
    assert verifierlog.useful_line(f"libbpf: {said}\n{words}", "p") == "invalid func unknown#2"


def test_nothing_to_read_is_not_an_error():
    assert verifierlog.useful_line("") == ""
    assert verifierlog.last_word("") == ""


def test_kernel_log_record(tmp_path):
    # a record as /dev/kmsg gives it: head, text, structured data; a regular file never blocks
    path = tmp_path / "kmsg"
    path.touch()
    log = kmsg.KernelLog(str(path))
    path.write_text("4,1234,98765432,-;Oops: something; more\n SUBSYSTEM=net\n")
    assert log.window() == "[   98.765432] Oops: something; more\n"
    assert log.window() == ""
    log.close()


RECORDS = {
    "harmless": b"6,1,1000000,-;harmless\n",
    "warning": b"4,2,1000000,-;WARNING: x at known_function+0x1/0x2\n",
}


@pytest.mark.parametrize(
    ("records", "found"),
    [
        (["harmless", "lost", "harmless"], 1),
        # a report cut short must hide neither the loss nor what comes after it
        (["warning", "lost", "warning"], 3),
    ],
)
def test_lost_records_are_not_a_clean_log(tmp_path, monkeypatch, records, found):
    def read(_fd, _size):
        if not records:
            raise BlockingIOError
        record = records.pop(0)
        if record == "lost":
            raise BrokenPipeError
        return RECORDS[record]

    (tmp_path / "kmsg").touch()
    records = list(records)
    log = kmsg.KernelLog(str(tmp_path / "kmsg"))
    monkeypatch.setattr(kmsg.os, "read", read)
    seen = splats.find_splats(log.window(), splats.load_rules(), dt.date(2026, 11, 22))
    log.close()
    assert len(seen) == found
    assert "[?] the kernel log overran: records were lost" in seen


def test_warnings_are_armed_where_the_kernel_has_the_switch(tmp_path):
    switch = tmp_path / "clear_warn_once"
    (tmp_path / "kmsg").touch()
    log = kmsg.KernelLog(str(tmp_path / "kmsg"))
    log.arm(switch)
    assert not switch.exists()
    log.close()


def test_warnings_are_armed_again_only_where_one_may_have_spoken(tmp_path):
    path, switch = tmp_path / "kmsg", tmp_path / "clear_warn_once"
    path.touch()
    switch.touch()
    log = kmsg.KernelLog(str(path))

    def armed():
        log.arm(switch)
        said = switch.read_text()
        switch.write_text("")
        return said == "1"

    # what was said before this reader is not known
    assert [armed(), armed()] == [True, False]
    path.write_bytes(RECORDS["warning"])
    assert not armed()
    assert log.window()
    assert [armed(), armed()] == [True, False]
    log.close()


def btf(tmp_path, functions):
    """A BTF file: one type of each kind with a tail, then FUNCs."""
    strings = b"\0" + b"\0".join(name.encode() for name in functions) + b"\0"
    tails = {1: (0, 4), 3: (0, 12), 4: (2, 24), 6: (3, 24), 13: (2, 16), 15: (1, 12), 2: (0, 0)}
    types = b"".join(
        struct.pack("=III", 0, kind << 24 | vlen, 0) + bytes(size)
        for kind, (vlen, size) in tails.items()
    )
    for name in functions:
        types += struct.pack(
            "=III", strings.index(b"\0" + name.encode() + b"\0") + 1, 12 << 24 | 1, 5
        )
    head = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    path = tmp_path / "vmlinux"
    path.write_bytes(head + types + strings)
    return path


def test_kernel_functions_by_their_bytes(tmp_path, monkeypatch):
    def no_libbpf():
        raise WorldError("no libbpf")

    monkeypatch.setattr(kernelbtf.libbpf, "library", no_libbpf)
    path = btf(tmp_path, ["xbpf_throw", "first", "bpf_throw"])
    assert kernelbtf.has_function("bpf_throw", path)
    assert not kernelbtf.has_function("throw", path)
    # seven types come before the functions, ids start with 1
    assert kernelbtf.function_id("first", path) == 9
    assert kernelbtf.function_id("bpf_throw", path) == 10
    with pytest.raises(WorldError, match="no function second"):
        kernelbtf.function_id("second", path)


def test_kernel_without_btf_has_no_functions(tmp_path):
    assert not kernelbtf.has_function("bpf_throw", tmp_path / "absent")
