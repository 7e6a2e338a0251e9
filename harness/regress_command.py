# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow compare`: the same cases on two kernels, and what changed between them."""

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness import config, regress, regress_report, regress_sides
from harness.errors import UsageError
from harness.kernels import spec
from harness.paths import require_parents
from harness.regress_model import (
    DURATION_FACTOR,
    STATISTICS_PERCENT,
    Comparison,
    Kind,
    Policy,
    Side,
)
from harness.report import document
from harness.run_command import jobs
from harness.sim import semantics

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # no other name

_SETTINGS = ("hook", "cpus", "memory", "cold", "retries", "timeout_scale", "accelerator")
_KINDS = tuple(str(kind) for kind in Kind)
_EPILOG = """\
A side is any kernel that `run --kernel` takes (a name, build:NAME, tree:PATH, an image), or a saved
run: FILE.json, or FILE.json@TARGET where the file holds several targets.

examples:
  bpfthrow compare --base 7.3 --patched build:proposal
  bpfthrow compare --base 7.3 --patched tree:~/linux progs/throw --markdown mail.md
  bpfthrow run --kernel 7.3 --statistics --json before.json      # once, then after each change:
  bpfthrow compare --base before.json --patched tree:~/linux
  bpfthrow compare --base all.json@vm-6.18 --patched all.json@vm-7.3     # no machine needed

exit codes:
  0 no regression   1 regressions   2 usage   128 a machine was lost   130 interrupted
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the verb to the command line's tree."""
    parser = subparsers.add_parser(
        "compare",
        help="run the same cases on two kernels and say what changed",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help=".bpf.c, .bpf.o or directory (default: progs/)"
    )
    parser.add_argument("--base", required=True, metavar="K", help="kernel, or a run's JSON")
    parser.add_argument("--patched", required=True, metavar="K", help="kernel, or a run's JSON")
    parser.add_argument("-k", dest="expression", default="", metavar="EXPR", help="select cases")
    parser.add_argument(
        "-j", "--jobs", type=jobs, default=0, metavar="N",
        help="guests side by side (default: as many as cores and memory allow)",
    )  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="no line per case")
    add = parser.add_argument_group("the comparison").add_argument
    add(
        "--patched-profile",
        metavar="P",
        help="simulator profile that the patched kernel is meant to show",
    )
    add(
        "--fail-on",
        action="append",
        default=[],
        metavar="KIND",
        help=f"count these as regressions, too: {', '.join(_KINDS)}, or any",
    )
    add(
        "--statistics-percent", type=float, default=STATISTICS_PERCENT, metavar="N",
        help="warn of counts of the verifier that grew by more (default: %(default)g)",
    )  # fmt: skip
    add(
        "--duration-factor", type=float, default=DURATION_FACTOR, metavar="X",
        help="warn of cases that take so many times as long (default: %(default)g)",
    )  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write everything as JSON")
    add("--markdown", type=Path, metavar="FILE", help="write Markdown for a mail, 72 columns")
    add("--summary", type=Path, metavar="FILE", help="append Markdown for a CI job's page")
    config.add_arguments(parser, _SETTINGS)


def run(arguments: argparse.Namespace) -> int:
    """Compare and report; the exit code."""
    policy = _policy(arguments)
    require_parents(arguments.json, arguments.markdown, arguments.summary)
    if arguments.patched_profile:
        semantics.profile(arguments.patched_profile)  # a name that nobody knows ends here
    base, patched = _sides(arguments)
    comparison = regress.compare(base, patched, policy)
    code = regress.exit_code(comparison)
    if not comparison.compared and not code:
        raise UsageError(
            f"no case is on both {base.name} and {patched.name}: there is nothing to compare",
            fix="bpfthrow run --list shows the cases",
        )
    _report(comparison, policy, arguments)
    return code


def _policy(arguments: argparse.Namespace) -> Policy:
    wanted = [word for each in arguments.fail_on for word in each.replace(",", " ").split()]
    unknown = sorted(set(wanted) - {*_KINDS, "any"})
    if unknown:
        raise UsageError(
            f"--fail-on {unknown[0]}: no such kind", fix=f"one of {', '.join(_KINDS)}, any"
        )
    kinds = frozenset(Kind) if "any" in wanted else frozenset(Kind(word) for word in wanted)
    if arguments.statistics_percent < 0 or arguments.duration_factor < 1:
        raise UsageError("--statistics-percent is at least 0, --duration-factor at least 1")
    return Policy(kinds, arguments.statistics_percent, arguments.duration_factor)


def _sides(arguments: argparse.Namespace) -> tuple[Side, Side]:
    named = {"base": arguments.base, "patched": arguments.patched}
    # a mistake in a file must not wait for a run
    saved = {
        which: regress_sides.from_file(name)
        for which, name in named.items()
        if regress_sides.is_file(name)
    }
    kernels = {which: _kernel(name) for which, name in named.items() if which not in saved}
    if len(set(kernels.values())) < len(kernels):
        raise UsageError(f"both sides are {arguments.base}", fix="name two different kernels")
    if not kernels and (arguments.paths or arguments.expression or arguments.bpfthrow_hook):
        raise UsageError("two saved runs have their cases already", fix="leave out what selects")
    live = _run(kernels, arguments) if kernels else {}
    if arguments.paths or arguments.expression or arguments.bpfthrow_hook:
        saved = {which: _chosen(side, live) for which, side in saved.items()}
    return (saved | live)["base"], (saved | live)["patched"]


def _chosen(side: Side, live: dict[str, Side]) -> Side:
    """A saved run's share of the cases that were chosen for the run just now."""
    keys = {key for each in live.values() for key in each.entries}
    chosen = {key: entry for key, entry in side.entries.items() if key in keys}
    return dataclasses.replace(side, entries=chosen)


def _kernel(name: str) -> str:
    found = spec.expand([name])
    if len(found) > 1:
        raise UsageError(f"{name!r} stands for several kernels: {', '.join(found)}")
    return found[0]


def _run(kernels: dict[str, str], arguments: argparse.Namespace) -> dict[str, Side]:
    from harness import matrix  # noqa: PLC0415  # slow to import, and files need none of it

    settings = dataclasses.replace(config.resolve(arguments), statistics=True)
    profile = (
        {f"vm:{kernels['patched']}": arguments.patched_profile}
        if (arguments.patched_profile and "patched" in kernels)
        else {}
    )
    specs = [f"vm:{name}" for name in kernels.values()]
    plan = matrix.Plan(specs, arguments, settings, time.monotonic(), profile)
    shares = {share.spec: share for share in matrix.run_all(plan, {})}
    found = {}
    for which, name in kernels.items():
        share = shares[f"vm:{name}"]
        over_tags = share.spec in profile
        found[which] = regress_sides.from_results(
            name, share.tested, share.results, over_tags=over_tags
        )
    return found


def _report(comparison: Comparison, policy: Policy, arguments: argparse.Namespace) -> None:
    # files first: whoever reads the table may stop reading
    if arguments.json:
        document.write(arguments.json, regress_report.dumps(comparison, policy))
    if arguments.markdown:
        document.write(arguments.markdown, regress_report.mail(comparison, _replay(arguments)))
    if arguments.summary:
        try:
            with arguments.summary.open("a", encoding="utf-8") as out:
                out.write(regress_report.summary(comparison))
        except OSError as error:
            raise UsageError(f"cannot write {arguments.summary}: {error.strerror}") from error
    sys.stdout.write(regress_report.text(comparison))


def _replay(arguments: argparse.Namespace) -> list[str]:
    words = ["bpfthrow", "compare", "--base", arguments.base, "--patched", arguments.patched]
    words += ["--patched-profile", arguments.patched_profile] if arguments.patched_profile else []
    words += ["-k", arguments.expression] if arguments.expression else []
    return [*words, *arguments.paths]
