# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow verify`: would a kernel load this program, and if not, why?

Owns its options and which programs and profiles are meant. The answer is harness.verify.predict's,
its words harness.verify.explain's.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from harness.bpf.elf import Function, Object, read_object
from harness.bpf.environment import Environment
from harness.bpf.link import link
from harness.bpf.program import Program
from harness.build import NO_PROGRAM, SOURCE_SUFFIX, build
from harness.errors import Exit, ObjectError, UsageError
from harness.series import SERIES
from harness.sim import kernelargs, semantics
from harness.verify.explain import Answer, brief, explain
from harness.verify.predict import DEFAULT_BUDGET, predict
from harness.verify.prediction import Verdict
from harness.verify.veristat import Timed, table

_EPILOG = f"""examples:
  bpfthrow verify parse.bpf.o                          every program, every series
  bpfthrow verify parse.bpf.c --prog parse --explain   what, where, why, how to fix
  bpfthrow verify parse.bpf.o --profile 7.3 --json | jq '.[] | select(.verdict != "accept")'
  bpfthrow verify parse.bpf.o --profile 6.12 -o csv > model.csv
  bpfthrow verify parse.bpf.c --ranges --profile 7.3   what each assertion lets the verifier know
  bpfthrow verify parse.bpf.c --ranges --kernel 7.3    ... beside what that kernel's log says
  bpfthrow verify core.bpf.o --btf /boot/vmlinuz-6.12 --profile 6.12

The answer is a prediction of a model of the verifier; only --kernel asks a kernel. What the model
does not know is `unknown`, with the reason. Profiles: {", ".join(SERIES)}. Where a program asks
for the kernel's types (CO-RE, vmlinux.h) and no option names any, those of the kernels that this
tool has fetched are taken.

exit codes: 0 accepted by all profiles, 1 rejected or unknown, or model and kernel differ,
  2 wrong usage or a broken file, 128 a kernel could not be asked
"""


# what a kernel of that profile gives to an object that asks for it; None: nothing is known of one
Kernels = Callable[[Object, str], Environment | None]


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> argparse.ArgumentParser:
    """Add the `verify` command; its parser, for what harness.ranges_command adds."""
    parser = subparsers.add_parser(
        "verify",
        help="predict what the verifier says",
        description="Predict whether kernels load a program, and explain why they do not.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="object (.bpf.o), or source (.bpf.c), which is compiled")
    add("--prog", metavar="NAME", help="this program only")
    add("--profile", dest="profiles", action="append", metavar="P",
        help=f"kernel series; several add up (default: {', '.join(SERIES)})")  # fmt: skip
    add("--explain", action="store_true", help="what, where, why, how to fix, and the path there")
    add("--json", action="store_true", help="print JSON")
    add("-o", "--output", choices=("csv",), help="csv: a table that veristat reads; one profile")
    add("--budget", type=int, default=DEFAULT_BUDGET, metavar="N",
        help="instructions to explore before giving up (default: %(default)s)")  # fmt: skip
    kernelargs.add_arguments(parser)
    parser.set_defaults(func=run)
    return parser


def run(args: argparse.Namespace, kernels: Kernels | None = None) -> int:
    """Run the command. Raises UsageError or ObjectError for the caller's mistakes.

    `kernels`: where types come from if the options name none.
    """
    profiles = tuple(dict.fromkeys(args.profiles or SERIES))
    for name in profiles:
        semantics.profile(name)
    _check(args, profiles)
    file = str(build([args.file])[0]) if args.file.endswith(SOURCE_SUFFIX) else args.file
    obj = read_object(file)
    answers = [
        row
        for program in programs_of(obj, args.prog, args.file)
        for row in _answers(args, obj, program, profiles, kernels)
    ]
    _print(args, answers)
    accepted = all(row.answer.prediction.verdict is Verdict.ACCEPT for row in answers)
    return Exit.OK if accepted else Exit.DIFFERENCE


def _check(args: argparse.Namespace, profiles: Sequence[str]) -> None:
    if args.budget < 1:
        raise UsageError(f"--budget {args.budget}: must be at least 1")
    if args.output and (args.json or args.explain):
        raise UsageError("-o csv goes neither with --json nor with --explain")
    if args.output and len(profiles) > 1:
        raise UsageError("-o csv has no column for profiles", fix="choose one by --profile")


def programs_of(obj: Object, name: str | None, file: str) -> Sequence[Function]:
    """The program of that name, or all of them. `file`: what the object was made from.

    Raises ObjectError or UsageError where there is none.
    """
    if name is not None:
        return (obj.program(name),)
    if not obj.programs:
        raise UsageError(f"{file}: no program in it", fix=NO_PROGRAM)
    return obj.programs


def environment_for(
    args: argparse.Namespace, obj: Object, profile: str, kernels: Kernels | None
) -> Environment:
    """The kernel that the options describe; where they describe none, that of `kernels`."""
    if kernels is not None and not (args.btf or args.kconfig or args.release):
        found = kernels(obj, profile)
        if found is not None:
            return found
    return kernelargs.read(argparse.Namespace(**(vars(args) | {"profile": profile})))


def _answers(
    args: argparse.Namespace,
    obj: Object,
    program: Function,
    profiles: Sequence[str],
    kernels: Kernels | None,
) -> Iterator[Timed]:
    for name in profiles:
        environment = environment_for(args, obj, name, kernels)
        started = time.perf_counter()
        found = predict(obj, program.name, name, environment=environment, budget=args.budget)
        spent_us = round((time.perf_counter() - started) * 1e6)
        linked = _linked(obj, program.name, environment)
        answer = Answer(obj.path, program.name, program.section, (name,), found, linked)
        yield Timed(answer, spent_us)


def _linked(obj: Object, name: str, environment: Environment) -> Program | None:
    """The program again, for its lines; None where libbpf refuses it."""
    try:
        return link(obj, name, environment)
    except ObjectError:
        return None


def _print(args: argparse.Namespace, rows: Sequence[Timed]) -> None:
    if args.json:
        print(json.dumps([_json(row) for row in rows], indent=2))
    elif args.output:
        print(table(rows), end="")
        left_out = sum(row.answer.prediction.verdict is Verdict.UNKNOWN for row in rows)
        if left_out:
            print(f"bpfthrow: left out: {left_out} unknown", file=sys.stderr)
    elif args.explain:
        print("\n\n".join(explain(answer) for answer in _merged(rows)))
    else:
        _print_brief(rows)


def _print_brief(rows: Sequence[Timed]) -> None:
    shown = ""
    for row in rows:
        if row.answer.name != shown:
            print(f"{row.answer.name} ({row.answer.section})")
            shown = row.answer.name
        print("\n".join(brief(row.answer)))


def _merged(rows: Sequence[Timed]) -> list[Answer]:
    """Answers of one program that are equal but for the profile, as one."""
    found: list[Answer] = []
    for answer in (row.answer for row in rows):
        for at, other in enumerate(found):
            if (other.name, other.prediction) == (answer.name, answer.prediction):
                profiles = other.profiles + answer.profiles
                found[at] = dataclasses.replace(other, profiles=profiles)
                break
        else:
            found.append(answer)
    return found


def _json(row: Timed) -> dict[str, object]:
    answer = row.answer
    line = None
    if answer.program is not None and answer.prediction.pc is not None:
        line = answer.program.line_at(answer.prediction.pc)
    return {
        "file": answer.file,
        "program": answer.name,
        "section": answer.section,
        "profile": answer.profiles[0],
        **answer.prediction.to_json(),
        "line": {"file": line.file, "number": line.number, "text": line.text} if line else None,
        "duration_us": row.duration_us,
    }
