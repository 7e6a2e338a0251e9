# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Building kernels: found again, interrupted, killed, two at once; make played by a script."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kernel_tree import FIRST, SECOND, write_programs, write_tree

from harness import paths
from harness.errors import UsageError, WorldError
from harness.kernels import builder, builds, making, source, spec


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "linux")


@pytest.fixture
def world(cache, tree, tmp_path, monkeypatch):
    """make, objcopy and virtme-configkernel of our own, before the real ones in PATH."""
    programs = write_programs(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(builder.tools, "own", builder.tools.need)
    monkeypatch.setattr(builder, "require_space", lambda *_: None)
    monkeypatch.setattr(source, "require_space", lambda *_: None)
    return tree


def _series(tmp_path, new):
    path = tmp_path / "mine.patch"
    path.write_text(FIRST.replace("TWO", new))
    return path


def test_a_build_is_found_again_and_boots_by_its_name(world, tmp_path):
    order = builder.Order(str(world), (_series(tmp_path, "TWO"),))
    kernel = builder.build(order)
    assert (kernel.name, kernel.release) == ("mine", "7.3.4-mine")
    assert kernel.expects_throw
    assert kernel.modules is None
    assert (kernel.image.parent / "vmlinux.btf").read_text() == "btf\n"
    stamp = kernel.image.stat().st_mtime_ns
    assert builder.build(order).image.stat().st_mtime_ns == stamp
    assert spec.resolve("build:mine") == kernel


def test_another_series_is_another_build_of_the_same_tree(world, tmp_path):
    one = builder.build(builder.Order(str(world), (_series(tmp_path, "ONE"),), name="one"))
    two = builder.build(builder.Order(str(world), (_series(tmp_path, "TWO"),), name="two"))
    plain = builder.build(builder.Order(str(world), name="base"))
    assert len({one.image, two.image, plain.image}) == 3
    assert len(list((paths.cache_dir() / "sources").glob("[!.]*"))) == 1


def test_code_that_does_not_compile_shows_its_first_error_and_keeps_the_log(world, tmp_path):
    order = builder.Order(str(world), (_series(tmp_path, "error"),))
    with pytest.raises(
        UsageError, match=r"mine does not compile: kernel/bpf/x\.c:2:1: error: un"
    ) as e:
        builder.build(order)
    log = Path(e.value.fix.removeprefix("the whole log: "))
    assert "Error 2" in log.read_text()
    assert not list(builds.cached())
    assert builder.build(builder.Order(str(world), (_series(tmp_path, "TWO"),))).name == "mine"


def test_a_series_that_does_not_apply_builds_nothing(world, tmp_path):
    late = tmp_path / "late.patch"
    late.write_text(SECOND)
    with pytest.raises(UsageError, match="does not apply"):
        builder.build(builder.Order(str(world), (late,)))
    assert not builds.builds_dir().exists()


def test_a_configuration_that_lost_an_option_is_not_built(world, tmp_path, monkeypatch):
    fragment = tmp_path / "f.config"
    fragment.write_text("# wanted\nCONFIG_KASAN=y\n")
    order = builder.Order(str(world), fragments=(fragment,), name="kasan")
    (tmp_path / "bin/virtme-configkernel").write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(UsageError, match=r"CONFIG_KASAN=y \(wanted\)"):
        builder.build(order)
    assert not list(builds.cached())


@pytest.fixture
def start(world, tmp_path):
    """Starts a harness of its own that builds `new`; returns it and its make, which hangs."""
    started = []

    def start(new, name=""):
        series = _series(tmp_path, new)
        code = (
            "from pathlib import Path\nfrom harness.kernels import builder, source\n"
            "builder.require_space = source.require_space = lambda *_: None\n"
            "builder.tools.own = builder.tools.need\n"
            f"order = builder.Order({str(world)!r}, (Path({str(series)!r}),), name={name!r})\n"
            "print(builder.build(order).image)\n"
        )
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", code], **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def _hanging():
    """Process of the make that hangs, once it does."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for note in paths.cache_dir().glob("sources/*/out-*/hangs"):
            if note.read_text():
                return int(note.read_text())
        time.sleep(0.05)
    raise AssertionError("no make began")


def _gone(process, within_s):
    """Whether it ends; who has the rest of it to collect may be slow."""
    deadline = time.monotonic() + within_s
    while time.monotonic() <= deadline:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_an_interrupt_ends_make_and_leaves_nothing(start):
    process = start("hang")
    make = _hanging()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) != 0
    assert _gone(make, 1)
    assert not list(builds.cached())


def test_a_harness_that_is_killed_takes_make_along_and_the_next_one_goes_on(start, world, tmp_path):
    process = start("hang")
    make = _hanging()
    (out,) = paths.cache_dir().glob("sources/*/out-*")
    # as if it had been written when the power went: newer than all before it
    old, half = out / "old.o", out / "half.o"
    old.touch()
    half.touch()
    os.utime(old, (1, 1))
    process.kill()
    assert _gone(make, 10)
    kernel = builder.build(builder.Order(str(world), (_series(tmp_path, "TWO"),)))
    assert kernel.name == "mine"
    assert old.exists()
    assert not half.exists()
    assert (kernel.image.parent / "config").read_text()


def test_two_harnesses_build_the_same_kernel_once(start, world, tmp_path):
    """The first is slow; the second waits, says for whom, and finds what the first made."""
    first = start("slow")
    _hanging()
    second = start("slow")
    one, two = first.communicate(timeout=60), second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), (one[1], two[1])
    assert one[0] == two[0]
    assert f"waiting for process {first.pid}, which is building mine" in two[1]
    assert len(list(builds.cached())) == 1


def test_compilers_that_outlive_their_harness_hold_its_lock(start):
    """Two makes in one directory would spoil each other's files."""
    first = start("stubborn")
    make = _hanging()
    first.kill()
    second = start("TWO")
    _, words = second.communicate(timeout=60)
    assert second.returncode == 0, words
    assert _gone(make, 0.1)
    assert f"waiting for process {first.pid}" in words


@pytest.mark.parametrize("name", ["../x", "Name", "a b", "-x", "x" * 50])
def test_a_name_that_cannot_be_one(world, name):
    with pytest.raises(UsageError, match="cannot be a kernel's name"):
        builder.build(builder.Order(str(world), name=name))


def test_a_build_does_not_take_the_name_of_a_kernel_of_the_catalogue(world):
    with pytest.raises(UsageError, match="'7.3' is a kernel of the catalogue"):
        builder.build(builder.Order(str(world), name="7.3"))


def test_a_missing_program_is_named(world, monkeypatch):
    monkeypatch.setattr(builder.tools, "find", lambda name: None if name == "flex" else "/bin/true")
    with pytest.raises(UsageError, match="flex is not installed") as caught:
        builder.build(builder.Order(str(world)))
    assert caught.value.fix == "make setup-build"


def test_a_name_that_was_never_built(world):
    with pytest.raises(UsageError, match="no kernel was built as 'mine'"):
        spec.resolve("build:mine")


def test_a_damaged_build_is_as_good_as_absent(world, tmp_path):
    kernel = builder.build(builder.Order(str(world), name="x"))
    (kernel.image.parent / "build.json").write_text(json.dumps({"name": "x"}))
    assert not list(builds.cached())


def test_what_was_built_is_found_without_its_source(world, tmp_path):
    order = builder.Order(str(world), (_series(tmp_path, "TWO"),))
    kernel = builder.build(order)
    shutil.rmtree(paths.cache_dir() / "sources")
    assert builder.build(order) == kernel
    assert not (paths.cache_dir() / "sources").exists()


def test_space_is_asked_for_before_anything_is_unpacked(world, monkeypatch):
    asked = []

    def refuse(needed, purpose):
        asked.append(needed)
        raise UsageError(f"no space for {purpose}")

    monkeypatch.setattr(builder, "require_space", refuse)
    with pytest.raises(UsageError, match="no space for building plain"):
        builder.build(builder.Order(str(world)))
    assert asked == [builder._OUTPUT_BYTES + source.TREE_BYTES]
    assert not (paths.cache_dir() / "sources").exists()


def test_a_fragment_may_not_turn_off_what_every_guest_needs(world, tmp_path):
    fragment = tmp_path / "f.config"
    fragment.write_text(
        "CONFIG_KASAN=y\n# CONFIG_DEBUG_INFO_BTF is not set\nCONFIG_UNWINDER_ORC=n\n"
    )
    with pytest.raises(UsageError, match="turns off what every guest needs") as caught:
        builder.build(builder.Order(str(world), fragments=(fragment,)))
    words = caught.value.message
    assert "f.config:2: CONFIG_DEBUG_INFO_BTF (kfuncs and tags are found through" in words
    assert "f.config:3: CONFIG_UNWINDER_ORC (x86-64 unwinds a throw with it" in words
    assert not (paths.cache_dir() / "sources").exists()


def test_a_kernel_that_came_out_without_btf_is_none(world, tmp_path):
    (tmp_path / "bin/objcopy").write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(UsageError, match="came out without BTF") as caught:
        builder.build(builder.Order(str(world), name="x"))
    log = caught.value.fix.rpartition(" ")[2]
    assert "CC      kernel/bpf/x.o" in Path(log).read_text()
    assert not list(builds.cached())


def test_options_that_a_series_brings_are_settled_before_make_asks(world, tmp_path):
    make = tmp_path / "bin/make"
    asks = 'if "olddefconfig" in words:\n'
    make.write_text(make.read_text().replace(asks, f'{asks}    open(out + "/asked", "w")\n'))
    builder.build(builder.Order(str(world), (_series(tmp_path, "ONE"),), name="one"))
    (out,) = paths.cache_dir().glob("sources/*/out-*")
    assert not (out / "asked").exists()
    builder.build(builder.Order(str(world), (_series(tmp_path, "TWO"),), name="two"))
    assert (out / "asked").exists()


def test_first_errors_are_told_apart_from_what_follows(tmp_path):
    log = tmp_path / "log"
    for text, first in (
        ("  CC x.o\n/t/kernel/x.c:1:2: error: a\n/t/y.c:1: error: b\n", "kernel/x.c:1:2: error: a"),
        ("ld: x.o: undefined reference to `y'\nmake: *** Error 1\n", "undefined reference to `y'"),
        (
            "warning: error in a comment\nmake[2]: *** No rule to make target 'x'\n",
            "No rule to make",
        ),
        ("nothing\n", "make failed without saying why"),
    ):
        log.write_text(text)
        assert first in making.first_error(log, Path("/t"))


def test_a_full_disk_is_no_error_of_the_code(tmp_path):
    half = tmp_path / "half.o"
    said = "fatal error: error writing to half.o: No space left on device"
    argv = ["sh", "-c", f"echo > {half}; echo '{said}'; exit 2"]
    with pytest.raises(WorldError, match="no room on the disk for mine"):
        making.compile_kernel(argv, tmp_path, tmp_path, "mine", os.open(tmp_path, os.O_RDONLY))
    making.compile_kernel(["true"], tmp_path, tmp_path, "mine", os.open(tmp_path, os.O_RDONLY))
    assert not half.exists()
