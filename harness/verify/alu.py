# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Arithmetic instructions: on numbers by harness.verify.scalar, on pointers by what is allowed.

Source: check_alu_op(), adjust_reg_min_max_vals(), adjust_ptr_min_max_vals() in
kernel/bpf/verifier.c. Pointers may leak: our loaders have CAP_PERFMON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.bpf.isa import ALU_OPS, Class, Insn
from harness.verify import registers as r
from harness.verify import tnum
from harness.verify.memory import MAX_VAR_OFF, readable, writable
from harness.verify.prediction import Category
from harness.verify.registers import Reg, scalar, type_name
from harness.verify.rules import rules_of
from harness.verify.stack import link

if TYPE_CHECKING:
    from harness.verify.scalar import Scalar
    from harness.verify.walk import Walk

_SYMBOLS: Final = {
    "add": "+=", "sub": "-=", "mul": "*=", "div": "/=", "or": "|=", "and": "&=", "lsh": "<<=",
    "rsh": ">>=", "neg": "neg", "mod": "%=", "xor": "^=", "mov": "=", "arsh": "s>>=",
    "end": "endian",
}  # fmt: skip
_S32_MAX: Final = (1 << 31) - 1
_S64_MIN: Final = -(1 << 63)
_U32: Final = (1 << 32) - 1
# types whose pointers take an offset
_MOVABLE: Final = frozenset({
    r.CTX, r.MAP_VALUE, r.MAP_KEY, r.STACK, r.PACKET_META, r.PACKET, r.TP_BUFFER, r.BTF_ID, r.MEM,
    r.BUF, r.FUNC, r.DYNPTR,
})  # fmt: skip
# flag of a number with a delta: of its low half; apart from those of pointers, which are asked for
# wherever a register is an argument
LOW_HALF: Final = 1024


def step(walk: Walk, insn: Insn) -> None:
    """One instruction of class ALU or ALU64."""
    name = ALU_OPS[insn.op]
    if name == "mov":
        _move(walk, insn)
    elif name in ("neg", "end"):
        _unary(walk, insn, name)
    else:
        _binary(walk, insn, name)


# ---- moves --------------------------------------------------------------------------------------


def _move(walk: Walk, insn: Insn) -> None:
    wide = insn.code & 7 == Class.ALU64
    if not insn.uses_register:
        writable(walk, insn.dst)
        walk.regs[insn.dst] = scalar(walk.domain.known(insn.imm if wide else insn.imm & _U32))
        return
    source = readable(walk, insn.src)
    writable(walk, insn.dst)
    regs = walk.regs
    if wide and insn.imm:
        if not any(view.type == 33 for view in walk.maps.values()):  # arena
            walk.reject(
                Category.POLICY,
                "addr_space_cast insn can only be used in a program that has an associated arena",
            )
        regs[insn.dst] = Reg(r.ARENA) if insn.imm == 1 else scalar(walk.domain.unknown)
    elif source.type != r.SCALAR:
        regs[insn.dst] = source if wide and not insn.off else _partial(walk, wide=wide)
    elif wide and not insn.off:
        regs[insn.dst] = _linked(walk, source)
    elif insn.off:
        _move_signed(walk, insn, source, wide=wide)
    else:
        _move_low(walk, insn, source)


def _partial(walk: Walk, *, wide: bool) -> Reg:
    number = walk.domain.unknown
    return scalar(number if wide else walk.domain.low_half(number))


def _linked(walk: Walk, source: Reg) -> Reg:
    """The register, with an id that all its copies share."""
    number = source.num
    assert number is not None
    if source.delta is not None or (not source.id and number.tnum.mask):
        return link(walk, source)
    return source


def _move_low(walk: Walk, insn: Insn, source: Reg) -> None:
    number = source.num
    assert number is not None
    if number.umax <= _U32:
        source = _linked(walk, source)
        walk.regs[insn.dst] = source
        return
    walk.regs[insn.dst] = scalar(walk.domain.low_half(number))


def _move_signed(walk: Walk, insn: Insn, source: Reg, *, wide: bool) -> None:
    number, bits = source.num, insn.off
    assert number is not None
    extended = walk.domain.extend(number, bits, 0 if wide else 32)
    if number.umax < 1 << (bits - 1):
        source = _linked(walk, source)
        new = source.copy()
        new.num = extended
    else:
        new = scalar(extended)
    walk.regs[insn.dst] = new


# ---- one operand --------------------------------------------------------------------------------


def _unary(walk: Walk, insn: Insn, name: str) -> None:
    value = readable(walk, insn.dst)
    writable(walk, insn.dst)
    domain, number = walk.domain, value.num
    if value.type != r.SCALAR or number is None:
        walk.regs[insn.dst] = scalar(domain.unknown)
        return
    if name == "neg":
        bits = 64 if insn.code & 7 == Class.ALU64 else 32
        new = domain.alu("neg", number, number, bits)
    else:
        reverse = insn.code & 7 == Class.ALU64 or insn.uses_register
        new = domain.swap(number, insn.imm, reverse=reverse)
    walk.regs[insn.dst] = scalar(new)


# ---- two operands -------------------------------------------------------------------------------


def _binary(walk: Walk, insn: Insn, name: str) -> None:
    wide = insn.code & 7 == Class.ALU64
    source = readable(walk, insn.src) if insn.uses_register else None
    target = readable(walk, insn.dst)
    if source is None:
        _check_immediate(walk, insn, name, wide=wide)
    writable(walk, insn.dst)
    regs = walk.regs
    if target.type == r.ARENA:
        return
    if (source is not None and source.type == r.ARENA
            and rules_of(walk.subject.profile).inherits_pointer):  # fmt: skip
        regs[insn.dst] = source
        return
    if target.type != r.SCALAR or (source is not None and source.type != r.SCALAR):
        _with_pointer(walk, insn, name, target, source, wide=wide)
        return
    if source is None:
        source = scalar(walk.domain.known(insn.imm))
    _numbers(walk, insn, name, target, source, wide=wide)


def _check_immediate(walk: Walk, insn: Insn, name: str, *, wide: bool) -> None:
    if name in ("div", "mod") and insn.imm == 0:
        walk.reject(Category.PROGRAM_STRUCTURE, "div by zero")
    if name in ("lsh", "rsh", "arsh") and not 0 <= insn.imm < (64 if wide else 32):
        walk.reject(Category.PROGRAM_STRUCTURE, f"invalid shift {insn.imm}")


def _numbers(walk: Walk, insn: Insn, name: str, target: Reg, source: Reg, *, wide: bool) -> None:
    domain = walk.domain
    a, b = target.num, source.num
    assert a is not None
    assert b is not None
    if name in ("and", "or"):
        forked = domain.fork(name, a, b)
        if forked is not None:
            a = _fork(walk, insn, target, forked)
    operation = "s" + name if name in ("div", "mod") and insn.off else name
    new = scalar(domain.alu(operation, a, b, 64 if wide else 32))
    if target.id and name in ("add", "sub"):
        _keep_link(walk, insn, name, target, source, new, wide=wide)
    walk.regs[insn.dst] = new


def _fork(walk: Walk, insn: Insn, target: Reg, forked: tuple[Scalar, Scalar]) -> Scalar:
    """The other path goes through this instruction once more."""
    here, later = forked
    other = walk.state.copy()
    new = target.copy()
    new.num = later
    other.frames[-1].regs[insn.dst] = new
    walk.push(other, walk.pc)
    return here


def _keep_link(  # the operands and the result
    walk: Walk, insn: Insn, name: str, target: Reg, source: Reg, new: Reg, *, wide: bool
) -> None:
    """r1 = r2; r1 += 4: what is learnt of r2 is learnt of r1 (since 6.11)."""
    value, before = source.num, target.num
    assert value is not None
    assert before is not None
    if walk.release < (6, 11) or target.delta is not None:
        return
    if insn.uses_register and insn.src == insn.dst:
        return
    late = walk.release >= (7, 0)
    if not late and (name == "sub" or not wide or value.tnum.mask):
        return
    if value.tnum.mask & (_U32 if not wide else -1):
        return
    number = value.tnum.value
    if not late:
        if number > _S32_MAX:
            return
    elif wide:
        number = number - (1 << 64) if number >> 63 else number
        if not -_S32_MAX - 1 <= number <= _S32_MAX:
            return
    else:
        if before.umax > _U32:
            return
        number &= _U32
        number = number - (1 << 32) if number >> 31 else number
    if name == "sub":
        if number == -_S32_MAX - 1:
            return
        number = -number
    new.id, new.delta = target.id, number
    new.flags = 0 if wide else LOW_HALF


# ---- pointers -----------------------------------------------------------------------------------


def _with_pointer(  # the operands
    walk: Walk, insn: Insn, name: str, target: Reg, source: Reg | None, *, wide: bool
) -> None:
    if source is not None and r.SCALAR not in (source.type, target.type):
        if name == "sub":
            walk.regs[insn.dst] = scalar(walk.domain.unknown)
            return
        words = f"R{insn.dst} pointer {_SYMBOLS[name]} pointer prohibited"
        walk.reject(Category.REGISTER_TYPE, words, errno=13)
    if source is not None and source.type != r.SCALAR:
        number = target.num
        assert number is not None
        _move_pointer(walk, insn, name, source, number, wide=wide, swapped=True)
        return
    number = walk.domain.known(insn.imm) if source is None else source.num
    assert number is not None
    _move_pointer(walk, insn, name, target, number, wide=wide, swapped=False)


def _inherited(walk: Walk, pointer: Reg) -> Reg:
    new = pointer.copy()
    if not rules_of(walk.subject.profile).inherits_pointer:
        new.ref = 0
        if new.type == r.STACK and new.what:
            walk.unknown("whose stack a number plus a frame pointer is taken for by this kernel")
    return new


def _move_pointer(  # the operands
    walk: Walk, insn: Insn, name: str, pointer: Reg, by: Scalar, *, wide: bool, swapped: bool
) -> None:
    """Pointer + by, pointer - by; by + pointer when `swapped`."""
    if not wide:
        if name == "sub":
            walk.regs[insn.dst] = scalar(walk.domain.unknown)
            return
        _prohibited(walk, f"R{insn.dst} 32-bit pointer arithmetic prohibited")
    _check_movable(walk, insn, name, pointer, by)
    if pointer.type == r.MEM and pointer.flags & r.UNTRUSTED:
        walk.regs[insn.dst] = pointer
        return
    _check_offset(walk, by, pointer)
    _check_pointer(walk, pointer)
    if name not in ("add", "sub"):
        if name in ("and", "or", "xor"):
            symbol = _SYMBOLS[name]
            _prohibited(walk, f"R{insn.dst} bitwise operator {symbol} on pointer prohibited")
        _prohibited(
            walk, f"R{insn.dst} pointer arithmetic with {_SYMBOLS[name]} operator prohibited"
        )
    if name == "sub" and swapped:
        _prohibited(walk, f"R{insn.dst} tried to subtract pointer from scalar")
    if name == "sub" and pointer.type == r.STACK:
        _prohibited(walk, f"R{insn.dst} subtraction from stack pointer prohibited")
    new = _inherited(walk, pointer) if swapped else pointer.copy()
    if by.tnum.mask:
        _move_variably(walk, name, new, by)
    elif new.num is not None and walk.release >= (7, 0):
        if new.type in r.PACKETS:
            new.num = _moved_packet(walk, name, new.num, by)
        else:
            new.num = _moved(walk, name, new.num, by)
    else:
        number = by.smin
        new.off += number if name == "add" else -number
    new.range = max(new.range, 0)
    _check_pointer(walk, new)
    walk.regs[insn.dst] = new


def _move_variably(walk: Walk, name: str, new: Reg, by: Scalar) -> None:
    start = walk.domain.known(0) if new.num is None else new.num
    if walk.release >= (7, 0) and new.off:
        # from then on the fixed part is not kept apart
        start, new.off = walk.domain.known(new.off), 0
    if new.type in r.PACKETS:
        new.id = walk.new_id()
        if name == "add" or by.smin < 0:
            new.range = 0
    if new.range > 0 and walk.release >= (7, 0):
        new.num = _moved_packet(walk, name, start, by)
    else:
        new.num = _moved(walk, name, start, by)


def _moved(walk: Walk, name: str, start: Scalar, by: Scalar) -> Scalar:
    """Pointers have no ranges of their low half."""
    domain = walk.domain
    whole = domain.narrow.full
    return domain.alu(name, start._replace(narrow=whole), by._replace(narrow=whole), 64)


def _moved_packet(walk: Walk, name: str, start: Scalar, by: Scalar) -> Scalar:
    """Where a packet pointer keeps its id or range, its known bits do not narrow its offset.

    Else two pointers of one id could have another largest offset, by which ranges are compared.
    """
    domain = walk.domain
    span = domain.wide.add(start.wide, by.wide)
    bits = tnum.add(start.tnum, by.tnum)
    if name == "sub":
        span = domain.wide.subtract(start.wide, by.wide)
        bits = tnum.sub(start.tnum, by.tnum)
    return start._replace(tnum=bits, wide=span, narrow=domain.narrow.full)


def _prohibited(walk: Walk, words: str) -> None:
    walk.reject(
        Category.REGISTER_TYPE,
        words,
        errno=13,
        why="the result would be no pointer that the verifier can follow",
    )


def _check_movable(walk: Walk, insn: Insn, name: str, pointer: Reg, by: Scalar) -> None:
    if pointer.flags & r.MAYBE_NULL:
        walk.reject(
            Category.REGISTER_TYPE,
            f"R{insn.dst} pointer arithmetic on {type_name(pointer)} prohibited, "
            "null-check it first",
            errno=13,
            fix="compare it with NULL first",
        )
    if pointer.type in _MOVABLE:
        return
    known = not by.tnum.mask
    if pointer.type == r.FLOW_KEYS and known:
        return
    if pointer.type == r.MAP_PTR and known and by.smin == 0 and name == "add":
        return
    _prohibited(walk, f"R{insn.dst} pointer arithmetic on {type_name(pointer)} prohibited")


def _check_offset(walk: Walk, by: Scalar, pointer: Reg) -> None:
    name = type_name(pointer)
    if not by.tnum.mask and not -MAX_VAR_OFF < by.smin < MAX_VAR_OFF:
        words = f"math between {name} pointer and {by.smin} is not allowed"
    elif by.smin == _S64_MIN:
        words = f"math between {name} pointer and register with unbounded min value is not allowed"
    elif not -MAX_VAR_OFF < by.smin < MAX_VAR_OFF:
        words = f"value {by.smin} makes {name} pointer be out of bounds"
    else:
        return
    walk.reject(
        Category.REGISTER_TYPE,
        words,
        why="nothing on this path limits the offset that is added to the pointer",
        fix="compare it with a constant first, or assert that it is in range",
    )


def _check_pointer(walk: Walk, pointer: Reg) -> None:
    low = pointer.off
    if pointer.num is not None:
        low = pointer.num.smin + (pointer.off if walk.release >= (7, 0) else 0)
        if not -MAX_VAR_OFF < pointer.off < MAX_VAR_OFF:
            low = pointer.off
    if not -MAX_VAR_OFF < low < MAX_VAR_OFF:
        words = f"{type_name(pointer)} pointer offset {low} is not allowed"
        if pointer.num is not None and walk.release < (7, 0) and low != pointer.off:
            words = f"value {low} makes {type_name(pointer)} pointer be out of bounds"
        walk.reject(Category.REGISTER_TYPE, words)
