# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Memory that a call reads or writes through an argument: is all of it there?

Source: check_helper_mem_access(), check_stack_range_initialized(), check_mem_size_reg(),
check_func_arg_reg_off() in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import memory, stack
from harness.verify import registers as r
from harness.verify.frames import EMPTY, SPECIAL, SPILL
from harness.verify.prediction import Category
from harness.verify.registers import Reg, type_name

if TYPE_CHECKING:
    from harness.verify.walk import Walk

MAX_SIZE: Final = 1 << 29
_LARGEST_CONTEXT: Final = 0xFFFF
# what a fixed and a variable offset may be added to before it is passed
_MOVABLE: Final = frozenset({
    r.STACK, r.PACKET, r.PACKET_META, r.MAP_KEY, r.MAP_VALUE, r.MEM, r.BUF, r.ARENA, r.SCALAR,
})  # fmt: skip


def access(
    walk: Walk, reg: Reg, regno: int, size: int, *, write: bool, zero_size: bool = False,
    raw: bool = False,
) -> None:  # fmt: skip
    """`size` bytes behind `reg` are read or written by a call. `raw`: written before read."""
    kind, flags = reg.type, reg.flags
    null = flags & r.MAYBE_NULL
    if kind in r.PACKETS and not null:
        memory.check_packet(walk, reg, regno, 0, size, zero_size=zero_size)
    elif kind == r.MAP_KEY and not null:
        if write:
            _read_only(walk, reg, regno)
        memory.check_region(walk, reg, regno, 0, size, reg.what.key_size)
    elif kind == r.MAP_VALUE and not null:
        _check_map_rights(walk, reg, size, write=write)
        memory.check_map(walk, reg, regno, 0, size, zero_size=zero_size, helper=True)
    elif kind == r.MEM:
        if write and flags & r.RDONLY:
            _read_only(walk, reg, regno)
        memory.check_region(walk, reg, regno, 0, size, reg.size, zero_size=zero_size)
    elif kind == r.STACK:
        _stack(walk, reg, regno, size, write=write, zero_size=zero_size, raw=raw)
    elif kind == r.BTF_ID and not null:
        from harness.verify import btfaccess  # noqa: PLC0415  # a circle otherwise

        btfaccess.read(walk, reg, regno, 0, size)
    elif kind == r.BUF and not null:
        walk.unknown(f"a call that accesses {type_name(reg)}")
    elif kind == r.CTX and not null and walk.kind == "syscall":
        if walk.release >= (7, 0):
            memory.check_region(walk, reg, regno, 0, size, _LARGEST_CONTEXT, zero_size=zero_size)
    else:
        _unexpected(walk, reg, regno, size, zero_size=zero_size)


def _unexpected(walk: Walk, reg: Reg, regno: int, size: int, *, zero_size: bool) -> None:
    if zero_size and not size and reg.const == 0:
        return
    walk.reject(
        Category.CALL_TYPE,
        f"R{regno} type={type_name(reg)} expected=fp",
        errno=13,
        why=f"R{regno} must point to memory",
    )


def _read_only(walk: Walk, reg: Reg, regno: int) -> None:
    walk.reject(Category.MEMORY, f"R{regno} cannot write into {type_name(reg)}", errno=13)


def _check_map_rights(walk: Walk, reg: Reg, size: int, *, write: bool) -> None:
    view = reg.what
    if (write and view.read_only) or (not write and view.write_only):
        what = "write into" if write else "read from"
        walk.reject(
            Category.MEMORY,
            f"{what} map forbidden, value_size={view.value_size} off={reg.off} size={size}",
            errno=13,
        )


def _stack(  # one access
    walk: Walk, reg: Reg, regno: int, size: int, *, write: bool, zero_size: bool, raw: bool
) -> None:
    if not size and not zero_size:
        walk.reject(Category.MEMORY, "invalid zero-sized read", errno=13)
    writes = write or walk.release < (6, 14)
    stack.check_bounds(walk, reg, regno, 0, size, write=writes, helper=True)
    frame = walk.state.frames[reg.what]
    low, high = stack.offsets(reg, 0)
    if not size:
        return
    for at in range(low, high + size):
        slot = frame.stack.get(at >> 3, EMPTY)
        kind = slot.kinds[at & 7]
        if kind == SPILL and slot.reg is None:
            walk.unknown("a call that reads or writes what is left of a spill")
        if kind == "D" and raw and walk.release >= (7, 0):
            walk.unknown("a call that writes into a dynptr's stack slot")
        if kind == "D" or (kind in SPECIAL and not raw):
            walk.reject(
                Category.MEMORY,
                f"{{{{.*}}}}read from stack R{regno} off {low}+{at - low} size {size}"
                if not raw
                else f"potential write to dynptr at off={at} disallowed",
                errno=13,
            )
    # before 6.14 even what is only read counts as written
    if writes:
        stack.clobber(frame, low, high + size)


def sized(
    walk: Walk, reg: Reg, size: Reg, regno: int, *, write: bool, zero_size: bool, raw: bool = False
) -> None:
    """Memory in register `regno` whose size the next register has."""
    number = size.num
    if size.type != r.SCALAR or number is None:
        walk.reject(
            Category.CALL_TYPE,
            f"R{regno + 1} type={type_name(size)} expected=scalar",
            errno=13,
        )
    if number.smin < 0:
        walk.reject(
            Category.MEMORY,
            f"R{regno + 1} min value is negative, either use unsigned or 'var &= const'",
            errno=13,
            why="the size may be negative",
        )
    if number.umin == 0 and not zero_size:
        walk.reject(
            Category.MEMORY,
            f"R{regno + 1} invalid zero-sized read: u64=[{number.umin},{number.umax}]",
            errno=13,
            why="the size may be 0",
        )
    if number.umax >= MAX_SIZE:
        walk.reject(
            Category.MEMORY,
            f"R{regno + 1} unbounded memory access, use 'var &= const' or 'if (var < const)'",
            errno=13,
            why="nothing on this path limits the size",
            fix="compare it with a constant first, or assert that it is in range",
        )
    raw = raw and not number.tnum.mask
    access(walk, reg, regno, number.umax, write=write, zero_size=zero_size, raw=raw)


def check_fixed(walk: Walk, reg: Reg, regno: int) -> None:
    """__check_ptr_off_reg(): an argument that may not be moved."""
    name = type_name(reg)
    if reg.num is not None and (walk.release >= (7, 0) or not reg.off):
        words = f"variable {name} access var_off={{{{.*}}}} disallowed"
        walk.reject(Category.CALL_TYPE, words, errno=13)
    if reg.off < 0:
        words = f"negative offset {name} ptr R{regno} off={reg.off} disallowed"
        walk.reject(Category.CALL_TYPE, words, errno=13)
    if reg.off:
        words = f"dereference of modified {name} ptr R{regno} off={reg.off} disallowed"
        walk.reject(Category.CALL_TYPE, words, errno=13)


def check_number(walk: Walk, regno: int) -> Reg:
    """An argument of a kernel function that must be a number."""
    reg = walk.regs[regno]
    if reg.type != r.SCALAR:
        if walk.release >= (7, 0):
            _check_moved(walk, reg, regno)
        walk.reject(
            Category.CALL_TYPE,
            f"R{regno} is not a scalar",
            why=f"R{regno} must be a number: a pointer would leak an address"
            if reg.type
            else f"nobody has given R{regno} a value",
            fix="pass a number",
        )
    return reg


def check_kernel_pointer(walk: Walk, regno: int) -> None:
    """What is said of a pointer for a kernel function before its type is looked at."""
    reg = walk.regs[regno]
    if walk.release >= (7, 0) and (reg.const == 0 or reg.flags & r.MAYBE_NULL):
        walk.reject(
            Category.CALL_TYPE,
            f"Possibly NULL pointer passed to trusted R{regno}",
            errno=13,
            why=f"R{regno} may be NULL here",
            fix="compare it with NULL first",
        )
    _check_moved(walk, reg, regno)


def _check_moved(walk: Walk, reg: Reg, regno: int) -> None:
    """__check_func_arg_reg_off()."""
    if not reg.type:
        walk.reject(
            Category.REGISTER_TYPE,
            "variable ? access var_off={{.*}} disallowed",
            errno=13,
            why=f"nobody has written R{regno} on this path",
            fix="give it a value on every path that leads here",
        )
    movable = reg.type in _MOVABLE and not reg.flags & r.MAYBE_NULL
    if movable or (reg.type == r.CTX and walk.kind == "syscall"):
        return
    if reg.type == r.BTF_ID and reg.num is None and reg.off >= 0:
        return
    check_fixed(walk, reg, regno)
