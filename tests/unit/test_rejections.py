# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/rejections.md is what the sources of progs/reject say."""

import re

import pytest

from harness import rejections, rejections_c
from harness.build import CHECKOUT, PROGS
from harness.model import Verdict
from harness.suite import collect

PAGE = CHECKOUT / "docs" / "rejections.md"


@pytest.fixture(scope="module")
def cases():
    return collect([PROGS / "reject"])


def test_page_is_current(cases):
    # make docs writes it
    assert PAGE.read_text(encoding="utf-8") == rejections.page(cases)


def test_every_refused_program_is_on_the_page(cases):
    rows = set(
        re.findall(r"^\| \[(\w+)\]\(\.\./progs/reject/(\S+)\)", PAGE.read_text(), re.MULTILINE)
    )
    refused = {(case.program, source_of(case)) for case in cases if rejections._entry(case).refused}
    assert len(refused) > 200
    assert refused == rows


def source_of(case):
    return rejections._entry(case).source.name


def test_every_message_has_a_rule(cases):
    claims = [claim for case in cases for claim in rejections._entry(case).claims]
    said = {rejections.plain(text) for claim in claims for text in claim.messages}
    assert len(said) > 60
    assert [text for text in sorted(said) if rejections.rule_of_claim(text) is None] == []


def test_every_link_on_the_page_leads_somewhere():
    text = PAGE.read_text()
    places = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    links = set(re.findall(r"\]\(#([^)]*)\)", text))
    assert len(links) > 30
    assert links <= places
    files = set(re.findall(r"\]\(((?:\.\./)?[\w./-]+)\)", text))
    assert [name for name in sorted(files) if not (PAGE.parent / name).is_file()] == []


def test_beside_what_is_refused_something_loads(cases):
    loads = [case for case in cases if case.expectation.verdict is not Verdict.REJECTED]
    assert len(loads) > 100


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Unreleased reference", "reference-held"),
        ("insn N cannot call exception cb directly", "callback-called"),
        ("should have been in [0, 1]", "value-out-of-range"),
        ("cannot be used inside bpf_rcu_read_lock-ed region", "rcu-held"),
    ],
)
def test_a_message_has_its_rule(text, name):
    assert rejections.rule_of_claim(text).name == name


def test_a_message_of_no_rule_has_none():
    assert rejections.rule_of_claim("sleep") is None


SOURCE = """\
/* What this is about. And more. */

static int below(int x)
{
\treturn x;
}

/* As it is. */
REFUSED(22, "no")
__exception_cb(callback)
int first(int x)
{
\treturn below(x);
}

#define MADE(kind, name) int name(void)
MADE(other, second)

int callback(int x)
{
\treturn 2;
}
"""


def test_c_of_a_program_has_what_it_calls_and_no_claims():
    assert rejections_c.excerpt(SOURCE, "first", "?tc") == (
        "static int below(int x)\n{\n        return x;\n}\n\n"
        "int callback(int x)\n{\n        return 2;\n}\n\n"
        'SEC("tc")\n__exception_cb(callback)\nint first(int x)\n{\n        return below(x);\n}'
    )


def test_a_program_that_a_macro_writes_has_no_c():
    assert rejections_c.excerpt(SOURCE, "second", "?tc") == ""


@pytest.mark.parametrize(
    ("program", "words"),
    [("first", "As it is"), ("second", ""), ("refused", "What this is about")],
)
def test_what_a_program_is(program, words):
    assert rejections_c.what_it_is(SOURCE, program) == words
