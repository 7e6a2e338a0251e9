# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow bench`: how fast the main job is, as ratios measured side by side in one run.

Prints a table and writes JSON. Never asserts: a machine may be busy. Four questions: how long from
`make run` to the first verdict, against a plain boot of the same kernel; what a case costs, against
bpftool by hand over ssh; how long the whole suite takes; what one call of bpfthrow-plugin costs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko

from harness import (
    accel,
    bench_matrix,
    bench_restore,
    bench_sim,
    bench_verifier,
    bench_verify,
    config,
    kernels,
    suite,
    tools,
)
from harness.conformance import timing
from harness.errors import Exit, UsageError, WorldError
from harness.model import Case
from harness.target import boot, channel, virtual

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # no other name

CHECKOUT = Path(__file__).resolve().parent.parent
_ROUNDS = 3
# of cases that run, one is run by hand, too
_BY_HAND_EVERY = 30
_FIRST_CASE = ("progs/throw/main.bpf.c", "-k", "throw/main/always", "--hook", "test_run")
_EPILOG = """\
examples:
  make bench                                   all of it on 6.12
  bpfthrow bench --only case --kernel 7.3 --json bench.json
  bpfthrow bench --only matrix                 all kernels, each by itself and together: 7 minutes
  bpfthrow bench --only engines                the simulator: no kernel, half a minute
  bpfthrow bench --only verify                 the verifier model: no kernel, seconds
  bpfthrow bench --only verifier               its time beside the kernel's, program by program

Run it on an idle machine and read the ratios; the seconds are this machine's.
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the verb to the command line's tree."""
    parser = subparsers.add_parser(
        "bench",
        help="measure boot, cases, the whole suite, the simulator's engines",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=_ALL,
                        action="append", help="just this part")  # fmt: skip
    config.add_arguments(parser, ["kernel", "accelerator", "json"])


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON."""
    settings = config.resolve(arguments)
    parts = arguments.only or _ALL
    document: dict[str, Any] = {"schema": 1, "kernel": "none", "cpus": os.cpu_count()}
    for part in parts:
        if part in _WITHOUT_KERNEL:
            document[part] = _WITHOUT_KERNEL[part]()
            continue
        if part in _OF_SEVERAL:
            document[part] = _OF_SEVERAL[part](settings)
            continue
        kernel = kernels.resolve(settings.kernel[0] if settings.kernel else "default")
        document["kernel"] = kernel.release
        document[part] = _PARTS[part](kernel, settings)
    _print(document, parts)
    target = settings.json or CHECKOUT / "build" / "bench.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=1) + "\n")
    print(f"written: {os.path.relpath(target)}")
    return Exit.OK


def _boot(kernel: kernels.Kernel, settings: config.Settings) -> dict[str, Any]:
    qemu, busybox = Path(tools.need("qemu-system-x86_64")), Path(tools.need("busybox"))
    chosen = boot.machine_for(kernel, settings).accelerator
    plain, first = [], []
    # alternating, so that a busy moment meets both
    for number in range(_ROUNDS):
        tools.say(f"boot {number + 1} of {_ROUNDS}: plain, then make run")
        tried = accel.boot(qemu, chosen, kernel.image, busybox, 120.0)
        if tried.failure:
            raise WorldError(f"the plain boot failed: {tried.failure}", evidence=tried.console)
        plain.append(tried.seconds)
        first.append(_first_verdict(kernel))
    return {
        "accelerator": chosen,
        "plain_boot_s": plain,
        "first_verdict_s": first,
        "ratio": statistics.median(first) / statistics.median(plain),
        "wanted": "ratio <= 2",
    }


def _first_verdict(kernel: kernels.Kernel) -> float:
    if not (CHECKOUT / "Makefile").is_file():
        raise UsageError("the boot is measured from `make run`: run it in a checkout")
    arguments = f"ARGS={' '.join(_FIRST_CASE)}"
    began = time.monotonic()
    with subprocess.Popen(
        ["make", "run", f"KERNELS={kernel.name}", arguments],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        seconds, seen = 0.0, []
        for line in process.stderr:
            seen.append(line)
            if _FIRST_CASE[2] in line and not line.startswith("#"):
                seconds = seconds or time.monotonic() - began
    if process.returncode or not seconds:
        raise WorldError("make run failed", evidence="".join(seen))
    return seconds


def _case(kernel: kernels.Kernel, settings: config.Settings) -> dict[str, Any]:
    cases = [case for case in suite.collect() if case.hook == "test_run" and not case.companions]
    target = virtual.VirtualTarget(kernel, boot.machine_for(kernel, settings), settings)
    try:
        release = target.facts.release
        tools.say(f"running {len(cases)} cases, some of them by hand, too")
        ran: list[float] = []
        by_hand: list[float] = []
        packets: list[Case] = []
        refused_s = 0.0
        for case in cases:
            began = time.monotonic()
            seen = target.run(case)
            took_s = time.monotonic() - began
            if not seen.retvals:
                refused_s += took_s
                continue
            ran.append(took_s)
            # what bpftool can do by hand, too; in between, so that a busy moment meets both
            if case.input.packet and seen.provenance.loader.startswith("bpftool"):
                packets.append(case)
                if len(ran) >= _BY_HAND_EVERY * (len(by_hand) + 1):
                    by_hand.append(_by_hand(target.transport, case))
        again_s = statistics.median(_timed(lambda: target.run(packets[-1])) for _ in range(50))
    finally:
        target.close()
    ran_s, by_hand_s = statistics.mean(ran), statistics.mean(by_hand)
    return {
        "release": release,
        "cases_that_ran": len(ran),
        # with the loads of their objects
        "case_s": ran_s,
        "case_of_loaded_object_s": again_s,
        "bpftool_by_hand_s": by_hand_s,
        "ratio": ran_s / by_hand_s,
        "ratio_of_loaded_object": again_s / by_hand_s,
        "cases_per_second": 1 / ran_s,
        "cases_refused_by_load": len(cases) - len(ran),
        "refusal_s": refused_s / max(1, len(cases) - len(ran)),
        "wanted": "ratio <= 0.1",
    }


def _by_hand(transport: paramiko.Transport, case: Case) -> float:
    """Seconds for `bpftool prog load` and `bpftool prog run`, an ssh exec each."""
    place, pin = "/run/bench.bpf.o", "/sys/fs/bpf/bench"
    files: dict[str, Path | bytes] = {place: Path(case.object)}
    files["/run/bench.in"] = case.input.packet or b""
    channel.Files(transport).push(files)
    commands = (
        f"prog loadall {place} {pin}",
        f"prog run pinned {pin}/{case.program} data_in /run/bench.in",
    )
    try:
        began = time.monotonic()
        for command in commands:
            _execute(transport, f"/usr/sbin/bpftool {command}")
        return time.monotonic() - began
    finally:
        _execute(transport, f"/usr/bin/busybox rm -rf {pin}")


def _execute(transport: paramiko.Transport, command: str) -> None:
    session = transport.open_session()
    session.exec_command(command)
    said = session.makefile("rb").read() + session.makefile_stderr("rb").read()
    if session.recv_exit_status():
        raise WorldError(f"{command} failed", evidence=said.decode(errors="replace"))


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _suite(kernel: kernels.Kernel, settings: config.Settings) -> dict[str, Any]:
    tools.say("running the whole suite")
    report = CHECKOUT / "build" / "bench-suite.json"
    report.parent.mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "harness.cli", "run", "--quiet", "--kernel", kernel.name]
    argv += ["--accelerator", settings.accelerator, "--json", str(report)]
    began = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    seconds = time.monotonic() - began
    if not report.exists():
        raise WorldError("the suite did not run", evidence=done.stdout + done.stderr)
    summary = json.loads(report.read_text())["summary"]
    return {"seconds": seconds, "exit_code": done.returncode, **summary, "wanted": "seconds < 90"}


_PARTS: dict[str, Callable[[kernels.Kernel, config.Settings], dict[str, Any]]] = {
    "boot": _boot,
    "restore": bench_restore.measure,
    "case": _case,
    "suite": _suite,
    "verifier": bench_verifier.measure,
    "plugin": lambda _kernel, _settings: timing.measure(),
}


_OF_SEVERAL: dict[str, Callable[[config.Settings], dict[str, Any]]] = {
    "matrix": bench_matrix.measure
}
_WITHOUT_KERNEL: dict[str, Callable[[], dict[str, Any]]] = {
    "engines": bench_sim.measure,
    "verify": bench_verify.measure,
}
_ALL = [*_PARTS, *_OF_SEVERAL, *_WITHOUT_KERNEL]


def _print(document: dict[str, Any], parts: list[str]) -> None:
    print(f"kernel {document['kernel']}, {document['cpus']} cores")
    for part in parts:
        print(f"\n{part}")
        for name, value in document[part].items():
            _print_row(name, value, "  ")


def _print_row(name: str, value: object, indent: str) -> None:
    """A value, or one line for each of several."""
    if not isinstance(value, dict):
        print(f"{indent}{name:{28 - len(indent)}} {_text(value)}")
        return
    if any(isinstance(item, dict) for item in value.values()):
        print(f"{indent}{name}")
        for key, item in value.items():
            _print_row(key, item, indent + "  ")
        return
    row = "  ".join(f"{key} {_text(item)}" for key, item in value.items())
    print(f"{indent}{name:{28 - len(indent)}} {row}")


def _text(value: object) -> str:
    if isinstance(value, list):
        return "  ".join(_text(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
