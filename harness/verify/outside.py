# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Why an access is outside of what it goes to, and which bound would keep it in: words only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import registers as r

if TYPE_CHECKING:
    from harness.verify.registers import Reg

# MAX_PACKET_OFF
_FARTHEST: Final = 0xFFFF


def words(base: Reg, regno: int, at: int, size: int, limit: int) -> tuple[str, str]:
    """Why and fix of an access of `size` bytes at byte `at` through `base`, R`regno`.

    `limit`: bytes that are there, or that are known to be in the packet.
    """
    if at < 0:
        why = f"the access may begin {-at} bytes in front of what R{regno} points into"
        return why, "make the offset unsigned, or exclude negative ones by a comparison"
    if base.type in r.PACKETS:
        return _packet(base, regno, at, size, limit)
    why = f"the access may end at byte {at + size}, and there are {limit}"
    if base.num is None:
        return why, f"stay within the {limit} bytes"
    why += f": what was added to R{regno} may be as large as {base.num.umax}"
    room = limit - size - (at - base.num.umax)
    if room < 0:
        return why, f"even an offset of 0 is too large for the {limit} bytes"
    return why, f"compare what is added with {room} before, its largest value that is in range"


def _packet(base: Reg, regno: int, at: int, size: int, limit: int) -> tuple[str, str]:
    end = at + size
    if limit > 0:
        why = f"{limit} bytes are known to be in the packet, and the access ends at byte {end}"
        return why, f"compare with data_end for {end} bytes instead of {limit}"
    if base.type == r.PACKET_META:
        why = f"no comparison with data on this path is about the pointer in R{regno}"
        return why, f"compare data_meta plus {end} with data, not with data_end"
    why = f"no comparison with data_end on this path is about the pointer in R{regno}"
    if base.num is None:
        return why, f"compare this pointer plus {end} with data_end before, and use no other"
    farthest = base.num.umax
    if farthest + end > _FARTHEST:
        why = (
            f"what was added to the pointer in R{regno} may be as large as {farthest}, and where "
            f"it may lie more than {_FARTHEST} bytes from the start a comparison with data_end "
            "shows nothing"
        )
        return why, "limit what is added first (assert that it is below 1500), and compare then"
    why += ", or a copy of it: what is compared must have the same variable part"
    return why, f"compare this pointer plus {end} with data_end before, and use no other"
