# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Memory that is freed stays with the process that loads objects, and with its children.

libbpf reads the kernel's BTF anew for each object, into some megabytes that libc gives back to the
kernel and takes again: under emulation those page faults are a third of a load.
"""

from contextlib import suppress

from harness.target.agent import syscall

# glibc's tunables, and what mallopt(3) calls them. Beyond 32 MiB it ignores the first.
_SETTINGS = {"mmap_threshold": (-3, 32 << 20), "trim_threshold": (-1, 64 << 20)}

# for a child; another libc does not know the variable
ENVIRONMENT = {
    "GLIBC_TUNABLES": ":".join(
        f"glibc.malloc.{name}={size}" for name, (_, size) in _SETTINGS.items()
    )
}


def keep() -> None:
    """From now on keep what is freed. Nothing happens where libc has no such settings."""
    with suppress(AttributeError):
        for number, size in _SETTINGS.values():
            syscall.libc.mallopt(number, size)
