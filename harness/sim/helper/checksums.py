# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Checksum helpers (net/core/filter.c, include/net/checksum.h, net/core/utils.c).

Sums are of little-endian words; one's complement addition does not care as long as all are.
A test frame comes without any knowledge of its checksums (CHECKSUM_NONE).
"""

from typing import TYPE_CHECKING

from harness.sim.alu import M32
from harness.sim.errnos import EACCES, EFAULT, EINVAL, ENOTSUPP
from harness.sim.helper import Table
from harness.sim.helper.packet import packet_of
from harness.sim.signals import Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_M16 = 0xFFFF
_SCRATCH_BYTES = 512  # scratch pad of bpf_csum_diff() before v6.13
_SIZE, _PSEUDO, _MANGLED_0, _ENFORCE, _IPV6 = 0xF, 0x10, 0x20, 0x40, 0x80
_INC, _DEC, _RESET, _QUERY = 1, 2, 3, 0
_MAX_LEVEL = 3


def _sum32(data: bytes, seed: int) -> int:
    """csum_partial(): sum of little-endian words with the carries added at the low end."""
    total = seed + sum(int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4))
    while total >> 32:
        total = (total & M32) + (total >> 32)
    return total


def fold(total: int) -> int:
    """Sum of 16 bits, not complemented."""
    while total >> 16:
        total = (total & _M16) + (total >> 16)
    return total


def _csum_diff(
    machine: "Machine", old: int, old_size: int, new: int, new_size: int, seed: int
) -> int:
    """bpf_csum_diff(); only its representation differs between kernels."""
    folds = machine.profile.csum_diff_folds
    if old_size % 4 or new_size % 4 or (not folds and old_size + new_size > _SCRATCH_BYTES):
        return EINVAL
    gone = machine.memory.read(old, old_size) if old_size else b""
    come = machine.memory.read(new, new_size) if new_size else b""
    if not folds:
        return _sum32(bytes(byte ^ 0xFF for byte in gone) + come, seed & M32)
    if come and gone:
        total = _sum32(b"", _sum32(come, seed & M32) + (_sum32(gone, 0) ^ M32))
    elif gone:
        total = _sum32(gone, ~seed & M32) ^ M32
    else:
        total = _sum32(come, seed & M32)
    return fold(total)


def _replaced(csum: int, old: int, new: int) -> int:
    """csum_replace4(): the checksum after a word of the data changed from `old` to `new`."""
    less = _sum32(b"", (~csum & _M16) + (~old & M32))
    return ~fold(_sum32(b"", less + new)) & _M16


def _replaced16(csum: int, old: int, new: int) -> int:
    """csum_replace2()."""
    return ~fold(fold((~csum & _M16) + (~old & _M16)) + new) & _M16


def _by_difference(csum: int, difference: int) -> int:
    """csum_replace_by_diff()."""
    return ~fold(_sum32(b"", difference + (~csum & M32))) & _M16


def _at(machine: "Machine", context: int, offset: int, why: str) -> int | None:
    """Position of a checksum in the packet's region, or None."""
    packet, offset = packet_of(machine, context), offset & M32
    packet.renew(machine.memory, why)
    if offset > _M16 or offset & 1 or offset + 2 > packet.size_bytes:
        return None
    return packet.start + offset


def _change(csum: int, old: int, new: int, size: int, *, wide: bool) -> int | None:
    """The new checksum, or None for a request that is refused. `wide`: words of 32 bits only."""
    if size == 0:
        return None if old else _by_difference(csum, new & M32)
    if size == 2 and not wide:
        return _replaced16(csum, old & _M16, new & _M16)
    if size == 2:
        return _replaced(csum, old & _M16, new & _M16)
    return _replaced(csum, old & M32, new & M32) if size == 4 else None


def _l3_replace(
    machine: "Machine", context: int, offset: int, old: int, new: int, flags: int
) -> int:
    at = _at(machine, context, offset, "bpf_l3_csum_replace")
    if flags & ~_SIZE:
        return EINVAL
    if at is None:
        return EFAULT
    data = packet_of(machine, context).region.data
    changed = _change(int.from_bytes(data[at : at + 2], "little"), old, new, flags, wide=False)
    if changed is None:
        return EINVAL
    data[at : at + 2] = changed.to_bytes(2, "little")
    return 0


def _l4_replace(
    machine: "Machine", context: int, offset: int, old: int, new: int, flags: int
) -> int:
    at = _at(machine, context, offset, "bpf_l4_csum_replace")
    if flags & ~(_SIZE | _PSEUDO | _MANGLED_0 | _ENFORCE | _IPV6):
        return EINVAL
    if at is None:
        return EFAULT
    data = packet_of(machine, context).region.data
    csum = int.from_bytes(data[at : at + 2], "little")
    if flags & _MANGLED_0 and not flags & _ENFORCE and not csum:
        return 0
    changed = _change(csum, old, new, flags & _SIZE, wide=True)
    if changed is None:
        return EINVAL
    if flags & _MANGLED_0 and not changed:
        changed = _M16
    data[at : at + 2] = changed.to_bytes(2, "little")
    return 0


def _update(machine: "Machine", context: int, _csum: int) -> int:
    packet_of(machine, context)
    if machine.context.live:
        raise Unsupported("what an interface knows about a frame's checksum")
    return ENOTSUPP


def _level(machine: "Machine", context: int, level: int) -> int:
    packet = packet_of(machine, context)
    if machine.context.live:
        raise Unsupported("what an interface knows about a frame's checksum")
    if level == _QUERY:
        return EACCES if packet.csum_level is None else packet.csum_level
    if level == _INC:
        packet.csum_level = (
            0 if packet.csum_level is None else min(packet.csum_level + 1, _MAX_LEVEL)
        )
    elif level == _DEC and packet.csum_level is not None:
        packet.csum_level = packet.csum_level - 1 if packet.csum_level else None
    elif level == _RESET:
        packet.csum_level = None
    return 0 if level in (_INC, _DEC, _RESET) else EINVAL


_TEST = "live: unsupported"
HELPERS: Table = {
    10: ("bpf_l3_csum_replace", 5, _l3_replace, ""),
    11: ("bpf_l4_csum_replace", 5, _l4_replace, "as for frames without offloads"),
    28: ("bpf_csum_diff", 5, _csum_diff, "32 bits before 6.13, 16 later"),
    40: ("bpf_csum_update", 2, _update, _TEST),
    135: ("bpf_csum_level", 2, _level, _TEST),
}
