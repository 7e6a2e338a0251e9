# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""docs/library.md does what it says; what its examples leave out."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.build import build
from harness.errors import UsageError
from harness.model import Verdict
from harness.sim import Machine

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/library.md"
PARSER = "progs/packet/parser_xdp.bpf.c"


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def parser():
    return build([PARSER])[0]


def test_examples_of_the_page():
    # without the fences, which doctest would take for output
    text = re.sub(r"^```.*$", "", PAGE.read_text(), flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(text, {}, "library.md", str(PAGE), 0)
    assert len(examples.examples) > 20
    said = []
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    done = doctest.DocTestRunner(optionflags=flags).run(examples, out=said.append)
    assert not done.failed, "".join(said)


def _pytest(file, **environment):
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(file)]
    env = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    argv += ["-c", os.devnull, "-o", "addopts=", "--rootdir", str(file.parent)]
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def _property():
    return re.search(r"```python\n(# test_parser\.py\n.*?)```", PAGE.read_text(), re.DOTALL)[1]


def test_the_property_holds(tmp_path):
    file = tmp_path / "test_parser.py"
    file.write_text(_property())
    done = _pytest(file, SEED="1234")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_property_that_does_not_hold_shows_frame_and_seed(tmp_path):
    file = tmp_path / "test_parser.py"
    text = _property().replace("assert not seen.leaks", "assert seen.value != DROP")
    assert text != _property()
    file.write_text(text)
    done = _pytest(file, SEED="1234")
    assert done.returncode == 1, done.stdout
    # the smallest frame: no layer, or what only lacks its last byte
    assert "SEED=1234 frame=" + 12 * "00" in done.stdout


def test_state_and_budget_do_not_leak_from_run_to_run(parser):
    machine = Machine(parser, budget=500, trace=True)
    seen = [machine.run("live", "eth ipv4 tcp cut=50") for _ in range(40)]
    assert len({(run.value, run.cookies, run.instructions, run.trace) for run in seen}) == 1
    assert int.from_bytes(machine.variable("seen_eth"), "little") == 40


@pytest.mark.parametrize("engine", ["reference", "source", "auto", "native"])
def test_engines(parser, engine):
    if engine == "native":
        pytest.importorskip("llvmlite")
    seen = Machine(parser, engine=engine).run("live", "eth ipv4 tcp cut=50")
    assert (seen.value, seen.cookies, seen.instructions) == (1, (1,), 68)


def test_a_fault_is_a_result(compiled):
    text = """
    SEC("tc") int entry(struct __sk_buff *ctx) {
        char *data = (char *)(long)ctx->data;
        return data[2000];
    }"""
    machine = Machine(compiled(text))
    seen = machine.run("entry", bytes(60))
    assert (seen.verdict, seen.value, seen.packet) == (Verdict.REJECTED, None, None)
    assert "return data[2000];" in seen.message
    assert machine.run("entry", b"").verdict is Verdict.UNSUPPORTED


def test_attach(compiled):
    text = """
    __noinline int number(int x) { asm volatile("" : "+r"(x)); return x; }
    SEC("tc") int entry(struct __sk_buff *ctx) { return number(5); }
    SEC("freplace/number") int other(int x) { return x + 1; }
    """
    path = compiled(text)
    assert Machine(path).run("entry", bytes(60)).value == 5
    assert Machine(path, attach=["other"]).run("entry", bytes(60)).value == 6
    with pytest.raises(UsageError, match="attaches to no program"):
        Machine(path, attach=["entry"])


def test_seed(compiled):
    text = 'SEC("tc") int entry(struct __sk_buff *c) { return bpf_get_prandom_u32(); }'
    values = [Machine(compiled(text), seed=s).run("entry", bytes(60)).value for s in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_ctx(compiled):
    text = """
    struct args { int a, b; };
    SEC("syscall") int entry(struct args *args) { return args->a * args->b; }
    """
    ctx = (6).to_bytes(4, "little") + (7).to_bytes(4, "little")
    assert Machine(compiled(text)).run("entry", ctx=ctx).value == 42


@pytest.mark.parametrize(
    ("do", "said"),
    [
        (lambda m: m.map("x"), "no map 'x'"),
        (lambda m: m.variable("x"), "no variable 'x'"),
        (lambda m: m.set_variable("seen_eth", b"12345"), "has 4 bytes"),
        (lambda m: m.update("y", b"", b""), "no map 'y'"),
        (lambda m: m.run("x"), "no program 'x'"),
        (lambda m: m.run("live", "what"), "unknown word"),
        (lambda m: m.run("live", bytes(1 << 16)), "65536 bytes"),
        (lambda m: m.run("live", b"", ctx=b""), "exclude each other"),
        (lambda m: Machine(m._path, trace=True, engine="native"), "no trace"),
        (lambda m: Machine(m._path, profile="x"), "no profile"),
        (lambda m: Machine(m._path, engine="x"), "no engine"),
        (lambda _: Machine("/nowhere.o"), "no such file"),
    ],
)
def test_mistakes(parser, do, said):
    with pytest.raises(UsageError, match=said):
        do(Machine(parser))


def test_maps_without_a_listing(compiled):
    text = """
    struct { __uint(type, BPF_MAP_TYPE_QUEUE); __uint(max_entries, 2); __type(value, int); }
        queue SEC(".maps");
    SEC("tc") int entry(struct __sk_buff *c) { int v = 3; return bpf_map_push_elem(&queue, &v, 0); }
    """
    machine = Machine(compiled(text))
    assert machine.run("entry", bytes(60)).value == 0
    with pytest.raises(UsageError, match="no content"):
        machine.map("queue")
    with pytest.raises(UsageError, match="queue"):
        machine.update("queue", b"", bytes(4))
