# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Lists and trees of the program's objects: kernel functions that put in, take out and look.

Source: process_kf_arg_ptr_to_graph_{root,node}(), check_reg_allocation_locked(),
ref_convert_owning_non_owning() in kernel/bpf/verifier.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.verify import helpermem, locks, objects
from harness.verify import registers as r
from harness.verify.callbacks import push_callback
from harness.verify.frames import Callback
from harness.verify.helpercalls import acquire
from harness.verify.prediction import Category
from harness.verify.registers import Reg, scalar

if TYPE_CHECKING:
    from harness.verify.objects import Root
    from harness.verify.walk import Walk

PUSH: Final = frozenset({
    "bpf_list_push_front_impl", "bpf_list_push_back_impl", "bpf_list_push_front",
    "bpf_list_push_back", "bpf_rbtree_add_impl", "bpf_rbtree_add",
})  # fmt: skip
TREE_ADD: Final = frozenset({"bpf_rbtree_add_impl", "bpf_rbtree_add"})
# take out: the object's reference is the program's again
POP: Final = frozenset({"bpf_list_pop_front", "bpf_list_pop_back"})
REMOVE: Final = "bpf_rbtree_remove"
# look: the object stays the list's or tree's
LOOK: Final = frozenset({"bpf_list_front", "bpf_list_back", "bpf_rbtree_first"})
ALL: Final = PUSH | POP | LOOK | {REMOVE}


def call(walk: Walk, name: str) -> Reg:
    """One call; gives R0."""
    tree = "rbtree" in name
    root = _root(walk, tree=tree)
    if name in PUSH:
        return _push(walk, name, root)
    if name == REMOVE:
        _node(walk, root, tree=True, owned=False)
        if any(f.callback is not None for f in walk.state.frames):
            walk.unknown("bpf_rbtree_remove() in a callback")
    if name in LOOK:
        flags = r.ALLOC | r.MAYBE_NULL | r.NON_OWNING
        if _refcounted(walk, root.type_id):
            flags |= r.RCU
        return Reg(r.BTF_ID, what=root.type_id, off=root.node_offset, flags=flags, id=walk.new_id())
    ref = acquire(walk)
    return Reg(
        r.BTF_ID, what=root.type_id, off=root.node_offset, flags=r.ALLOC | r.MAYBE_NULL,
        id=ref, ref=ref,
    )  # fmt: skip


def _argument(walk: Walk, number: int) -> str:
    return f"R{number}" if walk.release >= (7, 0) else f"arg#{number - 1}"


def _root(walk: Walk, *, tree: bool) -> Root:
    reg, name = walk.regs[1], "bpf_rb_root" if tree else "bpf_list_head"
    if reg.type != r.MAP_VALUE and not (reg.type == r.BTF_ID and _plain(reg)):
        words = f"{_argument(walk, 1)} expected pointer to map value or allocated object"
        walk.reject(Category.CALL_TYPE, words)
    if reg.flags & r.MAYBE_NULL:
        walk.unknown(f"a {name} that may be NULL")
    if reg.type == r.BTF_ID and not reg.ref:
        walk.reject(Category.RESOURCE_LIFETIME, "allocated object must be referenced")
    if reg.num is not None:
        words = f"R1 doesn't have constant offset. {name} has to be at the constant offset"
        walk.reject(Category.CALL_TYPE, words)
    at = [offset for kind, offset, _ in objects.special(walk, reg) if kind == name]
    if reg.off not in at:
        walk.reject(Category.CALL_TYPE, f"{name} not found at offset={reg.off}")
    _check_locked(walk, reg, name)
    root = objects.root_at(walk, reg)
    if root is None:
        walk.unknown(f"what the {name} contains")
    return root


def _plain(reg: Reg) -> bool:
    return reg.flags == r.ALLOC


def _check_locked(walk: Walk, reg: Reg, name: str) -> None:
    held = walk.state.held("lock")
    if held and held[-1].what == locks.identity(reg):
        return
    where = [o for kind, o, _ in objects.special(walk, reg) if kind == "bpf_spin_lock"]
    walk.reject(
        Category.EXECUTION_CONTEXT,
        f"bpf_spin_lock at off={where[0] if where else -22} must be held for {name}",
        why="its lock is not held here",
        fix="take the lock before",
        certain=True,
    )


def _node(walk: Walk, root: Root, *, tree: bool, owned: bool) -> None:
    reg, name = walk.regs[2], "bpf_rb_node" if tree else "bpf_list_node"
    helpermem.check_kernel_pointer(walk, 2)
    pointer = reg.type == r.BTF_ID and reg.flags & r.ALLOC and not reg.flags & r.MAYBE_NULL
    if owned and not (pointer and _plain(reg)):
        words = f"{_argument(walk, 2)} expected pointer to allocated object"
        walk.reject(Category.CALL_TYPE, words)
    if owned and not reg.ref:
        walk.reject(Category.RESOURCE_LIFETIME, "allocated object must be referenced")
    if not owned:
        _check_removable(walk, reg)
    if reg.num is not None:
        walk.unknown(f"a {name} at a variable offset")
    at = [offset for kind, offset, _ in objects.special(walk, reg) if kind == name]
    if reg.off not in at:
        walk.reject(Category.CALL_TYPE, f"{name} not found at offset={reg.off}")
    if reg.what != root.type_id:
        walk.reject(Category.CALL_TYPE, f"operation on {{{{.*}}}} expects arg#1 {name} at offset=")
    if reg.off != root.node_offset:
        words = f"arg#1 offset={reg.off}, but expected {name} at offset={root.node_offset}"
        walk.reject(Category.CALL_TYPE, words)


def _check_removable(walk: Walk, reg: Reg) -> None:
    """What bpf_rbtree_remove() takes."""
    borrowed = reg.type == r.BTF_ID and bool(reg.flags & r.NON_OWNING)
    if walk.release < (6, 13):
        if not borrowed or reg.ref:
            words = "rbtree_remove node input must be non-owning ref"
            walk.reject(Category.CALL_TYPE, words)
    elif not borrowed and not reg.ref:
        words = f"{REMOVE} can only take non-owning or refcounted bpf_rb_node pointer"
        walk.reject(Category.CALL_TYPE, words if walk.release >= (7, 0) else "")
    if reg.type != r.BTF_ID or not reg.flags & r.ALLOC or reg.flags & r.MAYBE_NULL:
        walk.unknown("which refusal a node gets that is none")


def _push(walk: Walk, name: str, root: Root) -> Reg:
    """The object is the list's or tree's now; pointers to it may be used while it is locked."""
    tree = name in TREE_ADD
    _node(walk, root, tree=tree, owned=True)
    regs, state = walk.regs, walk.state
    less = regs[3]
    if tree:
        helpermem.check_kernel_pointer(walk, 3)
        if less.type != r.FUNC:
            walk.reject(Category.CALL_TYPE, f"{_argument(walk, 3)} expected pointer to func")
    if name.endswith("_impl"):
        helpermem.check_number(walk, 5 if tree else 4)
    if tree:
        other = push_callback(walk, less.what, Callback(0, 1, tree=True))
        inner = other.frames[-1].regs
        flags = r.ALLOC | r.NON_OWNING
        if _refcounted(walk, root.type_id):
            flags |= r.RCU
        for number in (1, 2):
            inner[number] = Reg(
                r.BTF_ID, what=root.type_id, off=root.node_offset, flags=flags, id=walk.new_id()
            )
    ref = regs[2].ref
    refcounted = _refcounted(walk, regs[2].what)
    for place, key, reg in list(state.places()):
        if reg.ref != ref:
            continue
        new = reg.copy()
        new.ref = 0
        new.flags |= r.NON_OWNING | (r.RCU if refcounted else 0)
        state.replace(place, key, new)
    state.refs = tuple(each for each in state.refs if each.id != ref)
    return scalar(walk.domain.unknown)


def _refcounted(walk: Walk, type_id: int) -> bool:
    found = objects.special(walk, Reg(r.BTF_ID, what=type_id, flags=r.ALLOC))
    return any(kind == "bpf_refcount" for kind, _, _ in found)
