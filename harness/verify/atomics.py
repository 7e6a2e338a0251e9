# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Atomic operations: a load and a store of numbers, through fewer kinds of pointers.

Source: check_atomic(), atomic_ptr_type_ok() in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.bpf.isa import ATOMIC_OPS, Insn
from harness.verify import memory
from harness.verify import registers as r
from harness.verify.prediction import Category
from harness.verify.registers import scalar, type_name

if TYPE_CHECKING:
    from harness.verify.walk import Walk


def step(walk: Walk, insn: Insn) -> None:
    """check_atomic(): both a load and a store, of numbers."""
    name = ATOMIC_OPS.get(insn.imm, "")
    if name == "load_acquire":
        load_acquire(walk, insn)
        return
    if name == "store_release":
        _check_atomic_base(walk, insn, insn.dst)
        memory.store(walk, insn, immediate=False)
        return
    size = insn.size_bytes
    memory.readable(walk, insn.src)
    base = memory.readable(walk, insn.dst)
    if name == "cmpxchg":
        memory.readable(walk, 0)
    _check_atomic_base(walk, insn, insn.dst)
    result = {"cmpxchg": 0}.get(name, insn.src if name.startswith(("fetch_", "xchg")) else None)
    if result is not None:
        memory.writable(walk, result)
    old = memory.read(walk, base, insn.dst, insn.off, size, signed=False)
    memory.write(walk, base, insn.dst, insn.off, size, None, None)
    if result is not None:
        old = scalar(walk.domain.unknown) if old.type != r.SCALAR else old
        walk.regs[result] = memory.cut(walk, old, size, signed=False)


def load_acquire(walk: Walk, insn: Insn) -> None:
    """A load whose source is `src`, as of LDX."""
    _check_atomic_base(walk, insn, insn.src)
    base = memory.readable(walk, insn.src)
    memory.writable(walk, insn.dst)
    size = insn.size_bytes
    value = memory.read(walk, base, insn.src, insn.off, size, signed=False)
    walk.regs[insn.dst] = memory.cut(walk, value, size, signed=False)


def _check_atomic_base(walk: Walk, insn: Insn, number: int) -> None:
    """atomic_ptr_type_ok(): not contexts, packets, sockets."""
    base = memory.readable(walk, number)
    if base.type in (r.CTX, r.FLOW_KEYS) or base.type in r.PACKETS | r.SOCKETS:
        words = f"BPF_ATOMIC stores into R{number} {type_name(base)} is not allowed"
        if insn.imm in (0x100, 0x110):
            verb = "loads from" if insn.imm == 0x100 else "stores into"
            words = f"BPF_ATOMIC {verb} R{number} {type_name(base)} is not allowed"
        walk.reject(Category.REGISTER_TYPE, words, errno=13)
    memory.check_alignment(walk, base, insn.off, insn.size_bytes)
