# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""However the harness ends, the guest ends and its directory goes."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from harness.target import keeper

# Stands in for virtme-run: starts a child in the same group, as virtme-run starts QEMU.
_GUEST = (
    "import subprocess, sys\n"
    "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)', sys.argv[1]])"
)
# the keeper, looking for its directory more often
_QUICK = "import sys; from harness.target import keeper as k; k._LOOK_S = 0.1; k.main(sys.argv[1:])"


def _gone(marker):
    """Whether no process has `marker` in its command line any more."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if marker.encode() in words and str(os.getpid()) != pid:
            return False
    return True


def _until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def _up(run_dir):
    """Whether the guest and the process below it run: keeper -> virtme-run -> QEMU."""
    try:
        level = [(run_dir / "keeper.pid").read_text().strip()]
        for _ in range(2):
            level = [c for pid in level for c in _children(pid)]
    except OSError:
        return False
    return bool(level)


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def _argv(run_dir, *, marker):
    guest = [sys.executable, "-c", _GUEST, marker]
    return [sys.executable, "-I", "-S", keeper.__file__, str(run_dir), "--", *guest]


@pytest.fixture
def run_dir(tmp_path):
    """A run directory as vm.start() makes one."""
    path = tmp_path / "guest"
    path.mkdir()
    return path


@pytest.fixture
def marker(tmp_path):
    """A word that only this test's processes have in their command line."""
    return f"guest-of-{tmp_path}"


@pytest.fixture
def kept(run_dir, marker):
    """A keeper with a guest below it."""
    process = subprocess.Popen(
        _argv(run_dir, marker=marker), stdin=subprocess.PIPE, start_new_session=True, bufsize=0
    )
    process.stdin.write(b"go\n")
    assert _until(lambda: _up(run_dir))
    yield process
    process.stdin.close()
    process.wait(10)


def test_closing_the_pipe_ends_the_guest_and_removes_its_directory(kept, run_dir, marker):
    kept.stdin.close()
    assert kept.wait(10) == 0
    assert not run_dir.exists()
    assert _gone(marker)


def test_sigterm_ends_it_too(kept, run_dir, marker):
    kept.send_signal(signal.SIGTERM)
    assert kept.wait(10) == 0
    assert not run_dir.exists()
    assert _gone(marker)


def test_a_guest_whose_directory_is_gone_ends(run_dir, marker):
    """As when a session's XDG_RUNTIME_DIR goes with the session: nobody would find it again."""
    process = subprocess.Popen(
        [sys.executable, "-c", _QUICK, *_argv(run_dir, marker=marker)[4:]],
        stdin=subprocess.PIPE, start_new_session=True, bufsize=0,
    )  # fmt: skip
    process.stdin.write(b"go\ndetach\n")
    assert _until(lambda: _up(run_dir))
    shutil.rmtree(run_dir)
    assert process.wait(10) == 0
    assert _gone(marker)
    process.stdin.close()


def test_a_directory_that_cannot_be_written_is_named_without_a_traceback(tmp_path, marker):
    done = subprocess.run(
        _argv(tmp_path / "absent", marker=marker), input=b"go\n", capture_output=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.decode() == f"{tmp_path}/absent/keeper.pid: No such file or directory\n"


def test_a_killed_keeper_takes_the_first_process_with_it(kept, marker):
    # virtme-run dies by PR_SET_PDEATHSIG; QEMU by that of its wrapper, which is not here
    children = _children(kept.pid)
    kept.kill()
    kept.wait(10)
    assert _until(lambda: not os.path.exists(f"/proc/{children[0]}"))
    subprocess.run(["pkill", "-f", marker], check=False)


def test_a_harness_killed_with_sigkill_leaves_nothing(run_dir, marker):
    argv = _argv(run_dir, marker=marker)
    harness = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "kept = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)\n"
            "kept.stdin.write(b'go'); kept.stdin.flush(); time.sleep(60)",
            *argv,
        ]
    )
    assert _until(lambda: _up(run_dir))
    harness.kill()
    harness.wait(10)
    assert _until(lambda: not run_dir.exists())
    assert _until(lambda: _gone(marker))


def test_the_end_of_the_guest_is_noted_and_its_directory_stays_readable(run_dir):
    argv = [sys.executable, "-I", "-S", keeper.__file__, str(run_dir), "--", "true"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True, bufsize=0)
    process.stdin.write(b"go\n")
    assert _until((run_dir / "exited").exists)
    assert process.poll() is None
    process.stdin.close()
    process.wait(10)
    assert not run_dir.exists()


@pytest.mark.parametrize(
    "words", [(b"go\n", b"detach\n"), (b"go\n", b"det", b"ach\n"), (b"go\ndetach\n",)]
)
def test_a_guest_that_was_handed_over_does_not_mind_a_closed_pipe(run_dir, marker, words):
    argv = _argv(run_dir, marker=marker)
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True, bufsize=0)
    for word in words:
        process.stdin.write(word)
        assert _until(lambda: _up(run_dir))
    process.stdin.close()
    time.sleep(0.3)
    assert process.poll() is None
    assert _up(run_dir)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not run_dir.exists()
    assert _gone(marker)


@pytest.mark.parametrize("word", [b"det", b"detach", b"go\n"])
def test_nothing_but_the_whole_word_hands_a_guest_over(kept, run_dir, marker, word):
    kept.stdin.write(word)
    kept.stdin.close()
    assert kept.wait(10) == 0
    assert not run_dir.exists()
    assert _gone(marker)


def test_the_directory_of_a_guest_of_its_own_stays_when_the_guest_has_ended(run_dir):
    argv = [sys.executable, "-I", "-S", keeper.__file__, str(run_dir), "--", "true"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True, bufsize=0)
    process.stdin.write(b"go\ndetach\n")
    process.stdin.close()
    assert _until((run_dir / "exited").exists)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not run_dir.exists()


def test_a_harness_that_dies_before_the_guest_starts_leaves_nothing(run_dir, marker):
    argv = _argv(run_dir, marker=marker)
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, start_new_session=True)
    assert _until((run_dir / "keeper.pid").exists)
    process.stdin.close()
    assert process.wait(10) == 0
    assert not run_dir.exists()
    assert _gone(marker)
