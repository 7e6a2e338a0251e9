# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two runs of the same cases on two kernels: what changed, and which changes are regressions.

Owns the table of what is looked at and the policy. Runs nothing, reads no files and prints
nothing. compare.py is another thing: it holds one run against what should have happened.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from harness import normalize
from harness.loadstats import Statistics, statistics
from harness.model import Observation, Verdict
from harness.regress_model import Change, Compared, Comparison, Effect, Entry, Kind, Policy, Side
from harness.report.outcome import first_line, value

# smaller changes than this are not worth a word, whatever their share
_STATISTICS_AT_LEAST = 10
_DURATION_AT_LEAST_S = 2.0

_FATAL = (Verdict.CRASHED, Verdict.HUNG)
_REACHED = (Verdict.RAN, Verdict.REJECTED)

# what, base, patched, and the effect where the kind decides it; None: the judgements decide
Item = tuple[str, str, str, "Effect | None", str]


@dataclass(frozen=True, slots=True)
class _Pair:
    base: Entry
    patched: Entry
    policy: Policy
    counts: tuple[Statistics, Statistics] | None

    @property
    def both(self) -> tuple[Observation, Observation]:
        return self.base.observed, self.patched.observed

    def verdicts(self, *wanted: Verdict) -> bool:
        return all(seen.verdict in wanted for seen in self.both)


def compare(base: Side, patched: Side, policy: Policy | None = None) -> Comparison:
    """Hold every case that both sides have against each other."""
    policy = policy or Policy()
    left_out = [*_only(base, patched), *_only(patched, base)]
    compared: list[Compared] = []
    counted: set[str] = set()
    for key, entry in base.entries.items():
        other = patched.entries.get(key)
        if other is None:
            continue
        lost = _without_an_answer(base, entry) or _without_an_answer(patched, other)
        if lost:
            left_out.append((*key, lost))
            continue
        program = key[0].partition(":")[0]  # its inputs do not change what the verifier counts
        counts = None if program in counted else _counts(entry, other)
        counted |= {program} if counts else set()
        pair = _Pair(entry, other, policy, counts)
        compared.append(Compared(entry, other, tuple(_changes(pair)), counts))
    return Comparison(base, patched, tuple(compared), tuple(left_out))


def _only(one: Side, other: Side) -> Iterator[tuple[str, str, str]]:
    for key in one.entries:
        if key not in other.entries:
            yield (*key, f"not among the cases of {other.name}")


def _without_an_answer(side: Side, entry: Entry) -> str:
    if entry.observed.verdict is not Verdict.LOST:
        return ""
    return f"lost on {side.name}: {entry.observed.message}".split("\n", 1)[0]


def _counts(base: Entry, patched: Entry) -> tuple[Statistics, Statistics] | None:
    if base.observed.verdict is not patched.observed.verdict:
        return None  # one of them ended early
    one, other = statistics(base.observed.log), statistics(patched.observed.log)
    return (one, other) if one and other else None


def _changes(pair: _Pair) -> Iterator[Change]:
    found = [
        Change(kind, effect or _judged(pair), what, base, patched, why or _reason(pair))
        for kind, items in _LOOKED_AT
        for what, base, patched, effect, why in items(pair)
        if base != patched
    ]
    if not any(change.kind in _BEHAVIOUR for change in found):
        found += _judgement(pair)
    yield from (_by_policy(change, pair.policy) for change in found)


def _by_policy(change: Change, policy: Policy) -> Change:
    if change.effect is Effect.IMPROVEMENT or change.kind not in policy.fail_on:
        return change
    return replace(change, effect=Effect.REGRESSION)


def _judged(pair: _Pair) -> Effect:
    """What a change of behaviour means: whether it is right is for the oracles to say."""
    if pair.base.agree and not pair.patched.agree:
        return Effect.REGRESSION
    if pair.patched.agree and not pair.base.agree and not pair.base.flaky:
        return Effect.IMPROVEMENT
    return Effect.CHANGE


def _reason(pair: _Pair) -> str:
    base, patched = pair.base, pair.patched
    if base.agree and patched.agree:
        return "as expected on each of the two"
    if patched.agree:
        return f"was wrong before: {base.difference}" if base.difference else "agrees now"
    again = " (agreed when tried again)" if patched.flaky else ""
    if base.agree:
        return f"agreed before; now {patched.difference or 'has no verdict'}{again}"
    return f"right on neither: {patched.difference or 'no verdict'}{again}"


def _verdict(pair: _Pair) -> Iterator[Item]:
    base, patched = pair.both
    effect, why = None, ""
    if patched.verdict in _FATAL and base.verdict not in _FATAL:
        effect, why = Effect.REGRESSION, "the kernel survived this case before"
    elif base.verdict in _FATAL and patched.verdict in _REACHED:
        effect, why = Effect.IMPROVEMENT, "the kernel survives this case now"
    elif base.verdict in _REACHED and patched.verdict is Verdict.UNSUPPORTED:
        effect, why = Effect.REGRESSION, f"could be run before; now: {patched.message}"
    if base.verdict is not patched.verdict:
        yield "verdict", _described(base), _described(patched), effect, why


def _described(seen: Observation) -> str:
    words = first_line(seen.message)
    return f"{seen.verdict}: {words}" if words else str(seen.verdict)


def _value(pair: _Pair) -> Iterator[Item]:
    if pair.verdicts(Verdict.RAN):
        base, patched = pair.both
        same = (base.retvals, base.wire) == (patched.retvals, patched.wire)
        one, other = value(base, pair.base.hook), value(patched, pair.patched.hook)
        if not same and one == other:  # cut short where they are alike
            one, other = (str(list(seen.wire or seen.retvals)) for seen in pair.both)
        if not same:
            yield "wire" if base.wire or patched.wire else "return value", one, other, None, ""


def _memory(pair: _Pair) -> Iterator[Item]:
    if not pair.verdicts(Verdict.RAN):
        return
    base, patched = pair.both
    if base.wire == patched.wire:  # else a frame goes another way, or nowhere
        one, other = (seen.data_out and seen.data_out.hex() for seen in pair.both)
        yield "frame", one or "none", other or "none", None, ""
    for name in sorted(set(base.maps) | set(patched.maps)):
        left, right = base.maps.get(name, {}), patched.maps.get(name, {})
        for key in sorted(set(left) | set(right)):
            what = f"globals.{key}" if name.startswith(".") else f"maps.{name}[{key}]"
            yield what, left.get(key, "absent"), right.get(key, "absent"), None, ""


def _errno(pair: _Pair) -> Iterator[Item]:
    if pair.verdicts(Verdict.REJECTED):
        base, patched = pair.both
        yield "errno", str(base.errno), str(patched.errno), None, ""


def _message(pair: _Pair) -> Iterator[Item]:
    if pair.verdicts(Verdict.REJECTED):
        one, other = (
            "\n".join(normalize.messages(seen.log)) or normalize.message(seen.message)
            for seen in pair.both
        )
        yield "message", one, other, None, ""


def _splats(pair: _Pair) -> Iterator[Item]:
    yield from _come_and_gone("splat", normalize.splat, *(seen.splats for seen in pair.both))


def _leaks(pair: _Pair) -> Iterator[Item]:
    yield from _come_and_gone("leak", normalize.leak, *(seen.leaks for seen in pair.both))


def _come_and_gone(
    what: str, clean: Callable[[str], str], base: tuple[str, ...], patched: tuple[str, ...]
) -> Iterator[Item]:
    before, after = ({clean(text): text for text in texts} for texts in (base, patched))
    for key in sorted(after.keys() - before.keys()):
        yield what, "none", after[key], Effect.REGRESSION, "not seen on the base"
    for key in sorted(before.keys() - after.keys()):
        yield what, before[key], "none", Effect.IMPROVEMENT, "not seen any more"


def _statistics(pair: _Pair) -> Iterator[Item]:
    if pair.counts is None:
        return
    base, patched = (counts.counts() for counts in pair.counts)
    for name in sorted(set(base) & set(patched) - {"time_us"}):
        one, other = base[name], patched[name]
        effect = _grown(one, other, pair.policy.statistics_percent)
        if effect is not None:
            yield name, str(one), str(other), effect, _percent(one, other)


def _grown(base: int, patched: int, percent: float) -> Effect | None:
    if abs(patched - base) < _STATISTICS_AT_LEAST:
        return None
    factor = 1 + percent / 100
    if patched > base * factor:
        return Effect.WARNING
    return Effect.IMPROVEMENT if base > patched * factor else None


def _percent(base: int, patched: int) -> str:
    return f"{100 * (patched - base) / base:+.1f} %" if base else "none before"


def _duration(pair: _Pair) -> Iterator[Item]:
    base, patched = (seen.duration_s for seen in pair.both)
    slower = patched - base >= _DURATION_AT_LEAST_S
    if slower and patched >= base * pair.policy.duration_factor and pair.verdicts(*_REACHED):
        why = f"{patched / base:.1f} times as long" if base else "took no time before"
        yield "duration", f"{base:.2f} s", f"{patched:.2f} s", Effect.WARNING, why


def _judgement(pair: _Pair) -> Iterator[Change]:
    if pair.base.agree != pair.patched.agree and pair.verdicts(*_REACHED):
        one, other = (
            "agrees" if entry.agree else entry.difference for entry in (pair.base, pair.patched)
        )
        yield Change(Kind.JUDGEMENT, _judged(pair), "judgement", one, other, _reason(pair))


_LOOKED_AT: tuple[tuple[Kind, Callable[[_Pair], Iterator[Item]]], ...] = (
    (Kind.VERDICT, _verdict),
    (Kind.VALUE, _value),
    (Kind.MEMORY, _memory),
    (Kind.ERRNO, _errno),
    (Kind.MESSAGE, _message),
    (Kind.SPLAT, _splats),
    (Kind.LEAK, _leaks),
    (Kind.STATISTICS, _statistics),
    (Kind.DURATION, _duration),
)
# kinds whose changes say why a judgement changed
_BEHAVIOUR = frozenset(Kind) - {Kind.STATISTICS, Kind.DURATION}


def exit_code(comparison: Comparison) -> int:
    """0, 1 where there is a regression, 128 where a lost machine hides whether there is one."""
    if comparison.having(Effect.REGRESSION):
        return 1
    return 128 if comparison.lost else 0
