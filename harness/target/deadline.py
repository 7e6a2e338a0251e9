# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Deadlines: one object passed down instead of a number of seconds at each layer."""

import time


class Deadline:
    """A point in time that is passed down instead of a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return self.left_s() == 0.0
