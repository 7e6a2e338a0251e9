# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness import paths
from harness.errors import Exit, MachineLostError, UsageError


def test_relative_cache_directory_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert paths.cache_dir() == Path.home() / ".cache/bpfthrow"


def test_cache_that_cannot_be_made_says_how_to_go_on(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="cannot create") as caught, paths.locked("x"):
        pass
    assert "XDG_CACHE_HOME" in caught.value.fix


def test_staged_directory_appears_complete(tmp_path):
    with paths.staged(tmp_path / "a/thing") as place:
        (place / "file").touch()
        assert not (tmp_path / "a/thing").exists()
    assert (tmp_path / "a/thing/file").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["thing"]


def test_staged_directory_that_failed_leaves_what_was_there(tmp_path):
    target = tmp_path / "thing"
    with paths.staged(target) as place:
        (place / "old").touch()

    def interrupted():
        with paths.staged(target) as place:
            (place / "new").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (target / "old").exists()
    assert list(tmp_path.iterdir()) == [target]


def test_remains_of_a_killed_process_are_replaced(tmp_path):
    (tmp_path / ".thing.abc.partial").mkdir()
    (tmp_path / ".thing.abc.partial/half").touch()
    with paths.staged(tmp_path / "thing"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "thing"]
    assert not list((tmp_path / "thing").iterdir())


def test_replaced_file_has_one_writers_content(tmp_path):
    target = tmp_path / "note"
    contents = [bytes([number]) * 100_000 for number in range(8)]

    def write(data):
        for _ in range(20):
            paths.replace_file(target, data)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not target.exists() or target.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_bytes() in contents


def test_file_that_is_not_replaced_stays(tmp_path, monkeypatch):
    target = tmp_path / "note"
    paths.replace_file(target, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space") as caught:
        paths.replace_file(target, b"new")
    assert caught.value.filename == str(target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_lock_makes_the_second_wait(cache):
    order = []

    def second():
        with paths.locked("x"):
            order.append("second")

    with paths.locked("x"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_lock_dies_with_its_process(cache):
    code = "from harness.paths import locked\nwith locked('x'): import os; os._exit(9)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=False)
    assert done.returncode == 9
    with paths.locked("x"):
        pass


def test_missing_space_names_both_sizes(cache):
    words = rf"kernel 1: 1073741824 MB needed, \d+ MB available in {cache}"
    with pytest.raises(MachineLostError, match=words) as caught:
        paths.require_space(1 << 50, "kernel 1")
    assert caught.value.exit_code == Exit.LOST
    assert "XDG_CACHE_HOME" in caught.value.fix


def test_missing_space_elsewhere_is_not_blamed_on_the_cache(cache, tmp_path):
    with pytest.raises(MachineLostError, match=f"available in {tmp_path}") as caught:
        paths.require_space(1 << 50, "a guest", tmp_path)
    assert "XDG_CACHE_HOME" not in caught.value.fix


def test_a_byte_too_many_is_not_rounded_away(cache, monkeypatch):
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with pytest.raises(MachineLostError, match="1 MB needed, 0 MB available"):
        paths.require_space(1, "a byte")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_meanwhile_is_told_like_one_that_is_full(cache, number):
    words = f"no space for a thing: {os.strerror(number)} in {cache}"
    with (
        pytest.raises(MachineLostError, match=words),
        paths.telling_no_space("a thing", cache),
    ):
        raise OSError(number, os.strerror(number))


def test_other_errors_are_not_about_space(cache):
    with pytest.raises(PermissionError), paths.telling_no_space("a thing", cache):
        raise PermissionError(errno.EACCES, "denied")


@pytest.mark.parametrize("use", [paths.make_dir, lambda path: paths.locked(path.name).__enter__()])
def test_a_full_disk_is_not_the_callers_mistake(cache, monkeypatch, use):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    paths.make_dir(cache / "locks")
    monkeypatch.setattr(Path, "mkdir" if use is paths.make_dir else "open", full)
    with pytest.raises(MachineLostError, match=rf"cannot \w+ {cache}.*: No space left") as caught:
        use(cache / "x")
    assert "kernels rm --unused" in caught.value.fix


def test_a_file_that_was_asked_for_is_refused_before_the_work(tmp_path):
    (tmp_path / "old.json").touch()
    paths.require_parents(None, tmp_path / "new.json", tmp_path / "old.json", Path("/dev/null"))
    assert not (tmp_path / "new.json").exists()
    with pytest.raises(UsageError, match=f"cannot write {tmp_path}: it is a directory"):
        paths.require_parents(tmp_path)
    with pytest.raises(UsageError, match="no directory"):
        paths.require_parents(tmp_path / "none/new.json")


@pytest.mark.parametrize("name", ["old.json", "new.json"])
def test_a_file_that_may_not_be_written_is_refused(tmp_path, monkeypatch, name):
    (tmp_path / "old.json").touch()
    asked = []
    # not by its mode: root may write anything
    monkeypatch.setattr(paths.os, "access", lambda *about: bool(asked.append(about)))
    with pytest.raises(UsageError, match=f"cannot write {tmp_path / name}: you may not"):
        paths.require_parents(tmp_path / name)
    assert asked == [(tmp_path / name if name == "old.json" else tmp_path, os.W_OK)]


def test_a_report_that_does_not_fit_is_not_the_callers_mistake():
    with pytest.raises(MachineLostError, match="cannot write /dev/full: No space left"):
        paths.write_asked(Path("/dev/full"), b"text")
