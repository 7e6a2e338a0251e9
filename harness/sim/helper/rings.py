# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Ring buffer and perf event helpers (kernel/bpf/ringbuf.c, kernel/trace/bpf_trace.c)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.bpf.mapdef import MapType
from harness.sim import resources
from harness.sim.alu import M32
from harness.sim.errnos import E2BIG, EAGAIN, EINVAL, ENOENT
from harness.sim.helper import Table, dynptrs
from harness.sim.mapkinds.references import Targets
from harness.sim.mapkinds.rings import Reserved, Ring
from harness.sim.signals import Fault

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_WAKEUP_FLAGS = 3
_CURRENT_CPU = M32
_PERF_FLAGS = 0xFFFFF << 32 | M32  # BPF_F_CTXLEN_MASK | BPF_F_INDEX_MASK


def _ring(machine: "Machine", address: int) -> Ring:
    used = machine.map_at(address)
    if not isinstance(used, Ring):
        raise Fault(f"map {used.place.name} is no ring buffer")
    return used


def _output(machine: "Machine", address: int, data: int, size: int, flags: int) -> int:
    ring, content = _ring(machine, address), machine.memory.read(data, size)
    if flags & ~_WAKEUP_FLAGS:
        return EINVAL
    region = ring.reserve(size)
    if region is None:
        return EAGAIN
    region.data[:] = content
    ring.end(ring.open[region.key], discard=False)
    return 0


def _reserve(machine: "Machine", address: int, size: int, flags: int) -> int:
    ring = _ring(machine, address)
    region = None if flags else ring.reserve(size)
    if region is None:
        return 0
    _hold(machine, ring, ring.open[region.key], resources.RINGBUF, region.address)
    return region.address


def _hold(
    machine: "Machine", ring: Ring, record: Reserved, kind: resources.Kind, address: int
) -> None:
    machine.resources.acquire(
        kind, address, f"of {ring.place.name}", lambda: ring.end(record, discard=True)
    )


def _end(*, discard: bool) -> Callable[["Machine", int, int], None]:
    def end(machine: "Machine", sample: int, _flags: int) -> None:
        machine.resources.release(resources.RINGBUF, sample)
        _end_record(machine, sample, discard=discard)

    return end


def _end_record(machine: "Machine", sample: int, *, discard: bool) -> None:
    for used in machine.map_by_address.values():
        if isinstance(used, Ring) and sample >> 32 in used.open:
            used.end(used.open[sample >> 32], discard=discard)
            return
    raise Fault("the record is gone")


def _query(machine: "Machine", address: int, flags: int) -> int:
    ring = _ring(machine, address)
    overwritten = ring.producer - ring.available if machine.profile.late_helpers else 0
    known = (ring.available, ring.size_bytes, ring.consumer, ring.producer, overwritten)
    return known[flags] if flags < len(known) else 0


def _reserve_dynptr(machine: "Machine", address: int, size: int, flags: int, dynptr: int) -> int:
    """The program must submit or discard the dynptr even where it is null."""
    ring, region, problem = _ring(machine, address), None, EINVAL if flags else 0
    if not problem and size & M32 > dynptrs.MAX_BYTES:
        problem = E2BIG
    if not problem:
        region = ring.reserve(size & M32)
        problem = EINVAL if region is None else 0
    if region is None:
        dynptrs.write(machine, dynptr, dynptrs.NULL)
        machine.resources.acquire(resources.RINGBUF_DYNPTR, dynptr, f"of {ring.place.name}")
        return problem
    made = dynptrs.Dynptr(region.address, dynptrs.RINGBUF, 0, size & M32)
    dynptrs.write(machine, dynptr, made)
    _hold(machine, ring, ring.open[region.key], resources.RINGBUF_DYNPTR, dynptr)
    return 0


def _end_dynptr(*, discard: bool) -> Callable[["Machine", int, int], None]:
    def end(machine: "Machine", dynptr: int, _flags: int) -> None:
        held = dynptrs.read(machine, dynptr)
        machine.resources.release(resources.RINGBUF_DYNPTR, dynptr)
        if held.data:
            _end_record(machine, held.data, discard=discard)
        dynptrs.write(machine, dynptr, dynptrs.NULL)

    return end


def _perf_event_output(
    machine: "Machine", _context: int, address: int, flags: int, data: int, size: int
) -> int:
    """Recorded where somebody put an event into the map's slot for the CPU."""
    used, content = machine.map_at(address), machine.memory.read(data, size)
    if not isinstance(used, Targets) or used.place.definition.type != MapType.PERF_EVENT_ARRAY:
        raise Fault(f"map {used.place.name} is no perf event array")
    if flags & ~_PERF_FLAGS:
        return EINVAL
    index = machine.world.cpu if flags & M32 == _CURRENT_CPU else flags & M32
    if used.place.definition.max_entries and index >= used.place.definition.max_entries:
        return E2BIG
    if index not in used.targets:
        return ENOENT
    machine.recorder.add("perf_event", content, map=used.place.name, index=index)
    return 0


HELPERS: Table = {
    25: ("bpf_perf_event_output", 5, _perf_event_output, "recorded where the slot was filled"),
    130: ("bpf_ringbuf_output", 4, _output, ""),
    131: ("bpf_ringbuf_reserve", 3, _reserve, ""),
    132: ("bpf_ringbuf_submit", 2, _end(discard=False), ""),
    133: ("bpf_ringbuf_discard", 2, _end(discard=True), ""),
    134: ("bpf_ringbuf_query", 2, _query, ""),
    198: ("bpf_ringbuf_reserve_dynptr", 4, _reserve_dynptr, ""),
    199: ("bpf_ringbuf_submit_dynptr", 2, _end_dynptr(discard=False), ""),
    200: ("bpf_ringbuf_discard_dynptr", 2, _end_dynptr(discard=True), ""),
}
