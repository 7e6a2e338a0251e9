# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The targets of `make fuzz-parsers`: what was found stays fixed, and some new bytes each time."""

from pathlib import Path

import pytest
from fuzz import targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FOUND = Path(__file__).resolve().parents[1] / "data/fuzz"
EDGES = (0, 1, 0x10, 0x7F, 0x80, 0x85, 0x95, 0xFF)
# the other targets have hypothesis tests of their own beside what they test
DRAWN = ("btfext", "core", "instructions", "program", "packet")


def test_what_was_found_stays_fixed():
    for path in sorted(FOUND.glob("*/*")):
        try:
            targets.check(path.parent.name, path.read_bytes())
        except BaseException as error:
            error.add_note(f"input: {path}")
            raise


@pytest.mark.parametrize("name", targets.TARGETS)
def test_seeds_are_good(name):
    seeds = targets.TARGETS[name][1]()
    assert seeds
    for seed in seeds[:: len(seeds) // 30 + 1]:
        assert len(seed) <= targets.MOST_BYTES
        targets.check(name, seed)


def test_an_error_that_is_not_ours_is_found(monkeypatch):
    def broken(_data):
        raise IndexError

    monkeypatch.setitem(targets.TARGETS, "broken", (broken, list))
    with pytest.raises(IndexError):
        targets.check("broken", b"")


@pytest.mark.parametrize("name", DRAWN)
@settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_changed_bytes_are_an_error_of_ours_or_none(name, data):
    content = bytearray(data.draw(st.sampled_from(_seeds(name))))
    for _ in range(data.draw(st.integers(0, 5))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.one_of(st.sampled_from(EDGES), st.integers(0, 255)))
    targets.check(name, bytes(content[: data.draw(st.integers(1, len(content)))]))


_KNOWN = {}


def _seeds(name):
    if name not in _KNOWN:
        _KNOWN[name] = [seed for seed in targets.TARGETS[name][1]() if seed]
    return _KNOWN[name]
