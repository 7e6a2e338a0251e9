# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/instructions.md is what the table says."""

from harness.bpf import opcodes
from harness.bpf.page import page
from harness.build import CHECKOUT


def test_page_is_up_to_date():
    """`python -m harness.bpf.page > docs/instructions.md` makes it again."""
    assert (CHECKOUT / "docs/instructions.md").read_text() == page()


def test_every_form_has_its_row():
    rows = [line for line in page().splitlines() if line.startswith("| 0x")]
    assert len(rows) == len(opcodes.FORMS)
    assert {line.count(" | ") for line in rows} == {8}
