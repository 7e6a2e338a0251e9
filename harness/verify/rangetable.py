# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is known around assertions, for people and as JSON: model and kernel side by side.

Owns the layout and which registers are shown: those that are compared, and those of which more is
known behind the assertion. What is known is harness.verify.knowledge's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.bpf import disasm
from harness.verify.knowledge import Assertion, Learnt, differences, disagreements, proven
from harness.verify.scalar import in_words

if TYPE_CHECKING:
    from harness.bpf.program import Program
    from harness.verify.kernel_log import Known

_NOTHING = Learnt((), ())
_WIDTH, _COLUMN = 100, 40


@dataclass(frozen=True, slots=True)
class Row:
    """One register on one side of one assertion."""

    register: str
    # "before" or "after"
    when: str
    model: tuple[Known, ...]
    # empty: no kernel was asked, or it prints nothing of the register
    kernel: tuple[Known, ...]
    # None where only one of them says something
    agree: bool | None


@dataclass(frozen=True, slots=True)
class Table:
    """One assertion."""

    place: Assertion
    rows: tuple[Row, ...]
    # paths that came by it, in front of it and behind it, in the model and in the kernel
    paths: tuple[int, int, int, int]


def table(place: Assertion, model: Learnt, kernel: Learnt = _NOTHING) -> Table:
    """What both know about an assertion."""
    rows = []
    for when in ("before", "after"):
        one, other = getattr(model, when), getattr(kernel, when)
        wrong = disagreements(one, other, few=(model.few, kernel.few))
        for register in _shown(place, model, kernel):
            after = when == "after"
            mine, theirs = model.values(register, after=after), kernel.values(register, after=after)
            if not mine and not theirs:
                continue
            if (
                after
                and mine == model.values(register, after=False)
                and not _more(kernel, register)
            ):
                continue
            agree = register not in wrong if mine and theirs else None
            rows.append(Row(register, when, mine, theirs, agree))
    rows.sort(key=lambda row: (int(row.register[1:]), row.when == "after"))
    paths = len(model.before), len(model.after), len(kernel.before), len(kernel.after)
    return Table(place, tuple(rows), paths)


def _shown(place: Assertion, *sources: Learnt) -> list[str]:
    names = dict.fromkeys(place.registers)
    for source in sources:
        known = {name for state in source.after for name in state if name.startswith("R")}
        names |= dict.fromkeys(name for name in sorted(known) if _more(source, name))
    return list(names)


def _more(source: Learnt, name: str) -> bool:
    """Whether something of the register is known behind that was not known in front."""
    before, after = (source.values(name, after=each) for each in (False, True))
    return any(all(differences(new, old) for old in before) for new in after) and bool(before)


# ---- words --------------------------------------------------------------------------------------


def words(known: Known) -> str:
    """As "0..7", "pkt+14 r=18", "map_value of 64 bytes+(0..60, bits (0x0; 0x3c))"."""
    if known.kind == "scalar":
        return _number(known)
    text = known.kind + ("_or_null" if known.null else "")
    if "vs" in known.fields:
        text += f" of {known.fields['vs']} bytes"
    if not known.mask:
        offset = known.off + (known.value - (1 << 64) if known.value >> 63 else known.value)
        text += f"{offset:+}" if offset else ""
    else:
        off = f"{known.off:+}" if known.off else ""
        text += f"{off}+({_number(known)})"
    return text + (f" r={proven(known)}" if "r" in known.fields else "")


def _number(known: Known) -> str:
    return in_words(
        (known.umin, known.umax), (known.smin, known.smax),
        (known.umin32, known.umax32), (known.smin32, known.smax32),
        (known.value, known.mask),
    )  # fmt: skip


def _all(known: tuple[Known, ...]) -> str:
    return " | ".join(words(each) for each in known) or "-"


_MARKS = {True: "agree", False: "DIFFER", None: ""}


def text(program: Program, tables: list[Table], *, kernel: bool) -> list[str]:
    """Lines: each assertion with its line of C, its registers before and after."""
    lines = []
    shown = ""
    for each in tables:
        line = program.line_at(each.place.pc)
        if line is not None:
            head = f"{line.file.rpartition('/')[2]}:{line.number}: {line.text.strip()}"
            if head != shown:
                lines.append(head)
                shown = head
        insn = disasm.instruction(program, each.place.pc)
        lines.append(f"  {each.place.pc}: {insn}")
        if each.paths[0] and not each.paths[1]:
            lines.append("      never holds: every path of the model throws here")
        lines += _rows(each, kernel=kernel)
    return lines


def _rows(each: Table, *, kernel: bool) -> list[str]:
    cells = [(row, _all(row.model), _all(row.kernel)) for row in each.rows]
    width = max((len(model) for _, model, _ in cells if len(model) <= _COLUMN), default=0)
    lines = []
    for row, model, theirs in cells:
        head = f"      {row.register:3} {row.when:6}  "
        if not kernel:
            lines.append(head + model)
            continue
        said = f"kernel: {theirs}  {_MARKS[row.agree]}".rstrip()
        line = f"{head}{model:{width}}  {said}"
        # what many paths know does not fit side by side
        lines += [line] if len(line) <= _WIDTH else [head + model, " " * len(head) + said]
    return lines


def to_json(program: Program, each: Table) -> dict[str, Any]:
    """One assertion as plain JSON values; numbers of 64 bits are JSON numbers."""
    line = program.line_at(each.place.pc)
    return {
        "pc": each.place.pc,
        "holds": each.place.holds,
        "function": program.function_at(each.place.pc).name,
        "line": {"file": line.file, "number": line.number, "text": line.text} if line else None,
        "paths": dict(
            zip(("model_before", "model_after", "kernel_before", "kernel_after"), each.paths,
                strict=True)
        ),
        "registers": [
            {
                "register": row.register,
                "when": row.when,
                "model": [_known(known) for known in row.model],
                "kernel": [_known(known) for known in row.kernel],
                "agree": row.agree,
            }
            for row in each.rows
        ],
    }  # fmt: skip


_RANGES = ("umin", "umax", "smin", "smax", "umin32", "umax32", "smin32", "smax32")


def _known(known: Known) -> dict[str, Any]:
    return {
        "kind": known.kind,
        "null": known.null,
        "off": known.off,
        **{name: getattr(known, name) for name in _RANGES},
        "bits": {"value": known.value, "mask": known.mask},
        **({"range": proven(known)} if "r" in known.fields else {}),
        **({"value_size": int(known.fields["vs"])} if "vs" in known.fields else {}),
    }
