# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Record what bpftool shows of our programs in a guest, for tests/unit/test_bpf_xlated.py.

    python tests/record_xlated.py 6.12 > tests/data/xlated/6.12.txt

A recording has one block for each program: what the numbers of its calls mean to that kernel, then
each instruction's bytes with bpftool's words. The part below GUEST runs in the guest and uses
nothing of ours: names come from the kernel's own tables, not from bpftool.
"""

import argparse
import sys

from harness import build, config
from harness.errors import BpfthrowError, MachineLostError
from harness.target.channel import Files
from harness.target.virtual import open_vm

PLACE = "/tmp/xlated-objects"
TIMEOUT_S = 600.0

# a good number, with everything in it: callbacks, maps, globals, tail calls, helpers, loops
TOPICS = ("assert/access", "assert/conditions", "callback/edit_maps", "callback/helpers",
          "callback/loop", "callback/maps", "cookie/values", "effects/globals", "effects/maps",
          "effects/packet_xdp", "packet/parser_tc", "packet/parser_xdp", "packet/bounds",
          "tailcall/chain", "throw/branches", "throw/depth_static", "throw/registers",
          "types/syscall")  # fmt: skip

GUEST = r'''
import ctypes, glob, json, os, struct, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)

def bpf(command, attr):
    buffer = ctypes.create_string_buffer(attr.ljust(144, b"\0"), 144)
    result = libc.syscall(321, command, buffer, 144)
    if result < 0:
        raise OSError(ctypes.get_errno(), "bpf")
    return result

def functions(path):
    """Names of a program's functions: jited_ksyms of struct bpf_prog_info."""
    name = ctypes.create_string_buffer(path.encode())
    fd = bpf(7, struct.pack("<Q", ctypes.addressof(name)))
    room = ctypes.create_string_buffer(8 * 256)
    info = ctypes.create_string_buffer(232)
    struct.pack_into("<I", info, 104, 256)
    struct.pack_into("<Q", info, 112, ctypes.addressof(room))
    bpf(15, struct.pack("<IIQ", fd, 232, ctypes.addressof(info)))
    os.close(fd)
    count = struct.unpack_from("<I", info, 104)[0]
    return [SYMBOLS.get(a, hex(a)) for a in struct.unpack_from("<%dQ" % count, room)]

def show(*words):
    return subprocess.run(["bpftool", *words], capture_output=True, text=True, check=True).stdout

def record(name, path):
    """Print one program."""
    show("prog", "dump", "xlated", "pinned", path, "file", "/tmp/xlated")
    text = show("prog", "dump", "xlated", "pinned", path)
    code = open("/tmp/xlated", "rb").read()
    print("program", name)
    for index, found in enumerate(functions(path)):
        print("function", index, found)
    calls = {}
    for op, regs, off, imm in struct.iter_unpack("<BBhi", code):
        if op == 0x85 and regs >> 4 != 1 and (regs >> 4 or not 0 <= imm < 212):
            calls[imm] = SYMBOLS.get((BASE + imm) & (1 << 64) - 1, "-")
    for imm, found in sorted(calls.items()):
        print("call", imm, found)
    for line in text.splitlines():
        index, colon, words = line.lstrip().partition(": ")
        if not (line[:4].strip().isdigit() and colon and words[:1] in "(B"):
            continue
        at = int(index) * 8
        size = 16 if code[at] == 0x18 else 8
        print(code[at:at + size].hex(), words)

print("kernel", os.uname().release, show("version").split()[1])
pins = []
for path in sorted(glob.glob("/tmp/xlated-objects/*.o")):
    place = "/sys/fs/bpf/xlated-" + os.path.basename(path)[:-6].replace(".", "")
    os.makedirs(place, exist_ok=True)
    loaded = subprocess.run(["bpftool", "prog", "loadall", path, place], capture_output=True)
    names = sorted(os.listdir(place)) if loaded.returncode == 0 else []
    pins += [(place, place[19:].replace("__", "/"), name) for name in names]
# one pass: the table takes a while in an emulated machine
SYMBOLS = {}
with open("/proc/kallsyms") as table:
    for line in table:
        address, kind, name = line.split(None, 3)[:3]
        SYMBOLS.setdefault(int(address, 16), name)
BASE = next(a for a, n in SYMBOLS.items() if n == "__bpf_call_base")
for place, topic, name in pins:
    record(topic + " " + name, place + "/" + name)
    sys.stdout.flush()
'''


def record(transport) -> str:
    """What bpftool shows on the other side of an ssh transport."""
    paths = build.build([build.PROGS / f"{topic}.bpf.c" for topic in TOPICS])
    files = {
        f"{PLACE}/{topic.replace('/', '__')}.bpf.o": path.read_bytes()
        for topic, path in zip(TOPICS, paths, strict=True)
    }
    Files(transport).push(files | {f"{PLACE}/record.py": GUEST.encode()})
    session = transport.open_session(timeout=TIMEOUT_S)
    session.settimeout(TIMEOUT_S)
    session.exec_command(f"python3 {PLACE}/record.py 2>&1")
    with session.makefile("rb") as lines:
        text = lines.read().decode()
    if session.recv_exit_status():
        raise MachineLostError("the recorder failed in the guest", evidence=text)
    return text


def main() -> int:
    """Print the recording of one kernel."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    target = open_vm(sys.argv[1], config.resolve(argparse.Namespace()))
    try:
        text = record(target.transport)
    finally:
        target.close()
    print("# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause")
    print(f"# made by: python tests/record_xlated.py {sys.argv[1]}")
    print(text, end="")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BpfthrowError as error:
        print(getattr(error, "evidence", ""), file=sys.stderr)
        sys.exit(f"record_xlated: {error}")
