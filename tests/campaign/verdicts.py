# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The verifier model against kernels, on programs that nobody has seen: mutants of progs/.

    .venv/bin/python tests/campaign/verdicts.py --kernel 6.12 --kernel 7.3 --programs 5000 --seed 1
    .venv/bin/python tests/campaign/verdicts.py --kernel 6.12 --programs 1 --seed 4711 --log
    .venv/bin/python tests/campaign/verdicts.py --kernel 7.3 progs/throw mine.bpf.c
    .venv/bin/python tests/campaign/verdicts.py --kernel 6.18 --made 20 --programs 2000

Each seed is a program: fifty neighbours are made of the same one of progs/ (or of PATHs, or of
objects made at random, grammar.py), with one to three instructions changed (mutants.py); the first
of the fifty is left as it is. libbpf loads that one in a guest, and the kernel is
asked about all fifty (loads.py). Listed is what the model predicted wrongly: verdict, errno or
words. What it calls unknown is counted; the kernel is not asked. Exit code 1 where something was
wrong. Not a part of `make test`.
"""

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grammar
import paramiko
from mutants import Mutant, mutant

from harness import build, config
from harness.bpf.elf import Object, read_object
from harness.bpf.environment import Environment
from harness.bpf.isa import Insn, encode
from harness.bpf.program import Program
from harness.environments import environment_of
from harness.errors import BpfthrowError, MachineLostError
from harness.logmatch import missing
from harness.normalize import messages
from harness.series import series_of
from harness.sim import semantics
from harness.target.base import Target, open_target
from harness.target.channel import Files
from harness.verify import loading
from harness.verify.predict import predict_linked
from harness.verify.prediction import NotModelled, Prediction, Rejection, Subject, Verdict

NEIGHBOURS = 50
_PLACE = "/run/verdicts"
_TIMEOUT_S = 300.0
# instructions that the model explores before it calls a program unknown
_BUDGET = 4000
# of wrong ones of which the same is said
_SHOWN = 3
# the kernel would crash while it loads these
_CRASHES = "A:"
# libbpf puts these into the place of what the kernel says of a call that nobody could resolve
_LIBBPF = re.compile(
    r"kfunc '\w+' is referenced but wasn't resolved|failed to resolve CO-RE relocation.*"
)


@dataclass(frozen=True, slots=True)
class Base:
    """A program as libbpf hands it to one kernel."""

    path: Path
    obj: Object
    program: Program

    def __str__(self) -> str:
        return f"{self.path.name.removesuffix('.bpf.o')}/{self.program.name}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One seed: what was made of a program, and what the model says."""

    seed: int
    base: Base
    mutant: Mutant
    found: Prediction

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.base} with {self.mutant or 'nothing changed'}"


@dataclass
class Tally:
    """How predictions came out; why there was none."""

    outcomes: Counter = field(default_factory=Counter)
    unknown: Counter = field(default_factory=Counter)
    # wrong ones by what was said of them
    alike: Counter = field(default_factory=Counter)
    wrong: int = 0

    def add(self, sample: Sample, code: int, lines: Sequence[str]) -> str:
        """Count one; the complaint, "" where there is none."""
        found = sample.found
        said = "accept" if code == 0 else "reject"
        problem = _problem(found, code, lines)
        self.outcomes[f"{said} {problem or 'as predicted'}"] += 1
        if not problem:
            return ""
        self.wrong += 1
        kernel = f"errno {code}: " + " / ".join(messages("\n".join(lines))) if code else "accepts"
        alike = f"{problem}; kernel {kernel}; model {found.message or found.why}"
        self.alike[alike] += 1
        if self.alike[alike] > _SHOWN:
            return ""
        words = f" (errno {found.errno}, instruction {found.pc}): {found.message or found.why}"
        return (
            f"{sample}\n    {problem}; kernel {kernel}\n    model {found.verdict}"
            f"{words if found.verdict is Verdict.REJECT else ''}"
        )


def _problem(found: Prediction, code: int, lines: Sequence[str]) -> str:
    if (found.verdict is Verdict.ACCEPT) != (code == 0):
        return "WRONG VERDICT"
    if found.errno not in (None, code) and code:
        return "WRONG ERRNO"
    words = _LIBBPF.sub("invalid func unknown#", found.message)
    return "WRONG WORDS" if words and missing([words], "\n".join(lines)) else ""


# ---- programs -----------------------------------------------------------------------------------


def objects(paths: Sequence[str]) -> list[Path]:
    """Objects as they are; sources, and directories of sources and objects, compiled."""
    found = []
    for path in map(Path, paths or [build.PROGS]):
        if path.is_dir():
            found += [*build.build(build.sources_of(path)), *sorted(path.rglob("*.bpf.o"))]
        else:
            found += [path] if path.name.endswith(".o") else build.build([path])
    return found


def write_sources(count: int, seed: int, into: Path) -> list[str]:
    """Sources of random programs, ten in each; their paths."""
    into.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(seed, seed + count):
        path = into / f"made_{number}.bpf.c"
        path.write_text(grammar.source(str(number)))
        found.append(str(path))
    return found


def bases(paths: Sequence[str], series: str, environment: Environment) -> list[Base]:
    """Everything that links."""
    found = []
    for path in objects(paths):
        obj = read_object(path)
        for each in obj.programs:
            try:
                linked = loading.linked(obj, each.name, semantics.profile(series), environment)
            except (Rejection, NotModelled):
                continue
            found.append(Base(path, obj, linked))
    return found


def samples(
    among: Sequence[Base],
    seeds: range,
    series: str,
    environment: Environment,
    budget: int = _BUDGET,
) -> Iterator[Sample]:
    """What each seed stands for."""
    for seed in seeds:
        base = random.Random(f"base {seed // NEIGHBOURS}").choice(among)
        as_it_is = not seed % NEIGHBOURS
        made = Mutant(base.program, {}) if as_it_is else mutant(base.program, f"{seed}")
        subject = Subject(base.obj, made.program, semantics.profile(series))
        try:
            found = predict_linked(subject, environment=environment, budget=budget)
        except Exception:
            print(f"seed {seed}: {base} with {made}: the model breaks down", file=sys.stderr)
            raise
        yield Sample(seed, base, made, found)


# ---- the kernel's word --------------------------------------------------------------------------


def ask(target: Target, asked: Sequence[Sample], *, log: bool) -> dict[int, tuple[int, list[str]]]:
    """Seed -> (errno, last lines of the log), of those that the kernel answered."""
    jobs: dict[tuple[str, str], list[Sample]] = {}
    for sample in asked:
        jobs.setdefault((sample.base.path.name, sample.base.program.name), []).append(sample)
    files = {f"{_PLACE}/loads.py": Path(__file__).with_name("loads.py")}
    files |= {f"{_PLACE}/{s.base.path.name}": s.base.path for s in asked}
    text = json.dumps([_job(place, each, log=log) for place, each in jobs.items()])
    files[f"{_PLACE}/jobs.json"] = text.encode()
    Files(target.transport).push(files)
    rows = _run(target, f"python3 {_PLACE}/loads.py {_PLACE}/jobs.json")
    grouped, answers = list(jobs.values()), {}
    for job, variant, code, lines in rows:
        if variant >= 0:
            answers[grouped[job][variant].seed] = (code, lines)
        else:
            print(f"{grouped[job][0].base}: {lines[0]}", file=sys.stderr)
            answers |= {sample.seed: (-1, []) for sample in grouped[job]}
    return answers


def _job(place: tuple[str, str], asked: Sequence[Sample], *, log: bool) -> dict:
    return {
        "object": f"{_PLACE}/{place[0]}",
        "program": place[1],
        "count": len(asked[0].base.program.insns),
        "log": log,
        "variants": [
            [
                [pc, encode((new,)).hex() if isinstance(new, Insn) else new]
                for pc, new in sorted(sample.mutant.changes.items())
            ]
            for sample in asked
        ],
    }


def _run(target: Target, command: str) -> list[list]:
    channel = target.transport.open_session()
    text = b""
    try:
        channel.settimeout(_TIMEOUT_S)
        channel.exec_command(command)
        for piece in iter(lambda: channel.recv(1 << 16), b""):
            text += piece
        if not text:
            print(channel.recv_stderr(1 << 16).decode(errors="replace"), file=sys.stderr)
    except (OSError, paramiko.SSHException) as error:
        print(f"the guest's answer breaks off: {error!r}", file=sys.stderr)
    finally:
        channel.close()
    rows = [line for line in text.split(b"\n") if line.endswith(b"]]")]
    return [json.loads(row) for row in rows]


# ---- the campaign -------------------------------------------------------------------------------


def campaign(target: Target, arguments: argparse.Namespace) -> Tally:
    """All seeds on one kernel."""
    tally, began_s = Tally(), time.monotonic()
    series, environment = series_of(target.release), environment_of(target.release)
    among = bases(arguments.paths, series, environment)
    last = arguments.seed + arguments.programs
    for first in range(arguments.seed, last, arguments.batch):
        seeds = range(first, min(first + arguments.batch, last))
        asked = []
        for sample in samples(among, seeds, series, environment, arguments.budget):
            if sample.found.verdict is Verdict.UNKNOWN:
                tally.outcomes["unknown"] += 1
                tally.unknown[sample.found.why] += 1
            elif any(bug.startswith(_CRASHES) for bug in sample.found.bugs):
                tally.outcomes["not asked: would crash"] += 1
            else:
                asked.append(sample)
        _judge(target, asked, tally, arguments)
    took_s = time.monotonic() - began_s
    print(f"{target.release}, seeds {arguments.seed} to {last - 1}, {took_s:.0f} s: ", end="")
    print(", ".join(f"{count} {what}" for what, count in tally.outcomes.most_common()))
    for what, count in tally.alike.most_common():
        print(f"    wrong {count}: {what}")
    for why, count in tally.unknown.most_common(arguments.reasons):
        print(f"    unknown {count}: {why}")
    return tally


def _judge(
    target: Target, asked: Sequence[Sample], tally: Tally, arguments: argparse.Namespace
) -> None:
    answers = ask(target, asked, log=arguments.log) if asked else {}
    lost = [sample for sample in asked if sample.seed not in answers]
    for sample in asked:
        code, lines = answers.get(sample.seed, (-1, []))
        if code < 0:
            tally.outcomes["not loaded"] += 1
            continue
        if arguments.log:
            print(sample, *lines, sample.found, sep="\n")
        complaint = tally.add(sample, code, lines)
        if complaint:
            print(complaint, flush=True)
    if lost:
        tally.wrong += 1
        print(f"{lost[0]}\n    THE GUEST IS LOST; model {lost[0].found.verdict}", flush=True)
        target.renew()


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    config.add_arguments(parser, ["kernel", "cpus", "memory", "accelerator", "timeout_scale"])
    parser.add_argument("paths", nargs="*", help="sources or objects (default: progs/)")
    parser.add_argument("--seed", type=int, help="the first (default: random; it is printed)")
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument(
        "--made", type=int, default=0, metavar="N", help="make N objects of programs"
    )
    parser.add_argument("--batch", type=int, default=200, help="programs asked about at once")
    parser.add_argument("--budget", type=int, default=_BUDGET, help="instructions explored")
    parser.add_argument("--reasons", type=int, default=8, help="most reasons for `unknown` shown")
    parser.add_argument("--log", action="store_true", help="print the kernel's whole log of each")
    arguments = parser.parse_args()
    if arguments.seed is None:
        arguments.seed = random.randrange(1 << 30)
    settings, wrong = config.resolve(arguments), 0
    if arguments.made:
        into = build.PROGS.parent / "build" / "verdicts"
        arguments.paths += write_sources(arguments.made, arguments.seed, into)
    for kernel in settings.kernel or ("default",):
        with open_target(f"vm:{kernel}", settings) as target:
            wrong += campaign(target, arguments).wrong
    print(f"{wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (MachineLostError, BpfthrowError) as error:
        sys.exit(f"verdicts.py: {error}")
