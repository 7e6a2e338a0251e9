# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which changes between two kernels are found, and what each counts as."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness import regress
from harness.model import Observation, Verdict
from harness.regress_model import Effect, Entry, Kind, Policy, Side

DATA = Path(__file__).parent.parent / "data" / "load-log"
RAN = Observation(Verdict.RAN, retvals=(64,), duration_s=0.2)
REFUSED = Observation(Verdict.REJECTED, errno=22, message="R1 is not a scalar")
CRASHED = Observation(Verdict.CRASHED, message="Oops")
HUNG = Observation(Verdict.HUNG)
ABSENT = Observation(Verdict.UNSUPPORTED, message="throw: no kfunc")
LOST = Observation(Verdict.LOST, message="QEMU ended\nlast words")
SPLAT = "WARNING: CPU: 0 PID: 99 at kernel/bpf/states.c:207 maybe_exit_scc+0x12/0x80"


def entry(observed, difference="", *, name="throw/a", hook="test_run", flaky=False):
    """A case that agrees where there is no difference and a verdict was reached."""
    agree = not difference and observed.verdict in (Verdict.RAN, Verdict.REJECTED)
    return Entry(name, hook, "build/a.bpf.o", observed, agree, difference, flaky)


def side(name, *entries):
    return Side(name, "", {each.key: each for each in entries})


def compared(base, patched, policy=None):
    """The one case, compared."""
    base, patched = (e if isinstance(e, Entry) else entry(e) for e in (base, patched))
    found = regress.compare(side("old", base), side("new", patched), policy)
    (only,) = found.compared
    return only


def found(base, patched, policy=None):
    return [(c.kind, c.effect) for c in compared(base, patched, policy).changes]


def test_nothing_changed():
    only = compared(RAN, replace(RAN, duration_s=0.3))
    assert only.changes == ()
    assert only.effect is None


WRONG = entry(replace(RAN, retvals=(0,)), "retvals[0]: simulator 64, kernel 0")


@pytest.mark.parametrize(
    ("base", "patched", "kind", "effect"),
    [
        # who is right is for the oracles to say
        (entry(RAN), WRONG, Kind.VALUE, Effect.REGRESSION),
        (WRONG, entry(RAN), Kind.VALUE, Effect.IMPROVEMENT),
        (entry(RAN), entry(replace(RAN, retvals=(0,))), Kind.VALUE, Effect.CHANGE),
        (WRONG, entry(replace(RAN, retvals=(1,)), "also wrong"), Kind.VALUE, Effect.CHANGE),
        (replace(WRONG, flaky=True), entry(RAN), Kind.VALUE, Effect.CHANGE),
        (entry(RAN), replace(WRONG, flaky=True), Kind.VALUE, Effect.REGRESSION),
        # refused
        (entry(RAN), entry(REFUSED, "verdict"), Kind.VERDICT, Effect.REGRESSION),
        (entry(REFUSED, "verdict"), entry(RAN), Kind.VERDICT, Effect.IMPROVEMENT),
        (entry(RAN), entry(REFUSED), Kind.VERDICT, Effect.CHANGE),
        # a crash is one whatever was expected
        (entry(RAN, "x"), entry(CRASHED, "x"), Kind.VERDICT, Effect.REGRESSION),
        (entry(REFUSED), entry(HUNG, "x"), Kind.VERDICT, Effect.REGRESSION),
        (entry(CRASHED, "x"), entry(RAN, "x"), Kind.VERDICT, Effect.IMPROVEMENT),
        (entry(CRASHED, "x"), entry(HUNG, "x"), Kind.VERDICT, Effect.CHANGE),
        # what could be run and cannot any more
        (entry(RAN), entry(ABSENT), Kind.VERDICT, Effect.REGRESSION),
        (entry(ABSENT), entry(RAN), Kind.VERDICT, Effect.IMPROVEMENT),
        # refused otherwise
        (entry(REFUSED), entry(replace(REFUSED, errno=13), "errno"), Kind.ERRNO, Effect.REGRESSION),
        (entry(REFUSED), entry(replace(REFUSED, message="other words")), Kind.MESSAGE,
         Effect.CHANGE),
        # the wire
        (entry(replace(RAN, retvals=(), wire=("drop",)), hook="tc-ingress"),
         entry(replace(RAN, retvals=(), wire=("pass",)), "wire", hook="tc-ingress"),
         Kind.VALUE, Effect.REGRESSION),
        # memory
        (entry(replace(RAN, maps={"hits": {"00": "01"}})),
         entry(replace(RAN, maps={"hits": {"00": "02"}}), "maps"), Kind.MEMORY, Effect.REGRESSION),
        (entry(replace(RAN, data_out=b"\1")), entry(replace(RAN, data_out=b"\2")), Kind.MEMORY,
         Effect.CHANGE),
        # the same was seen, and it is right on one of them only
        (entry(RAN), entry(RAN, "retvals[0]: simulator 1, kernel 64"), Kind.JUDGEMENT,
         Effect.REGRESSION),
        # the kernel log
        (entry(RAN), entry(replace(RAN, splats=(SPLAT,)), "splat"), Kind.SPLAT, Effect.REGRESSION),
        (entry(replace(RAN, splats=(SPLAT,)), "splat"), entry(RAN), Kind.SPLAT, Effect.IMPROVEMENT),
        (entry(RAN), entry(replace(RAN, leaks=("map 3 'a'",)), "leak"), Kind.LEAK,
         Effect.REGRESSION),
        # time
        (entry(RAN), entry(replace(RAN, duration_s=9.0)), Kind.DURATION, Effect.WARNING),
    ],
)  # fmt: skip
def test_policy(base, patched, kind, effect):
    assert found(base, patched) == [(kind, effect)]


@pytest.mark.parametrize(
    ("base", "patched"),
    [
        # the same report at another address, of another process
        (replace(RAN, splats=(SPLAT,)), replace(RAN, splats=(SPLAT.replace("99", "412"),))),
        (replace(RAN, leaks=("prog 17 'a'",)), replace(RAN, leaks=("prog 23 'a'",))),
        # the same refusal, with other BTF ids
        (replace(REFUSED, log="R1 is bad\nbpf_throw#59519 fails\n"),
         replace(REFUSED, log="R1 is bad\nbpf_throw#63305 fails\n")),
        # slow machines
        (RAN, replace(RAN, duration_s=1.9)),
        (replace(RAN, duration_s=5.0), replace(RAN, duration_s=14.0)),
    ],
)  # fmt: skip
def test_noise_is_no_change(base, patched):
    assert found(base, patched) == []


def test_explanations_and_other_wording_of_real_logs():
    old, new = ((DATA / f"{k}-iterator-live.txt").read_text() for k in ("6.18", "7.3"))
    only = compared(replace(REFUSED, log=old), replace(REFUSED, log=new))
    (change,) = only.changes
    assert (change.kind, change.effect) == (Kind.MESSAGE, Effect.CHANGE)
    assert change.base.endswith("BPF_EXIT instruction in main prog would lead to reference leak")
    assert change.patched.endswith("bpf_throw would lead to reference leak")
    assert "Suggestion" not in change.patched


def counting(instructions, states=5):
    log = (
        f"verification time {instructions} usec\nstack depth max 8\nprocessed {instructions} insns"
        f" (limit 1000000) max_states_per_insn 1 total_states {states} peak_states {states}\n"
    )
    return replace(RAN, log=log)


@pytest.mark.parametrize(
    ("base", "patched", "effects"),
    [
        (100, 100, []),
        (100, 109, []),  # below the share
        (10, 18, []),  # a great share of little
        (100, 120, [(Kind.STATISTICS, Effect.WARNING)]),
        (120, 100, [(Kind.STATISTICS, Effect.IMPROVEMENT)]),
    ],
)
def test_statistics(base, patched, effects):
    assert found(counting(base), counting(patched)) == effects


def test_statistics_of_a_program_are_compared_once():
    inputs = [("t/a:one", "test_run"), ("t/a:two", "test_run"), ("t/a:one", "tc-ingress")]
    old = side("old", *(entry(counting(100), name=n, hook=h) for n, h in inputs))
    new = side("new", *(entry(counting(200), name=n, hook=h) for n, h in inputs))
    result = regress.compare(old, new)
    assert len(result.compared) == 3
    assert sum(each.statistics is not None for each in result.compared) == 1
    assert len(result.having(Effect.WARNING)) == 1


def test_thresholds_and_fail_on():
    lenient = Policy(statistics_percent=150)
    assert found(counting(100), counting(200), lenient) == []
    strict = Policy(frozenset({Kind.STATISTICS}))
    assert found(counting(100), counting(200), strict) == [(Kind.STATISTICS, Effect.REGRESSION)]
    # an improvement stays one
    assert found(counting(200), counting(100), strict) == [(Kind.STATISTICS, Effect.IMPROVEMENT)]
    other = replace(REFUSED, message="other words")
    wording = Policy(frozenset({Kind.MESSAGE}))
    assert found(REFUSED, other, wording) == [(Kind.MESSAGE, Effect.REGRESSION)]
    slow = Policy(duration_factor=100.0)
    assert found(RAN, replace(RAN, duration_s=9.0), slow) == []


def test_the_worst_change_is_the_cases():
    only = compared(
        entry(RAN), entry(replace(RAN, retvals=(1,), splats=(SPLAT,), duration_s=9.0), "x")
    )
    assert [c.kind for c in only.changes] == [Kind.VALUE, Kind.SPLAT, Kind.DURATION]
    assert only.effect is Effect.REGRESSION


def test_values_that_look_alike_when_cut_short_are_shown_whole():
    base = replace(RAN, retvals=(1, 2, 3, 4))
    (change,) = compared(base, replace(base, retvals=(1, 2, 3, 5))).changes
    assert (change.base, change.patched) == ("[1, 2, 3, 4]", "[1, 2, 3, 5]")


def test_reasons():
    (change,) = compared(entry(RAN), WRONG).changes
    assert change.why == "agreed before; now retvals[0]: simulator 64, kernel 0"
    (change,) = compared(entry(RAN), replace(WRONG, flaky=True)).changes
    assert change.why.endswith("(agreed when tried again)")
    (change,) = compared(RAN, CRASHED).changes
    assert "survived" in change.why
    (change,) = compared(RAN, REFUSED).changes
    assert change.patched == "rejected: R1 is not a scalar"


def test_what_has_no_answer_is_left_out_and_named():
    old = side("old", entry(RAN), entry(RAN, name="throw/b"), entry(RAN, name="throw/c"))
    new = side("new", entry(LOST), entry(RAN, name="throw/b"), entry(RAN, name="throw/d"))
    result = regress.compare(old, new)
    assert [each.base.id for each in result.compared] == ["throw/b"]
    assert sorted(result.left_out) == [
        ("throw/a", "test_run", "lost on new: QEMU ended"),
        ("throw/c", "test_run", "not among the cases of new"),
        ("throw/d", "test_run", "not among the cases of old"),
    ]


@pytest.mark.parametrize(
    ("patched", "code"),
    [(entry(RAN), 0), (WRONG, 1), (entry(LOST), 128), (entry(ABSENT), 1)],
)
def test_exit_code(patched, code):
    result = regress.compare(side("old", entry(RAN)), side("new", patched))
    assert regress.exit_code(result) == code


def test_a_regression_beats_a_lost_machine():
    old = side("old", entry(RAN), entry(RAN, name="throw/b"))
    new = side("new", WRONG, entry(LOST, name="throw/b"))
    assert regress.exit_code(regress.compare(old, new)) == 1
