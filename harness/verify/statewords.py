# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Claims about registers in a verifier's log, held against the model's states.

The kernel's selftests say what their logs of level 2 show: "R0=scalar(smax=5)", a register or
several, whole or cut off. Owns which words of a claim are of that kind and whether a path of the
model has such registers. How registers are printed is harness.verify.kernel_log's.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from harness.verify import kernel_log, knowledge
from harness.verify.kernel_log import Known, State

_EXPRESSION = re.compile(r"\{\{.*?\}\}")
# "R{{.}}=": any register; nothing else may be left open
_ANY = "R99"
_ANY_REGISTER = re.compile(r"\bR\{\{.*?\}\}(?=(?:_[a-zA-Z]+)?=)")
# of states that are looked at again, and of frames that may be a caller's
_ELSEWHERE = re.compile(r"mark_precise|\bframe\d")
# bounds of a number as they are printed
_BOUNDS = {"umin", "umax", "smin", "smax", "umin32", "umax32", "smin32", "smax32"}


def is_claim(pattern: str) -> bool:
    """Whether the words of a claim are about registers, as far as they can be read."""
    return bool(_claimed(pattern))


def unseen(patterns: Iterable[str], steps: Sequence[tuple[int, int, Any]]) -> tuple[str, ...]:
    """Claims about registers that no state of the model fulfils, in order; () where all do.

    `steps`: of harness.verify.explore, kept while it explored.
    """
    states = [knowledge.state_of(registers) for _, _, registers in steps]
    at, missed = 0, []
    for pattern in patterns:
        claimed = _claimed(pattern)
        if not claimed:
            continue
        places = range(at, len(states))
        here = next((i for i in places if _fits(claimed, states[i])), None)
        if here is None:
            missed.append(pattern)
        else:
            at = here
    return tuple(missed)


def _claimed(pattern: str) -> dict[str, tuple[Known, frozenset[str] | None]]:
    """Register -> what is claimed of it, and the bounds that count; None: all of them do."""
    text = _ANY_REGISTER.sub(_ANY, pattern)
    cut = text.count("(") > text.count(")")
    if _EXPRESSION.search(text) or _ELSEWHERE.search(text):
        return {}
    items = kernel_log.items(text + ")" if cut else text)
    if any(not name.startswith("R") for name in items):
        return {}  # a slot of the stack
    last = next(reversed(items), "")
    return {
        name: (known, _named(text) if cut and name == last else None)
        for name, known in items.items()
    }


def _named(text: str) -> frozenset[str]:
    inside = text.rpartition("(")[2]
    return frozenset(_names(inside))


def _names(inside: str) -> Iterable[str]:
    for part in inside.split(","):
        *names, _ = part.strip().split("=")
        yield from (name for name in names if name in _BOUNDS)


def _fits(claimed: dict[str, tuple[Known, frozenset[str] | None]], state: State) -> bool:
    return all(
        any(_same(each, known, only) for each in _candidates(state, name))
        for name, (known, only) in claimed.items()
    )


def _candidates(state: State, name: str) -> list[Known]:
    if name == _ANY:
        return list(state.values())
    return [state[name]] if name in state else []


def _same(model: Known, claimed: Known, only: frozenset[str] | None) -> bool:
    wrong = knowledge.differences(model, claimed)
    return not (wrong if only is None else set(wrong) & (only | {"kind"}))
