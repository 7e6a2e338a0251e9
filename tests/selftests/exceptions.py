# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Run the kernel's own exceptions selftests in the simulator: every value that they expect.

The expectations are read from the kernel's prog_tests/exceptions.c, the programs are compiled
unmodified. Exit code 0: all as expected; 1: something differs; 2: wrong usage.

  python tests/selftests/exceptions.py --fetch 6.12 --types VMLINUZ --root GUEST_ROOT
  python tests/selftests/exceptions.py --tree ~/linux --types ~/linux/vmlinux
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kernel_tree

from harness.bpf.elf import Object, read_object
from harness.errors import BpfthrowError
from harness.model import Companion, Input
from harness.sim import context, semantics
from harness.sim.engines import choice
from harness.sim.machine import Machine
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import Trace

_U32 = 0xFFFF_FFFF
# pkt_v4 of the selftests' network_helpers.c: Ethernet, IPv4 (123 bytes claimed), TCP
PACKET = (
    bytes(12) + b"\x08\x00" + b"\x45\x00\x00\x7b" + bytes(5) + b"\x06" + bytes(10)
    + bytes(12) + b"\x50" + bytes(5) + b"\x00\x7b"
)  # fmt: skip
_RUN = re.compile(r"RUN_SUCCESS\((\w+),\s*(-?(?:0x[0-9a-f]+|\d+))\);")
_IF_CONSTANT = re.compile(r"\tif \(skel->rodata->(\w+)\) \{\n(.*?)\n\t\}\n", re.DOTALL)
_SUBTEST = re.compile(
    r'test__start_subtest\("([^"]+)"\)\)(?:\s*/\*.*?\*/)?\s*RUN_EXT\((-?\w+),.*?'
    r"eskel->progs\.(\w+);.*?skel->progs\.(\w+)\),\s*"
    r'"(\w+)"\), "set_attach_target"\).*?\}\), "([^"]*)", (.*?)\);\n',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class How:
    """On what machine the programs run."""

    profile: str
    engine: str

    def machine(self, obj: Object, companions: tuple[Companion, ...] = ()) -> Machine:
        """A fresh one for tc programs."""
        made = Machine(obj, semantics.profile(self.profile), Trace(), companions=companions)
        made.program_type, made.engine = "tc", choice.named(self.engine)
        return made


@dataclass(frozen=True, slots=True)
class Check:
    """One program with one expected value."""

    program: str
    expected: int
    companion: Companion | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    expected: str
    seen: str
    good: bool


def without_absent(text: str, obj: Object) -> str:
    """The test's text without what it leaves out itself: blocks whose constant is false here.

    7.3 asks `has_stack_arg`, which is true only for compilers with more than five arguments.
    """

    def kept(match: re.Match[str]) -> str:
        for section in obj.sections:
            for variable in section.variables:
                if variable.name == match[1] and section.data[variable.offset]:
                    return match[2]
        print(
            f"left out, as the test does where {match[1]} is false: {len(_RUN.findall(match[2]))}"
        )
        return ""

    return _IF_CONSTANT.sub(kept, text)


def checks(text: str) -> Iterator[Check]:
    """What prog_tests/exceptions.c expects of programs that load."""
    start = text.index("#define RUN_EXT")
    for name, value in _RUN.findall(text[:start]):
        yield Check(name, int(value, 0))
    for _, load, companion, target, function, _, after in _SUBTEST.findall(text[start:]):
        found = _RUN.search(after)
        if load == "0" and found is not None:
            attached = Companion(companion, _kind(companion), function)
            yield Check(found[1], int(found[2], 0), attached)
            assert found[1] == target, "the program that runs is the one attached to"


def refusals(text: str) -> Iterator[tuple[Check, str]]:
    """Attachments that prog_tests/exceptions.c wants refused, and the message."""
    for _, load, companion, target, function, message, _ in _SUBTEST.findall(text):
        if load != "0":
            yield Check(target, 0, Companion(companion, _kind(companion), function)), message


def _kind(companion: str) -> str:
    for kind in ("fentry", "fexit", "fmod_ret"):
        if kind in companion:
            return kind
    return "freplace"


def run(obj: Object, extensions: Object, check: Check, how: How) -> int:
    """The value that BPF_PROG_TEST_RUN would show. Raises Fault, Unsupported."""
    attached = () if check.companion is None else (check.companion,)
    machine = how.machine(obj, attached)
    if check.companion is not None:
        machine.adopt(extensions, check.companion.program)
    # what the test does before it runs anything
    machine.maps["jmp_table"].programs[0] = "exception_tail_call_target"
    given = context.build("tc", "test_run", Input(packet=PACKET), machine.memory, machine.profile)
    return machine.run(check.program, given) & _U32


def successes(objects: dict[str, Object], text: str, how: How) -> Iterator[Row]:
    """A row for each program with an expected value."""
    for check in checks(text):
        name = check.program
        if check.companion is not None:
            name += f" + {check.companion.program} -> {check.companion.target}"
        try:
            seen = run(objects["exceptions"], objects["exceptions_ext"], check, how)
        except (Fault, Unsupported) as error:
            yield Row(name, str(check.expected), f"{type(error).__name__}: {error}", good=False)
        else:
            expected = check.expected & _U32
            yield Row(name, str(check.expected), str(seen), good=seen == expected)


def attachments(objects: dict[str, Object], text: str, how: How) -> Iterator[Row]:
    """A row for each attachment that must be refused."""
    for check, message in refusals(text):
        assert check.companion is not None
        name = f"{check.companion.program} -> {check.companion.target}"
        try:
            value = run(objects["exceptions"], objects["exceptions_ext"], check, how)
        except Fault as fault:
            yield Row(name, message, str(fault), good=message in str(fault))
        else:
            yield Row(name, message, f"ran: {value}", good=False)


def failures(obj: Object, how: How) -> Iterator[Row]:
    """What the simulator, which has no verifier, makes of programs that should not load."""
    for program in obj.programs:
        machine = how.machine(obj)
        try:
            given = context.build(
                "tc", "test_run", Input(packet=PACKET), machine.memory, machine.profile
            )
            seen = f"ran: {machine.run(program.name, given) & _U32}"
        except (Fault, Unsupported, BpfthrowError) as error:
            seen = f"{type(error).__name__}: {error}"
        yield Row(program.name, "refused by a verifier", seen, good=True)


def main() -> int:
    """Build, run, print."""
    args = _arguments().parse_args()
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(args.scratch or made)
        paths = kernel_tree.exceptions(args, scratch)
        objects = {path.name.removesuffix(".bpf.o"): read_object(path) for path in paths}
        tree = kernel_tree.tree_of(args, scratch)
        text = (tree / kernel_tree.SELFTESTS / "prog_tests/exceptions.c").read_text()
        how = How(args.profile, args.engine)
        return _report(objects, without_absent(text, objects["exceptions"]), how)


def _report(objects: dict[str, Object], text: str, how: How) -> int:
    values = list(successes(objects, text, how))
    refused = list(attachments(objects, text, how))
    for row in values:
        print(f"{_mark(row)} {row.name:<75} expected {row.expected:>4}  {row.seen:>10}")
    print("\nattachments that must be refused:")
    for row in refused:
        print(f"{_mark(row)} {row.name:<55} {row.seen}")
    print("\nprograms that a verifier refuses; the simulator has none:")
    for name in ("exceptions_fail", "exceptions_assert"):
        for row in failures(objects[name], how):
            print(f"     {row.name:<45} {row.seen}"[:160])
    good, kept = sum(row.good for row in values), sum(row.good for row in refused)
    print(
        f"\nprofile {how.profile}, engine {how.engine}: "
        f"{good} of {len(values)} expected values as expected; "
        f"{kept} of {len(refused)} attachments refused as expected"
    )
    return 0 if values and good == len(values) and kept == len(refused) else 1


def _mark(row: Row) -> str:
    return "ok  " if row.good else "DIFF"


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kernel_tree.add_arguments(parser)
    parser.add_argument("--profile", default=semantics.DEFAULT_PROFILE)
    parser.add_argument("--engine", default="reference", choices=choice.NAMES)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BpfthrowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
