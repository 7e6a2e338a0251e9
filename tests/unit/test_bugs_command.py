# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow bugs` without a kernel."""

import json
import re
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
from fake_target import CRASHED, FakeTarget, lose, ran

from harness import bugs, bugs_run, cli, suite
from harness.bugs import Status
from harness.build import PROGS
from harness.errors import MachineLostError
from harness.model import Observation, Verdict


@cache
def programs():
    """Every case of the directory, with what 6.12 makes of it."""
    on = {case.id: case.on["6.12"] for bug in bugs.load() for case in bug.cases}
    return [(case, on[case.id]) for case in suite.collect([PROGS / suite.APART])]


def answers():
    """What a 6.12 kernel says, by the table."""
    plain = {
        Status.FINE: ran(0), Status.CRASHED: Observation(Verdict.CRASHED, message="Oops"),
        Status.ACCEPTED: ran(64), Status.REJECTED: Observation(Verdict.REJECTED, errno=14),
    }  # fmt: skip
    given = {}
    for case, known in programs():
        seen = plain[known.statuses[0]]
        trace = "".join(f" {name}+0x1/0x2\n" for name in known.functions)
        if case.id == "kernel-bugs/private_stack/tracepoint" or (
            known.statuses == (Status.FINE,) and case.expectation.verdict is Verdict.REJECTED
        ):
            seen = Observation(Verdict.REJECTED, errno=22)
        elif known.statuses == (Status.FINE,):
            variables = {name: f"{value:08x}" for name, value in case.expectation.globals}
            seen = ran(case.expectation.retval, maps={".bss": variables} if variables else {})
        log = f"WARNING: {known.says}\n{trace}" if known.says else ""
        given[case.id] = replace(seen, kernel_log=log)
    return given


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Have the command open `machine.target` whatever it asks for; no simulator is asked."""

    made = SimpleNamespace(target=FakeTarget("vm-6.12", answers()), specs=[])

    @contextmanager
    def opened(spec, _settings):
        made.specs.append(spec)
        if isinstance(made.target, Exception):
            raise made.target
        try:
            yield made.target
        finally:
            made.target.close()

    monkeypatch.setattr(bugs_run, "_opened", opened)
    monkeypatch.setattr("harness.run.simulate", lambda *_: None)
    monkeypatch.setattr("harness.bugs_command._intended", lambda _: "42")
    monkeypatch.chdir(tmp_path)
    return made


def run(*arguments):
    return cli.main(["bugs", "--kernel", "6.12", *arguments])


def test_a_kernel_that_does_what_is_known(machine, capsys, tmp_path):
    assert run("--json", "bugs.json") == 0
    said = capsys.readouterr()
    assert "all is as known" in said.out
    assert machine.specs == ["vm:6.12"]
    assert "18/22 vm-6.12 G kernel-bugs/range/global: accepted" in said.err
    written = json.loads((tmp_path / "bugs.json").read_text())
    assert written["summary"]["known"] == 14
    assert written["summary"]["fine"] == 8
    first = written["bugs"][0]["cases"][0]
    assert first["on"]["6.12"]["status"] == "crashed"
    assert first["on"]["6.12"]["reports"][0]["functions"][0] == "jit_subprogs"


def test_after_each_that_did_harm_the_next_guest_is_a_fresh_one(machine):
    run("-q")
    log = machine.target.log
    for index, entry in enumerate(log):
        if entry.endswith(("past_the_end", "own_callback", "held/rcu", "kretprobe")):
            later = log[index + 1 : index + 3]
            assert "renew" in later, entry
        if entry.endswith(("in_main", "private_stack/tracepoint")):
            assert "renew" not in log[index + 1 : index + 3], entry
    assert log[-1] == "close"


def test_a_bug_that_is_gone_turns_the_run_red(machine, capsys):
    fixed = "kernel-bugs/stale_callback/past_the_end"
    machine.target = FakeTarget("vm-6.12", answers() | {fixed: ran(42)})
    assert run() == 1
    said = capsys.readouterr().out
    assert "stale_callback/past_the_end" in said
    assert "FIXED?" in said
    assert "say it in" in said
    assert "does otherwise than known" in said


def test_a_bug_that_is_new_or_shows_otherwise_turns_it_red(machine, capsys):
    new, other = "kernel-bugs/throw_in_loop/in_main", "kernel-bugs/fexit_below/own_callback"
    hung = Observation(Verdict.HUNG, message="no answer")
    machine.target = FakeTarget("vm-6.12", answers() | {new: CRASHED, other: hung})
    assert run("B", "c") == 1
    said = capsys.readouterr().out
    assert "NEW: crashed" in said
    assert "OTHER: hung" in said
    assert "jit_subprogs+0x894/0xaa0" in said
    assert "stale_callback" not in said


def test_what_the_kernel_says_only_at_the_end_counts_as_well(machine, tmp_path):
    late = (
        "kernel log: Voluntary context switch within RCU\n  in rcu_note_context_switch < __schedule"
    )
    one = "kernel-bugs/held/rcu"
    silent = replace(answers()[one], kernel_log="")
    machine.target = FakeTarget("vm-6.12", answers() | {one: silent}, left_behind=(late,))
    # the cases that are fine have it now, too
    assert run("G", "--json", "bugs.json") == 1
    (bug,) = json.loads((tmp_path / "bugs.json").read_text())["bugs"]
    found = next(case["on"]["6.12"] for case in bug["cases"] if case["id"] == one)
    assert found["judgement"] == "known"
    assert found["reports"][0]["functions"] == ["rcu_note_context_switch", "__schedule"]


def test_whole_logs_are_kept(machine, tmp_path):
    run("A", "--artifacts", "logs")
    kept = sorted(path.name for path in (tmp_path / "logs/bugs/vm-6.12").iterdir())
    assert kept == ["stale_callback_past_the_end.log", "stale_callback_wrong_function.log"]


def test_json_alone_goes_to_stdout(machine, capsys):
    assert run("-q", "--json") == 0
    assert json.loads(capsys.readouterr().out)["schema"] == 1


def test_a_machine_that_is_lost_loses_the_rest(machine, capsys):
    lost = "kernel-bugs/fexit_below/default_callback"
    machine.target = FakeTarget("vm-6.12", answers() | {lost: lose("QEMU vanished")})
    assert run("A", "B") == 128
    assert "6.12 lost: QEMU vanished" in capsys.readouterr().out


def test_a_machine_that_cannot_be_had_has_a_column_all_the_same(machine, capsys):
    machine.target = MachineLostError("no kernel boots here")
    assert run() == 128
    said = capsys.readouterr().out
    assert len(re.findall("42 +lost$", said, re.MULTILINE)) == 22
    assert "6.12 lost: no kernel boots here" in said


def test_a_guest_that_does_not_boot_loses_its_own_cases_only(machine, monkeypatch, capsys):
    def asked(*_):
        raise MachineLostError("hung at boot")

    monkeypatch.setattr(bugs_run, "VirtualTarget", FakeTarget)
    monkeypatch.setattr(bugs_run, "symbols_of", asked)
    machine.target = FakeTarget("vm-6.12", dict.fromkeys(answers(), lose("hung at boot")))
    machine.target.kernel = None
    assert run() == 128
    assert len(re.findall("42 +lost$", capsys.readouterr().out, re.MULTILINE)) == 22


def test_a_kernel_without_exceptions_is_no_failure_but_one_that_should_have_them_is(machine):
    absent = Observation(Verdict.UNSUPPORTED, message="throw: no such function")
    given = dict.fromkeys(answers(), absent)
    machine.target = FakeTarget("vm-6.1", given, release="6.1.0-50", expects_throw=False)
    assert run() == 0
    machine.target = FakeTarget("vm-6.12", given)
    assert run() == 1


@pytest.mark.parametrize("target", ["local", "ssh:root@box"])
def test_no_other_machine_without_a_spelled_out_flag(machine, capsys, target):
    assert cli.main(["bugs", "--target", target]) == 2
    assert "--this-may-crash-the-machine" in capsys.readouterr().err
    assert machine.specs == []


def test_with_the_flag_the_mark_is_taken_off(machine):
    marks = []
    machine.target = FakeTarget(
        "local", dict.fromkeys(answers(), lambda case: marks.append(case.crashes) or ran(0))
    )
    cli.main(["bugs", "A", "--target", "local", "--this-may-crash-the-machine"])
    assert machine.specs == ["local"]
    assert marks == ["", ""]


def test_in_guests_the_mark_stays(machine):
    marks = []
    machine.target = FakeTarget(
        "vm-6.12", dict.fromkeys(answers(), lambda case: marks.append(case.crashes) or ran(0))
    )
    run("A")
    assert all(marks)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["Z"], "no bug 'Z'.*one of A, B, C"),
        (["--json", "nowhere/x.json"], "no such directory"),
        (["--target", "local", "--this-may-crash-the-machine"], "does not go with"),
        (["--kernel", "9.9"], "9.9"),
    ],
)
def test_mistakes(machine, capsys, arguments, complaint):
    assert run(*arguments) == 2
    assert re.search(complaint, capsys.readouterr().err, re.DOTALL)
    assert machine.specs == []


def test_the_list_runs_nothing(machine, capsys):
    assert cli.main(["bugs", "--list", "--target", "local"]) == 0
    said = capsys.readouterr().out
    assert "should be: 42; 6.12 crashed, 6.18 crashed, 7.3 crashed" in said
    assert machine.specs == []


def test_the_list_as_json(machine, capsys, tmp_path):
    assert cli.main(["bugs", "--list", "H", "--json", "a"]) == 0
    assert "should be: 42" in capsys.readouterr().out
    written = json.loads((tmp_path / "a").read_text())
    assert cli.main(["bugs", "h", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == written
    assert machine.specs == []
    (bug,) = written["bugs"]
    (known,) = [each for each in bugs.load() if each.letter == "H"]
    assert (written["schema"], bug["bug"], bug["cause"]) == (1, "H", known.cause)
    assert [case["id"] for case in bug["cases"]] == [case.id for case in known.cases]
    assert bug["cases"][0]["intended"] == "42"
    assert bug["cases"][0]["on"]["6.12"] == {
        "expected": "rejected",
        "says": "No program starts at insn",
        "errno": 14,
        "functions": ["jit_subprogs", "bpf_check", "bpf_prog_load"],
    }


def test_json_of_a_run_and_of_the_list_have_the_same_keys(machine, capsys):
    assert run("-q", "A", "--json") == 0
    (ran_,) = json.loads(capsys.readouterr().out)["bugs"]
    assert run("A", "--list", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)["bugs"]
    assert list(ran_) == list(listed)
    assert list(ran_["cases"][0]) == list(listed["cases"][0])


def test_stacks_are_in_the_json_too(machine, capsys):
    assert run("-q", "A", "--json") == 0
    plain = json.loads(capsys.readouterr().out)["bugs"][0]["cases"][0]["on"]["6.12"]
    assert run("-q", "A", "--json", "--stacks") == 0
    whole = json.loads(capsys.readouterr().out)["bugs"][0]["cases"][0]["on"]["6.12"]
    assert "log" not in plain
    assert "jit_subprogs+0x1/0x2" in whole["log"]


def test_ctrl_c_ends_the_machines(machine, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.bugs_command._Progress.__call__", interrupted)
    with suppress(KeyboardInterrupt):
        assert run() == 130
    assert {"abort", "close"} <= set(machine.target.log)
