# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kills a part of a real run at a random moment, again and again, and looks at what is left.

    .venv/bin/python tests/campaign/kill.py --kernel 6.12 --kills 20 [--seed N] [--only qemu]

Killed, by SIGKILL: the harness, its guest's keeper, QEMU, the agent in the guest, the sshd that
carries the agent's channel. After each: the run ends by itself, at most one case on the kernel is
lost, all others agree, no process and no file of it is left, and a killed harness's run is gone on
with. Not a part of `make test`: it takes as many runs as there are kills.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from harness.errors import BpfthrowError
from harness.target import channel, guests, login
from harness.target.deadline import Deadline
from harness.target.machine import PORTS

_CHECKOUT = Path(__file__).resolve().parents[2]
# what a run leaves goes within this time after its end
_SETTLE_S = 10.0
_RUN_S = 600.0
_GUEST_LOGIN_S = 30.0
# exit codes of a run that lost a case, and of one that lost none
_FINE = (0, 128)


class Run:
    """One `bpfthrow run` with a runtime directory of its own."""

    def __init__(self, arguments: argparse.Namespace, place: Path, *more: str) -> None:
        self.place = place
        self.report = place / "report.json"
        self.words = place / "words"
        self.report.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "harness.cli", "run", "--json", str(self.report)]
        argv += [*more, "--kernel", arguments.kernel, *arguments.paths]
        environment = os.environ | {"XDG_RUNTIME_DIR": str(place)}
        self.began_s = time.monotonic()
        with self.words.open("w") as words:
            self.process = subprocess.Popen(
                argv, cwd=_CHECKOUT, env=environment, stdout=words, stderr=words
            )

    def wait(self) -> int:
        """Exit code; the campaign ends when there is none in time."""
        return self.process.wait(_RUN_S)

    @property
    def cases(self) -> list[dict[str, object]]:
        """The report's cases."""
        found: list[dict[str, object]] = json.loads(self.report.read_text())["cases"]
        return found

    def guests(self) -> list[Path]:
        """Directories of its guests."""
        return [path.parent for path in self.place.glob("bpfthrow/*/keeper.pid")]


def _harness(run: Run) -> bool:
    run.process.kill()
    return True


def _of_guest(find: Callable[[Path], int | None]) -> Callable[[Run], bool]:
    def kill(run: Run) -> bool:
        for guest in run.guests():
            pid = find(guest)
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    return True
        return False

    return kill


def _in_guest(command: str) -> Callable[[Run], bool]:
    def kill(run: Run) -> bool:
        for guest in run.guests():
            with suppress(BpfthrowError, OSError, EOFError), socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(_GUEST_LOGIN_S)
                sock.connect(str(guest / PORTS[1]))
                deadline = Deadline(_GUEST_LOGIN_S)
                transport = channel.connect(sock, login.read_login(guest), deadline)
                session = transport.open_session(timeout=_GUEST_LOGIN_S)
                session.exec_command(command)
                # a guest whose sshd is killed ends itself, and this session with it
                done = session.recv_exit_status() in (0, -1)
                transport.close()
                return done
        return False

    return kill


# Kills what a pattern matches, but for the ancestors of the shell that does it.
_KILL_IN_GUEST = """
own=" "; p=$$
while [ $p -gt 1 ]; do own="$own$p "; read -r _ _ _ p _ < /proc/$p/stat; done
for each in /proc/[0-9]*; do
    pid=${{each#/proc/}}; case $own in *" $pid "*) continue ;; esac
    words=$(busybox tr '\\0' ' ' < $each/cmdline 2> /dev/null)
    case $words in {}) kill -9 $pid && found=1 ;; esac
done
test "$found"
"""
VICTIMS: dict[str, Callable[[Run], bool]] = {
    "harness": _harness,
    "keeper": _of_guest(guests.keeper_pid),
    "qemu": _of_guest(guests.qemu_pid),
    "agent": _in_guest(_KILL_IN_GUEST.format("*agent-*.pyz*--listen*")),
    "sshd": _in_guest(_KILL_IN_GUEST.format("sshd-session:*")),
}


def processes_at(place: Path) -> list[str]:
    """Command lines of processes that name a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            words = guests.read_text(entry / "cmdline").replace("\0", " ")
            if str(place) in words:
                found.append(f"{entry.name} {words[:100]}")
    return found


def left_behind(place: Path) -> list[str]:
    """Processes and files of a run that has ended, after the time that they are given."""
    deadline = Deadline(_SETTLE_S)
    while True:
        left = processes_at(place) + [str(path) for path in place.glob("bpfthrow/*")]
        if not left or deadline.over:
            return left
        time.sleep(0.1)


def problems(run: Run, code: int, wanted: int) -> list[str]:
    """What is wrong with a run that went on to its end."""
    if not run.report.is_file():
        return [f"no report, exit code {code}: {run.words.read_text()[-500:]}"]
    lost = [case for case in run.cases if case["status"] == "lost"]
    others = [case for case in run.cases if case["status"] != "lost" and not case["agree"]]
    found = [f"{case['id']} [{case['hook']}]: {case['status']}" for case in others]
    if len(run.cases) != wanted:
        found.append(f"{len(run.cases)} cases instead of {wanted}")
    if len(lost) > 1:
        found.append(f"{len(lost)} cases lost")
    if code not in _FINE or (code == 0) != (not lost):
        found.append(f"exit code {code} with {len(lost)} lost")
    return found


def one(arguments: argparse.Namespace, place: Path, victim: str, moment_s: float) -> list[str]:
    """One run, one kill; what is wrong afterwards, and None of it for a kill that came too late."""
    run = Run(arguments, place)
    time.sleep(moment_s)
    hit = run.process.poll() is None and VICTIMS[victim](run)
    code = run.wait()
    found = []
    if victim == "harness" and hit:
        found += [f"after the harness: {each}" for each in left_behind(place)]
        again = Run(arguments, place, "--resume")
        code = again.wait()
        nothing = "no interrupted run" in again.words.read_text()
        if not nothing:
            run = again
        else:
            # killed before there was anything to go on with, or after all was done
            print("    nothing to go on with", end="")
    if run.report.is_file() or not (victim == "harness" and hit):
        found += problems(run, code, arguments.wanted)
        lost = sum(case["status"] == "lost" for case in run.cases) if run.report.is_file() else 0
        print(f"  {'hit' if hit else 'missed'}, exit code {code}, {lost} lost", end="")
    found += [f"left behind: {each}" for each in left_behind(place)]
    if "cannot be restored" in run.words.read_text():
        found.append("a saved guest was damaged")
    return found


def _whole(arguments: argparse.Namespace, place: Path) -> float:
    """Seconds of a run that nobody disturbs."""
    run = Run(arguments, place)
    if run.wait():
        sys.exit(f"the run fails without a kill:\n{run.words.read_text()[-2000:]}")
    arguments.wanted = len(run.cases)
    return time.monotonic() - run.began_s


def main() -> int:
    """Run the campaign; 1 when something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", default=["progs/throw"])
    parser.add_argument("--kernel", default="6.12")
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--only", choices=VICTIMS, action="append")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    print(f"seed {arguments.seed}")
    tally: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        place = Path(name)
        took_s = min(_whole(arguments, place) for _ in range(2))
        print(f"without a kill: {arguments.wanted} cases in {took_s:.1f} s")
        for number in range(arguments.kills):
            victim = chance.choice(arguments.only or list(VICTIMS))
            moment_s = chance.uniform(0.2, took_s)
            print(f"{number + 1:3} {victim:8} at {moment_s:5.1f} s", end="", flush=True)
            found = one(arguments, place, victim, moment_s)
            tally[victim] += 1
            print(": fine" if not found else ": " + "; ".join(found), flush=True)
            wrong += bool(found)
    kinds = ", ".join(f"{count} {victim}" for victim, count in sorted(tally.items()))
    print(f"{arguments.kills} kills ({kinds}): {wrong} went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
