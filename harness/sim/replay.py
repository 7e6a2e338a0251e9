# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A capture through a program: packet after packet, the state of the machine carries on.

Owns the loop and what of a packet's run goes into the output capture. Reading is
harness.sim.pcap's, counting harness.sim.tally's, executing an engine's.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.model import Case, Input
from harness.sim import context, verdicts
from harness.sim.batch import Batch, Outcomes, Records, Runner
from harness.sim.context import Context
from harness.sim.machine import Machine
from harness.sim.pcap import Capture, CaptureError, Writer
from harness.sim.signals import Fault, Unsupported
from harness.sim.tally import Tally

PACKET_TYPES = frozenset({"xdp", "tc", "cgroup_skb"})
_U32 = 0xFFFF_FFFF
_ETH_HEADER_BYTES = 14


@dataclass(slots=True)
class Replay:
    """What came of a capture."""

    tally: Tally = field(default_factory=Tally)
    # spent on reading and running, without compiling
    duration_s: float = 0.0
    # packets in the output capture
    written: int = 0
    interrupted: bool = False
    # why the capture could not be read to its end
    error: CaptureError | None = None


class PacketRunner:
    """Runs packets one by one through Machine.run(), on whatever engine the machine has."""

    # the reader's own way of walking over a capture is as fast as this
    records: Records | None = None

    def __init__(self, machine: Machine, case: Case, engine: str = "") -> None:
        self._engine = engine
        self._machine = machine
        self._case = case
        self._budget = machine.budget

    @property
    def engine(self) -> str:
        """The engine that the machine has come to, unless a name was given."""
        return self._engine or self._machine.engines()

    def __call__(self, batch: Batch, *, frames: bool) -> Outcomes:
        """Run each packet of a batch. See harness.sim.batch.Runner."""
        seen = Outcomes(frames=[] if frames else None)
        try:
            for index in range(len(batch)):
                self._packet(batch.packet(index), index, seen)
        except KeyboardInterrupt:
            seen.interrupted = True
            done = len(seen.retvals)
            del seen.threw[done:], seen.cookies[done:]
        return seen

    def _packet(self, packet: bytes, index: int, seen: Outcomes) -> None:
        machine, case, given = self._machine, self._case, None
        machine.budget, retval = self._budget, 0
        try:
            given = context.build(
                machine.program_type, case.hook, Input(packet=packet), machine.memory,
                machine.profile,
            )  # fmt: skip
            retval = machine.run(case.program, given) & _U32
        except Fault as error:
            seen.failures[index] = f"simulator fault: {error}"
        except Unsupported as error:
            seen.failures[index] = f"unsupported: {error}"
        cookies = machine.cookies if given is not None else []
        seen.threw.append(min(len(cookies), 1))
        seen.cookies.append(cookies[-1] if cookies else 0)
        if seen.frames is not None:
            failed = given is None or index in seen.failures
            seen.frames.append(b"" if failed or given is None else frame_after(given, packet))
        if given is not None:
            memory = machine.memory
            memory.release(memory.regions[given.address >> 32])
            if given.packet is not None:
                memory.release(given.packet.region)
        machine.memory.rewind()
        seen.retvals.append(retval)


def frame_after(given: Context, before: bytes) -> bytes:
    """The frame as the program left it: without XDP metadata, with its Ethernet header."""
    packet = given.packet
    if packet is None:
        return before
    data = bytes(packet.region.data[packet.start : packet.end])
    return before[:_ETH_HEADER_BYTES] + data if packet.hidden else data


def replay(
    capture: Capture,
    runner: Runner,
    tally: Tally,
    *,
    program_type: str,
    writer: Writer | None = None,
    progress: Callable[[int, float | None], None] | None = None,
) -> Replay:
    """Run a whole capture. Ctrl-C and a broken file end it early; what there is so far stays.

    `writer` gets each frame whose verdict lets it go on, changed as the program changed it, with
    the time of the original. `progress` is told after each batch: packets, share of the file.
    """
    made = Replay(tally)
    started = time.perf_counter()
    try:
        for batch in capture:
            seen = runner(batch, frames=writer is not None)
            tally.add(batch, seen)
            if writer is not None:
                made.written += _write(writer, batch, seen, program_type)
            if progress is not None:
                progress(tally.packets, capture.share_done())
            if seen.interrupted:
                made.interrupted = True
                break
    except KeyboardInterrupt:
        made.interrupted = True
    except CaptureError as error:
        made.error = error
    made.duration_s = time.perf_counter() - started
    return made


def _write(writer: Writer, batch: Batch, seen: Outcomes, program_type: str) -> int:
    written = 0
    for index, frame in enumerate(seen.frames or ()):
        kept = verdicts.keeps_frame(program_type, seen.retvals[index])
        if not kept or index in seen.failures:
            continue
        cut = max(batch.originals[index] - batch.lengths[index], 0)
        writer.packet(batch.times_ns[index], frame, len(frame) + cut)
        written += 1
    return written


def without_input(case: Case) -> Case:
    """The case of a capture: each packet is its input in turn."""
    return dataclasses.replace(case, input=Input(name="capture"))
