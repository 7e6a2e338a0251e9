# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The options that describe the kernel on which libbpf would load: --btf, --kconfig, --release.

Owns their defaults. What they mean for an object is harness.bpf.environment's business.
"""

import argparse
import re

from harness.bpf.environment import SEEDED, Environment, parse_kconfig, read_kconfig
from harness.bpf.vmlinux import kernel_types
from harness.errors import UsageError

_RELEASE = re.compile(r"\d+\.\d+")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument_group("the kernel that libbpf would ask").add_argument
    add("--btf", metavar="FILE",
        help="its types: vmlinuz, vmlinux, an object, /sys/kernel/btf/vmlinux")  # fmt: skip
    add("--kconfig", action="append", metavar="FILE|CONFIG_X=V",
        help="its configuration; several add up, the first of a name counts "
        "(default: what all x86-64 kernels here have in common)")  # fmt: skip
    add("--release", metavar="V", help="its version, as 6.12.107 (default: that of the profile)")


def read(args: argparse.Namespace) -> Environment:
    """The kernel that the options describe. Raises ObjectError or UsageError for their files."""
    release = args.release or (args.profile if _RELEASE.match(args.profile) else "")
    if release and not _RELEASE.match(release):
        raise UsageError(f"--release {release!r}: not a version", fix="as in 6.12.107")
    kconfig: dict[str, str] = {}
    for each in args.kconfig or ():
        single = each.startswith("CONFIG_")
        found = parse_kconfig([each], "--kconfig") if single else read_kconfig(each)
        kconfig = found | kconfig
    # single values add to what is there anyway; only a file says what is off
    complete = any(not each.startswith("CONFIG_") for each in args.kconfig or ())
    types = kernel_types(args.btf) if args.btf else None
    return Environment(types, release, kconfig if complete else SEEDED | kconfig, complete)
