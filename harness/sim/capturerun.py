# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow sim --pcap`: a capture through a program, its report, its output files, exit codes.

Owns the order of things and the files that are written; the loop is harness.sim.replay's.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.bpf.environment import NOWHERE, Environment
from harness.errors import Exit, ObjectError, UsageError
from harness.model import Case
from harness.sim import capturereport
from harness.sim.batch import Runner
from harness.sim.capturereport import ProgressLine, Setting
from harness.sim.given import PACKET_TYPES
from harness.sim.machine import Machine
from harness.sim.pcap import Capture, Writer
from harness.sim.plot import plot
from harness.sim.replay import Replay, replay, without_input
from harness.sim.run import NotAllowed, check_allowed, machine_for, map_content
from harness.sim.runners import choose
from harness.sim.signals import Fault, Unsupported
from harness.sim.tally import Tally, Timeline
from harness.sim.trace import Trace


@dataclass(frozen=True, slots=True)
class Wanted:
    """What goes in and what comes out: paths, None for what nobody wants."""

    pcap: str
    out_pcap: str | None = None
    plot: str | None = None
    json: bool = False
    engine: str = "auto"


def run(
    case: Case, profile: str, budget: int, wanted: Wanted, environment: Environment = NOWHERE
) -> int:
    """Run the capture, print the report; the exit code. Raises UsageError, ObjectError."""
    machine = machine_for(without_input(case), profile, Trace(), budget, environment)
    if machine.program_type not in PACKET_TYPES:
        raise UsageError(
            f"program {case.program!r} of type {machine.program_type or 'unknown'} gets no packets",
            fix="--pcap is for xdp, tc and cgroup_skb programs",
        )
    refused = _refusal(machine, case)
    if refused:
        print(f"bpfthrow: {case.program}: {refused}", file=sys.stderr)
        return Exit.DIFFERENCE
    _check_outputs(wanted)
    with Capture(wanted.pcap) as capture, _output(wanted.out_pcap) as writer:
        runner = choose(machine, case, wanted.engine, capture.size_bytes)
        tally = Tally(timeline=Timeline() if wanted.plot else None)
        made = _replay(machine, capture, runner, tally, writer)
    setting = Setting(
        wanted.pcap, case.object, case.program, machine.program_type, case.hook, profile,
        runner.engine, compile_s=getattr(runner, "compile_s", 0.0), out_pcap=wanted.out_pcap or "",
    )  # fmt: skip
    return _finish(machine, setting, made, wanted)


def _replay(
    machine: Machine, capture: Capture, runner: Runner, tally: Tally, writer: Writer | None
) -> Replay:
    progress = ProgressLine(sys.stderr)

    def after_batch(packets: int, share: float | None) -> None:
        machine.recorder.forget()
        progress(packets, share)

    if runner.records is not None:
        capture.records = runner.records
    made = replay(capture, runner, tally, program_type=machine.program_type, writer=writer,
                  progress=after_batch)  # fmt: skip
    progress.done()
    return made


def _refusal(machine: Machine, case: Case) -> str:
    """Why no packet can run, or ""."""
    try:
        check_allowed(machine, case)
    except Unsupported as error:
        return f"unsupported: {error}"
    except Fault as error:
        return f"simulator fault: {error}"
    except (NotAllowed, ObjectError) as error:
        return f"rejected: {error.args[0]}"
    return ""


def _check_outputs(wanted: Wanted) -> None:
    for path in (wanted.out_pcap, wanted.plot):
        with contextlib.suppress(OSError):
            if path is not None and wanted.pcap != "-" and Path(path).samefile(wanted.pcap):
                raise UsageError(f"{path}: is the capture that is read", fix="name another file")


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[Writer | None]:
    if path is None:
        yield None
        return
    with _create(path) as stream:
        yield Writer(stream)


def _create(path: str) -> BinaryIO:
    try:
        return Path(path).open("wb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: {reason}", fix="name a file that can be written") from error


def _finish(machine: Machine, setting: Setting, made: Replay, wanted: Wanted) -> int:
    content = map_content(machine)
    if wanted.json:
        capturereport.write_json(sys.stdout, setting, made, content)
    else:
        print(capturereport.text(setting, made, content))
    if wanted.plot is not None and made.tally.timeline is not None:
        with _create(wanted.plot) as stream:
            stream.write(_plotted(setting, made, made.tally.timeline).encode())
    if made.interrupted:
        return Exit.INTERRUPTED
    if made.error is not None:
        raise made.error
    return Exit.DIFFERENCE if made.tally.failed else Exit.OK


def _plotted(setting: Setting, made: Replay, timeline: Timeline) -> str:
    facts = f"{made.tally.packets} packets, {made.tally.throws.count} threw"
    return plot(
        timeline,
        setting.program_type,
        title=f"{setting.program} on {Path(setting.capture).name}",
        subtitle=f"{facts}, hook {setting.hook}, profile {setting.profile}",
    )
