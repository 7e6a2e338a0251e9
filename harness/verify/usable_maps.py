# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which maps a program may refer to at all, by its type and by what the maps hold.

Source: check_map_prog_compatibility() in kernel/bpf/verifier.c of 6.12 and 7.3. It is asked for
every map that an instruction names, reached or not.
"""

from harness.bpf.mapdef import MapType
from harness.bpf.program import RefKind
from harness.bpf.sections import program_type
from harness.verify.mapview import MapView, map_views
from harness.verify.prediction import Category, NotModelled, Rejection, Subject
from harness.verify.rules import Rules, rules_of

_TRACING = frozenset({"kprobe", "tracepoint", "perf_event", "raw_tp", "raw_tp_writable"})
_GRAPHS = frozenset({"bpf_list_head", "bpf_rb_root"})
_LOCKS = frozenset({"bpf_spin_lock", "bpf_res_spin_lock"})
# members of values -> what tracing programs hear of them
_TIMERS = {"bpf_timer": "bpf_timer", "bpf_wq": "bpf_wq"}
_SLEEPABLE = frozenset({
    MapType.HASH, MapType.LRU_HASH, MapType.ARRAY, MapType.PERCPU_HASH, MapType.PERCPU_ARRAY,
    MapType.LRU_PERCPU_HASH, MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS, MapType.RINGBUF,
    MapType.USER_RINGBUF, MapType.INODE_STORAGE, MapType.SK_STORAGE, MapType.TASK_STORAGE,
    MapType.CGRP_STORAGE, MapType.QUEUE, MapType.STACK, MapType.ARENA,
})  # fmt: skip
# allowed later
_SLEEPABLE_7_3 = frozenset({MapType.LPM_TRIE, MapType.PROG_ARRAY})


def check(subject: Subject) -> None:
    """Look at each map where an instruction first names it. Raises Rejection, NotModelled."""
    named: dict[str, int] = {}
    for pc, ref in sorted(subject.program.refs.items()):
        if ref.kind in (RefKind.MAP, RefKind.GLOBAL):
            named.setdefault(ref.name, pc)
    if not named:
        return
    views, rules = map_views(subject.obj, subject.program), rules_of(subject.profile)
    kind = program_type(subject.program.section)
    for name, pc in named.items():
        held = {each for each, _, _ in views[name].special}
        said = _of_members(kind, held, rules)
        if said:
            raise _refusal(pc, said, f"the map {name} holds what {kind} programs may not use")
        if is_sleepable(subject.program.section):
            _check_sleepable(pc, views[name], rules)
    arenas = [name for name in named if views[name].type == MapType.ARENA]
    # the arena and the section of its variables are one map
    if sum(not views[name].is_section for name in arenas) > 1:
        raise _refusal(named[arenas[1]], "Only one arena per program", "a second arena", errno=16)


def is_sleepable(section: str) -> bool:
    """Whether programs of this section may sleep (BPF_F_SLEEPABLE, as libbpf sets it)."""
    head = section.removeprefix("?").partition("/")[0]
    return head.endswith(".s") or program_type(section) == "syscall"


def _of_members(kind: str, held: set[str], rules: Rules) -> str:
    """What is said of a map whose values have these members; "" for nothing."""
    tracing = kind in _TRACING
    if tracing and held & _GRAPHS:
        return "tracing progs cannot use bpf_{list_head,rb_root} yet"
    if kind == "socket_filter" and held & _LOCKS:
        return "socket filter progs cannot use bpf_spin_lock yet"
    if tracing and "bpf_spin_lock" in held:
        return "tracing progs cannot use bpf_spin_lock yet"
    timers = [_TIMERS[each] for each in _TIMERS if each in held]
    if tracing and timers and not rules.timers_anywhere:
        return f"tracing progs cannot use {timers[0]} yet"
    return ""


def _check_sleepable(pc: int, view: MapView, rules: Rules) -> None:
    if view.type in _SLEEPABLE or (rules.timers_anywhere and view.type in _SLEEPABLE_7_3):
        return
    if view.type in _SLEEPABLE_7_3 and rules.release > (6, 12):
        raise NotModelled("since when sleepable programs may use maps of this type", pc=pc)
    if view.type > max(MapType):
        raise NotModelled(f"maps of type {view.type}", pc=pc)
    raise _refusal(
        pc,
        "Sleepable programs can only use array, hash, ringbuf and local storage maps",
        f"the program may sleep, and the map {view.name} is not made for that",
    )


def _refusal(pc: int, message: str, why: str, errno: int = 22) -> Rejection:
    fix = "use another kind of map, or another type of program"
    return Rejection(Category.POLICY, message, errno=errno, pc=pc, why=why, fix=fix)
