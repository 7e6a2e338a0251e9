# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Instructions drawn from the table, for tests of whatever reads or writes them."""

from hypothesis import strategies as st

from harness.bpf import opcodes
from harness.bpf.isa import Insn

_RANGES = {
    "dst": (0, 10),
    "src": (0, 10),
    "off": (-0x8000, 0x7FFF),
    "imm": (-1 << 31, (1 << 31) - 1),
}
# what the kernel does not look at is 0 by RFC 9669
STRICT = {("exit", "off"), ("code_addr", "high"), ("call_kfunc", "off")}


def _field(form, name, low, high):
    allowed = getattr(form, name)
    if (form.name, name) in STRICT:
        return st.just(0)
    if allowed is not None:
        return st.sampled_from(sorted(allowed))
    edges = [n for n in (low, -1, 0, 1, high) if low <= n <= high]
    return st.one_of(st.integers(low, high), st.sampled_from(edges))


@st.composite
def instructions(draw, forms=opcodes.FORMS):
    """One valid instruction: a tuple of one or two slots."""
    form = draw(st.sampled_from(forms))
    fields = {name: draw(_field(form, name, *limits)) for name, limits in _RANGES.items()}
    first = Insn(form.code, **fields)
    if not form.wide:
        return (first,)
    return (first, Insn(0, 0, 0, 0, draw(_field(form, "high", *_RANGES["imm"]))))
