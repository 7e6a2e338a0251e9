# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Declaration tags become cases; wrong tags become one clear message."""

import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.build import build
from harness.errors import Exit, ObjectError, UsageError
from harness.frames import DEFAULT_FRAME, parse_input
from harness.hooks import HOOKS
from harness.model import Companion, Expectation, Verdict
from harness.suite import cases_of, collect
from harness.tags import parse_integer, parse_tags

PROGRAM = """
#include "exceptions.h"
__u8 counter;
__s64 wide;
{before}
SEC("{section}") {tags}
int main_program(void *ctx)
{{
	bpf_throw(1);
	return 0;
}}
SEC("tc") __target
int target(struct __sk_buff *skb)
{{
	return 0;
}}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def cases(tmp_path):
    """Compile one program with these tags and return its cases."""

    def compiled(tags, section="tc", before=""):
        source = tmp_path / "topic" / "stem.bpf.c"
        source.parent.mkdir(exist_ok=True)
        source.write_text(PROGRAM.format(tags=tags, section=section, before=before))
        return cases_of(build([source], tmp_path / "out")[0])

    return compiled


# ---- what tags say --------------------------------------------------------------------------


def test_a_program_without_tags_runs_on_every_hook_of_its_type(cases):
    made = cases("")
    assert [case.hook for case in made] == [
        "test_run",
        *(hook.name for hook in HOOKS.values() if hook.prog_type == "tc"),
    ]
    assert {case.id for case in made} == {"topic/stem/main_program"}
    assert {case.input for case in made} == {parse_input(DEFAULT_FRAME)}
    assert {case.expectation for case in made} == {Expectation()}
    assert made[0].needs == ("throw",)
    assert made[1].needs == ("throw", "clsact")


def test_targets_are_no_cases(cases):
    assert {case.program for case in cases("")} == {"main_program"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("64", 64), ("-1", 0xFFFFFFFF), ("0x100000005ULL", 5), ("XDP_DROP", 1), ("(1 << 4) | 2", 18)],
)
def test_return_values_are_32_bits_of_a_c_expression(cases, value, expected):
    (case,) = cases(f'__retval({value}) __hook("test_run")')
    assert case.expectation == Expectation(Verdict.RAN, retval=expected)


def test_inputs_keep_their_order_and_have_values_of_their_own(cases):
    made = cases(
        '__hook("test_run") __retval(1) __input(zulu, "hex=0102") __input(alpha, "eth ipv4 udp") '
        "__retval_of(alpha, 2)"
    )
    assert [(case.id, case.expectation.retval) for case in made] == [
        ("topic/stem/main_program:zulu", 1),
        ("topic/stem/main_program:alpha", 2),
    ]
    assert made[0].input.packet == b"\1\2"


def test_failure_has_messages_in_order_and_is_tried_on_one_hook(cases):
    (case,) = cases('__failure __errno(13) __msg("first") __msg("second {{[0-9]+}}")')
    expected = Expectation(Verdict.REJECTED, messages=("first", "second {{[0-9]+}}"), errno=13)
    assert (case.hook, case.expectation) == ("test_run", expected)


def test_a_series_may_differ(cases):
    (case,) = cases(
        '__success __retval(9) __hook("test_run") __on("6.12,6.18", "failure") '
        '__on("6.12,6.18", "errno=7") __on("6.18", "msg=1=too deep") __on("7.3", "retval=-1")'
    )
    assert case.expectation == Expectation(Verdict.RAN, retval=9)
    assert dict(case.per_series) == {
        "6.12": Expectation(Verdict.REJECTED, errno=7),
        "6.18": Expectation(Verdict.REJECTED, errno=7, messages=("too deep",)),
        "7.3": Expectation(Verdict.RAN, retval=0xFFFFFFFF),
    }


def test_a_series_words_its_refusal_in_its_own_way(cases):
    (case,) = cases(
        '__failure __errno(22) __msg("old words") '
        '__on("7.3", "msg=1=new") __on("7.3", "msg=2=words")'
    )
    assert case.expectation.messages == ("old words",)
    assert dict(case.per_series) == {
        "7.3": Expectation(Verdict.REJECTED, errno=22, messages=("new", "words"))
    }


def test_a_series_may_be_the_one_that_works(cases):
    (case,) = cases('__failure __msg("no") __retval(4) __on("7.3", "success")')
    assert case.expectation == Expectation(Verdict.REJECTED, messages=("no",))
    assert dict(case.per_series) == {"7.3": Expectation(Verdict.RAN, retval=4)}


def test_a_series_may_be_the_one_that_refuses(cases):
    """Claims of a refusal beside __success belong to the series that refuses."""
    (case,) = cases(
        '__success __retval(4) __hook("test_run") __msg("no") __errno(13) '
        '__on("6.12", "failure") __on("6.18", "msg=1=never")'
    )
    assert case.expectation == Expectation(Verdict.RAN, retval=4)
    assert dict(case.per_series) == {
        "6.12": Expectation(Verdict.REJECTED, messages=("no",), errno=13),
        "6.18": Expectation(Verdict.REJECTED, messages=("never",), errno=13),
    }


def test_a_tracing_program_of_a_kernel_test_function_may_ask_for_its_test_run(cases):
    (case,) = cases('__hook("test_run") __global_is(counter, 1)', "fexit/bpf_fentry_test2")
    assert (case.hook, case.input.packet) == ("test_run", None)
    with pytest.raises(ObjectError, match="cannot run on hook 'test_run'"):
        cases('__hook("test_run")', "fentry/do_exit")


def test_globals_take_the_width_of_the_variable(cases):
    (case,) = cases('__global_is(counter, -1) __global_is(wide, -2) __hook("test_run")')
    assert case.expectation.verdict is Verdict.RAN
    assert dict(case.expectation.globals) == {"counter": 0xFF, "wide": 0xFFFFFFFFFFFFFFFE}


def test_companions_bring_their_needs(cases):
    before = """
    __noinline int replaced(int x) { barrier_var(x); return x; }
    SEC("?freplace/replaced") __target int ext(int x) { return x; }
    SEC("?fentry/replaced") __target int watch(__u64 *ctx) { return 0; }
    """
    (case,) = cases('__with(ext) __with(watch) __needs("clock") __hook("test_run")', before=before)
    assert set(case.companions) == {
        Companion("ext", "freplace", "replaced"),
        Companion("watch", "fentry", "replaced"),
    }
    assert set(case.needs) == {"throw", "freplace", "fentry", "clock"}


def test_tracers_are_features_of_the_machine(cases):
    (case,) = cases(
        '__hook("test_run") __traced("kretprobe:bpf_throw") __traced("function_graph:bpf_throw")'
    )
    assert case.traced == ("kretprobe:bpf_throw", "function_graph:bpf_throw")
    assert case.needs == ("throw", "kretprobe", "function_graph")


def test_repeat_and_crashes(cases):
    (case,) = cases('__repeat(5) __crashes("bug B") __hook("test_run")')
    assert (case.repeat, case.crashes) == (5, "bug B")


@pytest.mark.parametrize(
    ("section", "hooks"),
    [
        ("xdp", ["test_run", "xdp-generic", "xdp-native"]),
        ("?tc", ["test_run", "tc-ingress", "tc-egress", "tcx-ingress", "tcx-egress"]),
        ("tcx/egress", ["test_run", "tcx-egress"]),
        ("syscall", ["test_run"]),
        ("raw_tp", ["test_run"]),
        ("cgroup_skb/ingress", ["test_run"]),
        ("sockops", ["load"]),
        ("kprobe/do_exit", ["load"]),
        ("fentry/bpf_fentry_test1", ["load"]),
    ],
)
def test_hooks_follow_from_the_section(cases, section, hooks):
    assert [case.hook for case in cases("", section)] == hooks


def test_a_program_that_does_not_throw_needs_no_throw(tmp_path):
    source = tmp_path / "calm.bpf.c"
    source.write_text(
        '#include "exceptions.h"\nSEC("xdp") int calm(void *ctx) { return 2; }\n'
        'SEC("?xdp") int wild(void *ctx) { bpf_throw(2); return 0; }\n'
        'char LICENSE[] SEC("license") = "GPL";\n'
    )
    needs = {case.program: case.needs for case in collect([source]) if case.hook == "test_run"}
    assert needs == {"calm": (), "wild": ("throw",)}


def test_messages_come_in_the_order_of_the_source_and_other_tags_are_left_alone():
    tags = ("bpfthrow:msg=10=last", "comment:test_expect_msg=1=no", "bpfthrow:msg=9=first", "x:y")
    assert parse_tags(tags, "x").messages == ["first", "last"]


# ---- wrong tags -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "complaint"),
    [
        ('__bpfthrow_tag("bpfthrow:colour=red")', "unknown tag 'bpfthrow:colour=red'.*known after"),
        ("__retval(sixty)", "'sixty' is not an integer expression"),
        ("__success __failure", "both success and failure"),
        ('__input(a, "eth ipv5")', "unknown word 'ipv5'.*words:"),
        ('__input(a, "eth") __input(a, "eth")', "a second input called 'a'"),
        ("__retval_of(other, 1)", "no input of that name.*inputs: default"),
        ("__global_is(nobody, 1)", "nobody: no such variable.*globals: counter, wide"),
        ("__global_is(counter, 256)", "needs over 8 bits"),
        ('__hook("xpd")', "xpd: no such hook.*hooks: test_run"),
        ('__input(a, "eth payload=1600")', "1614 bytes do not go over.*15 to 1518 do"),
        ('__hook("tc-ingress") __input(a, "eth")', "14 bytes do not go over.*tc-ingress"),
        ('__hook("xdp-native")', "cannot run on hook 'xdp-native'.*section 'tc' runs on"),
        ("__repeat(0)", "between 1 and 10000"),
        ('__traced("kprobe:bpf_throw")', "kretprobe:FUNCTION or function_graph:FUNCTION"),
        ('__traced("kretprobe")', "should read kretprobe:FUNCTION"),
        ('__traced("kretprobe:a b")', "should read kretprobe:FUNCTION"),
        ("__with(nobody)", "with=nobody: no such program.*main_program"),
        ("__with(target)", "companion 'target' is in section 'tc'.*freplace/FUNCTION"),
        ('__on("6.13", "success")', "unknown kernel series '6.13'; known: 6.12, 6.18, 7.3"),
        ('__on("6.12", "maybe")', "WHAT is success, failure"),
        ('__on("6.12", "retval=x")', "'x' is not an integer expression"),
        ('__failure __msg("{{[}}")', "no regular expression: unterminated character set"),
        ('__on("6.12", "msg=1={{(}}")', "no regular expression: missing \\)"),
        ('__success __msg("no") __errno(13)', "__msg says nothing of a program that runs"),
        ('__success __errno(13) __on("7.3", "retval=1")', "__errno says nothing"),
        ("__failure __retval(5)", "__retval says nothing of a program that is refused"),
        ('__failure __retval(5) __on("7.3", "errno=7")', "__retval says nothing"),
        ("__failure __retval_of(default, 5)", "__retval_of.default. says nothing"),
        ("__errno(13) __global_is(counter, 1)", "__global_is.counter. says nothing"),
    ],
)
def test_a_wrong_tag_is_named_with_object_and_program(cases, tags, complaint):
    with pytest.raises(ObjectError, match=re.compile(complaint, re.DOTALL)) as caught:
        cases(tags)
    assert "stem.bpf.o: program 'main_program'" in str(caught.value)
    assert caught.value.exit_code is Exit.USAGE


def test_a_companion_that_is_not_marked_is_refused(cases):
    before = '__noinline int f(int x) { return x; } SEC("?freplace/f") int e(int x) { return x; }'
    with pytest.raises(ObjectError, match="freplace programs do not run by themselves"):
        cases("", before=before)


@given(st.integers(-(2**63), 2**64 - 1))
def test_integers_read_as_c_writes_them(value):
    spellings = [str(value), hex(value), f"({value})", f"{value} + 0", f"{value}LL", f"{value}ULL"]
    assert {parse_integer(text) for text in spellings} == {value}


@pytest.mark.parametrize(
    "text", ["", "a", "1.5", "'x'", "1 if 1 else 2", "f(1)", "__import__", "True"]
)
def test_nothing_but_integers_is_evaluated(text):
    with pytest.raises(ValueError, match="not an integer expression"):
        parse_integer(text)


def test_two_objects_with_cases_of_one_name_are_refused(cases, tmp_path):
    path = Path(cases("")[0].object)
    places = [tmp_path / name / "topic" / path.name for name in ("first", "second")]
    for place in places:
        place.parent.mkdir(parents=True)
        shutil.copy(path, place)
    with pytest.raises(UsageError, match="two cases are called topic/stem/main_program") as caught:
        collect(places)
    assert "second" in caught.value.message
