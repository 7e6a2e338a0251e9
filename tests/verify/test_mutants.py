# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What mutants (tests/campaign/verdicts.py) and the kernel's selftests once found wrong.

Verdicts, errnos and words are what 6.12.107, 6.18.15 and 7.3.4 said.
"""

import pytest

from harness.bpf import asm, writeelf
from harness.bpf.elf import read_object
from harness.logmatch import missing
from harness.series import SERIES
from harness.verify.predict import predict
from harness.verify.prediction import Verdict

ACCEPT = ("", None)
EXTERNS = ".license GPL\n" + "".join(
    f".extern void bpf_iter_num_{name}(u64)\n" for name in ("new", "next", "destroy")
)
END = "r0 = 0\nexit"
# what happens -> (text of a tc program, {series: (words, errno)}; a series that is not there: as
# the one before it)
FOUND = {
    "a moved context is thrown": (
        f"r1 += 8\ncall bpf_throw\n{END}",
        {"6.12": ("R1 is not a scalar", 22),
         "7.3": ("dereference of modified ctx ptr R1 off=8 disallowed", 13)},
    ),
    "the stack is thrown": (
        f"r1 = r10\ncall bpf_throw\n{END}", {"6.12": ("R1 is not a scalar", 22)},
    ),
    "as many rounds as the context": (
        f"r2 = subprog[f]\nr3 = 0\nr4 = 0\ncall bpf_loop\n{END}\n.func f\n{END}",
        {"6.12": ("", 14), "6.18": ("verifier bug: backtracking misuse", 14),
         "7.3": ("R1 type=ctx expected=scalar", 13)},
    ),
    "as many rounds as half a register that another one is linked to": (
        "r6 = *(u32 *)(r1 + 0)\nw1 = w6\nw1 -= 7\nr2 = subprog[f]\nr3 = 0\nr4 = 0\n"
        f"call bpf_loop\n{END}\n.func f\n{END}",
        {"6.12": ACCEPT},
    ),
    "nobody wrote the iterator's place": (
        f"r1 = r2\ncall bpf_iter_num_next\n{END}", {"6.12": ("R2 !read_ok", 13)},
    ),
    "the context as an iterator": (
        f"r1 += 4\ncall bpf_iter_num_next\n{END}",
        {"6.12": ("dereference of modified ctx ptr R1 off=4 disallowed", 13)},
    ),
    "an iterator at half a slot": (
        f"r1 = r10\nr1 += -12\nr2 = 0\nr3 = 5\ncall bpf_iter_num_new\n{END}",
        {"6.12": ("cannot pass in iter at an offset=-12", 22)},
    ),
    "an iterator that was never made": (
        f"r1 = r10\nr1 += -8\ncall bpf_iter_num_destroy\n{END}",
        {"6.12": ("expected an initialized iter_num as arg #0", 22),
         "7.3": ("expected an initialized iter_num as R1", 22)},
    ),
    "a low half that contradicts its bits": (
        "call bpf_get_prandom_u32\nr5 = r0\nr5 &= -4\nr7 = r0\nr7 &= 1\nr7 += -43\n"
        "if w5 != w7 goto out\nr10 = 0\nout: exit",
        {"6.12": ("frame pointer is read only", 13), "7.3": ACCEPT},
    ),
    "system call's context, not aligned": (
        f"r0 = *(u64 *)(r1 +4)\n{END}",
        {"6.12": ("invalid bpf_context access off=4 size=8", 13), "7.3": ACCEPT},
    ),
    "system call's context, in front of it": (
        f"r0 = *(u64 *)(r1 -8)\n{END}",
        {"6.12": ("invalid bpf_context access off=-8 size=8", 13),
         "7.3": ("invalid access to context, ctx_size=65535 off=-8 size=8\n"
                 "R1 min value is outside of the allowed memory range", 13)},
    ),
    "the context as memory": (
        f"r2 = r1\ncall bpf_trace_printk\n{END}",
        {"6.12": ("R1 type=ctx expected=fp", 13), "7.3": ("R2 type=ctx expected=scalar", 13)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", FOUND)
def test_found(tmp_path, name, series):
    text, said = FOUND[name]
    path = tmp_path / "p.bpf.o"
    kind = "syscall" if name.startswith("system call") else "tc"
    source = f"{EXTERNS}.section {kind}\n.func main global\n{text}"
    program, declared = asm.assemble_unit(source)
    path.write_bytes(writeelf.write_object(program, declared=declared))
    found = predict(read_object(path), "main", series)
    known = [each for each in SERIES[: SERIES.index(series) + 1] if each in said]
    words, errno = said[known[-1]]
    assert found.verdict is (Verdict.REJECT if errno else Verdict.ACCEPT), found
    assert found.errno == errno, found
    assert not missing([found.message], words), found
