# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Reading whole maps, with a bpf(2) that serves one map from memory as the kernel does."""

import ctypes
import errno
import struct

import pytest

from harness.target.agent import maps, syscall
from harness.target.agent.syscall import KernelError

HASH, ARRAY, LPM = 1, 2, 11


class FakeKernel:
    """BPF_MAP_LOOKUP_BATCH and BPF_MAP_LOOKUP_ELEM over an array of `values`."""

    def __init__(self, monkeypatch, values, batch_errno=0):
        self.values, self.batch_errno, self.commands = values, batch_errno, []
        monkeypatch.setattr(syscall, "_call", self.call)

    def call(self, command, attr):
        self.commands.append(command)
        if command == syscall.MAP_LOOKUP:
            _, _, key, value, _ = struct.unpack("=IIQQQ", attr)
            ctypes.memmove(value, self.values[self.index(key)], len(self.values[0]))
            return 0, 0, attr
        assert command == syscall.MAP_LOOKUP_BATCH
        if self.batch_errno:
            return -1, self.batch_errno, attr
        before, after, keys, values, count, _, _, _ = struct.unpack("=QQQQIIQQ", attr)
        first = self.index(before) + 1 if before else 0
        found = range(first, min(first + count, len(self.values)))
        for place, index in enumerate(found):
            key, value = index.to_bytes(4, "little"), self.values[index]
            ctypes.memmove(keys + 4 * place, key, 4)
            ctypes.memmove(values + len(value) * place, value, len(value))
            ctypes.memmove(after, key, 4)
        code = 0 if len(found) == count else errno.ENOENT
        attr = attr[:32] + struct.pack("=I", len(found)) + attr[36:]
        return -1 if code else 0, code, attr

    @staticmethod
    def index(address):
        return int.from_bytes(ctypes.string_at(address, 4), "little")


def entry(values, kind=ARRAY, entries=0):
    size = len(values[0])
    info = syscall.MapInfo(kind, 1, 4, size, entries or len(values), 0, "numbers")
    return maps.Map("numbers", 3, info)


@pytest.mark.parametrize("size", [1, 3, 600])
def test_an_array_is_read_in_few_calls(monkeypatch, size):
    monkeypatch.setattr(syscall, "_BATCH_BYTES", 2048)
    values = [bytes([index % 251] * size) for index in range(1000)]
    kernel = FakeKernel(monkeypatch, values)
    seen = maps.read(entry(values))
    assert seen == {i.to_bytes(4, "little").hex(): value.hex() for i, value in enumerate(values)}
    assert len(kernel.commands) <= 1000 // (2048 // (size + 4)) + 2


@pytest.mark.parametrize("code", [errno.EINVAL, 524])
def test_without_the_batch_command_one_by_one(monkeypatch, code):
    values = [b"ab", b"cd"]
    kernel = FakeKernel(monkeypatch, values, code)
    assert maps.read(entry(values)) == {"00000000": b"ab".hex(), "01000000": b"cd".hex()}
    assert kernel.commands == [syscall.MAP_LOOKUP_BATCH, syscall.MAP_LOOKUP, syscall.MAP_LOOKUP]


def test_a_batch_that_fails_is_not_an_empty_map(monkeypatch):
    FakeKernel(monkeypatch, [b"ab"], errno.EPERM)
    with pytest.raises(KernelError, match="BPF_MAP_LOOKUP_BATCH"):
        maps.read(entry([b"ab"]))


def test_a_full_hash_bucket_asks_for_more_room(monkeypatch):
    rooms = []

    def call(_, attr):
        count = struct.unpack_from("=I", attr, 32)[0]
        rooms.append(count)
        code = errno.ENOSPC if count < 4 else errno.ENOENT
        return -1, code, attr[:32] + struct.pack("=I", 2) + attr[36:]

    monkeypatch.setattr(syscall, "_BATCH_BYTES", 6)
    monkeypatch.setattr(syscall, "_call", call)
    assert len(syscall.map_items(3, 4, 2, 100)) == 1  # the same key twice
    assert rooms == [1, 2, 4]


@pytest.mark.parametrize(
    ("kind", "entries", "size", "big"),
    [
        (ARRAY, 65536, 8, False),
        (ARRAY, 65537, 8, True),
        (ARRAY, 1, 32 << 20, True),
        # what counts is what a hash holds, not what it may hold
        (HASH, 1 << 20, 8, False),
    ],
)
def test_an_array_too_big_is_left_out_and_told(monkeypatch, kind, entries, size, big):
    info = syscall.MapInfo(kind, 1, 4, size, entries, 0, "numbers")
    monkeypatch.setattr(syscall, "map_info", lambda _: info)
    monkeypatch.setattr(syscall, "map_items", lambda *_: {})
    found = maps.open_map(3, "numbers", info)
    assert found is not None
    assert (maps.contents([found]) == {}) is big
    assert ("'numbers' is not observed" in maps.left_out([found])) is big
    # it cannot be put back either
    assert maps.keeps_state(info) is big
    maps.reset(found)
