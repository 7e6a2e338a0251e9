# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Results of every kind, and a run they may come from, for the tests of reports."""

from dataclasses import replace

from harness.model import Case, Difference, Observation, Provenance, Result, Verdict
from harness.report import outcome as outcomes  # pytest would collect a bare Tested
from harness.report.outcome import RunHeader

HEADER = RunHeader(
    (
        outcomes.Tested("vm-6.12", "6.12.107+deb13-amd64", "tcg", "on", "bpftool v7.5.0"),
        outcomes.Tested(
            "vm-6.1", "6.1.0-50-amd64", "tcg", "on", "bpftool v7.5.0", expects_throw=False
        ),
    ),
    clang="clang version 19.1.7",
    seconds=12.5,
)
CASE = Case("throw/depth/static_7", "build/throw/depth.bpf.o", "static_7", "tc", "test_run")
RAN = Observation(
    Verdict.RAN,
    retvals=(64,),
    log="processed 5 insns",
    duration_s=0.25,
    provenance=Provenance("vm-6.12", "6.12.107+deb13-amd64", "tcg", "on", "bpftool v7.5.0"),
)
SIMULATED = Observation(Verdict.RAN, retvals=(64,), trace="call main\nthrow 64")
WRONG = Difference("retvals[0]", "64", "65", "every run returns it", ("simulator", "kernel"))


def row(observed=RAN, simulated=SIMULATED, differences=(), target="vm-6.12", **case):
    return Result(replace(CASE, **case), target, observed, simulated, differences)


AGREES = row()
DIFFERS = row(replace(RAN, retvals=(65,)), differences=(WRONG,), id="throw/depth/other")
REFUSED = row(
    Observation(Verdict.REJECTED, errno=22, message="R1 is not a scalar", log="1: x\nR1 is not"),
    None,
    id="reject/scalar",
)
ABSENT = row(Observation(Verdict.UNSUPPORTED, message="kfunc not found"), target="vm-6.1")
LOST = row(Observation(Verdict.LOST, message="console closed"))
CRASHED = row(
    Observation(Verdict.CRASHED, message="Oops", kernel_log="line\n" * 100), differences=(WRONG,)
)
HUNG = row(Observation(Verdict.HUNG), differences=(WRONG,))
SPLATTED = row(Observation(Verdict.UNSUPPORTED), differences=(WRONG,))
FLAKY = replace(DIFFERS, again=row(id="throw/depth/other"))
TWICE = replace(CRASHED, again=DIFFERS)
ALL = [AGREES, DIFFERS, REFUSED, ABSENT, LOST, CRASHED, HUNG, SPLATTED, FLAKY]
