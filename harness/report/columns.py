# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Text in columns: cells as wide as the widest of their column. What is in them is the caller's."""

from collections.abc import Sequence


def padded(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The rows, which are equally long, with blanks behind each cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]


def line(cells: Sequence[str]) -> str:
    """One row of a table as it is printed."""
    return "  ".join(cells).rstrip()
