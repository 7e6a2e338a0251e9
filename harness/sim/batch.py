# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Many packets at once: what a reader of captures gives and what an engine answers.

Data only. Everything is in arrays, so that native code can work on them: packet i of a batch is
`data[offsets[i]:offsets[i] + lengths[i]]`. An engine that wants whole batches is a `Runner`.
"""

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


def _u64() -> "array[int]":
    return array("Q")


@dataclass(slots=True)
class Batch:
    """Packets in the order of the capture, a few thousand at most."""

    # what the offsets refer to; packets lie between other bytes
    data: bytes = b""
    offsets: "array[int]" = field(default_factory=_u64)
    # bytes that the capture has of each packet
    lengths: "array[int]" = field(default_factory=_u64)
    # bytes that it had on the wire; more than lengths[i] where the capture cut it
    originals: "array[int]" = field(default_factory=_u64)
    # since 1970
    times_ns: "array[int]" = field(default_factory=_u64)

    def __len__(self) -> int:
        return len(self.offsets)

    def packet(self, index: int) -> bytes:
        """Bytes of one packet."""
        start = self.offsets[index]
        return self.data[start : start + self.lengths[index]]


@dataclass(slots=True)
class Outcomes:
    """What became of the packets of a batch; all arrays have one item for each packet."""

    # 32-bit values that the program returned; of a packet that failed: 0
    retvals: "array[int]" = field(default_factory=_u64)
    # 1 where bpf_throw() was called, as often as it was; 0 for all others
    threw: bytearray = field(default_factory=bytearray)
    # the cookie of the last throw, 0 where there was none
    cookies: "array[int]" = field(default_factory=_u64)
    # index -> why there is no value: "simulator fault: ..." or "unsupported: ..."
    failures: dict[int, str] = field(default_factory=dict)
    # the frames afterwards, where they were asked for; b"" for a packet that failed
    frames: list[bytes] | None = None
    # Ctrl-C came: what is here is of the first packets of the batch only
    interrupted: bool = False


class Runner(Protocol):
    """Runs a batch; state of the machine carries on from packet to packet."""

    # its own way of walking over a pcap (harness.sim.pcap.Capture.records), or None
    records: "Records | None"

    @property
    def engine(self) -> str:
        """Name of the engine, final once packets ran."""
        ...

    def __call__(self, batch: Batch, *, frames: bool) -> Outcomes:
        """Run each packet. `frames`: give back what the program made of them.

        Raises nothing for a packet that fails; the budget is the whole one for each packet.
        """
        ...


# bytes of a pcap, byte order ("<" or ">"), nanoseconds of one unit of time -> bytes of whole
# records, their packets, a length that is wrong or 0
Records = Callable[[bytes, str, int], tuple[int, Batch, int]]
