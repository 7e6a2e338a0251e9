# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow verify`: its options, and with --ranges what is known around each assertion.

The model alone is harness.verify.command's business. Here is what asks kernels: --kernel loads the
program with a log of level 2 and puts what it prints beside what the model knows.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import config
from harness.bpf.elf import Function, Object, read_object
from harness.bpf.environment import Environment
from harness.bpf.program import Program
from harness.build import SOURCE_SUFFIX, build
from harness.errors import Exit, UsageError
from harness.model import Case, Loading, Observation, Verdict
from harness.series import SERIES, series_of
from harness.sim import semantics
from harness.verify import attach, command, kernel_log, knowledge, loading, prediction, rangetable
from harness.verify.explain import words
from harness.verify.knowledge import Learnt
from harness.verify.predict import predict
from harness.verify.prediction import NotModelled, Rejection, Subject
from harness.verify.rangetable import Table

_SETTINGS = ("cpus", "memory", "cold", "timeout_scale", "accelerator")
_NOTHING = Learnt((), ())
_EVERY_STATE = 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `verify` command."""
    parser = command.add_parser(subparsers)
    parser.add_argument("--ranges", action="store_true",
        help="what is known of registers before and after each assertion")  # fmt: skip
    # not the setting of that name: only who asks for a kernel waits for one
    parser.add_argument("--kernel", dest="kernels", action="append", metavar="K",
        help="with --ranges: beside what this kernel's verifier says; may repeat")  # fmt: skip
    config.add_arguments(parser, _SETTINGS)
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the command. Raises UsageError or ObjectError for the caller's mistakes."""
    asks = bool(args.kernels)
    if not args.ranges:
        if asks:
            raise UsageError("--kernel goes with --ranges", fix="bpfthrow repro asks kernels")
        return command.run(args, _kernels)
    if args.explain or args.output:
        raise UsageError("--ranges goes neither with --explain nor with -o csv")
    if asks and args.profiles:
        raise UsageError("--kernel says which profile is meant", fix="leave out --profile")
    for name in args.profiles or ():
        semantics.profile(name)
    file = str(build([args.file])[0]) if args.file.endswith(SOURCE_SUFFIX) else args.file
    obj = read_object(file)
    programs = command.programs_of(obj, args.prog, args.file)
    found = list(_asked(args, obj, programs) if asks else _modelled(args, obj, programs))
    _print(args, found, asked=asks)
    return _exit_code(found)


def _kernels(obj: Object, profile: str) -> Environment | None:
    """What libbpf would ask the newest kernel of the series that is in the cache, if any is."""
    from harness.environments import environment_of_series, needs_kernel  # noqa: PLC0415

    named = any(attach.named_in_kernel(program.section) for program in obj.programs)
    return environment_of_series(profile) if named or needs_kernel(obj) else None


@dataclass(frozen=True, slots=True)
class Ranges:
    """One program on one profile, with or without a kernel."""

    program: str
    section: str
    profiles: tuple[str, ...]
    # release; "": none was asked
    kernel: str = ""
    linked: Program | None = None
    tables: tuple[Table, ...] = ()
    # why one of the sides has nothing to say
    notes: tuple[str, ...] = ()
    lost: bool = False

    @property
    def differing(self) -> int:
        """Registers on which the two disagree."""
        return sum(row.agree is False for each in self.tables for row in each.rows)


def _modelled(
    args: argparse.Namespace, obj: Object, programs: Sequence[Function]
) -> Iterator[Ranges]:
    for program in programs:
        for name in dict.fromkeys(args.profiles or SERIES):
            environment = command.environment_for(args, obj, name, _kernels)
            yield ranges(obj, program, name, environment, args.budget)


def _asked(args: argparse.Namespace, obj: Object, programs: Sequence[Function]) -> Iterator[Ranges]:
    # what runs guests takes long to import, and the model alone does not need it
    from harness.environments import environment_of  # noqa: PLC0415
    from harness.kernels import spec  # noqa: PLC0415
    from harness.target.base import open_target  # noqa: PLC0415

    settings = config.resolve(args)
    for name in spec.expand(args.kernels):
        with open_target(f"vm:{name}", settings) as target:
            for program in programs:
                seen = target.run(_case(obj, program))
                release = seen.provenance.kernel or name
                environment = environment_of(release)
                profile = series_of(release)
                yield ranges(obj, program, profile, environment, args.budget, seen)


def _case(obj: Object, program: Function) -> Case:
    return Case(
        id=f"{Path(obj.path).name}/{program.name}",
        object=obj.path,
        program=program.name,
        section=program.section,
        hook="load",
        loading=Loading(alone=True, log_level=_EVERY_STATE),
    )


def ranges(  # what is asked, and of whom
    obj: Object,
    program: Function,
    profile: str,
    environment: Environment,
    budget: int,
    seen: Observation | None = None,
) -> Ranges:
    """What the model knows, and what the load `seen` of a kernel says, around each assertion."""
    head = Ranges(program.name, program.section, (profile,))
    kernel = semantics.profile(profile)
    try:
        linked = loading.linked(obj, program.name, kernel, environment)
    except (Rejection, NotModelled) as error:
        return replace(head, notes=(f"model: {error}",))
    places = knowledge.assertions(linked)
    notes: list[str] = []
    model: dict[int, Learnt] = {}
    found = predict(obj, program.name, kernel, environment=environment, budget=budget)
    if found.verdict is prediction.Verdict.ACCEPT:
        model = knowledge.of_model(Subject(obj, linked, kernel), budget, places)
    else:
        notes.append(f"model: {found.verdict}: {words(found) or found.why}")
    theirs: dict[int, Learnt] = {}
    if seen is not None:
        theirs = knowledge.of_kernel(kernel_log.parse(seen.log), places)
        if seen.verdict is not Verdict.RAN:
            notes.append(f"kernel: {seen.verdict}: {seen.message}")
    return replace(
        head,
        kernel=seen.provenance.kernel if seen is not None else "",
        linked=linked,
        tables=tuple(
            rangetable.table(place, model.get(place.pc, _NOTHING), theirs.get(place.pc, _NOTHING))
            for place in places
        ),
        notes=tuple(notes),
        lost=seen is not None and seen.verdict is Verdict.LOST,
    )


def _print(args: argparse.Namespace, found: Sequence[Ranges], *, asked: bool) -> None:
    if args.json:
        print(json.dumps([_json(each) for each in found], indent=2))
        return
    merged: dict[tuple[str, ...], list[Ranges]] = {}
    for each in found:
        merged.setdefault((each.program, each.kernel, *_lines(each)), []).append(each)
    stories = []
    for group in merged.values():
        names = ", ".join(profile for each in group for profile in each.profiles)
        first = group[0]
        kernel = f", kernel {first.kernel}" if first.kernel else ""
        head = f"{first.program} ({first.section}) on {names}{kernel}"
        stories.append("\n".join([head, *(f"  {line}" for line in _lines(first))]))
    if asked:
        rows = [row for each in found for table in each.tables for row in table.rows]
        compared = [row for row in rows if row.agree is not None]
        differing = sum(not row.agree for row in compared)
        agreeing = len(compared) - differing
        stories.append(f"{len(compared)} compared: {agreeing} agree, {differing} differ")
    print("\n\n".join(stories))


def _lines(each: Ranges) -> list[str]:
    lines = list(each.notes)
    if each.linked is not None:
        lines += rangetable.text(each.linked, list(each.tables), kernel=bool(each.kernel))
    if each.linked is not None and not each.tables:
        lines.append("no assertion: no conditional jump has a side that always throws")
    return lines


def _json(each: Ranges) -> dict[str, object]:
    linked = each.linked
    return {
        "program": each.program,
        "section": each.section,
        "profile": each.profiles[0],
        "kernel": each.kernel or None,
        "notes": list(each.notes),
        "assertions": [rangetable.to_json(linked, one) for one in each.tables] if linked else [],
        "differ": each.differing,
    }


def _exit_code(found: Sequence[Ranges]) -> int:
    if any(each.lost for each in found):
        print("bpfthrow: a kernel could not be asked", file=sys.stderr)
        return Exit.LOST
    wrong = any(each.differing or each.notes for each in found)
    return Exit.DIFFERENCE if wrong else Exit.OK
