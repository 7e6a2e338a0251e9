# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/semantics.md shows what the tool prints: its commands are run again."""

import re
import shlex
from pathlib import Path

import pytest

from harness import cli

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```\n\$ bpfthrow ([^\n]*)\n(.*?)^```$",
    (ROOT / "docs/semantics.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


def shown(text):
    """A pattern that takes what was printed; `...` stands for anything."""
    return re.escape(text.rstrip("\n")).replace(r"\.\.\.", ".*")


@pytest.mark.parametrize(("command", "expected"), BLOCKS)
def test_commands_print_what_the_page_shows(command, expected, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    cli.main(shlex.split(command))
    printed = capsys.readouterr().out.rstrip("\n")
    assert re.fullmatch(shown(expected), printed, re.DOTALL), printed


def test_page_has_worked_examples():
    assert len(BLOCKS) >= 3
