# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which vectors each row of the table of instructions has: python tests/conformance/coverage.py.

Prints the table of docs/conformance.md.
"""

import sys
from pathlib import Path

VECTORS = Path(__file__).resolve().parent / "vectors"

if __name__ == "__main__":
    sys.path[:0] = [str(VECTORS.parents[1])]

from harness.bpf.opcodes import FORMS, INTERNAL  # noqa: E402

KINDS = ("typical", "zero", "all-ones", "sign-boundary", "edge", "zext", "reserved")
_ALWAYS = ("typical", "zero", "all-ones", "sign-boundary", "reserved")
_OUTSIDE = "refers to a map, variable or function: raw instructions have none"
_PACKET = "needs a socket buffer, which raw memory is not: tests/sim"
_NO_NUMBER = "no operand that could be a number"
# row -> (kinds that it lacks, why)
EXCUSES = {
    **{
        name: (set(_ALWAYS) - {"reserved"}, _OUTSIDE)
        for name in ("map_by_fd", "map_val_by_fd", "var_addr", "code_addr", "map_by_idx",
                     "map_val_by_idx", "call_kfunc")
    },
    **{f"ld_{kind}{bits}": (set(_ALWAYS) - {"reserved"}, _PACKET)
       for kind in ("abs", "ind") for bits in (8, 16, 32)},
    "gotox": (set(_ALWAYS) - {"reserved"}, "needs a jump table, which is a map"),
    "addr_space_cast": (set(_ALWAYS), "needs an arena"),
    "ldx_arg": (set(_ALWAYS), "needs a call with more than five arguments: kernels only"),
    "st_arg": (set(_ALWAYS), "needs a call with more than five arguments: kernels only"),
    "stx_arg": (set(_ALWAYS), "needs a call with more than five arguments: kernels only"),
    "call": ({"zero", "all-ones", "sign-boundary"}, _NO_NUMBER),
    "callx": ({"all-ones", "sign-boundary"}, _NO_NUMBER),
}  # fmt: skip


def operand(form):
    """First word of a vector's name: what the row's second operand is."""
    cls = form.code & 7
    if form.name.startswith(("neg", "le", "be", "bswap", "gotox")) and cls in (4, 5, 7):
        return "reg"
    if form.name in ("ja", "ja32", "may_goto"):
        return "off"
    if form.name.startswith(("call", "exit")):
        return "none"
    if cls in (4, 5, 6, 7):
        return "reg" if form.code & 8 else "imm"
    if form.name.startswith(("stx", "store_release", "ld_ind")):
        return "reg"
    return "imm" if form.name.startswith("st") or cls == 0 else "mem"


def required(form):
    """Kinds of vectors that a row must have."""
    kinds = set(_ALWAYS)
    cls, name = form.code & 7, form.name
    narrow = cls in (4, 6) and name != "ja32"
    if narrow or name.startswith(("movsx", "fetch")) or "xchg" in name:
        narrow = narrow or name.endswith("32")
        kinds |= {"zext"} if narrow and not name.startswith(("le", "be", "bswap")) else set()
    if name.startswith(("lsh", "rsh", "arsh", "div", "mod", "sdiv", "smod")):
        kinds.add("edge")
    return kinds - EXCUSES.get(name, (set(), ""))[0]


def found(form):
    """Kind -> how many vectors the row has."""
    counts = dict.fromkeys(KINDS, 0)
    for path in (VECTORS / form.name).glob(f"{operand(form)}-*.data"):
        rest = path.stem.partition("-")[2]
        kind = next((kind for kind in KINDS if rest.startswith(kind)), None)
        if kind is not None:
            counts[kind] += 1
    return counts


def rows():
    """The rows that a program may contain: not what only kernels make."""
    return [form for form in FORMS if form.since != INTERNAL]


def table():
    """Markdown: one line for each conformance group."""
    lines = ["| group | rows | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 2) + "|"]
    groups = {}
    for form in rows():
        groups.setdefault(form.group or "additions", []).append(form)
    for group, forms in groups.items():
        counts = [sum(found(form)[kind] for form in forms) for kind in KINDS]
        lines.append(f"| {group} | {len(forms)} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
    print(f"\n{len(list(VECTORS.rglob('*.data')))} vectors, {len(rows())} rows")
