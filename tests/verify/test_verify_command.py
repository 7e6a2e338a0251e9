# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow verify`: what a user sees, and what other programs read."""

import csv
import io
import json
import re
import shlex
from pathlib import Path

import pytest

import harness
from harness.bpf.elf import read_object
from harness.bpf.environment import Environment
from harness.cli import main
from harness.verify.veristat import COLUMNS

ROOT = Path(harness.__file__).parent.parent
SHOWN = re.findall(
    r"```\n\$ bpfthrow (verify .*progs/.*\.bpf\.c.*)\n((?:.*\n)+?)```",
    (ROOT / "docs/verify.md").read_text(encoding="utf-8"),
)
FALLS_OUT = """
#define END __builtin_unreachable()
SEC("tc") int entry(struct __sk_buff *skb) { bpf_throw(3); END; }
SEC("tc") int other(struct __sk_buff *skb) { bpf_throw(skb->len); END; }
"""
WORDS = "last insn is not an exit or jmp"
TWICE = """
int f(__u64 cookie) { return 1; }
int g(__u64 cookie) { return 2; }
SEC("tc") __exception_cb(f) __exception_cb(g)
int entry(struct __sk_buff *skb) { bpf_throw(1); return 0; }
"""
NOWHERE = """
SEC("tc") __exception_cb(nowhere) int entry(struct __sk_buff *skb) { return 0; }
"""


@pytest.mark.parametrize("options", [[], ["--ranges"]])
def test_an_object_without_a_program(tmp_path, options, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "none.bpf.c"
    source.write_text("int f(int x) { return x; }\n")
    assert main(["verify", str(source), *options]) == 2
    assert f"{source}: no program in it\n  fix: " in capsys.readouterr().err


@pytest.fixture
def verify(compiled, capsys):
    """Run the command on C text: (exit code, what it printed, standard error)."""

    def run(text, *options):
        code = main(["verify", str(compiled(text)), *options])
        return code, *capsys.readouterr()

    return run


def test_every_program_on_every_series(verify):
    code, out, _ = verify(FALLS_OUT)
    assert code == 1
    programs = [line for line in out.splitlines() if not line.startswith(" ")]
    assert programs == ["entry (tc)", "other (tc)"]
    rows = [line for line in out.splitlines() if WORDS in line]
    assert len(rows) == 6
    assert [row.split()[:2] for row in rows[:3]] == [[s, "reject"] for s in ("6.12", "6.18", "7.3")]


def test_one_program_on_one_series(verify):
    _, out, _ = verify(FALLS_OUT, "--prog", "other", "--profile", "7.3")
    assert out.splitlines()[0] == "other (tc)"
    assert len(out.splitlines()) == 2


def test_explanation_says_what_where_why_and_how_to_fix(verify):
    _, out, _ = verify(FALLS_OUT, "--prog", "entry", "--explain")
    assert "entry (tc): rejected on 6.12, 6.18, 7.3: program-structure" in out
    assert ".bpf.c:6, instruction 1 in entry()" in out
    assert 'SEC("tc") int entry(struct __sk_buff *skb) { bpf_throw(3); END; }' in out
    assert f"kernel says: {WORDS}  (EINVAL)" in out
    assert "why: entry() does not end in an exit or a jump" in out
    assert "fix: return something behind the call; do not declare bpf_throw noreturn" in out


def test_libbpf_refuses_first(verify):
    code, out, _ = verify(NOWHERE, "--explain")
    assert code == 1
    assert "cannot find exception callback 'nowhere'  (ENOENT)" in out
    assert "libbpf says so" in out


def test_json(verify):
    code, out, _ = verify(TWICE, "--json")
    assert code == 1
    rows = json.loads(out)
    assert [row["profile"] for row in rows] == ["6.12", "6.18", "7.3"]
    assert {
        key: rows[0][key] for key in ("program", "verdict", "category", "message", "errno")
    } == {
        "program": "entry",
        "verdict": "reject",
        "category": "program-structure",
        "message": "multiple exception callback tags for main subprog",
        "errno": 17,
    }
    assert rows[0]["duration_us"] >= 0


def test_veristat_reads_the_table(verify):
    """As parse_stats_csv() does: columns by name, verdicts of two words, whole numbers."""
    code, out, _ = verify(FALLS_OUT, "-o", "csv", "--profile", "7.3")
    assert code == 1
    rows = list(csv.DictReader(io.StringIO(out)))
    assert tuple(rows[0]) == COLUMNS
    assert [row["prog_name"] for row in rows] == ["entry", "other"]
    assert {row["verdict"] for row in rows} == {"failure"}
    assert all(row[name].isdecimal() for row in rows for name in COLUMNS[3:])


def test_what_is_unknown_has_no_row(verify):
    text = 'SEC("tc") int entry(struct __sk_buff *skb) { return skb->len; }'
    code, out, err = verify(text, "-o", "csv", "--profile", "series-v1")
    assert (code, out) == (1, ",".join(COLUMNS) + "\n")
    assert err == "bpfthrow: left out: 1 unknown\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--profile", "5.10"], "no profile '5.10'"),
        (["--prog", "absent"], "no program 'absent'"),
        (["--budget", "0"], "--budget 0: must be at least 1"),
        (["-o", "csv"], "choose one by --profile"),
        (["-o", "csv", "--json", "--profile", "7.3"], "-o csv goes neither with --json"),
    ],
)
def test_mistakes(verify, options, words):
    code, out, err = verify(FALLS_OUT, *options)
    assert (code, out) == (2, "")
    assert words in err


def test_file_that_is_none(capsys, tmp_path):
    path = tmp_path / "x.bpf.o"
    path.write_bytes(b"no object")
    assert main(["verify", str(path)]) == 2
    assert "x.bpf.o" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "printed"), SHOWN)
def test_page_shows_what_is_printed(capsys, monkeypatch, command, printed):
    monkeypatch.chdir(ROOT)
    main(shlex.split(command))
    assert capsys.readouterr().out == printed


def test_page_shows_something():
    assert len(SHOWN) == 3


ASKS_FOR_TYPES = """
struct task_struct { int pid; } __attribute__((preserve_access_index));
SEC("kprobe/x") int entry(struct task_struct *regs) {
	return __builtin_preserve_access_index(&regs->pid) == (void *)8;
}
"""


def test_types_come_from_a_cached_kernel(verify, compiled, monkeypatch):
    asked = []

    def kernel(series):
        asked.append(series)
        return Environment(read_object(compiled(ASKS_FOR_TYPES)).btf, "6.12.1")

    monkeypatch.setattr("harness.environments.environment_of_series", kernel)
    code, out, _ = verify(ASKS_FOR_TYPES, "--profile", "6.12")
    assert (code, asked) == (0, ["6.12"]), out
    verify(ASKS_FOR_TYPES, "--profile", "6.12", "--release", "6.12.9")
    verify(FALLS_OUT, "--profile", "6.12")
    assert asked == ["6.12"]


def test_unknown_says_what_helps(verify, monkeypatch):
    monkeypatch.setattr("harness.environments.environment_of_series", lambda series: None)
    code, out, _ = verify(ASKS_FOR_TYPES, "--explain", "--profile", "6.12")
    assert code == 1
    assert "no types of a kernel are given" in " ".join(out.split())
    assert "next: --btf FILE" in out
    _, out, _ = verify(FALLS_OUT, "--explain", "--profile", "cleanup", "--prog", "entry")
    assert "why: not modelled: profile cleanup" in out
    assert "next: bpfthrow repro FILE --prog entry" in out
