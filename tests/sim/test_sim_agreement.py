# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""All engines agree: on generated programs, and on every case of progs/."""

import functools
import os
import random

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from sim import agreement, programs

from harness import suite
from harness.errors import ObjectError
from harness.sim import alu, run
from harness.sim.engines import expressions
from harness.sim.trace import Trace

_PROFILE = "7.3"
_SEED = int(os.environ.get("BPFTHROW_SEED", "1"))
_BATCH = 15


def _compare(choose, *, faulty):
    program = programs.generate(choose, faulty=faulty)
    return agreement.agree(lambda: programs.machine(program), programs.run)


@pytest.mark.parametrize("faulty", [False, True])
@pytest.mark.parametrize("batch", range(4))
def test_engines_agree_on_seeded_programs(batch, faulty):
    kinds = set()
    first = (_SEED * 1000 + batch) * _BATCH
    for seed in range(first, first + _BATCH):
        try:
            seen, ran = _compare(random.Random(seed).randrange, faulty=faulty)
        except AssertionError as error:
            pytest.fail(f"random.Random({seed}).randrange, faulty={faulty}: {error}")
        kinds.add(seen.kind)
        if not faulty and seen.kind == "ran":
            assert ran["source"] == "source"
    assert "ran" in kinds
    assert not faulty or "Fault" in kinds


@settings(max_examples=25, deadline=None, database=None)
@given(st.data(), st.booleans())
def test_engines_agree_on_drawn_programs(data, faulty):
    drawn = []

    def choose(count):
        drawn.append(data.draw(st.integers(0, count - 1)))
        return drawn[-1]

    program = programs.generate(choose, faulty=faulty)
    note(f"drawn: {drawn}")
    agreement.agree(lambda: programs.machine(program), programs.run)


def _ends(case):
    """A function that runs a case on a machine, and one that makes the machine."""

    def make():
        return run.machine_for(case, _PROFILE, Trace(), run.DEFAULT_BUDGET)

    def go(machine):
        run.check_allowed(machine, case)
        return run._run_all(machine, case)

    return make, go


@functools.cache
def _cases():
    seen = {}
    for case in suite.collect():
        key = (case.object, case.program, case.hook, case.input, case.repeat, case.companions)
        seen.setdefault(key, case)
    return list(seen.values())


_PARTS = 12


@pytest.mark.parametrize("part", range(_PARTS))
def test_engines_agree_on_every_case(part):
    compared = 0
    for case in _cases()[part::_PARTS]:
        make, go = _ends(case)
        try:
            agreement.agree(make, _but_refusals(go))
        except AssertionError as error:
            pytest.fail(f"{case.id} on {case.hook}: {error}")
        compared += 1
    assert compared


def _but_refusals(go):
    """A program that the profile's kernel does not let throw is refused before any engine."""

    def run_it(machine):
        try:
            return go(machine)
        except run.NotAllowed as refusal:
            raise ObjectError(str(refusal)) from refusal

    return run_it


_NUMBERS = [0, 1, 2, 31, 32, 63, 64, 1 << 31, (1 << 31) - 1, alu.M32, 1 << 32, 1 << 63, alu.M64]


@pytest.mark.parametrize("bits", [64, 32])
def test_expressions_mean_what_the_tables_mean(bits):
    texts = (expressions.ALU64, expressions.ALU32)[bits == 32]
    table, mask = (alu.ALU64, alu.ALU32)[bits == 32], (1 << bits) - 1
    for name, text in texts.items():
        for a in _NUMBERS:
            for b in _NUMBERS:
                seen = eval(text.format(a="a", b="b"), dict(expressions.NAMES), {"a": a, "b": b})
                assert seen == table[name](a & mask, b & mask) & mask, (name, a, b)


@pytest.mark.parametrize("bits", [64, 32])
def test_conditions_mean_what_the_tables_mean(bits):
    texts = (expressions.JUMP64, expressions.JUMP32)[bits == 32]
    table, mask = (alu.COMPARE64, alu.COMPARE32)[bits == 32], (1 << bits) - 1
    for name, text in texts.items():
        for a in _NUMBERS:
            for b in _NUMBERS:
                seen = eval(text.format(a="a", b="b"), dict(expressions.NAMES), {"a": a, "b": b})
                assert bool(seen) == table[name](a & mask, b & mask), (name, a, b)


@pytest.mark.parametrize("name", [*expressions.ALU64, *expressions.JUMP64])
@pytest.mark.parametrize(("a", "b"), [(None, 0), (0, None), (None, None)])
def test_an_empty_operand_is_a_type_error(name, a, b):
    text = {**expressions.ALU64, **expressions.JUMP64}[name]
    if name == "mov" and b is not None:
        return
    with pytest.raises(TypeError):
        eval(text.format(a="a", b="b"), dict(expressions.NAMES), {"a": a, "b": b})
