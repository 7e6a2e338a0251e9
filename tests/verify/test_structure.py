# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Program structure and exception structure, each rule with a program beside it that may load.

Words and errnos: exceptions.md 2.1 to 2.5 of the reference, kernel/bpf/verifier.c.
"""

import pytest

from harness.bpf import asm, writeelf
from harness.bpf.elf import read_object
from harness.bpf.link import link
from harness.series import SERIES
from harness.sim.semantics import profile
from harness.verify import exceptions, fields, known_bugs, structure
from harness.verify.callgraph import CallGraph
from harness.verify.prediction import Explored, NotModelled, Rejection, Subject

OLD, NEW = ("6.12", "6.18"), ("7.3",)


@pytest.fixture
def subject_of(tmp_path):
    """Text of a program -> the Subject that a kernel would get from libbpf."""

    def make(text, series="6.12", license_name="GPL"):
        path = tmp_path / "p.bpf.o"
        path.write_bytes(writeelf.write_object(asm.assemble(text), license_name))
        obj = read_object(path)
        program = link(obj, obj.programs[0].name)
        return Subject(obj, program, profile(series))

    return make


def refusal(subject, callbacks=(), late=(), stacks=None):
    """What the parts beside exploration say: (words, errno), or None."""
    graph = CallGraph(subject.program)
    start = {f.name: f.start for f in subject.program.functions}
    known = {f.start: 0 for f in subject.program.functions}
    known |= {start[name]: size for name, size in (stacks or {}).items()}
    explored = Explored(
        callbacks={start[name] for name in (*callbacks, *late)},
        late_callbacks={start[name] for name in late},
        seen=set(range(len(subject.program.insns))),
        stacks=known,
    )
    try:
        structure.check(subject, graph)
        exceptions.check_walk(subject, graph, explored)
    except Rejection as error:
        return error.message, error.errno
    return None


def program(body, *functions, callback=None):
    """Text of a tc program `main` with functions behind it."""
    head = [".section tc", *([f".callback {callback}"] if callback else []), ".func main global"]
    return "\n".join([*head, body, *functions])


END = "r0 = 0\nexit"
RETURNS = f".func f\n{END}"
THROWS = f".func t\nr1 = 1\ncall bpf_throw\n{END}"
HANDLER = ".func handler global\nr0 = r1\nexit"

SAME_EVERYWHERE = {
    "falls out of the program": (
        program("r1 = 1\ncall bpf_throw"),
        ("last insn is not an exit or jmp", 22),
    ),
    "throw, then an exit": (program(f"r1 = 1\ncall bpf_throw\n{END}"), None),
    "throw, then a jump back": (program("again: r1 = 1\ncall bpf_throw\ngoto again"), None),
    "function falls into the next": (
        program(f"call f\ncall g\n{END}", ".func f\nr0 = 0", f".func g\n{END}"),
        ("last insn is not an exit or jmp", 22),
    ),
    "jump out of the program": (
        program(".insn 0x05, 0, 0, 7, 0\nr0 = 0\nexit"),
        ("jump out of range from insn 0 to 8", 22),
    ),
    "jump into a function": (
        program(f"if r1 == 0 goto +3\ncall f\n{END}", RETURNS),
        ("jump out of range from insn 0 to 4", 22),
    ),
    "unreachable": (program(f"goto +1\nr0 = 1\n{END}"), ("unreachable insn 1", 22)),
    "behind a throw is reachable": (
        program(f"r1 = 1\ncall bpf_throw\nr0 = r9\n{END}"),
        None,
    ),
    "into a wide instruction": (
        program(f"if r1 == 0 goto +1\nr2 = 0x100000000 ll\n{END}"),
        ("jump into the middle of ldimm64 insn 1", 22),
    ),
    "unknown opcode": (
        program(f".insn 0xff, 0, 0, 0, 0\n{END}"),
        ("unknown opcode ff", 22),
    ),
    "callback": (program(f"r1 = 1\ncall bpf_throw\n{END}", HANDLER, callback="handler"), None),
    "callback without a throw": (program(END, HANDLER, callback="handler"), None),
    "callback is called": (
        program(f"r1 = 1\ncall handler\n{END}", HANDLER, callback="handler"),
        ("insn 1 cannot call exception cb directly", 22),
    ),
    "callback is called by dead code": (
        program(f"if r1 == r1 goto +1\ncall handler\n{END}", HANDLER, callback="handler"),
        ("insn 1 cannot call exception cb directly", 22),
    ),
    "callback calls another function": (
        program(END, f".func handler global\ncall f\n{END}", RETURNS, callback="handler"),
        None,
    ),
    "callback throws": (
        program(END, ".func handler global\nr1 = 1\ncall bpf_throw\nr0 = 0\nexit",
                callback="handler"),
        ("bpf_throw kfunc (insn 3) cannot be called from callback subprog 1", 22),
    ),
    "callback calls what throws": (
        program(END, f".func handler global\ncall t\n{END}", THROWS, callback="handler"),
        ("bpf_throw kfunc (insn 6) cannot be called from callback subprog 2", 22),
    ),
    "shared by the program and the callback": (
        program(f"call t\n{END}", THROWS, f".func handler global\ncall t\n{END}",
                callback="handler"),
        ("bpf_throw kfunc (insn 4) cannot be called from callback subprog 1", 22),
    ),
}  # fmt: skip


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", SAME_EVERYWHERE)
def test_rule(subject_of, name, series):
    text, said = SAME_EVERYWHERE[name]
    assert refusal(subject_of(text, series)) == said


def test_address_of_what_throws_is_no_callback_until_a_helper_gets_it(subject_of):
    text = program(f"r2 = subprog[t]\n{END}", THROWS)
    subject = subject_of(text)
    said = "bpf_throw kfunc (insn 5) cannot be called from callback subprog 1"
    assert refusal(subject) is None
    assert refusal(subject, callbacks=["t"]) == (said, 22)
    assert refusal(subject, late=["t"]) == (said, 22)


def chain(count, linkage, size=0):
    """Program text: main calls f1, which calls f2, ... up to `count`."""
    functions = []
    for number in range(1, count + 1):
        body = f"call f{number + 1}\n" if number < count else ""
        functions.append(f".func f{number} {linkage}\n{body}{END}")
    return program(f"call f1\n{END}", *functions)


DEPTH = "the call stack of {} frames is too deep"


@pytest.mark.parametrize(
    ("count", "linkage", "series", "said"),
    [
        (7, "", OLD + NEW, None),
        (8, "", OLD, (DEPTH.format(8), 7)),
        (15, "", NEW, None),
        (16, "", NEW, (DEPTH.format(16), 7)),
        (8, "global", OLD, (DEPTH.format(8), 7)),
        (60, "global", NEW, None),
    ],
)
def test_depth_of_calls(subject_of, count, linkage, series, said):
    for name in series:
        assert refusal(subject_of(chain(count, linkage), name)) == said


@pytest.mark.parametrize("series", SERIES)
def test_stacks_of_a_chain_add_up(subject_of, series):
    subject = subject_of(chain(7, ""), series)
    names = ["main", *(f"f{n}" for n in range(1, 8))]
    assert refusal(subject, stacks=dict.fromkeys(names, 64)) is None
    words = "combined stack size of 7 calls is 560. Too large"
    assert refusal(subject, stacks=dict.fromkeys(names, 72)) == (words, 13)


@pytest.mark.parametrize("series", SERIES)
def test_callback_has_a_stack_of_its_own(subject_of, series):
    text = program(f"r1 = 1\ncall bpf_throw\n{END}", HANDLER, callback="handler")
    stacks = {"main": 512, "handler": 512}
    assert refusal(subject_of(text, series), stacks=stacks) is None


def test_stacks_that_no_path_showed_are_not_guessed(subject_of):
    deep = "*(u64 *)(r10 -512) = 0"
    text = program(f"{deep}\ncall f\n{END}", f".func f\n{deep}\n{END}")
    subject = subject_of(text)
    with pytest.raises(NotModelled, match="1024 bytes"):
        exceptions.check_walk(subject, CallGraph(subject.program), None)


def test_private_stacks(subject_of):
    text = chain(2, "").replace(".section tc", ".section tracepoint")
    stacks = {"main": 256, "f1": 256, "f2": 256}
    too_large = ("combined stack size of 3 calls is 768. Too large", 13)
    assert refusal(subject_of(text, "6.12"), stacks=stacks) == too_large
    assert refusal(subject_of(text, "6.18"), stacks=stacks) is None
    stacks["f2"] = 528
    alone = ("stack size of subprog 2 is 528. Too large", 13)
    assert refusal(subject_of(text, "7.3"), stacks=stacks) == alone


def test_recursion(subject_of):
    text = program(f"call f\n{END}", f".func f global\ncall f\n{END}")
    assert refusal(subject_of(text, "7.3")) == ("recursive call from f() to f()", 22)
    assert refusal(subject_of(text, "6.12")) == (DEPTH.format(8), 7)


def test_kernel_functions_are_for_free_software(subject_of):
    text = program(f"r1 = 1\ncall bpf_throw\n{END}")
    words = "cannot call kernel function from non-GPL compatible program"
    for series in SERIES:
        assert refusal(subject_of(text, series, "Proprietary")) == (words, 22)
        assert refusal(subject_of(text, series, "Dual BSD/GPL")) is None


def test_reserved_fields_wait_for_a_path_before_7_3(subject_of):
    text = program(f".insn 0xb7, 0, 0, 1, 0\n{END}")
    old, new = (subject_of(text, series) for series in ("6.12", "7.3"))
    assert refusal(old) is None
    assert fields.late_problems(old) == {0: "BPF_MOV uses reserved fields"}
    assert refusal(new) == ("BPF_MOV uses reserved fields", 22)
    assert fields.late_problems(new) == {}


@pytest.mark.parametrize(("series", "letters"), [("6.12", ""), ("6.18", "C"), ("7.3", "C")])
def test_throw_in_a_loop_is_flagged(subject_of, series, letters):
    text = program("again: r1 = 1\nif r2 == 0 goto +1\ncall bpf_throw\nr2 += 1\ngoto again")
    subject = subject_of(text, series)
    found = known_bugs.bugs(subject, CallGraph(subject.program), None)
    assert "".join(sorted(each[0] for each in found)) == letters


def test_dead_function_before_the_callback_is_flagged(subject_of):
    text = program(f"call f\n{END}", RETURNS, HANDLER, callback="handler")
    subject = subject_of(text)
    graph = CallGraph(subject.program)
    reached = {pc for f in subject.program.functions if f.name != "f"
               for pc in range(f.start, f.end)}  # fmt: skip
    assert known_bugs.bugs(subject, graph, Explored(seen=reached))[0].startswith("A: f()")
    everything = set(range(len(subject.program.insns)))
    assert known_bugs.bugs(subject, graph, Explored(seen=everything)) == ()


def test_proposals_have_no_verifier(subject_of):
    with pytest.raises(NotModelled, match="series-v1"):
        structure.check(subject_of(program(END), "series-v1"), None)
