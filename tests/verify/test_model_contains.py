# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the verifier model knows before an instruction, against what the simulator has there.

The same check as on the logs of kernels (containment.py), for every case whose program the model
accepts.
"""

from functools import cache

import containment
import pytest

from harness.bpf.elf import read_object
from harness.bpf.environment import NOWHERE
from harness.errors import ObjectError
from harness.sim import semantics
from harness.suite import collect
from harness.verify import explore, loading, registers
from harness.verify.kernel_log import Known, Log
from harness.verify.predict import DEFAULT_BUDGET, predict
from harness.verify.prediction import NotModelled, Rejection, Subject, Verdict
from harness.verify.tnum import U64

SERIES = ("6.12", "7.3")


def known_of(reg):
    """A register of the model as the log's reader has those of a kernel."""
    if reg.type == registers.NOT_INIT:
        return None
    number = reg.num
    null = bool(reg.flags & registers.MAYBE_NULL)
    kind = registers.NAMES[reg.type]
    if reg.type == registers.MEM and reg.flags & registers.RINGBUF:
        kind = "ringbuf_mem"
    elif reg.type == registers.MEM and reg.flags & registers.RDONLY:
        kind = "rdonly_mem"
    size = getattr(reg.what, "value_size", 0) if kind == "map_value" else 0
    fields = {"vs": str(size)} if size else {}
    if number is None:
        fixed = dict.fromkeys(
            ("umin", "umax", "smin", "smax", "umin32", "umax32", "smin32", "smax32"), 0
        )
        return Known(kind, null, reg.off, **fixed, value=0, mask=0, fields=fields)
    return Known(
        kind, null, 0 if kind == "scalar" else reg.off, number.umin, number.umax, number.smin,
        number.smax, *number.narrow[:4], number.tnum.value & U64, number.tnum.mask, fields,
    )  # fmt: skip


@cache
def model_log(path, name, series):
    """States and pruned ways of the model; None where it does not accept the program."""
    if predict(path, name, series).verdict is not Verdict.ACCEPT:
        return None
    obj, profile = read_object(path), semantics.profile(series)
    subject = Subject(obj, loading.linked(obj, name, profile, NOWHERE), profile)
    log, original = Log(), explore.visited

    def noting(walk):
        found = original(walk)
        if found:
            log.pruned.add((walk.before, walk.pc))
        return found

    explore.visited = noting
    try:
        explored = explore.explore(subject, DEFAULT_BUDGET, record=True)
    except (Rejection, NotModelled):  # the rest of the prediction caught it
        return None
    finally:
        explore.visited = original
    for pc, states in explored.states.items():
        log.states[pc] = [
            {
                f"R{number}": known
                for number, reg in enumerate(state)
                if (known := known_of(reg)) is not None
            }
            for state in states
        ]
    return log


@pytest.mark.parametrize("series", SERIES)
def test_every_value_was_foreseen(series):
    total = containment.Outcome()
    for case in collect():
        try:
            log = model_log(case.object, case.program, series)
        except ObjectError:
            continue
        if log is not None:
            total.add(containment.check(case, series, {case.program: log}, NOWHERE))
    print(
        f"{series}: {total.numbers} numbers, {total.pointers} pointers before {total.judged}"
        f" instructions, {total.beyond} behind the end of a path"
    )
    assert total.violations == []
