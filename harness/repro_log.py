# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From the log of one refused load to its evidence: where it ended, what was known there.

Owns reading registers out of a log. The rule is harness.refusals' business, layout is
harness.repro_report's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness import normalize, refusals
from harness.bpf.btfext import Line
from harness.bpf.program import Program
from harness.normalize import Kind
from harness.refusals import Found

# "; bpf_throw(1); @ file.bpf.c:19"; before 6.8 without the place
# harness/target/agent/verifierlog.py writes it
_LEFT_OUT = re.compile(r"^\[bpfthrow: (\d+) letters of the log left out here\]$", re.MULTILINE)
_SOURCE = re.compile(r"; ?(?P<text>.*?)(?: @ (?P<file>\S+):(?P<number>\d+))?$")
_FRAME = re.compile(r"^\s*(?:\d+: )?frame(\d+):")
_STATE = re.compile(r"^(?:\d+:)?\s*(?:frame\d+:)?\s*(?=(?:R\d|fp-|refs=|cb\b))")
_NAME = re.compile(r"(?:^|\s)(R\d+|fp-\d+)(?:_[rwD]+)?=|(?:^|\s)refs=")
_USED = re.compile(r"\b[rw](\d+)\b")
_MENTIONED = re.compile(r"\bR(\d+)\b")


@dataclass(frozen=True, slots=True)
class Place:
    """An instruction with its line of C."""

    # index in the linked program, as the kernel's log numbers it
    number: int
    # "(85) call bpf_throw"
    instruction: str
    line: Line | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a log says about a refusal."""

    # normalised
    messages: tuple[str, ...]
    found: Found | None
    # where the verifier stood; None: it was not looking at an instruction
    refused: Place | None
    # where what is held was taken
    taken: tuple[Place, ...] = ()
    # "R1" -> "scalar()", those that have to do with it
    registers: dict[str, str] = field(default_factory=dict)
    # what is missing of the log: its end, where the machine's loader cut it, or its middle
    cut: str = ""


def evidence(log: str, message: str, program: Program | None = None) -> Evidence:
    """Read a refused load's log.

    `message`: the telling line, where libbpf refused and the verifier was never asked. `program`:
    the linked program, for lines of C that the log does not give.
    """
    lines = normalize.lines(log)
    said = normalize.messages(log) or ((normalize.message(message),) if message else ())
    found = refusals.rule_of(said)
    walked = _walk(lines)
    refused = _refused(found, walked, program)
    taken = _taken(found, walked, program)
    registers = _involved(said, refused, walked) if refused else {}
    return Evidence(said, found, refused, taken, registers, _missing(log))


def _missing(log: str) -> str:
    """What is missing of a log, for people; "" where nothing is."""
    begun, ended = (f"-- {word} PROG LOAD LOG --" for word in ("BEGIN", "END"))
    if begun in log and ended not in log:
        return "the log is longer than its buffer: its end is missing"
    gone = _LEFT_OUT.search(log)
    return f"the log is very long: {gone[1]} letters of its middle are left out" if gone else ""


@dataclass(slots=True)
class _Walk:
    """The path that a log tells, to its end."""

    # number, instruction, source line of the log
    steps: list[tuple[int, str, Line | None]] = field(default_factory=list)
    # frame -> register -> state
    frames: dict[int, dict[str, str]] = field(default_factory=dict)
    frame: int = 0


def _walk(lines: Sequence[normalize.Line]) -> _Walk:
    walk = _Walk()
    source: Line | None = None
    entering = False
    for line in lines:
        if line.kind is Kind.SOURCE:
            source = _source(line.raw) or source
        elif line.kind is Kind.INSTRUCTION and line.number is not None:
            text, _, state = line.text.partition(" ; ")
            walk.steps.append((line.number, text.partition(": ")[2], source))
            _know(walk, state)
        elif line.kind is Kind.PROGRESS:
            walk.frames.clear()  # another path, or another function
            _know(walk, re.sub(r"^from \d+ to \d+[^:]*:", "", line.text))
        elif line.kind is Kind.STATE:
            entering = line.text == "callee:" or (entering and line.text == "caller:")
            _know(walk, line.text, fresh=entering and line.text != "callee:")
            entering = line.text == "callee:"
    return walk


def _source(raw: str) -> Line | None:
    match = _SOURCE.match(raw)
    if match is None or not match["text"]:
        return None
    return Line(match["file"] or "", int(match["number"] or 0), match["text"].strip())


def _know(walk: _Walk, text: str, *, fresh: bool = False) -> None:
    """Take in the registers of one line; `fresh`: of a frame that begins here."""
    number = _FRAME.match(text)
    state = _STATE.match(text)
    if state is None:
        return
    walk.frame = int(number[1]) if number else 0
    if fresh:
        walk.frames[walk.frame] = {}
    known = walk.frames.setdefault(walk.frame, {})
    rest = text[state.end() :]
    names = list(_NAME.finditer(rest))
    ends = [*(after.start() for after in names[1:]), len(rest)]
    # a frame's line may hold no register, and what looks like one may be none
    for match, end in zip(names, ends, strict=False):
        known[match[1] or "refs"] = rest[match.end() : end].strip()


def _refused(found: Found | None, walk: _Walk, program: Program | None) -> Place | None:
    named = found.numbers("insn") if found else []
    if named:
        return _place(named[-1], walk, program)
    return _place(walk.steps[-1][0], walk, program) if walk.steps else None


def _taken(found: Found | None, walk: _Walk, program: Program | None) -> tuple[Place, ...]:
    if found is None:
        return ()
    numbers = found.numbers("taken")
    if found.rule.taken_by:
        call = re.compile(rf"\(85\) call {found.rule.taken_by}$")
        numbers += [number for number, text, _ in walk.steps if call.match(text)][-1:]
    places = (_place(number, walk, program) for number in dict.fromkeys(numbers))
    return tuple(place for place in places if place)


def _place(number: int, walk: _Walk, program: Program | None) -> Place | None:
    """The instruction of that number: its line from the object, else as the log gives it."""
    line = None
    if program is not None and 0 <= number < len(program.insns):
        line = program.line_at(number)
    for at, text, source in reversed(walk.steps):
        if at == number:
            return Place(number, text, line or source)
    return Place(number, "", line) if line else None


def _involved(said: Sequence[str], refused: Place, walk: _Walk) -> dict[str, str]:
    """Registers that a message names or the last instruction uses, and what is held."""
    known = walk.frames.get(walk.frame, {})
    names = [f"R{n}" for message in said for n in _MENTIONED.findall(message)]
    if "(85) call" in refused.instruction:
        names.append("R1")
    names += [f"R{n}" for n in _USED.findall(refused.instruction)]
    held = {f"#{n}" for n in re.findall(r"\d+", known.get("refs", ""))}
    names += [name for name, state in known.items() if _refers(state, held)]
    names.append("refs")
    involved = {name: known[name] for name in dict.fromkeys(names) if known.get(name)}
    others = {
        f"{name} of frame {frame}": state
        for frame, registers in sorted(walk.frames.items())
        for name, state in registers.items()
        # a call leaves nothing in R0 to R5
        if frame < walk.frame and not re.fullmatch(r"R[0-5]", name) and _refers(state, held)
    }
    return involved | others


def _refers(state: str, held: set[str]) -> bool:
    numbers = re.findall(r"\b(?:ref_obj_|ref_|parent_)?id=(#\d+)", state)
    return not held.isdisjoint(numbers)
