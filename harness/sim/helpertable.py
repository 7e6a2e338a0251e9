# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/helpers.md: what programs can call, which maps and contexts there are, from the tables.

`python -m harness.sim.helpertable > docs/helpers.md` writes it again.
"""

from harness.bpf.helper_names import NAMES
from harness.bpf.mapdef import MapType
from harness.sim import context, ctxfields
from harness.sim.helper.dynptrs import KFUNCS
from harness.sim.helpers import HELPERS
from harness.sim.maps import KINDS

_HEAD = """\
# Helpers, maps and contexts of the simulator

<!-- made by `python -m harness.sim.helpertable > docs/helpers.md` -->

From the tables that the simulator runs by; a test holds the two together. A helper or map type that
is not here is unsupported, and reported by its name, when a program reaches it.

Time, randomness, CPU, process, interfaces and the result of a route look-up are inputs:
`harness.sim.world.World`, given to a machine. The same world and seed give the same run. What goes
out (redirects, cloned frames, perf events, timers) is in `Machine.recorder.records`.

Where a kernel may rightly answer otherwise, the simulator goes on and says so in
`Observation.doubts`; such an answer is not held against a kernel. Today: an element that a full
LRU map evicted, a walk that ended early through a map without order, a value that a bloom filter in
use does not have.

A pointer into a packet ends with every helper that may move the packet, whether that succeeds or
not, as the verifier has it. Using one all the same is a fault that names the helper.
"""


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _table(*rows: str) -> list[str]:
    head, *rest = rows
    return [head, "|---" * (head.count("|") - 1) + "|", *rest, ""]


def _helpers() -> list[str]:
    rows = [
        _row(number, f"`{name}`", count, note)
        for number, (name, count, _, note) in sorted(HELPERS.items())
    ]
    missing = [name for number, name in enumerate(NAMES) if number and number not in HELPERS]
    return [
        f"## Helpers: {len(HELPERS)} of {len(NAMES) - 1}",
        "",
        *_table(_row("number", "name", "arguments", "notes"), *rows),
        "Unsupported, by name: " + ", ".join(f"`{name}`" for name in missing) + ".",
        "",
        "Dynptr kfuncs: " + ", ".join(f"`{name}`" for name in KFUNCS) + ".",
        "",
    ]


def _maps() -> list[str]:
    rows = [_row(f"`{kind.name.lower()}`", note) for kind, (_, note) in sorted(KINDS.items())]
    missing = [f"`{kind.name.lower()}`" for kind in MapType if kind not in KINDS]
    return [
        "## Maps",
        "",
        *_table(_row("type", "notes"), *rows),
        "Unsupported: " + ", ".join(missing) + ".",
        "",
    ]


def _fields(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _contexts() -> list[str]:
    rows = [
        _row(kind, f"`{struct}`", _fields([n for n in layout if n not in hidden]), _fields(writes))
        for kind, struct, layout, hidden, writes in context.packet_contexts()
    ]
    for kind, (struct, _, fields) in ctxfields.RECORDS.items():
        writes = [name for name, found in fields.items() if found.writable]
        rows.append(_row(kind, f"`{struct}`", _fields(list(fields)), _fields(writes)))
    return [
        "## Contexts",
        "",
        "Values of the packet contexts come from the hook; a field that depends on the machine is",
        "unsupported when it is read. The records of the others are given as bytes (`--ctx`). The",
        "context of a syscall program is plain memory; that of raw_tp, fentry and fexit programs",
        "is read-only, eight bytes an argument.",
        "",
        *_table(_row("program", "struct", "may be read", "may be written"), *rows),
    ]


def page() -> str:
    """The whole of docs/helpers.md."""
    return "\n".join([_HEAD, *_helpers(), *_maps(), *_contexts()]).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
