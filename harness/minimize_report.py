# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What came of shrinking a program: as text, as JSON, as comments in front of the small one.

Owns the layout. What the search did is harness.minimize's business.
"""

import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from harness.minimize import Moment, Search
from harness.minimize_draft import Draft
from harness.repro_report import Answer

SCHEMA = 1
_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Witness:
    """One kernel, or the model of a series, and what it says of the small program."""

    # as it was asked for; "model of 7.3"
    name: str
    release: str
    # "accepted" or "rejected"
    verdict: str
    # name of the rule, or ""
    rule: str
    words: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """The whole story of one search."""

    file: str
    program: str
    section: str
    before: Draft
    after: Draft
    witnesses: tuple[Witness, ...]
    history: tuple[Moment, ...]
    tries: int
    # loads on kernels, and questions to the model
    loads: int
    predictions: int
    seconds: float
    # "" where the search ended by itself, else why it did not
    ended: str
    # what the reader has to know beside
    notes: tuple[str, ...] = ()
    # whether Ctrl-C ended it
    interrupted: bool = False


def witness(answer: Answer) -> Witness:
    """What one kernel says."""
    found = answer.evidence
    words = found.messages[-1] if found and found.messages else ""
    verdict = "accepted" if answer.taken else str(answer.seen.verdict)
    return Witness(answer.kernel, answer.seen.provenance.kernel, verdict, answer.rule, words)


def sizes(outcome: Outcome) -> str:
    """In words: `38 to 9 instructions, 2 to 1 functions`."""
    before, after = outcome.before, outcome.after
    return (
        f"{before.size} to {after.size} instructions, "
        f"{len(before.bodies)} to {len(after.bodies)} functions"
    )


def comments(outcome: Outcome) -> list[str]:
    """What stands in front of the small program."""
    found = [f"{outcome.file}, program {outcome.program}: {sizes(outcome)}"]
    return found + [f"{_named(w)}: {_said(w)}" for w in outcome.witnesses]


def _named(found: Witness) -> str:
    return f"{found.name} ({found.release})" if found.release else found.name


def _said(found: Witness) -> str:
    rule = f"{found.rule}: " if found.rule else ""
    return f"{found.verdict}{f', {rule}{found.words}' if found.words else ''}"


def text(outcome: Outcome, written: str) -> str:
    """The summary."""
    lines = [f"{outcome.program} ({outcome.section}): {sizes(outcome)}"]
    lines += [f"  {_named(w)}: {_said(w)}" for w in outcome.witnesses]
    asked = [f"{outcome.loads} loads" if outcome.loads else "no kernel was asked"]
    asked += [f"{outcome.predictions} predictions of the verifier model"]
    lines.append(f"  {outcome.tries} tries in {outcome.seconds:.0f} s: {', '.join(asked)}")
    lines += [f"  note: {note}" for note in (outcome.ended, *outcome.notes) if note]
    if written:
        kernels = [f"--kernel {w.name}" for w in outcome.witnesses if w.release]
        again = " ".join(["bpfthrow repro", written, *kernels])
        lines += [f"  written to {written}; again:", f"    {again}"]
    return "\n".join(lines)


def document(outcome: Outcome, source: str) -> dict[str, Any]:
    """Plain JSON types; docs/repro.md describes them."""
    return {
        "schema": SCHEMA,
        "file": outcome.file,
        "program": outcome.program,
        "section": outcome.section,
        "before": _size(outcome.before),
        "after": _size(outcome.after),
        "kept": [asdict(each) for each in outcome.witnesses],
        "history": [asdict(moment) for moment in outcome.history],
        "tries": outcome.tries,
        "loads": outcome.loads,
        "predictions": outcome.predictions,
        "seconds": round(outcome.seconds, 1),
        "complete": not outcome.ended,
        "interrupted": outcome.interrupted,
        "notes": [note for note in (outcome.ended, *outcome.notes) if note],
        "assembler": source,
    }


def _size(draft: Draft) -> dict[str, int]:
    return {"instructions": draft.size, "functions": len(draft.bodies)}


class Progress:
    """Where the search is, on standard error: a line that changes, or one now and then."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._live = out.isatty()
        self._last = self._began = time.monotonic()

    def __call__(self, search: Search) -> None:
        """Say how far it is."""
        now = time.monotonic()
        if now - self._last < (0.2 if self._live else _EVERY_S):
            return
        self._last = now
        found = search.best
        line = (
            f"# {found.size} instructions, {len(found.bodies)} functions; {search.tries} tries, "
            f"{search.asked} of them answered by kernels; {now - self._began:.0f} s"
        )
        print(f"\r\x1b[K{line}" if self._live else line, end="" if self._live else "\n",
              file=self._out, flush=True)  # fmt: skip

    def end(self) -> None:
        """Take the line away."""
        if self._live:
            print("\r\x1b[K", end="", file=self._out, flush=True)
