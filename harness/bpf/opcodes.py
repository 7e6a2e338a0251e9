# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The table of instructions: one row for each form that a program may contain.

Owns which fields a form may use, how it is written, its conformance group and the kernel that
brought it. Decoder, disassembler, assembler, the check of reserved fields and
docs/instructions.md all read it. What a form does is harness.sim's business.

Sources: RFC 9669 (sections 4 and 5, appendix A); check_insn_fields(), check_atomic() and
check_and_resolve_insns() in kernel/bpf/verifier.c of 7.3; bpf_opcode_in_insntable() in
kernel/bpf/core.c; kernel/bpf/disasm.c for the syntax.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.bpf.isa import ATOMIC_OPS, Insn

# what a field may hold; None: anything
Allowed = frozenset[int] | None
ZERO: Allowed = frozenset({0})
REGISTER: Allowed = frozenset(range(11))
ANY: Allowed = None
# frame that holds arguments beyond the fifth; it is no register otherwise (7.3, BPF_REG_PARAMS)
PARAMS = 11

# `since` of what only kernels make, and of what no kernel takes
INTERNAL = "internal"
NEVER = "never"


@dataclass(frozen=True, slots=True)
class Form:
    """One form of instruction. The first form whose opcode and fields fit is the one meant."""

    name: str
    code: int
    # the kernel's text, with slots: {dst} {src} {imm} {uimm} {off} {jump} {far} {call} {wide} ...
    syntax: str
    # conformance group of RFC 9669, or "" for what the RFC does not have
    group: str
    # first kernel release that takes it, INTERNAL or NEVER
    since: str
    dst: Allowed = ZERO
    src: Allowed = ZERO
    off: Allowed = ZERO
    imm: Allowed = ZERO
    # imm of the second slot of a wide instruction
    high: Allowed = ZERO
    # fields that must be 0 by RFC 9669 (section 3), but that no kernel looks at
    unchecked: tuple[str, ...] = ()
    # LLVM's text where it differs by more than how numbers are written
    llvm: str = ""

    @property
    def wide(self) -> bool:
        """Whether it takes two slots."""
        return self.code == 0x18

    def takes(self, insn: Insn) -> bool:
        """Whether opcode and fields are as this form wants them."""
        return insn.code == self.code and not any(self.wrong_fields(insn))

    def wrong_fields(self, insn: Insn) -> Iterator[str]:
        """Names of the fields that hold what this form does not allow."""
        for name in ("dst", "src", "off", "imm"):
            allowed: Allowed = getattr(self, name)
            if allowed is not None and getattr(insn, name) not in allowed:
                yield name


_SIZES = {8: 0x10, 16: 0x08, 32: 0x00, 64: 0x18}
_OPERATIONS = (
    ("add", 0x00, "+="), ("sub", 0x10, "-="), ("mul", 0x20, "*="), ("div", 0x30, "/="),
    ("or", 0x40, "|="), ("and", 0x50, "&="), ("lsh", 0x60, "<<="), ("rsh", 0x70, ">>="),
    ("mod", 0x90, "%="), ("xor", 0xA0, "^="), ("arsh", 0xC0, "s>>="),
)  # fmt: skip
_DIVISIONS = frozenset({"mul", "div", "mod"})
_SIGNED = (("sdiv", 0x30, "s/="), ("smod", 0x90, "s%="))
_CONDITIONS = (
    ("jeq", 0x10, "==", "3.18"), ("jgt", 0x20, ">", "3.18"), ("jge", 0x30, ">=", "3.18"),
    ("jset", 0x40, "&", "3.18"), ("jne", 0x50, "!=", "3.18"), ("jsgt", 0x60, "s>", "3.18"),
    ("jsge", 0x70, "s>=", "3.18"), ("jlt", 0xA0, "<", "4.14"), ("jle", 0xB0, "<=", "4.14"),
    ("jslt", 0xC0, "s<", "4.14"), ("jsle", 0xD0, "s<=", "4.14"),
)  # fmt: skip
_PLAIN_ATOMIC = {"add": "+=", "or": "|=", "and": "&=", "xor": "^="}
_ATOMIC_VALUES = {name: value for value, name in ATOMIC_OPS.items()}
_X = 0x08


def _alu() -> Iterator[Form]:
    for bits, cls, r in ((32, 4, "w"), (64, 7, "r")):
        base = f"base{bits}"
        for name, op, sign in _OPERATIONS:
            group = f"divmul{bits}" if name in _DIVISIONS else base
            yield from _pair(f"{name}{bits}", op | cls, f"{r}{{dst}} {sign}", r, group, "3.18")
        for name, op, sign in _SIGNED:
            text = f"{r}{{dst}} {sign}"
            yield from _pair(f"{name}{bits}", op | cls, text, r, f"divmul{bits}", "6.6", off=1)
        text = f"{r}{{dst}} = -{r}{{dst}}"
        yield Form(f"neg{bits}", 0x80 | cls, text, base, "3.18", dst=REGISTER)
        yield from _pair(f"mov{bits}", 0xB0 | cls, f"{r}{{dst}} =", r, base, "3.18")
        for width in (8, 16, 32)[: bits // 16 - 1 if bits == 64 else 2]:
            text = f"{r}{{dst}} = (s{width}){r}{{src}}"
            yield Form(f"movsx{width}to{bits}", 0xB0 | cls | _X, text, base, "6.6",
                       dst=REGISTER, src=REGISTER, off=frozenset({width}))  # fmt: skip


def _pair(
    name: str, code: int, start: str, register: str, group: str, since: str, off: int = 0
) -> Iterator[Form]:
    offs = frozenset({off})
    yield Form(name, code, f"{start} {{imm}}", group, since, dst=REGISTER, imm=ANY, off=offs)
    text = f"{start} {register}{{src}}"
    yield Form(name, code | _X, text, group, since, dst=REGISTER, src=REGISTER, off=offs)


def _swaps() -> Iterator[Form]:
    for name, code, since in (("le", 0xD4, "3.18"), ("be", 0xDC, "3.18"), ("bswap", 0xD7, "6.6")):
        for width in (16, 32, 64):
            text = f"r{{dst}} = {name}{width} r{{dst}}"
            yield Form(f"{name}{width}", code, text, "base64" if width == 64 else "base32", since,
                       dst=REGISTER, imm=frozenset({width}))  # fmt: skip


def _jumps() -> Iterator[Form]:
    for bits, cls, r in ((64, 5, "r"), (32, 6, "w")):
        for name, op, sign, first in _CONDITIONS:
            since = "5.1" if bits == 32 else first
            start = f"if {r}{{dst}} {sign}"
            yield Form(f"{name}{bits}", op | cls, f"{start} {{uimm}} goto {{jump}}",
                       f"base{bits}", since, dst=REGISTER, off=ANY, imm=ANY,
                       llvm=f"{start} {{imm}} goto {{jump}}")  # fmt: skip
            yield Form(f"{name}{bits}", op | cls | _X, f"{start} {r}{{src}} goto {{jump}}",
                       f"base{bits}", since, dst=REGISTER, src=REGISTER, off=ANY)  # fmt: skip
    yield Form("ja", 0x05, "goto {jump}", "base32", "3.18", off=ANY)
    yield Form("ja32", 0x06, "gotol {far}", "base32", "6.6", imm=ANY)
    yield Form("gotox", 0x0D, "gotox r{dst}", "", "6.19", dst=REGISTER)
    yield Form("may_goto", 0xE5, "may_goto {jump}", "", "6.9", off=ANY)
    yield Form("exit", 0x95, "exit", "base32", "3.18", unchecked=("off",), off=ANY)


def _calls() -> Iterator[Form]:
    kind = frozenset
    yield Form("call", 0x85, "call {helper}", "base32", "3.18", imm=ANY, llvm="call {imm}")
    yield Form("call_local", 0x85, "call {local}", "base32", "4.16", src=kind({1}), imm=ANY,
               llvm="call {imm}")  # fmt: skip
    yield Form("call_kfunc", 0x85, "call {kfunc}", "base32", "5.13", src=kind({2}), imm=ANY,
               off=ANY, llvm="call {imm}")  # fmt: skip
    yield Form("callx", 0x8D, "callx r{dst}", "", NEVER, dst=REGISTER)


def _loads_and_stores() -> Iterator[Form]:
    for bits in (8, 16, 32, 64):
        size, group = _SIZES[bits], "base64" if bits == 64 else "base32"
        there = f"*(u{bits} *)(r{{src}} {{off}})"
        yield Form(f"ldx{bits}", 0x61 | size, f"r{{dst}} = {there}", group, "3.18",
                   dst=REGISTER, src=REGISTER, off=ANY)  # fmt: skip
        if bits < 64:
            yield Form(f"ldxs{bits}", 0x81 | size, f"r{{dst}} = *(s{bits} *)(r{{src}} {{off}})",
                       "base64", "6.6", dst=REGISTER, src=REGISTER, off=ANY)  # fmt: skip
        there = f"*(u{bits} *)(r{{dst}} {{off}})"
        yield Form(f"st{bits}", 0x62 | size, f"{there} = {{imm}}", group, "3.18",
                   dst=REGISTER, off=ANY, imm=ANY)  # fmt: skip
        yield Form(f"stx{bits}", 0x63 | size, f"{there} = r{{src}}", group, "3.18",
                   dst=REGISTER, src=REGISTER, off=ANY)  # fmt: skip
    yield from _stack_arguments()


def _stack_arguments() -> Iterator[Form]:
    params, up = frozenset({PARAMS}), frozenset(range(8, 0x8000, 8))
    down = frozenset(range(-0x8000, 0, 8))
    yield Form("ldx_arg", 0x79, "r{dst} = *(u64 *)(r{src} {off})", "", "7.3",
               dst=REGISTER, src=params, off=up)  # fmt: skip
    yield Form("st_arg", 0x7A, "*(u64 *)(r{dst} {off}) = {imm}", "", "7.3",
               dst=params, off=down, imm=ANY)  # fmt: skip
    yield Form("stx_arg", 0x7B, "*(u64 *)(r{dst} {off}) = r{src}", "", "7.3",
               dst=params, src=REGISTER, off=down)  # fmt: skip


def _packet() -> Iterator[Form]:
    for bits in (8, 16, 32):
        start = f"r0 = *(u{bits} *)skb["
        yield Form(f"ld_abs{bits}", 0x20 | _SIZES[bits], f"{start}{{imm}}]", "packet", "4.1",
                   imm=ANY)  # fmt: skip
        yield Form(f"ld_ind{bits}", 0x40 | _SIZES[bits], f"{start}r{{src}} + {{imm}}]", "packet",
                   "4.1", src=REGISTER, imm=ANY, llvm=f"{start}r{{src}}]")  # fmt: skip


def _atomic() -> Iterator[Form]:
    for bits in (32, 64):
        code, long = 0xC3 | _SIZES[bits], "64" if bits == 64 else ""
        group, r = f"atomic{bits}", "r" if bits == 64 else "w"
        there, at = f"(u{bits} *)(r{{dst}} {{off}})", "(r{dst} {off}"
        swap = "_64" if bits == 64 else "32_32"
        for name, sign in _PLAIN_ATOMIC.items():
            yield _access(f"atomic_{name}{bits}", code, f"lock *{there} {sign} r{{src}}", group,
                          "3.18" if name == "add" else "5.12", _ATOMIC_VALUES[name],
                          f"lock *{there} {sign} {r}{{src}}")  # fmt: skip
        for name in _PLAIN_ATOMIC:
            yield _access(f"fetch_{name}{bits}", code,
                          f"r{{src}} = atomic{long}_fetch_{name}({there}, r{{src}})", group,
                          "5.12", _ATOMIC_VALUES[f"fetch_{name}"],
                          f"{r}{{src}} = atomic_fetch_{name}({there}, {r}{{src}})")  # fmt: skip
        yield _access(f"xchg{bits}", code, f"r{{src}} = atomic{long}_xchg({there}, r{{src}})",
                      group, "5.12", 0xE1,
                      f"{r}{{src}} = xchg{swap}{at}, {r}{{src}})")  # fmt: skip
        yield _access(f"cmpxchg{bits}", code, f"r0 = atomic{long}_cmpxchg({there}, r0, r{{src}})",
                      group, "5.12", 0xF1,
                      f"{r}0 = cmpxchg{swap}{at}, {r}0, {r}{{src}})")  # fmt: skip
    for bits in (8, 16, 32, 64):
        r = "r" if bits == 64 else "w"
        text = f"{{dst}} = load_acquire((u{bits} *)(r{{src}} {{off}}))"
        yield _access(f"load_acquire{bits}", 0xC3 | _SIZES[bits], f"r{text}", "", "6.15", 0x100,
                      f"{r}{text}")  # fmt: skip
        text = f"store_release((u{bits} *)(r{{dst}} {{off}}), "
        yield _access(f"store_release{bits}", 0xC3 | _SIZES[bits], f"{text}r{{src}})", "", "6.15",
                      0x110, f"{text}{r}{{src}})")  # fmt: skip


def _access(
    name: str, code: int, text: str, group: str, since: str, operation: int, llvm: str
) -> Form:
    return Form(name, code, text, group, since, dst=REGISTER, src=REGISTER, off=ANY,
                imm=frozenset({operation}), llvm=llvm)  # fmt: skip


def _wide() -> Iterator[Form]:
    for src, name, slot, since, high in (
        (0, "lddw", "{wide}", "3.18", ANY),
        (1, "map_by_fd", "{map}", "3.18", ZERO),
        (2, "map_val_by_fd", "{value}", "5.2", ANY),
        (3, "var_addr", "{variable}", "5.10", ANY),
        (4, "code_addr", "{function}", "5.13", ANY),
        (5, "map_by_idx", "{index}", "5.14", ZERO),
        (6, "map_val_by_idx", "{ivalue}", "5.14", ANY),
    ):
        to, llvm = f"r{{dst}} = {slot}", f"ld_pseudo\tr{{dst}}, {src:#x}, {{uimm}}"
        yield Form(name, 0x18, to, "base64", since, dst=REGISTER,
                   src=frozenset({src}), imm=ANY, high=high,
                   unchecked=("high",) if src == 4 else (),
                   llvm=llvm if src else f"{to} ll")  # fmt: skip


def _special() -> Iterator[Form]:
    yield Form("addr_space_cast", 0xBF, "r{dst} = addr_space_cast(r{src}, {to}, {from})", "",
               "6.9", dst=REGISTER, src=REGISTER, off=frozenset({1}),
               imm=frozenset({1, 1 << 16}))  # fmt: skip
    yield Form("percpu_addr", 0xBF, "r{dst} = &(void __percpu *)(r{src})", "", INTERNAL,
               dst=REGISTER, src=REGISTER, off=frozenset({-1}))  # fmt: skip
    yield Form("nospec", 0xC2, "nospec", "", INTERNAL)


FORMS: tuple[Form, ...] = (
    *_alu(), *_swaps(), *_jumps(), *_calls(), *_loads_and_stores(), *_packet(), *_atomic(),
    *_wide(), *_special(),
)  # fmt: skip
BY_CODE: dict[int, tuple[Form, ...]] = {}
for _form in FORMS:
    BY_CODE[_form.code] = (*BY_CODE.get(_form.code, ()), _form)


def release(since: str) -> tuple[int, ...]:
    """Kernel release as numbers: "6.12" is (6, 12). INTERNAL and NEVER come after all kernels."""
    return tuple(int(part) for part in since.split(".")) if since[0].isdigit() else (1 << 16,)


def find(insn: Insn) -> Form | None:
    """The form of an instruction, None where no form fits."""
    return next((form for form in BY_CODE.get(insn.code, ()) if form.takes(insn)), None)
