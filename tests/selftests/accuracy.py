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
from collections.abc import Sequence
from pathlib import Path

import kernel_tree

from harness.bpf.environment import Environment
from harness.bpf.vmlinux import kernel_types
from harness.environments import environment_of_series
from harness.errors import BpfthrowError, Exit, UsageError
from harness.series import SERIES
from harness.suite import collect
from harness.verify import accuracy
from harness.verify.accuracy import Outcome

# series -> directory of the sidecar of its exceptions.bpf.o
SIDECARS = {"6.12": "6.12", "6.18": "6.12", "7.3": "7.3"}


def sidecars(series: str) -> list[Path]:
    """Files with what the objects of a series do that carry no tags."""
    here = Path(__file__).parent
    return [
        here / SIDECARS[series] / "exceptions.expect.toml",
        here / "exceptions_ext.expect.toml",
    ]


def measure(objects: Sequence[Path], series: str, kernel: Environment) -> int:
    """Print the table; the exit code."""
    names = {path.name for path in objects}
    expect = [f for f in sidecars(series) if f.name.replace(".expect.toml", ".bpf.o") in names]
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
    if args.objects:
        return measure(args.objects, series, kernel)
    with tempfile.TemporaryDirectory() as made:
        return measure(kernel_tree.exceptions(args, Path(args.scratch or made)), series, kernel)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = kernel_tree.add_arguments(parser, types_required=False)
    source.add_argument("--objects", nargs="+", type=Path, help="objects that are compiled already")
    parser.add_argument("--series", default="", help=f"one of {', '.join(SERIES)}")
    parser.add_argument("--release", default="", help="release of the kernel with these types")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BpfthrowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
