# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which objects and cases a run takes; progs/, exceptions.h and the page on them are complete."""

import re
from collections import Counter, defaultdict

import pytest

from harness import frames
from harness import tags as tags_module
from harness.bpf.elf import read_object
from harness.build import CHECKOUT, PROGS, build
from harness.errors import UsageError
from harness.hooks import HOOKS
from harness.model import Verdict
from harness.series import SERIES
from harness.suite import APART, collect, select

# ---- paths and selection --------------------------------------------------------------------


def test_collect_takes_objects_sources_and_directories(tmp_path):
    source = PROGS / "throw" / "main.bpf.c"
    (built,) = build([source], tmp_path / "out")
    from_source, from_object = collect([source]), collect([built])
    ids = [case.id for case in from_source]
    assert ids == [case.id for case in from_object]
    assert ids == [case.id for case in collect([tmp_path / "out"])]
    assert ids[0] == "throw/main/always"
    assert collect([source, source]) == from_source


def test_what_takes_kernels_down_must_be_named(everything, tmp_path):
    assert not [case.id for case in everything if APART in case.id or case.crashes]
    named = {case.id: case for case in collect([PROGS / APART])}
    assert named["kernel-bugs/stale_callback/past_the_end"].crashes
    (built,) = build([PROGS / APART / "stale_callback.bpf.c"], tmp_path)
    assert built.parent.name == APART
    with pytest.raises(UsageError, match="no BPF programs"):
        collect([tmp_path])
    assert collect([built]) == collect([built.parent]) != []


@pytest.mark.parametrize("what", ["absent", "truncated", "empty directory"])
def test_what_is_no_object_is_refused(tmp_path, what):
    path = tmp_path / "thing.bpf.o"
    if what == "truncated":
        path.write_bytes(b"\x7fELF")
    elif what == "empty directory":
        path.mkdir()
    with pytest.raises(UsageError, match="thing"):
        collect([path])


def test_an_empty_path_is_not_this_directory():
    with pytest.raises(UsageError, match="an empty path"):
        collect([PROGS / "throw", ""])


@pytest.fixture(scope="module")
def everything():
    return collect()


def words_of(case):
    text = f"{case.id} {case.hook} {case.section}"
    return {text[a:b] for a in range(len(text)) for b in range(a, a + 4)}


@pytest.mark.parametrize(
    ("expr", "wanted"),
    [
        ("", lambda c: True),
        ("cookie", lambda c: "cookie" in c.id),
        ("COOKIE and not test_run", lambda c: "cookie" in c.id and c.hook != "test_run"),
        ("not (xdp or tc)", lambda c: not {"xdp", "tc"} & words_of(c)),
        ("parser_xdp/more:qinq", lambda c: c.id.startswith("packet/parser_xdp/more:qinq")),
        # a whole id is only that: it is what a replay asks for
        ("reject/cookies/map", lambda c: c.id == "reject/cookies/map"),
        (
            "Throw/Main/Always and test_run",
            lambda c: c.id == "throw/main/always" and c.hook == "test_run",
        ),
    ],
)
def test_selection_reads_like_pytests(everything, expr, wanted):
    chosen = select(everything, expr)
    assert chosen == [case for case in everything if wanted(case)]
    assert chosen


@pytest.mark.parametrize("expr", ["and", "a b", "(a", "a or", "not"])
def test_a_selection_that_is_none_is_refused(everything, expr):
    with pytest.raises(UsageError, match="-k"):
        select(everything, expr)


# ---- progs/ ---------------------------------------------------------------------------------


def test_every_program_of_progs_is_a_case_or_a_target(everything):
    by_object = defaultdict(set)
    everything = [*everything, *collect([PROGS / APART])]
    for case in everything:
        by_object[case.object].add(case.program)
        for companion in case.companions:
            by_object[companion.object or case.object].add(companion.program)
    for path in build([PROGS]):
        obj = read_object(path)
        targets = {p.name for p in obj.programs if "bpfthrow:target" in p.tags}
        assert by_object[str(path)] - targets == {p.name for p in obj.programs} - targets, path
        assert by_object[str(path)], path


def test_cases_are_unique_and_many(everything):
    assert max(Counter((case.id, case.hook) for case in everything).values()) == 1
    assert len({case.id for case in everything}) >= 80
    assert len({(case.object, case.program) for case in everything}) >= 110
    assert len({case.hook for case in everything}) == len(HOOKS)


def test_every_case_claims_something_that_can_fail(everything):
    for case in everything:
        expected = case.expectation
        assert expected.verdict is not None, case.id
        if expected.verdict is Verdict.RAN and case.hook != "load":
            assert expected.retval is not None or expected.globals, case.id


def test_who_must_be_refused_stands_alone(everything):
    """An object is loaded at once: one refused program would take its neighbours along."""
    for path, programs in _programs_by_object(everything).items():
        for series in SERIES:
            verdicts = {
                dict(case.per_series).get(series, case.expectation).verdict
                for case in programs
                if not case.section.startswith("?") and not case.companions
            }
            assert len(verdicts) <= 1, (path, series)


def _programs_by_object(cases):
    grouped = defaultdict(list)
    for case in cases:
        grouped[case.object].append(case)
    return grouped


def test_frames_of_tc_test_run_hold_a_whole_ip_header(everything):
    """Kernels refuse others since bpf_prog_test_run_skb() checks the header's length."""
    for case in everything:
        if case.hook == "test_run" and case.section.startswith(("tc", "cgroup_skb")):
            packet = case.input.packet
            assert packet is not None
            least = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(packet[12:14], 15)
            assert len(packet) >= least, case.id


# ---- exceptions.h ---------------------------------------------------------------------------

ASSERTIONS = """
#include "exceptions.h"
char LICENSE[] SEC("license") = "GPL";
SEC("syscall") __target int only_assertions({type} *ctx)
{{
	{type} x = *ctx;
	if (x == 3)
		bpf_assert_{name}(x, 7);
	else
		x = 5;
	return x;
}}
"""


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "gt", "le", "ge"])
@pytest.mark.parametrize("type_", ["__u8", "__s16", "__u32", "int", "long", "__u64"])
def test_assertions_compile_for_every_type_and_declare_the_kfunc(tmp_path, name, type_):
    """Alone in a file, the macros must still put bpf_throw's prototype into BTF."""
    source = tmp_path / "a.bpf.c"
    source.write_text(ASSERTIONS.format(name=name, type=type_))
    obj = read_object(build([source], tmp_path)[0])
    (extern,) = obj.externs
    assert (extern.name, extern.section, extern.is_function, extern.weak) == (
        "bpf_throw",
        ".ksyms",
        True,
        True,
    )


# ---- docs/writing-cases.md ------------------------------------------------------------------


@pytest.fixture(scope="module")
def page():
    return (CHECKOUT / "docs" / "writing-cases.md").read_text()


def test_the_page_shows_a_program_that_works(page, tmp_path):
    block = re.search(r"^ +```c\n(.*?)^ +```$", page, re.DOTALL | re.MULTILINE)
    assert block is not None
    source = tmp_path / "my.bpf.c"
    source.write_text(re.sub(r"^   ", "", block[1], flags=re.MULTILINE))
    made = collect([source])
    assert len(made) == 6
    assert {case.expectation.retval for case in made} == {1, 2}


def test_the_page_lists_every_tag_and_every_word(page):
    header = (PROGS / "exceptions.h").read_text()
    tags = set(re.findall(r"#define (__\w+)\b", header)) - {"__ksym", "__noinline", "__arg_ctx"}
    public = {tag for tag in tags if not tag.startswith("__bpfthrow")}
    assert {tag for tag in public if f"`{tag}" not in page} == set()
    assert {word for word in frames._WORDS if not re.search(rf"`{word}(=\w+)?`", page)} == set()
    assert {key for key in tags_module.KEYS if f":{key}" not in page} == set()
