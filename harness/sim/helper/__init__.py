# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers by theme, one module each with a table HELPERS; harness.sim.helpers joins them."""

from collections.abc import Callable

# number -> (name, arguments, function of the machine and the arguments, what is worth knowing)
Table = dict[int, tuple[str, int, Callable[..., int | None], str]]
