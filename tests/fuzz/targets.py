# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is fuzzed: entry points that read what somebody else wrote, as functions of bytes.

Each returns when the bytes are fine or are refused with an error of our own; everything else that
comes out of it was found. Shared by the driver (tests/fuzz/driver.py, `make fuzz-parsers`), by the
hypothesis tests and by the test that repeats what was found (tests/unit/test_fuzz.py).
"""

import functools
import gzip
import itertools
import random
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import captures
from sim import agreement, programs

from harness import build
from harness.bpf import asm, btf, btfext, core, disasm, isa, objdump, rawelf, reserved
from harness.bpf.elf import read_object
from harness.bpf.environment import NOWHERE, SEEDED, Environment
from harness.bpf.link import LinkedFunction, Program, Ref, RefKind, link
from harness.conformance import machine as raw
from harness.conformance import vectors
from harness.errors import BpfthrowError
from harness.frames import parse_input
from harness.model import Case, Input
from harness.sim import run
from harness.sim.engines import choice
from harness.sim.helpers import HELPERS
from harness.sim.pcap import Capture
from harness.sim.semantics import PROFILES
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import Trace

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = ROOT / "tests/data/objects"
# instructions that one run may execute: enough for a loop, soon over
BUDGET = 3_000
# the longest input that is tried
MOST_BYTES = 40_000
# a program as long as this says nothing that a shorter one does not
MOST_INSNS = 256
KFUNCS = (
    "bpf_throw", "bpf_rcu_read_lock", "bpf_rcu_read_unlock", "bpf_preempt_disable",
    "bpf_preempt_enable", "bpf_local_irq_save", "bpf_local_irq_restore", "bpf_iter_num_new",
    "bpf_iter_num_next", "bpf_iter_num_destroy", "bpf_obj_new_impl", "bpf_obj_drop_impl",
    "bpf_refcount_acquire_impl", "bpf_list_push_front_impl", "bpf_list_pop_front",
    "bpf_rbtree_add_impl", "bpf_rbtree_remove", "bpf_rbtree_first", "bpf_dynptr_slice",
    "bpf_dynptr_adjust", "bpf_dynptr_clone", "bpf_cast_to_kern_ctx", "bpf_no_such_function",
)  # fmt: skip


@functools.cache
def _scratch() -> Path:
    """A file that is in memory, for what only reads files."""
    place = Path("/dev/shm")
    where = str(place) if place.is_dir() else None
    _scratch.directory = tempfile.TemporaryDirectory(prefix="bpfthrow-fuzz-", dir=where)
    return Path(_scratch.directory.name) / "input"


def _file(data: bytes) -> Path:
    _scratch().write_bytes(data)
    return _scratch()


def _split(data: bytes, parts: int) -> list[bytes]:
    """Cut at lengths that stand in front, two bytes each; the last part is the rest."""
    at = (parts - 1) * 2
    sizes = [int.from_bytes(data[n : n + 2], "little") for n in range(0, at, 2)]
    found = []
    for size in sizes:
        found.append(data[at : at + size])
        at += size
    return [*found, data[at:]]


def _joined(*parts: bytes) -> bytes:
    assert all(len(part) < 1 << 16 for part in parts[:-1])
    return b"".join(len(p).to_bytes(2, "little") for p in parts[:-1]) + b"".join(parts)


# ---- readers -------------------------------------------------------------------------------


def elf(data: bytes) -> None:
    """The ELF reader by itself, and the listing of what it read."""
    objdump.listing(rawelf.parse("fuzz.o", data))


def link_all(data: bytes) -> None:
    """A whole object: ELF, BTF, BTF.ext, maps, every program linked, for two kinds of kernel."""
    obj = read_object(_file(data))
    known = Environment(obj.btf, "6.12", SEEDED, complete=False)
    for program in itertools.islice(obj.programs, 20):
        for environment in (NOWHERE, known):
            try:
                disasm.listing(link(obj, program.name, environment))
            except BpfthrowError:
                continue


def types(data: bytes) -> None:
    """BTF: all that can be asked of every type."""
    found = btf.parse(data)
    for type_id in range(min(len(found), 2000)):
        for ask in (found.type, found.resolve, found.size_of):
            try:
                seen = ask(type_id)
            except BpfthrowError:
                continue
            if isinstance(seen, btf.Type):
                found.find(seen.kind, seen.name)


def lines(data: bytes) -> None:
    """BTF.ext: functions, lines, CO-RE relocations."""
    first, second = _split(data, 2)
    btfext.parse_ext(second, btf.parse(first))


def relocations(data: bytes) -> None:
    """CO-RE: a relocation between two sets of types."""
    head, local, target = _split(data, 3)
    relocation = btfext.CoreRelocation(
        int.from_bytes(head[:2], "little"), head[4:].decode("latin-1"), head[2] if head[2:] else 0
    )
    ours, theirs = btf.parse(local), btf.parse(target)
    core.describe(relocation, ours)
    core.resolve(relocation, ours, theirs)
    core.resolve(relocation, ours, None)


def assembler(data: bytes) -> None:
    """The assembler, both dialects; what it makes is listed and assembled again."""
    text = data.decode("utf-8", "replace")
    for dialect in ("kernel", "llvm"):
        try:
            program = asm.assemble(text, dialect=dialect)
        except BpfthrowError:
            continue
        disasm.listing(program)
        again = "\n".join(disasm.source(program.insns, pc) for pc in disasm.starts(program.insns))
        if not program.refs:
            assert asm.assemble(again).insns == program.insns


def decoder(data: bytes) -> None:
    """Instructions to words: all dialects, and what is wrong with reserved fields."""
    insns = isa.decode(data)
    assert isa.encode(insns) == data
    for pc in disasm.starts(insns):
        words = disasm.source(insns, pc)
        disasm.line(insns, pc)
        objdump.text(insns, pc)
        made = asm.assemble(words).insns
        assert made == insns[pc : pc + len(made)], words
    list(reserved.problems(insns, strict=True))


def vector(data: bytes) -> None:
    """A .data file of the conformance suite."""
    found = vectors.parse(data.decode("utf-8", "replace"), "fuzz", "fuzz.data")
    assert found.skipped or len(found.code) % 8 == 0


def capture(data: bytes) -> None:
    """pcap, pcapng, gzip."""
    with Capture(str(_file(data))) as found:
        for batch in found:
            for number in range(len(batch)):
                assert len(batch.packet(number)) <= len(data) * 1100


# ---- the machine ---------------------------------------------------------------------------


def _engines(data: bytes) -> list[str]:
    """The engines for an input: native code, which takes long to make, for every eighth."""
    wanted = ["reference", "source"]
    return [*wanted, "native"] if choice.has_native() and not zlib.crc32(data) % 8 else wanted


def instructions(data: bytes) -> None:
    """Raw bytes as a program, on every engine of the plugin; they must agree."""
    memory, code = _split(data, 2)
    code = code[: MOST_INSNS * 8]
    wanted = None
    for engine in _engines(data):
        seen = raw.run(code, memory[:256], engine, budget=BUDGET)
        wanted = wanted or seen
        assert (seen.r0, seen.error, seen.budget) == (wanted.r0, wanted.error, wanted.budget), (
            f"{engine}: {seen}, not {wanted}"
        )


def program(data: bytes) -> None:
    """Bytes as a program with maps, globals, helpers, kernel functions; every engine agrees."""
    if not data:
        return
    profiles = sorted(PROFILES)
    made = _program(data[1:])
    name = profiles[data[0] % len(profiles)]
    agreement.agree(
        lambda: programs.machine(made, name, BUDGET), lambda m: programs.run(m, 2), _engines(data)
    )


def _program(data: bytes) -> Program:
    """As programs.machine() wants it: references where numbers stand for something."""
    data = data[: min(len(data), MOST_INSNS * 8) // 8 * 8]
    insns = list(isa.decode(data) or isa.decode(bytes(7) + b"\x95" + bytes(8)))
    starts, refs = {0}, {}
    for pc, insn in enumerate(insns):
        if insn.code == isa.CALL and insn.src == isa.PSEUDO_CALL:
            target = (pc + 1 + insn.imm) % len(insns)
            insns[pc] = replace(insn, imm=target - pc - 1)
            starts.add(target)
        elif insn.code == isa.CALL and insn.src == isa.PSEUDO_KFUNC_CALL:
            refs[pc] = Ref(RefKind.KFUNC, KFUNCS[insn.imm % len(KFUNCS)])
    bounds = [*sorted(starts), len(insns)]
    functions = tuple(
        LinkedFunction(f"f{start}" if start else "main", start, end, "static")
        for start, end in itertools.pairwise(bounds)
    )
    for pc, insn in enumerate(insns):
        if insn.code == isa.LD_IMM64 and insn.src and pc + 1 < len(insns):
            refs[pc] = _reference(insn, functions)
    callback = len(functions) - 1 if len(functions) > 2 else None
    return Program("main", "syscall", tuple(insns), functions, refs, {}, callback)


def _reference(insn: isa.Insn, functions: tuple[LinkedFunction, ...]) -> Ref:
    if insn.src == isa.PSEUDO_FUNC:
        found = functions[insn.imm % len(functions)]
        return Ref(RefKind.FUNCTION, found.name, found.start)
    if insn.src % 2:
        return Ref(RefKind.MAP, programs.MAPS[insn.imm % 2].name)
    return Ref(RefKind.GLOBAL, ".data", insn.imm % 64)


def packet(data: bytes) -> None:
    """Bytes as the packet or the argument of compiled programs; every engine agrees."""
    if not data:
        return
    cases = _packet_cases()
    case = cases[data[0] % len(cases)]
    given = Input(ctx=data[1:4096]) if case.hook == "ctx" else Input(packet=data[1:4096])
    case = replace(case, input=given, hook="test_run")

    def make() -> run.Machine:
        return run.machine_for(case, "7.3", Trace(), 100_000)

    def go(machine: run.Machine) -> object:
        run.check_allowed(machine, case)
        return run._run_all(machine, case)

    agreement.agree(make, go, _engines(data))


# source, program, how the input goes in
_COMPILED = (
    ("packet/parser_xdp", "live", "test_run"), ("packet/parser_tc", "live", "test_run"),
    ("packet/bounds", "", "test_run"), ("packet/routes", "", "test_run"),
    ("effects/packet_xdp", "", "test_run"), ("effects/packet_tc", "", "test_run"),
    ("types/syscall", "", "ctx"),
)  # fmt: skip


@functools.cache
def _packet_cases() -> list[Case]:
    found = []
    for source, wanted, hook in _COMPILED:
        path = build.build([ROOT / "progs" / f"{source}.bpf.c"])[0]
        found += [
            Case("fuzz", str(path), known.name, known.section, hook)
            for known in read_object(path).programs
            if known.name == wanted or not wanted
        ]
    return found


# ---- seeds ---------------------------------------------------------------------------------


def objects() -> list[bytes]:
    """Small objects: what is kept in tests/data, and what was compiled out of progs/."""
    kept = [*sorted(OBJECTS.glob("*.o")), *sorted((ROOT / "build/progs").glob("*/*.o"))]
    return [data for path in kept if len(data := path.read_bytes()) < MOST_BYTES]


def _sections(name: str) -> list[bytes]:
    return [
        data[header.offset : header.offset + header.size]
        for data in objects()
        for header in rawelf.section_headers("seed", data)
        if header.name == name
    ]


def _texts() -> list[bytes]:
    return [code for data in objects() for code in _codes(data)]


def _codes(data: bytes) -> list[bytes]:
    read = rawelf.parse("seed", data)
    return [bytes(s.data) for s in read.sections if s.executable and s.data]


def _assembled() -> list[bytes]:
    found = []
    for code in _texts()[:80]:
        insns = isa.decode(code)
        lines = [disasm.source(insns, pc) for pc in disasm.starts(insns)]
        found.append("\n".join(lines[:60]).encode())
    return found


def _cores() -> list[bytes]:
    return [
        _joined(bytes((2, 0, kind, 0)) + b"0:0", data, data)
        for data in _sections(".BTF")[:60]
        for kind in range(13)
    ]


def _vectors() -> list[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "tests/conformance").rglob("*.data"))]


def _raw_programs() -> list[bytes]:
    parsed = [vectors.parse(text.decode(), "seed", "seed") for text in _vectors()]
    return [_joined(p.memory, p.code) for p in parsed[::6] if p.code]


def _linked_programs() -> list[bytes]:
    made = [programs.generate(random.Random(n).randrange, faulty=n % 2 == 0) for n in range(60)]
    found = [b"\2" + isa.encode(p.insns) for p in made]
    # one call of each helper and of each kernel function, with a pointer in every register
    calls = [*((0, number) for number in HELPERS), *((2, n) for n in range(len(KFUNCS)))]
    for kind, number in calls:
        lines = [f"r{n} = r10\nr{n} += {-16 * n}" for n in range(1, 6)]
        stores = [f"*(u64 *)(r10 -{8 * n}) = 0" for n in range(1, 11)]
        call = f".insn 0x85, 0, {kind}, 0, {number}"
        text = "\n".join([*stores, *lines, call, "r0 = 0", "exit"])
        found.append(b"\2" + isa.encode(asm.assemble(text).insns))
    return found


def _captures() -> list[bytes]:
    frames = [(n * 1000, bytes(60 + n), 60 + n) for n in range(3)]
    plain = [captures.pcap(frames, order=order) for order in "<>"]
    for order in "<>":
        head = captures.section(order) + captures.interface(order, resolution=9, offset_s=5)
        plain += [
            head + b"".join(captures.packet(order, *frame, block=kind) for frame in frames)
            for kind in ("enhanced", "old")
        ]
    return [*plain, *(gzip.compress(p, mtime=0) for p in plain)]


def _packets() -> list[bytes]:
    words = ("eth ipv4 tcp payload=10", "eth vlan=7 ipv6 udp payload=4", "eth ipv4 udp cut=30")
    frames = [parse_input(w).packet or b"" for w in words]
    return [bytes([n]) + frame for n in range(len(_packet_cases())) for frame in frames]


# name -> what is fuzzed, what it begins with
TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "elf": (elf, objects),
    "link": (link_all, objects),
    "btf": (types, lambda: _sections(".BTF")),
    "btfext": (
        lines,
        lambda: [_joined(*p) for p in zip(_sections(".BTF"), _sections(".BTF.ext"), strict=True)],
    ),
    "core": (relocations, _cores),
    "asm": (assembler, _assembled),
    "decoder": (decoder, _texts),
    "vectors": (vector, _vectors),
    "capture": (capture, _captures),
    "instructions": (instructions, _raw_programs),
    "program": (program, _linked_programs),
    "packet": (packet, _packets),
}


def check(name: str, data: bytes) -> None:
    """Run one target; errors of our own are right answers."""
    try:
        TARGETS[name][0](data)
    except BpfthrowError as error:
        assert error.message  # noqa: PT017  # most bytes are no error
    except (Fault, Unsupported) as error:
        raise AssertionError(f"{type(error).__name__} got out: {error}") from error
