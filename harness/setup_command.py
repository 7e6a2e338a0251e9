# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow setup`: kernels and the guest root into the cache, programs compiled, ahead of time.

`bpfthrow run` does the same for what it needs. System packages and the virtual environment come
before: harness/setup.py.
"""

import argparse
import json
from typing import TYPE_CHECKING

from harness import build
from harness.errors import Exit
from harness.kernels import root
from harness.kernels.image import as_json
from harness.kernels.spec import resolve_all

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # no other name


def add_parser(subparsers: "Subparsers") -> None:
    """Add `setup` to a parser."""
    what = "get kernels, the guest root and compiled programs ready"
    parser = subparsers.add_parser("setup", help=what, description=what)
    parser.add_argument("--kernel", action="append", metavar="K", help="as for run; may repeat")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Fetch and build what is missing; the exit code."""
    kernels = resolve_all(args.kernel or ["default"])
    guest = root.ensure_root()
    objects = build.build([build.PROGS])
    if args.json:
        ready = {
            "kernels": [as_json(kernel) for kernel in kernels],
            "root": root.as_json(guest),
            "objects": [str(path) for path in objects],
        }
        print(json.dumps(ready, indent=1))
        return Exit.OK
    for kernel in kernels:
        print(f"kernel {kernel.name}: {kernel.release}")
    print(f"guest root: bpftool {guest.bpftool}, libbpf {guest.libbpf}, Python {guest.python}")
    print(f"programs: {len(objects)} objects")
    return Exit.OK
