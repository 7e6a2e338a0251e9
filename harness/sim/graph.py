# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernel functions on allocated objects, lists and trees (kernel/bpf/helpers.c).

Owns their results; what the objects are and who holds them is harness.sim.objects'. A tree is
kept in order, not as red and black nodes: how often `less` is called may differ from a kernel.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.sim.alu import M64
from harness.sim.signals import Fault

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_EINVAL = -22 & M64
_HEAD, _NODE = "bpf_list_head", "bpf_list_node"
_ROOT, _LEAF = "bpf_rb_root", "bpf_rb_node"


def _obj_new(machine: "Machine", type_id: int, *_meta: int) -> int:
    return machine.objects.new(type_id)


def _percpu_obj_new(machine: "Machine", type_id: int, *_meta: int) -> int:
    return machine.objects.new(type_id, percpu=True)


def _drop(*, percpu: bool) -> Callable[..., None]:
    def drop(machine: "Machine", address: int, *_meta: int) -> None:
        found = machine.objects.at(address)
        if address != found.region.address:
            raise Fault("R1 must have zero offset when passed to release func")
        if found.percpu != percpu:
            kind = "per-CPU object" if found.percpu else "object"
            raise Fault(f"struct {found.type.name} is a {kind}: the other drop is for it")
        machine.objects.disown(address).drop()

    return drop


def _refcount_acquire(machine: "Machine", address: int, *_meta: int) -> int:
    found = machine.objects.at(address)
    if not any(special.kind == "bpf_refcount" for special in found.fields):
        raise Fault(f"struct {found.type.name} has no bpf_refcount")
    found.references += 1
    machine.objects.own(address)
    return found.region.address


def _push(*, back: bool) -> Callable[..., int]:
    def push(machine: "Machine", head: int, node: int, *_meta: int) -> int:
        listed = machine.objects.nodes(head, _HEAD)
        if not machine.objects.give(node, _NODE):
            return _EINVAL
        machine.objects.link(head, node, len(listed) if back else 0)
        return 0

    return push


def _pop(index: int) -> Callable[["Machine", int], int]:
    def pop(machine: "Machine", head: int) -> int:
        listed = machine.objects.nodes(head, _HEAD)
        return machine.objects.unlink(head, listed[index]) if listed else 0

    return pop


def _peek(index: int, kind: str) -> Callable[["Machine", int], int]:
    def peek(machine: "Machine", head: int) -> int:
        listed = machine.objects.nodes(head, kind)
        return listed[index] if listed else 0

    return peek


def _add(machine: "Machine", root: int, node: int, less: int, *_meta: int) -> int:
    listed = list(machine.objects.nodes(root, _ROOT))  # `less` may do anything
    if not machine.objects.give(node, _LEAF):
        return _EINVAL
    low, high = 0, len(listed)
    while low < high:  # equal ones go behind, as in a kernel
        middle = (low + high) // 2
        if machine.callback(less, [node, listed[middle]]):
            high = middle
        else:
            low = middle + 1
    machine.objects.link(root, node, low)
    return 0


def _remove(machine: "Machine", root: int, node: int) -> int:
    machine.objects.nodes(root, _ROOT)
    machine.objects.at(node)
    if machine.objects.owner.get(node) != root:
        return 0
    return machine.objects.unlink(root, node)


# name -> (arguments, function); "meta" and "off" are the verifier's to fill in
KFUNCS: dict[str, tuple[int, Callable[..., int | None]]] = {
    "bpf_obj_new_impl": (1, _obj_new),
    "bpf_obj_drop_impl": (1, _drop(percpu=False)),
    "bpf_percpu_obj_new_impl": (1, _percpu_obj_new),
    "bpf_percpu_obj_drop_impl": (1, _drop(percpu=True)),
    "bpf_refcount_acquire_impl": (1, _refcount_acquire),
    "bpf_list_push_front_impl": (2, _push(back=False)),
    "bpf_list_push_back_impl": (2, _push(back=True)),
    "bpf_list_pop_front": (1, _pop(0)),
    "bpf_list_pop_back": (1, _pop(-1)),
    "bpf_list_front": (1, _peek(0, _HEAD)),
    "bpf_list_back": (1, _peek(-1, _HEAD)),
    "bpf_rbtree_add_impl": (3, _add),
    "bpf_rbtree_remove": (2, _remove),
    "bpf_rbtree_first": (1, _peek(0, _ROOT)),
}
