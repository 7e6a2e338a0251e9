# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where a loaded program's code is: told to the kernel log before a case that may crash runs.

An oops in such code, or in the padding behind it, says no more than a number; harness.symbols reads
the line and names it.
"""

import ctypes
import os
import struct
from typing import NamedTuple

from harness.target.agent import syscall

# nr_jited_ksyms, nr_jited_func_lens, jited_ksyms, jited_func_lens of struct bpf_prog_info
_PLACE = struct.Struct("=IIQQ")
_OFFSET = 104
_MOST = 64


class Code(NamedTuple):
    """One function of a program."""

    # "main", "main/1" for its first subprogram
    name: str
    address: int
    size_bytes: int


def functions(name: str, fd: int) -> list[Code]:
    """The functions of program `name`, hidden ones left out; empty where addresses are hidden."""
    addresses, sizes = (ctypes.c_uint64 * _MOST)(), (ctypes.c_uint32 * _MOST)()
    places = ctypes.addressof(addresses), ctypes.addressof(sizes)
    given = bytes(_OFFSET) + _PLACE.pack(_MOST, _MOST, *places)
    count, sized, *_ = _PLACE.unpack_from(syscall.info(fd, given), _OFFSET)
    return [
        Code(f"{name}/{index}" if index else name, addresses[index], sizes[index])
        for index in range(min(count, sized, _MOST))
        if addresses[index]
    ]


def announce(name: str, fd: int, log: str = "/dev/kmsg") -> None:
    """Write a line for each function of the program to the kernel log."""
    out = os.open(log, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for code in functions(name, fd):
            line = f"bpfthrow: program {code.name} at {code.address:016x}, {code.size_bytes} bytes"
            os.write(out, f"<6>{line}\n".encode())
    finally:
        os.close(out)
