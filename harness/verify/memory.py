# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Loads and stores: what may be accessed through which register.

Source: check_mem_access(), check_mem_region_access() in kernel/bpf/verifier.c,
may_access_direct_pkt_data(). Stack slots are harness.verify.stack's, contexts
harness.verify.contexts'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.bpf.mapdef import MapType
from harness.verify import outside, stack
from harness.verify import registers as r
from harness.verify.prediction import Category
from harness.verify.registers import Reg, scalar, type_name
from harness.verify.tnum import U64, add, const

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.bpf.isa import Insn
    from harness.verify.mapview import MapView
    from harness.verify.walk import Walk

MAX_VAR_OFF: Final = 1 << 29
_REGISTER_BYTES: Final = 8
_NOT_NEGATIVE: Final = "make it unsigned, or exclude negative numbers by a comparison"
# program types that may write into packets
WRITES_PACKET: Final = frozenset({"tc", "xdp", "lwt_xmit", "sk_skb", "sk_msg", "sched_act"})
# program types that may read them directly
READS_PACKET: Final = WRITES_PACKET | {
    "lwt_in", "lwt_out", "lwt_seg6local", "sk_reuseport", "flow_dissector", "cgroup_skb",
}  # fmt: skip


def load(walk: Walk, insn: Insn) -> None:
    """LDX: dst = *(src + off)."""
    base = readable(walk, insn.src)
    writable(walk, insn.dst)
    size = insn.size_bytes
    signed = insn.mode == "memsx"
    value = read(walk, base, insn.src, insn.off, size, signed=signed)
    walk.regs[insn.dst] = cut(walk, value, size, signed=signed)


def store(walk: Walk, insn: Insn, *, immediate: bool) -> None:
    """ST and STX: *(dst + off) = imm or src."""
    value = None if immediate else readable(walk, insn.src)
    base = readable(walk, insn.dst)
    number = insn.imm if immediate else None
    write(walk, base, insn.dst, insn.off, insn.size_bytes, value, number)


def readable(walk: Walk, number: int) -> Reg:
    """A register whose value is used. Rejects one that nobody wrote."""
    reg = walk.regs[number] if number <= 10 else r.UNREADABLE  # R10
    if not reg.type:
        walk.reject(
            Category.REGISTER_TYPE,
            f"R{number} !read_ok",
            errno=13,
            why=f"nobody has written R{number} on this path",
            fix="give it a value on every path that leads here",
        )
    return reg


def writable(walk: Walk, number: int) -> None:
    """Rejects the frame pointer as the destination."""
    if number == 10:  # R10
        walk.reject(Category.REGISTER_TYPE, "frame pointer is read only", errno=13)


def cut(walk: Walk, value: Reg, size: int, *, signed: bool) -> Reg:
    """Only the lowest `size` bytes count, extended with zeroes or the sign."""
    if value.type != r.SCALAR or size == _REGISTER_BYTES:
        return value
    number = value.num
    assert number is not None
    if signed:
        if number.umax < 1 << (8 * size - 1):
            return value
        return scalar(walk.domain.extend(number, 8 * size))
    if number.umax < 1 << 8 * size:
        return value
    return scalar(walk.domain.truncate(number, 8 * size))


# ---- reading ------------------------------------------------------------------------------------


def read(walk: Walk, base: Reg, regno: int, off: int, size: int, *, signed: bool) -> Reg:
    kind, flags = base.type, base.flags
    if kind == r.STACK:
        check_alignment(walk, base, off, size)
        stack.check_bounds(walk, base, regno, off, size, write=False)
        return stack.load(walk, base, off, size)
    if kind == r.MAP_VALUE and not flags & r.MAYBE_NULL:
        return _read_map(walk, base, regno, off, size, signed=signed)
    if kind == r.MAP_KEY:
        check_region(walk, base, regno, off, size, base.what.key_size)
    elif kind == r.MEM and not flags & r.MAYBE_NULL:
        check_region(walk, base, regno, off, size, base.size)
    elif kind == r.CTX:
        return _read_context(walk, base, regno, off, size, signed=signed)
    elif kind in r.PACKETS:
        check_packet(walk, base, regno, off, size)
    elif kind == r.BTF_ID and not flags & r.MAYBE_NULL:
        from harness.verify import btfaccess  # noqa: PLC0415  # a circle otherwise

        return btfaccess.read(walk, base, regno, off, size)
    elif kind == r.ARENA:
        if signed and walk.release < (6, 17):
            walk.unknown("a load from an arena that extends the sign")
    elif kind in r.SOCKETS and not flags & r.MAYBE_NULL:
        from harness.verify import sockets  # noqa: PLC0415  # a circle otherwise

        return sockets.read(walk, base, regno, off, size)
    elif kind in (r.MAP_PTR, r.BUF, r.TP_BUFFER, r.FLOW_KEYS) and not flags & r.MAYBE_NULL:
        walk.unknown(f"a load through {type_name(base)}")
    else:
        invalid(walk, base, regno)
    return scalar(walk.domain.unknown)


def invalid(walk: Walk, base: Reg, regno: int) -> None:
    """Reject the dereference of what is no pointer, or may be NULL."""
    name = type_name(base)
    why = f"R{regno} is {'a number' if base.type == r.SCALAR else name}"
    fix = "compare it with NULL first" if base.flags & r.MAYBE_NULL else ""
    walk.reject(
        Category.REGISTER_TYPE, f"R{regno} invalid mem access '{name}'", errno=13, why=why, fix=fix
    )


def _read_map(walk: Walk, base: Reg, regno: int, off: int, size: int, *, signed: bool) -> Reg:
    view: MapView = base.what
    if view.write_only:
        walk.reject(
            Category.MEMORY,
            f"read from map forbidden, value_size={view.value_size} off={off} size={size}",
            errno=13,
        )
    check_map(walk, base, regno, off, size)
    if base.num is None:
        at = base.off + off
        if view.special_at(at) == "kptr":
            walk.unknown("a load of a kptr")
        if view.content is not None and not view.write_only:
            value = int.from_bytes(view.content[at : at + size], "little", signed=signed)
            return scalar(walk.domain.known(value))
    return scalar(walk.domain.unknown)


def _read_context(walk: Walk, base: Reg, regno: int, off: int, size: int, *, signed: bool) -> Reg:
    from harness.verify import context_access  # noqa: PLC0415  # a circle otherwise

    return context_access.read(walk, base, regno, off, size, signed=signed)


# ---- writing ------------------------------------------------------------------------------------


def write(
    walk: Walk, base: Reg, regno: int, off: int, size: int, value: Reg | None, number: int | None
) -> None:
    """Store `value`, or the constant `number`, or (both None) anything."""
    if base.type == r.STACK:
        check_alignment(walk, base, off, size)
        stack.check_bounds(walk, base, regno, off, size, write=True)
        stack.store(walk, base, off, size, value, number)
        return
    check = _WRITES.get(base.type)
    if check is None or base.flags & r.MAYBE_NULL:
        invalid(walk, base, regno)
    else:
        check(walk, base, regno, off, size)


def _write_map(walk: Walk, base: Reg, regno: int, off: int, size: int) -> None:
    view: MapView = base.what
    if view.read_only:
        walk.reject(
            Category.MEMORY,
            f"write into map forbidden, value_size={view.value_size} off={base.off + off} "
            f"size={size}",
            errno=13,
        )
    check_map(walk, base, regno, off, size)
    if base.num is None and view.special_at(base.off + off) == "kptr":
        walk.unknown("a store into a kptr")


def _write_memory(walk: Walk, base: Reg, regno: int, off: int, size: int) -> None:
    if base.flags & r.RDONLY:
        walk.reject(Category.MEMORY, f"R{regno} cannot write into {type_name(base)}", errno=13)
    check_region(walk, base, regno, off, size, base.size)


def _write_packet(walk: Walk, base: Reg, regno: int, off: int, size: int) -> None:
    if walk.kind not in WRITES_PACKET:
        walk.reject(Category.MEMORY, "cannot write into packet", errno=13)
    check_packet(walk, base, regno, off, size)


def _write_context(walk: Walk, base: Reg, regno: int, off: int, size: int) -> None:
    from harness.verify import context_access  # noqa: PLC0415  # a circle otherwise

    context_access.write(walk, base, regno, off, size)


def _write_object(walk: Walk, base: Reg, regno: int, off: int, size: int) -> None:
    from harness.verify import btfaccess  # noqa: PLC0415  # a circle otherwise

    btfaccess.write(walk, base, regno, off, size)


def _write_anything(_walk: Walk, _base: Reg, _regno: int, _off: int, _size: int) -> None:
    """Arenas have pages or faults, and no bounds."""


def _write_key(walk: Walk, _base: Reg, regno: int, _off: int, _size: int) -> None:
    walk.reject(Category.MEMORY, f"write to change key R{regno} not allowed", errno=13)


def _write_socket(walk: Walk, base: Reg, regno: int, _off: int, _size: int) -> None:
    walk.reject(Category.MEMORY, f"R{regno} cannot write into {type_name(base)}", errno=13)


def _write_other(walk: Walk, base: Reg, _regno: int, _off: int, _size: int) -> None:
    walk.unknown(f"a store through {type_name(base)}")


_WRITES: Final[dict[int, Callable[[Walk, Reg, int, int, int], None]]] = {
    r.MAP_VALUE: _write_map,
    r.MEM: _write_memory,
    r.CTX: _write_context,
    r.BTF_ID: _write_object,
    r.ARENA: _write_anything,
    r.MAP_KEY: _write_key,
    **dict.fromkeys(r.PACKETS, _write_packet),
    **dict.fromkeys(r.SOCKETS, _write_socket),
    **dict.fromkeys((r.MAP_PTR, r.BUF, r.TP_BUFFER, r.FLOW_KEYS), _write_other),
}


# ---- bounds -------------------------------------------------------------------------------------


# words for what must be aligned in front of "access"
_ALIGNED: Final = {
    r.STACK: "stack ", r.MAP_VALUE: "value ", r.MAP_KEY: "key ", r.CTX: "context ",
}  # fmt: skip


def check_alignment(walk: Walk, base: Reg, off: int, size: int) -> None:
    """check_ptr_alignment(): of stacks always, of the rest for atomics and some arguments."""
    if base.type == r.ARENA:
        return
    at = base.off + off
    aligned = (
        not at % size if base.num is None else add(base.num.tnum, const(at & U64)).aligned(size)
    )
    if not aligned:
        walk.reject(
            Category.MEMORY,
            f"misaligned {_ALIGNED.get(base.type, '')}access off {{{{.*}}}} size {size}",
            errno=13,
        )


def check_region(
    walk: Walk, base: Reg, regno: int, off: int, size: int, limit: int, *, zero_size: bool = False
) -> None:
    """check_mem_region_access(): [offset, offset + size) lies in [0, limit) for every offset."""
    at = base.off + off
    number = base.num
    late = walk.release >= (7, 0)
    low = at if number is None else number.smin + at
    # of the register alone: before 7.0 its fixed offset is not part of it
    smallest = (0 if number is None else number.smin) + (base.off if late else 0)
    if smallest < 0 and low < 0:
        walk.reject(
            Category.MEMORY,
            f"R{regno} min value is negative, either use unsigned index or do a if (index >=0) "
            "check.",
            errno=13,
            why=f"the offset may be {low}",
            fix=_NOT_NEGATIVE,
        )
    _inside(walk, base, regno, low, size, limit, zero_size, "min")
    if number is None:
        return
    if number.umax + (base.off if late else 0) >= MAX_VAR_OFF:
        walk.reject(
            Category.MEMORY,
            f"R{regno} unbounded memory access, make sure to bounds check any such access",
            errno=13,
            why="nothing on this path says how large the offset may be",
            fix="compare it with the size first, or assert that it is in range",
        )
    _inside(walk, base, regno, number.umax + at, size, limit, zero_size, "max")


def _inside(  # noqa: PLR0913, PLR0917  # one access
    walk: Walk, base: Reg, regno: int, at: int, size: int, limit: int, zero_size: bool, which: str
) -> None:
    if at < 0 or (size <= 0 and not (zero_size and size == 0)) or at + size > limit:
        ends = f"{{{{[\\s\\S]*}}}}R{regno} {which} value is outside of the allowed memory range"
        _outside(walk, base, regno, at, size, limit, ends if which else "")


def _outside(  # one access
    walk: Walk, base: Reg, regno: int, at: int, size: int, limit: int, ends: str
) -> None:
    if base.type == r.MAP_VALUE:
        words = f"invalid access to map value, value_size={limit} off={at} size={size}"
    elif base.type == r.MAP_KEY:
        words = f"invalid access to map key, key_size={limit} off={at} size={size}"
    elif base.type in r.PACKETS:
        words = f"invalid access to packet, off={at} size={size}, R{regno}(id={{{{.*}}}}r={limit})"
    elif base.type == r.CTX:
        words = f"invalid access to context, ctx_size={limit} off={at} size={size}"
    else:
        words = f"invalid access to memory, mem_size={limit} off={at} size={size}"
    why, fix = outside.words(base, regno, at, size, limit)
    walk.reject(Category.MEMORY, words + ends, errno=13, why=why, fix=fix)


def check_packet(
    walk: Walk, base: Reg, regno: int, off: int, size: int, *, zero_size: bool = False
) -> None:
    """check_packet_access(): within what a comparison with the packet's end has shown."""
    if base.range < 0:
        walk.reject(Category.MEMORY, f"R{regno} offset is outside of the packet", errno=22)
    number = base.num
    if walk.release >= (7, 0):
        check_region(walk, base, regno, off, size, base.range, zero_size=zero_size)
        return
    at = base.off + off
    if number is not None and number.smin < 0:
        walk.reject(
            Category.MEMORY,
            f"R{regno} min value is negative, either use unsigned index or do a if (index >=0) "
            "check.",
            errno=13,
            why=f"what was added to R{regno} may be {number.smin}",
            fix=_NOT_NEGATIVE,
        )
    _inside(walk, base, regno, at, size, base.range, zero_size, "")


def check_map(
    walk: Walk, base: Reg, regno: int, off: int, size: int, *, zero_size: bool = False,
    helper: bool = False,
) -> None:  # fmt: skip
    """check_map_access(): in the value, and not in a lock, list or timer."""
    view: MapView = base.what
    if view.type == MapType.ARENA:
        walk.unknown("an access to an arena as a map's value")
    check_region(walk, base, regno, off, size, view.value_size, zero_size=zero_size)
    if not view.special:
        return
    low, high = stack.offsets(base, off)
    for kind, start, length in view.special:
        if not (low < start + length and start < high + size):
            continue
        if kind == "kptr":
            if helper:
                walk.reject(
                    Category.MEMORY, "kptr cannot be accessed indirectly by helper", errno=13
                )
            continue
        walk.reject(Category.MEMORY, f"{kind} cannot be accessed directly by load/store", errno=13)
