# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow compare`: two saved runs in, a table, JSON and two kinds of Markdown out."""

import argparse
import json
from dataclasses import replace

import pytest

from harness import cli, matrix, regress_command, regress_sides
from harness.errors import UsageError
from harness.model import Case, Difference, Observation, Provenance, Result, Verdict
from harness.report import document
from harness.report import outcome as outcomes  # pytest would collect a bare Tested

PROVENANCE = Provenance("vm-7.3", "7.3.4+deb13-amd64", "tcg", "1", loader="libbpf v1.5 (ctypes)")
STATISTICS = (
    "processed 20 insns (limit 1000000) max_states_per_insn 1 total_states 2 peak_states 2\n"
)
RAN = Observation(
    Verdict.RAN, retvals=(64,), log=STATISTICS, duration_s=0.25, provenance=PROVENANCE
)
REFUSED = Observation(
    Verdict.REJECTED, errno=22, message="R1 is not a scalar", provenance=PROVENANCE
)
WRONG = Difference("retvals[0]", "64", "0", "equal", ("simulator", "kernel"))


def result(name, observed, *differences, hook="test_run", target="vm-7.3"):
    case = Case(name, f"build/{name}.bpf.o", name.rpartition("/")[2], "tc", hook)
    return Result(case, target, observed, None, differences)


BASE = [
    result("throw/a", RAN),
    result("throw/a", replace(RAN, retvals=(), wire=("drop",)), hook="tc-ingress"),
    result("throw/a", replace(RAN, retvals=(), wire=("drop",)), hook="tc-egress"),
    result("throw/same", RAN),
    result("reject/b", replace(REFUSED, message="Unreleased reference id=2 alloc_insn=4")),
    result("throw/gone", RAN),
]
PATCHED = [
    result("throw/a", replace(RAN, retvals=(0,)), WRONG),
    result("throw/a", replace(RAN, retvals=(), wire=("pass",)), WRONG, hook="tc-ingress"),
    result("throw/a", replace(RAN, retvals=(), wire=("pass",)), WRONG, hook="tc-egress"),
    result("throw/same", replace(RAN, log=STATISTICS.replace("20 insns", "40 insns"))),
    result("reject/b", replace(REFUSED, message="bpf_throw would lead | to *reference* leak")),
]


@pytest.fixture
def files(tmp_path):
    """(base, patched) as `run --json` writes them."""
    paths = tmp_path / "base.json", tmp_path / "patched.json"
    for path, results in zip(paths, (BASE, PATCHED), strict=True):
        path.write_text(document.dumps(results))
    return tuple(map(str, paths))


def compare(*arguments):
    return cli.main(["compare", *map(str, arguments)])


def sides(files):
    return ["--base", files[0], "--patched", files[1]]


def test_table(files, capsys):
    assert compare(*sides(files)) == 1
    out = capsys.readouterr().out
    assert "base: base.json@vm-7.3 (7.3.4+deb13-amd64, tcg, JIT on, libbpf v1.5 (ctypes))" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["throw/a", "test_run", "return", "value", "64", "0"] in lines
    # hooks with the same change share a row
    assert ["throw/a", "tc-ingress,", "tc-egress", "wire", "drop", "pass"] in lines
    assert ["throw/same", "test_run", "instructions", "20", "40"] in lines
    assert "throw/same [test_run]: instructions: +100.0 %" in out
    assert "throw/gone [test_run]: not among the cases of patched.json@vm-7.3" in out
    last = "5 cases compared: 3 regressions, 1 warning, 1 change, 0 improvements, 0 unchanged;"
    assert out.splitlines()[-1] == f"{last} 1 not compared"
    assert "instructions 40 -> 60 (+50.0 %)" in out


def test_a_run_against_itself_changes_nothing(files, capsys):
    assert compare("--base", files[0], "--patched", f"{files[0]}@vm-7.3") == 0
    out = capsys.readouterr().out
    assert "6 cases compared: 0 regressions" in out
    assert "Regressions" not in out


def test_json(files, tmp_path, capsys):
    out = tmp_path / "out.json"
    compare(*sides(files), "--json", out, "--fail-on", "message")
    capsys.readouterr()
    data = json.loads(out.read_text())
    assert data["schema"] == 1
    assert data["policy"]["fail_on"] == ["message"]
    assert data["summary"]["regression"] == 4
    assert data["totals"]["instructions"] == [40, 60]
    first = data["cases"][0]
    assert (first["id"], first["effect"], first["base"]["retvals"]) == (
        "throw/a",
        "regression",
        [64],
    )
    assert first["changes"][0]["kind"] == "value"
    counted = next(case for case in data["cases"] if case["id"] == "throw/same")
    assert [side["instructions"] for side in counted["statistics"]] == [20, 40]
    assert data["not_compared"][0]["id"] == "throw/gone"


def test_mail_is_plain_and_narrow(files, tmp_path, capsys):
    out = tmp_path / "mail.md"
    compare(*sides(files), "--markdown", out)
    capsys.readouterr()
    text = out.read_text()
    # paths and names are not broken
    wide = [line for line in text.splitlines() if len(line) > 72 and len(line.split()) > 3]
    assert wide == []
    assert "<" not in text
    assert "| " not in text.replace("lead | to", "")
    assert "## Regressions\n\n* throw/a" in text
    assert "* throw/a [test_run]: return value 64 -> 0\n" in text
    # messages stand below each other
    assert "      - Unreleased reference id=# alloc_insn=4\n      + bpf_throw would" in text
    assert "\nRun again:\n\n    bpfthrow compare --base" in text


def test_long_values_are_cut_in_a_mail_and_whole_in_the_json(tmp_path, capsys):
    long = [replace(RAN, data_out=bytes([n]) * 600) for n in (1, 2)]
    paths = []
    for index, seen in enumerate(long):
        paths.append(tmp_path / f"{index}.json")
        paths[-1].write_text(document.dumps([result("throw/a", seen)]))
    outs = tmp_path / "mail.md", tmp_path / "out.json"
    compare("--base", paths[0], "--patched", paths[1], "--markdown", outs[0], "--json", outs[1])
    capsys.readouterr()
    frames = [line for line in outs[0].read_text().splitlines() if "0101" in line]
    assert [len(line) for line in frames] == [72]
    change = json.loads(outs[1].read_text())["cases"][0]["changes"][0]
    assert change["base"] == "01" * 600


def test_summary_is_appended_and_escaped(files, tmp_path, capsys):
    out = tmp_path / "summary.md"
    out.write_text("before\n")
    compare(*sides(files), "--summary", out)
    capsys.readouterr()
    text = out.read_text()
    assert text.startswith("before\n### ❌ base.json@vm-7.3 → patched.json@vm-7.3\n")
    assert "| throw/a | test\\_run | return value | 64 | 0 | agreed before;" in text
    assert "bpf\\_throw would lead \\| to \\*reference\\* leak" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    # an escaped bar is no cell's end
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}
    assert "<details><summary>Other changes: 1</summary>" in text


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("", "not JSON"),
        ("[]", "not the JSON of a run"),
        ("{}", "missing key 'schema'"),
        ("[" * 100_000, "not JSON"),
        (document.dumps([]), "no case"),
        (document.dumps([*BASE, result("throw/a", RAN, target="vm-6.12")]), "several targets"),
    ],
)
def test_files_that_cannot_be_used(files, tmp_path, capsys, content, word):
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    assert compare("--base", bad, "--patched", files[1]) == 2
    assert word in capsys.readouterr().err


def test_one_file_may_hold_both_sides(tmp_path, capsys):
    both = tmp_path / "all.json"
    others = [replace(each, target="vm-8.0") for each in PATCHED]
    both.write_text(document.dumps([*BASE, *others]))
    assert compare("--base", f"{both}@vm-7.3", "--patched", f"{both}@vm-8.0") == 1
    assert "3 regressions" in capsys.readouterr().out
    assert compare("--base", f"{both}@vm-7.3", "--patched", f"{both}@vm-9") == 2
    assert "no target 'vm-9'" in capsys.readouterr().err


def test_a_summary_calls_a_lost_machine_no_success(files, tmp_path, capsys):
    gone, out = tmp_path / "gone.json", tmp_path / "summary.md"
    lost = result("throw/gone", Observation(Verdict.LOST, message="QEMU vanished"))
    gone.write_text(document.dumps([BASE[0], lost]))
    assert compare("--base", files[0], "--patched", gone, "--summary", out) == 128
    assert out.read_text().startswith("### ❓")
    compare("--base", files[0], "--patched", files[0], "--summary", out)
    assert "### ✅" in out.read_text()


def test_runs_without_a_case_in_common_are_no_success(files, tmp_path, capsys):
    other = tmp_path / "other.json"
    other.write_text(document.dumps([result("throw/elsewhere", RAN)]))
    assert compare("--base", files[0], "--patched", other) == 2
    assert "nothing to compare" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--fail-on", "sound"), "no such kind"),
        (("--json", "nowhere/x.json"), "no directory"),
        (("--summary", "nowhere/x.md"), "no directory"),
        (("--statistics-percent", "-1"), "at least"),
        (("--duration-factor", "0.5"), "at least"),
        (("-k", "throw"), "have their cases already"),
        (("progs/throw",), "have their cases already"),
        (("--patched-profile", "9.9"), "9.9"),
    ],
)
def test_mistakes(files, capsys, arguments, word):
    assert compare(*sides(files), *arguments) == 2
    assert word in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "word"),
    [(("7.3", "7.3"), "both sides"), (("all", "7.3"), "several kernels"), (("7.3", "9.*"), "9.*")],
)
def test_kernels_that_cannot_be_compared(capsys, names, word):
    assert compare("--base", names[0], "--patched", names[1]) == 2
    assert word in capsys.readouterr().err


@pytest.fixture
def guests(monkeypatch):
    """No machine: what matrix.run_all() is asked for, with shares from the tables above."""
    asked = []

    def run_all(plan, started):
        assert not started
        asked.append(plan)
        tested = outcomes.Tested("", "7.3.4", "tcg", "1", "bpftool")
        by_spec = {"vm:7.3": BASE, "vm:build:mine": PATCHED}
        return [matrix.Share(spec, tested, tuple(by_spec[spec])) for spec in plan.specs]

    monkeypatch.setattr(matrix, "run_all", run_all)
    return asked


def test_two_kernels(guests, capsys):
    code = compare("--base", "7.3", "--patched", "build:mine", "-q", "--patched-profile",
                   "series-v1", "--hook", "test_run")  # fmt: skip
    assert code == 1
    (plan,) = guests
    assert plan.specs == ["vm:7.3", "vm:build:mine"]
    assert plan.settings.statistics
    assert plan.settings.hook == ("test_run",)
    assert plan.settings_of("vm:7.3").profile == ""
    assert plan.settings_of("vm:build:mine").profile == "series-v1"
    assert "patched: build:mine (7.3.4, tcg, JIT on, bpftool)" in capsys.readouterr().out


def test_a_profile_given_judges_instead_of_the_tags():
    declared = Difference("retval", "64", "0", "declared", ("declared", "kernel"))
    seen = replace(RAN, retvals=(0,))
    for simulated, differences, agree in (
        (seen, (declared,), True),
        (None, (declared,), False),  # nobody else judges a refusal
        (RAN, (declared, WRONG), False),
    ):
        one = replace(result("throw/a", seen, *differences), simulated=simulated)
        for over_tags in (True, False):
            side = regress_sides.from_results("new", None, [one], over_tags=over_tags)
            (entry,) = side.entries.values()
            assert entry.agree is (agree and over_tags)


def test_a_file_against_a_kernel(guests, files, capsys):
    assert compare("--base", files[0], "--patched", "build:mine", "-q") == 1
    assert guests[0].specs == ["vm:build:mine"]
    assert "throw/gone" in capsys.readouterr().out
    # cases that were not chosen are no gap
    compare("--base", files[0], "--patched", "build:mine", "-q", "-k", "throw")
    assert "throw/gone" not in capsys.readouterr().out


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as end:
        compare("--help")
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "bpfthrow compare --base 7.3 --patched build:proposal" in out


def test_replay_names_what_was_chosen():
    arguments = argparse.Namespace(
        base="7.3", patched="build:a b", patched_profile="", expression="x and y", paths=["progs"]
    )
    words = regress_command._replay(arguments)
    assert words == [
        "bpfthrow", "compare", "--base", "7.3", "--patched", "build:a b", "-k", "x and y", "progs"
    ]  # fmt: skip


def test_a_summary_that_cannot_be_written(files, tmp_path):
    parsed = cli.build_parser(["compare"]).parse_args(
        ["compare", *sides(files), "--summary", str(tmp_path)]
    )
    with pytest.raises(UsageError, match="cannot write"):
        regress_command.run(parsed)
