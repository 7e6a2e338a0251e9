# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What an extern stands for on a machine: found, absent, or not known.

Owns the search in the kernel's types (bpf_object__resolve_ksym_{var,func}_btf_id in
tools/lib/bpf/libbpf.c). Types of modules are no input: a function of a module is absent.
"""

from dataclasses import dataclass

from harness.bpf import environment as machines
from harness.bpf.btf import Btf, Kind, essential
from harness.bpf.corematch import Pair
from harness.bpf.corepatch import poisoned
from harness.bpf.elf import Object
from harness.bpf.environment import Environment
from harness.bpf.externs import KCONFIG, Extern
from harness.bpf.isa import Insn
from harness.errors import ObjectError

# number of the helper that stands for a call of an absent weak kernel function, plus the extern's
POISON_KFUNC = 2002000000


@dataclass(frozen=True, slots=True)
class Symbol:
    """An extern on a machine."""

    # as the kernel calls it: without a flavour (NAME___flavour)
    name: str
    weak: bool
    # its number in libbpf's order
    index: int
    # id of its FUNC or VAR in the kernel's types; None: not known
    btf_id: int | None = None
    # the kernel lacks a weak one
    absent: bool = False
    # declared with a type: not `extern const void name __ksym`
    typed: bool = True
    # of a Kconfig value: where it is in map .kconfig
    kconfig_offset: int | None = None
    # why its value is not known
    unknown: str = ""


def symbol(obj: Object, place: int, environment: Environment) -> Symbol:
    """Look up extern number `place`. Raises ObjectError where libbpf refuses the object."""
    extern = obj.externs[place]
    name = extern.name
    if extern.section == KCONFIG:
        why = machines.unknown(extern, environment)
        return Symbol(name, extern.weak, place, kconfig_offset=extern.offset, unknown=why)
    if extern.is_function:
        name = essential(name)
    if environment.btf is None:
        return Symbol(name, extern.weak, place, typed=bool(extern.type_id))
    kind = Kind.FUNC if extern.is_function else Kind.VAR
    if not extern.type_id:
        return Symbol(name, extern.weak, place, typed=False)
    found = environment.btf.find(kind, name)
    if found is not None and _compatible(obj.btf, extern, environment.btf, found.type_id):
        return Symbol(name, extern.weak, place, btf_id=found.id)
    if extern.weak and (found is None or extern.is_function):
        return Symbol(name, extern.weak, place, absent=True)
    what = "func" if extern.is_function else "var"
    why = "incompatible types" if found is not None else "not found in kernel BTF"
    raise ObjectError(f"extern ({what} ksym) {name!r}: {why}")


def absent_call(found: Symbol) -> Insn:
    """What libbpf makes of a call of an absent weak kernel function."""
    return poisoned(POISON_KFUNC + found.index)


def _compatible(local: Btf, extern: Extern, target: Btf, type_id: int) -> bool:
    theirs = type_id if extern.is_function else target.resolve(type_id).id
    return Pair(local, target).compatible(extern.type_id, theirs)
