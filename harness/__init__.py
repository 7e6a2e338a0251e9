# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""bpfthrow: real-kernel integration tests for BPF exceptions, held against a simulator."""

__version__ = "0.1.0"
