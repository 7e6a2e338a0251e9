# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The matrix as data, as an HTML page and as Markdown."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from fake_target import case, ran

from harness.model import Difference, Observation, Result, Verdict
from harness.report import grid
from harness.report import outcome as outcomes  # pytest would collect a bare Tested
from harness.report.html import page
from harness.report.markdown import markdown
from harness.report.style import SYMBOLS

NASTY = "<script>alert(1)</script> & \"quotes\" 'too' \x00\udc80 | pipe `tick` </pre>"
WRONG = Difference("retvals[0]", "64", NASTY, "every run returns it", ("simulator", "kernel"))
KERNELS = ("vm-6.1", "vm-6.12", "vm-7.3")
HEADER = outcomes.RunHeader(
    (
        outcomes.Tested("vm-6.1", "6.1.0-50", "tcg", "1", expects_throw=False, seconds=61.0),
        outcomes.Tested("vm-6.12", "6.12.107", "tcg", "1", seconds=8.25),
    ),
    "clang version 19",
    90.0,
    "2026-11-23 01:10 UTC",
)


def row(target, wanted, seen=None, simulated=None, differences=(), again=None):
    simulated = simulated or ran(64, wire=("drop",))
    return Result(wanted, target, seen or ran(64, wire=("drop",)), simulated, differences, again)


def observed(verdict, **fields):
    return Observation(verdict, message=fields.pop("message", "why not"), **fields)


def results():
    """Every outcome, on three kernels."""
    plain = [case("throw/x/plain"), case("throw/x/plain", hook="tc-ingress"),
             case("throw/x/plain", hook="tc-egress")]  # fmt: skip
    found = [row(target, each) for target in KERNELS[1:] for each in plain]
    found += [row("vm-6.1", each, observed(Verdict.UNSUPPORTED)) for each in plain]
    bad = case("throw/y/bad")
    traced = replace(ran(64), trace="throw 64\n" + NASTY)
    found += [
        row("vm-6.12", bad, ran(65, kernel_log=NASTY), traced, (WRONG,)),
        row("vm-7.3", bad),
        row("vm-6.12", case("throw/y/dead"), observed(Verdict.CRASHED, message=NASTY)),
        row("vm-6.12", case("throw/y/stuck"), observed(Verdict.HUNG)),
        row("vm-7.3", case("throw/y/gone"), observed(Verdict.LOST, log="last words")),
        row("vm-7.3", case("throw/y/gone2"), observed(Verdict.LOST, log="last words")),
        row("vm-7.3", case("throw/y/odd"), ran(65), None, (WRONG,), row("vm-7.3", bad)),
    ]
    return found


def test_equal_hooks_share_a_row_and_failures_stand_alone():
    rows = grid.rows(results())
    assert [(r.case_id, r.hook_names()) for r in rows[:2]] == [
        ("throw/x/plain", "test_run"), ("throw/x/plain", "tc")
    ]  # fmt: skip
    assert [cell.text for cell in rows[1].cells] == ["drop", "drop", "unsupported"]
    assert len(rows[1].cells[0].results) == 2
    bad = next(r for r in rows if r.name == "bad")
    assert not bad.good
    assert bad.varies
    assert [cell.text for cell in bad.cells] == ["65", "64", grid.NOT_RUN]


@pytest.mark.parametrize(
    ("answers", "varies"),
    [
        ({"vm-6.12": ran(1), "vm-7.3": ran(2)}, True),
        ({"vm-6.12": ran(1), "vm-7.3": ran(1)}, False),
        ({"vm-6.12": ran(1), "vm-7.3": observed(Verdict.CRASHED)}, True),
        ({"vm-6.1": observed(Verdict.UNSUPPORTED), "vm-6.12": ran(1)}, False),
        ({"vm-6.12": ran(1), "vm-7.3": observed(Verdict.LOST)}, False),
    ],
)
def test_kernels_differ_where_their_answers_do(answers, varies):
    found = [Result(case("a/b"), target, seen, ran(1)) for target, seen in answers.items()]
    assert [each.varies for each in grid.rows(found)] == [varies]


class Read(HTMLParser):
    """What a browser would make of a page, as far as it is asked here."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.stack, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.stack[-1] if self.stack else "", data))

    def all(self, tag, **wanted):
        attributes = {key.rstrip("_"): value for key, value in wanted.items()}
        return [a for t, a in self.tags if t == tag and attributes.items() <= a.items()]


@pytest.fixture(scope="module")
def read():
    return Read(page(results(), HEADER))


def test_page_is_closed_and_needs_nothing_else(read):
    assert read.stack == []
    assert not read.all("link")
    assert not read.all("img")
    places = [a["href"] for a in read.all("a")]
    assert all(place.startswith("#") for place in places)
    assert "://" not in page(results(), HEADER)


def test_page_lets_only_its_own_script_run(read):
    scripts = [text for tag, text in read.texts if tag == "script"]
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    policy = read.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert not any(name.startswith("on") for _, attrs in read.tags for name in attrs)


def test_page_escapes_what_kernels_say(read):
    shown = NASTY.replace("\x00", "?").replace("\udc80", "?")
    assert any(shown in text for tag, text in read.texts if tag == "pre")
    assert any(shown.split(" |")[0] in text for tag, text in read.texts if tag == "td")
    page(results(), HEADER).encode("utf-8")


def test_page_links_each_failure_to_its_details(read):
    details = {block["id"] for block in read.all("details", class_="failure")}
    # one for the two losses with the same reason
    assert len(details) == 5
    assert {a["href"][1:] for a in read.all("a")} == details
    replays = [text for tag, text in read.texts if tag == "pre" and text.startswith("bpfthrow run")]
    assert len(replays) == 5


def test_page_says_each_outcome_with_a_sign_and_a_word(read):
    texts = [text for _, text in read.texts]
    assert set(SYMBOLS.values()) <= set(texts)
    assert len(set(SYMBOLS.values())) == len(outcomes.Outcome)
    assert {str(kind) for kind in outcomes.Outcome} <= set(texts)


def test_page_rows_can_be_filtered(read):
    rows = read.all("tr", class_="row")
    assert [row["data-kinds"] for row in rows] == [
        "unsupported", "unsupported", "bad varies", "bad", "bad", "bad", "bad", "bad",
    ]  # fmt: skip
    assert rows[1]["data-hooks"] == "tc-ingress tc-egress"
    assert "throw/x plain tc drop" in rows[1]["data-text"]
    assert {option["value"] for option in read.all("option")} == {
        "", "test_run", "tc-ingress", "tc-egress"
    }  # fmt: skip


def test_page_marks_where_the_answer_changes(read):
    turns = [cell for cell in read.all("td") if "turn" in cell.get("class", "").split()]
    assert len(turns) == 1
    assert "another answer than the kernel before" in turns[0]["title"]


def test_page_of_nothing():
    assert "nothing was tested" in page([], outcomes.RunHeader())


def test_markdown():
    text = markdown(results(), HEADER)
    assert text.startswith("## ✗ BPF exceptions\n")
    assert "| vm-6.12 | 6.12.107 | 3 | 1 |  | 1 | 1 |  |  | 8 s |" in text
    assert "| plain | tc | drop | ✓ drop | ✓ drop | · unsupported |" in text
    assert "| **✗ 65** |" in text
    assert "<details open><summary>throw/y: ✗ " in text
    # outside of code a kernel's words are no HTML
    outside = re.sub(r"^(`{3,})$.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert "<script>" not in outside
    assert "replay: bpfthrow run" in text
    text.encode("utf-8")


def test_markdown_fences_are_longer_than_what_they_hold():
    wrong = replace(WRONG, observed="````\ncode\n````")
    found = [row("vm-6.12", case("a/b/c"), ran(1), ran(64), (wrong,))]
    assert text_lines(markdown(found, HEADER)).count("`````") == 2


def text_lines(text):
    return text.splitlines()


def test_markdown_of_a_good_run_has_no_failures():
    text = markdown(results()[:3], HEADER)
    assert text.startswith("## ✓")
    assert "### Failures" not in text


def test_markdown_of_a_run_that_tested_too_little_is_no_good_run():
    lost = [*results()[:3], row("vm-7.3", case("throw/y/gone"), observed(Verdict.LOST))]
    assert markdown(lost, HEADER).startswith("## ? BPF")
    barren = [row("vm-7.3", case("throw/y/none"), observed(Verdict.UNSUPPORTED))]
    assert markdown(barren, HEADER).startswith("## ? BPF")
    assert markdown([], HEADER).startswith("## ? BPF")
