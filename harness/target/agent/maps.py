# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Maps of a loaded object: names, content, and back to the content after load.

Global data sections go by their section name (".bss") with the whole section under one key; the
host decodes the variables. Only CPU 0's value of a per-CPU map is reported; all are restored.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from harness.target.agent import syscall

# enum bpf_map_type: hash, array, percpu hash, percpu array, lru hash, lru percpu hash, lpm trie
_READABLE = {1, 2, 5, 6, 9, 10, 11}
_PER_CPU = {5, 6, 10}
_ARRAYS = {2, 6}
_LEFT_OUT = (".rodata", ".kconfig")
# queue, stack, ring buffers, bloom filter, arena: what is in them cannot be put back
_NO_WAY_BACK = {22, 23, 27, 30, 31, 33}
# prog array, array of maps, hash of maps: whoever uses one may use every map
_LEADS_ON = {3, 12, 13}
# lpm trie: its batch operation came late and takes another position
_BATCHED = _READABLE - {11}
# An array beyond this is left out: it is read twice a case, and told in one line of JSON.
_MAX_ENTRIES = 1 << 16
_MAX_BYTES = 16 << 20


@dataclass(slots=True)
class Map:
    """One open map. `initial` and `current` are what it held after load and when last read."""

    name: str
    fd: int
    info: syscall.MapInfo
    initial: dict[bytes, bytes] = field(default_factory=dict)
    current: dict[bytes, bytes] = field(default_factory=dict)
    # a program may have run since `current` was read
    stale: bool = False


def section_name(kernel_name: str, pin_name: str) -> str:
    """Contract name of a map: ".bss" for "stem.bss", the C name for all others.

    Kernel names end after 15 characters; the pin has the whole name, with "_" for ".".
    """
    dot = kernel_name.find(".")
    if dot < 0:
        return pin_name
    short = kernel_name[dot:]
    for prefix in (".data.", ".rodata.", ".bss."):
        whole = prefix + pin_name[len(prefix) :]
        if pin_name.startswith(prefix.replace(".", "_")) and whole.startswith(short):
            return whole
    return short


def keeps_state(info: syscall.MapInfo) -> bool:
    """Whether such a map carries something from one case to the next whatever we do."""
    return info.type in _NO_WAY_BACK or _too_big(info)


def leads_on(info: syscall.MapInfo) -> bool:
    """Whether a program that uses such a map reaches others through it."""
    return info.type in _LEADS_ON


def open_map(fd: int, pin_name: str, info: syscall.MapInfo) -> Map | None:
    """The map behind `fd`, or None when its content is nobody's business. fd stays open."""
    name = section_name(info.name, pin_name)
    if info.type not in _READABLE or name.startswith(_LEFT_OUT):
        return None  # the descriptor stays open: a companion may want to share the map
    entry = Map(name, fd, info)
    if not _too_big(info):
        entry.initial = entry.current = _content(entry)
    return entry


def contents(entries: Iterable[Map]) -> dict[str, dict[str, str]]:
    """read() of each by its name, but of those that are too big."""
    return {entry.name: read(entry) for entry in entries if not _too_big(entry.info)}


def left_out(entries: Iterable[Map]) -> str:
    """A line for each map that contents() leaves out."""
    return "".join(
        f"map {entry.name!r} is not observed: {entry.info.max_entries} entries of"
        f" {entry.info.value_size} bytes are too many to read\n"
        for entry in entries
        if _too_big(entry.info)
    )


def read(entry: Map) -> dict[str, str]:
    """Content now: hex key -> hex value (CPU 0's)."""
    entry.current = _content(entry)
    entry.stale = False
    size = entry.info.value_size
    return {key.hex(): value[:size].hex() for key, value in entry.current.items()}


def reset(entry: Map) -> None:
    """Put back what the map held after load, where it differs. It counts as stale from now on.

    Not one that is too big: its object is loaded anew for every case, see keeps_state().
    """
    if _too_big(entry.info):
        return
    if entry.stale:
        read(entry)
    entry.stale = True
    if entry.current == entry.initial:
        return
    for key in entry.current.keys() - entry.initial.keys():
        syscall.map_delete(entry.fd, key)
    for key, value in entry.initial.items():
        if entry.current.get(key) != value:
            syscall.map_update(entry.fd, key, value)
    entry.current = entry.initial


def _value_room(info: syscall.MapInfo) -> int:
    if info.type in _PER_CPU:
        return (info.value_size + 7) // 8 * 8 * possible_cpus()
    return info.value_size


def _too_big(info: syscall.MapInfo) -> bool:
    entries = info.max_entries
    beyond = entries > _MAX_ENTRIES or entries * _value_room(info) > _MAX_BYTES
    return info.type in _ARRAYS and beyond


def _content(entry: Map) -> dict[bytes, bytes]:
    info = entry.info
    room = _value_room(info)
    if info.type in _BATCHED:
        items = syscall.map_items(entry.fd, info.key_size, room, info.max_entries)
        if items is not None:
            return items
    if info.type in _ARRAYS:
        keys = [index.to_bytes(4, "little") for index in range(info.max_entries)]
    else:
        keys = list(syscall.map_keys(entry.fd, info.key_size))
    return {key: syscall.map_lookup(entry.fd, key, room) for key in keys}


_cpus = 0


def possible_cpus() -> int:
    """Number of possible CPUs: the width of a per-CPU value as user space sees it."""
    global _cpus  # noqa: PLW0603  # a constant of the machine, read once
    if not _cpus:
        ranges = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii")
        _cpus = int(ranges.strip().split(",")[-1].split("-")[-1]) + 1
    return _cpus
