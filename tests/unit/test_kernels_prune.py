# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Removing and listing kernels that were built here, their sources and their guests."""

import argparse
import json
import os
import subprocess
import sys
import time

import pytest

from harness.errors import UsageError
from harness.kernels import command


@pytest.fixture
def run(capsys):
    """Runs `bpfthrow kernels ...`; JSON or text of its standard output."""

    def run(*words):
        parser = argparse.ArgumentParser()
        command.add_parser(parser.add_subparsers())
        assert command.run(parser.parse_args(["kernels", *words])) == 0
        text = capsys.readouterr().out
        return json.loads(text) if "--json" in words else text

    return run


@pytest.fixture
def build(cache, make_image):
    """Puts a finished kernel into the cache, `days` old, with a saved guest."""

    def build(name, key="0" * 16, days=0):
        place = cache / f"builds/{name}-{key}"
        release = f"7.3.4-{name}"
        make_image(release, place / "bzImage")
        note = {"name": name, "origin": f"linux-7.3 + [PATCH] bpf: {name}", "release": release}
        (place / "build.json").write_text(json.dumps(note))
        then = time.time() - days * 24 * 3600
        os.utime(place, (then, then))
        (cache / f"guests/{release}-{key}").mkdir(parents=True)
        return place

    return build


@pytest.fixture
def unpack(cache):
    """Puts an unpacked source into the cache, used `days` ago."""

    def unpack(key, days=0):
        place = cache / "sources" / key
        (place / "tree").mkdir(parents=True)
        note = place / "source.json"
        note.write_text(json.dumps({"origin": f"linux-{key}"}))
        then = time.time() - days * 24 * 3600
        os.utime(note, (then, then))
        return place

    return unpack


def _left(cache, kind):
    return sorted(path.name for path in (cache / kind).glob("*"))


def test_list_shows_builds_with_their_size_and_series(build, unpack, run):
    build("fix")
    unpack("aa")
    lines = run("list").splitlines()
    row = next(line for line in lines if line.startswith("build:fix"))
    assert "expected   7.3.4-fix" in row
    assert lines[lines.index(row) + 1].strip() == "linux-7.3 + [PATCH] bpf: fix"
    assert lines[-1] == "source, unpacked: linux-aa"
    (found,) = [each for each in run("list", "--json") if each["name"] == "build:fix"]
    assert found["size_bytes"] > 0
    assert "[PATCH] bpf: fix" in found["package"]


def test_path_of_a_build(build, run):
    place = build("fix")
    assert run("path", "build:fix") == f"{place}/bzImage\n"
    with pytest.raises(UsageError, match="no kernel was built as 'gone'"):
        run("path", "build:gone")


def test_rm_takes_a_build_with_its_guests_and_leaves_the_others(cache, build, unpack, run):
    for name in ("fix", "fix-2", "other"):
        build(name)
    unpack("aa")
    assert run("rm", "build:fix").splitlines()[0].startswith(f"removed builds/fix-{'0' * 16} (")
    assert _left(cache, "builds") == [f"fix-2-{'0' * 16}", f"other-{'0' * 16}"]
    assert [name.rpartition("-")[0] for name in _left(cache, "guests")] == [
        "7.3.4-fix-2",
        "7.3.4-other",
    ]
    assert _left(cache, "sources") == ["aa"]
    run("rm", "build:*")
    assert not _left(cache, "builds")


def test_rm_of_what_was_never_built(build, run):
    build("fix")
    with pytest.raises(UsageError, match=r"no kernel was built as 'gone' \(there are: fix\)"):
        run("rm", "build:fix", "build:gone")
    assert "build:fix" in run("list")


def test_unused_drops_builds_whose_name_went_to_a_newer_one(cache, build, run):
    build("fix", "1" * 16, days=2)
    build("fix", "2" * 16, days=1)
    build("other", days=30)
    removed = [each["what"] for each in run("rm", "--unused", "--json")]
    assert removed == [f"builds/fix-{'1' * 16}"]
    assert len(_left(cache, "guests")) == 3  # of the same release as the newer one


def test_unused_drops_sources_of_long_ago_and_what_killed_processes_left(cache, unpack, run):
    unpack("old", days=8)
    unpack("new", days=6)
    for kind in ("sources", "builds"):
        partial = cache / kind / ".x.aa.partial"
        partial.mkdir(parents=True)
        os.utime(partial, (1, 1))
    removed = {each["what"] for each in run("rm", "--unused", "--json")}
    assert removed == {"sources/old", "sources/.x.aa.partial", "builds/.x.aa.partial"}
    assert _left(cache, "sources") == ["new"]


def test_unused_drops_what_was_half_written(cache, run):
    for kind, made, half in (
        ("initramfs", "01.cpio", ("01.77.partial", ".01.cpio.77-ab.partial")),
        ("agent", "agent-1-2.pyz", ("tmpab/root",)),
        ("guests", "6.12-01", (".6.12-01.ab.partial/state", ".6.12-02.old/state")),
    ):
        for name in (made, *half):
            (cache / kind / name).parent.mkdir(parents=True, exist_ok=True)
            (cache / kind / name).touch()
    run("rm", "--unused")
    left = {kind: _left(cache, kind) for kind in ("initramfs", "agent", "guests")}
    assert left == {"initramfs": ["01.cpio"], "agent": ["agent-1-2.pyz"], "guests": ["6.12-01"]}


def test_unused_drops_single_files_that_were_half_written_long_ago(cache, run):
    for kind in (".", "accel", "symbols", "btf", "apt/trixie"):
        (cache / kind).mkdir(parents=True, exist_ok=True)
        for name, then in ((".old.1-ab.partial", 1), (".new.2-cd.partial", time.time())):
            (cache / kind / name).touch()
            os.utime(cache / kind / name, (then, then))
    removed = {each["what"] for each in run("rm", "--unused", "--json")}
    names = ("bpfthrow", "accel", "symbols", "btf", "trixie")
    assert removed == {f"{name}/.old.1-ab.partial" for name in names}


def test_a_source_that_is_being_compiled_stays(cache, unpack, run, capsys):
    unpack("aa", days=9)
    unpack("bb")
    code = (
        "from harness.paths import locked\nimport sys\nwith locked('source-aa'):\n"
        "    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        assert run("rm", "--sources") == "removed sources/bb (0 MB)\n"
        holder.stdin.close()
    assert _left(cache, "sources") == ["aa"]
    assert run("rm", "--sources") == "removed sources/aa (0 MB)\n"


def test_all_takes_builds_and_keeps_sources(cache, build, unpack, run):
    build("fix")
    unpack("aa")
    run("rm", "--all")
    assert (_left(cache, "builds"), _left(cache, "guests")) == ([], [])
    assert _left(cache, "sources") == ["aa"]
