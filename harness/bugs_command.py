# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow bugs`: the known kernel bugs, tried on real kernels, and held against what is known."""

import argparse
import dataclasses
import json
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import bugs, bugs_report, bugs_run, config, schedule, suite, symbols
from harness import run as pipeline
from harness.bugs import Bug, BugCase, Finding
from harness.bugs_run import Share
from harness.build import PROGS
from harness.compare import expectation_for, expected_verdict
from harness.errors import Exit, UsageError
from harness.model import Case, Result, Verdict
from harness.report.document import write
from harness.report.outcome import first_line, simulated_value
from harness.report.style import style_for
from harness.run_command import jobs, specs_of
from harness.series import SERIES

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # no other name

_SETTINGS = ("kernel", "target", "cpus", "memory", "cold", "artifacts", "timeout_scale",
             "accelerator")  # fmt: skip
_SPELLED_OUT = "--this-may-crash-the-machine"
_STDOUT = "-"
_EPILOG = f"""\
The programs of progs/kernel-bugs/ run on each kernel, in a guest of their own; most take it down.
What each kernel is known to do is in progs/kernel-bugs/bugs.toml. A run is red when a kernel does
otherwise: a bug that is gone ("FIXED?"), one that was not there, one that shows in another way.

examples:
  bpfthrow bugs                            every bug on the default kernel
  bpfthrow bugs --kernel all               bug x kernel
  bpfthrow bugs A D --kernel 7.3 --stacks  two bugs, with the decoded kernel logs
  bpfthrow bugs --list                     what is known, without running anything
  bpfthrow bugs --list --json | jq '.bugs[].title'
  bpfthrow bugs --kernel all --json bugs.json
  bpfthrow bugs C --target ssh:root@box {_SPELLED_OUT}

exit codes:
  0 all is as known   1 a kernel does otherwise   2 usage   128 a machine was lost   130 interrupted
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the verb to the command line's tree."""
    parser = subparsers.add_parser(
        "bugs",
        help="try the known kernel bugs, most of which crash the guest",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("letters", nargs="*", metavar="BUG", help="A, B, ... (default: all)")
    parser.add_argument("-j", "--jobs", type=jobs, default=0, metavar="N", help="kernels at once")
    parser.add_argument("-q", "--quiet", action="store_true", help="no line per case")
    parser.add_argument("--list", action="store_true", help="print what is known, run nothing")
    parser.add_argument("--stacks", action="store_true", help="print the decoded log of each case")
    parser.add_argument(
        "--json", nargs="?", const=_STDOUT, metavar="FILE", help="as JSON to FILE, or instead"
    )
    parser.add_argument(
        _SPELLED_OUT, dest="may_crash", action="store_true",
        help="with --target local or ssh:HOST: crash that machine, if that is what comes of it",
    )  # fmt: skip
    config.add_arguments(parser, _SETTINGS)


def run(arguments: argparse.Namespace) -> int:
    """Run the cases of the bugs and report; the exit code."""
    began_s = time.monotonic()
    known = _chosen(bugs.load(), arguments.letters)
    settings = config.resolve(arguments)
    _require_consent(settings, arguments)
    _require_writable(arguments.json)
    cases = _cases(known)
    intended = {name: _intended(case) for name, case in cases.items()}
    if arguments.list:
        if not _as_json(bugs_report.list_document(known, intended), arguments.json):
            print(_listing(known, intended))
        return Exit.OK
    if settings.target != "vm":
        # consent was given: what a target of another kind refuses is the mark
        cases = {name: dataclasses.replace(case, crashes="") for name, case in cases.items()}
    specs = specs_of(settings)
    at_once = arguments.jobs or schedule.at_once(len(specs), settings.cpus, settings.memory)
    chosen = [(bug, case) for bug in known for case in bug.cases]
    progress = _Progress(len(specs) * len(chosen), quiet=arguments.quiet)
    shares = bugs_run.run(specs, chosen, cases, settings, at_once, progress)
    return _report(known, shares, intended, arguments, settings, began_s)


class _Progress:
    """A line for each finding."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._total = total
        self._quiet = quiet
        self._done = 0

    def __call__(self, share: Share, finding: Finding) -> None:
        self._done += 1
        if self._quiet:
            return
        words = first_line(finding.reason, 80)
        print(
            f"{self._done:{len(str(self._total))}}/{self._total} {share.tested.name}"
            f" {finding.bug.letter} {finding.case.id}: {bugs_report.cell(finding)},"
            f" {finding.result.observed.duration_s:.1f} s{f' ({words})' if words else ''}",
            file=sys.stderr,
            flush=True,
        )


def _chosen(known: Sequence[Bug], letters: Sequence[str]) -> list[Bug]:
    wanted = [letter.upper() for letter in letters]
    have = [bug.letter for bug in known]
    for letter in wanted:
        if letter not in have:
            raise UsageError(f"no bug {letter!r}", fix=f"one of {', '.join(have)}")
    return [bug for bug in known if not wanted or bug.letter in wanted]


def _require_consent(settings: config.Settings, arguments: argparse.Namespace) -> None:
    if settings.target != "vm" and not arguments.may_crash and not arguments.list:
        raise UsageError(
            f"these programs are made to crash kernels, and --target {settings.target} is no guest",
            fix=f"run them in guests (--kernel), or accept it: {_SPELLED_OUT}",
        )


def _require_writable(json_file: str | None) -> None:
    if json_file not in (None, _STDOUT) and not Path(json_file).absolute().parent.is_dir():
        raise UsageError(f"cannot write {json_file}: no such directory")


def _cases(known: Sequence[Bug]) -> dict[str, Case]:
    """The cases of the bugs by id. UsageError where the table names one that is not there."""
    found = {case.id: case for case in suite.collect([PROGS / suite.APART])}
    wanted = [case.id for bug in known for case in bug.cases]
    absent = [name for name in wanted if name not in found]
    if absent:
        raise UsageError(f"{bugs.TABLE} names {absent[0]}, which no program makes")
    return {name: found[name] for name in wanted}


def _intended(case: Case) -> str:
    """What should come of a case: the simulator's word, or refusal where that is the point."""
    newest = SERIES[-1]
    if expected_verdict(expectation_for(case, newest)) is Verdict.REJECTED:
        return "refused"
    simulated = pipeline.simulate(case, newest)
    assert simulated is not None  # it is only left out where a program is refused
    return simulated_value(Result(case, "simulator", simulated, simulated))


def _listing(known: Sequence[Bug], intended: Mapping[str, str]) -> str:
    """What the table says, in full."""
    lines = []
    for bug in known:
        lines += [f"{bug.letter}  {bug.title}", *(f"   {line}" for line in _wrapped(bug.cause))]
        lines += [line for case in bug.cases for line in _listed(case, intended[case.id])]
        lines.append("")
    return "\n".join(lines).rstrip()


def _listed(case: BugCase, intended: str) -> list[str]:
    on = ", ".join(f"{name} {known.text}" for name, known in case.on.items())
    note = [f"      {line}" for line in _wrapped(case.note)]
    return [f"   {case.id}: should be: {intended}; {on}", *note]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 92)


def _report(
    known: Sequence[Bug],
    shares: Sequence[Share],
    intended: Mapping[str, str],
    arguments: argparse.Namespace,
    settings: config.Settings,
    began_s: float,
) -> int:
    findings = [finding for share in shares for finding in share.findings]
    directory = settings.artifacts / "bugs"
    kept = bugs_report.keep(shares, directory, _decode)
    code = bugs_report.exit_code(findings)
    nothing = bugs_report.nothing_ran(shares)
    code = Exit.DIFFERENCE if nothing else code
    logs = _decode if arguments.stacks else None
    if _as_json(bugs_report.document(known, shares, intended, logs), arguments.json):
        return code
    print(bugs_report.table(known, shares, intended, style_for(sys.stdout)))
    print(f"\n{bugs_report.kernels(shares)}")
    texts = bugs_report.surprises(shares, _decode) + bugs_report.lost(shares) + nothing
    if arguments.stacks:
        texts += [bugs_report.text(s, f, _decode) for s in shares for f in s.findings if f.reports]
    for text in texts:
        print(f"\n{text}")
    if kept:
        print(f"\nwhole logs ({kept}): {directory}")
    took_s = time.monotonic() - began_s
    print(f"{len(findings)} case{'s' * (len(findings) != 1)} in {took_s:.1f} s: {_verdict(code)}")
    return code


def _as_json(document: Mapping[str, Any], file: str | None) -> bool:
    """Write it where --json says; whether that was instead of the text."""
    if file is None:
        return False
    text = json.dumps(document, indent=1) + "\n"
    if file == _STDOUT:
        print(text, end="")
        return True
    write(Path(file), text)
    return False


def _verdict(code: Exit) -> str:
    words = {
        Exit.OK: "all is as known",
        Exit.DIFFERENCE: "a kernel does otherwise than known",
        Exit.LOST: "a machine was lost",
    }
    return words[code]


def _decode(share: Share, log: str) -> str:
    if share.symbols is None or not log:
        return log
    return symbols.decode(log, share.symbols, share.text_base)
