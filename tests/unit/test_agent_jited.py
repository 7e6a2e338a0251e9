# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where a program's code is, as the agent tells it to the kernel log."""

import ctypes
import struct

import pytest

from harness import symbols
from harness.target.agent import jited, syscall


@pytest.fixture
def program(monkeypatch):
    """Have the kernel say that a program has these functions: (address, bytes)."""

    def say(*functions):
        def info(_fd, given):
            room, also, addresses, sizes = struct.unpack_from("=IIQQ", given, 104)
            assert room == also >= len(functions)
            for index, (address, size) in enumerate(functions):
                ctypes.c_uint64.from_address(addresses + 8 * index).value = address
                ctypes.c_uint32.from_address(sizes + 4 * index).value = size
            return bytes(104) + struct.pack("=IIQQ", len(functions), len(functions), 0, 0)

        monkeypatch.setattr(syscall, "info", info)

    return say


def test_each_function_has_a_line_that_the_decoder_reads(program, tmp_path, monkeypatch):
    program((0xFFFFFFFFC0200630, 77), (0xFFFFFFFFC0200700, 16))
    log = tmp_path / "kmsg"
    log.touch()
    said = []
    monkeypatch.setattr(jited.os, "write", lambda _, line: said.append(line.decode()))
    jited.announce("keeps", 3, str(log))
    found = [symbols._PROGRAM.search(line).groups() for line in said]
    assert found == [("keeps", "ffffffffc0200630", "77"), ("keeps/1", "ffffffffc0200700", "16")]


def test_hidden_addresses_are_not_told(program):
    program((0, 77))
    assert jited.functions("keeps", 3) == []
