# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Hold the verifier model against the kernel's own exceptions selftests of one series.

The four objects are compiled unmodified from the series' own tree; what they claim is their tags'
and, where they carry none, that of the sidecars beside this file. Exit code 0: nothing predicted
wrongly; 1: something is; 2: wrong usage. With --scratch the objects stay, for `bpfthrow run`.

  python tests/selftests/accuracy.py --fetch 6.12 --types VMLINUZ --root GUEST_ROOT
  python tests/selftests/accuracy.py --tree ~/linux --series 7.3 --types ~/linux/vmlinux
  python tests/selftests/accuracy.py --objects DIR/*.bpf.o --series 7.3 --types VMLINUZ
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import kernel_tree

from harness.bpf.environment import Environment
from harness.bpf.vmlinux import kernel_types
from harness.environments import environment_of_series
from harness.errors import BpfthrowError, Exit, UsageError
from harness.series import SERIES
from harness.sidecar import SUFFIX, stem
from harness.suite import collect
from harness.verify import accuracy
from harness.verify.accuracy import Outcome

# series of the tree -> directory of its sidecars
SIDECARS = {"6.12": "6.12", "6.18": "6.12", "7.3": "7.3"}


def sidecars(tree: str, names: Iterable[str]) -> list[Path]:
    """Those of the objects with these names, from the tree of a series."""
    here = Path(__file__).parent
    found = [*sorted((here / SIDECARS[tree]).glob(f"*{SUFFIX}")), here / f"exceptions_ext{SUFFIX}"]
    stems = {stem(name) for name in names}
    return [path for path in found if stem(path.name) in stems]


def measure(objects: Sequence[Path], tree: str, series: str, kernel: Environment) -> int:
    """Print the table; the exit code."""
    expect = sidecars(tree, (path.name for path in objects))
    judged = accuracy.measure(collect(objects, expect), [series], {series: kernel})
    print(accuracy.table(judged))
    wrong = any(each.outcome is Outcome.WRONG for each in judged)
    return Exit.DIFFERENCE if wrong or not judged else Exit.OK


def main() -> int:
    """Build what is asked for and measure."""
    args = _arguments().parse_args()
    series = args.series or args.fetch
    if series not in SERIES:
        raise UsageError(f"no series {series!r}", fix=f"--series: {', '.join(SERIES)}")
    if args.types:
        kernel = Environment(kernel_types(args.types), args.release or f"{series}.0")
    else:
        kernel = environment_of_series(series) or Environment()
    of = args.of or args.fetch or series
    if of not in SIDECARS:
        raise UsageError(f"no sidecars for a tree of {of!r}", fix=f"--of: {', '.join(SIDECARS)}")
    if args.objects:
        return measure(args.objects, of, series, kernel)
    with tempfile.TemporaryDirectory() as made:
        objects = kernel_tree.exceptions(args, Path(args.scratch or made))
        return measure(objects, of, series, kernel)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = kernel_tree.add_arguments(parser, types_required=False)
    source.add_argument("--objects", nargs="+", type=Path, help="objects that are compiled already")
    parser.add_argument("--series", default="", help=f"one of {', '.join(SERIES)}")
    parser.add_argument("--of", default="", help="series of the tree (default: as --series)")
    parser.add_argument("--release", default="", help="release of the kernel with these types")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BpfthrowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
