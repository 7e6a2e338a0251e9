# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One progress display for all targets: on a terminal, and where there is none."""

import io
import os
import re

import pytest
from fake_target import case, ran

from harness.model import Difference, Observation, Result, Verdict
from harness.report.board import Board, Expected, Lines, display, remaining_s
from harness.report.style import PLAIN

EXPECTED = Expected({"vm:6.12": 10.0, "vm:7.3": 20.0, "vm:build:mine": None}, 4, 2)
WRONG = Difference("retvals[0]", "64", "65", "rule", ("simulator", "kernel"))


class Terminal(io.StringIO):
    """Keeps what a screen would show."""

    def isatty(self):
        return True

    def screen(self):
        lines = [""]
        for part in re.split(r"(\x1b\[\d*[FJ]|\n)", self.getvalue()):
            if part == "\n":
                lines.append("")
            elif part.endswith("F"):
                lines = [*lines[: len(lines) - 1 - int(part[2:-1])], ""]
            elif not part.endswith("J"):
                lines[-1] += part
        return lines[:-1]


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def board(stream, size=(70, 24), expected=EXPECTED):
    clock = Clock()
    made = Board(stream, expected, style=PLAIN, size=lambda: os.terminal_size(size), clock=clock)
    return made, clock


def result(number, verdict=Verdict.RAN, target="vm-6.12"):
    seen = ran(64) if verdict is Verdict.RAN else Observation(verdict, message="Oops")
    differences = (WRONG,) if verdict is Verdict.CRASHED else ()
    return Result(case(f"throw/x/n{number}"), target, seen, ran(64), differences)


def test_a_block_shows_every_target():
    stream = Terminal()
    shown, clock = board(stream)
    shown.note("4 cases on all of them")
    shown.begin("vm:6.12")
    shown.begin("vm:7.3")
    for number in range(2):
        clock.now += 1
        shown.result("vm:6.12", result(number))
    shown.tick()
    assert stream.screen() == [
        "# 4 cases on all of them",
        "6.12        ########........  2/4  2 agree, 0 differ  throw/x/n1 [tes",
        "7.3         ................  0/4  starts",
        "build:mine  ................  0/4  waits",
        "2/12 after 0:02",
    ]


def test_failures_scroll_by_above_the_block():
    stream = Terminal()
    shown, _ = board(stream)
    shown.begin("vm:6.12")
    shown.result("vm:6.12", result(0, Verdict.CRASHED))
    screen = stream.screen()
    assert screen[0].startswith("1 NO vm-6.12 throw/x/n0 test_run: kernel CRASHED")
    assert screen[1].startswith("6.12        ####............  1/4  0 agree, 0 differ, 1 crashed")
    assert len(screen) == 5


def test_the_end_of_a_target_and_what_is_left():
    stream = Terminal()
    shown, clock = board(stream, expected=Expected({"vm:6.12": 10.0, "vm:7.3": 20.0}, 4, 2))
    shown.begin("vm:6.12")
    for number in range(4):
        clock.now += 2
        shown.result("vm:6.12", result(number))
    shown.end("vm:6.12")
    assert stream.screen() == [
        "6.12  ################  4/4  4 agree, 0 differ, 8 s",
        "7.3   ................  0/4  waits",
        "4/8 after 0:08, about 0:20 left",
    ]
    shown.end("vm:7.3")
    assert stream.screen()[-1] == "4/8 after 0:08"
    shown.close()
    assert stream.screen() == []


def test_more_targets_than_lines():
    stream = Terminal()
    many = Expected({f"vm:{n}": None for n in range(30)}, 4, 2)
    shown, _ = board(stream, (60, 8), many)
    shown.begin("vm:17")
    screen = stream.screen()
    assert len(screen) == 6
    assert any(line.startswith("17") for line in screen)
    assert screen[-1] == "0/120 after 0:00; 25 more targets"
    assert all(len(line) < 60 for line in screen)


def test_many_results_are_not_many_drawings():
    stream = Terminal()
    shown, _ = board(stream)
    for number in range(1000):
        shown.result("vm:6.12", result(number))
    assert stream.getvalue().count("\x1b[J") <= 1


def test_without_a_terminal_a_line_for_each_case_and_for_the_end_of_a_target():
    stream = io.StringIO()
    shown = display(stream, Expected({"vm:6.12": None, "vm:7.3": None}, 1, 2))
    assert isinstance(shown, Lines)
    shown.begin("vm:6.12")
    shown.result("vm:6.12", result(0))
    shown.end("vm:6.12")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("1/2 ok vm-6.12 throw/x/n0 test_run: kernel 64") or "✓" in lines[0]
    assert lines[1] == "# 6.12 has ended: 1 agree, 0 differ, 0 s"
    assert "\x1b" not in stream.getvalue()


def test_quiet_is_quiet():
    stream = io.StringIO()
    shown = display(stream, Expected({"vm:6.12": None, "vm:7.3": None}, 1, 2), quiet=True)
    shown.begin("vm:6.12")
    shown.result("vm:6.12", result(0))
    shown.end("vm:6.12")
    shown.close()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("terminal", "kind"), [("xterm", Board), ("dumb", Lines)])
def test_a_terminal_that_can_move_its_cursor_gets_the_block(monkeypatch, terminal, kind):
    monkeypatch.setenv("TERM", terminal)
    assert isinstance(display(Terminal(), EXPECTED), kind)


@pytest.mark.parametrize(
    ("left", "at_once", "seconds"),
    [([10, 20, 30], 2, 30), ([10, 10, 10, 10], 2, 20), ([50, 1], 2, 50), ([5, None], 2, None)],
)
def test_remaining(left, at_once, seconds):
    assert remaining_s(dict(enumerate(left)), at_once) == seconds
