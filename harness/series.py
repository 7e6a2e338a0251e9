# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernel series that behave alike, and which one a release belongs to."""

import re

# Oldest first. Each stands for itself and everything up to the next.
SERIES = ("6.12", "6.18", "7.3")


def series_of(release: str) -> str:
    """Series whose behaviour `release` ("6.12.107+deb13-amd64") is expected to show.

    A release between two series belongs to the older one, one before the first to the first.
    """
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    known = [name for name in SERIES if tuple(map(int, name.split("."))) <= version]
    return known[-1] if known else SERIES[0]
