# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The model's time beside a kernel's, with a kernel that is played."""

import pytest

from harness.bench_verifier import beside
from harness.errors import WorldError
from harness.model import Observation, Verdict
from harness.suite import collect

_SOURCE = """
#include "exceptions.h"
char LICENSE[] SEC("license") = "GPL";
SEC("tc") __success int takes(struct __sk_buff *skb) { return 2; }
SEC("tc") __success int throws(struct __sk_buff *skb)
{ if (skb->len > 9) bpf_throw(1); return 2; }
SEC("?tc") __failure __errno(22) __msg("back-edge") int refused(struct __sk_buff *skb)
{ asm volatile("1: goto 1b"); return 0; }
"""
_LOG = """verification time {us} usec
stack depth 0
processed {insns} insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0
"""


class Kernel:
    """Accepts everything and says how long it took."""

    def __init__(self, log):
        self.log, self.asked = log, []

    def run(self, case):
        self.asked.append((case.program, case.hook))
        return Observation(Verdict.RAN, log=self.log)


@pytest.fixture
def cases(tmp_path):
    source = tmp_path / "some.bpf.c"
    source.write_text(_SOURCE)
    return collect([source])


def test_each_accepted_program_is_loaded_once(cases):
    kernel = Kernel(_LOG.format(us=2500, insns=2))
    found = beside(kernel, cases, "7.3.4")
    assert kernel.asked == [("takes", "load"), ("throws", "load")]
    assert found["programs"] == 2
    assert found["kernel ms"] == {"sum": 5.0, "median": 2.5, "most": 2.5}
    # "takes" has the two that the kernel counts, "throws" more
    assert found["same number of instructions"] == 1
    assert found["slowest"][cases[0].id]["kernel ms"] == 2.5
    assert found["model ms"]["sum"] > 0


def test_a_kernel_without_times_is_no_measurement(cases):
    with pytest.raises(WorldError, match="how long"):
        beside(Kernel(""), cases, "7.3.4")
