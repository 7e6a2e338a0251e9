# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What an object takes from the kernel by name: kfuncs, variables, Kconfig values.

Owns which undefined symbols there are, in libbpf's order (bpf_object__collect_externs and
cmp_externs in tools/lib/bpf/libbpf.c), and where each Kconfig value lies in the map .kconfig. What
a name stands for on a kernel is harness.bpf.environment's business.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from harness.bpf.btf import COMPOSITES, ENUMS, Btf, Kind, Type
from harness.bpf.rawelf import RawElf, Symbol
from harness.errors import ObjectError

KCONFIG, KSYMS = ".kconfig", ".ksyms"
_MAX_DEPTH = 32


class Shape(StrEnum):
    """What a Kconfig value may be: enum kcfg_type."""

    CHAR = "char"
    BOOL = "bool"
    INT = "int"
    TRISTATE = "tristate"
    TEXT = "char array"


@dataclass(frozen=True, slots=True)
class Extern:
    """An undefined symbol: a kfunc, a kernel variable or a Kconfig value."""

    name: str
    # ".ksyms" or ".kconfig"
    section: str
    is_function: bool
    weak: bool
    # of a symbol of the kernel: its BTF type without modifiers; 0: `void`, only an address
    type_id: int = 0
    # of a Kconfig value: what it is, its place in map .kconfig and its length in bytes
    shape: Shape | None = None
    offset: int = 0
    size_bytes: int = 0
    align: int = 1
    signed: bool = False


def read_externs(raw: RawElf, btf: Btf) -> tuple[Extern, ...]:
    """All of them in libbpf's order, which numbers them. Raises ObjectError where libbpf does."""
    symbols = [
        s
        for s in raw.symbols
        if s.section == 0
        and s.name
        and s.type == "STT_NOTYPE"
        and s.binding in ("STB_GLOBAL", "STB_WEAK")
    ]
    if not symbols:
        return ()
    homes: dict[int, str] = {}
    for section in btf.of_kind(Kind.DATASEC):
        for member in section.members:
            homes.setdefault(member.type_id, section.name)
    types: dict[str, Type] = {}
    for found in btf.of_kind(Kind.VAR, Kind.FUNC):
        types.setdefault(found.name, found)
    externs = [_extern(raw.path, symbol, types, homes, btf) for symbol in symbols]
    return _placed(sorted(externs, key=_order))


def _extern(
    path: str, symbol: Symbol, types: dict[str, Type], homes: dict[int, str], btf: Btf
) -> Extern:
    found = types.get(symbol.name)
    where = f"{path}: extern {symbol.name!r}"
    if found is None or found.linkage != "extern":
        raise ObjectError(
            f"{where}: failed to find BTF for it",
            fix="declare it `extern ... __ksym` or `extern ... __kconfig`, and compile with -g",
        )
    home, weak = homes.get(found.id, ""), symbol.binding == "STB_WEAK"
    is_function = found.kind is Kind.FUNC
    if home == KSYMS:
        type_id = found.type_id if is_function else btf.resolve(found.type_id).id
        return Extern(symbol.name, home, is_function, weak, type_id)
    if home != KCONFIG:
        raise ObjectError(f"{where}: unrecognized extern section {home!r}")
    if is_function:
        raise ObjectError(f"{where}: an extern function is unsupported under .kconfig section")
    shape, signed = _shape(btf, found.type_id, where)
    return Extern(
        symbol.name, home, is_function=False, weak=weak, shape=shape, signed=signed,
        size_bytes=btf.size_of(found.type_id), align=_align(btf, found.type_id, _MAX_DEPTH),
    )  # fmt: skip


def _shape(btf: Btf, type_id: int, where: str) -> tuple[Shape, bool]:
    """(what it is, whether it has a sign): find_kcfg_type."""
    found = btf.resolve(type_id)
    if found.kind is Kind.INT and found.encoding & 4 and found.size_bytes == 1:
        return Shape.BOOL, False
    if found.kind is Kind.INT and not found.encoding & 4 and found.size_bytes in (1, 2, 4, 8):
        return (Shape.CHAR if found.size_bytes == 1 else Shape.INT), found.signed
    if found.kind in ENUMS and found.name == "libbpf_tristate":
        return Shape.TRISTATE, False
    if found.kind is Kind.ARRAY and found.count:
        element = btf.resolve(found.type_id)
        if element.kind is Kind.INT and element.size_bytes == 1 and not element.encoding & 4:
            return Shape.TEXT, False
    raise ObjectError(f"{where}: its type is unsupported for a Kconfig value")


def _align(btf: Btf, type_id: int, depth: int) -> int:
    found = btf.resolve(type_id)
    if found.kind is Kind.ARRAY and depth:
        return _align(btf, found.type_id, depth - 1)
    if found.kind in COMPOSITES or not found.size_bytes:
        raise ObjectError("BTF: the alignment of a Kconfig value cannot be determined")
    return min(8, found.size_bytes)


def _order(extern: Extern) -> tuple[bool, int, int, bytes]:
    """Kconfig values first: by alignment, falling, then by size; ties by name."""
    name = extern.name.encode()
    if extern.section == KCONFIG:
        return False, -extern.align, extern.size_bytes, name
    return True, 0, 0, name


def _placed(externs: list[Extern]) -> tuple[Extern, ...]:
    placed, end = [], 0
    for each in externs:
        if each.section != KCONFIG:
            placed.append(each)
            continue
        start = -(-end // each.align) * each.align
        end = start + each.size_bytes
        placed.append(replace(each, offset=start))
    return tuple(placed)
