# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What stops a program before any verifier sees it: libbpf, in its words.

Source: tools/lib/bpf/libbpf.c (1.5): bpf_prog_assign_exc_cb, bpf_object__resolve_ksym_func_btf_id,
bpf_object__reloc_code. What harness.bpf.link refuses, libbpf does; here is the errno it gives.
"""

import re

from harness.bpf import core
from harness.bpf.btf import Kind, essential
from harness.bpf.elf import Object
from harness.bpf.environment import Environment
from harness.bpf.isa import INSN_BYTES
from harness.bpf.link import link
from harness.bpf.program import Program, RefKind
from harness.errors import ObjectError
from harness.sim.semantics import PROFILES, Profile
from harness.verify.prediction import Category, NotModelled, Rejection, Subject

_EINVAL, _ENOENT, _ESRCH = 22, 2, 3
# words of harness.bpf.link -> errno, rule, remedy
_WORDS = (
    ("cannot find exception callback", _ENOENT,
     "the exception_callback tag names a function that the object does not have",
     "name a global function of this object"),
    ("must be a global non-hidden function", _EINVAL,
     "the exception callback is static or hidden: the verifier would not look at it by itself",
     "drop `static` (or the hidden visibility)"),
    ("exception_callback decl tag contains empty value", _EINVAL,
     "the exception_callback tag names nothing", "name a global function of this object"),
    ("not found in kernel BTF", _ESRCH,
     "the kernel has nothing of that name", "declare it __weak and ask whether it is there"),
    ("incompatible types", _EINVAL,
     "the kernel's declaration of that name is another one", "declare it as the kernel does"),
    ("bad call relo against", _EINVAL,
     "a call goes to a function outside of .text, which is a program of its own",
     "take SEC() off the function"),
)  # fmt: skip
_CALLBACK = "exception_callback:"
_LACKING = re.compile(r"extern \(func ksym\) '(\w+)': not found in kernel BTF")
# newer ones know more sections
_SECTION = "which libbpf does not load"
_OF_TYPE = re.compile(r"CO-RE relocation \w+ of (?:struct |union |enum )?(\w+)")
_WHERE = re.compile(r"program '[^']*'(, function '[^']*')?: ")


def linked(obj: Object, name: str, profile: Profile, environment: Environment) -> Program:
    """The program as libbpf hands it to the kernel.

    Raises Rejection, NotModelled; ObjectError where the object has no such program.

    Without types of a kernel in `environment`, `profile` says which kernel functions there are.
    """
    obj.program(name)
    _check_tags(obj)
    try:
        program = link(obj, name, environment)
    except ObjectError as error:
        words = _WHERE.sub("", error.message.removeprefix(f"{obj.path}: "))
        lacking = _LACKING.match(words)
        if lacking is not None and lacking[1] not in absent(profile):
            raise NotModelled(f"{lacking[1]}() is not in vmlinux: a module may have it") from error
        if _SECTION in words:
            raise NotModelled(f"{words}, as of 1.5") from error
        raise _refusal(words, error.fix or "") from error
    for pc, ref in sorted(program.refs.items()):
        if ref.kind is RefKind.KFUNC and not ref.weak and ref.name in absent(profile):
            raise Rejection(
                Category.CALL_TYPE,
                f"extern (func ksym) '{ref.name}': not found in kernel or module BTFs",
                errno=_ESRCH,
                pc=pc,
                why=f"kernels of series {profile.name} have no function {ref.name}()",
                fix="declare it __weak and ask bpf_ksym_exists() first, or run a newer kernel",
            )
    return program


def _check_tags(obj: Object) -> None:
    """bpf_prog_assign_exc_cb(): a callback's tag on any static function spoils every program."""
    for tag in obj.btf.of_kind(Kind.DECL_TAG):
        if tag.component != -1 or not tag.name.startswith(_CALLBACK):
            continue
        tagged = obj.btf.type(tag.type_id)
        if tagged.kind is Kind.FUNC and tagged.linkage == "global":
            continue
        raise Rejection(
            Category.PROGRAM_STRUCTURE,
            "exception_callback:<value> decl tag not applied to the main program",
            errno=_EINVAL,
            why=f"{tagged.name}() is no program and has a tag that names an exception callback "
            "(libbpf says so)",
            fix="put __exception_cb() on the program",
        )


def require_certain(obj: Object, program: Program) -> None:
    """Without types of a kernel the linker leaves offsets of fields as compiled: NotModelled."""
    for function in program.functions:
        found = next(f for f in (*obj.programs, *obj.functions) if f.name == function.name)
        cores = obj.ext.core.get(found.section, {})
        for offset in range(found.offset, found.offset + found.size_bytes, INSN_BYTES):
            if offset in cores and core.kind_of(cores[offset]) is core.Relo.FIELD_BYTE_OFFSET:
                pc = function.start + (offset - found.offset) // INSN_BYTES
                what = core.describe(cores[offset], obj.btf)
                raise NotModelled(f"CO-RE relocation {what}: no types of a kernel are given", pc=pc)


def require_known(subject: Subject, environment: Environment, pc: int | None) -> None:
    """Raise NotModelled where what libbpf could not relocate may be in a module's types.

    libbpf looks there where vmlinux has no type of that name.
    """
    what = subject.program.poisoned.get(-1 if pc is None else pc, "")
    named = _OF_TYPE.match(what)
    if named is None or environment.btf is None:
        return
    if not environment.btf.named(essential(named[1]), flavours=True):
        raise NotModelled(f"{named[1]} is not in vmlinux: a module may have it", pc=pc)


def absent(profile: Profile) -> frozenset[str]:
    """Kernel functions that other profiles have and this one lacks."""
    every = frozenset[str]().union(*(p.extra_kfuncs for p in PROFILES.values()))
    return every - profile.extra_kfuncs


def _refusal(words: str, fix: str) -> Rejection:
    errno, why, remedy = next(
        (row[1:] for row in _WORDS if row[0] in words), (None, f"libbpf refuses: {words}", fix)
    )
    return Rejection(
        Category.PROGRAM_STRUCTURE, words, errno=errno, why=f"{why} (libbpf says so)", fix=remedy
    )
