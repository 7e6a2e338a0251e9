# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow repro`: who rejects this program, why, and since when?"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import (
    config,
    minimize_command,
    repro_bundle,
    repro_load,
    repro_model,
    repro_report,
    suite,
    wire,
)
from harness.asm_command import object_from
from harness.bpf.elf import Object, read_object
from harness.bpf.link import link
from harness.bpf.program import Program
from harness.build import SOURCE_SUFFIX, build
from harness.environments import environment_of
from harness.errors import Exit, ObjectError, UsageError
from harness.kernels import spec
from harness.minimize_command import ASSEMBLER_SUFFIX
from harness.model import Observation, Verdict
from harness.paths import require_parents, write_asked
from harness.repro_bundle import Bundle
from harness.repro_load import Loaded, Pairs
from harness.repro_log import evidence
from harness.repro_report import Answer, Story

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # no other name

_SETTINGS = ("kernel", "cpus", "memory", "cold", "timeout_scale", "accelerator")
_EPILOG = """\
examples:
  bpfthrow repro my.bpf.c --kernel all                 who refuses it, why, how to fix
  bpfthrow repro my.bpf.o --prog parse --kernel 6.12 --kernel 7.3 --json
  bpfthrow repro my.bpf.c --bisect                     between which kernels did the answer change?
  bpfthrow repro my.bpf.c --kernel 7.3 --bundle out.tar
  bpfthrow repro out.tar --kernel 6.18                 the same again, held against the bundle
  bpfthrow repro my.bpf.c --prog parse --kernel 6.12 --kernel 7.3 --minimize -o small.bpf.s
  bpfthrow repro small.bpf.s --kernel 7.3              the small one, which is assembler

exit codes:
  0 every kernel takes it   1 one refuses it   2 usage   128 no kernel could be asked
  130 interrupted (--minimize writes the smallest one so far)
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the verb to the command line's tree."""
    parser = subparsers.add_parser(
        "repro",
        help="load a program on many kernels: who refuses it, why, since when",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help=".bpf.c, .bpf.o, assembler (.bpf.s), or a bundle (.tar)")
    add("--prog", action="append", default=[], metavar="NAME", help="this program only")
    add("--bisect", action="store_true", help="over --kernel (default: all), oldest first")
    add("--bundle", type=Path, metavar="OUT", help="write everything into one file")
    add("--json", action="store_true", help="print JSON, with the whole logs")
    add("-j", "--jobs", type=int, default=2, metavar="N", help="guests at once")
    minimize_command.add_arguments(parser)
    config.add_arguments(parser, _SETTINGS)


def run(arguments: argparse.Namespace) -> int:
    """Load and report; the exit code."""
    settings = config.resolve(arguments)
    minimize_command.require_possible(arguments)
    require_parents(arguments.bundle)
    with ExitStack() as stack:
        subject = _subject(arguments.file, stack)
        programs = _programs(subject.obj, arguments.prog or list(subject.programs))
        names = spec.expand(settings.kernel or (("all",) if arguments.bisect else ("default",)))
        if arguments.minimize:
            only = _only(subject, programs)
            return minimize_command.run(arguments, settings, subject.obj, subject.name, only, names)
        asked, bisected = _load(arguments, settings, subject, programs, names)
        stories = [_story(subject, name, asked, bisected) for name in programs]
        _report(arguments, subject, programs, asked, stories)
    return _exit_code(asked)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is loaded: an object, with its source where there is one, or a bundle's."""

    # of the file
    name: str
    obj: Object
    source: bytes | None
    bundle: Bundle | None

    @property
    def programs(self) -> tuple[str, ...]:
        return self.bundle.programs if self.bundle else ()


def _subject(file: str, stack: ExitStack) -> _Subject:
    path = Path(file)
    if file.endswith(repro_bundle.SUFFIX):
        bundle = repro_bundle.read(path)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bpfthrow-")))
        unpacked = scratch / "object.bpf.o"
        unpacked.write_bytes(bundle.object)
        return _Subject(bundle.name, _object_in(bundle, unpacked, file), bundle.source, bundle)
    if file.endswith(ASSEMBLER_SUFFIX):
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bpfthrow-")))
        assembled = scratch / f"{path.name.removesuffix('.s')}.o"
        assembled.write_bytes(object_from(file))
        return _Subject(path.name, read_object(assembled), path.read_bytes(), None)
    if file.endswith(SOURCE_SUFFIX):
        return _Subject(path.name, read_object(build([path])[0]), path.read_bytes(), None)
    return _Subject(path.name, read_object(path), None, None)


def _object_in(bundle: Bundle, unpacked: Path, file: str) -> Object:
    """A bundle's object; what is wrong with it is said of the bundle, not of where it lies now."""
    try:
        obj = read_object(unpacked)
        for name in bundle.programs:
            obj.program(name)
    except ObjectError as error:
        said = error.message.removeprefix(f"{unpacked}: ")
        fix = "ask for the bundle again: bpfthrow repro FILE --bundle OUT.tar"
        raise UsageError(f"{file}: the object in it: {said}", fix=fix) from error
    return obj


def _only(subject: _Subject, programs: Sequence[str]) -> str:
    """The one program that can be meant."""
    if len(programs) != 1:
        raise UsageError(
            f"{subject.name}: has {len(programs)} programs, and one is minimised",
            fix=f"choose by --prog: {', '.join(programs)}",
        )
    return programs[0]


def _programs(obj: Object, wanted: Sequence[str]) -> list[str]:
    names = [obj.program(name).name for name in wanted]
    if not names:
        names = [program.name for program in obj.programs if program.autoload]
    if not names:
        names = [program.name for program in obj.programs]
    if not names:
        raise UsageError(f"{obj.path}: has no programs")
    return names


def _load(
    arguments: argparse.Namespace,
    settings: config.Settings,
    subject: _Subject,
    programs: Sequence[str],
    names: Sequence[str],
) -> tuple[list[Loaded], Pairs | None]:
    def progress(name: str, seen: Observation) -> None:
        if sys.stderr.isatty():
            print(f"# {name}: {seen.verdict}", file=sys.stderr)

    def load(which: Sequence[str]) -> list[Loaded]:
        return repro_load.load_on(
            which, subject.obj, programs, settings, jobs=arguments.jobs, progress=progress
        )

    if not arguments.bisect or len(names) < 2:
        return load(names), None

    def same(one: Loaded, other: Loaded) -> bool:
        return all(
            _answer(subject, one, name).key == _answer(subject, other, name).key
            for name in programs
        )

    return repro_load.bisect(names, lambda name: load([name])[0], same)


def _answer(subject: _Subject, load: Loaded, name: str) -> Answer:
    seen = load.seen[name]
    if seen.verdict is not Verdict.REJECTED:
        return Answer(load.kernel, seen)
    program = _linked(subject.obj, name, seen.provenance.kernel)
    return Answer(load.kernel, seen, evidence(seen.log, seen.message, program))


def _linked(obj: Object, name: str, release: str) -> Program | None:
    """The program as libbpf hands it over, for its lines; None where it cannot be linked."""
    try:
        return link(obj, name, environment_of(release))
    except ObjectError:
        return None


def _story(subject: _Subject, name: str, asked: Sequence[Loaded], bisected: Pairs | None) -> Story:
    program = _linked(subject.obj, name, "")
    found = (_answer(subject, load, name) for load in asked)
    answers = tuple(repro_model.explained(each, subject.obj, name, program) for each in found)
    lines = program.lines.values() if program else ()
    known = {(line.file.rpartition("/")[2], line.number): line.text for line in lines}
    if subject.source is not None:
        whole = subject.source.decode(errors="replace").splitlines()
        known |= {(subject.name, number): line for number, line in enumerate(whole, 1)}
    nobody = all(answer.seen.verdict in (Verdict.LOST, Verdict.HUNG) for answer in answers)
    model = tuple(repro_model.predicted(subject.obj, name)) if nobody else ()
    section = subject.obj.program(name).section
    return Story(name, section, answers, known, model, bisected)


def _report(
    arguments: argparse.Namespace,
    subject: _Subject,
    programs: Sequence[str],
    asked: Sequence[Loaded],
    stories: Sequence[Story],
) -> None:
    if arguments.bundle:
        _write(arguments.bundle, subject, programs, asked)
    if arguments.json:
        print(json.dumps(repro_report.document(subject.name, stories), indent=1))
        return
    for index, story in enumerate(stories):
        print(("\n" if index else "") + repro_report.text(story))
        if subject.bundle is not None:
            print(_held_against(subject, subject.bundle, story))
    for story in stories:
        for answer in story.answers:
            if answer.seen.verdict is Verdict.LOST:
                print(f"bpfthrow: {answer.kernel}: {answer.seen.message}", file=sys.stderr)


def _held_against(subject: _Subject, bundle: Bundle, story: Story) -> str:
    old = [
        _answer(subject, load, story.program) for load in bundle.loads if story.program in load.seen
    ]
    rows = repro_report.against(bundle.loads, story.answers, story.program, old)
    return f"\nHeld against the bundle:\n{rows}" if rows else "\nThe bundle has no load of it."


def _write(path: Path, subject: _Subject, programs: Sequence[str], asked: Sequence[Loaded]) -> None:
    bundle = Bundle(
        subject.name,
        tuple(programs),
        Path(subject.obj.path).read_bytes(),
        subject.source,
        _expected(subject.obj, programs),
        tuple(asked),
    )
    write_asked(path, repro_bundle.dumps(bundle))


def _expected(obj: Object, programs: Sequence[str]) -> dict[str, object]:
    """What the tags of each program claim; nothing where they claim nothing."""
    try:
        cases = suite.cases_of(obj.path)
    except ObjectError:
        return {}
    return {
        case.program: wire.to_json(case.expectation) for case in cases if case.program in programs
    }


def _exit_code(asked: Sequence[Loaded]) -> int:
    verdicts = {seen.verdict for load in asked for seen in load.seen.values()}
    if verdicts == {Verdict.LOST}:
        return Exit.LOST
    if verdicts <= {Verdict.RAN}:
        return Exit.OK
    return Exit.DIFFERENCE
