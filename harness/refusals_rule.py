# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a row of the tables of rules is. Data only; the tables: harness.refusals, refusals_data."""

from typing import NamedTuple

# 7.3's kinds of diagnosis, and one of our own for what never reaches a kernel
RESOURCE = "resource-lifetime"
CONTEXT = "execution-context"
STRUCTURE = "program-structure"
CALL = "call-type"
MEMORY = "memory"
REGISTER = "register-type"
POLICY = "policy"
LOADER = "loader"

VERIFIER = "kernel/bpf/verifier.c"


class Rule(NamedTuple):
    """One thing that a verifier or libbpf insists on."""

    name: str
    # one of the above
    category: str
    # normalised messages (harness.normalize), matched in full
    wordings: tuple[str, ...]
    # what the rule is, to somebody who wrote the program
    words: str
    fix: str
    # who says no: function, file
    said_by: str
    # since which kernel it is so, where that is known
    since: str = ""
    # kernel functions and helpers that take what is held at the refusal
    taken_by: str = ""
