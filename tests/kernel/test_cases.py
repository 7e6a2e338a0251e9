# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every case of progs/, on every kernel of --kernel: the plugin makes one test of each."""


def test_case(bpf_result):
    """The declared expectation, the simulator and the kernel say the same."""
    assert bpf_result.agree
