# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A prediction in words, in the spirit of a compiler error: what, where, why, how to fix.

Owns the layout. Lines of C are those that the object carries (BTF), so that no source is needed.
"""

import errno as numbers
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.bpf import disasm
from harness.bpf.btfext import Line
from harness.bpf.program import Program
from harness.verify.prediction import Prediction, Step, Verdict

_WIDTH = 100
_LINES_AROUND = 2
# in a pattern: lines of the log that are left out
_LINES = r"{{[\s\S]*}}"
_ANY_NUMBER = re.compile(r"\{\{[^}]*[0-9][^}]*\}\}")
_ANYTHING = re.compile(r"\{\{[^}]*\}\}")
_NAMED = re.compile(r"\binstruction (\d+)\b")
# what does not come from a gap of the model, and what helps
_HELPED = (
    (
        "no types of a kernel are given",
        "--btf FILE (vmlinuz, /sys/kernel/btf/vmlinux), or `bpfthrow kernels fetch` once",
    ),
    ("the budget of", "--budget N; a kernel gives up after a million instructions"),
)
_ASK = "bpfthrow repro FILE --prog {name} --kernel {kernel} asks the kernel itself"
_TITLES = {Verdict.ACCEPT: "accepted", Verdict.REJECT: "rejected", Verdict.UNKNOWN: "unknown"}


@dataclass(frozen=True)
class Answer:
    """One prediction with what it is about."""

    file: str
    name: str
    section: str
    profiles: tuple[str, ...]
    prediction: Prediction
    # None: it does not link
    program: Program | None = None


def brief(answer: Answer) -> list[str]:
    """One line for each profile, and one for each known bug."""
    found = answer.prediction
    said = {
        Verdict.ACCEPT: f"accept   {found.explored} instructions explored",
        Verdict.REJECT: f"reject   {found.category}: {words(found) or found.why}",
        Verdict.UNKNOWN: f"unknown  {_gap(found)}",
    }[found.verdict]
    place = _place(answer)
    behind = f"  [{place}]" if place else ""
    rows = [f"  {profile:9}  {said}{behind}" for profile in answer.profiles]
    return rows + [f"  {'':9}  bug {bug}" for bug in found.bugs]


def _gap(prediction: Prediction) -> str:
    """What an unknown is due to: most reasons only name what the model lacks."""
    helped = any(cause in prediction.why for cause, _ in _HELPED)
    return prediction.why if helped else f"not modelled: {prediction.why}"


def words(prediction: Prediction) -> str:
    """The kernel's words: `N` and `...` for what differs from load to load, `/` between lines."""
    said = _ANY_NUMBER.sub("N", prediction.message.replace(_LINES, " / "))
    return _ANYTHING.sub("...", said)


def explain(answer: Answer) -> str:
    """The whole story."""
    found = answer.prediction
    profiles = ", ".join(answer.profiles)
    what = f": {found.category}" if found.category else ""
    lines = [f"{answer.name} ({answer.section}): {_TITLES[found.verdict]} on {profiles}{what}"]
    place = _place(answer)
    if place:
        lines.append(f"  --> {place}")
    lines += _source(answer)
    if found.message:
        code = f"  ({numbers.errorcode.get(found.errno, found.errno)})" if found.errno else ""
        lines += _fact("kernel says", words(found) + code)
    if found.verdict is Verdict.UNKNOWN:
        lines += _fact("why", _with_lines(answer, _gap(found)))
        lines += _fact("next", _next(answer))
    else:
        lines += _fact("why", _with_lines(answer, found.why)) if found.why else []
        lines += _fact("fix", found.fix) if found.fix else []
    for bug in found.bugs:
        lines += _fact("known bug", _with_lines(answer, bug))
    if found.verdict is Verdict.ACCEPT:
        lines += _fact("explored", f"{found.explored} instructions")
    if found.derivation:
        lines += ["", "  how it came to that:", *_steps(answer, found.derivation)]
    return "\n".join(lines)


def _next(answer: Answer) -> str:
    """How to come to an answer where the model has none."""
    found = next((way for cause, way in _HELPED if cause in answer.prediction.why), None)
    if found is not None:
        return found
    return _ASK.format(name=answer.name, kernel=answer.profiles[-1])


def _fact(name: str, text: str) -> list[str]:
    head = f"   = {name}: "
    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def reason(answer: Answer) -> str:
    """Why, with the lines of C of the instructions that it names."""
    return _with_lines(answer, answer.prediction.why)


def _with_lines(answer: Answer, text: str) -> str:
    """The text with the line of C behind each instruction that it names."""

    def add(match: re.Match[str]) -> str:
        line = _line(answer, int(match[1]))
        return f"{match[0]} (line {line.number})" if line is not None else match[0]

    return _NAMED.sub(add, text)


def _place(answer: Answer) -> str:
    line, pc = _line(answer, answer.prediction.pc), answer.prediction.pc
    if pc is None:
        return ""
    where = f"instruction {pc} in {answer.prediction.function}()"
    return f"{line.file.rpartition('/')[2]}:{line.number}, {where}" if line else where


def _line(answer: Answer, pc: int | None) -> Line | None:
    if answer.program is None or pc is None or not 0 <= pc < len(answer.program.insns):
        return None
    return answer.program.line_at(pc)


def _source(answer: Answer) -> list[str]:
    """The line and those beside it that have code, so that the object knows them."""
    line = _line(answer, answer.prediction.pc)
    if line is None or answer.program is None or not line.text.strip():
        return []
    known = {each.number: each.text for each in answer.program.lines.values()
             if each.file == line.file}  # fmt: skip
    near = [n for n in sorted(known) if abs(n - line.number) <= _LINES_AROUND]
    width = len(str(near[-1]))
    bar = " " * width + "   |"
    rows = [f"{'>' if n == line.number else ' '} {n:{width}} | {known[n].rstrip()}" for n in near]
    return [bar, *rows, bar]


def _steps(answer: Answer, steps: Sequence[Step]) -> Iterator[str]:
    """Steps, each line of C once in front of what happened there."""
    shown: tuple[str, int] | None = None
    for step in steps:
        line = _line(answer, step.pc)
        if line is not None and (line.file, line.number) != shown:
            shown = (line.file, line.number)
            name = line.file.rpartition("/")[2]
            yield f"    {name}:{line.number}: {line.text.strip()}"
        yield from _fitting(_insn(answer, step.pc), step.text)


def _fitting(insn: str, text: str) -> Iterator[str]:
    """What was known at an instruction, beside it; below it where that is too long."""
    head = f"      {insn}"
    if len(head) + len(text) <= _WIDTH:
        yield f"{head}{text}"
        return
    yield head.rstrip()
    # a register stays in one piece: what is in its brackets has blanks, too
    words = re.split(r" (?=R\d+=)", text)
    line = " " * 10
    for word in words:
        if len(line) + len(word) + 1 > _WIDTH and line.strip():
            yield line.rstrip()
            line = " " * 10
        line += word + " "
    yield line.rstrip()


def _insn(answer: Answer, pc: int | None) -> str:
    if answer.program is None or pc is None:
        return ""
    text = disasm.text(answer.program.insns, pc, disasm.linked_names(answer.program))
    return f"{pc}: {text:34}  "
