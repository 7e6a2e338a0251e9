# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/instructions.md: the table of instructions as a page.

`python -m harness.bpf.page > docs/instructions.md` makes it again.
"""

from harness.bpf.opcodes import FORMS, PARAMS, REGISTER, Allowed, Form

_CLASSES = ("LD", "LDX", "ST", "STX", "ALU", "JMP", "JMP32", "ALU64")
_TOP = """# Instructions

<!-- made by `python -m harness.bpf.page > docs/instructions.md`; change harness/bpf/opcodes.py -->

Every instruction that the simulator knows: all of RFC 9669 and what kernels added. Decoder,
disassembler, assembler and the check of reserved fields read the same table
(`harness/bpf/opcodes.py`).

- `dst`, `src`, `off`, `imm`: what the field may hold; *r* is a register 0 to 10, *any* any value,
  *-* zero. Anything else is refused before the program runs, in the verifier's words with the
  instruction, the field and the value: `BPF_ALU uses reserved fields (off is 1); instruction 3`.
  (0): must be 0 by RFC 9669, section 3, but no kernel looks.
- *group*: conformance group of RFC 9669. *since*: first kernel that takes it; *internal* is only
  made by a kernel itself, *never* is known to others only (LLVM, bpf_conformance).
- A wide instruction takes two slots; *high* is the `imm` of the second.

## Text

| dialect | what it is |
|---|---|
| `kernel` | kernel/bpf/disasm.c, as in `bpftool prog dump xlated`, for any bytes |
| `llvm` | `llvm-objdump-19 -d`; 32-bit atomics as with `--mattr=+alu32` |
| `source` | the kernel's, but no two instructions look alike: what `bpfthrow asm` reads |

    bpfthrow disasm prog.bpf.o --prog main --linked --dialect source > prog.s
    bpfthrow asm prog.s -o prog.bin --check 6.12
    bpfthrow asm prog.s -o prog.bpf.o            # an object for libbpf and `bpfthrow sim`

Tests hold the first against recordings of bpftool in guests (`python tests/record_xlated.py 6.12`
makes one again) and the second against llvm-objdump-19 itself, for every object of `progs/`.

The assembler reads all three, one instruction a line, with an index and `(opcode)` in front or
without. Beyond them it has:

| text | what it does |
|---|---|
| `name:` | a label, for `goto`, `call`, `subprog[name]` |
| `.func NAME [global [TYPE]]` | a function begins; those that are called do by themselves |
| `.section NAME`, `.callback NAME` | the program's section and exception callback |
| `call NAME` | a label, a helper, or else a kernel function |
| `map[NAME]`, `map[NAME][0]+8`, `ksym[NAME]` | address of a map, of a global, of an extern |
| `type[struct NAME]` | number of a type of the object, as bpf_obj_new() wants it |
| `.insn 0x07, 1, 0, 0, 5` | one slot: opcode, dst, src, off, imm |
| `;`, `//`, `#` | comments; `#` at the start of a line only |

In the kernel's dialect `r1 = 0x5` is a wide load and `r1 = 5` a move, as the kernel prints them;
with `--dialect llvm` both are moves and `r1 = 0x5 ll` is the wide load. A mistake is answered with
file, line, column and what was expected there.

## Declarations

What an object (`-o x.bpf.o`) needs around its instructions, one a line:

| text | what it declares |
|---|---|
| `.license GPL` | the licence; GPL unless told |
| `.map hits array key u32 value u64 entries 1 flags 0x400` | a map (see below) |
| `.inner NAME KIND ...` | what a map of maps holds, which says `of NAME` |
| `.globals .rodata 4 01000000` | a section of globals: name, bytes, content (else zeros) |
| `.variable 8 struct bpf_spin_lock lock` | a variable in it: byte, type, name |
| `.struct elem 8`, `.union NAME BYTES` | a type: name, bytes |
| `.member 4 struct bpf_spin_lock lock` | its next member: byte, type, name |
| `.extern [weak] void bpf_throw(u64)` | a function of the kernel |
| `.extern struct rq runqueues` | a variable of the kernel |
| `.tag contains:node:link` | declaration tag of the struct, member, variable or function before |
| `.argument 1 arg:nonnull` | the same of an argument of the function before |

Of a map, all but name and kind (as bpftool says it: `ringbuf`, `array_of_maps`) may be left out;
`key 4` gives a size for a type; there is `extra N` too. Variables are needed only where a kernel
looks after them: locks, lists, trees.

A TYPE is read from left to right: `void`, `u8` to `s64`, `int`, `bool`, `char`, `struct NAME`,
`union NAME`, `enum NAME`, then `*`, `[N]`, `(TYPE, ...)` for a function that returns what stands
before, and `__kptr` and its like in front of a `*`: `int(struct elem *)`, `struct node __kptr *`,
`u8[16]`. A struct that nobody declared has no members, which is enough where only its name counts.
Functions without a TYPE return int; a global one takes a u64, as an exception callback does.
`bpf_throw` and the kernel functions of RCU and preemption need no declaration.

`bpfthrow repro FILE --minimize` writes programs so ([repro.md](repro.md)).

## Not executed

`gotox`, arguments on the stack (r11) and wide loads with numbers of maps or variables that
belong to a running kernel end in `unsupported`, by name, when they are reached.
LD_ABS and LD_IND beyond the packet end the function with R0 = 0, as the kernel's rewrite does.

## Table
"""


def page() -> str:
    """The whole page."""
    parts = [_TOP]
    for number, name in enumerate(_CLASSES):
        forms = sorted((f for f in FORMS if f.code & 7 == number), key=lambda f: f.code)
        parts.append(f"### {name}\n")
        parts.append("| opcode | name | text | dst | src | off | imm | group | since |")
        parts.append("|---|---|---|---|---|---|---|---|---|")
        parts += [_row(form) for form in forms]
        parts.append("")
    return "\n".join(parts)


def _row(form: Form) -> str:
    fields = [_shown(form, name) for name in ("dst", "src", "off", "imm")]
    if form.wide:
        fields[3] += f", high {_shown(form, 'high')}"
    text = form.syntax.replace("|", "\\|")
    cells = [f"0x{form.code:02x}", form.name, f"`{text}`", *fields, form.group, form.since]
    return "| " + " | ".join(cell or "-" for cell in cells) + " |"


def _shown(form: Form, name: str) -> str:
    allowed: Allowed = getattr(form, name)
    if name in form.unchecked:
        return "(0)"
    if allowed is None:
        return "any"
    if allowed == REGISTER:
        return "r"
    if allowed == {PARAMS}:
        return "r11"
    values = sorted(allowed)
    if values == [0]:
        return "-"
    if len(values) > 4:
        return f"{values[0]}, {values[1]}, ... {values[-1]}"
    return ", ".join(hex(v) if form.name != "percpu_addr" and v > 64 else str(v) for v in values)


if __name__ == "__main__":
    print(page(), end="")
