# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers with arguments that no verifier lets through: results or faults, never Python errors."""

import random

import pytest

from harness.bpf.elf import read_object
from harness.model import Input
from harness.sim import context, semantics
from harness.sim.frames import PROGRAM, Frame
from harness.sim.helper.dynptrs import KFUNCS
from harness.sim.helpers import HELPERS, bind
from harness.sim.kfuncs import bind as bind_kfunc
from harness.sim.machine import Machine
from harness.sim.signals import Fault, TailCall, Unsupported
from harness.sim.trace import Trace
from harness.sim.world import Process, World

KINDS = {
    "HASH": "map", "ARRAY": "map", "PERCPU_ARRAY": "map", "LRU_HASH": "map", "LPM_TRIE": "map",
    "PERCPU_HASH": "map", "LRU_PERCPU_HASH": "map", "DEVMAP": "map", "CPUMAP": "map",
    "PROG_ARRAY": "map", "QUEUE": "queue", "STACK": "queue", "BLOOM_FILTER": "queue",
    "RINGBUF": "ring", "TASK_STORAGE": "map", "SOCKHASH": "map",
}  # fmt: skip
SHAPES = {
    "map": "__type(key, __u32); __type(value, __u32);",
    "queue": "__type(value, __u32);",
    "ring": "",
}
TEXT = "".join(
    f"struct {{ __uint(type, BPF_MAP_TYPE_{kind}); __uint(max_entries, 4096); {SHAPES[shape]} }}"
    f' m_{kind.lower()} SEC(".maps");\n'
    for kind, shape in KINDS.items()
)
WORLD = World(
    cpus=3, cpu=1, process=Process(1, 2, comm=b"x" * 20), mtus={1: 1500}, fib_result=4,
    socket_cookie=3,
)  # fmt: skip
NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    8,
    14,
    20,
    64,
    255,
    4096,
    65535,
    2**31,
    2**32 - 1,
    2**32,
    2**63,
    2**64 - 1,
)
TRIES = 40


@pytest.fixture
def machine(compiled, request):
    """A machine in the middle of a run, with memory to point to."""
    profile, section = request.param
    kind = section.partition("/")[0]
    text = TEXT + f'SEC("{section}") int entry(void *ctx) {{ return 0; }}\n'
    made = Machine(
        read_object(str(compiled(text))), semantics.profile(profile), Trace(on=True), world=WORLD
    )
    made.program_type = kind
    frame = bytes(12) + b"\x08\x00\x45" + bytes(60)
    made.context = context.build(kind, "test_run", Input(packet=frame), made.memory, made.profile)
    program = made.program("entry")
    stack = made.memory.stack("stack of entry", 1)
    made.frames.append(Frame(program, program.functions[0], PROGRAM, stack, [None] * 11))
    return made


def arguments(machine, rnd):
    memory = machine.memory.regions
    regions = [machine.context.address, *(u.place.handle.address for u in machine.maps.values())]
    regions += [region.address for region in list(memory.values())[-6:]]
    pool = [*NUMBERS, rnd.getrandbits(64)]
    pool += [address + rnd.choice((0, 0, 8, 64, 500)) for address in regions]
    first = rnd.choice(regions) if rnd.random() < 0.6 else rnd.choice(pool)
    return [first, *(rnd.choice(pool) if rnd.random() < 0.97 else None for _ in range(4))]


def try_all(call, machine, rnd, *, loops=False):
    for _ in range(TRIES):
        given = arguments(machine, rnd)
        if loops:
            given[0] = rnd.randrange(5)  # how often: 8 million times takes its time
        try:
            result = call(given)
        except (Fault, Unsupported, TailCall):
            continue
        assert result is None or 0 <= result < 1 << 64


MACHINES = [("6.12", "tc"), ("7.3", "xdp"), ("6.12", "cgroup_skb/ingress")]


@pytest.mark.parametrize("machine", MACHINES, indirect=True, ids=str)
def test_every_helper(machine):
    for number in HELPERS:
        try_all(bind(machine, number), machine, random.Random(number), loops=number == 181)
    for name in KFUNCS:
        try_all(bind_kfunc(machine, name), machine, random.Random(name))
