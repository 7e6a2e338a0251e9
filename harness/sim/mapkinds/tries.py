# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Longest-prefix-match trie (kernel/bpf/lpm_trie.c): a key is a u32 prefix length and its data."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.sim.errnos import EINVAL, ENOENT, ENOSPC
from harness.sim.mapkinds.flags import EXIST
from harness.sim.mapkinds.hashes import presence
from harness.sim.mapkinds.place import Place, refused
from harness.sim.memory import Region

_LENGTH_BYTES = 4
# prefix length and the bits that count
Prefix = tuple[int, int]


@dataclass(slots=True)
class Trie:
    """Prefixes and their values."""

    place: Place
    # prefix -> the key as it was last written, value
    nodes: dict[Prefix, tuple[bytes, Region]] = field(default_factory=dict)
    # prefix length -> how many nodes have it
    _lengths: Counter[int] = field(default_factory=Counter)
    ordered = False
    has_content = True

    push = pop = peek = refused("push, pop or peek")

    @property
    def _max_length(self) -> int:
        return (self.place.definition.key_size - _LENGTH_BYTES) * 8

    def _prefix(self, key: bytes) -> Prefix | None:
        """None where the length is more than the data has bits."""
        length = int.from_bytes(key[:_LENGTH_BYTES], "little")
        if length > self._max_length:
            return None
        return length, int.from_bytes(key[_LENGTH_BYTES:], "big") >> (self._max_length - length)

    def lookup(self, key: bytes) -> int:
        """Address of the value of the longest prefix of `key`, or 0."""
        wanted = self._prefix(key)
        if wanted is None:
            return 0
        length, bits = wanted
        for shorter in sorted(self._lengths, reverse=True):
            if shorter <= length:
                found = self.nodes.get((shorter, bits >> (length - shorter)))
                if found is not None:
                    return found[1].address
        return 0

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """0 or a negative error number."""
        prefix = self._prefix(key)
        if flags > EXIST or prefix is None:
            return EINVAL
        old = self.nodes.get(prefix)
        problem = presence(flags, present=old is not None)
        if not problem and old is None and len(self.nodes) >= self.place.definition.max_entries:
            problem = ENOSPC
        if problem:
            return problem
        if old is not None:
            self._forget(prefix)
        self.nodes[prefix] = key, self.place.value(key, value)
        self._lengths[prefix[0]] += 1
        return 0

    def delete(self, key: bytes) -> int:
        """0 or a negative error number."""
        prefix = self._prefix(key)
        if prefix is None:
            return EINVAL
        if prefix not in self.nodes:
            return ENOENT
        self._forget(prefix)
        return 0

    def _forget(self, prefix: Prefix) -> None:
        self.place.memory.retire(self.nodes.pop(prefix)[1])
        self._lengths[prefix[0]] -= 1
        if not self._lengths[prefix[0]]:
            del self._lengths[prefix[0]]

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Keys and addresses of values, in order of insertion."""
        return ((key, region.address) for key, region in list(self.nodes.values()))

    def content(self) -> dict[str, str]:
        """All keys and values in hex."""
        return {key.hex(): self.place.shown(region) for key, region in self.nodes.values()}
