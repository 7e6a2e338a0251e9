# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""How well the kernels of each profile keep track of numbers: data for harness.verify.scalar.

Found out from the sources of 6.12.107 and 7.3, for 6.18 from its commits, and held against what
the three print for random programs (tests/transfer_campaign.py).
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Precision:
    """How well the kernels of a series keep track of numbers."""

    # ranges are arcs, a branch is tried before it is taken, divisions and byte swaps are tracked
    # (7.0)
    arcs: bool = False
    # sums that wrap at both ends stay a range: Linux kernel commit 7a998a731627 (v6.17)
    wraps: bool = False
    # products of ranges with negative numbers: 9aa0ebde0014 (v6.14)
    signed_products: bool = False
    # tnum.mul() instead of mul_split(): 1df7dad4d5c4 (v6.18)
    joined_products: bool = False
    # negation is tracked: aced132599b3 (v6.17)
    negates: bool = False
    # 32-bit bounds with both signs inform each other as those of 64 bits do (00bf8d0c6c9b and its
    # sequel): measured on 6.12.107, which has it, and 6.18.15, which has not
    low_crosses: bool = True
    # a shift to the left by 32 keeps signed bounds of the low half that are negative, too: measured
    # on 6.12.107, which has it, and 6.18.15, which has not
    shifts_signs: bool = True
    # x & y, x | y of an x that is 0 or -1 is followed as two paths: bffacdb80b93
    forks: bool = True


_V6_12 = Precision()
_V6_18 = replace(
    _V6_12,
    wraps=True,
    signed_products=True,
    joined_products=True,
    negates=True,
    low_crosses=False,
    shifts_signs=False,
    forks=False,
)
_V7_3 = replace(_V6_18, arcs=True, low_crosses=True, shifts_signs=True, forks=True)
PRECISIONS: dict[str, Precision] = {
    "series-v1": _V6_12,
    "6.12": _V6_12,
    "6.18": _V6_18,
    "7.3": _V7_3,
    "cleanup": _V7_3,
}
