# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow bench --only engines`: how fast the simulator's engines are, how well `auto` chooses.

Owns the three programs that other projects are measured by, the real programs of progs/ that stand
for parsing, callbacks and maps, and the ratio of `auto` to the best single engine over all of
progs/. All figures are CPU time, best of several short runs that alternate between the engines, so
that a busy moment meets all of them. Never asserts.
"""

import dataclasses
import gc
import importlib
import statistics
import struct
import time
from array import array
from collections.abc import Callable
from typing import Any

from harness import suite, tools
from harness.bpf.btf import parse
from harness.bpf.btfext import Ext
from harness.bpf.elf import Object
from harness.bpf.isa import Insn
from harness.bpf.link import LinkedFunction, Program
from harness.errors import ObjectError
from harness.frames import parse_input
from harness.model import Case, Verdict
from harness.sim import context, run, runners
from harness.sim.batch import Batch
from harness.sim.context import Context
from harness.sim.engines import choice
from harness.sim.machine import Machine
from harness.sim.semantics import PROFILES
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import Trace

_PROFILE = "7.3"
_BUDGET = 1 << 50
_NO_TYPES = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 0, 0, 1) + b"\0"
_EXIT = Insn(0x95, 0, 0, 0, 0)
# rounds of the loop for each engine: a tenth of a second or so
_ROUNDS = {"reference": 20_000, "source": 60_000, "native": 20_000_000}
_TRIES = 5
_REAL = {
    "parser": "packet/parser_xdp/more:tcp6",
    "callbacks": "callback/loop/throw_after_loop",
    "maps": "effects/maps/counts:large",
}
_PACKETS = ("eth ipv4 tcp payload=64", "eth ipv6 udp payload=200", "eth vlan=5 ipv4 udp payload=20")
_BATCH = 1_000
# the first run of a program, and many
_REPEATS = (1, 300)
# a ratio of `auto` above which a program is measured again, and how often at most
_DOUBTFUL = 1.2
_MORE = 3


def measure() -> dict[str, Any]:
    """Everything, as one document."""
    engines = [n for n in ("reference", "source", "native") if n != "native" or choice.has_native()]
    # what verifiers refuse need not end
    cases = {
        case.id: case
        for case in suite.collect()
        if case.hook == "test_run" and case.expectation.verdict is Verdict.RAN
    }
    tools.say("engines: programs")
    programs = {name: _rates(name, engines) for name in _PROGRAMS}
    tools.say("engines: real objects")
    real = {name: _real(cases[case], engines) for name, case in _REAL.items()}
    tools.say("engines: packets")
    packets = {name: _packets(cases[_REAL["parser"]], name) for name in engines}
    tools.say("engines: auto against each single engine")
    return {
        "million_instructions_per_s": programs,
        "compile_ms": {name: _compile_ms(cases[_REAL["parser"]], name) for name in engines},
        "runs_per_s": real,
        "packets_per_s": packets,
        "auto_to_best": {f"{n} runs": _auto(list(cases.values()), engines, n) for n in _REPEATS},
        "wanted": "reference 5; source 25 / 12 / 25; native 4000 / 3000 / 8000 million "
        "instructions/s on alu / mem / call; packets: source 20 000, native 1 000 000; auto <= 1.5",
    }


# ---- three programs -----------------------------------------------------------------------------


def _ops(*rows: tuple[int, ...]) -> list[Insn]:
    return [Insn(*row) for row in rows]


def _alu(rounds: int) -> Program:
    body = _ops((0xB7, 0, 0, 0, 0), (0xB7, 1, 0, 0, 0), (0xB7, 3, 0, 0, rounds),
                (0x0F, 0, 1, 0, 0), (0xA7, 0, 0, 0, 0x5A5A), (0xBF, 2, 0, 0, 0),
                (0x27, 2, 0, 0, 3), (0x77, 2, 0, 0, 1), (0x0F, 0, 2, 0, 0),
                (0x07, 1, 0, 0, 1), (0xAD, 1, 3, -8, 0))  # fmt: skip
    return _program([*body, _EXIT])


def _mem(rounds: int) -> Program:
    body = _ops((0xB7, 0, 0, 0, 0), (0xB7, 1, 0, 0, 0), (0xB7, 4, 0, 0, rounds),
                (0x7B, 10, 0, -8, 0), (0x79, 2, 10, -8, 0), (0x0F, 2, 1, 0, 0),
                (0x63, 10, 2, -16, 0), (0x61, 3, 10, -16, 0), (0xAF, 0, 3, 0, 0),
                (0x07, 1, 0, 0, 1), (0xAD, 1, 4, -8, 0))  # fmt: skip
    return _program([*body, _EXIT])


def _call(rounds: int) -> Program:
    main = _ops((0xB7, 7, 0, 0, 0), (0xB7, 8, 0, 0, 0), (0xB7, 6, 0, 0, rounds),
                (0xBF, 1, 7, 0, 0), (0xBF, 2, 8, 0, 0), (0x85, 0, 1, 0, 5),
                (0xBF, 8, 0, 0, 0), (0x07, 7, 0, 0, 1), (0xAD, 7, 6, -6, 0),
                (0xBF, 0, 8, 0, 0))  # fmt: skip
    callee = _ops((0xBF, 0, 1, 0, 0), (0x0F, 0, 2, 0, 0), (0xA7, 0, 0, 0, 0x77))
    return _program([*main, _EXIT], [*callee, _EXIT])


def _program(main: list[Insn], callee: list[Insn] | None = None) -> Program:
    functions = [LinkedFunction("main", 0, len(main), "global")]
    insns = (*main, *(callee or ()))
    if callee:
        functions.append(LinkedFunction("f", len(main), len(insns), "static"))
    return Program("main", "syscall", insns, tuple(functions), {}, {})


_PROGRAMS: dict[str, Callable[[int], Program]] = {"alu": _alu, "mem": _mem, "call": _call}


def _rates(name: str, engines: list[str]) -> dict[str, float]:
    """Million instructions a second by engine; compiling is not in it."""
    machines = {engine: _machine(_PROGRAMS[name](_ROUNDS[engine]), engine) for engine in engines}
    for machine in machines.values():
        machine.code(machine.program("main"))
    best = dict.fromkeys(engines, 0.0)
    for _ in range(_TRIES):
        for engine, machine in machines.items():
            before, began = machine.budget, time.process_time()
            machine.run("main", Context(0))
            spent_s = time.process_time() - began
            best[engine] = max(best[engine], (before - machine.budget) / spent_s / 1e6)
    return best


def _machine(program: Program, engine: str) -> Machine:
    nothing = Object("bench", (), (), (), (), (), "GPL", parse(_NO_TYPES), Ext())
    machine = Machine(nothing, PROFILES[_PROFILE], Trace(), _BUDGET)
    machine.engine = choice.named(engine)
    machine.insert(program)
    return machine


# ---- real objects -------------------------------------------------------------------------------


def _loaded(case: Case, engine: str, runs: int | None = None) -> Machine:
    machine = run.machine_for(case, _PROFILE, Trace(), _BUDGET)
    machine.engine = choice.named(engine, runs)
    return machine


def _once(machine: Machine, case: Case) -> None:
    given = context.build(
        machine.program_type, case.hook, case.input, machine.memory, machine.profile
    )
    try:
        machine.run(case.program, given)
    finally:
        machine.memory.release(machine.memory.regions[given.address >> 32])
        if given.packet is not None:
            machine.memory.release(given.packet.region)


def _real(case: Case, engines: list[str]) -> dict[str, float]:
    """Runs a second by engine, with a new context for each."""
    machines = {engine: _loaded(case, engine) for engine in engines}
    best = dict.fromkeys(engines, 0.0)
    for _ in range(_TRIES):
        for engine, machine in machines.items():
            count, began = 0, time.process_time()
            while (spent_s := time.process_time() - began) < 0.1:
                _once(machine, case)
                count += 1
            best[engine] = max(best[engine], count / spent_s)
    return best


def _compile_ms(case: Case, engine: str) -> float:
    """To make one program ready, the first time left out: libraries are loaded then."""
    made = []
    for _ in range(_TRIES):
        machine = _loaded(case, engine)
        program = machine.program(case.program)
        if engine == "native":  # which keeps code for other machines
            importlib.import_module("harness.sim.engines.native").forget_compiled()
        began = time.process_time()
        machine.code(program)
        made.append((time.process_time() - began) * 1e3)
    return min(made)


def _packets(case: Case, engine: str) -> float:
    """Packets a second, as `bpfthrow sim --pcap` runs them."""
    runner = runners.choose(_loaded(case, engine), case, engine)
    frames = [parse_input(text).packet or b"" for text in _PACKETS]
    batch = Batch(data=b"".join(frames))
    places = [(sum(map(len, frames[:i])), len(frame)) for i, frame in enumerate(frames)]
    rows = [places[i % len(places)] for i in range(_BATCH)]
    batch.offsets = array("Q", [start for start, _ in rows])
    batch.lengths = array("Q", [size for _, size in rows])
    batch.originals, batch.times_ns = batch.lengths, array("Q", [0] * _BATCH)
    best = 0.0
    for _ in range(_TRIES):
        began = time.process_time()
        runner(batch, frames=False)
        best = max(best, _BATCH / (time.process_time() - began))
    return best


# ---- auto ---------------------------------------------------------------------------------------


def _auto(cases: list[Case], engines: list[str], repeat: int) -> dict[str, float]:
    """CPU time of `auto` against the best single engine, compiling included, over programs."""
    programs = {(case.object, case.program): case for case in cases}
    chosen = list(programs.values())[:: 1 if repeat == 1 else 12]
    ratios, sums = [], dict.fromkeys((*engines, choice.AUTO), 0.0)
    for case in chosen:
        try:
            spent = _settled(case, engines, repeat)
        except (Fault, Unsupported, ObjectError):
            continue  # it does not run on any engine
        for name in sums:
            sums[name] += spent[name]
        ratios.append(_ratio(spent, engines))
    return {
        "programs": len(ratios),
        "median": statistics.median(ratios),
        "worst": max(ratios),
        "of the sums": sums[choice.AUTO] / min(sums[name] for name in engines),
    }


def _ratio(spent: dict[str, float], engines: list[str]) -> float:
    return spent[choice.AUTO] / min(spent[name] for name in engines)


def _settled(case: Case, engines: list[str], repeat: int) -> dict[str, float]:
    """`_spent` for engines and `auto`, with more tries of all of them where the ratio is high.

    A run takes 0.1 ms, and a busy moment can last for all tries of one program.
    """
    names = [*engines, choice.AUTO]
    spent = _spent(case, names, repeat)
    for _ in range(_MORE):
        if _ratio(spent, engines) <= _DOUBTFUL:
            break
        more = _spent(case, names, repeat)
        spent = {name: min(spent[name], more[name]) for name in names}
    return spent


def _spent(case: Case, engines: list[str], repeat: int) -> dict[str, float]:
    """Seconds from the loaded object to the last run by engine, best of several tries.

    The engines alternate, each try comes after a run of the reference interpreter, and nothing is
    collected: else the figures would tell of caches and of a busy machine.
    """
    case = dataclasses.replace(case, repeat=repeat)
    best = dict.fromkeys(engines, float("inf"))
    gc.disable()
    try:
        for engine in engines * _TRIES:
            _once(_loaded(case, "reference"), case)
            machine = _loaded(case, engine, repeat)
            began = time.process_time()
            for _ in range(repeat):
                _once(machine, case)
            best[engine] = min(best[engine], time.process_time() - began)
    finally:
        gc.enable()
    return best
