# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Fetching from packages that the test builds: dpkg-deb and depmod are real, the mirror is not."""

import argparse
import json
import os
import subprocess
import threading
import time

import pytest

from harness.errors import Exit, MachineLostError, UsageError, WorldError
from harness.kernels import apt, catalogue, command, resolve, store

NAME = "6.12"
RELEASE = "6.12.5+deb13-amd64"


@pytest.fixture
def mirror(tmp_path, cache, monkeypatch, make_image):
    """A mirror that holds one kernel package; counts downloads and fails on request."""

    class Mirror:
        release = RELEASE
        version = "6.12.5-1"
        downloads = 0
        failure = None
        layout = "usr/lib/modules"

        def newest(self, pattern, suites, exclude=()):
            name = f"linux-image-{self.release}"
            return apt.Package(name, self.version, suites[0], 1 << 20, 1 << 20)

        def download(self, packages, into):
            self.downloads += 1
            time.sleep(0.05)
            tree = tmp_path / f"deb-{self.downloads}"
            make_image(self.release, tree / f"boot/vmlinuz-{self.release}")
            (tree / f"boot/config-{self.release}").touch()
            (tree / self.layout / self.release / "kernel").mkdir(parents=True)
            (tree / "usr/share/doc").mkdir(parents=True)
            (tree / "DEBIAN").mkdir()
            (tree / "DEBIAN/control").write_text(
                "Package: x\nVersion: 1\nArchitecture: amd64\nMaintainer: t <t@t>\nDescription: t\n"
            )
            deb = into / "x_1_amd64.deb"
            subprocess.run(["dpkg-deb", "--build", tree, deb], check=True, capture_output=True)
            if self.failure:
                deb.write_bytes(deb.read_bytes()[:-100])
                raise self.failure
            return [deb]

    served = Mirror()
    monkeypatch.setattr(apt, "newest", served.newest)
    monkeypatch.setattr(apt, "download", served.download)
    served.place = cache / "kernels"
    return served


def test_fetched_kernel_is_complete_and_fetched_once(mirror):
    kernel = resolve(NAME)
    assert (kernel.name, kernel.release, kernel.expects_throw) == (NAME, RELEASE, True)
    assert kernel.image.is_file()
    assert kernel.config.is_file()
    assert (kernel.modules / "modules.dep").is_file()
    assert not (mirror.place / RELEASE / "usr/share").exists()
    assert resolve(NAME) == kernel
    assert mirror.downloads == 1


def test_old_layout_below_lib_is_moved(mirror):
    mirror.layout = "lib/modules"
    assert (resolve(NAME).modules / "modules.dep").is_file()


@pytest.mark.parametrize("failure", [WorldError("broken"), KeyboardInterrupt()])
def test_broken_download_leaves_nothing(mirror, failure):
    mirror.failure = failure
    with pytest.raises(type(failure)):
        resolve(NAME)
    assert not list(mirror.place.iterdir())
    mirror.failure = None
    assert resolve(NAME).image.is_file()


def test_package_without_a_kernel_image_leaves_nothing(mirror, monkeypatch):
    monkeypatch.setattr(mirror, "release", "6.12.6+deb13-amd64")
    monkeypatch.setattr(apt, "newest", lambda *_: apt.Package("linux-image-6.12.9", "1", "s", 1, 1))
    with pytest.raises(UsageError, match=r"holds no kernel image of release 6\.12\.9"):
        resolve(NAME)
    assert not list(mirror.place.iterdir())


def test_no_space_is_said_before_the_download(mirror, monkeypatch):
    monkeypatch.setattr(mirror, "newest", None)
    huge = apt.Package(f"linux-image-{RELEASE}", "1", "s", 1 << 50, 1 << 50)
    monkeypatch.setattr(apt, "newest", lambda *_: huge)
    with pytest.raises(MachineLostError, match=f"no space for kernel {RELEASE.replace('+', '.')}"):
        resolve(NAME)
    assert mirror.downloads == 0


def test_two_at_once_fetch_once(mirror):
    found = []
    threads = [threading.Thread(target=lambda: found.append(resolve(NAME))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(found)) == 1
    assert len(found) == 3
    assert mirror.downloads == 1


def test_update_fetches_a_newer_release_and_unused_drops_the_old(mirror, run):
    resolve(NAME)
    assert run("fetch", NAME, "--update")[0] == Exit.OK
    assert mirror.downloads == 1
    mirror.release, mirror.version = "6.12.40+deb13-amd64", "6.12.40-1"
    run("fetch", NAME, "--update")
    assert resolve(NAME).release == "6.12.40+deb13-amd64"
    code, removed = run("rm", "--unused", "--json")
    assert code == Exit.OK
    assert [each["what"] for each in removed] == [f"kernels/{RELEASE}"]
    assert [path.name for path in mirror.place.iterdir()] == ["6.12.40+deb13-amd64"]


def test_unused_drops_what_killed_processes_left_but_not_work_in_progress(mirror, run):
    for name in (".6.12.1.aa.partial", ".6.12.1.bb.partial"):
        (mirror.place / name).mkdir(parents=True)
    os.utime(mirror.place / ".6.12.1.aa.partial", (1, 1))
    _, removed = run("rm", "--unused", "--json")
    assert [each["what"] for each in removed] == ["kernels/.6.12.1.aa.partial"]


def test_damaged_kernel_counts_as_absent(mirror):
    resolve(NAME).image.unlink()
    assert store.newest_cached(catalogue.load(), NAME) is None
    resolve(NAME)
    assert mirror.downloads == 2


@pytest.fixture
def run(capsys):
    """Runs `bpfthrow kernels ...`; (exit code, JSON or text of its standard output)."""

    def run(*words):
        parser = argparse.ArgumentParser()
        command.add_parser(parser.add_subparsers())
        code = command.run(parser.parse_args(["kernels", *words]))
        text = capsys.readouterr().out
        return code, json.loads(text) if "--json" in words else text

    return run


def test_list_shows_what_is_cached_and_what_is_not(mirror, run):
    resolve(NAME)
    code, rows = run("list", "--json")
    assert code == Exit.OK
    assert {row["name"]: row["release"] for row in rows} == {
        "6.1": None,
        "6.12": RELEASE,
        "6.18": None,
        "7.3": None,
    }
    assert [row["expects_throw"] for row in rows] == [False, True, True, True]
    text = run("list")[1]
    assert "6.12 *" in text
    assert "not fetched (linux-image-6.18" in text


def test_path_needs_a_cached_kernel(mirror, run):
    with pytest.raises(UsageError, match="not in the cache") as caught:
        run("path", NAME)
    assert caught.value.fix == "bpfthrow kernels fetch 6.12"
    kernel = resolve(NAME)
    assert run("path", NAME)[1] == f"{kernel.image}\n"


def test_rm_wants_to_know_which(mirror, run):
    resolve(NAME)
    with pytest.raises(UsageError, match="which"):
        run("rm")
    with pytest.raises(UsageError, match="which"):
        run("rm", NAME, "--all")
    with pytest.raises(UsageError, match=r"not in the cache"):
        run("rm", "6.18")
    with pytest.raises(UsageError, match=r"not a name"):
        run("rm", "tree:/x")
    assert run("rm", NAME)[1] == f"removed kernels/{RELEASE} (0 MB)\n"
    assert not list(mirror.place.iterdir())
    assert run("rm", "--all")[1] == "nothing to remove\n"


@pytest.fixture
def archives(cache):
    """Archives for guests: of long ago, of now, and one that a killed process left."""
    places = {
        "agent/agent-a.pyz": 3,
        "agent/agent-b.pyz": 2,
        "agent/tmpkilled/x": 3,
        "initramfs/a.cpio": 0,
        "initramfs/b.cpio": 3,
        "initramfs/b.1.partial": 3,
    }
    for name, days in places.items():
        path = cache / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        then = time.time() - days * 24 * 3600
        os.utime(path, (then, then))
    os.utime(cache / "agent/tmpkilled", (1, 1))
    return cache


def test_unused_drops_archives_of_long_ago_but_not_the_newest_agent(archives, run):
    _, removed = run("rm", "--unused", "--json")
    assert [each["what"] for each in removed] == [
        "agent/agent-a.pyz",
        "agent/tmpkilled",
        "initramfs/b.1.partial",
        "initramfs/b.cpio",
    ]
    left = [path.name for kind in ("agent", "initramfs") for path in (archives / kind).iterdir()]
    assert left == ["agent-b.pyz", "a.cpio"]


def test_all_drops_every_archive(archives, run):
    assert len(run("rm", "--all", "--json")[1]) == 6
    assert not [*(archives / "agent").iterdir(), *(archives / "initramfs").iterdir()]
