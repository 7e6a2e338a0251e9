# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is kept of a case without agreement."""

from fake_target import case, ran

from harness.model import Difference, Observation, Result, Verdict
from harness.report import artifacts


def test_only_cases_without_agreement_leave_a_file(tmp_path):
    crash = Observation(Verdict.CRASHED, message="Oops", log="lost", kernel_log="BUG: NULL")
    differs = (Difference("retval", "1", "2", "rule", ("declared", "kernel")),)
    results = [
        Result(case("throw/good"), "vm-6.12", ran(1)),
        Result(case("throw/bad:in put"), "vm-6.12", ran(2), differences=differs),
        Result(case("throw/crash"), "vm-6.12~tree", crash),
        Result(case("throw/lost"), "vm-6.12", Observation(Verdict.LOST, message="gone")),
    ]
    assert artifacts.keep(results, tmp_path) == 2
    kept = {
        path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.log")
    }
    assert set(kept) == {
        "vm-6.12/throw_bad_in_put-test_run.log",
        "vm-6.12~tree/throw_crash-test_run.log",
    }
    assert "BUG: NULL" in kept["vm-6.12~tree/throw_crash-test_run.log"]
