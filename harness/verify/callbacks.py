# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Functions of the program that helpers call back: what they find in their registers.

Source: push_callback_call() and the set_*_callback_state() functions in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from harness.bpf.mapdef import MapType
from harness.verify import registers as r
from harness.verify.frames import Callback, Frame, State
from harness.verify.prediction import Category
from harness.verify.registers import Reg, scalar

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.verify.helperargs import Passed
    from harness.verify.walk import Walk

# the kernel's type that bpf_get_current_task_btf() gives and bpf_find_vma() takes
TASK: Final = "task_struct"
_ENOTSUPP: Final = 524
_EACH: Final = frozenset({
    MapType.HASH, MapType.LRU_HASH, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH, MapType.ARRAY,
    MapType.PERCPU_ARRAY,
})  # fmt: skip


def push_callback(walk: Walk, index: int, callback: Callback) -> State:
    """A state in front of the function that is called back; its registers are still to set."""
    from harness.verify.calls import enter  # noqa: PLC0415  # a circle otherwise

    start = walk.program.functions[index].start
    walk.explored.callbacks.add(start)
    other = walk.state.copy()
    frame = enter(walk, other, index)
    frame.callback = callback
    other.unroll += 1
    other.frames[-2].unrolled += 1
    walk.state.frames[-1].unrolled = 0
    walk.push(other, start)
    return other


def _loop(walk: Walk, passed: Passed) -> None:
    assert passed.function is not None
    top, frame = walk.regs[1].num, walk.state.frames[-1]
    if walk.regs[1].type != r.SCALAR or top is None:
        _refuse_precision(walk)
    if frame.unrolled >= top.umax:
        frame.unrolled = 0
        return
    other = push_callback(walk, passed.function, Callback(0, 1))
    regs, caller = other.frames[-1].regs, other.frames[-2].regs
    regs[1] = scalar(walk.domain.unknown)
    regs[2] = caller[3]


def _each(walk: Walk, passed: Passed) -> None:
    assert passed.function is not None
    view = passed.map
    assert view is not None
    if view.type not in _EACH:
        walk.reject(Category.CALL_TYPE, "callback function not allowed for map", errno=_ENOTSUPP)
    other = push_callback(walk, passed.function, Callback(0, 1))
    regs, caller = other.frames[-1].regs, other.frames[-2].regs
    regs[1] = caller[1]
    regs[2] = Reg(r.MAP_KEY, what=view)
    regs[3] = Reg(r.MAP_VALUE, what=view, id=walk.new_id() if walk.release >= (7, 0) else 0)
    regs[4] = caller[3]


def _drain(walk: Walk, passed: Passed) -> None:
    assert passed.function is not None
    other = push_callback(walk, passed.function, Callback(0, 1))
    regs, caller = other.frames[-1].regs, other.frames[-2].regs
    caller[0] = r.UNREADABLE
    regs[1] = Reg(r.DYNPTR)
    regs[2] = caller[3]


def _area(walk: Walk, passed: Passed) -> None:
    """bpf_find_vma(): the task, an area of its memory, and what the program passed on."""
    assert passed.function is not None
    other = push_callback(walk, passed.function, Callback(0, 1))
    regs, caller = other.frames[-1].regs, other.frames[-2].regs
    regs[1] = caller[1]
    regs[2] = Reg(r.BTF_ID, what=("kernel", "btf:vm_area_struct"))
    regs[3] = caller[4]


def _late(walk: Walk, passed: Passed) -> None:
    """push_async_cb(): a timer's function runs later, by itself."""
    assert passed.function is not None
    start = walk.program.functions[passed.function].start
    walk.explored.callbacks.add(start)
    walk.explored.late_callbacks.add(start)
    frame = Frame(passed.function, -1, 0)
    frame.callback = Callback(0, 0, late=True)
    frame.regs[1] = Reg(r.MAP_PTR, what=passed.timer)
    frame.regs[2] = Reg(r.MAP_KEY, what=passed.timer)
    frame.regs[3] = Reg(r.MAP_VALUE, what=passed.timer, id=walk.new_id())
    other = State(frame)
    other.entry = walk.state.entry + 1
    other.trail = walk.state.trail
    walk.todo.append((other, start, walk.pc))


def _refuse_precision(walk: Walk) -> NoReturn:
    """mark_chain_precision() of a pointer, which nobody ruled out before 7.0 (a bug)."""
    walk.reject(
        Category.CALL_TYPE,
        "verifier bug: backtracking misuse" if walk.release >= (6, 17) else "",
        errno=14,
        why="the number of rounds is a pointer; the kernel warns of a bug of its own",
        fix="pass a number",
    )


HELPERS: Final[dict[str, Callable[[Walk, Passed], None]]] = {
    "bpf_loop": _loop,
    "bpf_for_each_map_elem": _each,
    "bpf_timer_set_callback": _late,
    "bpf_user_ringbuf_drain": _drain,
    "bpf_find_vma": _area,
}
