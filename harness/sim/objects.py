# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Objects that programs allocate (bpf_obj_new), and the lists and trees that hold them.

Owns their life: allocation by BTF type, owning references, what dropping one takes along. Source:
__bpf_obj_drop_impl(), __bpf_list_add(), bpf_rbtree_remove() and bpf_obj_free_fields() in
kernel/bpf. Heads, roots and nodes are opaque to programs, so what they link is kept here and not
in their bytes. The kernel functions themselves are harness.sim.kfuncs'.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.bpf import special
from harness.bpf.btf import Kind, Type
from harness.bpf.special import Field
from harness.errors import ObjectError
from harness.sim import resources
from harness.sim.memory import Region
from harness.sim.resources import Resource
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

EINVAL = -22
# bpf_mem_cache_idx(): with the 8 bytes of its list node; above that there is no memory
MAX_OBJECT_BYTES = 4096 - 8
MAX_OBJECTS = 100_000


@dataclass(slots=True)
class Allocated:
    """One object."""

    region: Region
    type: Type
    fields: tuple[Field, ...]
    # owning references: of programs, of lists and trees, of kptr fields
    references: int = 1
    percpu: bool = False


@dataclass(slots=True)
class Objects:
    """All objects of one machine."""

    machine: "Machine"
    # key of the region -> object
    live: dict[int, Allocated] = field(default_factory=dict)
    # address of a list head or tree root -> addresses of nodes, in order
    linked: dict[int, list[int]] = field(default_factory=dict)
    # address of a node -> address of the head or root
    owner: dict[int, int] = field(default_factory=dict)

    def new(self, type_id: int, *, percpu: bool = False) -> int:
        """bpf_obj_new(): address, or 0 where the kernel has no such chunk. Raises Fault."""
        types = self.machine.obj.btf
        made = types.type(type_id) if 0 < type_id < len(types) else None
        if made is None or made.kind is not Kind.STRUCT:
            raise Fault("bpf_obj_new type ID argument must be of a struct")
        if made.size_bytes > MAX_OBJECT_BYTES:
            return 0
        if len(self.live) >= MAX_OBJECTS:
            raise Unsupported(f"more than {MAX_OBJECTS} objects")
        region = self.machine.memory.unwritten(f"struct {made.name}", made.size_bytes)
        fields = self._fields(made)
        for member in fields:  # bpf_obj_init(); all other bytes stay unwritten
            if member.kind == "kptr":
                self.machine.memory.store(region.address + member.offset, 8, 0)
        self.live[region.key] = Allocated(region, made, fields, percpu=percpu)
        self.own(region.address)
        return region.address

    def _fields(self, of: Type) -> tuple[Field, ...]:
        try:
            return special.fields(self.machine.obj.btf, of)
        except ObjectError as error:
            raise Fault(f"struct {of.name}: {error.message}") from error

    def own(self, address: int) -> None:
        """The program holds one more reference, which exists already."""
        found = self.at(address)
        kind = resources.PERCPU_OBJECT if found.percpu else resources.OBJECT
        drop = functools.partial(self.put, found.region.address)
        self.machine.resources.acquire(
            kind, found.region.address, f"struct {found.type.name}", drop
        )

    def at(self, address: int) -> Allocated:
        """The object that `address` points into. Raises Fault when there is none."""
        found = self.live.get(address >> 32)
        if found is None:
            raise Fault(f"0x{address:x} points to no object that was allocated, or it is gone")
        return found

    def disown(self, address: int) -> Resource:
        """The program gives one reference away. Raises Fault when it holds none."""
        found = self.at(address)
        kind = resources.PERCPU_OBJECT if found.percpu else resources.OBJECT
        return self.machine.resources.release(kind, found.region.address)

    def put(self, address: int) -> None:
        """One reference less; the last one takes along what the object holds."""
        pending = [address]
        while pending:
            found = self.at(pending.pop())
            found.references -= 1
            if found.references:
                continue
            for member in found.fields:
                pending.extend(self._held_by(found.region, member))
            del self.live[found.region.key]
            self.machine.memory.release(found.region)

    def _held_by(self, region: Region, member: Field) -> Iterator[int]:
        """bpf_obj_free_fields(): references that a field of a dying object holds."""
        address = region.address + member.offset
        if member.kind in ("bpf_list_head", "bpf_rb_root"):
            for node in self.linked.pop(address, []):
                self.owner.pop(node, None)
                yield node & ~0xFFFF_FFFF
        elif member.kind == "kptr":
            pointed = int.from_bytes(region.data[member.offset : member.offset + 8], "little")
            if pointed >> 32 in self.live:
                yield pointed

    # ---- lists and trees -----------------------------------------------------------------

    def nodes(self, head: int, kind: str) -> list[int]:
        """What a list head or tree root links. Raises Fault when its lock is not held."""
        locks = self.machine.resources.live
        if not any(r.kind in resources.LOCKS and r.address >> 32 == head >> 32 for r in locks):
            raise Fault(f"bpf_spin_lock must be held for {kind} at {self.machine.trace.show(head)}")
        self.machine.memory.find(head, 16, kind)
        return self.linked.setdefault(head, [])

    def give(self, node: int, kind: str) -> bool:
        """The program gives the object of `node` away; False when the node is linked already.

        Then the reference is dropped, as the kernel does. Raises Fault when it is no such node.
        """
        found = self.at(node)
        offset = node & 0xFFFF_FFFF
        if Field(kind, offset) not in found.fields:
            raise Fault(f"struct {found.type.name} has no {kind} at offset {offset}")
        self.disown(node)
        if node in self.owner:
            self.put(node)
            return False
        return True

    def link(self, head: int, node: int, index: int) -> None:
        """Put a node at a position of a list or tree."""
        self.linked[head].insert(index, node)
        self.owner[node] = head

    def unlink(self, head: int, node: int) -> int:
        """Take a node out; the program owns its object then. Returns the node."""
        self.linked[head].remove(node)
        self.owner.pop(node, None)
        self.own(node)
        return node
