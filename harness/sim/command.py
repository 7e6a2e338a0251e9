# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow sim`: run one program of an object in the simulator and show what happened.

Owns its options, the reading of --packet and --ctx, and the text output. Exit code 0 when the
program ran, 1 when it faulted or needs something that is not modelled, 2 for a mistake.
"""

import argparse
import json
import re
from pathlib import Path

from harness.bpf.elf import Function, Object
from harness.bpf.sections import attach_target, program_type
from harness.build import SOURCE_SUFFIX, build
from harness.errors import Exit, UsageError
from harness.frames import DEFAULT_FRAME, parse_input
from harness.hooks import HOOKS
from harness.model import Case, Companion, Input, Observation, Verdict
from harness.sim.machine import DEFAULT_BUDGET
from harness.sim.run import load, run_case
from harness.sim.semantics import DEFAULT_PROFILE, PROFILES, profile
from harness.sim.trace import value
from harness.wire import to_json

# 64 KiB less the head room and tail room that the kernel keeps in the same buffer
MAX_PACKET_BYTES = 0xFFFF - 256 - 320
# the limit of ctx_size_in for syscall programs
MAX_CTX_BYTES = 0xFFFF
_PACKET_TYPES = frozenset({"xdp", "tc", "cgroup_skb"})
_WITH_TAG = "bpfthrow:with="

_EPILOG = """examples:
  bpfthrow sim parse.bpf.o --prog parse --packet 'eth ipv4 tcp cut=33' --trace
  bpfthrow sim parse.bpf.o --prog parse --packet ffffffffffff0200000000010800... --profile 7.3
  bpfthrow sim parse.bpf.o --prog parse --packet @frame.bin --hook xdp-native --json
  bpfthrow sim calc.bpf.o --prog calc --ctx 0500000000000000 --repeat 3 --trace=full

exit codes: 0 the program ran, 1 it faulted or is not supported, 2 wrong usage
"""


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
        help="limit on work in all runs: distances of jumps back, and calls")  # fmt: skip
    add("--trace", nargs="?", const="events", choices=("events", "full"),
        help="show calls, throws and results; 'full': every instruction")  # fmt: skip
    add("--json", action="store_true", help="print the observation as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Run the command. Raises UsageError or ObjectError for the caller's mistakes."""
    profile(args.profile)
    case = _case(args)
    observation = run_case(case, args.profile, trace=args.trace or False, budget=args.budget)
    if args.json:
        print(json.dumps(to_json(observation) | {"retval": observation.retval}, indent=2))
    else:
        print(_text(observation))
    return Exit.OK if observation.verdict is Verdict.RAN else Exit.DIFFERENCE


def _case(args: argparse.Namespace) -> Case:
    for name, number in (("--repeat", args.repeat), ("--budget", args.budget)):
        if number < 1:
            raise UsageError(f"{name} {number}: must be at least 1")
    file = str(build([args.file])[0]) if args.file.endswith(SOURCE_SUFFIX) else args.file
    obj = load(file)
    program = _program(obj, args.prog)
    kind = program_type(program.section)
    _check_hook(args.hook, kind, program)
    return Case(
        id=f"sim/{program.name}",
        object=file,
        program=program.name,
        section=program.section,
        hook=args.hook,
        input=_input(args, kind),
        repeat=args.repeat,
        companions=_companions(obj, program, args.companions),
    )


def _program(obj: Object, name: str | None) -> Function:
    if name is not None:
        return obj.program(name)
    if len(obj.programs) == 1:
        return obj.programs[0]
    names = ", ".join(p.name for p in obj.programs) or "none"
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


def _input(args: argparse.Namespace, kind: str) -> Input:
    if args.packet is not None and args.ctx is not None:
        raise UsageError("--packet and --ctx exclude each other")
    if args.ctx is not None:
        return Input(ctx=_limit("--ctx", _bytes("--ctx", args.ctx), MAX_CTX_BYTES))
    if args.packet is None:
        return parse_input(DEFAULT_FRAME) if kind in _PACKET_TYPES else Input()
    return _packet(args.packet)


def _packet(text: str) -> Input:
    """Hex, @FILE, or words of the frame language."""
    words = text.split()
    if words and not text.startswith("@") and re.fullmatch(r"[a-z][a-z0-9]*(=\S*)?", words[0]):
        known = re.search(r"[g-z=]", words[0])
        if known is not None:
            try:
                return parse_input(text)
            except UsageError as error:
                place = f"not hex (character {known.start() + 1} is {known[0]!r})"
                raise UsageError(
                    f"--packet: {place}, and as words: {error.message}", fix=error.fix or _hint()
                ) from error
    return Input(packet=_limit("--packet", _bytes("--packet", text), MAX_PACKET_BYTES))


def _hint() -> str:
    return "give hex digits, @FILE with raw bytes, or words as in 'eth ipv4 udp payload=22'"


def _bytes(option: str, text: str) -> bytes:
    """Raw bytes of @FILE, or hex digits (blanks and colons between bytes are skipped)."""
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"{option}: {text[1:]}: {reason}", fix=_hint()) from error
    wrong = re.search(r"[^0-9a-fA-F\s:]", text)
    if wrong is not None:
        raise UsageError(
            f"{option}: not hex: character {wrong.start() + 1} is {wrong[0]!r}", fix=_hint()
        )
    digits = re.sub(r"[\s:]", "", text)
    if len(digits) % 2:
        raise UsageError(f"{option}: odd number of hex digits ({len(digits)})", fix=_hint())
    return bytes.fromhex(digits)


def _limit(option: str, data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise UsageError(f"{option}: {len(data)} bytes is too long", fix=f"at most {limit} bytes")
    return data


def _text(observation: Observation) -> str:
    lines = [observation.trace, ""] if observation.trace else []
    lines.append(f"verdict: {observation.verdict}")
    if observation.message:
        lines.append(f"message: {observation.message}")
    if observation.retvals:
        lines.append("retval:  " + ", ".join(value(v) for v in observation.retvals))
    if observation.wire:
        lines.append("wire:    " + ", ".join(observation.wire))
    if observation.data_out is not None:
        lines.append(f"frame:   {len(observation.data_out)} bytes {observation.data_out.hex()}")
    for name, content in observation.maps.items():
        lines.extend(f"{name}[{key}] = {data}" for key, data in content.items())
    return "\n".join(lines)
