# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is known about one register: its type, and by type a number, an offset, a size, an origin.

A Reg is never changed once a state holds it: states share registers, a change makes a new one.
Source: struct bpf_reg_state in include/linux/bpf_verifier.h, reg_type_str() in kernel/bpf/log.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from harness.verify.scalar import Scalar

# types of registers; a pointer that may be NULL is one with the flag MAYBE_NULL
NOT_INIT: Final = 0
SCALAR: Final = 1
CTX: Final = 2
MAP_PTR: Final = 3
MAP_VALUE: Final = 4
MAP_KEY: Final = 5
STACK: Final = 6
PACKET_META: Final = 7
PACKET: Final = 8
PACKET_END: Final = 9
FLOW_KEYS: Final = 10
SOCKET: Final = 11
SOCK_COMMON: Final = 12
TCP_SOCK: Final = 13
TP_BUFFER: Final = 14
XDP_SOCK: Final = 15
BTF_ID: Final = 16
MEM: Final = 17
BUF: Final = 18
ARENA: Final = 19
FUNC: Final = 20
DYNPTR: Final = 21
NAMES: Final = (
    "?", "scalar", "ctx", "map_ptr", "map_value", "map_key", "fp", "pkt_meta", "pkt", "pkt_end",
    "flow_keys", "sock", "sock_common", "tcp_sock", "tp_buffer", "xdp_sock", "ptr_", "mem", "buf",
    "arena", "func", "dynptr_ptr",
)  # fmt: skip
PACKETS: Final = frozenset({PACKET, PACKET_META})
PACKETS_AND_END: Final = frozenset({PACKET, PACKET_META, PACKET_END})
SOCKETS: Final = frozenset({SOCKET, SOCK_COMMON, TCP_SOCK, XDP_SOCK})

# flags
MAYBE_NULL: Final = 1
RDONLY: Final = 2
RINGBUF: Final = 4
ALLOC: Final = 8
NON_OWNING: Final = 16
RCU: Final = 32
TRUSTED: Final = 64
UNTRUSTED: Final = 128
PERCPU: Final = 256
USER: Final = 512
_PREFIXES: Final = (
    (RDONLY, "rdonly_"), (RINGBUF, "ringbuf_"), (USER, "user_"), (PERCPU, "percpu_"),
    (RCU, "rcu_"), (UNTRUSTED, "untrusted_"), (TRUSTED, "trusted_"),
)  # fmt: skip

# `range` of a packet pointer behind a comparison with the end: nothing may be accessed
AT_END: Final = -1
BEYOND_END: Final = -2


class Reg:
    """A register, or what a spill of one left in a stack slot."""

    __slots__ = (
        "delta", "flags", "id", "num", "off", "precise", "range", "ref", "size", "type", "what",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913  # a record: made in the hot path
        self,
        type: int,  # noqa: A002  # the verifier's word
        num: Scalar | None = None,
        *,
        off: int = 0,
        what: Any = None,
        flags: int = 0,
        id: int = 0,  # noqa: A002  # the verifier's word
        ref: int = 0,
        size: int = 0,
        range: int = 0,  # noqa: A002  # the verifier's word
        delta: int | None = None,
    ) -> None:
        self.type = type
        # of a scalar: its value; of a pointer: the variable part of its offset, None: there is none
        self.num = num
        # of a pointer: the fixed part of its offset, bytes
        self.off = off
        # of a map pointer, key or value: the map; of a stack pointer: number of the frame; of a
        # function: its first instruction; of a BTF pointer: (types, type id)
        self.what = what
        self.flags = flags
        # registers with the same number are copies of each other, or of the same origin
        self.id = id
        # number of the reference that it holds or came with
        self.ref = ref
        # of memory: bytes
        self.size = size
        # of a packet pointer: bytes behind it that are known to be in the packet
        self.range = range
        # of a scalar: a constant more than its id's number (linked registers); None: the same
        self.delta = delta
        self.precise = False

    def copy(self) -> Reg:
        """A register like it, to be changed before anyone else sees it."""
        new = Reg.__new__(Reg)
        new.type = self.type
        new.num = self.num
        new.off = self.off
        new.what = self.what
        new.flags = self.flags
        new.id = self.id
        new.ref = self.ref
        new.size = self.size
        new.range = self.range
        new.delta = self.delta
        new.precise = self.precise
        return new

    @property
    def const(self) -> int | None:
        """The unsigned value of a scalar that has only one."""
        number = self.num
        if self.type != SCALAR or number is None or number.tnum.mask:
            return None
        return number.tnum.value

    @property
    def maybe_null(self) -> bool:
        """Whether it is a pointer that nobody compared with NULL yet."""
        return bool(self.flags & MAYBE_NULL)

    def __repr__(self) -> str:
        """As the kernel's log would have it, about."""
        return describe(self)


UNREADABLE: Final = Reg(NOT_INIT)


def scalar(number: Scalar) -> Reg:
    """A number."""
    new = Reg.__new__(Reg)
    new.type = SCALAR
    new.num = number
    new.off = new.flags = new.id = new.ref = new.size = new.range = 0
    new.what = new.delta = None
    new.precise = False
    return new


def type_name(reg: Reg) -> str:
    """reg_type_str(): "map_value_or_null", "ringbuf_mem"."""
    name = NAMES[reg.type]
    if reg.flags & MAYBE_NULL:
        name += "or_null_" if reg.type == BTF_ID else "_or_null"
    return "".join(word for flag, word in _PREFIXES if reg.flags & flag) + name


def describe(reg: Reg) -> str:
    """What is known about it, as in the kernel's log: "map_value(off=4,ks=4,vs=8)"."""
    if reg.type == NOT_INIT:
        return "?"
    if reg.type == SCALAR:
        number = str(reg.num)
        return f"({number})" if ", " in number else number
    inside = [f"off={reg.off}"] if reg.off else []
    if reg.type in PACKETS:
        inside.append(f"r={reg.range}")
    if reg.type == MEM:
        inside.append(f"sz={reg.size}")
    if reg.type in (MAP_PTR, MAP_VALUE, MAP_KEY):
        inside.append(f"map={getattr(reg.what, 'name', '')}")
    if reg.num is not None:
        inside.append(f"var={reg.num}")
    return type_name(reg) + (f"({','.join(inside)})" if inside else "()")


def register_names(frame_regs: list[Reg]) -> str:
    """All registers that can be read, for a derivation: "R1=ctx() R10=fp()"."""
    known = (f"R{i}={describe(reg)}" for i, reg in enumerate(frame_regs) if reg.type != NOT_INIT)
    return " ".join(known)
