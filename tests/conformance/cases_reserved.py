# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Vectors of what must be refused: reserved fields, opcodes and registers that do not exist.

RFC 9669, section 3: unused fields shall be cleared to zero. The words are those of
kernel/bpf/verifier.c; which instruction is meant is our addition.
"""

from conformance.spec import Spec

SECTION = "RFC 9669, section 3; words of kernel/bpf/verifier.c"
_ALU = {
    "add": 0x00, "sub": 0x10, "mul": 0x20, "div": 0x30, "or": 0x40, "and": 0x50, "lsh": 0x60,
    "rsh": 0x70, "mod": 0x90, "xor": 0xA0, "mov": 0xB0, "arsh": 0xC0,
}  # fmt: skip
_JUMPS = {
    "jeq": 0x10, "jgt": 0x20, "jge": 0x30, "jset": 0x40, "jne": 0x50, "jsgt": 0x60,
    "jsge": 0x70, "jlt": 0xA0, "jle": 0xB0, "jslt": 0xC0, "jsle": 0xD0,
}  # fmt: skip
_ATOMIC = {"add": 0x00, "or": 0x40, "and": 0x50, "xor": 0xA0}
_SIZES = {32: 0x00, 16: 0x08, 8: 0x10, 64: 0x18}
_X = 0x08
_FIELDS = ("code", "dst", "src", "off", "imm")
_START = ((0xB7, 0, 0, 0, 1), "r0 = 1")
_LEAVE = ((0x95, 0, 0, 0, 0), "exit")


def _refused(name, insn, words, *, at=1, behind=()):
    """The instruction at index 1 of a program that is good otherwise."""
    return Spec(
        f"{name}",
        f"refused: {words}",
        raw=(_START, (insn, "the instruction"), *behind, _LEAVE),
        error=f"{words}; instruction {at}",
        source=SECTION,
    )


def _set(group, form, insn, fields, words, **more):
    """One vector for each field: `insn` with this value in it."""
    for field, value in fields.items():
        changed = dict(zip(_FIELDS, insn, strict=True)) | {field: value}
        yield _refused(f"{group}/{form}-reserved-{field}", tuple(changed.values()), words, **more)


def arithmetic():
    for bits, cls in ((32, 0x04), (64, 0x07)):
        for name, op in _ALU.items():
            words = f"{'BPF_MOV' if name == 'mov' else 'BPF_ALU'} uses reserved fields"
            off = {"div": 2, "mod": 2, "mov": 7}.get(name, 1)
            yield from _set(f"{name}{bits}", "imm", (op | cls, 0, 0, 0, 3),
                            {"src": 1, "off": off}, words)  # fmt: skip
            yield from _set(f"{name}{bits}", "reg", (op | cls | _X, 0, 0, 0, 0),
                            {"imm": 1, "off": off}, words)  # fmt: skip
        for name, op in (("sdiv", 0x30), ("smod", 0x90)):
            words = "BPF_ALU uses reserved fields"
            yield from _set(f"{name}{bits}", "imm", (op | cls, 0, 0, 1, 3),
                            {"src": 1, "off": -1}, words)  # fmt: skip
            yield from _set(f"{name}{bits}", "reg", (op | cls | _X, 0, 0, 1, 0),
                            {"imm": 1, "off": -1}, words)  # fmt: skip
        yield from _set(f"neg{bits}", "reg", (0x80 | cls, 0, 0, 0, 0),
                        {"src": 1, "off": 1, "imm": 1}, "BPF_NEG uses reserved fields")  # fmt: skip
        yield from _set(f"neg{bits}", "reg", (0, 0, 0, 0, 0), {"code": 0x88 | cls},
                        f"unknown opcode {0x88 | cls:02x}")  # fmt: skip
        for width in (8, 16, 32)[: 3 if bits == 64 else 2]:
            group, code = f"movsx{width}to{bits}", 0xB0 | cls
            words = "BPF_MOV uses reserved fields"
            yield from _set(group, "reg", (code | _X, 0, 0, width, 0), {"imm": 1}, words)
            yield _refused(f"{group}/imm-reserved-off", (code, 0, 0, width, 1), words)
    yield _refused("mov32/reg-reserved-off-32", (0xBC, 0, 0, 32, 0), "BPF_MOV uses reserved fields")
    for name, code in (("le", 0xD4), ("be", 0xDC), ("bswap", 0xD7)):
        for width in (16, 32, 64):
            # imm is what tells the widths apart
            fields = {"src": 1, "off": 1, **({"imm": 8} if width == 16 else {})}
            yield from _set(f"{name}{width}", "reg", (code, 0, 0, 0, width), fields,
                            "BPF_END uses reserved fields")  # fmt: skip
    yield from _set("bswap16", "reg", (0, 0, 0, 0, 16), {"code": 0xDF}, "unknown opcode df")


def jumps():
    words = "BPF_JMP/JMP32 uses reserved fields"
    for bits, cls in ((64, 0x05), (32, 0x06)):
        for name, op in _JUMPS.items():
            yield from _set(f"{name}{bits}", "imm", (op | cls, 0, 0, 0, 1), {"src": 1}, words)
            yield from _set(f"{name}{bits}", "reg", (op | cls | _X, 0, 0, 0, 0), {"imm": 1}, words)
    words = "BPF_JA uses reserved fields"
    yield from _set("ja", "off", (0x05, 0, 0, 0, 0), {"dst": 1, "src": 1, "imm": 1}, words)
    yield from _set("ja32", "off", (0x06, 0, 0, 0, 0), {"dst": 1, "src": 1, "off": 1}, words)
    yield from _set("gotox", "reg", (0x0D, 0, 0, 0, 0), {"src": 1, "off": 1, "imm": 1},
                    "BPF_JA|BPF_X uses reserved fields")  # fmt: skip
    yield from _set("may_goto", "off", (0xE5, 0, 0, 0, 0), {"dst": 1, "src": 1},
                    "invalid may_goto imm 0")  # fmt: skip
    yield from _set("may_goto", "off", (0xE5, 0, 0, 0, 0), {"imm": 1}, "invalid may_goto imm 1")
    words = "BPF_EXIT uses reserved fields"
    yield from _set("exit", "none", (0x95, 0, 0, 0, 0), {"dst": 1, "src": 1, "imm": 1}, words)
    yield from _set("exit", "none", (0x95, 0, 0, 0, 0), {"off": 1}, "reserved by RFC 9669")


def calls():
    words = "BPF_CALL uses reserved fields"
    yield from _set("call", "none", (0x85, 0, 0, 0, 5), {"dst": 1, "src": 3, "off": 1}, words)
    yield from _set("call_local", "none", (0x85, 0, 1, 0, 1), {"dst": 1, "off": 1}, words,
                    behind=(_LEAVE, _START))  # fmt: skip
    yield from _set("call_kfunc", "none", (0x85, 0, 2, 0, 1), {"dst": 1}, words)
    yield from _set("callx", "none", (0x8D, 0, 0, 0, 0), {"src": 1, "off": 1, "imm": 1},
                    "unknown opcode 8d")  # fmt: skip


def memory():
    for bits, size in _SIZES.items():
        yield from _set(f"ldx{bits}", "mem", (0x61 | size, 0, 1, 0, 0), {"imm": 1},
                        "BPF_LDX uses reserved fields")  # fmt: skip
        if bits < 64:
            yield from _set(f"ldxs{bits}", "mem", (0x81 | size, 0, 1, 0, 0), {"imm": 1},
                            "BPF_LDX uses reserved fields")  # fmt: skip
        yield from _set(f"st{bits}", "imm", (0x62 | size, 10, 0, -8, 0), {"src": 1},
                        "BPF_ST uses reserved fields")  # fmt: skip
        yield from _set(f"stx{bits}", "reg", (0x63 | size, 10, 0, -8, 0), {"imm": 1},
                        "BPF_STX uses reserved fields")  # fmt: skip
        for name, operation in (("load_acquire", 0x100), ("store_release", 0x110)):
            form = "mem" if name == "load_acquire" else "reg"
            wrong = operation | 2
            yield from _set(f"{name}{bits}", form, (0xC3 | size, 10, 0, -8, operation),
                            {"imm": wrong},
                            f"BPF_ATOMIC uses invalid atomic opcode {wrong:02x}")  # fmt: skip


def atomics():
    for bits in (32, 64):
        code = 0xC3 | _SIZES[bits]
        operations = {
            **{f"atomic_{name}": value for name, value in _ATOMIC.items()},
            **{f"fetch_{name}": value | 1 for name, value in _ATOMIC.items()},
            "xchg": 0xE1,
            "cmpxchg": 0xF1,
        }
        for name, value in operations.items():
            # 2 is a bit that nothing uses; xchg and cmpxchg without the fetch bit do not exist
            wrong = value ^ 1 if name in ("xchg", "cmpxchg") else value | 2
            yield from _set(f"{name}{bits}", "mem", (code, 10, 0, -8, value), {"imm": wrong},
                            f"BPF_ATOMIC uses invalid atomic opcode {wrong:02x}")  # fmt: skip
            for narrow in (8, 16) if bits == 32 else ():
                yield _refused(f"{name}32/mem-reserved-size-{narrow}",
                               (0xC3 | _SIZES[narrow], 10, 0, -8, value),
                               "invalid atomic operand size")  # fmt: skip


def wide():
    second = ((0, 0, 0, 0, 0), "its second half")
    yield from _set("lddw", "imm", (0x18, 0, 0, 0, 1), {"off": 1},
                    "BPF_LD_IMM64 uses reserved fields", behind=(second,))  # fmt: skip
    yield from _set("lddw", "imm", (0x18, 0, 0, 0, 1), {"src": 7},
                    "unrecognized bpf_ld_imm64 insn", behind=(second,))  # fmt: skip
    for field, insn in (("code", (7, 0, 0, 0, 0)), ("dst", (0, 1, 0, 0, 0)),
                        ("src", (0, 0, 1, 0, 0)), ("off", (0, 0, 0, 1, 0))):  # fmt: skip
        yield _refused(f"lddw/imm-reserved-second-{field}", (0x18, 0, 0, 0, 1),
                       "invalid bpf_ld_imm64 insn", at=2,
                       behind=((insn, "its second half"),))  # fmt: skip
    for src, name in ((1, "map_by_fd"), (5, "map_by_idx")):
        yield _refused(f"{name}/imm-reserved-high", (0x18, 0, src, 0, 1),
                       "unrecognized bpf_ld_imm64 insn",
                       behind=(((0, 0, 0, 0, 1), "its second half"),))  # fmt: skip
    for src, name in enumerate(("map_by_fd", "map_val_by_fd", "var_addr", "code_addr",
                                "map_by_idx", "map_val_by_idx"), 1):  # fmt: skip
        yield from _set(name, "imm", (0x18, 0, src, 0, 1), {"off": 1},
                        "BPF_LD_IMM64 uses reserved fields", behind=(second,))  # fmt: skip


def packet():
    words = "BPF_LD_[ABS|IND] uses reserved fields"
    for bits in (8, 16, 32):
        yield from _set(f"ld_abs{bits}", "imm", (0x20 | _SIZES[bits], 0, 0, 0, 0),
                        {"dst": 1, "src": 1, "off": 1}, words)  # fmt: skip
        yield from _set(f"ld_ind{bits}", "reg", (0x40 | _SIZES[bits], 0, 0, 0, 0),
                        {"dst": 1, "off": 1}, words)  # fmt: skip


def opcodes_and_registers():
    for code in (0x00, 0x01, 0x02, 0x0E, 0x38, 0x58, 0x86, 0x8C, 0x8E, 0x96, 0x98, 0x99, 0x9D,
                 0xA1, 0xC1, 0xC2, 0xDF, 0xE3, 0xE4, 0xE6, 0xE7, 0xF4, 0xF5, 0xF6, 0xF7,
                 0xFF):  # fmt: skip
        yield _refused(f"unknown/none-reserved-opcode-{code:02x}", (code, 0, 0, 0, 0),
                       f"unknown opcode {code:02x}")  # fmt: skip
    for register in (12, 15):
        for name, insn in (
            ("add64", (0x07, register, 0, 0, 1)), ("add32", (0x04, register, 0, 0, 1)),
            ("jeq64", (0x15, register, 0, 0, 1)), ("jeq32", (0x16, register, 0, 0, 1)),
            ("ldx32", (0x61, register, 1, 0, 0)), ("st32", (0x62, register, 0, 0, 1)),
            ("stx32", (0x63, register, 1, 0, 0)), ("mov64", (0xB7, register, 0, 0, 1)),
        ):  # fmt: skip
            form = {"ldx32": "mem", "stx32": "reg"}.get(name, "imm")
            yield _refused(f"{name}/{form}-reserved-r{register}", insn, f"R{register} is invalid")


def structure():
    source = "check_subprogs() of kernel/bpf/verifier.c"
    move, leave = _START, _LEAVE
    for name, insn, words in (
        ("jeq64/imm-refused-beyond-the-end", (0x15, 0, 0, 100, 1), "from insn 1 to 102"),
        ("jeq64/imm-refused-before-the-start", (0x15, 0, 0, -3, 1), "from insn 1 to -1"),
        ("ja/off-refused-beyond-the-end", (0x05, 0, 0, 1, 0), "from insn 1 to 3"),
        (
            "ja32/off-refused-beyond-the-end",
            (0x06, 0, 0, 0, 0x7FFFFFFF),
            "from insn 1 to 2147483649",
        ),
        ("may_goto/off-refused-beyond-the-end", (0xE5, 0, 0, 1, 0), "from insn 1 to 3"),
    ):
        yield Spec(name, "refused: a jump that leaves the program",
                   raw=(move, (insn, "the jump"), leave),
                   error=f"jump out of range {words}", source=source)  # fmt: skip
    yield Spec("exit/none-refused-missing", "refused: execution would run off the end",
               raw=(move,), error="last insn is not an exit or jmp; function main",
               source=source)  # fmt: skip
    yield Spec("call_local/none-refused-nowhere", "refused: a call of no instruction",
               raw=(move, ((0x85, 0, 1, 0, 50), "call +50"), leave),
               error="call to invalid destination; instruction 1", source=source)  # fmt: skip
    yield Spec("call_kfunc/none-refused-no-name", "refused: no kernel function has a number here",
               raw=(move, ((0x85, 0, 2, 0, 42), "call kernel function 42"), leave),
               error="kernel function 42: raw instructions come without; instruction 1 in main",
               source=SECTION)  # fmt: skip
    for src, form in enumerate(("map_by_fd", "map_val_by_fd", "var_addr", "code_addr",
                                "map_by_idx", "map_val_by_idx"), 1):  # fmt: skip
        yield Spec(f"{form}/imm-refused-no-such-thing", "refused: there is nothing to refer to",
                   raw=(move, ((0x18, 1, src, 0, 9), f"r1 = {form}(9)"),
                        ((0, 0, 0, 0, 0), "its second half"), leave),
                   error=f"{form} 9: raw instructions come without; instruction 1 in main",
                   source=SECTION)  # fmt: skip
    yield Spec(
        "call_local/none-refused-nine-frames", "refused: main and eight frames below it",
        asm=("call local f", "exit", "f:", "call local f", "exit"),
        error="the call stack of 9 frames is too deep !; instruction 2 in function at 2",
        source="check_max_stack_depth() of kernel/bpf/verifier.c",
    )  # fmt: skip
    for register, line in ((0, "exit"), (3, "mov %r0, %r3"), (5, "add %r0, %r5"),
                           (7, "jeq %r7, 0, +0"), (9, "stxdw [%r10-8], %r9"),
                           (4, "ldxw %r0, [%r4+0]")):  # fmt: skip
        before = ("mov %r0, 1",) if register else ()
        what = f"R{register} is not initialised; instruction {len(before)} in main"
        yield Spec(f"uninitialised/reg-refused-r{register}", f"refused: nothing is in R{register}",
                   asm=(*before, line, *(("exit",) if register else ())),
                   error=what if register else "R0 of main is not initialised at exit",
                   source="check_reg_arg() of kernel/bpf/verifier.c")  # fmt: skip


def cases():
    for part in (arithmetic, jumps, calls, memory, atomics, wide, packet, opcodes_and_registers,
                 structure):  # fmt: skip
        yield from part()
