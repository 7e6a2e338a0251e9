# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Legacy packet access: LD_ABS and LD_IND.

Owns what bpf_gen_ld_abs() in net/core/filter.c makes of them: R6 is the context, the value comes
out of network order, and an offset outside the packet ends the function with R0 = 0, before any
other instruction of it. check_ld_abs() in kernel/bpf/verifier.c says where they may stand.
"""

from typing import TYPE_CHECKING

from harness.bpf.isa import Insn
from harness.sim.alu import signed
from harness.sim.signals import EndFunction, Fault

if TYPE_CHECKING:
    from harness.sim.machine import Machine

# SKF_NET_OFF and SKF_LL_OFF of include/uapi/linux/filter.h: before them counts from a header
_NETWORK, _LINK = -0x100000, -0x200000
_SKB_TYPES = frozenset({"tc"})
_CALLBACK = "callback"


def load(machine: "Machine", insn: Insn, context: int, index: int) -> int:
    """Value of R0: `context` is R6, `index` the source register (0 for LD_ABS).

    Raises EndFunction where the packet ends before, Fault where a kernel refuses the instruction.
    """
    if machine.program_type not in _SKB_TYPES:
        raise Fault("BPF_LD_[ABS|IND] instructions not allowed for this program type")
    if _in_callback(machine):
        raise Fault("cannot use BPF_LD_[ABS|IND] within callback")
    packet = machine.context.packet
    if packet is None or context != machine.context.address:
        raise Fault("at the time of BPF_LD_ABS|IND R6 != pointer to skb")
    offset, size = signed(index + insn.imm, 32), insn.size_bytes
    if _NETWORK <= offset < 0:
        offset += packet.network - _NETWORK
    elif _LINK <= offset < _NETWORK:
        offset -= _LINK  # the data of an skb starts with its link header on the tc hooks
    start = packet.start + offset
    if offset < 0 or start + size > packet.end:
        raise EndFunction
    return int.from_bytes(packet.region.data[start : start + size], "big")


# in_callback_fn of the frames up to the program's own.
def _in_callback(machine: "Machine") -> bool:
    for frame in reversed(machine.frames):
        if frame.kind == _CALLBACK:
            return True
        if frame.kind != "subprogram":
            return False
    return False
