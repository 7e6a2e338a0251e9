# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/rejections.md is what the sources of progs/reject say."""

import re

import pytest

from harness import rejections
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
    rows = set(re.findall(r"^\| `(\w+)` \|", rejections.page(cases), re.MULTILINE))
    refused = {case.program for case in cases if case.expectation.verdict is Verdict.REJECTED}
    assert len(refused) > 120
    assert refused <= rows


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
    assert rejections._rule(text).name == name


def test_a_message_of_no_rule_has_none():
    assert rejections._rule("sleep") is None


def test_c_of_a_program_ends_with_its_brace():
    text = "/* c */\n\nSEC\nint f(int x)\n{\n\treturn 1;\n}\n\nint g(void)\n{\n}\n"
    assert rejections._c_of(text, "f") == "SEC\nint f(int x)\n{\n        return 1;\n}"
    assert rejections._c_of(text, "h") == ""
