# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow repro --minimize`: the smallest program that is still refused for the same reason.

Owns the way from a file to the small one: first answers, search, the last check of what is
written. What is the same is harness.minimize_oracle's business.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import repro_bundle
from harness.bpf.asm import assemble_unit
from harness.bpf.asmtext import render
from harness.bpf.declare import Unit, unit_of
from harness.bpf.elf import Object
from harness.bpf.environment import NOWHERE, Environment
from harness.config import Settings
from harness.environments import environment_of
from harness.errors import Exit, MachineLostError, ObjectError, UsageError
from harness.minimize import Search, bytes_of
from harness.minimize_draft import Draft, draft_of, unit_from
from harness.minimize_oracle import (
    Kernels,
    Model,
    Models,
    answer_of,
    model_of,
    models_for,
    opened,
)
from harness.minimize_report import Outcome, Progress, Witness, comments, document, text, witness
from harness.minimize_steps import STEPS
from harness.model import Case, Verdict
from harness.paths import require_parents, write_asked
from harness.repro_bundle import Bundle
from harness.repro_load import Loaded
from harness.repro_report import Answer
from harness.series import SERIES, series_of
from harness.verify.predict import predict
from harness.verify.prediction import Verdict as Foreseen

ASSEMBLER_SUFFIX = ".bpf.s"
_TRIES, _SECONDS = 5000, 900.0
_FLAGS = {"out": "-o", "model": "--model", "exact": "--exact"}
_FIX_CRASH = "bpfthrow bugs knows programs that take kernels down"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that go with --minimize."""
    add = parser.add_argument_group("shrinking").add_argument
    add("--minimize", action="store_true",
        help="find the smallest program that the same rule refuses, as assembler")  # fmt: skip
    add("-o", dest="out", type=Path, metavar="OUT", help="write it there (.bpf.s)")
    add("--exact", action="store_true",
        help="keep the words of every message, not of the rule alone")  # fmt: skip
    add("--model", action="store_true", help="ask the verifier model only, no kernel")
    add("--tries", type=int, default=_TRIES, metavar="N", help="at most so many candidates")
    add("--seconds", type=float, default=_SECONDS, metavar="S", help="at most so long")


def require_possible(arguments: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together."""
    if not arguments.minimize:
        given = [flag for name, flag in _FLAGS.items() if getattr(arguments, name)]
        if given:
            raise UsageError(f"{given[0]} goes with --minimize")
        return
    if arguments.bisect:
        raise UsageError("--minimize and --bisect do not go together", fix="one after the other")
    if arguments.bundle and arguments.model:
        raise UsageError("a bundle needs a kernel's answer", fix="leave out --model")
    if arguments.tries < 1 or arguments.seconds <= 0:
        raise UsageError("--tries and --seconds must be larger than 0")
    require_parents(arguments.out)


@dataclass(slots=True)
class _Work:
    """What is minimised, and what is known so far."""

    arguments: argparse.Namespace
    file: str
    obj: Object
    program: str
    scratch: Path
    began: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)

    @property
    def section(self) -> str:
        return self.obj.program(self.program).section.lstrip("?")


def run(
    arguments: argparse.Namespace,
    settings: Settings,
    obj: Object,
    file: str,
    program: str,
    names: Sequence[str],
) -> int:
    """Shrink and report; the exit code. `file`: the name that a report has for the object."""
    with tempfile.TemporaryDirectory(prefix="bpfthrow-") as scratch:
        work = _Work(arguments, file, obj, program, Path(scratch))
        if arguments.model:
            return _by_model(work, names)
        try:
            with opened(names, settings) as targets:
                kernels = Kernels(targets, program, work.section, work.scratch)
                kernels.exact = arguments.exact
                return _by_kernels(work, kernels)
        except _NobodyError:
            work.notes.append("no kernel could be asked: the verifier model answered alone")
            code = _by_model(work, names)
            return code if code == Exit.INTERRUPTED else Exit.LOST


class _NobodyError(Exception):
    """No kernel can be asked. Never leaves this module."""


# ---- kernels ------------------------------------------------------------------------------------


def _by_kernels(work: _Work, kernels: Kernels) -> int:
    answers = _first_answers(work, kernels)
    if all(answer.taken for answer in answers):
        asked = ", ".join(answer.kernel for answer in answers)
        print(f"{work.program} ({work.section}): {asked} takes it: there is nothing to keep")
        return Exit.OK
    environments = {a.kernel: environment_of(a.seen.provenance.kernel) for a in answers}
    unit = _written_down(work, environments[answers[0].kernel])
    data = _bytes(unit)
    kernels.keys = {answer.kernel: kernels.key(answer) for answer in answers}
    _require_written(kernels, answers, data)
    models, without = models_for(answers, environments, kernels, data)
    if without:
        work.notes.append(
            f"the verifier model does not foresee what {', '.join(without)} says: what it could "
            "not rule out was loaded"
        )
    kernels.answers = tuple(answers)
    search = _search(work, draft_of(unit), kernels.same, models.same)
    interrupted = _shrink(search)
    witnesses = tuple(map(witness, kernels.answers))
    last: list[Answer] = []
    if not interrupted:
        outcome = replace(_outcome(work, search, unit), witnesses=witnesses)
        try:
            last = _last_answers(kernels, outcome)
        except KeyboardInterrupt:
            interrupted = True
    outcome = _outcome(work, search, unit, interrupted=interrupted)
    outcome = replace(
        outcome,
        witnesses=tuple(map(witness, last)) or witnesses,
        loads=kernels.loads,
        predictions=models.asked,
    )
    return _finish(work, outcome, last)


def _first_answers(work: _Work, kernels: Kernels) -> list[Answer]:
    """What each kernel says of the program as it is; those that cannot be asked are left out."""
    case = Case(
        id=f"{work.file}/{work.program}", object=work.obj.path, program=work.program,
        section=work.section, hook="load",
    )  # fmt: skip
    found = []
    for name, target in list(kernels.targets.items()):
        try:
            seen = target.run(case)
        except MachineLostError as error:
            print(f"bpfthrow: {name}: {error}", file=sys.stderr)
            work.notes.append(f"{name} could not be asked")
            del kernels.targets[name]
            continue
        if seen.verdict not in (Verdict.RAN, Verdict.REJECTED):
            died = seen.verdict in (Verdict.CRASHED, Verdict.HUNG)
            raise UsageError(
                f"{name}: {seen.verdict}: {seen.message.partition(chr(10))[0]}: only what a kernel "
                "accepts or refuses is minimised",
                fix=_FIX_CRASH if died else "",
            )
        found.append(answer_of(name, seen))
    if not found:
        raise _NobodyError
    return found


def _require_written(kernels: Kernels, answers: Sequence[Answer], data: bytes) -> None:
    for before in answers:
        after = kernels.load(before.kernel, data)
        if kernels.key(after) != kernels.keys[before.kernel]:
            said = [w.words or w.verdict for w in (witness(before), witness(after))]
            raise UsageError(
                f"{before.kernel}: written down as assembler it is another program: {said[1]!r}, "
                f"not {said[0]!r}",
                fix="ask one kernel at a time where offsets differ; else minimise it in C",
            )


def _last_answers(kernels: Kernels, outcome: Outcome) -> list[Answer]:
    """What each kernel says of the text, assembled as `bpfthrow asm` does it."""
    program, declared = assemble_unit(_text(outcome), file=_name(outcome))
    data = _bytes(Unit(program, declared))
    last = [kernels.load(name, data) for name in kernels.targets]
    for answer in last:
        if kernels.key(answer) != kernels.keys[answer.kernel]:
            raise UsageError(
                f"{answer.kernel}: assembled again the small program says "
                f"{witness(answer).words!r}: please report this"
            )
    return last


# ---- the model ----------------------------------------------------------------------------------


def _by_model(work: _Work, names: Sequence[str]) -> int:
    series = list(dict.fromkeys(series_of(n) for n in names if n[:1].isdigit())) or [SERIES[-1]]
    unit = _written_down(work, NOWHERE)
    data = _bytes(unit)
    nobody = Kernels({}, work.program, work.section, work.scratch)
    found: dict[str, Model] = {}
    for each in series:
        model = model_of(each, NOWHERE, nobody, data, None)
        whole = _model_of_whole(work, each, nobody)
        if model is None or whole is None or model.key != whole.key:
            known = predict(work.obj, work.program, each)
            raise UsageError(
                f"the verifier model does not know what {each} says of {work.program} by itself"
                f"{': ' if known.why else ''}{known.why}",
                fix=f"bpfthrow verify {work.file} --explain says why; ask a kernel",
            )
        found[each] = model
    witnesses = tuple(_model_witness(model, data) for model in found.values())
    if all(each.verdict == "accepted" for each in witnesses):
        print(f"{work.program} ({work.section}): the model takes it: there is nothing to keep")
        return Exit.OK
    models = Models(found, complete=True)
    search = _search(work, draft_of(unit), lambda data: bool(models.same(data)), models.same)
    interrupted = _shrink(search)
    outcome = _outcome(work, search, unit, interrupted=interrupted)
    outcome = replace(outcome, predictions=models.asked)
    program, declared = assemble_unit(_text(outcome), file=_name(outcome))
    small = _bytes(Unit(program, declared))
    witnesses = tuple(_model_witness(model, small) for model in found.values())
    return _finish(work, replace(outcome, witnesses=witnesses), [])


def _model_of_whole(work: _Work, series: str, nobody: Kernels) -> Model | None:
    return model_of(series, NOWHERE, nobody, Path(work.obj.path).read_bytes(), None)


def _model_witness(model: Model, data: bytes) -> Witness:
    found, key = model.predict(data)
    rejected = found.verdict is Foreseen.REJECT
    rule, words = (key[1], key[2]) if rejected and key else ("", "")  # of _key_of_model()
    verdict = "rejected" if rejected else "accepted"
    return Witness(f"model of {model.series}", "", verdict, rule, words)


# ---- both ---------------------------------------------------------------------------------------


def _written_down(work: _Work, environment: Environment) -> Unit:
    try:
        unit = unit_of(work.obj, work.program, environment)
    except ObjectError as error:
        raise UsageError(
            f"{error.message}: what does not link cannot be minimised", fix=error.fix
        ) from error
    unknown = sorted((unit.program.unknown | unit.program.poisoned).items())
    if unknown:
        raise UsageError(
            f"{work.program}: instruction {unknown[0][0]}: {unknown[0][1]}",
            fix="what is not known of a kernel cannot be written as assembler",
        )
    return unit


def _bytes(unit: Unit) -> bytes:
    data = bytes_of(unit)
    if data is None:
        raise UsageError("what the program refers to cannot be written as assembler")
    return data


def _search(
    work: _Work,
    draft: Draft,
    judge: Callable[[bytes], bool],
    scout: Callable[[bytes], bool | None],
) -> Search:
    until = time.monotonic() + work.arguments.seconds
    return Search(draft.pruned(), judge, scout, work.arguments.tries, until, Progress())


def _shrink(search: Search) -> bool:
    """Run the search; whether Ctrl-C ended it."""
    search.confirmed = search.best
    try:
        search.run(STEPS)
    except KeyboardInterrupt:
        return True
    finally:
        if isinstance(search.progress, Progress):
            search.progress.end()
    return False


def _outcome(work: _Work, search: Search, unit: Unit, *, interrupted: bool = False) -> Outcome:
    assert search.confirmed is not None
    ended = (
        "" if search.complete else "--tries or --seconds were used up: there may be a smaller one"
    )
    return Outcome(
        file=work.file,
        program=work.program,
        section=work.section,
        before=draft_of(unit),
        after=search.confirmed,
        witnesses=(),
        history=tuple(search.history),
        tries=search.tries,
        loads=0,
        predictions=0,
        seconds=time.monotonic() - work.began,
        ended="interrupted: there may be a smaller one" if interrupted else ended,
        notes=tuple(work.notes),
        interrupted=interrupted,
    )


def _name(outcome: Outcome) -> str:
    return f"{outcome.program}{ASSEMBLER_SUFFIX}"


def _text(outcome: Outcome) -> str:
    unit = unit_from(outcome.after)
    assert unit is not None
    return render(unit, comments(outcome))


def _finish(work: _Work, outcome: Outcome, last: Sequence[Answer]) -> int:
    """Write and print."""
    arguments, source = work.arguments, _text(outcome)
    if arguments.out:
        write_asked(arguments.out, source.encode())
    if arguments.bundle and last:
        write_asked(arguments.bundle, _bundle(outcome, source, last))
    elif arguments.bundle:
        why = "no kernel has loaded the small one"
        print(f"bpfthrow: {arguments.bundle} was not written: {why}", file=sys.stderr)
    written = str(arguments.out or "")
    if arguments.json:
        print(json.dumps(document(outcome, source), indent=1))
    elif arguments.out:
        print(text(outcome, written))
    else:
        print(source, end="")
        print(text(outcome, ""), file=sys.stderr)
    return Exit.INTERRUPTED if outcome.interrupted else Exit.DIFFERENCE


def _bundle(outcome: Outcome, source: str, last: Sequence[Answer]) -> bytes:
    program, declared = assemble_unit(source, file=_name(outcome))
    loads = tuple(Loaded(answer.kernel, {outcome.program: answer.seen}) for answer in last)
    return repro_bundle.dumps(
        Bundle(
            _name(outcome), (outcome.program,), _bytes(Unit(program, declared)), source.encode(),
            {}, loads,
        )
    )  # fmt: skip
