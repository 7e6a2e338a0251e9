# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Compiling: what is compiled when, where objects lie, and what a user sees when it fails."""

import errno
import os
import stat
from pathlib import Path

import pytest

from harness.bpf.elf import read_object
from harness.build import CHECKOUT, PROGS, build, find_clang, include_dirs, object_of, sources_of
from harness.errors import Exit, UsageError, WorldError

GOOD = """
#include "exceptions.h"
#include "own.h"
SEC("tc") int good(struct __sk_buff *skb)
{
	bpf_assert_lt_with(skb->len, LIMIT, 5);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def source(tmp_path):
    """A user's own program, outside of progs/, with a header of its own."""
    place = tmp_path / "mine"
    place.mkdir()
    (place / "own.h").write_text("#define LIMIT 100\n")
    path = place / "good.bpf.c"
    path.write_text(GOOD)
    return path


@pytest.fixture
def clang(tmp_path):
    """The real clang behind a script that counts its calls: (command, number of calls)."""
    log = tmp_path / "calls"
    script = tmp_path / "clang"
    script.write_text(f'#!/bin/sh\necho call >>{log}\nexec {find_clang()} "$@"\n')
    script.chmod(0o755)

    def calls():
        return len(log.read_text().splitlines()) if log.exists() else 0

    return str(script), calls


def test_users_program_compiles_to_a_bpf_object(source, tmp_path):
    (path,) = build([source], tmp_path / "out")
    assert path == tmp_path / "out" / "mine" / "good.bpf.o"
    assert [program.name for program in read_object(path).programs] == ["good"]


def test_nothing_is_compiled_twice(source, tmp_path, clang):
    command, calls = clang
    out = tmp_path / "out"
    (path,) = build([source], out, command)
    first = path.read_bytes()
    assert build([source], out, command) == [path]
    assert calls() == 1
    os.utime(source)  # touched, not changed
    build([source], out, command)
    assert calls() == 1
    assert path.read_bytes() == first


@pytest.mark.parametrize("what", ["source", "header", "object", "stamp", "broken stamp", "clang"])
def test_whatever_changes_compiles_again(source, tmp_path, clang, what):
    command, calls = clang
    out = tmp_path / "out"
    (path,) = build([source], out, command)
    stamp = path.with_name(path.name + ".json")
    if what == "source":
        source.write_text(GOOD.replace("5)", "6)"))
    elif what == "header":
        (source.parent / "own.h").write_text("#define LIMIT 200\n")
    elif what == "object":
        path.unlink()
    elif what == "stamp":
        stamp.unlink()
    elif what == "broken stamp":
        stamp.write_text("[1, 2")
    else:
        script = Path(command)
        script.write_text(script.read_text() + "# newer\n")
    build([source], out, command)
    assert calls() == 2
    build([source], out, command)
    assert calls() == 2


def test_directory_stands_for_the_sources_below_it(source, tmp_path):
    other = source.parent / "deeper" / "also.bpf.c"
    other.parent.mkdir()
    other.write_text(GOOD.replace('"own.h"', '"../own.h"'))
    (source.parent / "ignored.c").write_text("not compiled")
    assert sources_of(source.parent) == [other, source]
    names = [path.relative_to(tmp_path).as_posix() for path in build([source.parent], tmp_path)]
    assert names == ["deeper/also.bpf.o", "mine/good.bpf.o"]


def test_objects_of_the_checkout_lie_in_build(monkeypatch, tmp_path, source):
    inside = PROGS / "throw" / "main.bpf.c"
    assert object_of(inside) == CHECKOUT / "build" / "progs" / "throw" / "main.bpf.o"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    outside = object_of(source)
    assert outside.is_relative_to(tmp_path / "cache" / "bpfthrow")
    assert outside.parts[-2:] == ("mine", "good.bpf.o")


def test_two_programs_of_one_name_in_two_places_do_not_collide(tmp_path):
    places = [tmp_path / "a" / "same" / "p.bpf.c", tmp_path / "b" / "same" / "p.bpf.c"]
    assert len({object_of(place) for place in places}) == 2


def test_compile_error_shows_clangs_words_and_leaves_nothing(source, tmp_path):
    source.write_text(GOOD.replace("LIMIT", "NO_SUCH_LIMIT"))
    with pytest.raises(UsageError, match="NO_SUCH_LIMIT") as caught:
        build([source], tmp_path / "out")
    assert str(source) in str(caught.value)
    assert caught.value.exit_code is Exit.USAGE
    assert list((tmp_path / "out" / "mine").iterdir()) == []


def test_a_failed_compile_keeps_no_stale_object_fresh(source, tmp_path):
    (path,) = build([source], tmp_path / "out")
    source.write_text("nonsense")
    for _ in range(2):
        with pytest.raises(UsageError, match="nonsense"):
            build([source], tmp_path / "out")
    assert path.exists()


def test_missing_header_names_the_package(source, tmp_path):
    fake = tmp_path / "fake-clang"
    fake.write_text(
        "#!/bin/sh\necho \"fatal error: 'bpf/bpf_helpers.h' file not found\" >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    with pytest.raises(UsageError, match="apt install libbpf-dev"):
        build([source], tmp_path / "out", str(fake))


def test_header_of_ones_own_flags_is_explained(source, tmp_path):
    source.write_text(GOOD.replace("own.h", "elsewhere/own.h"))
    with pytest.raises(UsageError, match="compile it yourself"):
        build([source], tmp_path / "out")
    source.write_text(GOOD.replace("own.h", "vmlinux.h"))
    with pytest.raises(UsageError, match="format c > vmlinux.h"):
        build([source], tmp_path / "out")


def test_warnings_are_the_users_own_affair(source, tmp_path):
    source.write_text(GOOD.replace("{", "{\n\tint unused;\n\tstruct { struct none; int y; } z;", 1))
    assert build([source], tmp_path / "out")


VMLINUX_H = """#ifndef __VMLINUX_H__
#define __VMLINUX_H__
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef int __s32;
typedef long long __s64;
struct pt_regs {
	unsigned long di;
};
#endif
"""


def test_generated_types_of_the_kernel_go_before_our_header(source, tmp_path):
    (source.parent / "vmlinux.h").write_text(VMLINUX_H)
    source.write_text(
        """#include "vmlinux.h"
#include "exceptions.h"
#include <bpf/bpf_tracing.h>

SEC("kprobe/x")
int probe(struct pt_regs *regs)
{
	if (PT_REGS_PARM1(regs))
		bpf_throw(1);
	return 0;
}
"""
    )
    assert build([source], tmp_path / "out")


def _clang(tmp_path, script):
    path = tmp_path / "fake-clang"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_full_disk_is_not_clangs_opinion(source, tmp_path, monkeypatch):
    """As of clang 19, which then shows its stack."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = "fatal error: error in backend: IO failure on output stream: No space left on device"
    fake = _clang(tmp_path, f"echo '{words}' >&2; echo 'Stack dump:' >&2; exit 70")
    with pytest.raises(WorldError, match=r"not compiled: no space left in /.*/mine\n") as caught:
        build([source], clang=fake)
    assert "XDG_CACHE_HOME" in caught.value.fix
    with pytest.raises(WorldError, match="no space left in") as caught:
        build([source], tmp_path / "out", fake)
    assert "XDG_CACHE_HOME" not in caught.value.fix


def test_a_disk_that_fills_up_behind_clang(source, tmp_path, monkeypatch):
    def full(*_arguments, **_named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(WorldError, match="not compiled: no space left in"):
        build([source], tmp_path / "out")
    assert list((tmp_path / "out" / "mine").iterdir()) == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "fake-clang ran without an error and wrote no object"),
        ("exit 3", "clang refuses it\n.*fake-clang ended with 3 and said nothing"),
    ],
)
def test_a_compiler_that_does_nothing_is_named(source, tmp_path, script, words):
    with pytest.raises(UsageError, match=words):
        build([source], tmp_path / "out", _clang(tmp_path, script))
    assert list((tmp_path / "out" / "mine").iterdir()) == []


def test_a_compiler_that_does_not_start_is_named(source, tmp_path):
    fake = tmp_path / "fake-clang"
    fake.write_bytes(b"\0\1\2")
    fake.chmod(0o755)
    with pytest.raises(UsageError, match="fake-clang: cannot be run: Exec format error"):
        build([source], tmp_path / "out", str(fake))


@pytest.mark.parametrize("text", ["", "static int f(int x) { return x; }\n"])
def test_a_source_without_a_program_is_named(source, tmp_path, text):
    source.write_text(text)
    for _ in range(2):
        with pytest.raises(UsageError, match=f"{source}: no program in it") as caught:
            build([source], tmp_path / "out")
        assert "SEC(" in caught.value.fix


@pytest.mark.parametrize("what", ["device", "gone", "directory", "endless"])
def test_what_no_compiler_can_read_is_no_source(tmp_path, what):
    place = tmp_path / "mine"
    place.mkdir()
    path = place / "x.bpf.c"
    if what == "directory":
        path.mkdir()
    elif what == "endless":
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        path.symlink_to("/dev/zero" if what == "device" else "nowhere")
    words = "larger than 64 MiB" if what == "endless" else "not a file"
    with pytest.raises(UsageError, match=words):
        build([place], tmp_path / "out")
    if what != "directory":
        with pytest.raises(UsageError, match=words if what != "gone" else "no such file"):
            build([path], tmp_path / "out")


def test_missing_clang_names_the_package(source, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLANG", raising=False)
    with pytest.raises(UsageError, match=r"clang-19, clang-18.*\n.*apt install clang-19"):
        build([source], tmp_path / "out")
    monkeypatch.setenv("CLANG", "no-such-clang")
    with pytest.raises(UsageError, match="looked for no-such-clang"):
        build([source], tmp_path / "out")


def test_newest_clang_wins_and_the_environment_wins_over_it(tmp_path, monkeypatch):
    for name in ("clang", "clang-16", "clang-18", "mine"):
        path = tmp_path / name
        path.write_text("#!/bin/sh\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CLANG", raising=False)
    assert find_clang() == str(tmp_path / "clang-18")
    monkeypatch.setenv("CLANG", "mine")
    assert find_clang() == str(tmp_path / "mine")
    assert find_clang("clang") == str(tmp_path / "clang")


@pytest.mark.parametrize("blocked", ["file", "unwritable"])
def test_output_that_cannot_be_written_is_the_users_mistake(source, tmp_path, blocked):
    if blocked == "file":
        out = tmp_path / "file"
        out.write_text("")
    else:
        out = tmp_path / "dev" / "null"
        out.parent.mkdir()
        out.symlink_to("/proc/1/nowhere")
    with pytest.raises(UsageError, match=r"cannot create it[\s\S]*another output directory"):
        build([source], out)


@pytest.mark.parametrize(
    ("name", "complaint"), [("absent.bpf.c", "no such file"), ("plain.c", "must end in .bpf.c")]
)
def test_what_is_no_source_is_refused(tmp_path, name, complaint):
    if name == "plain.c":
        (tmp_path / name).write_text("")
    with pytest.raises(UsageError, match=complaint):
        build([tmp_path / name], tmp_path / "out")


def test_machine_headers_are_found():
    assert include_dirs()[0] == PROGS
    assert any((path / "asm" / "types.h").exists() for path in include_dirs()[1:])
