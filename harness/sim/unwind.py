# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Leaving frames by a throw: who catches it, and in profile `cleanup` what each frame gives back.

Owns the two rules of a throw: it ends at the nearest frame that belongs to a program
(bpf_stack_walker() in kernel/bpf/helpers.c), and with `releases_at_throw` every frame on the way
first releases what it holds. The latter is the second half of the proposal (RFC "Exceptions -
Resource Cleanup", 1 February 2024, patches 5, 10 and 11), which no kernel has; docs/semantics.md
names the source of each rule and the rules that had to be chosen.
"""

from typing import TYPE_CHECKING

from harness.sim.frames import PROGRAM, SUBPROGRAM
from harness.sim.resources import Place, Resource
from harness.sim.signals import Fault
from harness.sim.trace import place

if TYPE_CHECKING:
    from harness.sim.frames import Frame
    from harness.sim.machine import Machine

_CALLEE_SAVED = range(6, 10)
_SLOT_BYTES = 8


def boundary(frames: "list[Frame]") -> int:
    """Index of the frame where a throw of the last frame ends.

    Raises Fault in callbacks: check_max_stack_depth_subprog() refuses them, in all profiles.
    """
    for index in range(len(frames) - 1, -1, -1):
        frame = frames[index]
        if frame.kind == PROGRAM:
            return index
        if frame.kind != SUBPROGRAM:
            raise Fault(f"bpf_throw called from {frame.kind} {frame.function.name}")
    raise Fault("bpf_throw called outside a program")


def leave(machine: "Machine") -> None:
    """A throw leaves the last frame. In profile `cleanup` it releases what it holds first.

    Newest first. Raises Fault when the program's own frame goes and something is left that no
    frame could name.
    """
    if not machine.profile.releases_at_throw:
        return
    resources = machine.resources
    depth = len(machine.frames) - 1
    frame = machine.frames[depth]
    for resource in [r for r in reversed(resources.live) if _holds(frame, depth, r)]:
        resources.live.remove(resource)
        acquired = place(resource.program, resource.pc)
        machine.trace.release(resource.release, resource.name, acquired)
        resource.drop()
    if frame.kind != PROGRAM:
        return
    lost = next((r for r in reversed(resources.live) if r.depth >= depth), None)
    if lost is not None:
        thrown = machine.line(frame.program, machine.pc)
        raise Fault(
            f"Unreleased reference: {resources.describe(lost)} is in no stack slot and in none "
            f"of R6 to R9 of any frame at the throw{' at ' * bool(thrown)}{thrown}: no cleanup "
            "table can name it"
        )


def _holds(frame: "Frame", depth: int, resource: Resource) -> bool:
    if resource.kind.place is Place.SECTION:
        return resource.depth >= depth
    if resource.kind.place is Place.SLOT:
        return resource.address >> 32 == frame.stack.key
    found = resource.address >> 32
    if any((frame.registers[number] or 0) >> 32 == found for number in _CALLEE_SAVED):
        return True
    data, shadow = frame.stack.data, frame.stack.shadow
    return any(
        int.from_bytes(data[at : at + _SLOT_BYTES], "little") >> 32 == found
        for at in range(0, len(data), _SLOT_BYTES)
        if shadow is None or all(shadow[at : at + _SLOT_BYTES])
    )
