# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
from dataclasses import replace

import pytest

from harness import compare as module
from harness.compare import compare
from harness.errors import UsageError
from harness.logmatch import missing, normalise, useful_lines
from harness.model import Case, Difference, Expectation, Input, Loading, Observation, Verdict

RELEASE = "6.12.107+deb13-amd64"
CASE = Case("throw/depth/x", "x.bpf.o", "x", "tc", "test_run")
RAN = Observation(Verdict.RAN, retvals=(64,))
REJECTED = Observation(
    Verdict.REJECTED, errno=22, message="R1 is not a scalar", log="12: x\nR1 is not a scalar\n"
)
RULE_TEXTS = {rule.text for rule in module.RULES}


def differ(expectation=None, simulated=RAN, observed=RAN, release=RELEASE, **case):
    """Compare and return (path, expected, observed, between) of each difference."""
    changed = replace(CASE, expectation=expectation or Expectation(), **case)
    found = compare(changed, simulated, observed, release)
    assert all(isinstance(item, Difference) and item.rule in RULE_TEXTS for item in found)
    return [(item.path, item.expected, item.observed, item.between) for item in found]


def test_agreement():
    assert differ(Expectation(verdict=Verdict.RAN, retval=64)) == []


def test_simulator_against_kernel():
    found = differ(simulated=Observation(Verdict.RAN, retvals=(65,)))
    assert found == [("retvals[0]", "65", "64", ("simulator", "kernel"))]


def test_each_of_the_three_pairs():
    found = differ(Expectation(retval=66), Observation(Verdict.RAN, retvals=(65,)))
    assert [pair for *_, pair in found] == [
        ("simulator", "kernel"),
        ("declared", "kernel"),
        ("declared", "simulator"),
    ]


def test_retvals_are_unsigned_32_bit():
    minus_one = Observation(Verdict.RAN, retvals=(-1,))
    wide = Observation(Verdict.RAN, retvals=(0x1FFFFFFFF,))
    assert differ(Expectation(retval=-1), minus_one, wide) == []


def test_every_run_counts():
    found = differ(
        simulated=Observation(Verdict.RAN, retvals=(1, 2, 3)),
        observed=Observation(Verdict.RAN, retvals=(1, 9)),
        repeat=3,
    )
    assert [item[:3] for item in found] == [("retvals[1]", "2", "9"), ("retvals[2]", "3", "none")]


def test_unexpected_rejection():
    assert differ(simulated=None, observed=REJECTED) == [
        ("verdict", "ran", "rejected: R1 is not a scalar", ("declared", "kernel"))
    ]


def test_unexpected_acceptance():
    expectation = Expectation(verdict=Verdict.REJECTED, messages=("not a scalar",))
    assert differ(expectation, None) == [("verdict", "rejected", "ran", ("declared", "kernel"))]


@pytest.mark.parametrize(
    ("expectation", "paths"),
    [
        (Expectation(verdict=Verdict.REJECTED), []),
        (Expectation(verdict=Verdict.REJECTED, errno=22, messages=("is not a scalar",)), []),
        (Expectation(messages=("R{{[0-9]}} is not",)), []),
        (Expectation(errno=22), []),
        (Expectation(errno=13), ["errno"]),
        (Expectation(messages=("Unreleased",)), ["messages[0]"]),
    ],
)
def test_rejection(expectation, paths):
    assert [item[0] for item in differ(expectation, None, REJECTED)] == paths


def test_simulator_that_ran_a_refused_program_is_no_difference():
    """It has no verifier."""
    assert differ(Expectation(verdict=Verdict.REJECTED), RAN, REJECTED) == []


def test_simulator_that_fails_where_the_kernel_runs():
    found = differ(Expectation(retval=64), Observation(Verdict.HUNG, message="budget spent"))
    assert found == [("verdict", "hung: budget spent", "ran", ("simulator", "kernel"))]


@pytest.mark.parametrize("verdict", [Verdict.CRASHED, Verdict.HUNG])
def test_death_is_a_failure(verdict):
    found = differ(observed=Observation(verdict, message="Oops"))
    assert found == [("verdict", "ran", f"{verdict}: Oops", ("invariant", "kernel"))]


@pytest.mark.parametrize("verdict", [Verdict.LOST, Verdict.UNSUPPORTED])
def test_no_verdict_no_difference(verdict):
    assert differ(Expectation(retval=1), observed=Observation(verdict)) == []


def test_simulator_without_a_say_leaves_the_declared_value_to_judge():
    silent = Observation(Verdict.UNSUPPORTED, message="helper bpf_x")
    assert differ(Expectation(retval=64), silent) == []
    assert differ(Expectation(retval=65), silent)[0][3] == ("declared", "kernel")


@pytest.mark.parametrize("simulated", [None, Observation(Verdict.UNSUPPORTED)])
def test_nothing_judged(simulated):
    found = differ(simulated=simulated)
    assert [item[2] for item in found] == ["nothing judged this case"]


@pytest.mark.parametrize(("hook", "judged"), [("test_run", False), ("load", True)])
def test_success_alone_judges_nothing_but_a_load(hook, judged):
    found = differ(Expectation(Verdict.RAN), None, hook=hook)
    assert [item[2] for item in found] == ([] if judged else ["nothing judged this case"])


def test_success_is_all_that_a_selftest_of_the_kernel_may_want():
    assert differ(Expectation(Verdict.RAN), None, loading=Loading(alone=True)) == []


def test_global_alone_judges():
    observed = replace(RAN, maps={".bss": {"hits": "01000000"}})
    assert differ(Expectation(globals=(("hits", 1),)), None, observed) == []


@pytest.mark.parametrize(
    ("value", "data", "path"),
    [
        (1, "01", []),
        (-1, "ffffffff", []),
        (0x0201, "0102", []),
        (1 << 40, "0000000000010000", []),
        (2, "01000000", ["globals.hits"]),
    ],
)
def test_global_widths_and_byte_order(value, data, path):
    observed = replace(RAN, maps={".data": {"hits": data}})
    found = differ(Expectation(globals=(("hits", value),)), None, observed)
    assert [item[0] for item in found] == path


def test_absent_global():
    found = differ(Expectation(globals=(("hits", 1),)), None)
    assert found == [("globals.hits", "1", "absent", ("declared", "kernel"))]


def test_maps_and_globals_byte_by_byte():
    simulated = replace(RAN, maps={"hits": {"00": "01", "01": "02"}, ".bss": {"x": "00"}})
    observed = replace(RAN, maps={"hits": {"00": "01", "02": "02"}, ".bss": {"x": "01"}})
    found = differ(simulated=simulated, observed=observed)
    assert [item[:3] for item in found] == [
        ("globals.x", "00", "01"),
        ("maps.hits[01]", "02", "absent"),
        ("maps.hits[02]", "absent", "02"),
    ]


def test_empty_map_is_no_map():
    assert differ(simulated=replace(RAN, maps={"hits": {}})) == []


@pytest.mark.parametrize(
    ("hook", "left", "right", "paths"),
    [
        ("test_run", b"ab", b"ab", []),
        ("test_run", b"ab", b"ac", ["data_out"]),
        ("test_run", b"ab", None, ["data_out"]),
        ("xdp-native", b"ab", None, []),
        ("xdp-native", b"ab", b"ac", ["data_out"]),
    ],
)
def test_data_out(hook, left, right, paths):
    found = differ(
        simulated=Observation(Verdict.RAN, data_out=left),
        observed=Observation(Verdict.RAN, data_out=right),
        hook=hook,
        input=Input(packet=b"ab"),
    )
    assert [item[0] for item in found] == paths


@pytest.mark.parametrize(
    ("action", "paths"),
    [("pass", ["data_out"]), ("tx", ["data_out"]), ("redirect", ["data_out"]), ("drop", [])],
)
def test_a_frame_that_arrived_must_have_been_kept(action, paths):
    found = differ(
        simulated=Observation(Verdict.RAN, wire=("drop", action), data_out=b"ab"),
        observed=Observation(Verdict.RAN, wire=("drop", action)),
        hook="xdp-native",
        input=Input(packet=b"ab"),
    )
    assert [item[0] for item in found] == paths


def test_wire_against_the_simulator():
    found = differ(
        simulated=Observation(Verdict.RAN, retvals=(2, 1), wire=("pass", "drop")),
        observed=Observation(Verdict.RAN, wire=("pass", "pass")),
        hook="xdp-native",
    )
    assert found == [("wire[1]", "drop", "pass", ("simulator", "kernel"))]


@pytest.mark.parametrize(
    ("hook", "value", "seen"),
    [("xdp-generic", 64, "aborted"), ("tc-ingress", 64, "pass"), ("tcx-egress", 2, "drop"),
     ("xdp-native", -1, "aborted"), ("tc-egress", 8, "drop"), ("tcx-ingress", 8, "pass")],
)  # fmt: skip
def test_simulated_value_is_read_as_the_hook_reads_it(hook, value, seen):
    simulated = Observation(Verdict.RAN, retvals=(value,))
    assert differ(None, simulated, Observation(Verdict.RAN, wire=(seen,)), hook=hook) == []
    other = "drop" if seen != "drop" else "pass"
    assert differ(None, simulated, Observation(Verdict.RAN, wire=(other,)), hook=hook)


@pytest.mark.parametrize(
    ("retval", "seen", "expected"),
    [(1, "drop", None), (1, "pass", "drop"), (4, "redirect", None), (4, "drop", None),
     (4, "pass", "drop or redirect"), (99, "aborted", None), (99, "drop", "aborted")],
)  # fmt: skip
def test_declared_value_on_the_wire(retval, seen, expected):
    found = differ(
        Expectation(retval=retval), None, Observation(Verdict.RAN, wire=(seen,)), hook="xdp-native"
    )
    assert [item[1] for item in found] == ([] if expected is None else [expected])


def test_declared_value_with_nothing_on_the_wire():
    found = differ(Expectation(retval=1), None, Observation(Verdict.RAN), hook="xdp-native")
    assert found == [("wire[0]", "drop", "none", ("declared", "kernel"))]


@pytest.mark.parametrize("verdict", [Verdict.RAN, Verdict.UNSUPPORTED, Verdict.CRASHED])
def test_splats_fail_whatever_the_verdict(verdict):
    found = differ(observed=Observation(verdict, retvals=(64,), splats=("WARNING: x",)))
    assert ("splats[0]", "none", "WARNING: x", ("kernel log", "kernel")) in found


def test_on_load_only_the_verdict_counts():
    simulated = Observation(Verdict.RAN, maps={"hits": {"00": "00"}})
    assert differ(None, simulated, Observation(Verdict.RAN), hook="load") == []
    assert differ(None, None, REJECTED, hook="load")
    refused = Observation(Verdict.REJECTED, message="not allowed")
    assert differ(None, refused, Observation(Verdict.RAN), hook="load")


def test_leaks():
    found = differ(observed=replace(RAN, leaks=("prog 17 'main'",)))
    assert found == [("leaks[0]", "none", "prog 17 'main'", ("invariant", "kernel"))]


def test_never_compared():
    """Log texts, durations and provenance differ on every run."""
    other = replace(RAN, log="x", kernel_log="y", trace="z", duration_s=1.0, message="m")
    assert differ(simulated=other) == []


SERIES = (("7.3", Expectation(verdict=Verdict.REJECTED, messages=("lock",))),)


@pytest.mark.parametrize(
    ("release", "observed", "agree"),
    [
        (RELEASE, RAN, True),
        ("7.3.4-amd64", RAN, False),
        ("7.3.4-amd64", Observation(Verdict.REJECTED, log="lock held"), True),
        ("7.3.4-amd64", Observation(Verdict.REJECTED, log="other"), False),
    ],
)
def test_series_overrides(release, observed, agree):
    found = differ(
        Expectation(verdict=Verdict.RAN, retval=64),
        RAN,
        observed,
        release=release,
        per_series=SERIES,
    )
    assert (found == []) is agree


def test_series_keeps_what_it_does_not_name():
    case = replace(
        CASE,
        expectation=Expectation(retval=64, globals=(("x", 1),)),
        per_series=(("6.12", Expectation(retval=65)),),
    )
    expected = module.expectation_for(case, RELEASE)
    assert (expected.retval, expected.globals) == (65, (("x", 1),))


LOG = """\
12: (85) call bpf_throw#73439
R1=scalar(id=7) is not allowed
processed 12 insns (limit 1000000) max_states_per_insn 0 total_states 1
"""


@pytest.mark.parametrize(
    ("patterns", "absent"),
    [
        ((), ()),
        (("call bpf_throw#73439", "id=7"), ()),
        (("call bpf_throw#11", "scalar(id=3)"), ()),
        (("99: (85) call",), ()),
        (("processed {{[0-9]+}} insns",), ()),
        (("id={{[1-9]}}",), ()),
        (("is not allowed", "call bpf_throw"), (1,)),
        (("call bpf_throw", "call bpf_throw"), (1,)),
        (("R1=scalar(", "nothing", "processed"), (1,)),
        (("call{{.*}}allowed",), (0,)),
    ],
)
def test_patterns(patterns, absent):
    assert missing(patterns, LOG) == absent


def test_parentheses_are_text():
    assert missing(("(85)",), "x 85 x") == (0,)


def test_broken_pattern_says_so():
    with pytest.raises(UsageError, match="regular expression"):
        missing(("{{[}}",), LOG)


def test_normalise_makes_two_kernels_equal():
    other = LOG.replace("12:", "15:").replace("#73439", "#5").replace("id=7", "id=9")
    assert normalise(LOG) == normalise(other)


def test_useful_lines():
    assert useful_lines(LOG) == LOG.splitlines()[:2]
    assert useful_lines("\n".join(map(str, range(20))), limit=2) == [
        "(18 lines omitted, all of them in the JSON)",
        "18",
        "19",
    ]
