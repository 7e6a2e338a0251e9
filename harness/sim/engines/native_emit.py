# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One function of a linked program as LLVM IR.

Owns control flow: blocks and their cost, calls of subprograms and of Python, how a function is
left. Every function takes the shared memory, R1 to R5, which of them hold something, the address
of its stack, its depth and the budget, and gives R0, the budget and a status
(harness.sim.engines.native_layout). The budget travels in a register, so that a loop pays next to
nothing for it. What is rare ends in `leave`.
"""

from dataclasses import dataclass

from harness.bpf import isa
from harness.bpf.isa import Class, Insn
from harness.sim.alu import M32
from harness.sim.engines import native_layout as at
from harness.sim.engines.blocks import is_subprogram_call
from harness.sim.engines.native_alu import alu, alu_name, condition, constant, jump_name
from harness.sim.engines.native_facts import (
    ARGUMENTS,
    FRAME,
    Facts,
    Known,
    after,
    gives_at,
    simple,
    stepped,
)
from harness.sim.engines.native_memory import access
from harness.sim.engines.native_text import COLD, GUEST, OWN, Text, results
from harness.sim.frames import MAX_LIVE_FRAMES
from harness.sim.memory import STACK_BYTES

PARAMETERS = (
    "ptr %st, i64 %a1, i64 %a2, i64 %a3, i64 %a4, i64 %a5, i64 %full, i64 %frame, i64 %depth, "
    "i64 %budget"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """What the functions of one program have in common while they are written."""

    # of the program in its machine
    number: int
    # first instruction -> function
    by_start: dict[int, Facts]
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
        self.known = Known(frozenset(), frozenset(), 0)
        self.pc = facts.function.start
        # whether the block that is being written may run many times
        self.in_loop = False
        # blocks that are almost never reached, written behind the others
        self._cold: list[list[str]] = []

    # ---- registers ------------------------------------------------------------------------

    def get(self, register: int) -> str:
        """Value of a register, checked to hold something."""
        if register == FRAME and self.facts.fixed_frame:
            return "%top"
        if register not in self.known.must:
            self._check(register)
        return self.op(f"load i64, ptr %r{register}")

    def put(self, register: int, value: str) -> None:
        """Give a register a value."""
        self.add(f"store i64 {value}, ptr %r{register}")
        self.hold(register, "true")

    def hold(self, register: int, bit: str) -> None:
        """Note whether a register holds something, where anybody asks."""
        if register in self.facts.asked:
            self.add(f"store i1 {bit}, ptr %k{register}")

    def _check(self, register: int) -> None:
        if register in self.known.may:
            bit = self.op(f"load i1, ptr %k{register}")
            good = self.fresh()
            empty = self.ended(at.NOT_INITIALISED, register)
            self.add(f"br i1 {bit}, label %{good}, label %{empty}")
            self.label(good)
        else:
            good = self.fresh()
            self.add(f"br label %{self.ended(at.NOT_INITIALISED, register)}")
            self.label(good)
        must = self.known.must | {register}
        self.known = Known(must, self.known.may | must, self.known.stack)

    def bits(self, registers: range) -> str:
        """Which registers hold something, bit 0 the first: an i64."""
        fixed = sum(1 << i for i, r in enumerate(registers) if r in self.known.must)
        total = str(fixed)
        for index, register in enumerate(registers):
            if register in self.known.may and register not in self.known.must:
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

    def site(self) -> int:
        """The instruction, with the number of its program."""
        return self.unit.number << 32 | self.pc

    def unpack(self, made: str) -> str:
        """Take the budget out of a call's results, leave if it went wrong; its value."""
        value, status = self.unpack_status(made)
        self.leave_unless_ok(status)
        return value

    def leave_unless_ok(self, status: str) -> None:
        """Go on only when a callee's status is OK."""
        good = self.fresh()
        zero = self.op(f"icmp eq i64 {status}, 0")
        self.add(f"store i64 {status}, ptr %status")
        self.add(f"br i1 {zero}, label %{good}, label %leave")
        self.label(good)

    def unpack_status(self, made: str) -> tuple[str, str]:
        """Take the budget out of a call's results: value and status."""
        value = self.op(f"extractvalue %r {made}, 0")
        self.add(f"store i64 {self.op(f'extractvalue %r {made}, 1')}, ptr %bud")
        return value, self.op(f"extractvalue %r {made}, 2")

    def left(self) -> str:
        """The budget as the last argument of a call."""
        return f"i64 {self.op('load i64, ptr %bud')}"

    def call_out(self, what: int, *arguments: str | int, depth: str = "%depth") -> str:
        """Ask Python; the results, still packed."""
        a, b, c = (*arguments, 0, 0, 0)[:3]
        return self.op(
            f"call %r @call_out(ptr %st, i64 {what}, i64 {self.site()}, i64 {a}, i64 {b}, "
            f"i64 {c}, i64 {depth}, {self.left()})"
        )

    # ---- the whole ------------------------------------------------------------------------

    def written(self) -> str:
        """The definition."""
        self._start()
        for start, block in self.facts.blocks.items():
            if start not in self.facts.entries:
                continue
            self.known, self.pc = self.facts.entries[start], start
            self.in_loop = start in self.facts.looping
            self.label(f"b{start}")
            self._charge(block.cost)
            for pc in block.pcs:
                self.pc = pc
                known = after(
                    self.facts,
                    self.known,
                    pc,
                    gives=gives_at(self.facts, self.unit.by_start, pc),
                )
                self._instruction(self.program.insns[pc])
                self.known = known
            self._fall_through(self.program.insns[block.last], block.successors)
        self._finish()
        name = f"@f{self.facts.index}"
        body = "\n".join(["\n".join(lines) for lines in (self.lines, *self._cold)])
        return f"define internal fastcc %r {name}({PARAMETERS}) {{\n{body}\n}}"

    def _start(self) -> None:
        self.label("entry")
        for register in range(FRAME + 1):
            self.add(f"%r{register} = alloca i64")
            if register in self.facts.asked:
                self.add(f"%k{register} = alloca i1")
        for name in ("bud", "status", "why", "where"):
            self.add(f"%{name} = alloca i64")
        self.add(f"%top = add i64 %frame, {STACK_BYTES}")
        self.add("store i64 %budget, ptr %bud")
        self.add(f"store i64 %top, ptr %r{FRAME}")
        for register in range(FRAME):
            argument = f"%a{register}" if register in ARGUMENTS else "0"
            self.add(f"store i64 {argument}, ptr %r{register}")
            if register in self.facts.asked:
                bit = "false"
                if register in ARGUMENTS:
                    shifted = self.op(f"lshr i64 %full, {register - 1}")
                    bit = self.op(f"trunc i64 {shifted} to i1")
                self.add(f"store i1 {bit}, ptr %k{register}")
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
        for field, value in (
            (at.RECORD_FRAME, "%frame"),
            (at.RECORD_FUNCTION, self.unit.number << 32 | self.facts.index),
        ):
            cell = self.op(f"getelementptr i8, ptr %record, i64 {field}")
            self.add(f"store i64 {value}, ptr {cell}{OWN}")
        for field, name in ((at.RECORD_DATA, "data"), (at.RECORD_SHADOW, "shadow")):
            cell = self.op(f"getelementptr i8, ptr %record, i64 {field}")
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
        self.add(f"ret %r {results(self, '0', budget, status)}")

    def _charge(self, cost: int) -> None:
        left = self.op(f"sub i64 {self.op('load i64, ptr %bud')}, {cost}")
        self.add(f"store i64 {left}, ptr %bud")
        broke = self.op(f"icmp slt i64 {left}, 0")
        go_on = self.fresh()
        self.add(f"br i1 {broke}, label %{self.ended(at.NO_BUDGET)}, label %{go_on}{COLD}")
        self.label(go_on)

    def _fall_through(self, last: Insn, successors: tuple[int, ...]) -> None:
        jumps = last.cls in (Class.JMP, Class.JMP32) and last.code != isa.CALL
        if jumps and not stepped(self.program, self.pc) and last.code != isa.MAY_GOTO:
            return
        goes_on = self.pc + (2 if last.code == isa.LD_IMM64 else 1)
        self.add(f"br label %{self.target(goes_on)}")

    def target(self, pc: int) -> str:
        """Label of a block, or of the fault that leaving the function is."""
        return f"b{pc}" if pc in self.facts.entries else self.ended(at.RUNS_OFF, pc)

    # ---- instructions ---------------------------------------------------------------------

    def _instruction(self, insn: Insn) -> None:
        if stepped(self.program, self.pc):
            self._step()
        elif insn.code == isa.LD_IMM64:
            self._load_immediate(insn)
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

    def _load_immediate(self, insn: Insn) -> None:
        if simple(self.program, self.pc):
            self.put(insn.dst, str(self.unit.constants[self.pc]))
        else:
            self.put(insn.dst, self.unpack(self.call_out(at.ADDRESS)))

    def _jump(self, insn: Insn) -> None:
        if insn.code == isa.EXIT:
            self._exit()
        elif is_subprogram_call(insn):
            self._call(insn)
        elif insn.code == isa.CALL:
            self._outside(insn)
        elif insn.code in (isa.JA, isa.JA32):
            away = insn.imm if insn.code == isa.JA32 else insn.off
            self.add(f"br label %{self.target(self.pc + 1 + away)}")
        elif insn.code != isa.MAY_GOTO:
            left = self.get(insn.dst)
            right = self.get(insn.src) if insn.uses_register else constant(insn)
            holds = condition(self, jump_name(insn), insn, left, right)
            taken, behind = self.target(self.pc + 1 + insn.off), self.target(self.pc + 1)
            self.add(f"br i1 {holds}, label %{taken}, label %{behind}")

    def _exit(self) -> None:
        value, budget, status = self.op("load i64, ptr %r0"), self.op("load i64, ptr %bud"), "0"
        if 0 not in self.known.must:
            status = str(at.EMPTY)
            if 0 in self.known.may:
                bit = self.op("load i1, ptr %k0")
                status = self.op(f"select i1 {bit}, i64 0, i64 {at.EMPTY}")
        self.add(f"ret %r {results(self, value, budget, status)}")

    def _step(self) -> None:
        """The reference interpreter does one instruction on all registers."""
        for register in range(FRAME + 1):
            value = self.op(f"load i64, ptr %r{register}")
            self.write(at.REGISTERS + 8 * register, value)
        self.unpack(self.call_out(at.STEP, self.bits(range(FRAME + 1))))
        full = self.read(at.KNOWN)
        for register in range(FRAME + (not self.facts.fixed_frame)):
            value = self.read(at.REGISTERS + 8 * register)
            self.add(f"store i64 {value}, ptr %r{register}")
            shifted = self.op(f"lshr i64 {full}, {register}")
            self.hold(register, self.op(f"trunc i64 {shifted} to i1"))

    # ---- calls ----------------------------------------------------------------------------

    def _outside(self, insn: Insn) -> None:
        """A helper or kfunc; bpf_throw() natively, where nothing but the cookie matters."""
        ref = self.program.refs.get(self.pc)
        if insn.src == isa.PSEUDO_KFUNC_CALL and ref is not None and ref.name == "bpf_throw":
            self._throw()
        for register in ARGUMENTS:
            value = self.op(f"load i64, ptr %r{register}")
            self.write(at.REGISTERS + 8 * register, value)
        value = self.unpack(self.call_out(at.OUTSIDE, self.bits(ARGUMENTS)))
        self.add(f"store i64 {value}, ptr %r0")
        if 0 in self.facts.asked:
            self.hold(0, self.op(f"trunc i64 {self.read(at.KNOWN)} to i1"))
        self._forget_arguments()

    def _forget_arguments(self) -> None:
        for register in ARGUMENTS:
            self.hold(register, "false")

    def _throw(self) -> None:
        bits = self.op(f"and i64 {self.bits(ARGUMENTS)}, {self.read(at.FAST_THROW)}")
        fast, slow = self.fresh(), self.fresh()
        possible = self.op(f"trunc i64 {bits} to i1")
        self.add(f"br i1 {possible}, label %{fast}, label %{slow}")
        self.label(fast)
        self.write(at.VALUE, self.op("load i64, ptr %r1"))
        self.write(at.EXIT_PC, self.site())
        self.leave(str(at.THROWN))
        self.label(slow)

    def _call(self, insn: Insn) -> None:
        """A subprogram: directly, or through Python where something watches or is held."""
        callee = self.unit.by_start[self.program.function_at(self.pc + 1 + insn.imm).start]
        values = [self.op(f"load i64, ptr %r{register}") for register in ARGUMENTS]
        full = self.bits(ARGUMENTS)
        done, direct = self.fresh(), self.fresh()
        if callee.index in self.unit.watched or not self.facts.pure:
            indirect = self.fresh()
            if callee.index in self.unit.watched:
                self.add(f"br label %{indirect}")
            else:
                held = self.op(f"icmp ne i64 {self.read(at.HELD)}, 0")
                self.add(f"br i1 {held}, label %{indirect}, label %{direct}{COLD}")
            self.label(indirect)
            self._call_through_python(callee, values, full)
            self.add(f"br label %{done}")
        else:
            self.add(f"br label %{direct}")
        if callee.index not in self.unit.watched:
            self.label(direct)
            self._call_directly(callee, values, full)
            self.add(f"br label %{done}")
        self.label(done)
        self._forget_arguments()

    def _call_through_python(self, callee: Facts, values: list[str], full: str) -> None:
        for register, value in zip(ARGUMENTS, values, strict=True):
            self.write(at.REGISTERS + 8 * register, value)
        value = self.unpack(self.call_out(at.CALL, full, callee.index))
        self.add(f"store i64 {value}, ptr %r0")
        if 0 in self.facts.asked:
            self.hold(0, self.op(f"trunc i64 {self.read(at.KNOWN)} to i1"))

    def _call_directly(self, callee: Facts, values: list[str], full: str) -> None:
        depth = self._deeper(callee)
        budget, frame = self.op("load i64, ptr %bud"), "0"
        if not callee.pure:  # else nobody sees it
            frame = self.op(f"call i64 @stack_address(ptr %st, i64 %depth, i64 {budget})")
        given = ", ".join(f"i64 {value}" for value in values)
        made = self.op(
            f"call fastcc %r @f{callee.index}(ptr %st, {given}, i64 {full}, i64 {frame}, "
            f"i64 {depth}, i64 {budget})"
        )
        value, status = self.unpack_status(made)
        self.add(f"store i64 {value}, ptr %r0")
        self.hold(0, "true")
        good, odd, end = self.fresh(), self.fresh(), self.fresh()
        zero = self.op(f"icmp eq i64 {status}, 0")
        self.add(f"br i1 {zero}, label %{good}, label %{odd}")
        self.label(odd)
        self._odd_return(callee, status, good, end)
        self.label(good)
        if not callee.pure:
            self._still_held(depth)
        self.add(f"br label %{end}")
        self.label(end)

    def _deeper(self, callee: Facts) -> str:
        """Depth of the callee. Ends where the chain or all frames are too many."""
        if self.unit.restarts_at_global and callee.function.linkage == "global":
            live = self.op(f"and i64 %depth, {~at.CHAIN_MASK}")
            depth = self.op(f"add i64 {live}, {(1 << at.LIVE_SHIFT) + 1}")
        else:
            depth = self.op(f"add i64 %depth, {(1 << at.LIVE_SHIFT) + 1}")
        chain = self.op(f"and i64 {depth}, {at.CHAIN_MASK}")
        deep = self.op(f"icmp ugt i64 {chain}, {self.unit.max_frames}")
        many = self.op(f"icmp uge i64 {depth}, {(MAX_LIVE_FRAMES + 1) << at.LIVE_SHIFT}")
        either = self.op(f"or i1 {deep}, {many}")
        go_on = self.fresh()
        ended = self.ended(at.TOO_DEEP, depth)
        self.add(f"br i1 {either}, label %{ended}, label %{go_on}{COLD}")
        self.label(go_on)
        return depth

    def _odd_return(self, callee: Facts, status: str, good: str, end: str) -> None:
        """No R0, a tail call that replaces the callee, or the end of this function too."""
        empty, other = self.fresh(), self.fresh()
        is_empty = self.op(f"icmp eq i64 {status}, {at.EMPTY}")
        self.add(f"br i1 {is_empty}, label %{empty}, label %{other}")
        self.label(empty)
        self.hold(0, "false")
        self.add(f"br label %{good}")
        self.label(other)
        if callee.pure:
            self.leave(status)
            return
        replaced, gone = self.fresh(), self.fresh()
        is_replaced = self.op(f"icmp eq i64 {status}, {at.REPLACED}")
        self.add(f"br i1 {is_replaced}, label %{replaced}, label %{gone}")
        self.label(gone)
        self.leave(status)
        self.label(replaced)
        value = self.unpack(self.call_out(at.REPLACE))
        self.add(f"store i64 {value}, ptr %r0")
        self.add(f"br label %{end}")

    def _still_held(self, depth: str) -> None:
        """The callee returned with something held: Python says whether it may."""
        held, free = self.fresh(), self.fresh()
        is_held = self.op(f"icmp ne i64 {self.read(at.HELD)}, 0")
        self.add(f"br i1 {is_held}, label %{held}, label %{free}{COLD}")
        self.label(held)
        self.unpack(self.call_out(at.RETURN, depth=depth))
        self.add(f"br label %{free}")
        self.label(free)


