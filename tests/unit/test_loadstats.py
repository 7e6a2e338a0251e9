# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the verifier counted, read from its logs."""

from pathlib import Path

import pytest

from harness.loadstats import Statistics, statistics

DATA = Path(__file__).parent.parent / "data" / "load-log"
# as 7.3 writes them for an accepted program at log level 4
ACCEPTED_7_3 = """\
verification time 5908 usec
stack depth max 16
subprog 0 (both) main insns_self 5 insns_total 9 stack 16
subprog 1 (thrower) static insns_self 4 insns_total 4 stack 0
processed 16 insns (limit 1000000) max_states_per_insn 2 total_states 3 peak_states 4 mark_read 0
"""


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("6.12-iterator-live", Statistics(19, 1, 1, 0)),
        ("7.3-iterator-live", Statistics(19, 1, 1, 0)),
        ("7.3-missing-newline", Statistics(9, 0, 0, 0)),
        ("6.12-too-deep", Statistics(22, 2, 2, 1)),
        ("libbpf-no-callback", None),
    ],
)
def test_refused(name, counts):
    assert statistics((DATA / f"{name}.txt").read_text()) == counts


def test_accepted():
    assert statistics(ACCEPTED_7_3) == Statistics(16, 3, 4, 2, None, 16, 5908)
    # 6.x: one number for each function
    older = ACCEPTED_7_3.replace("stack depth max 16", "stack depth 16+8+0")
    assert statistics(older) == Statistics(16, 3, 4, 2, 24, None, 5908)


def test_the_last_load_counts_and_no_other():
    refused = (DATA / "6.12-too-deep.txt").read_text()
    assert statistics(ACCEPTED_7_3 + refused) == Statistics(22, 2, 2, 1)
    assert statistics(refused + ACCEPTED_7_3).time_us == 5908


def test_counts_leave_out_what_nobody_said():
    assert statistics("processed 3 insns (limit 1000000)\n").counts() == {"instructions": 3}
    assert statistics("nothing of the kind") is None
