# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Functions in the running kernel's BTF: is one there, and what is its id.

Quick where it matters: vmlinux BTF has above 100 000 types, and a walk over them in Python takes
a second under emulation. So presence is a search for bytes, and ids come from libbpf, if it is
there.
"""

import struct
from pathlib import Path

from harness.errors import WorldError
from harness.target.agent import libbpf

PATH = Path("/sys/kernel/btf/vmlinux")
_FUNC = 12
_LINKAGES = (0, 1, 2)
_HEAD_BYTES = 12
# kind -> bytes behind the head: fixed, and for each of vlen members (include/uapi/linux/btf.h)
_TAIL = {
    1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0),
    15: (0, 12), 17: (4, 0), 19: (0, 12),
}  # fmt: skip


def has_function(name: str, path: Path = PATH) -> bool:
    """Whether the BTF at `path` has a FUNC `name`."""
    return bool(_function_at(_read(path), name))


def function_id(name: str, path: Path = PATH) -> int:
    """BTF id of the kernel function `name`. Raises WorldError where it has none."""
    try:
        return _ask_libbpf(name)
    except WorldError:
        return _walk(_read(path), name)


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _sections(raw: bytes) -> tuple[int, int, int]:
    """Offsets of the types, of their end, and of the strings."""
    header, types, types_size, strings = struct.unpack_from("=IIII", raw, 4)
    return header + types, header + types + types_size, header + strings


def _function_at(raw: bytes, name: str) -> int:
    """Offset of the FUNC's record, or 0."""
    if not raw:
        return 0
    types, end, strings = _sections(raw)
    at = raw.find(b"\0" + name.encode() + b"\0", strings)
    if at < 0:
        return 0
    for linkage in _LINKAGES:
        record = struct.pack("=II", at + 1 - strings, _FUNC << 24 | linkage)
        found = raw.find(record, types, end)
        if found >= 0:
            return found
    return 0


def _walk(raw: bytes, name: str) -> int:
    wanted = _function_at(raw, name)
    if not wanted:
        raise WorldError(f"the kernel's BTF has no function {name}", evidence=str(PATH))
    at, _, _ = _sections(raw)
    ident = 1
    while at < wanted:
        info = struct.unpack_from("=I", raw, at + 4)[0]
        fixed, each = _TAIL.get(info >> 24 & 0x1F, (0, 0))
        at += _HEAD_BYTES + fixed + each * (info & 0xFFFF)
        ident += 1
    return ident


def _ask_libbpf(name: str) -> int:
    so = libbpf.library().so
    so.btf__load_vmlinux_btf.restype = libbpf.Handle
    btf = libbpf.Handle(so.btf__load_vmlinux_btf())
    if btf.value is None:
        raise WorldError("libbpf cannot read the kernel's BTF", evidence=str(PATH))
    try:
        ident = int(so.btf__find_by_name_kind(btf, name.encode(), _FUNC))
    finally:
        so.btf__free(btf)
    if ident < 0:
        raise WorldError(f"the kernel's BTF has no function {name}", evidence=str(PATH))
    return ident
