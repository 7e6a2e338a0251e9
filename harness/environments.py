# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A kernel of the cache as the simulator's input: its types, its release, its configuration.

Everything is read from the files that are booted, nothing is asked of a running kernel. A kernel
that was neither fetched nor built by us (a tree, a remote machine) has none: what needs it stays
unsupported.
"""

import functools

from harness.bpf.elf import Object
from harness.bpf.environment import NOWHERE, Environment, read_kconfig
from harness.bpf.vmlinux import kernel_types
from harness.kernels import builds, catalogue, store
from harness.kernels.image import version_of


def environment_of_series(series: str) -> Environment | None:
    """What is known of the newest cached kernel of a series; None: none is cached."""
    kernel = store.newest_cached(catalogue.load(), series)
    return environment_of(kernel.release) if kernel else None


def needs_kernel(obj: Object) -> bool:
    """Whether what libbpf makes of the object depends on the kernel, kernel functions apart."""
    return any(obj.ext.core.values()) or any(not e.is_function for e in obj.externs)


@functools.cache
def environment_of(release: str) -> Environment:
    """What is known of the kernel of this release (uname -r). Raises ObjectError, UsageError."""
    known = [*store.cached(catalogue.load()), *builds.cached()]
    # the last: a name that was built again stands for the newest build
    kernel = next((k for k in reversed(known) if k.release == release), None)
    if kernel is None:
        return NOWHERE
    kconfig = read_kconfig(kernel.config) if kernel.config else None
    return Environment(kernel_types(kernel.image), version_of(kernel.image), kconfig)
