# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Objects written in the tag style of the kernel's selftests, as cases."""

import dataclasses

import pytest

from harness import kerneltags, logmatch, wire
from harness.bpf.elf import read_object
from harness.build import build
from harness.compare import compare
from harness.errors import ObjectError, WorldError
from harness.model import Case, Loading, Observation, Result, Verdict
from harness.report.outcome import RunHeader, reasons
from harness.run import judge
from harness.suite import collect, select
from harness.target.agent import libbpf, loading
from harness.target.client import _as_claimed, _section, _unless_lacking
from tests.fake_target import FakeTarget

# as bpf_misc.h of 7.3 numbers its tags
_HEADER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#define STR(s) #s
#define XSTR(s) STR(s)
#define TAG(text) __attribute__((btf_decl_tag("comment:" XSTR(__COUNTER__) ":" text)))
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def cases_of(tmp_path):
    def compiled(programs: str) -> dict[str, Case]:
        source = tmp_path / "tests.bpf.c"
        source.write_text(_HEADER + programs)
        return {case.program: case for case in collect([source])}

    return compiled


def _one(cases_of, tags: str, section: str = "tc") -> Case:
    text = f'SEC("{section}") TAG("test_description=d") {tags} int one(void *ctx) {{ return 0; }}'
    return cases_of(text)["one"]


def test_a_program_is_loaded_alone_and_run_only_for_its_value(cases_of):
    cases = cases_of("""
    SEC("tc") TAG("test_expect_success") int loaded(void *ctx) { return 0; }
    SEC("tc") TAG("test_expect_success") TAG("test_retval=-2") int run(void *ctx) { return -2; }
    SEC("tc") int silent(void *ctx) { return 0; }
    """)
    assert {name: case.hook for name, case in cases.items()} == {
        "loaded": "load", "run": "test_run", "silent": "load"
    }  # fmt: skip
    assert all(case.loading == Loading(alone=True) for case in cases.values())
    assert all(case.expectation.verdict is Verdict.RAN for case in cases.values())
    assert cases["run"].expectation.retval == 0xFFFFFFFE
    assert cases["run"].input.packet == bytes(64)


def test_auxiliary_programs_are_loaded_beside_and_are_no_cases(cases_of):
    cases = cases_of("""
    SEC("tc") TAG("test_auxiliary") int beside(void *ctx) { return 0; }
    SEC("tc") TAG("test_expect_success") int one(void *ctx) { return 0; }
    """)
    assert list(cases) == ["one"]
    assert cases["one"].loading.beside == ("beside",)


def test_log_level_and_flags(cases_of):
    tags = (
        'TAG("test_log_level=2") TAG("test_prog_flags=BPF_F_TEST_STATE_FREQ")'
        'TAG("test_prog_flags=0x20") TAG("test_prog_flags=!BPF_F_XDP_HAS_FRAGS")'
    )
    case = _one(cases_of, tags)
    assert (case.loading.log_level, case.loading.flags) == (2, 8)
    assert wire.from_json(Case, wire.to_json(case)) == case


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ('TAG("test_frobnicate=7")', "tag test_frobnicate is not understood"),
        ('TAG("test_btf_path=x.bpf.o")', "tag test_btf_path is not understood"),
        ('TAG("test_arch=ARM64")', "for ARM64 only"),
        ('TAG("test_arch=ARM64") TAG("test_arch=X86_64")', ""),
        ('TAG("test_expect_failure_unpriv")', "it is to be loaded without privileges only"),
    ],
)
def test_what_cannot_be_tried_says_why(cases_of, tags, why):
    assert _one(cases_of, tags).unsupported == why


def test_a_value_of_what_cannot_be_run_is_unsupported(cases_of):
    for section in ("sock_ops", "fentry/bpf_fentry_test_ppvoid"):
        case = _one(cases_of, 'TAG("test_retval=1")', section)
        assert (case.hook, case.unsupported) == ("load", f"test runs of section {section!r}")
    case = _one(cases_of, 'TAG("test_retval=0")', "fentry/bpf_fentry_test1")
    assert (case.hook, case.unsupported) == ("test_run", "")


def test_a_case_that_cannot_be_tried_reaches_no_target(cases_of):
    case = _one(cases_of, 'TAG("test_frobnicate")')
    target = FakeTarget("fake", {})
    result = judge(case, target)
    assert result.observed.verdict is Verdict.UNSUPPORTED
    assert result.observed.message == "tag test_frobnicate is not understood"
    assert not target.log
    assert not result.agree


def test_the_runtime_is_probed(cases_of):
    assert "jit" in _one(cases_of, 'TAG("load_mode=jited")').needs
    assert "no-jit" in _one(cases_of, 'TAG("load_mode=no_jited")').needs


def test_claims_without_privileges_are_left_out_and_said_so(cases_of):
    case = _one(cases_of, 'TAG("test_expect_success") TAG("test_expect_failure_unpriv")')
    assert case.expectation.verdict is Verdict.RAN
    assert not case.unsupported
    seen = Result(case, "fake", Observation(Verdict.RAN))
    assert reasons([seen, seen], RunHeader())[-1] == (
        "tags: 1 left out: test_expect_failure_unpriv: programs are loaded with all privileges"
    )


def test_what_is_not_looked_at_does_not_keep_the_rest_from_being_tried(cases_of):
    tags = 'TAG("test_expect_xlated=0: exit") TAG("test_expect_xlated=...") TAG("test_retval=3")'
    case = _one(cases_of, tags)
    assert (case.hook, case.expectation.retval, case.unsupported) == ("test_run", 3, "")
    (why,) = case.left_out
    assert why.startswith("test_expect_xlated: ")
    seen = Result(case, "fake", Observation(Verdict.RAN))
    assert f"tags: 1 left out: {why}" in reasons([seen], RunHeader())


def test_where_any_pointer_would_do_the_program_runs(cases_of):
    case = _one(cases_of, 'TAG("test_retval=0xbadcafe")')
    assert (case.hook, case.expectation.retval, case.unsupported) == ("test_run", None, "")


def test_descriptions_select(cases_of):
    case = _one(cases_of, "")
    case = dataclasses.replace(case, description="Reads past the end")
    assert select([case], "past") == [case]


@pytest.mark.parametrize("tag", ["test_log_level=9", "test_retval=many", "load_mode=sometimes"])
def test_a_tag_that_is_wrong_is_named(cases_of, tag):
    with pytest.raises(ObjectError, match=f"program 'one': tag {tag}"):
        _one(cases_of, f'TAG("{tag}")')


@pytest.mark.parametrize(
    ("text", "value"),
    [("_INT_MIN", 1 << 31), ("(-EFAULT)", (1 << 32) - 14), ("0x5", 5), ("TEST_DATA_LEN", 64)],
)
def test_values_as_6_12_spells_them(text, value):
    claims = kerneltags.parse_kernel_tags((f"comment:test_retval={text}",), "x")
    assert claims.retval == value


def test_messages_of_6_12_carry_their_number():
    tags = ("comment:test_expect_msg=10=last", "comment:test_expect_msg=9=first")
    assert kerneltags.parse_kernel_tags(tags, "x").messages == ["first", "last"]
    # and those of 7.3 begin with a number of their own
    newer = ("comment:1:test_expect_msg=6=fp", "comment:0:test_expect_msg=0: exit")
    assert kerneltags.parse_kernel_tags(newer, "x").messages == ["0: exit", "6=fp"]


def test_only_what_the_kernels_header_writes_makes_the_style():
    ours = ("bpfthrow:success", "bpfthrow:msg=3=no", "exception_callback:cb", "comment:of mine")
    assert not kerneltags.is_style(ours)
    assert kerneltags.is_style((*ours, "comment:4:test_expect_success"))
    # 6.12's exceptions_fail has only these
    assert kerneltags.is_style(("comment:test_expect_failure",))
    assert kerneltags.is_style(("comment:test_expect_msg=3=no",))


def test_programs_that_attach_nowhere_are_unsupported(tmp_path):
    source = tmp_path / "ext.bpf.c"
    source.write_text(
        _HEADER
        + """
    SEC("?fexit") int nowhere(void *ctx) { return 0; }
    SEC("?fentry/bpf_check") int kernel(void *ctx) { return 0; }
    """
    )
    found = {case.program: (case.hook, case.unsupported) for case in collect([source])}
    assert found == {
        "nowhere": ("load", "section '?fexit' names nothing to attach to"),
        "kernel": ("load", ""),
    }


# ---- the log ------------------------------------------------------------------------------------

LOG = "0: one\n1: two\n2: three\n"


@pytest.mark.parametrize(
    ("before", "pattern", "found"),
    [
        (0, "one", True),
        (0, "two", False),  # is the message itself
        (0, "three", False),  # behind it
        (1, "one", False),
        (1, "three", True),
        (1, "{{t[a-z]+e}}", True),
        (1, "four", False),
    ],
)
def test_unwanted_lines_are_looked_for_between_their_neighbours(before, pattern, found):
    assert bool(logmatch.present([(before, pattern)], ["two"], LOG)) is found


def test_a_regular_expression_holds_for_each_line():
    assert not logmatch.missing(["{{^}}1: two{{$}}"], LOG)
    assert logmatch.missing(["{{^}}two{{$}}"], LOG) == (0,)


def test_the_log_of_what_loads_is_read(cases_of):
    tags = (
        'TAG("test_expect_success") TAG("test_log_level=2") TAG("test_expect_msg=two")'
        'TAG("test_expect_not_msg=three")'
    )
    case = _one(cases_of, tags)
    seen = compare(case, None, Observation(Verdict.RAN, log=LOG), "7.3.1")
    assert [(one.path, one.expected) for one in seen] == [("unwanted[0]", "no three")]
    seen = compare(case, None, Observation(Verdict.RAN, log="0: nothing\n"), "7.3.1")
    assert [one.path for one in seen] == ["messages[0]"]


# ---- the agent ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("extern (func ksym) 'testmod_do': not found in kernel or module BTFs", "testmod_do"),
        ("<missing kfunc 'testmod_do'>", "testmod_do"),
        ("prog 'x': failed to find kernel BTF type ID of 'testmod_read': -3", "testmod_read"),
        ("kfunc 'bpf_obj_new' is referenced but wasn't resolved", "bpf_obj_new"),
    ],
)
def test_what_only_a_module_of_the_tests_has_is_named(message, name):
    seen = _unless_lacking(Observation(Verdict.REJECTED, message="x", log=message))
    assert (seen.verdict, seen.message) == (Verdict.UNSUPPORTED, f"the kernel has no {name}")


def test_a_section_whose_name_the_kernel_cut_off_is_found(tmp_path):
    source = tmp_path / "long.bpf.c"
    source.write_text(
        _HEADER
        + """
    int counter SEC(".bss.LONG_ENOUGH_NAME");
    SEC("tc") int one(void *ctx) { return counter; }
    """
    )
    collect([source])
    obj = read_object(build([source])[0])
    assert _section(obj, ".bss.LONG_ENOUGH_NAME"[:15]) == ".bss.LONG_ENOUGH_NAME"
    assert _section(obj, ".bss.other") == ".bss.other"


def test_a_refusal_that_is_claimed_stays_one(cases_of):
    words = "kfunc 'bpf_x' is referenced but wasn't resolved"
    case = _one(cases_of, f'TAG("test_expect_failure") TAG("test_expect_msg={words}")')
    assert _as_claimed(case, Observation(Verdict.REJECTED, log=f"0: R1=ctx()\n{words}\n"))
    assert not _as_claimed(case, Observation(Verdict.REJECTED, log="another"))
    assert not _as_claimed(_one(cases_of, ""), Observation(Verdict.REJECTED, log=words))


def test_another_refusal_stays_one():
    seen = Observation(Verdict.REJECTED, message="R1 invalid mem access")
    assert _unless_lacking(seen) is seen


def test_a_log_is_asked_for_with_its_level_and_flags(cases_of):
    try:
        libbpf.library()
    except WorldError as error:
        pytest.skip(error.message)
    case = _one(cases_of, "")
    with libbpf.opened(case.object) as handle:
        (member,) = libbpf.members(handle)
        buffers = libbpf.ask_log(handle, ["one"], 2)
        libbpf.add_flags(handle, "one", 8)
        so = libbpf.library().so
        assert so.bpf_program__log_level(member.pointer) == 2
        assert so.bpf_program__flags(member.pointer) & 8
        assert list(buffers) == ["one"]
    assert read_object(case.object).programs[0].name == "one"


def test_a_refusal_has_the_verifiers_own_log():
    refusal = loading.Refusal("Invalid argument", 22, "libbpf: failed\n", "libbpf")
    full = loading._with_log(refusal, "0: R1=ctx() R10=fp0\nR1 invalid mem access 'scalar'\n")
    assert full.message == "R1 invalid mem access 'scalar'"
    assert full.log.startswith("0: R1=ctx()")
    assert full.errno == 22


@pytest.mark.parametrize(
    ("pattern", "line", "shows"),
    [
        ("dynptr as R1", "Expected an initialized dynptr as {{.*}}", True),
        ("invalid read from stack", "{{.*}}read from stack R3 off -16+0 size 16", True),
        ("invalid read from stack", "read from stack R3", False),
        ("off -31+0 size 8", "misaligned stack access off {{.*}} size 8", True),
        ("invalid access", "misaligned stack access off {{.*}} size 8", False),
        ("R{{[0-9]}} is a number", "R5 is a number", True),
        ("R{{[0-9]}} is a number", "R5 is a {{.*}}", True),
        ("R{{[0-9]}} is a number", "R5 is no number", False),
        ("one", "one", True),
        ("one", "on", False),
        ("", "anything", True),
        ("id=5", "a reference with id=7", True),  # ids differ from load to load
    ],
)
def test_two_patterns_may_stand_for_the_same_line(pattern, line, shows):
    assert logmatch.may_show(pattern, line) is shows
