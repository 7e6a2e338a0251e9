# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every row of the table of instructions has vectors of each kind, or a reason why not."""

from pathlib import Path

import pytest
from conformance import coverage

from harness.bpf.opcodes import FORMS

DOCS = Path(__file__).parents[2] / "docs/conformance.md"


@pytest.mark.parametrize("form", coverage.rows(), ids=lambda form: f"{form.name}-{form.code:02x}")
def test_row_has_vectors(form):
    counts = coverage.found(form)
    missing = {kind for kind in coverage.required(form) if not counts[kind]}
    assert not missing


def test_every_excuse_is_needed():
    forms = {form.name: form for form in FORMS}
    assert set(coverage.EXCUSES) <= set(forms)
    for name, (kinds, why) in coverage.EXCUSES.items():
        counts = coverage.found(forms[name])
        assert why
        assert not [kind for kind in kinds if counts[kind]], f"{name} has what is excused"


def test_every_directory_is_a_row_or_about_all_of_them():
    others = {"arguments", "uninitialised", "unknown"}
    names = {path.name for path in coverage.VECTORS.iterdir()}
    assert names - others <= {form.name for form in FORMS}


def test_page_shows_this_table():
    page = DOCS.read_text(encoding="utf-8")
    assert coverage.table() in page
    assert f"{len(list(coverage.VECTORS.rglob('*.data')))} vectors" in page
