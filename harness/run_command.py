# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow run`: the main job. Arguments, and the guests' head start; the rest is matrix.py's."""

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import config, kernels, schedule
from harness.errors import UsageError
from harness.hooks import HOOKS
from harness.kernels import catalogue, root, spec, store
from harness.paths import require_parents
from harness.target import boot

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # no other name

_SETTINGS = tuple(s.name for s in config.TABLE if s.name != "json")
# reports that are of results only
_OF_RESULTS = ("junit", "html", "markdown")
_EPILOG = """\
examples:
  bpfthrow run                                   everything in progs/ on the default kernel
  bpfthrow run progs/throw -k 'static and not tail' --hook test_run
  bpfthrow run my.bpf.c --kernel 6.12 --kernel 7.3 --json out.json --junit out.xml
  bpfthrow run their.bpf.o --expect their.expect.toml     what is claimed of an untagged object
  bpfthrow run --kernel all --html matrix.html      one page: cases down, kernels across
  bpfthrow run --kernel 6.12..7.3 --kernel 'build:*'
  bpfthrow run --resume                          what an interrupted run has left to do
  bpfthrow run -k loop --list --json cases.json  which cases these are

exit codes:
  0 all agree   1 a difference, crash, hang or flaky case, or a kernel that ran nothing   2 usage
  128 a machine was lost   130 interrupted
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the verb to the command line's tree."""
    parser = subparsers.add_parser(
        "run",
        help="run cases on real kernels and in the simulator, and compare",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help=".bpf.c, .bpf.o or directory (default: progs/)"
    )
    parser.add_argument("-k", dest="expression", default="", metavar="EXPR", help="select cases")
    parser.add_argument(
        "-j", "--jobs", type=jobs, default=0, metavar="N",
        help="targets side by side (default: as many as cores and memory allow)",
    )  # fmt: skip
    parser.add_argument(
        "--expect", action="append", default=[], metavar="FILE",
        help="cases of an object that has no tags (default: STEM.expect.toml beside it)",
    )  # fmt: skip
    parser.add_argument(
        "--list", action="store_true", help="print the cases, run nothing; --json FILE has them too"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no line per case")
    parser.add_argument(
        "--annotate", choices=("github",), help="print workflow commands that mark the source lines"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the last interrupted run of this choice"
    )
    parser.add_argument(
        "--retry-culprit", action="store_true", help="run what ran when that run was killed, too"
    )
    config.add_arguments(parser, [*_SETTINGS, "json"])


def run(arguments: argparse.Namespace) -> int:
    """Run the cases and report; the exit code."""
    began_s = time.monotonic()
    settings = config.resolve(arguments)
    unknown = sorted(set(settings.hook) - set(HOOKS))
    if unknown:
        raise UsageError(f"unknown hook {unknown[0]!r}", fix="known: " + ", ".join(HOOKS))
    require_parents(settings.json, settings.junit, settings.html, settings.markdown)
    if arguments.list:
        _require_no_results(arguments, settings)
    ledger = None
    if arguments.retry_culprit and not arguments.resume:
        raise UsageError("--retry-culprit goes with --resume")
    if arguments.resume:
        from harness import resume  # noqa: PLC0415  # see below

        ledger, settings = resume.last(arguments, settings)
    specs = specs_of(settings)
    arguments.jobs = arguments.jobs or schedule.at_once(len(specs), settings.cpus, settings.memory)
    idle = arguments.list or arguments.resume
    started = {} if idle else _head_start(specs, arguments.jobs, settings)
    try:
        from harness import matrix, resume  # noqa: PLC0415  # slow; the guests boot meanwhile

        if arguments.list:
            return matrix.list_cases(matrix.Plan(specs, arguments, settings, began_s))
        ledger = ledger or resume.new(arguments, settings)
        plan = matrix.Plan(specs, arguments, settings, began_s, ledger=ledger)
        with ledger:
            return matrix.run(plan, started)
    finally:
        for begun in started.values():
            begun.guest.release()


def _require_no_results(arguments: argparse.Namespace, settings: config.Settings) -> None:
    given = [f"--{name}" for name in _OF_RESULTS if settings.source(name) == "command line"]
    given += ["--annotate"] if arguments.annotate else []
    if given:
        raise UsageError(
            f"{given[0]} is about results, and --list runs nothing",
            fix="--json FILE writes the list",
        )


def _head_start(
    specs: Sequence[str], jobs: int, settings: config.Settings
) -> dict[str, boot.Begun]:
    """Start the first guests now where nothing has to be fetched or built for them."""
    started: dict[str, boot.Begun] = {}
    if _at_hand(specs):
        for each in schedule.longest_first(specs, schedule.durations())[:jobs]:
            kernel = kernels.resolve(each.removeprefix("vm:"))
            machine = boot.machine_for(kernel, settings)
            started[each] = boot.Begun(kernel, boot.begin(machine, settings))
    return started


def jobs(text: str) -> int:
    """The argument of --jobs."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def specs_of(settings: config.Settings) -> list[str]:
    """What open_target() takes, for every machine that the settings name."""
    if settings.target != "vm":
        if settings.kernel:
            raise UsageError(
                f"--kernel does not go with --target {settings.target}: it has its own kernel"
            )
        return [settings.target]
    return [f"vm:{each}" for each in spec.expand(settings.kernel or ("default",))]


def _at_hand(specs: Sequence[str]) -> bool:
    known = catalogue.load()
    wanted = [each.removeprefix("vm:") for each in specs]
    return root.cached_root() is not None and all(
        name in known.entries and store.newest_cached(known, name) for name in wanted
    )
