# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A bootable kernel: the record that everything passes, and what its image's header says.

Header: Documentation/arch/x86/boot.rst of the kernel, "The Real-Mode Kernel Header".
"""

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import UsageError

_BOOT_FLAG = (0x1FE, b"\x55\xaa")
_MAGIC = (0x202, b"HdrS")
_VERSION_POINTER = 0x20E  # u16, relative to 0x200
_RELEASE = re.compile(r"[A-Za-z0-9][\w.+~-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel that can be booted now; nothing has to be fetched any more."""

    # catalogue name ("6.12"), or the release where it comes from elsewhere
    name: str
    # uname -r
    release: str
    # bzImage
    image: Path
    # directory named after the release, with modules.dep; None: it has no modules
    modules: Path | None
    # kernel configuration; None: not known outside the guest
    config: Path | None
    # bpf_throw must be there: its absence is a failure, not a skip
    expects_throw: bool
    # "linux-image-6.12.107+deb13-amd64=6.12.107-1", "tree:/home/me/linux", a path
    origin: str


def as_json(kernel: Kernel) -> dict[str, str | bool | None]:
    """The record with its paths as text."""
    return {
        key: os.fspath(value) if isinstance(value, Path) else value
        for key, value in asdict(kernel).items()
    }


def release_of(image: Path) -> str:
    """Release (uname -r) out of the boot header of a bzImage; UsageError if it is not one."""
    try:
        with image.open("rb") as file:
            head = file.read(0x10000)
    except OSError as error:
        raise UsageError(f"cannot read {image}: {error.strerror}") from error
    for offset, magic in (_BOOT_FLAG, _MAGIC):
        if head[offset : offset + len(magic)] != magic:
            raise UsageError(
                f"{image} is not an x86 kernel image (no {magic!r} at offset {offset:#x})",
                fix="give a bzImage or vmlinuz; a built tree is named as tree:PATH",
            )
    start = 0x200 + int.from_bytes(head[_VERSION_POINTER : _VERSION_POINTER + 2], "little")
    words = head[start : head.find(b"\0", start)].decode("ascii", "replace").split()
    if start == 0x200 or not words or not _RELEASE.fullmatch(words[0]):
        raise UsageError(
            f"{image}: its boot header names no release", fix="rebuild the image, or use tree:PATH"
        )
    return words[0]


def version_of(image: Path) -> str:
    """Version in numbers ("6.1.176") of a bzImage; "" where its header says none.

    Debian's releases before 6.12 ("6.1.0-50-amd64") do not say it, but the line of the build does.
    """
    with image.open("rb") as file:
        head = file.read(0x10000)
    start = 0x200 + int.from_bytes(head[_VERSION_POINTER : _VERSION_POINTER + 2], "little")
    line = head[start : head.find(b"\0", start)].decode("ascii", "replace")
    found = re.search(r" Debian (\d+\.\d+\.\d+)", line) or re.match(r"(\d+\.\d+(\.\d+)?)", line)
    return found[1] if found else ""


def numbers(release: str) -> tuple[int, ...]:
    """(6, 12, 107) of "6.12.107+deb13-amd64"; () where it does not start so."""
    match = re.match(r"\d+(\.\d+)*", release)
    return tuple(int(word) for word in match[0].split(".")) if match else ()


def should_throw(release: str) -> bool:
    """Whether mainline of that version has bpf_throw(): a claim, held against the guest's probe.

    Linux kernel commit f18b03fabaa9 ("bpf: Implement BPF exceptions") (in v6.7).
    """
    return numbers(release) >= (6, 7)
