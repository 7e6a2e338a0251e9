# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Cases from a file beside an object that carries no tags, and what is wrong with such files."""

import shlex
from pathlib import Path

import pytest

from harness import sidecar, wire
from harness.bpf.elf import read_object
from harness.build import CHECKOUT, build
from harness.compare import expectation_for
from harness.errors import UsageError
from harness.expected import constant
from harness.journal import Keys
from harness.model import Companion, Observation, Result, TailCall, Verdict
from harness.report.detail import replay
from harness.run import judge, simulate
from harness.series import SERIES
from harness.sidewords import SPELLED
from harness.suite import collect, select
from harness.target.base import Facts
from harness.target.client import AgentClient
from harness.verify import accuracy
from tests.fake_target import FakeTarget, ran

# two objects of somebody else: one that runs, one that attaches to it
MAIN = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
extern void bpf_throw(__u64 cookie) __weak __ksym;
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, 4);
} table SEC(".maps");
const volatile int many = 3;
__u32 seen;
__attribute__((noinline)) int called(struct __sk_buff *skb)
{
	volatile int one = 1;

	seen = skb->len;
	return one;
}
static __attribute__((noinline)) int apart(struct __sk_buff *skb)
{
	volatile int two = 2;

	return two + skb->mark;
}
int handler(__u64 cookie) { return cookie + many; }
SEC("tc") int entry(struct __sk_buff *skb) { return called(skb) + apart(skb); }
SEC("tc") __attribute__((btf_decl_tag("exception_callback:handler")))
int throws(struct __sk_buff *skb) { bpf_throw(skb->len); return 0; }
SEC("tc") int leaves(struct __sk_buff *skb) { bpf_tail_call_static(skb, &table, 1); return 1; }
char LICENSE[] SEC("license") = "GPL";
"""
EXT = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("?freplace") int other(struct __sk_buff *skb) { return 40; }
SEC("?fexit") int watch(void *ctx) { return 0; }
SEC("?fmod_ret") int change(void *ctx) { return 0; }
SEC("tc") int plain(struct __sk_buff *skb) { return 0; }
char LICENSE[] SEC("license") = "GPL";
"""
ALL = """
[default]
success = true
hook = "test_run"

[case.entry]
retval = 3
global = { seen = 64 }
[case.throws]
input = { long = "eth ipv4 payload=30", short = "eth ipv4" }
retval = { long = 67, short = "30 + 7" }
[case.leaves]
retval = 67
input = "eth ipv4 payload=30"
tail_calls = { table = ["", "throws"] }
"""


@pytest.fixture(scope="session")
def objects(tmp_path_factory):
    """A directory with the two objects; compiled once."""
    place = tmp_path_factory.mktemp("theirs")
    for name, text in (("main", MAIN), ("ext", EXT)):
        (place / f"{name}.bpf.c").write_text(text)
    return {path.name.partition(".")[0]: path for path in build(sorted(place.glob("*.c")), place)}


@pytest.fixture
def place(objects, tmp_path):
    """A directory of one's own with the two objects in it."""
    for name, path in objects.items():
        (tmp_path / f"{name}.bpf.o").write_bytes(path.read_bytes())
    return tmp_path


def _cases(place, text: str, name: str = "main"):
    (place / f"{name}.expect.toml").write_text(text)
    return {case.id.rpartition("/")[2]: case for case in collect([place / f"{name}.bpf.o"])}


def _complaint(place, text: str, name: str = "main") -> str:
    with pytest.raises(UsageError) as caught:
        _cases(place, text, name)
    return str(caught.value)


# ---- cases --------------------------------------------------------------------------------------


def test_a_file_beside_the_object_makes_its_cases(place):
    cases = _cases(place, ALL)
    assert set(cases) == {"entry", "throws:long", "throws:short", "leaves"}
    assert cases["entry"].id == f"{place.name}/main/entry"
    assert all(case.hook == "test_run" for case in cases.values())
    entry, short = cases["entry"].expectation, cases["throws:short"].expectation
    assert (entry.verdict, entry.retval, entry.globals) == (Verdict.RAN, 3, (("seen", 64),))
    assert short.retval == 37
    assert cases["leaves"].tail_calls == (TailCall("table", 1, "throws"),)


def test_the_simulator_does_what_the_file_claims(place):
    cases = _cases(place, ALL)
    seen = {name: simulate(case, "7.3.4") for name, case in cases.items()}
    assert {name: found.retval for name, found in seen.items() if found} == {
        "entry": 3, "throws:long": 67, "throws:short": 37, "leaves": 67
    }  # fmt: skip
    result = judge(cases["leaves"], FakeTarget("box", {cases["leaves"].id: ran(5)}))
    assert {one.between[0] for one in result.differences} == {"declared", "simulator"}


def test_a_file_by_name_wins_over_the_one_beside_it(place, tmp_path_factory):
    _cases(place, ALL)
    other = tmp_path_factory.mktemp("claims") / "other.expect.toml"
    other.write_text('object = "main.bpf.o"\nleft_out = ["t*", "leaves"]\n[case.entry]\nretval = 4')
    (case, *_) = collect([place / "main.bpf.o"], [other])
    assert case.expectation.retval == 4
    with pytest.raises(UsageError, match=r"other.*: speaks of main.bpf.o, which is not among"):
        collect([place / "ext.bpf.o"], [other])


def test_a_source_has_its_file_beside_itself(tmp_path):
    (tmp_path / "main.bpf.c").write_text(MAIN)
    (tmp_path / "main.expect.toml").write_text(ALL)
    assert len(collect([tmp_path / "main.bpf.c"])) == len(collect([tmp_path])) == 4


def test_series_differ_as_in_a_tag(place):
    text = ALL + '[case.old]\nprogram = "entry"\nretval = 3\n'
    text += '[case.old.on."6.12,6.18"]\nfailure = true\nerrno = 22\nmsg = ["one", "two"]\n'
    text += 'on."7.3".retval = 9\n'.replace("on.", "[case.old.on.").replace(".retval", "]\nretval")
    case = _cases(place, text)["old"]
    older, newer = dict(case.per_series)["6.18"], dict(case.per_series)["7.3"]
    assert (older.verdict, older.errno, older.messages) == (Verdict.REJECTED, 22, ("one", "two"))
    assert newer.retval == 9


def test_what_the_compiler_left_out_is_unsupported(place):
    text = ALL + '[case.more]\nprogram = "entry"\nonly_if = { many = %d }\n'
    assert constant(read_object(place / "main.bpf.o"), "many") == 3
    assert _cases(place, text % 3)["more"].unsupported == ""
    assert _cases(place, text % 4)["more"].unsupported.startswith("many is 3 in this object")


# ---- programs of another object -----------------------------------------------------------------

ATTACHED = """
left_out = ["plain"]
[default]
object = "main.bpf.o"
hook = "test_run"
[case.replaced]
program = "entry"
with = { program = "other", target = "called" }
retval = 42
[case.watched]
program = "entry"
with = [{ program = "watch", target = "apart" }, { program = "watch", target = "called" }]
retval = 3
[case.replaces_static]
program = "entry"
with = { program = "other", target = "apart" }
failure = true
errno = 22
msg = "apart() is not a global function"
[case.replaces_callback]
program = "throws"
with = { program = "other", target = "handler" }
failure = true
msg = "Extension programs cannot attach to exception callback"
[case.changes]
program = "entry"
with = { program = "change", target = "called" }
failure = true
msg = "can't modify return codes of BPF programs"
"""


def test_programs_of_another_object_are_attached(place):
    cases = _cases(place, ATTACHED, "ext")
    replaced = cases["replaced"]
    assert (replaced.object, replaced.program) == (str(place / "main.bpf.o"), "entry")
    ext = str(place / "ext.bpf.o")
    assert replaced.companions == (Companion("other", "freplace", "called", ext),)
    assert "freplace" in replaced.needs
    assert cases["changes"].needs == ("throw", "fentry")
    for name, value in (("replaced", 42), ("watched", 3)):
        seen = simulate(cases[name], "7.3.4")
        assert seen is not None
        assert (seen.verdict, seen.retval) == (Verdict.RAN, value)


def test_the_model_knows_what_they_are_attached_to(place):
    judged = accuracy.measure(_cases(place, ATTACHED, "ext").values(), SERIES)
    assert len(judged) == 5 * len(SERIES)
    assert [str(each) for each in judged if each.outcome is not accuracy.Outcome.RIGHT] == []


TAGGED = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define TAG(text) __attribute__((btf_decl_tag("comment:0:" text)))
SEC("tc") TAG("test_expect_failure") TAG("test_expect_msg=newer words") TAG("test_log_level=2")
int refused(struct __sk_buff *skb) { return 1; }
SEC("tc") TAG("test_expect_success") TAG("test_retval=2")
int runs(struct __sk_buff *skb) { return 2; }
SEC("tc") int silent(struct __sk_buff *skb) { return 3; }
char LICENSE[] SEC("license") = "GPL";
"""


def test_a_file_speaks_on_top_of_tags(tmp_path):
    (tmp_path / "own.bpf.c").write_text(TAGGED)
    claims = (
        '[case.refused.on."6.12"]\nmsg = "older words"\n[case.refused.on."6.18"]\nsuccess = true\n'
    )
    (tmp_path / "own.expect.toml").write_text(claims + "[case.runs]\nretval = 7\n")
    cases = {case.program: case for case in collect([tmp_path / "own.bpf.c"])}
    assert set(cases) == {"refused", "runs", "silent"}
    refused = cases["refused"]
    assert (refused.loading.alone, refused.loading.log_level) == (True, 2)
    assert refused.expectation.messages == ("newer words",)
    older = expectation_for(refused, "6.12.107")
    assert (older.verdict, older.messages) == (Verdict.REJECTED, ("older words",))
    loads = expectation_for(refused, "6.18.15")
    assert (loads.verdict, loads.messages) == (Verdict.RAN, ())
    assert expectation_for(refused, "7.3.4") == refused.expectation
    assert (cases["runs"].expectation.retval, cases["runs"].hook) == (7, "test_run")


def test_a_case_can_be_repeated_by_what_a_report_says(place):
    case = _cases(place, ATTACHED, "ext")["watched"]
    words = shlex.split(replay(Result(case, "vm-7.3", Observation(Verdict.RAN))))
    assert words[:5] == [
        "bpfthrow", "run", str(place / "ext.bpf.o"), "--expect", str(place / "ext.expect.toml")
    ]  # fmt: skip
    assert case in select(collect([words[2]], [words[4]]), words[words.index("-k") + 1])


# ---- wrong files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("case = 1", "main.expect.toml:1: [case]: 1 is no table"),
        ("[case.entry", "not TOML"),
        ("colour = 1", "main.expect.toml:1: colour: unknown key\n  fix: known: object, left_out"),
        ("left_out = []", "no case"),
        ("[case.entry]\n\nretvall = 3", "main.expect.toml:3: [case.entry] retvall: unknown key"),
        ("[case.entry]\nretval = true", ":2: [case.entry] retval: True is no number"),
        ('[case.entry]\nretval = "many"', ":2: [case.entry] retval: 'many' is not an integer"),
        ('[default]\nhook = "tcp"\n[case.entry]', ":2: [default] hook: no hook 'tcp'"),
        ('[case.entry]\nhook = "xdp-native"', "cannot run on hook 'xdp-native'"),
        ('[case.entry]\ninput = "eth ipv5"', ":2: [case.entry] input: input 'default'"),
        ("[case.entry]\nretval = { x = 3 }", "retval=x=...: no input of that name"),
        ("[case.entry]\nglobal = { unseen = 3 }", "[case.entry]: global=unseen: no such variable"),
        ("[case.entry]\nsuccess = 1", "1: can only be true"),
        ("[case.entry]\nsuccess = true\nerrno = 3", ":1: [case.entry]: __errno says nothing of"),
        ('[case.entry]\non."6.13".errno = 3', ":2: [case.entry] on: unknown kernel series '6.13'"),
        ('[case.entry]\non."6.12".colour = 3', "6.12: unknown key 'colour'"),
        ('[case."a b"]', ":1: [case.a b]: no name of a case"),
        ("[case.away]", ":1: [case.away]: main.bpf.o has no program 'away'"),
        ('[case.x]\nprogram = "away"', ":2: [case.x] program: main.bpf.o has no program"),
        ('[case.x]\nobject = "away.bpf.o"', ":2: [case.x] object:"),
        ('[case.x]\nobject = "../a.bpf.o"', ":2: [case.x] object: is looked for beside"),
        ('[case.entry]\nwith = { target = "x" }', ":2: [case.entry] with:"),
        ('[case.entry]\nwith = "throws"', "'throws' in section 'tc' attaches to no function"),
        ('[case.leaves]\ntail_calls = { tab = ["entry"] }', "no prog array 'tab'"),
        ('[case.leaves]\ntail_calls.table = ["", "", "entry"]', "table has 2 slots"),
        ('[case.leaves]\ntail_calls.table = ["away"]', ":2: [case.leaves] tail_calls"),
        ("[case.entry]\nonly_if = { some = 1 }", ":2: [case.entry] only_if: main.bpf.o has"),
        ("[case.entry]", ":1: main.bpf.o: says nothing of throws, leaves"),
    ],
)
def test_a_wrong_file_is_told_where(place, text, complaint):
    assert complaint in _complaint(place, text)


def test_an_endless_file_is_none():
    with pytest.raises(UsageError, match="/dev/zero: larger than 8 MiB"):
        sidecar.read(Path("/dev/zero"))


def test_what_a_section_leaves_open_must_be_said(place):
    text = '[case.x]\nobject = "main.bpf.o"\nprogram = "entry"\nwith = "other"'
    said = _complaint(place, text, "ext")
    assert ":4: [case.x] with: section '?freplace' names nothing to attach to" in said


def test_every_word_is_in_the_page():
    page = (CHECKOUT / "docs" / "writing-cases.md").read_text()
    section = page.partition("## Objects that carry no tags")[2].partition("\n## ")[0]
    words = {*sidecar._OWN, *SPELLED, *sidecar._TOP} - {"case"}
    assert {word for word in words if f"`{word}" not in section} == set()
    assert "[case." in section


def test_the_sidecars_of_the_kernels_own_objects_are_well_formed():
    found = sorted((CHECKOUT / "tests" / "selftests").rglob("*" + sidecar.SUFFIX))
    assert len(found) == 5
    for path in found:
        assert len(sidecar.read(path).entries) >= 8


class Recording:
    """An agent that runs everything and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def request(self, op, timeout_s, **fields):
        self.asked.append((op, fields))
        return wire.to_json(Observation(Verdict.RAN)) if op == "run" else {"features": {}}


def test_the_object_of_a_companion_goes_to_the_machine_too(place):
    agent, pushed = Recording(), {}
    client = AgentClient(agent, pushed.update, "/run/objects", 1.0)
    client.remember({"freplace": ""})
    case = _cases(place, ATTACHED, "ext")["replaced"]
    client.run(case, Facts("7.3.4", "tcg", "1", "bpftool", expects_throw=True))
    _, asked = agent.asked[-1]
    (companion,) = asked["case"]["companions"]
    assert companion["object"] != asked["object"]
    assert pushed[companion["object"]] == (place / "ext.bpf.o").read_bytes()
    assert pushed[asked["object"]] == (place / "main.bpf.o").read_bytes()
    assert str(place) not in str(asked["case"]["companions"])


def test_a_result_is_kept_only_while_every_object_is_as_it_was(place):
    case = _cases(place, ATTACHED, "ext")["replaced"]
    before = Keys().of("vm:7.3", case)
    assert Keys().of("vm:7.3", case) == before
    with (place / "ext.bpf.o").open("ab") as file:
        file.write(b"\0")
    assert Keys().of("vm:7.3", case) != before
