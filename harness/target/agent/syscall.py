# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""bpf(2) by ctypes: only the commands that the agent needs.

Layouts follow union bpf_attr, struct bpf_prog_info and struct bpf_map_info of the kernel's
include/uapi/linux/bpf.h, which only ever grow at the end. Errors are KernelError. Does not know
objects, hooks or cases.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
# a machine that is not there has no such call: ENOSYS
_NUMBER = _NUMBERS.get(os.uname().machine, -1)
_ATTR_BYTES = 160
_INFO_BYTES = 256
# nr_map_ids of struct bpf_prog_info; map_ids follows it
_MAP_COUNT = 52

# enum bpf_cmd
MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, PROG_LOAD = 1, 2, 3, 4, 5
OBJ_PIN, OBJ_GET, PROG_ATTACH, PROG_DETACH, PROG_TEST_RUN = 6, 7, 8, 9, 10
PROG_NEXT_ID, MAP_NEXT_ID, PROG_BY_ID, MAP_BY_ID, OBJ_INFO = 11, 12, 13, 14, 15
PROG_QUERY, RAW_TRACEPOINT_OPEN, MAP_LOOKUP_BATCH, LINK_CREATE, LINK_BY_ID = 16, 17, 24, 28, 30
LINK_NEXT_ID, ENABLE_STATS = 31, 32

# the kernel's names of all up to the last one here, for messages
_NAMES = (
    "MAP_CREATE", "MAP_LOOKUP_ELEM", "MAP_UPDATE_ELEM", "MAP_DELETE_ELEM", "MAP_GET_NEXT_KEY",
    "PROG_LOAD", "OBJ_PIN", "OBJ_GET", "PROG_ATTACH", "PROG_DETACH", "PROG_TEST_RUN",
    "PROG_GET_NEXT_ID", "MAP_GET_NEXT_ID", "PROG_GET_FD_BY_ID", "MAP_GET_FD_BY_ID",
    "OBJ_GET_INFO_BY_FD", "PROG_QUERY", "RAW_TRACEPOINT_OPEN", "BTF_LOAD", "BTF_GET_FD_BY_ID",
    "TASK_FD_QUERY", "MAP_LOOKUP_AND_DELETE_ELEM", "MAP_FREEZE", "BTF_GET_NEXT_ID",
    "MAP_LOOKUP_BATCH", "MAP_LOOKUP_AND_DELETE_BATCH", "MAP_UPDATE_BATCH", "MAP_DELETE_BATCH",
    "LINK_CREATE", "LINK_UPDATE", "LINK_GET_FD_BY_ID", "LINK_GET_NEXT_ID", "ENABLE_STATS",
)  # fmt: skip

# flag of BPF_PROG_LOAD
F_SLEEPABLE = 16

# kernel-internal, leaks out: the map type has no batch operation
_ENOTSUPP = 524
_BATCH_BYTES = 1 << 20

# enum bpf_attach_type
TCX_INGRESS, TCX_EGRESS = 46, 47

libc = ctypes.CDLL(None, use_errno=True)


class KernelError(OSError):
    """The kernel's no to a request of bpf(2) or netlink: not about a file or a socket of ours.

    filename holds the verifier log where there is one.
    """


def call(command: int, attr: bytes) -> tuple[int, bytes]:
    """One bpf(2): (return value, the attribute bytes as the kernel left them)."""
    result, code, after = _call(command, attr)
    if code:
        raise _refused(command, code)
    return result, after


def _refused(command: int, code: int) -> KernelError:
    return KernelError(code, f"BPF_{_NAMES[command]}: {os.strerror(code)}")


def _call(command: int, attr: bytes) -> tuple[int, int, bytes]:
    """(Return value, errno or 0, the attribute bytes as the kernel left them)."""
    buffer = ctypes.create_string_buffer(attr, _ATTR_BYTES)
    result = int(libc.syscall(_NUMBER, command, buffer, _ATTR_BYTES))
    return result, ctypes.get_errno() if result < 0 else 0, buffer.raw


def _address(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    return ctypes.addressof(buffer) if buffer is not None else 0


# objects -----------------------------------------------------------------------------------


def obj_get(path: str) -> int:
    """File descriptor of a pinned object."""
    name = ctypes.create_string_buffer(path.encode())
    return call(OBJ_GET, struct.pack("=QII", _address(name), 0, 0))[0]


def obj_pin(fd: int, path: str) -> None:
    """Pin a program or map at `path` on bpffs."""
    name = ctypes.create_string_buffer(path.encode())
    call(OBJ_PIN, struct.pack("=QII", _address(name), fd, 0))


def ids(command: int, last: int = 0) -> Iterator[int]:
    """Ids of one kind beyond `last`; `command` is PROG_NEXT_ID, MAP_NEXT_ID or LINK_NEXT_ID."""
    while True:
        _, code, attr = _call(command, struct.pack("=III", last, 0, 0))
        if code == errno.ENOENT:
            return
        if code:
            raise _refused(command, code)
        last = struct.unpack_from("=I", attr, 4)[0]
        yield last


def by_id(command: int, ident: int) -> int:
    """File descriptor of the object `ident`; `command` is PROG_BY_ID, MAP_BY_ID, LINK_BY_ID."""
    return call(command, struct.pack("=III", ident, 0, 0))[0]


def info(fd: int, given: bytes = b"") -> bytes:
    """bpf_prog_info, bpf_map_info or bpf_link_info, padded with zeros to a fixed length.

    `given`: its beginning as the kernel is to find it, with the places of arrays to fill.
    """
    buffer = ctypes.create_string_buffer(given, _INFO_BYTES)
    call(OBJ_INFO, struct.pack("=IIQ", fd, _INFO_BYTES, _address(buffer)))
    return buffer.raw


def text(raw: bytes) -> str:
    """Text of a fixed-width kernel name."""
    return raw.split(b"\0", 1)[0].decode(errors="replace")


class ProgInfo(NamedTuple):
    """What the agent reads of struct bpf_prog_info."""

    type: int
    id: int
    jited_bytes: int
    name: str
    run_count: int


def prog_info(fd: int) -> ProgInfo:
    """Facts of a loaded program; run_count moves only while statistics are on."""
    raw = info(fd)
    kind, ident = struct.unpack_from("=II", raw, 0)
    jited = struct.unpack_from("=I", raw, 16)[0]
    count = struct.unpack_from("=Q", raw, 200)[0]
    return ProgInfo(kind, ident, jited, text(raw[64:80]), count)


def program_maps(fd: int) -> frozenset[int]:
    """Ids of the maps that a loaded program uses, in whichever of its functions."""
    count = struct.unpack_from("=I", info(fd), _MAP_COUNT)[0]
    room = (ctypes.c_uint32 * count)()
    info(fd, bytes(_MAP_COUNT) + struct.pack("=IQ", count, ctypes.addressof(room)))
    return frozenset(room)


class MapInfo(NamedTuple):
    """What the agent reads of struct bpf_map_info; sizes in bytes."""

    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str


def map_info(fd: int) -> MapInfo:
    """Facts of a map."""
    raw = info(fd)
    kind, ident, key, value, entries, flags = struct.unpack_from("=6I", raw, 0)
    return MapInfo(kind, ident, key, value, entries, flags, text(raw[24:40]))


def enable_stats() -> int:
    """Switch run_count on while the returned descriptor stays open (BPF_STATS_RUN_TIME)."""
    return call(ENABLE_STATS, struct.pack("=I", 0))[0]


# maps --------------------------------------------------------------------------------------


def map_keys(fd: int, key_size: int) -> Iterator[bytes]:
    """Keys of a map. Deleting while iterating may visit a key twice: list() first."""
    key: ctypes.Array[ctypes.c_char] | None = None
    after = ctypes.create_string_buffer(key_size)
    while True:
        attr = struct.pack("=IIQQQ", fd, 0, _address(key), _address(after), 0)
        try:
            call(MAP_NEXT_KEY, attr)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        yield after.raw
        key = ctypes.create_string_buffer(after.raw, key_size)


def map_lookup(fd: int, key: bytes, value_bytes: int) -> bytes:
    """Value of `key`; value_bytes covers all CPUs for a per-CPU map."""
    where = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value_bytes)
    call(MAP_LOOKUP, struct.pack("=IIQQQ", fd, 0, _address(where), _address(value), 0))
    return value.raw


def map_items(fd: int, key_bytes: int, value_bytes: int, entries: int) -> dict[bytes, bytes] | None:
    """A whole array or hash map of at most `entries`, many at a time (BPF_MAP_LOOKUP_BATCH).

    None where the kernel has no such command for the map. value_bytes as for map_lookup().
    """
    items: dict[bytes, bytes] = {}
    room = min(entries, max(_BATCH_BYTES // (key_bytes + value_bytes), 1))
    position: ctypes.Array[ctypes.c_char] | None = None
    # a key of an array, a 32-bit bucket of a hash
    after = ctypes.create_string_buffer(max(key_bytes, 4))
    while True:
        keys = ctypes.create_string_buffer(room * key_bytes)
        values = ctypes.create_string_buffer(room * value_bytes)
        attr = struct.pack(
            "=QQQQIIQQ", _address(position), _address(after), _address(keys), _address(values),
            room, fd, 0, 0,
        )  # fmt: skip
        _, code, out = _call(MAP_LOOKUP_BATCH, attr)
        if code == errno.ENOSPC and room < entries:
            room = min(entries, room * 2)  # a hash bucket holds more
            continue
        if code in (errno.EINVAL, errno.EOPNOTSUPP, _ENOTSUPP):
            return None
        if code not in (0, errno.ENOENT):
            raise _refused(MAP_LOOKUP_BATCH, code)
        got = struct.unpack_from("=I", out, 32)[0]
        items |= zip(
            _pieces(keys.raw, key_bytes, got), _pieces(values.raw, value_bytes, got), strict=True
        )
        if code == errno.ENOENT or got == 0:
            return items
        position = ctypes.create_string_buffer(after.raw, len(after))


def _pieces(raw: bytes, size: int, count: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, size * count, size)]


def map_update(fd: int, key: bytes, value: bytes) -> None:
    """Set `key`, creating it where the map type allows."""
    where = ctypes.create_string_buffer(key, len(key))
    what = ctypes.create_string_buffer(value, len(value))
    call(MAP_UPDATE, struct.pack("=IIQQQ", fd, 0, _address(where), _address(what), 0))


def map_delete(fd: int, key: bytes) -> None:
    """Remove `key`."""
    where = ctypes.create_string_buffer(key, len(key))
    call(MAP_DELETE, struct.pack("=IIQQQ", fd, 0, _address(where), 0, 0))


# programs ----------------------------------------------------------------------------------


class Run(NamedTuple):
    """Result of one BPF_PROG_TEST_RUN; retval is unsigned 32-bit."""

    retval: int
    data_out: bytes
    # the context after the run (BPF_PROG_TYPE_SYSCALL writes it back over ctx_in)
    ctx: bytes


def run_once(
    fd: int, data: bytes | None, ctx: bytes | None, *, room: int = 0, repeat: int = 1
) -> Run:
    """Run a program once. `room` is the size of data_out in bytes.

    Pass repeat=0 for types that refuse the field (syscall, raw_tp, tracing).
    """
    data_in = ctypes.create_string_buffer(data, len(data)) if data is not None else None
    ctx_in = ctypes.create_string_buffer(ctx, len(ctx)) if ctx is not None else None
    data_out = ctypes.create_string_buffer(room) if room else None
    attr = struct.pack(
        "=IIIIQQIIIIQQIIII",
        fd, 0, len(data or b""), room, _address(data_in), _address(data_out), repeat, 0,
        len(ctx or b""), 0, _address(ctx_in), 0, 0, 0, 0, 0,
    )  # fmt: skip
    _, after = call(PROG_TEST_RUN, attr)
    retval, _, out_bytes = struct.unpack_from("=III", after, 4)
    frame = data_out.raw[:out_bytes] if data_out is not None else b""
    return Run(retval, frame, ctx_in.raw if ctx_in is not None else b"")


def prog_load(
    kind: int,
    insns: bytes,
    *,
    flags: int = 0,
    attach_type: int = 0,
    btf_id: int = 0,
    target: int = 0,
) -> int:
    """Load raw instructions; on refusal the error's filename holds the verifier log.

    btf_id is the function to attach to, in the kernel or in the program behind `target`.
    """
    code = ctypes.create_string_buffer(insns, len(insns))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(65536)
    attr = struct.pack(
        "=IIQQIIQII16sIIIIQIIQIII",
        kind, len(insns) // 8, _address(code), _address(licence), 1, 65536,
        _address(log), 0, flags, b"bpfthrow_probe", 0, attach_type,
        0, 0, 0, 0, 0, 0, 0, btf_id, target,
    )  # fmt: skip
    try:
        return call(PROG_LOAD, attr)[0]
    except KernelError as error:
        words = log.value.decode(errors="replace")
        raise KernelError(error.errno, error.strerror, words) from None


def raw_tracepoint_open(fd: int, name: str = "") -> int:
    """Attach a raw_tp, or (without a name) a tracing program to its load-time target."""
    where = ctypes.create_string_buffer(name.encode()) if name else None
    return call(RAW_TRACEPOINT_OPEN, struct.pack("=QII", _address(where), fd, 0))[0]


def prog_detach(fd: int, target: int, attach_type: int) -> None:
    """Detach from `target`, an interface index or a cgroup's descriptor (BPF_PROG_ATTACH)."""
    call(PROG_DETACH, struct.pack("=IIIIIIQ", target, fd, attach_type, 0, 0, 0, 0))


def prog_query(target: int, attach_type: int) -> tuple[int, ...]:
    """Program ids attached to `target` (an interface index or a cgroup's descriptor)."""
    room = (ctypes.c_uint32 * 64)()
    attr = struct.pack("=IIIIQII", target, attach_type, 0, 0, ctypes.addressof(room), len(room), 0)
    _, after = call(PROG_QUERY, attr)
    return tuple(room[: struct.unpack_from("=I", after, 24)[0]])


def keep_in_memory() -> None:
    """Fault in everything that this process has, for good: mlockall(MCL_CURRENT).

    Where that is not allowed, page faults go on coming when they come.
    """
    ctypes.CDLL(None).mlockall(1)


def pin_to_first_cpu() -> None:
    """Keep this process on one CPU: per-CPU maps are read there, frames arrive there."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
