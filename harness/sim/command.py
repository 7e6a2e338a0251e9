# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow sim`: run one program of an object in the simulator and show what happened.

Owns its options, which of them go together, and the text output. Input is harness.sim.given's,
--pcap harness.sim.capturerun's, --step harness.sim.step's. Exit code 0 when the program ran, 1
when it faulted or needs something that is not modelled, 2 for a mistake.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path

from harness.bpf.elf import Function, Object
from harness.bpf.sections import attach_target, program_type
from harness.build import NO_PROGRAM, SOURCE_SUFFIX, build
from harness.errors import Exit, UsageError
from harness.frames import DEFAULT_FRAME
from harness.hooks import HOOKS
from harness.model import Case, Companion, Observation, Verdict
from harness.sim import capturerun, kernelargs, step, tracejson, verdicts
from harness.sim.engines import choice
from harness.sim.given import read_input
from harness.sim.machine import DEFAULT_BUDGET
from harness.sim.picture import picture
from harness.sim.run import load, run_case
from harness.sim.semantics import DEFAULT_PROFILE, PROFILES, profile
from harness.sim.trace import Trace, value
from harness.wire import to_json

_WITH_TAG = "bpfthrow:with="

_EPILOG = """examples:
  bpfthrow sim parse.bpf.o --prog parse --packet 'eth ipv4 tcp cut=33' --trace
  bpfthrow sim parse.bpf.o --prog parse --packet ffffffffffff0200000000010800... --profile 7.3
  bpfthrow sim parse.bpf.o --prog parse --packet @frame.bin --hook xdp-native --json
  bpfthrow sim calc.bpf.o --prog calc --ctx 0500000000000000 --repeat 3 --trace=full
  bpfthrow sim parse.bpf.o --prog parse --trace=json | jq 'select(.event == "throw")'
  bpfthrow sim parse.bpf.o --prog parse --packet 'eth ipv4 cut=20' --picture throw.svg
  bpfthrow sim parse.bpf.o --prog parse --packet 'eth ipv4 cut=20' --step
  bpfthrow sim core.bpf.o --prog reads --btf /boot/vmlinuz-6.12 --kconfig /boot/config-6.12
  bpfthrow sim parse.bpf.o --prog parse --pcap in.pcapng.gz --out-pcap out.pcap --plot out.svg

exit codes: 0 the program ran, 1 it faulted or is not supported (--pcap: on some packet),
2 wrong usage or a broken file, 130 Ctrl-C
"""
# (option, what it does not go with)
_EXCLUDES = {
    "pcap": ("packet", "ctx", "trace", "step", "picture", "repeat"),
    "step": ("trace", "json"),
}
_NEEDS_PCAP = ("out_pcap", "plot")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the `sim` command."""
    parser = subparsers.add_parser(
        "sim",
        help="run a program in the simulator",
        description="Run one program of an object in the simulator; no kernel, no root.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="object (.bpf.o), or source (.bpf.c), which is compiled")
    add("--prog", metavar="NAME", help="program; needed where the object has several")
    add("--packet", metavar="HEX|@FILE|WORDS", help=f"frame to run on (default: {DEFAULT_FRAME!r})")
    add("--ctx", metavar="HEX|@FILE", help="argument of a syscall or raw_tp program")
    add("--profile", default=DEFAULT_PROFILE, metavar="P", help=f"one of {', '.join(PROFILES)}")
    add("--hook", default="test_run", metavar="H", help=f"one of {', '.join(HOOKS)}")
    add("--repeat", type=int, default=1, metavar="N", help="runs; globals and maps carry on")
    add("--with", dest="companions", action="append", metavar="NAME",
        help="attach this freplace, fentry or fexit program too (default: by tag)")  # fmt: skip
    add("--budget", type=int, default=DEFAULT_BUDGET, metavar="N",
        help="limit on instructions in all runs; with --pcap: for each packet")  # fmt: skip
    add("--engine", default="auto", choices=choice.NAMES,
        help="what executes (default: auto: by the work ahead)")  # fmt: skip
    add("--json", action="store_true", help="print the observation as JSON")
    _add_seeing(parser)
    _add_captures(parser)
    kernelargs.add_arguments(parser)
    parser.set_defaults(func=run)


def _add_seeing(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("seeing it").add_argument
    add("--trace", nargs="?", const="events", choices=("events", "full", "json", "json-full"),
        help="show calls and throws; 'full': all instructions; 'json': JSON lines")  # fmt: skip
    add("--step", action="store_true", help="step through it: commands on standard input")
    add("--picture", metavar="OUT.svg", help="draw the call tree and the way of the throw")


def _add_captures(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("captures").add_argument
    add("--pcap", metavar="IN", help="run on every packet of a pcap or pcapng file (.gz too, '-')")
    add("--out-pcap", metavar="OUT", help="write the frames that go on, as the program left them")
    add("--plot", metavar="OUT.svg", help="draw the verdicts over time")


def run(args: argparse.Namespace) -> int:
    """Run the command. Raises UsageError or ObjectError for the caller's mistakes."""
    _check(args)
    profile(args.profile)
    environment = kernelargs.read(args)
    case = _case(args)
    if args.pcap is not None:
        wanted = capturerun.Wanted(
            args.pcap, args.out_pcap, args.plot, json=args.json, engine=args.engine
        )
        return capturerun.run(case, args.profile, args.budget, wanted, environment)
    mode = args.trace or ""
    log = Trace(on=bool(mode or args.step or args.picture), instructions=mode.endswith("full"))
    watched = step.stepping(log, sys.stdin, sys.stdout) if args.step else contextlib.nullcontext()
    try:
        with watched:
            observation = run_case(
                case, args.profile, trace=log, budget=args.budget, environment=environment,
                engine=choice.named(args.engine, args.repeat),
            )  # fmt: skip
    except step.Quit:
        return Exit.OK
    if args.picture is not None:
        _draw(args, case, log, observation)
    _print(args, case, log, observation)
    return Exit.OK if observation.verdict is Verdict.RAN else Exit.DIFFERENCE


def _check(args: argparse.Namespace) -> None:
    """Refuse numbers and combinations that make no sense."""
    for name, number in (("--repeat", args.repeat), ("--budget", args.budget)):
        if number < 1:
            raise UsageError(f"{name} {number}: must be at least 1")
    given = {
        name
        for name, content in vars(args).items()
        if content not in (None, False) and not (name == "repeat" and content == 1)
    }
    for name, others in _EXCLUDES.items():
        both = [other for other in others if name in given and other in given]
        if both:
            raise UsageError(f"{_option(name)} and {_option(both[0])} exclude each other")
    shown = [name for name in ("trace", "step", "picture") if name in given]
    if shown and args.engine in ("source", "native"):
        raise UsageError(
            f"{_option(shown[0])} shows the reference engine, not {args.engine}",
            fix="leave --engine out",
        )
    for name in _NEEDS_PCAP:
        if name in given and "pcap" not in given:
            raise UsageError(f"{_option(name)} needs --pcap", fix="name a capture by --pcap FILE")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


# ---- the case ------------------------------------------------------------------------------


def _case(args: argparse.Namespace) -> Case:
    file = str(build([args.file])[0]) if args.file.endswith(SOURCE_SUFFIX) else args.file
    obj = load(file)
    if not obj.programs:
        raise UsageError(f"{args.file}: no program in it", fix=NO_PROGRAM)
    program = _program(obj, args.prog)
    kind = program_type(program.section)
    _check_hook(args.hook, kind, program)
    return Case(
        id=f"sim/{program.name}",
        object=file,
        program=program.name,
        section=program.section,
        hook=args.hook,
        input=read_input(args.packet, args.ctx, kind),
        repeat=args.repeat,
        companions=_companions(obj, program, args.companions),
    )


def _program(obj: Object, name: str | None) -> Function:
    if name is not None:
        return obj.program(name)
    if len(obj.programs) == 1:
        return obj.programs[0]
    names = ", ".join(p.name for p in obj.programs)
    raise UsageError(
        f"{obj.path}: has {len(obj.programs)} programs", fix=f"choose by --prog: {names}"
    )


def _check_hook(hook: str, kind: str, program: Function) -> None:
    if hook not in HOOKS:
        raise UsageError(f"no hook {hook!r}", fix=f"hooks: {', '.join(HOOKS)}")
    wanted = HOOKS[hook].prog_type
    if wanted and wanted != kind:
        fitting = [h.name for h in HOOKS.values() if h.prog_type in ("", kind)]
        raise UsageError(
            f"program {program.name!r} in section {program.section!r} does not run on {hook}",
            fix=f"hooks for it: {', '.join(fitting)}",
        )


def _companions(obj: Object, program: Function, names: list[str] | None) -> tuple[Companion, ...]:
    if names is None:
        tags = (t for t in program.tags if t.startswith(_WITH_TAG))
        names = [t.removeprefix(_WITH_TAG) for t in tags]
    found = []
    for name in names:
        section = obj.program(name).section
        kind, target = program_type(section), attach_target(section)
        if kind not in ("freplace", "fentry", "fexit") or not target:
            raise UsageError(
                f"program {name!r} in section {section!r} cannot be attached to another one",
                fix="its section must be freplace/FUNCTION, fentry/FUNCTION or fexit/FUNCTION",
            )
        found.append(Companion(name, kind, target))
    return tuple(found)


# ---- output --------------------------------------------------------------------------------


def _draw(args: argparse.Namespace, case: Case, log: Trace, seen: Observation) -> None:
    name = Path(case.object).name
    given = f"packet of {len(case.input.packet)} bytes" if case.input.packet is not None else ""
    given = f"ctx of {len(case.input.ctx)} bytes" if case.input.ctx is not None else given
    facts = [f"hook {case.hook}", f"profile {args.profile}", given]
    verdict = ""
    if seen.retval is not None:
        verdict = verdicts.name(program_type(case.section), seen.retval)
    drawn = picture(
        log.events,
        title=f"{case.program} in {name}",
        subtitle=", ".join(fact for fact in facts if fact),
        verdict=verdict,
    )
    write_svg(args.picture, drawn)


def write_svg(path: str, text: str) -> None:
    """Write a drawing. Raises UsageError where that is not possible."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: {reason}", fix="name a file that can be written") from error


def _print(args: argparse.Namespace, case: Case, log: Trace, seen: Observation) -> None:
    as_json = (args.trace or "").startswith("json")
    if args.json:
        document = to_json(seen) | {"retval": seen.retval}
        if as_json:
            document["events"] = [tracejson.event_json(event) for event in log.events]
        print(json.dumps(document, indent=2))
    elif as_json:
        for line in tracejson.lines(case, args.profile, log.events, seen):
            print(line)
    else:
        print(_text(seen, seen.trace if args.trace else ""))


def _text(observation: Observation, trace: str) -> str:
    lines = [trace, ""] if trace else []
    lines.append(f"verdict: {observation.verdict}")
    if observation.message:
        lines.append(f"message: {observation.message}")
    if observation.retvals:
        lines.append("retval:  " + ", ".join(value(v) for v in observation.retvals))
    lines.extend(f"leaked:  {leak}" for leak in observation.leaks)
    lines.extend(f"doubt:   {doubt}" for doubt in observation.doubts)
    if observation.wire:
        lines.append("wire:    " + ", ".join(observation.wire))
    if observation.data_out is not None:
        lines.append(f"frame:   {len(observation.data_out)} bytes {observation.data_out.hex()}")
    for name, content in observation.maps.items():
        lines.extend(f"{name}[{key}] = {data}" for key, data in content.items())
    return "\n".join(lines)
