# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Addresses of functions that dead-code removal takes away: who is refused, who is not.

Verdicts are what 6.12.107 and 7.3.4 said of these programs; rule: jit_subprogs() in kernel/bpf.
"""

import pytest

from harness.bpf import asm, writeelf
from harness.bpf.elf import read_object
from harness.series import SERIES
from harness.verify.predict import predict
from harness.verify.prediction import Verdict

END = "r0 = 0\nexit"
TAKES = "r6 = subprog[nobody]"
THROWS = "r0 = *(u32 *)(r1 +0)\nif r0 != 7 goto on\nr1 = 1\ncall bpf_throw\non:"
NOBODY = f".func nobody\n{END}"
CALLED = ".func called\nr1 = 1\nr0 = r1\nexit"
HANDLER = ".func handler global\nr0 = r1\nexit"
NEVER = "r7 = 0\nif r7 != 0 goto never"

# functions are linked in the order in which they are first referred to
REFUSED = {
    "the default callback is left": f"{TAKES}\n{THROWS}\n{END}\n{NOBODY}",
    "a function is left": f"call called\n{TAKES}\n{END}\n{CALLED}\n{NOBODY}",
    "a loop that runs no time": "call called\nr1 = 0\nr2 = subprog[nobody]\nr3 = 0\nr4 = 0\n"
    f"call bpf_loop\n{END}\n{CALLED}\n{NOBODY}",
    "dead code in front of it": f"{NEVER}\n{TAKES}\ncall called\n{END}\nnever: {END}\n"
    f"{NOBODY}\n{CALLED}",
}
LOADS = {
    "nothing but the program is left": f"{TAKES}\n{END}\n{NOBODY}",
    "another function comes to stand there": f"{TAKES}\ncall called\n{END}\n{NOBODY}\n{CALLED}",
    "it is called": f"{TAKES}\n{THROWS}\ncall nobody\n{END}\n{NOBODY}",
    "what takes its address is dead": f"{THROWS}\n{NEVER}\n{END}\nnever: {TAKES}\n{END}\n{NOBODY}",
    "dead code as long as what follows": f"{NEVER}\n{TAKES}\ncall called\ncall other\n{END}\n"
    f"never: r0 = 0\nr0 = 1\nexit\n{NOBODY}\n{CALLED}\n.func other\n{END}",
}


def predicted(tmp_path, body, series, callback=""):
    path = tmp_path / "p.bpf.o"
    head = [".section tc", *([f".callback {callback}"] if callback else []), ".func main global"]
    text = "\n".join([*head, body])
    path.write_bytes(writeelf.write_object(asm.assemble(text), "GPL"))
    return predict(read_object(path), "main", series)


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name, series):
    found = predicted(tmp_path, REFUSED[name], series)
    assert (found.verdict, found.errno) == (Verdict.REJECT, 14), found
    assert "nobody()" in found.why
    assert [bug[0] for bug in found.bugs] == ["H"]
    assert found.message.startswith("verifier bug: No program to jit") == (series != "6.12")


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", LOADS)
def test_loads(tmp_path, name, series):
    found = predicted(tmp_path, LOADS[name], series)
    assert found.verdict is Verdict.ACCEPT, found


def test_own_callback_is_no_hidden_function(tmp_path):
    """It is behind the removed function, whose address then is the callback's."""
    body = f"{TAKES}\n{THROWS}\n{END}\n{NOBODY}\n{HANDLER}"
    found = predicted(tmp_path, body, "6.12", callback="handler")
    assert found.verdict is Verdict.ACCEPT
    assert [bug[0] for bug in found.bugs] == ["A"]
