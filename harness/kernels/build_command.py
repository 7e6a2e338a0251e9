# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow kernels build`: arguments and output only; builder.py does it."""

import argparse
import json
from pathlib import Path
from typing import Any

from harness import workflow
from harness.errors import Exit, UsageError
from harness.kernels import builder
from harness.kernels.image import as_json
from harness.kernels.making import CompileError

_EPILOG = """\
examples:
  bpfthrow kernels build --source deb:linux-source-7.3 --patches series.mbox --name mine
  bpfthrow run --kernel 7.3 --kernel build:mine
  bpfthrow kernels build --source ~/linux --patches 0001-bpf-x.patch 0002-bpf-y.patch
  bpfthrow kernels build --source linux-7.3.tar.xz --config kasan.config --name kasan
"""


def add_parser(commands: Any, json_option: argparse.ArgumentParser) -> None:
    """Add `kernels build`."""
    parser = commands.add_parser(
        "build",
        help="compile a source with a series of patches, for guests",
        description="Compile a kernel for guests: a source, a series of patches on top of it, and"
        " vm/guest.config with your fragments. What was built once is found again; what was"
        " interrupted goes on; the source itself is never written.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[json_option],
    )
    add = parser.add_argument
    add_order(parser, required=True)
    add("--annotate", choices=("github",),
        help="print a workflow command that marks the line that does not compile")  # fmt: skip
    add("--jobs", type=int, default=0, metavar="N", help="compilers at once (default: processors)")
    parser.set_defaults(func=run)


def add_order(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options that say what is to be built."""
    add = parser.add_argument
    add("--source", required=required, default="", metavar="WHAT",
        help="directory, git tree, tarball, or deb:PATTERN (linux-source-7.3)")  # fmt: skip
    add("--patches", nargs="+", default=[], type=Path, metavar="PATH",
        help="patch files, directories of them, mboxes; in this order")  # fmt: skip
    add("--config", action="append", default=[], type=Path, metavar="FRAGMENT",
        help="options on top of vm/guest.config")  # fmt: skip
    add("--name", default="", metavar="N", help="then --kernel build:N (default: the first patch)")


def order_of(args: argparse.Namespace) -> builder.Order:
    """What was asked for."""
    jobs = getattr(args, "jobs", 0)
    return builder.Order(args.source, tuple(args.patches), tuple(args.config), args.name, jobs)


def run(args: argparse.Namespace) -> int:
    """Build, and print where the image is and how to boot it."""
    if args.jobs < 0:
        raise UsageError(f"--jobs {args.jobs}: must be at least 1")
    try:
        kernel = builder.build(order_of(args))
    except CompileError as error:
        if args.annotate:
            mark = workflow.Annotation(
                "error", "the kernel does not compile", error.first, workflow.Place(*error.place())
            )
            print(*workflow.github([mark], workflow.workspace()), sep="\n")
        raise
    if args.json:
        print(json.dumps(as_json(kernel), indent=1))
    else:
        print(kernel.image)
        print(f"boot it: bpfthrow run --kernel build:{kernel.name}")
    return Exit.OK
