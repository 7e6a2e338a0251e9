# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Queue, stack (kernel/bpf/queue_stack_maps.c) and bloom filter (kernel/bpf/bloom_filter.c)."""

from collections import deque
from dataclasses import dataclass, field

from harness.bpf.mapdef import MapType
from harness.sim.errnos import E2BIG, EINVAL, ENOENT, EOPNOTSUPP
from harness.sim.mapkinds.flags import ANY, EXIST
from harness.sim.mapkinds.place import Place, refused


@dataclass(slots=True)
class Queue:
    """A queue or a stack, by the definition's type."""

    place: Place
    # oldest first
    values: deque[bytes] = field(default_factory=deque)
    ordered = True
    has_content = False

    lookup = update = delete = items = content = refused("keys")

    def push(self, value: bytes, flags: int) -> int:
        """0 or a negative error number."""
        if flags not in (ANY, EXIST):
            return EINVAL
        if len(self.values) >= self.place.definition.max_entries:
            if flags != EXIST:
                return E2BIG
            self.values.popleft()
        self.values.append(value)
        return 0

    def pop(self) -> tuple[int, bytes | None]:
        """Error number and what to write into the program's memory: zeros where it is empty."""
        result = self.peek()
        if result[0] == 0:
            if self.place.definition.type == MapType.QUEUE:
                self.values.popleft()
            else:
                self.values.pop()
        return result

    def peek(self, _wanted: bytes = b"") -> tuple[int, bytes | None]:
        """As pop(), and leaves the value there."""
        if not self.values:
            return ENOENT, bytes(self.place.definition.value_size)
        first = self.place.definition.type == MapType.QUEUE
        return 0, self.values[0 if first else -1]


@dataclass(slots=True)
class Bloom:
    """A bloom filter without false positives.

    The kernel's hash is seeded by chance, so any value that was not pushed may be found there once
    something else is in the filter: then the answer "not there" is in doubt.
    """

    place: Place
    values: set[bytes] = field(default_factory=set)
    ordered = True
    has_content = False

    lookup = update = delete = items = content = refused("keys")

    def push(self, value: bytes, flags: int) -> int:
        """0 or a negative error number."""
        if flags != ANY:
            return EINVAL
        self.values.add(value)
        return 0

    def pop(self) -> tuple[int, bytes | None]:
        """bloom_map_pop_elem(): there is no such thing."""
        return EOPNOTSUPP, None

    def peek(self, wanted: bytes = b"") -> tuple[int, bytes | None]:
        """Whether `wanted` was pushed: 0 or an error number, and nothing to write."""
        if wanted in self.values:
            return 0, None
        if self.values:
            self.place.doubt("a value that is not there, in a bloom filter in use,")
        return ENOENT, None
