# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Slots of prog arrays that are filled while a case runs; the kernel is played by a table."""

import pytest

from harness.errors import UsageError
from harness.model import TailCall
from harness.target.agent import slots, syscall
from harness.target.agent.loading import Program
from harness.target.agent.verifierlog import Refusal

REFUSED = Refusal("no", 22, "no\n", "libbpf")


def _program(name, fd, **maps):
    return Program(name, fd, 3, fd, f"/pins/{name}", "libbpf", (), maps)


@pytest.fixture
def held(monkeypatch):
    """(descriptor of the map, slot) -> descriptor of the program in it."""
    table = {}

    def update(fd, key, value):
        table[fd, int.from_bytes(key, "little")] = int.from_bytes(value, "little")

    monkeypatch.setattr(syscall, "map_update", update)
    monkeypatch.setattr(
        syscall, "map_delete", lambda fd, key: table.pop((fd, int.from_bytes(key, "little")))
    )
    return table


def test_slots_are_filled_and_emptied(held):
    main = _program("main", 5, next_one=70, table=71)
    others = {"a": _program("a", 8), "b": _program("b", 9)}
    wanted = (TailCall("table", 1, "a"), TailCall("table", 300, "b"), TailCall("next.one", 0, "a"))
    with slots.filled(main, wanted, others.__getitem__) as refusal:
        assert refusal is None
        assert held == {(71, 1): 8, (71, 300): 9, (70, 0): 8}
    assert held == {}


def test_a_program_that_is_refused_is_told_and_nothing_stays(held):
    main = _program("main", 5, table=71)
    loads = {"a": _program("a", 8), "b": REFUSED}
    wanted = (TailCall("table", 0, "a"), TailCall("table", 1, "b"))
    with slots.filled(main, wanted, loads.__getitem__) as refusal:
        assert refusal is REFUSED
    assert held == {}


def test_slots_are_emptied_after_an_error(held):
    main = _program("main", 5, table=71)

    def run():
        with slots.filled(main, (TailCall("table", 0, "a"),), lambda _: _program("a", 8)):
            assert held
            raise OSError

    with pytest.raises(OSError):
        run()
    assert held == {}


def test_a_map_that_was_not_loaded_is_named():
    missing = slots.filled(_program("main", 5), (TailCall("table", 0, "a"),), lambda _: REFUSED)
    with pytest.raises(UsageError, match="'main' was loaded without a map 'table'"), missing:
        pass
