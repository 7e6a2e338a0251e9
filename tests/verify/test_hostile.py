# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that nobody would write: always an answer, never an exception of Python's."""

import pytest
from bpf_insns import instructions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.bpf import isa, opcodes, writeelf
from harness.bpf.elf import read_object
from harness.bpf.isa import Insn
from harness.bpf.program import LinkedFunction, Program
from harness.errors import BpfthrowError
from harness.series import SERIES
from harness.verify.predict import predict
from harness.verify.prediction import Prediction, Verdict

KERNELS = [form for form in opcodes.FORMS if form.since != opcodes.INTERNAL]
CLOSE = settings(
    max_examples=300, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
BUDGET = 2000
START = (Insn(0xB7, 0, 0, 0, 0), *(Insn(0xBF, n, 1, 0, 0) for n in range(6, 9)))
END = (Insn(0xB7, 0, 0, 0, 0), Insn(isa.EXIT, 0, 0, 0, 0))


def answer(path, insns, section, series):
    functions = (LinkedFunction("main", 0, len(insns), "global"),)
    program = Program("main", section, insns, functions, {}, {})
    try:
        path.write_bytes(writeelf.write_object(program))
        obj = read_object(path)
    except BpfthrowError:
        return None  # what only C can say
    return predict(obj, "main", series, budget=BUDGET)


@CLOSE
@given(
    st.lists(instructions(KERNELS), min_size=1, max_size=12),
    st.sampled_from(["tc", "xdp", "raw_tp", "cgroup_skb/egress", "syscall", "nothing"]),
    st.sampled_from(SERIES),
)
def test_random_instructions(tmp_path, parts, section, series):
    insns = tuple(insn for part in ([*START], *parts, [*END]) for insn in part)
    found = answer(tmp_path / "x.bpf.o", insns, section, series)
    assert found is None or isinstance(found, Prediction)


@CLOSE
@given(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=6), st.sampled_from(SERIES))
def test_random_bytes(tmp_path, slots, series):
    insns = (*START, *isa.decode(b"".join(slots)), *END)
    found = answer(tmp_path / "x.bpf.o", insns, "tc", series)
    assert found is None or isinstance(found, Prediction)


@pytest.mark.parametrize("series", SERIES)
def test_budget_bounds_every_case(tmp_path, series):
    """Two ways at each of forty jumps on numbers that no two paths share."""
    ways = [Insn(0x61, 3, 6, 0, 0)]
    for bit in range(40):
        ways += [Insn(0x45, 3, 0, 1, 1 << bit % 31), Insn(0x07, 7, 0, 0, 0), Insn(0x67, 0, 0, 0, 1)]
    found = answer(tmp_path / "x.bpf.o", (*START, *ways, *END), "tc", series)
    assert found is not None
    assert found.verdict in Verdict
    assert found.explored <= BUDGET
