# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Arguments of helpers: do the registers have what the prototype asks for?

Source: check_func_arg(), check_reg_type(), check_func_arg_reg_off() in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from harness.bpf.mapdef import MapType
from harness.verify import dynptrs, helpermem, locks, objects
from harness.verify import registers as r
from harness.verify.frames import EMPTY, SPILL, ZERO
from harness.verify.memory import READS_PACKET, WRITES_PACKET, check_alignment, readable
from harness.verify.prediction import Category
from harness.verify.registers import type_name

if TYPE_CHECKING:
    from harness.verify.frames import Frame
    from harness.verify.mapview import MapView
    from harness.verify.prototypes import Arg, Prototype
    from harness.verify.registers import Reg
    from harness.verify.walk import Walk

_MEMORY: Final = frozenset({r.STACK, r.PACKET, r.PACKET_META, r.MAP_KEY, r.MAP_VALUE, r.MEM, r.BUF})
# record_func_map()
_WRITES_MAP: Final = frozenset({
    "map_update_elem", "map_delete_elem", "map_push_elem", "map_pop_elem",
})  # fmt: skip
# kind of an argument -> types of registers that may be passed
_TYPES: Final[dict[str, frozenset[int]]] = {
    "scalar": frozenset({r.SCALAR}),
    "size": frozenset({r.SCALAR}),
    "size0": frozenset({r.SCALAR}),
    "alloc_size0": frozenset({r.SCALAR}),
    "ctx": frozenset({r.CTX}),
    "map": frozenset({r.MAP_PTR}),
    "key": _MEMORY,
    "value": _MEMORY,
    "mem": _MEMORY,
    "stack": frozenset({r.STACK}),
    "func": frozenset({r.FUNC}),
    "lock": frozenset({r.MAP_VALUE, r.BTF_ID}),
    "str": frozenset({r.MAP_VALUE}),
    "timer": frozenset({r.MAP_VALUE}),
    "sock_common": r.SOCKETS,
    "btf_sock": r.SOCKETS | {r.BTF_ID},
    "kptr": frozenset({r.MAP_VALUE}),
    "btf": frozenset({r.BTF_ID}),
    "ringbuf": frozenset({r.MEM}),
}
_EXPECTED: Final = {
    "sock_common": "sock_common", "btf_sock": "sock_common", "kptr": "map_value", "btf": "ptr_",
    "scalar": "scalar", "size": "scalar", "size0": "scalar", "alloc_size0": "scalar", "ctx": "ctx",
    "map": "map_ptr", "key": "fp", "value": "fp", "mem": "fp", "stack": "fp", "func": "func",
    "lock": "map_value", "str": "map_value", "timer": "map_value", "ringbuf": "ringbuf_mem",
}  # fmt: skip
_ARRAYS: Final = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})


@dataclass(slots=True)
class Passed:
    """What the arguments of one call came to."""

    map: MapView | None = None
    # bytes of a reservation
    size: int = 0
    # index of the function to call back
    function: int | None = None
    # the reference that one argument has, and the register whose reference ends here
    ref: int = 0
    released: int = 0
    # the map whose values have the timer
    timer: MapView | None = None
    # register with a dynptr
    dynptr: int = 0
    # type of the object that a kptr may hold
    kept: int = 0
    # the key of an array, where it is known
    key: int | None = None
    # largest size of memory that was passed
    largest: int = 0
    # (register, bytes) that the helper fills
    filled: list[tuple[int, int]] = field(default_factory=list)


def check(walk: Walk, proto: Prototype) -> Passed:
    """All arguments in their order. Rejects."""
    passed = Passed()
    for number, arg in enumerate(proto.args, 1):
        _check(walk, proto, number, arg, passed)
    if passed.map is not None and passed.map.read_only and proto.name in _WRITES_MAP:
        walk.reject(
            Category.MEMORY,
            "write into map forbidden",
            errno=13,
            why=f"programs may only read the map {passed.map.name}",
            fix="write it from user space",
        )
    return passed


def _check(walk: Walk, proto: Prototype, number: int, arg: Arg, passed: Passed) -> None:
    reg = readable(walk, number)
    if arg.kind == "any":
        return
    if reg.type in r.PACKETS_AND_END and not _may_pass_packet(walk, proto):
        walk.reject(Category.CALL_TYPE, "helper access to the packet is not allowed", errno=13)
    if passed.map is not None and passed.map.type in _SOCKETS_IN:
        walk.unknown(f"{proto.name} of a {MapType(passed.map.type).name.lower()}")
    if arg.kind == "dynptr":
        dynptrs.check(walk, number, arg, reg)
        passed.dynptr = number
        return
    if arg.null and reg.const == 0:
        _check_kind(walk, proto, number, arg, reg, passed)
        return
    _check_type(walk, number, arg, reg)
    _check_offset(walk, number, arg, reg)
    if "release" in arg.flags:
        if not reg.ref:
            walk.reject(
                Category.RESOURCE_LIFETIME,
                f"release helper bpf_{proto.name} expects referenced PTR_TO_BTF_ID passed to "
                f"R{number}"
                if walk.release >= (7, 0)
                else f"R{number} must be referenced when passed to release function",
                why=f"R{number} holds no reference",
            )
        passed.released = number
    if reg.ref:
        if passed.ref:
            walk.unknown("two arguments with references")
        passed.ref = reg.ref
    _check_kind(walk, proto, number, arg, reg, passed)


# which types of programs may change these is a table of its own (may_update_sockmap())
_SOCKETS_IN: Final = frozenset({MapType.SOCKMAP, MapType.SOCKHASH})


def _may_pass_packet(walk: Walk, proto: Prototype) -> bool:
    return walk.kind in READS_PACKET and (proto.packet or walk.kind not in WRITES_PACKET)


def _check_type(walk: Walk, number: int, arg: Arg, reg: Reg) -> None:
    types = _TYPES.get(arg.kind)
    if types is None:
        walk.unknown(f"an argument of kind {arg.kind}")
    wrong = reg.type not in types and not _is_context_as_memory(walk, arg, reg)
    if reg.flags & r.MAYBE_NULL and not (arg.null and not wrong):
        wrong = True
    if arg.kind == "ringbuf" and not reg.flags & r.RINGBUF:
        wrong = True
    if reg.type == r.MEM and reg.flags & r.RDONLY and arg.kind in ("mem", "value") and arg.writes:
        wrong = True
    if arg.kind in ("btf", "btf_sock") and (reg.type == r.BTF_ID or arg.kind == "btf"):
        own = arg.what == "*" and reg.type == r.BTF_ID and reg.flags == r.ALLOC
        if not own and not _is_kernels(arg, reg):
            walk.unknown(f"{type_name(reg)} passed as a kernel's object")
        return
    if not wrong:
        return
    if reg.type == r.BTF_ID and arg.kind == "kptr" and reg.flags & r.ALLOC:
        walk.unknown("an object of the program as the place of a kptr")
    if reg.type == r.BTF_ID and arg.kind in ("mem", "key", "value", "lock"):
        walk.unknown(f"{type_name(reg)} passed as memory")
    expected = _expected(walk, arg)
    walk.reject(
        Category.CALL_TYPE,
        f"R{number} type={type_name(reg)} expected={expected}",
        errno=13,
        why=f"argument {number} of the call is {type_name(reg)}, and is to be "
        + _IN_WORDS.get(expected, expected),
        fix=_remedy(reg, expected),
    )


def _remedy(reg: Reg, expected: str) -> str:
    if reg.flags & r.MAYBE_NULL:
        return "compare it with NULL first"
    if expected == "fp":
        return "put it into a variable on the stack, and pass the address of that"
    return "pass what is asked for"


def _constant_size(walk: Walk, reg: Reg, number: int) -> int:
    """How much is to be reserved. Rejects what is not the same on every path."""
    late = walk.release >= (7, 0)
    if reg.const is None:
        words = f"R{number} is not a const" if late else f"R{number} is not a known constant'"
        walk.reject(
            Category.CALL_TYPE,
            words,
            errno=22 if late else 13,
            why="how much is reserved must be known when the program is loaded",
            fix="reserve the largest size; bpf_ringbuf_output() takes one that varies",
        )
    if late and reg.const >> 32:
        walk.reject(Category.CALL_TYPE, f"R{number} allocation size exceeds u32 max")
    return reg.const


_IN_WORDS = {"fp": "a pointer into the stack", "scalar": "a number", "ctx": "the context"}


def _is_kernels(arg: Arg, reg: Reg) -> bool:
    """An object of the kernel, of the very type that is wanted."""
    whole = reg.type == r.BTF_ID and not reg.off and reg.num is None
    return whole and reg.flags == r.TRUSTED and reg.what == ("kernel", f"btf:{arg.what}")


def _expected(walk: Walk, arg: Arg) -> str:
    late = arg.kind == "kptr" and walk.release >= (7, 0)
    return _EXPECTED[arg.kind] + (", ptr_, ptr_" if late else "")


def _is_context_as_memory(walk: Walk, arg: Arg, reg: Reg) -> bool:
    """7.3 takes a context for memory first, and refuses it where it is not a system call's."""
    return walk.release >= (7, 0) and reg.type == r.CTX and _TYPES[arg.kind] is _MEMORY


def _check_offset(walk: Walk, number: int, arg: Arg, reg: Reg) -> None:
    """check_func_arg_reg_off(): memory may be moved, other pointers may not."""
    if "release" in arg.flags:
        if reg.off:
            walk.reject(
                Category.CALL_TYPE,
                f"R{number} must have zero offset when passed to release func",
            )
        helpermem.check_fixed(walk, reg, number)
    elif reg.type == r.BTF_ID:
        if reg.num is not None:
            helpermem.check_fixed(walk, reg, number)
    elif walk.kind == "syscall" and _is_context_as_memory(walk, arg, reg):
        return
    elif reg.type not in _MEMORY and reg.type not in (r.SCALAR, r.ARENA):
        helpermem.check_fixed(walk, reg, number)


def _check_kind(  # one argument of one call
    walk: Walk, proto: Prototype, number: int, arg: Arg, reg: Reg, passed: Passed
) -> None:
    kind = arg.kind
    if kind in ("map", "timer"):
        _check_map(walk, number, arg, reg, passed)
    elif kind in ("key", "value"):
        _check_of_map(walk, number, arg, reg, passed)
    elif kind == "mem" and arg.size_bytes:
        helpermem.access(walk, reg, number, arg.size_bytes, write=arg.writes, raw=arg.uninit)
        if "aligned" in arg.flags:
            check_alignment(walk, reg, 0, arg.size_bytes)
    elif kind in ("size", "size0"):
        before = proto.args[number - 2]
        assert reg.num is not None
        passed.largest = reg.num.umax
        helpermem.sized(
            walk, walk.regs[number - 1], reg, number - 1,
            write=before.writes, zero_size=kind == "size0", raw=before.uninit,
        )  # fmt: skip
    elif kind == "alloc_size0":
        passed.size = _constant_size(walk, reg, number)
    elif kind == "func":
        passed.function = reg.what
    elif kind == "lock":
        locks.spin(walk, number, reg, take=proto.name == "spin_lock")
    elif kind == "str":
        _check_string(walk, number, reg)
    elif kind in ("kptr", "btf"):
        _check_kept(walk, number, arg, reg, passed)


def _check_map(walk: Walk, number: int, arg: Arg, reg: Reg, passed: Passed) -> None:
    if arg.kind == "timer":
        passed.timer = _timer(walk, number, reg)
        return
    if passed.timer is not None and passed.timer is not reg.what:
        walk.reject(Category.CALL_TYPE, "timer pointer in R1 map_uid={{.*}} doesn't match map")
    passed.map = reg.what


def _check_kept(walk: Walk, number: int, arg: Arg, reg: Reg, passed: Passed) -> None:
    if arg.kind == "kptr":
        passed.kept = objects.kept_at(walk, reg)
    elif arg.what == "*":
        objects.check_kept(walk, number, reg, passed.kept)


def _check_of_map(walk: Walk, number: int, arg: Arg, reg: Reg, passed: Passed) -> None:
    view = passed.map
    if view is None:
        walk.unknown("a key or value without a map")
    size = view.key_size if arg.kind == "key" else view.value_size
    if arg.kind == "key" and walk.release >= (6, 14) and view.type in _ARRAYS:
        passed.key = _constant_key(walk, reg, size)
    if arg.null and reg.const == 0:
        return
    helpermem.access(walk, reg, number, size, write=arg.writes, raw=arg.uninit)


def _constant_key(walk: Walk, reg: Reg, size: int) -> int | None:
    """get_constant_map_key(): since 6.14 a known index below the size is always found."""
    if reg.type != r.STACK or reg.num is not None:
        return None
    frame: Frame = walk.state.frames[reg.what]
    slot = frame.stack.get(reg.off >> 3, EMPTY)
    first = reg.off & 7
    kinds = slot.kinds[first : first + size]
    if kinds == ZERO * size:
        return 0
    spilled = slot.kinds[first:].rstrip("IMZ")
    if slot.reg is None or slot.kinds[0] != SPILL or first or spilled != SPILL * size:
        return None
    return slot.reg.const


def _check_string(walk: Walk, number: int, reg: Reg) -> None:
    """check_reg_const_str(): NUL-terminated, in a map that nobody can change."""
    view: MapView = reg.what
    if not view.read_only or view.content is None:
        words = f"R{number} does not point to a readonly map'"
        walk.reject(Category.CALL_TYPE, words, errno=13)
    if reg.num is not None:
        walk.reject(Category.CALL_TYPE, f"R{number} is not a constant address'", errno=13)
    helpermem.access(walk, reg, number, max(view.value_size - reg.off, 0), write=False)
    if b"\0" not in view.content[reg.off :]:
        walk.reject(Category.CALL_TYPE, "string is not zero-terminated")


def _timer(walk: Walk, number: int, reg: Reg) -> MapView:
    """process_timer_func(): R`number` points to a timer in a map's value."""
    view: MapView = reg.what
    if reg.num is not None:
        where = "bpf_timer has to be at the constant offset"
        words = f"R{number} doesn't have constant offset. {where}"
        walk.reject(Category.CALL_TYPE, words)
    at = [offset for kind, offset, _ in view.special if kind == "bpf_timer"]
    if not at:
        walk.reject(Category.CALL_TYPE, f"map '{view.name}' has no valid bpf_timer")
    if reg.off != at[0]:
        words = f"off {reg.off} doesn't point to 'struct bpf_timer' that is at {at[0]}"
        walk.reject(Category.CALL_TYPE, words)
    return view
