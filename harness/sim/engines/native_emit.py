# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One function of a linked program as LLVM IR.

Owns registers, blocks and their cost, and how a function is left. Every function takes the shared
memory, R1 to R5, the address of its stack, its depth and the budget, and gives R0, the budget and a
status (harness.sim.engines.native_layout). The budget travels in a register, so that a loop pays
next to nothing for it. Calls are harness.sim.engines.native_calls's, memory is native_memory's.
"""

from dataclasses import dataclass, replace

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.sim.engines import native_layout as at
from harness.sim.engines.native_alu import alu, condition, constant
from harness.sim.engines.native_calls import call, outside, step
from harness.sim.engines.native_facts import FRAME, Facts, Known, after
from harness.sim.engines.native_insns import alu_name, jump_name, simple, stepped
from harness.sim.engines.native_memory import access
from harness.sim.engines.native_text import COLD, GUEST, OWN, Text, results
from harness.sim.memory import STACK_BYTES

PARAMETERS = (
    "ptr %st, i64 %a1, i64 %a2, i64 %a3, i64 %a4, i64 %a5, i64 %frame, i64 %depth, i64 %budget"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """What the functions of one program have in common while they are written."""

    # of the program in its machine
    number: int
    # indexes of the functions that are only called through Python
    watched: frozenset[int]
    # pc -> what a simple LD_IMM64 loads
    constants: dict[int, int]
    # Profile.max_frames, Profile.frames_restart_at_global
    max_frames: int
    restarts_at_global: bool


class Function(Text):
    """One function being written."""

    def __init__(self, unit: Unit, facts: Facts) -> None:
        super().__init__()
        self.unit = unit
        self.facts = facts
        self.program = facts.program
        self.known = Known(0, 0, 0)
        self.pc = facts.function.start
        # whether the block that is being written may run many times
        self.in_loop = False
        # of the block: register -> its value, where that is known without a look
        self._values: dict[int, str] = {}
        # registers whose value is not in %rN yet
        self._unsaved: set[int] = set()
        # the budget that is left
        self.budget = "%budget"
        # blocks that are almost never reached, written behind the others
        self._cold: list[list[str]] = []

    # ---- registers ------------------------------------------------------------------------

    def get(self, register: int) -> str:
        """Value of a register, checked to hold something."""
        if not self.known.must >> register & 1:
            self._check(register)
        return self.raw(register)

    def raw(self, register: int) -> str:
        """Value of a register, not checked; anything where it holds nothing."""
        if register == FRAME and self.facts.fixed_frame:
            return "%top"
        if register not in self._values:
            self._values[register] = self.op(f"load i64, ptr %r{register}")
        return self._values[register]

    def put(self, register: int, value: str) -> None:
        """Give a register a value."""
        self._values[register] = value
        self._unsaved.add(register)
        self.hold(register, "true")

    def hold(self, register: int, bit: str) -> None:
        """Note whether a register holds something, where anybody asks."""
        if self.facts.asked >> register & 1:
            self.add(f"store i1 {bit}, ptr %k{register}")

    def save(self) -> None:
        """Put all registers where other blocks find them."""
        for register in sorted(self._unsaved):
            self.add(f"store i64 {self._values[register]}, ptr %r{register}")
        self._unsaved.clear()

    def forget(self, *registers: int) -> None:
        """Registers have other values in %rN from here on."""
        for register in registers:
            self._values.pop(register, None)
            self._unsaved.discard(register)

    def spent(self, left: str) -> None:
        """The budget has another value from here on."""
        self.budget = left
        self.add(f"store i64 {left}, ptr %bud")

    def _check(self, register: int) -> None:
        good = self.fresh()
        empty = self.ended(at.NOT_INITIALISED, register)
        if self.known.may >> register & 1:
            bit = self.op(f"load i1, ptr %k{register}")
            self.add(f"br i1 {bit}, label %{good}, label %{empty}")
        else:
            self.add(f"br label %{empty}")
        self.label(good)
        self.known = replace(self.known, must=self.known.must | 1 << register)

    def bits(self, registers: range, wanted: int) -> str:
        """Which of the wanted registers hold something, bit 0 the first of `registers`: an i64."""
        must = self.known.must & wanted
        total = str(sum((must >> r & 1) << i for i, r in enumerate(registers)))
        for index, register in enumerate(registers):
            if (self.known.may & wanted & ~must) >> register & 1:
                wide = self.op(f"zext i1 {self.op(f'load i1, ptr %k{register}')} to i64")
                total = self.op(f"or i64 {total}, {self.op(f'shl i64 {wide}, {index}')}")
        return total

    # ---- leaving --------------------------------------------------------------------------

    def ended(self, kind: int, about: str | int = 0) -> str:
        """Label of a rare block that ends the function for a reason that Python words later."""
        hot, self.lines = self.lines, []
        name = self.fresh()
        self.label(name)
        wide = self.op(f"shl i64 {about}, 8")
        self.add(f"store i64 {self.op(f'or i64 {wide}, {kind}')}, ptr %why")
        self.add(f"store i64 {self.site()}, ptr %where")
        self.add("br label %ended")
        self._cold.append(self.lines)
        self.lines = hot
        return name

    def leave(self, status: str) -> None:
        """End the function with a status that is not OK."""
        self.add(f"store i64 {status}, ptr %status")
        self.add("br label %leave")

    def leave_unless_ok(self, status: str) -> None:
        """Go on only when a callee's status is OK."""
        good = self.fresh()
        zero = self.op(f"icmp eq i64 {status}, 0")
        self.add(f"store i64 {status}, ptr %status")
        self.add(f"br i1 {zero}, label %{good}, label %leave")
        self.label(good)

    def site(self) -> int:
        """The instruction, with the number of its program."""
        return self.unit.number << 32 | self.pc

    def unpack(self, made: str) -> tuple[str, str]:
        """Take the budget out of a call's results: value and status."""
        value = self.op(f"extractvalue %r {made}, 0")
        self.spent(self.op(f"extractvalue %r {made}, 1"))
        return value, self.op(f"extractvalue %r {made}, 2")

    def call_out(self, what: int, *arguments: str | int, depth: str = "%depth") -> str:
        """Ask Python, leave if it went wrong; its value."""
        a, b, c = (*arguments, 0, 0, 0)[:3]
        made = self.op(
            f"call %r @call_out(ptr %st, i64 {what}, i64 {self.site()}, i64 {a}, i64 {b}, "
            f"i64 {c}, i64 {depth}, i64 {self.budget})"
        )
        value, status = self.unpack(made)
        self.leave_unless_ok(status)
        return value

    # ---- the whole ------------------------------------------------------------------------

    def written(self) -> str:
        """The definition."""
        self._start()
        for start, block in self.facts.blocks.items():
            if start not in self.facts.entries:
                continue
            self.known, self.pc = self.facts.entries[start], start
            self.in_loop = start in self.facts.looping
            self._values.clear()
            self._unsaved.clear()  # an exit saves nothing
            self.label(f"b{start}")
            self._charge(block.cost)
            for pc in block.pcs:
                self.pc = pc
                known = after(self.facts, self.known, pc)
                self._instruction(self.program.insns[pc])
                self.known = known
            self._fall_through(self.program.insns[block.last])
        self._finish()
        body = "\n".join("\n".join(lines) for lines in (self.lines, *self._cold))
        return f"define internal fastcc %r @f{self.facts.index}({PARAMETERS}) {{\n{body}\n}}"

    def _start(self) -> None:
        self.label("entry")
        for register in range(FRAME + 1):
            self.add(f"%r{register} = alloca i64")
            if self.facts.asked >> register & 1:
                bit = "true" if self.facts.needs >> register & 1 else "false"
                self.add(f"%k{register} = alloca i1")
                self.add(f"store i1 {bit}, ptr %k{register}")
        for name in ("bud", "status", "why", "where"):
            self.add(f"%{name} = alloca i64")
        self.add(f"%top = add i64 %frame, {STACK_BYTES}")
        self.spent("%budget")
        self.add(f"store i64 %top, ptr %r{FRAME}")
        for register in range(FRAME):
            needed = self.facts.needs >> register & 1
            self.add(f"store i64 {f'%a{register}' if needed else 0}, ptr %r{register}")
        if self.facts.pure:
            self.add(f"%data = alloca [{STACK_BYTES} x i8], align 16")
        else:
            self._record()
        self.add(f"br label %b{self.facts.function.start}")

    def _record(self) -> None:
        """Let Python and the slow paths know the frame; its stack is unwritten."""
        live = self.op(f"lshr i64 %depth, {at.LIVE_SHIFT}")
        offset = self.op(f"mul i64 {live}, {at.RECORD_BYTES}")
        self.add(f"%record = getelementptr i8, ptr {self.cell(at.RECORDS)}, i64 {offset}")
        number = self.unit.number << 32 | self.facts.index
        for place, value in ((at.RECORD_FRAME, "%frame"), (at.RECORD_FUNCTION, number)):
            cell = self.op(f"getelementptr i8, ptr %record, i64 {place}")
            self.add(f"store i64 {value}, ptr {cell}{OWN}")
        for place, name in ((at.RECORD_DATA, "data"), (at.RECORD_SHADOW, "shadow")):
            cell = self.op(f"getelementptr i8, ptr %record, i64 {place}")
            self.add(f"%{name} = load ptr, ptr {cell}{OWN}")
        self.add(
            f"call void @llvm.memset.p0.i64(ptr %shadow, i8 0, i64 {STACK_BYTES}, i1 false){GUEST}"
        )

    def _finish(self) -> None:
        self.label("ended")
        self.write(at.EXIT_KIND, self.op("load i64, ptr %why"))
        self.write(at.EXIT_PC, self.op("load i64, ptr %where"))
        self.leave(str(at.FAULT))
        self.label("leave")
        status, budget = self.op("load i64, ptr %status"), self.op("load i64, ptr %bud")
        ended = self.op(f"icmp eq i64 {status}, {at.ENDED}")  # with R0 = 0
        status = self.op(f"select i1 {ended}, i64 {at.OK}, i64 {status}")
        self.add(f"ret %r {results(self, '0', budget, status)}")

    def _charge(self, cost: int) -> None:
        self.spent(self.op(f"sub i64 {self.op('load i64, ptr %bud')}, {cost}"))
        broke = self.op(f"icmp slt i64 {self.budget}, 0")
        go_on = self.fresh()
        self.add(f"br i1 {broke}, label %{self.ended(at.NO_BUDGET)}, label %{go_on}{COLD}")
        self.label(go_on)

    def _fall_through(self, last: Insn) -> None:
        jumps = last.cls in (Class.JMP, Class.JMP32) and last.code not in (isa.CALL, isa.MAY_GOTO)
        if jumps and not stepped(self.program, self.pc):
            return
        self.save()
        goes_on = self.pc + (2 if last.code == isa.LD_IMM64 else 1)
        self.add(f"br label %{self._target(goes_on)}")

    def _target(self, pc: int) -> str:
        """Label of a block, or of the fault that leaving the function is."""
        return f"b{pc}" if pc in self.facts.entries else self.ended(at.RUNS_OFF, pc)

    # ---- instructions ---------------------------------------------------------------------

    def _instruction(self, insn: Insn) -> None:
        if stepped(self.program, self.pc):
            step(self)
        elif insn.code == isa.LD_IMM64:
            if simple(self.program, self.pc):
                self.put(insn.dst, str(self.unit.constants[self.pc]))
            else:
                self.put(insn.dst, self.call_out(at.ADDRESS))
        elif insn.cls in (Class.ALU, Class.ALU64):
            self._alu(insn)
        elif insn.cls in (Class.JMP, Class.JMP32):
            self._jump(insn)
        else:
            access(self, insn)

    def _alu(self, insn: Insn) -> None:
        name = alu_name(insn)
        left = self.get(insn.dst) if name not in ("mov", "movsx") else "0"
        right = constant(insn)
        if insn.uses_register and name != "end":
            right = self.get(insn.src)
        self.put(insn.dst, alu(self, name, insn, left, right))

    def _jump(self, insn: Insn) -> None:
        if insn.code == isa.EXIT:
            self._exit()
        elif self.pc in self.facts.callees:
            call(self, self.facts.callees[self.pc])
        elif insn.code == isa.CALL:
            outside(self, insn)
        elif insn.code in (isa.JA, isa.JA32):
            self.save()
            away = insn.imm if insn.code == isa.JA32 else insn.off
            self.add(f"br label %{self._target(self.pc + 1 + away)}")
        elif insn.code != isa.MAY_GOTO:
            left = self.get(insn.dst)
            right = self.get(insn.src) if insn.uses_register else constant(insn)
            holds = condition(self, jump_name(insn), insn, left, right)
            self.save()
            taken, behind = self._target(self.pc + 1 + insn.off), self._target(self.pc + 1)
            self.add(f"br i1 {holds}, label %{taken}, label %{behind}")

    def _exit(self) -> None:
        status = "0"
        if not self.known.must & 1:
            status = str(at.EMPTY)
            if self.known.may & 1:
                bit = self.op("load i1, ptr %k0")
                status = self.op(f"select i1 {bit}, i64 0, i64 {at.EMPTY}")
        self.add(f"ret %r {results(self, self.raw(0), self.budget, status)}")
