# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The short way into a frame, for calls that the reference interpreter executes.

Taken where nobody watches, nothing is held and no limit is near: then all that Machine.call does
is a frame and a stack, which are kept from one call for the next. Every other call is the
machine's, which has the rules.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.bpf.program import LinkedFunction, Program
from harness.sim import unwind
from harness.sim.engines import Registers
from harness.sim.frames import SUBPROGRAM, Frame
from harness.sim.memory import GONE, idle_stack
from harness.sim.signals import TailCall, Throw

if TYPE_CHECKING:
    from harness.sim.machine import Machine


def caller(
    machine: "Machine", program: Program, callee: LinkedFunction, pc: int
) -> Callable[[Registers], int]:
    """What the call at `pc` does to the caller's registers; where to go on."""
    frames, memory, trace = machine.frames, machine.memory, machine.trace
    held, watched = machine.resources.live, machine.attached.by_function
    regions, begin, run = memory.regions, memory.begin_stack, machine.code(program).run
    # a call of the program itself may be one of what is attached to it
    most = 0 if callee is program.functions[0] else machine.profile.max_frames
    behind = pc + 1
    spare: Frame | None = None

    def call(regs: Registers) -> int:
        nonlocal spare
        machine.pc = pc
        if held or watched or trace.on or len(frames) >= most:
            regs[0] = machine.call(program, callee, regs[1:6], pc)
        else:
            frame, spare = spare or _idle(program, callee), None
            stack = frame.stack
            top = begin(stack, machine.budget)
            own = [None, regs[1], regs[2], regs[3], regs[4], regs[5], None, None, None, None, top]
            frame.registers = own
            frames.append(frame)
            target = None
            try:
                regs[0] = run(callee, own)
                if held:
                    machine.resources.check_return(len(frames) - 1)
            except Throw:
                unwind.leave(machine)
                raise
            except TailCall as tail:
                target = tail
            finally:
                frames.pop()
                del regions[top >> 32]  # what Memory.end_stack does, without a call
                stack.high, stack.top = 0, GONE
                spare = frame
            if target is not None:
                regs[0] = machine.replaced(target)
        regs[1] = regs[2] = regs[3] = regs[4] = regs[5] = None
        return behind

    return call


def _idle(program: Program, callee: LinkedFunction) -> Frame:
    """A frame that is not live."""
    return Frame(program, callee, SUBPROGRAM, idle_stack("stack of " + callee.name), [])
