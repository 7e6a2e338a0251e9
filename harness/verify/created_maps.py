# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Maps that cannot be created: libbpf makes all of an object before it loads a program.

Owns what is certain of ordinary maps: array_map_alloc_check(), htab_map_alloc_check() and
queue_stack_map_alloc_check() of kernel/bpf. Whether there is memory for a large one is not known.
"""

from typing import Final

from harness.bpf.elf import Object
from harness.bpf.mapdef import MapDef, MapType
from harness.verify.prediction import Category, NotModelled, Rejection

_KNOWN: Final = frozenset(MapType)
_ARRAYS: Final = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.PROG_ARRAY})
_HASHES: Final = frozenset({
    MapType.HASH, MapType.PERCPU_HASH, MapType.LRU_HASH, MapType.LRU_PERCPU_HASH,
})  # fmt: skip
_QUEUES: Final = frozenset({MapType.QUEUE, MapType.STACK})
_VALUE_BYTES_MAX: Final = 0x7FFF_FFFF
# with less, any machine has it
_SURELY_BYTES: Final = 128 << 20
_EINVAL, _E2BIG = 22, 7
_WORDS: Final = {_EINVAL: "Invalid argument(-22)", _E2BIG: "Argument list too long(-7)"}


def check(obj: Object) -> None:
    """Look at each map of the object. Raises Rejection, NotModelled."""
    for one in obj.maps:
        if one.type not in _KNOWN:
            raise NotModelled(f"maps of type {one.type}, as {one.name} is")
        wrong = _wrong(one)
        if wrong:
            raise _refusal(one, wrong, _EINVAL)
        if one.type in _ARRAYS and one.value_size > _VALUE_BYTES_MAX:
            raise _refusal(one, f"values of {one.value_size} bytes", _E2BIG)
        if one.max_entries * (one.key_size + one.value_size) > _SURELY_BYTES:
            raise NotModelled(f"whether there is memory for the map {one.name}")


def _wrong(one: MapDef) -> str:
    """What the kernel takes no map with; "" for nothing that is known here."""
    if one.type in _ARRAYS | _HASHES | _QUEUES and not one.max_entries:
        return "no entries: max_entries is 0"
    if one.type in _ARRAYS and one.key_size != 4:
        return f"keys of {one.key_size} bytes, and an array's have 4"
    if one.type in _HASHES and not one.key_size:
        return "no key"
    if one.type in _ARRAYS | _HASHES | _QUEUES and not one.value_size:
        return "no value"
    if one.type in _QUEUES and one.key_size:
        return f"keys of {one.key_size} bytes, and a queue or stack has none"
    return ""


def _refusal(one: MapDef, wrong: str, errno: int) -> Rejection:
    return Rejection(
        Category.POLICY,
        f"map '{one.name}': failed to create: {_WORDS[errno]}",
        errno=errno,
        why=f"the map {one.name} has {wrong} (libbpf says so, and loads no program)",
        fix="correct its definition in section .maps",
    )
