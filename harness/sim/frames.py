# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Live frames and how many of them there may be: data, and one check."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.bpf.link import LinkedFunction, Program
from harness.sim.memory import Region
from harness.sim.semantics import Profile
from harness.sim.signals import Fault, Unsupported

# of all programs together
MAX_LIVE_FRAMES = 128
# calls of Python functions that a frame takes at most, on any engine; and those below the machine
_PYTHON_CALLS = 16
_PYTHON_CALLS_BELOW = 500
PROGRAM = "program"
SUBPROGRAM = "subprogram"
# called by a helper
CALLBACK = "callback"
EXCEPTION_CALLBACK = "exception callback"


@dataclass(slots=True)
class Frame:
    """One live function."""

    program: Program
    function: LinkedFunction
    # PROGRAM, SUBPROGRAM, CALLBACK or EXCEPTION_CALLBACK
    kind: str
    stack: Region
    # R0 to R10; the reference engine works in them, others leave them as they were at the start
    registers: list[Any]


def allow_depth() -> None:
    """Let Python nest as deep as MAX_LIVE_FRAMES need; its own limit is for runaway recursion."""
    needed = MAX_LIVE_FRAMES * _PYTHON_CALLS + _PYTHON_CALLS_BELOW
    sys.setrecursionlimit(max(sys.getrecursionlimit(), needed))


def frames_left(frames: Sequence[Frame], profile: Profile) -> int:
    """Frames of static subprograms that check_depth() still accepts on top of these."""
    return min(profile.max_frames - _chain(frames, profile), MAX_LIVE_FRAMES - len(frames))


def check_depth(frames: Sequence[Frame], profile: Profile) -> None:
    """check_max_stack_depth_subprog(): frames of one call chain of one program.

    Raises Fault for a chain that is too deep, Unsupported for too many frames in all.
    """
    if len(frames) <= profile.max_frames:
        return  # so few in all, whatever the chains are
    if len(frames) > MAX_LIVE_FRAMES:
        raise Unsupported(f"more than {MAX_LIVE_FRAMES} frames")
    count = _chain(frames, profile)
    if count > profile.max_frames:
        raise Fault(f"the call stack of {count} frames is too deep !")


def _chain(frames: Sequence[Frame], profile: Profile) -> int:
    """Frames of the call chain that the last one is in."""
    count = 0
    for frame in reversed(frames):
        count += 1
        restart = profile.frames_restart_at_global and frame.function.linkage == "global"
        if frame.kind in (PROGRAM, EXCEPTION_CALLBACK) or restart:
            break
    return count
