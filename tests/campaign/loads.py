# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Runs in a guest: has libbpf load a program, and loads variants of it in the same breath.

    python3 loads.py jobs.json

For each job libbpf opens the object and loads one program. Its call of bpf(BPF_PROG_LOAD) comes
here instead, with everything that libbpf prepared (maps, types, kernel functions), and is made once
for each variant of the instructions, never as it came, which may be one that crashes the kernel:
thirty a second instead of one. Prints a line of JSON for each
variant, [job, variant, errno, last lines of the log], flushed, so that a crash names its variant.
x86-64 only: the call is caught in libbpf's table of foreign functions.
"""

import ctypes
import errno
import json
import mmap
import os
import re
import struct
import sys
from pathlib import Path

_SYS_BPF, _PROG_LOAD = 321, 5
_INSN_BYTES, _LOG_BYTES, _LAST_LINES = 8, 1 << 20, 14
# offsets in union bpf_attr, of BPF_PROG_LOAD
_COUNT, _INSNS, _LOG, _NAME, _NAME_BYTES = 4, 8, 24, 48, 16
_RELA = struct.Struct("<QQq")
_DULL = re.compile(
    r"\d+: |from \d|; .* @ |mark_precise|caller|callee| frame|returning|to caller|func#\d+ @|\s*$"
    r"|verification time|stack depth|processed \d|topo_order|subprog#| *\d+: "
)
# 7.3 explains to people what it has said: titles, and text that is indented
_EXPLAINS = "Verification failed: "
_TITLE = re.compile(r"(Reason|At|Causal path|Suggestion|Note|Hint|Help):$")

_CALL = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_long] * 7, use_errno=True)


class Catcher:
    """What stands where libbpf calls syscall()."""

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.syscall.restype = ctypes.c_long
        self.log = (ctypes.c_char * _LOG_BYTES).from_buffer(mmap.mmap(-1, _LOG_BYTES))
        self.function = _CALL(self.called)
        self.number = self.job = None
        self.answered = False

    def watch(self, number, job):
        self.number, self.job, self.answered = number, job, False

    def called(self, number, command, attr, size, *more):
        if number == _SYS_BPF and command == _PROG_LOAD and self.job is not None:
            given = ctypes.string_at(attr, size)
            name = given[_NAME : _NAME + _NAME_BYTES].split(b"\0")[0].decode()
            if name == self.job["program"][: _NAME_BYTES - 1]:
                if not self.answered:  # libbpf asks again, for the log
                    self.answered = True
                    self.load_all(self.job, given)
                ctypes.set_errno(errno.EPERM)
                return -1
        values = (number, command, attr, size, *more)
        return self.libc.syscall(*(ctypes.c_long(value) for value in values))

    def load_all(self, job, given):
        (count,) = struct.unpack_from("<I", given, _COUNT)
        (where,) = struct.unpack_from("<Q", given, _INSNS)
        if count != job["count"]:
            answer(self.number, -1, 0, [f"libbpf has {count} instructions"])
            return
        original = ctypes.string_at(where, count * _INSN_BYTES)
        for number, changes in enumerate(job["variants"]):
            insns = bytearray(original)
            for at, change in changes:
                new = bytes.fromhex(change) if isinstance(change, str) else slot(original, change)
                insns[at * _INSN_BYTES : (at + 1) * _INSN_BYTES] = new
            answer(self.number, number, *self.load(given, bytes(insns), whole=job["log"]))

    def load(self, given, insns, *, whole):
        """errno and the last lines of the log, or all of one of level 2."""
        attr = bytearray(given)
        room = ctypes.create_string_buffer(insns, len(insns))
        struct.pack_into("<Q", attr, _INSNS, ctypes.addressof(room))
        struct.pack_into("<IIQ", attr, _LOG, 1 + whole, _LOG_BYTES, ctypes.addressof(self.log))
        self.log[0] = b"\0"
        block = ctypes.create_string_buffer(bytes(attr), len(attr))
        fd = self.libc.syscall(
            ctypes.c_long(_SYS_BPF), ctypes.c_long(_PROG_LOAD), block, ctypes.c_long(len(attr))
        )
        code = 0 if fd >= 0 else ctypes.get_errno()
        lines = self.log.value.decode(errors="replace").splitlines()
        if fd >= 0:
            os.close(fd)
        if whole:
            return code, lines
        return code, [line[:300] for line in said(lines)][-_LAST_LINES:]


def said(lines):
    """What the verifier had to say; the way there and explanations left out."""
    explaining = False
    for line in lines:
        indented = not line.strip() or line.startswith(" ")
        explaining = line.startswith(_EXPLAINS) or (
            explaining and (indented or bool(_TITLE.match(line)))
        )
        # it may stand behind an instruction
        if not explaining and (not _DULL.match(line) or "infinite loop" in line):
            yield line


def slot(insns, at):
    return insns[at * _INSN_BYTES : (at + 1) * _INSN_BYTES]


def answer(*row):
    print(json.dumps(row), flush=True)


def foreign(path, name):
    """Offsets in a library of the table entries that lead to the function `name`."""
    data = Path(path).read_bytes()
    (at,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, at + size * i) for i in range(count)]
    for kind, table in ((s[1], s) for s in sections):
        if kind != 4:  # SHT_RELA
            continue
        symbols = sections[table[6]]
        strings = sections[symbols[6]][4]
        for offset, info, _ in _RELA.iter_unpack(data[table[4] : table[4] + table[5]]):
            (word,) = struct.unpack_from("<I", data, symbols[4] + 24 * (info >> 32))
            end = data.index(b"\0", strings + word)
            if info >> 32 and data[strings + word : end].split(b"@")[0] == name:
                yield offset


def catch(library, function):
    """Have the loaded library call `function` instead of syscall()."""
    mapped = Path("/proc/self/maps").read_text().splitlines()
    rows = [line.split() for line in mapped if library in line]
    start, path = int(rows[0][0].split("-")[0], 16), rows[0][5]
    libc = ctypes.CDLL(None, use_errno=True)
    found = list(foreign(path, b"syscall"))
    for offset in found:
        page = (start + offset) & ~(mmap.PAGESIZE - 1)
        libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 3)
        address = ctypes.cast(function, ctypes.c_void_p).value
        ctypes.c_uint64.from_address(start + offset).value = address
    if not found:
        sys.exit(f"{path} does not call syscall()")


def load(so, job):
    """The way of libbpf, with one program of an object."""
    obj = so.bpf_object__open_file(job["object"].encode(), None)
    if not obj:
        return
    obj = ctypes.c_void_p(obj)
    at = so.bpf_object__next_program(obj, None)
    while at:
        program = ctypes.c_void_p(at)
        wanted = so.bpf_program__name(program).decode() == job["program"]
        so.bpf_program__set_autoload(program, ctypes.c_bool(wanted))
        at = so.bpf_object__next_program(obj, program)
    so.bpf_object__load(obj)
    so.bpf_object__close(obj)


def main():
    """All jobs of the file."""
    so = ctypes.CDLL("libbpf.so.1", use_errno=True)
    so.bpf_object__open_file.restype = so.bpf_object__next_program.restype = ctypes.c_void_p
    so.bpf_program__name.restype = ctypes.c_char_p
    so.libbpf_set_print(None)
    catcher = Catcher()
    catch("libbpf.so", catcher.function)
    for number, job in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        catcher.watch(number, job)
        load(so, job)
        if not catcher.answered:
            answer(number, -1, 0, ["libbpf does not load it"])


if __name__ == "__main__":
    main()
