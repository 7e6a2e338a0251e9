# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""BTF and BTF.ext of an assembled program: its functions, lines, callback and kernel functions.

Owns the few types that take (Documentation/bpf/btf.rst): functions return int; global ones take
one u64, as an exception callback does, others nothing that BTF speaks of.
"""

import struct

from harness.bpf.program import Program, RefKind
from harness.errors import UsageError

_MAGIC, _HEADER_BYTES = 0xEB9F, 24
_INT, _FUNC, _FUNC_PROTO, _DATASEC, _DECL_TAG = 1, 12, 13, 15, 17
_STATIC, _GLOBAL, _EXTERN = 0, 1, 2
_LINKAGE = {"static": _STATIC, "global": _GLOBAL}
_SIGNED = 1 << 24
# 22 bits hold the number of a line
_LAST_LINE = (1 << 22) - 1
_VOID, _INT_ID, _U64_ID, _PLAIN, _ONE_ARGUMENT, _THROW, _NOTHING = range(7)
# kernel function -> its prototype, among the types above
_KFUNCS = {
    "bpf_throw": _THROW, "bpf_rcu_read_lock": _NOTHING, "bpf_rcu_read_unlock": _NOTHING,
    "bpf_preempt_disable": _NOTHING, "bpf_preempt_enable": _NOTHING,
}  # fmt: skip


class _Strings:
    """The string section while it grows."""

    def __init__(self) -> None:
        self.data = b"\0"
        self._known: dict[str, int] = {"": 0}

    def at(self, text: str) -> int:
        """Offset of a string, which is added where it is new."""
        if text not in self._known:
            self._known[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._known[text]


def write(program: Program, places: dict[str, tuple[str, int]]) -> tuple[bytes, bytes]:
    """Contents of .BTF and .BTF.ext. `places`: function -> its section, byte offset in it.

    Raises UsageError for a kernel function whose prototype nobody knows here.
    """
    strings = _Strings()
    types = _basic_types(strings)
    ids: dict[str, int] = {}
    for function in program.functions:
        proto = _ONE_ARGUMENT if function.linkage == "global" and function.start else _PLAIN
        ids[function.name] = len(types) + 1
        types.append(_type(strings.at(function.name), _FUNC, _LINKAGE[function.linkage], proto))
    if program.exception_callback is not None:
        name = program.functions[program.exception_callback].name
        tag = strings.at(f"exception_callback:{name}")
        main = ids[program.functions[0].name]
        types.append(_type(tag, _DECL_TAG, 0, main) + struct.pack("<i", -1))
    _kfuncs(program, strings, types)
    body = b"".join(types)
    ext = _ext(program, places, ids, strings)
    header = struct.pack("<HBBIIIII", _MAGIC, 1, 0, _HEADER_BYTES, 0, len(body), len(body),
                         len(strings.data))  # fmt: skip
    return header + body + strings.data, ext


def _type(name: int, kind: int, count: int, size_or_type: int) -> bytes:
    return struct.pack("<III", name, kind << 24 | count, size_or_type)


def _basic_types(strings: _Strings) -> list[bytes]:
    """Types 1 to 6, in the order of the constants above."""
    argument = struct.pack("<II", strings.at("cookie"), _U64_ID)
    return [
        _type(strings.at("int"), _INT, 0, 4) + struct.pack("<I", _SIGNED | 32),
        _type(strings.at("unsigned long long"), _INT, 0, 8) + struct.pack("<I", 64),
        _type(0, _FUNC_PROTO, 0, _INT_ID),
        _type(0, _FUNC_PROTO, 1, _INT_ID) + argument,
        _type(0, _FUNC_PROTO, 1, _VOID) + argument,
        _type(0, _FUNC_PROTO, 0, _VOID),
    ]


def _kfuncs(program: Program, strings: _Strings, types: list[bytes]) -> None:
    """Externs in section .ksyms, where libbpf looks for them."""
    names = sorted({r.name for r in program.refs.values() if r.kind is RefKind.KFUNC})
    rows = b""
    for name in names:
        if name not in _KFUNCS:
            known = ", ".join(sorted(_KFUNCS))
            raise UsageError(
                f"kernel function {name}: an assembled object does not know its prototype",
                fix=f"known: {known}; write others in C",
            )
        types.append(_type(strings.at(name), _FUNC, _EXTERN, _KFUNCS[name]))
        rows += struct.pack("<III", len(types), 0, 0)
    if names:
        types.append(_type(strings.at(".ksyms"), _DATASEC, len(names), 0) + rows)


def _ext(
    program: Program, places: dict[str, tuple[str, int]], ids: dict[str, int], strings: _Strings
) -> bytes:
    functions: dict[str, list[tuple[int, bytes]]] = {}
    lines: dict[str, list[tuple[int, bytes]]] = {}
    for function in program.functions:
        section, offset = places[function.name]
        row = struct.pack("<II", offset, ids[function.name])
        functions.setdefault(section, []).append((offset, row))
        for pc in range(function.start, function.end):
            line = program.lines.get(pc)
            if line is not None:
                at = offset + (pc - function.start) * 8
                file, text = strings.at(line.file), strings.at(line.text)
                packed = struct.pack("<IIII", at, file, text, min(line.number, _LAST_LINE) << 10)
                lines.setdefault(section, []).append((at, packed))
    parts = [_part(8, functions, strings), _part(16, lines, strings)]
    header = struct.pack("<HBBIIIII", _MAGIC, 1, 0, _HEADER_BYTES, 0, len(parts[0]),
                         len(parts[0]), len(parts[1]))  # fmt: skip
    return header + b"".join(parts)


def _part(size: int, rows: dict[str, list[tuple[int, bytes]]], strings: _Strings) -> bytes:
    packed = struct.pack("<I", size)
    for section, found in rows.items():
        packed += struct.pack("<II", strings.at(section), len(found))
        packed += b"".join(row for _, row in sorted(found))
    return packed
