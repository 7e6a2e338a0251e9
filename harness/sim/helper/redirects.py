# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers that send frames elsewhere, or ask about interfaces and routes (net/core/filter.c).

Nothing is sent: what a program asked for is recorded (Machine.recorder). Which interfaces there
are, and what a route look-up gives, are the world's inputs.
"""

from typing import TYPE_CHECKING

from harness.bpf.mapdef import MapType
from harness.sim.alu import M32, signed
from harness.sim.errnos import EINVAL, ENODEV
from harness.sim.helper import Table
from harness.sim.helper.packet import packet_of
from harness.sim.mapkinds.references import Targets
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_TC_REDIRECT, _TC_SHOT = 7, 2
_XDP_REDIRECT, _XDP_ABORTED = 4, 0
_INGRESS = 1
_ACTIONS = 3
_BROADCAST, _EXCLUDE_INGRESS = 8, 16
_NEIGHBOUR_BYTES, _FIB_BYTES = 20, 64
_ETH_BYTES = 14
_FRAG_NEEDED = 1
_FIB_FLAGS, _FIB_LATE = 0x3F, 0xFF
_EGRESS = 2
_SEGMENTS = 1
# flags of redirect_map besides the action; a type that is not here has no redirects
_MAP_FLAGS = {
    MapType.DEVMAP: _BROADCAST | _EXCLUDE_INGRESS,
    MapType.DEVMAP_HASH: _BROADCAST | _EXCLUDE_INGRESS,
    MapType.CPUMAP: 0,
    MapType.XSKMAP: 0,
}


def _redirect(machine: "Machine", ifindex: int, flags: int) -> int:
    """The value is the hook's redirect code; wrong flags give its abort code."""
    xdp = machine.program_type == "xdp"
    if flags & ~(0 if xdp else _INGRESS):
        return _XDP_ABORTED if xdp else _TC_SHOT
    if machine.context.live:
        raise Unsupported("bpf_redirect on a live hook: no interface number is known here")
    machine.recorder.add("redirect", ifindex=ifindex & M32, flags=flags)
    return _XDP_REDIRECT if xdp else _TC_REDIRECT


def _redirect_map(machine: "Machine", address: int, key: int, flags: int) -> int:
    used = machine.map_at(address)
    if not isinstance(used, Targets) or used.place.definition.type not in _MAP_FLAGS:
        raise Fault(f"map {used.place.name} has no redirects")
    if flags & ~(_ACTIONS | _MAP_FLAGS[MapType(used.place.definition.type)]):
        return _XDP_ABORTED
    if key & M32 not in used.targets and not flags & _BROADCAST:
        return flags & _ACTIONS
    machine.recorder.add("redirect_map", map=used.place.name, key=key & M32, flags=flags)
    return _XDP_REDIRECT


def _redirect_peer(machine: "Machine", ifindex: int, flags: int) -> int:
    if flags & ~(_EGRESS if machine.profile.late_helpers else 0):
        return _TC_SHOT
    if machine.context.live:
        raise Unsupported("bpf_redirect_peer on a live hook: no interface number is known here")
    machine.recorder.add("redirect_peer", ifindex=ifindex & M32, flags=flags)
    return _TC_REDIRECT


def _redirect_neigh(machine: "Machine", ifindex: int, data: int, size: int, flags: int) -> int:
    size = signed(size, 32)
    if (size and size < _NEIGHBOUR_BYTES) or flags:
        return _TC_SHOT
    if machine.context.live:
        raise Unsupported("bpf_redirect_neigh on a live hook: no interface number is known here")
    hop = machine.memory.read(data, _NEIGHBOUR_BYTES) if size else b""
    machine.recorder.add("redirect_neigh", hop, ifindex=ifindex & M32)
    return _TC_REDIRECT


def _mtu_of(machine: "Machine", ifindex: int) -> int | None:
    """MTU of an interface, None where there is no such interface."""
    if machine.world.mtus is None:
        raise Unsupported("which interfaces there are is not known: give the world some")
    return machine.world.mtus.get(ifindex & M32)


def _clone_redirect(machine: "Machine", context: int, ifindex: int, flags: int) -> int:
    packet = packet_of(machine, context)
    packet.renew(machine.memory, "bpf_clone_redirect")
    if flags & ~_INGRESS:
        return EINVAL
    if _mtu_of(machine, ifindex) is None:
        return EINVAL
    machine.recorder.add("clone_redirect", packet.frame(), ifindex=ifindex & M32, flags=flags)
    return 0


def _check_mtu(
    machine: "Machine", context: int, ifindex: int, length: int, delta: int, flags: int
) -> int:
    packet, xdp = packet_of(machine, context), machine.program_type == "xdp"
    given = machine.memory.load(length, 4)
    if flags & ~(0 if xdp else _SEGMENTS) or (flags and (delta & M32 or given)):
        return EINVAL
    mtu = _mtu_of(machine, ifindex)
    if mtu is None:
        return ENODEV
    size = given + _ETH_BYTES if given else packet.size_bytes
    machine.memory.store(length, 4, mtu)
    return _FRAG_NEEDED if size + signed(delta, 32) > mtu + _ETH_BYTES else 0


def _fib_lookup(machine: "Machine", context: int, params: int, size: int, flags: int) -> int:
    """Nobody routes here: the world says what the look-up ends in."""
    packet_of(machine, context)
    if size & M32 < _FIB_BYTES:
        return EINVAL
    machine.memory.find(params, _FIB_BYTES, "bpf_fib_lookup")
    if flags & ~(_FIB_LATE if machine.profile.late_helpers else _FIB_FLAGS):
        return EINVAL
    if machine.world.fib_result is None:
        raise Unsupported("routes are not known: give the world a fib_result")
    return machine.world.fib_result


_RECORDED = "recorded"
HELPERS: Table = {
    13: ("bpf_clone_redirect", 3, _clone_redirect, "recorded, to interfaces of the world"),
    23: ("bpf_redirect", 2, _redirect, _RECORDED),
    51: ("bpf_redirect_map", 3, _redirect_map, _RECORDED),
    69: ("bpf_fib_lookup", 4, _fib_lookup, "arguments are checked; the result is the world's"),
    152: ("bpf_redirect_neigh", 4, _redirect_neigh, _RECORDED),
    155: ("bpf_redirect_peer", 2, _redirect_peer, _RECORDED),
    163: ("bpf_check_mtu", 5, _check_mtu, "of interfaces of the world"),
}
