# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Flags of map operations (include/uapi/linux/bpf.h)."""

ANY, NOEXIST, EXIST, LOCK = 0, 1, 2, 4
