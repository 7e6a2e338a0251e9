# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from fake_target import FakeTarget, case, lose, opener, ran

import harness.run
from harness.errors import MachineLostError, UsageError, WorldError
from harness.model import Observation, Verdict

CASES = [
    case("throw/depth/one"),
    case("throw/depth/two"),
    case("throw/cb/three", hook="xdp-native"),
]
KERNEL_TEST = """
    def test_case(bpf_result):
        assert bpf_result.agree
"""


@pytest.fixture
def session(pytester, monkeypatch):
    """Run pytest inside pytest on fake targets: session(targets, *arguments)."""
    # quick, and the same whether or not bpfthrow is installed
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # pytest cuts its summary to the terminal's width
    monkeypatch.setenv("COLUMNS", "200")
    cases = list(CASES)
    monkeypatch.setattr("harness.suite.collect", lambda _=(): cases)
    monkeypatch.setattr(harness.run, "simulate", lambda *_: ran(64, wire=("aborted",)))
    monkeypatch.setattr(harness.run, "traced", lambda *_: "throw 64\ncallback")
    pytester.makepyfile(test_kernel=KERNEL_TEST)
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider\n")

    def run(targets, *arguments):
        monkeypatch.setattr("harness.target.base.open_target", opener(targets))
        return pytester.runpytest_inprocess("-p", "harness.plugin", "-ra", *arguments)

    run.cases = cases
    return run


def fake(name="vm-6.12", **changes):
    answers = {each.id: ran(64) for each in CASES}
    answers["throw/cb/three"] = Observation(Verdict.RAN, wire=("aborted",))
    fields = {key: changes.pop(key) for key in ("left_behind", "expects_throw") if key in changes}
    answers |= {each.id: changes[each.program] for each in CASES if each.program in changes}
    return FakeTarget(name, answers, **fields)


def test_without_a_kernel_nothing_runs_and_everyone_sees_it(session, monkeypatch):
    monkeypatch.setattr("harness.suite.collect", lambda _=(): pytest.fail("compiled for nothing"))
    result = session({})
    result.assert_outcomes(deselected=1)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        ["bpfthrow: no kernel asked for*", "*kernel tests deselected (1)*give --kernel 6.12"]
    )


def test_nothing_boots_for_other_tests(session, pytester, monkeypatch):
    monkeypatch.setattr("harness.suite.collect", lambda _=(): pytest.fail("compiled for nothing"))
    other = pytester.makepyfile(test_other="def test_one(): pass")
    session({}, "--kernel", "6.12", str(other)).assert_outcomes(passed=1)


def test_deselected_cases_boot_nothing(session):
    target = fake()
    session({"vm:6.12": target}, "--kernel", "6.12", "-k", "nothing").assert_outcomes(deselected=3)
    assert target.log == []


def test_agreement(session):
    target = fake()
    result = session({"vm:6.12": target}, "--kernel", "6.12", "-v")
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "bpfthrow: vm-6.12; hooks: all; accelerator: auto; *",
            "*test_case?vm-6.12-throw/depth/one-test_run? PASSED*",
            "*test_case?vm-6.12-throw/cb/three-xdp-native? PASSED*",
            "*= BPF exceptions =*",
            "throw/depth",
            "*one * test_run * 64 * 64*",
            "vm-6.12: 6.12.107+deb13-amd64, tcg, JIT on, bpftool v7.5.0: 3 agree, 0 differ of 3",
        ]
    )


def test_each_machine_opens_once_and_closes(session):
    first, second = fake(), fake("vm-7.3")
    result = session({"vm:6.12": first, "vm:7.3": second}, "--kernel", "6.12", "--kernel", "7.3")
    result.assert_outcomes(passed=6)
    runs = [f"run {each.id}" for each in CASES]
    assert first.log == second.log == ["open", *runs, "finish", "close"]


def test_hook_selects(session):
    result = session({"vm:6.12": fake()}, "--kernel", "6.12", "--hook", "xdp-native")
    result.assert_outcomes(passed=1)


def test_remote_target(session):
    result = session({"ssh:box": fake("ssh-box")}, "--target", "ssh:box", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*ssh-box-throw/depth/one-test_run*"])


def test_difference_reads_as_one(session):
    wrong = replace(ran(65), kernel_log="noise in the kernel log")
    result = session({"vm:6.12": fake(one=wrong)}, "--kernel", "6.12")
    result.assert_outcomes(failed=1, passed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "throw/depth/one ?test_run? on vm-6.12 (6.12.107*",
            "  retvals?0?: simulator says 64",
            "*kernel says 65",
            "    rule: every run returns*",
            "  replay: bpfthrow run *-k throw/depth/one --hook test_run --kernel 6.12",
            "*- simulator's trace -*",
            "throw 64",
            "*- kernel log -*",
            "noise in the kernel log",
            "FAILED *one-test_run? - retvals?0?: simulator 64, kernel 65",
        ]
    )
    result.stdout.no_fnmatch_line("*assert bpf_result.agree*")


@pytest.mark.parametrize("verdict", [Verdict.CRASHED, Verdict.HUNG])
def test_death_of_a_kernel_is_a_failure_and_the_rest_goes_on(session, verdict):
    dead = Observation(verdict, message="Oops", splats=("BUG: x",))
    result = session({"vm:6.12": fake(one=dead)}, "--kernel", "6.12")
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines([f"FAILED *verdict: invariant ran, kernel {verdict}: Oops"])


def test_a_kernel_that_dies_again_and_again_is_given_up(session, monkeypatch):
    monkeypatch.setattr("harness.run.DEATHS_MAX", 2)
    dead = Observation(Verdict.CRASHED, message="Oops")
    target = fake(one=dead, two=dead)
    result = session({"vm:6.12": target}, "--kernel", "6.12", "--retries", "0")
    result.assert_outcomes(failed=2, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*2 cases in a row crashed, hung or lost their guest*"])
    assert "run throw/depth/three" not in target.log


def test_own_assertions_keep_their_text(session, pytester):
    pytester.makepyfile(test_kernel="def test_case(bpf_result): assert bpf_result.target == 'x'")
    result = session({"vm:6.12": fake()}, "--kernel", "6.12")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*assert 'vm-6.12' == 'x'*"])


def test_machine_that_cannot_be_had(session):
    lost = MachineLostError("no boot in 60 s", fix="look", evidence="last console line")
    result = session({"vm:6.12": lost}, "--kernel", "6.12")
    result.assert_outcomes(errors=1, skipped=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "no boot in 60 s",
            "last console line",
            "SKIPPED ?2?*vm-6.12 could not be had: no boot in 60 s",
            "ERROR *- no boot in 60 s",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_machine_lost_on_the_way(session):
    target = fake(two=lose())
    result = session({"vm:6.12": target}, "--kernel", "6.12")
    result.assert_outcomes(passed=1, errors=1, skipped=1)
    assert target.log == ["open", "run throw/depth/one", "run throw/depth/two", "close"]


def test_one_lost_machine_leaves_the_others_alone(session):
    targets = {"vm:6.12": MachineLostError("gone"), "vm:7.3": fake("vm-7.3")}
    result = session(targets, "--kernel", "6.12", "--kernel", "7.3")
    result.assert_outcomes(errors=1, skipped=2, passed=3)


def test_case_lost_in_a_guest_that_comes_back(session):
    gone = Observation(Verdict.LOST, message="agent killed")
    result = session({"vm:6.12": fake(one=gone)}, "--kernel", "6.12")
    result.assert_outcomes(errors=1, passed=2)
    result.stdout.fnmatch_lines(["ERROR *vm-6.12: agent killed"])


@pytest.mark.parametrize("kind", [UsageError, WorldError])
def test_trouble_with_one_case_is_an_error_and_the_rest_goes_on(session, kind):
    def answer(_):
        raise kind("x.bpf.o: truncated", fix="build it again")

    result = session({"vm:6.12": fake(one=answer)}, "--kernel", "6.12")
    result.assert_outcomes(errors=1, passed=2)
    result.stdout.fnmatch_lines(["x.bpf.o: truncated", "  fix: build it again"])


ABSENT = Observation(Verdict.UNSUPPORTED, message="kfunc bpf_throw not found")


def test_unsupported_is_skipped_with_the_reason(session):
    result = session({"vm:6.12": fake(one=ABSENT)}, "--kernel", "6.12")
    result.assert_outcomes(passed=2, skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["SKIPPED *unsupported: kfunc bpf_throw not found"])


def test_suite_that_skipped_everything_is_red(session):
    target = fake(one=ABSENT, two=ABSENT, three=ABSENT)
    result = session({"vm:6.12": target}, "--kernel", "6.12")
    result.assert_outcomes(skipped=3)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["bpfthrow: vm-6.12: every case was unsupported*"])


def test_negative_control_may_skip_everything(session):
    target = fake("vm-6.1", one=ABSENT, two=ABSENT, three=ABSENT, expects_throw=False)
    result = session({"vm:6.1": target}, "--kernel", "6.1")
    result.assert_outcomes(skipped=3)
    assert result.ret == 0


def test_skip_marks_cannot_make_it_green(session, pytester):
    pytester.makepyfile(
        test_kernel="""
        import pytest
        @pytest.mark.skip
        def test_case(bpf_result): pass
        """
    )
    result = session({"vm:6.12": fake()}, "--kernel", "6.12")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["bpfthrow: every kernel test was skipped"])


def test_leaks_of_the_last_case(session):
    result = session({"vm:6.12": fake(left_behind=("prog 17 'main'",))}, "--kernel", "6.12")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["vm-6.12: left behind: prog 17 'main'"])


def test_junit_properties(session, pytester):
    session({"vm:6.12": fake(one=ran(65))}, "--kernel", "6.12", "--junitxml=r.xml")
    root = ET.parse(pytester.path / "r.xml").getroot()
    found = root.find(".//testcase[@name='test_case[vm-6.12-throw/depth/one-test_run]']")
    properties = {item.get("name"): item.get("value") for item in found.iter("property")}
    assert properties["kernel"] == "6.12.107+deb13-amd64"
    assert properties["hook"] == "test_run"
    assert (properties["accelerator"], properties["jit"]) == ("tcg", "1")
    assert properties["simulator's trace"] == "throw 64\ncallback"
    failure = found.find("failure")
    assert failure.get("message") == "retvals[0]: simulator 64, kernel 65"
    assert "replay: bpfthrow run" in failure.text


def test_marks_select(session):
    session.cases[:] = [
        replace(CASES[0], needs=("throw",)), replace(CASES[1], crashes="bug B"), CASES[2]
    ]  # fmt: skip
    targets = {"vm:6.12": fake()}
    session(targets, "--kernel", "6.12", "-m", "needs").assert_outcomes(passed=1, deselected=2)
    session(targets, "--kernel", "6.12", "-m", "crashes").assert_outcomes(passed=1, deselected=2)
    session(targets, "--kernel", "6.12", "-m", "not kernel").assert_outcomes(deselected=3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--target", "moon"), "*--target = 'moon'*"),
        (("--kernel", "9.99"), "*no kernel is called '9.99'*"),
        (("--cpus", "none"), "*--cpus = 'none'*"),
        (("--kernel", "6.12", "--hook", "sideways"), "*unknown hook 'sideways'*"),
    ],
)
def test_wrong_options_are_usage_errors(session, arguments, says):
    result = session({}, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])


def test_no_case_on_that_hook(session):
    result = session({}, "--kernel", "6.12", "--hook", "tcx-ingress")
    assert result.ret != 0
    (result.stderr.str() + result.stdout.str()).index("no case runs on tcx-ingress")


def test_broken_settings_file(session, pytester):
    (pytester.path / "bpfthrow.toml").write_text("colour = 1\n")
    result = session({})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown setting 'colour'*"])


def test_options_are_explained(session):
    result = session({}, "--help")
    result.stdout.fnmatch_lines(["BPF exceptions:", "*--kernel=K*"])
