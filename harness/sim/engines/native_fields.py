# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which fields of a context native code can fill in by itself for each packet of a batch.

Found out by looking at the contexts that harness.sim.context builds for packets that differ in
everything: a field that is the same for all of them is constant, others must be the packet's start
or end, its length, or its protocol. All that is left is Python's, packet by packet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.model import Case, Input
from harness.sim import context
from harness.sim.context import longest_frame
from harness.sim.engines import Declined
from harness.sim.engines import native_layout as at
from harness.sim.packet import ETH_HEADER_BYTES
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

# a slot that no load reaches
NOBODY = at.SLOT_COUNT - 1
_FIELD_BYTES = 4
_LONGEST = 9000


def _frame(target: bytes, kind: bytes, size: int) -> bytes:
    return (target + b"\2\0\0\0\0\1" + kind).ljust(size, b"\x45")


# addressed to nobody, everybody, a group, another; IPv4, IPv6, a tag, an IEEE 802.3 length
_PROBES = (
    _frame(bytes(6), b"\x08\x00", 60),
    _frame(b"\xff" * 6, b"\x86\xdd", 1000),
    _frame(b"\1\0\x5e\0\0\1", b"\x81\x00", 201),
    _frame(b"\2\0\0\0\0\2", b"\x00\x2e", 14),
    _frame(b"\2\0\0\0\0\3", b"\x08\x06", 77),
)
# of the probes: those with a plain EtherType, the one with a tag
_ETHERTYPES = (0, 1, 4)
_TAGGED = 2


@dataclass(frozen=True, slots=True)
class Fields:
    """What native code needs to know of the contexts of one machine and hook."""

    # addresses of context and packet, from that of the region that is made next
    context: int
    packet: int
    # bytes before the frame in the packet's region; bytes of the frame that nobody sees
    headroom_bytes: int
    hidden_bytes: int
    # lengths of frames that native code takes
    shortest: int
    longest: int
    # whether a VLAN tag is taken out of the frame: left to Python
    strips_tags: bool
    # offset / 4 -> value of the fields that are there; those of the slots below change
    values: dict[int, int]
    # of these, the ones whose value counts from the packet's address
    pointers: frozenset[int]
    end_slot: int
    length_slot: int
    protocol_slot: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """One context."""

    frame: bytes
    context: int
    packet: int
    start: int
    size: int
    hidden: int
    # offset / 4 -> value, absent where there is none
    values: dict[int, int]


def fields_of(machine: "Machine", case: Case) -> Fields:
    """Look at contexts of a machine. Raises Declined where they do not look alike."""
    base = machine.memory.upcoming()
    seen = [_look(machine, case, frame) for frame in _PROBES]
    first = seen[0]
    for one in seen:
        if (one.context, one.packet, one.start) != (first.context, first.packet, first.start):
            raise Declined("packets do not come to the same place each time")
    values = {
        slot: value
        for slot, value in first.values.items()
        if all(one.values.get(slot) == value for one in seen)
    }
    plain = [seen[index] for index in _ETHERTYPES]
    end = _slot(seen, lambda one: one.packet + one.start + one.size)
    length = _slot(seen, lambda one: one.size)
    protocol = _slot(plain, lambda one: int.from_bytes(one.frame[12:14], "little"))
    for slot in (end, length, protocol):
        values.setdefault(slot, 0)
    pointers = frozenset(s for s, value in values.items() if value >> 32 == first.packet >> 32)
    longest = longest_frame(machine.program_type, case.hook) or _LONGEST
    return Fields(
        context=first.context - base,
        packet=first.packet - base,
        headroom_bytes=first.start,
        hidden_bytes=first.hidden,
        shortest=ETH_HEADER_BYTES,
        longest=longest,
        strips_tags=seen[_TAGGED].size != len(_PROBES[_TAGGED]) - first.hidden,
        values={s: v - first.packet * (s in pointers) for s, v in values.items()},
        pointers=pointers,
        end_slot=end,
        length_slot=length,
        protocol_slot=protocol,
    )


def _slot(seen: list[_Seen], expected: Callable[[_Seen], int]) -> int:
    """The field that has the expected value in all contexts, NOBODY where there is none."""
    found = (
        slot
        for slot in seen[0].values
        if all(one.values.get(slot) == expected(one) for one in seen)
    )
    return next(found, NOBODY)


def _look(machine: "Machine", case: Case, frame: bytes) -> _Seen:
    """The context of one packet, which is gone again afterwards."""
    memory = machine.memory
    given = context.build(
        machine.program_type, case.hook, Input(packet=frame), memory, machine.profile
    )
    packet = given.packet
    if packet is None:
        raise Declined("a program without packets")
    values = {}
    for offset in range(0, at.CONTEXT_BYTES, _FIELD_BYTES):
        try:
            values[offset // _FIELD_BYTES] = memory.load(given.address + offset, _FIELD_BYTES)
        except (Fault, Unsupported):
            continue
    made = _Seen(
        frame, given.address, packet.region.address, packet.start, packet.end - packet.start,
        len(packet.hidden), values,
    )  # fmt: skip
    for address in (given.address, packet.region.address):
        memory.regions.pop(address >> 32, None)
    memory.rewind()
    return made
