# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Reading a file that the caller has named: no more of it than it may hold.

Owns the limit's check and its words; each reader knows its own limit. What is read piece by piece
(captures, kernel images) is not read here.
"""

import os

from harness.errors import UsageError


def read_asked(path: str | os.PathLike[str], most_bytes: int, fix: str = "") -> bytes:
    """What a file holds. UsageError where it cannot be read, or holds more than `most_bytes`.

    The length that a file system tells is no help: a device has none, and may have no end.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:  # noqa: PTH123  # a Path makes "." of an empty name
            data = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{name or repr(name)}: cannot be read: {reason}", fix=fix) from error
    require_size(data, most_bytes, name, fix)
    return data


def require_size(data: bytes, most_bytes: int, where: str, fix: str = "") -> None:
    """UsageError for more than `most_bytes`, of which whoever read `data` takes one more."""
    if len(data) > most_bytes:
        whole = most_bytes >> 20 and not most_bytes & 0xFFFFF
        most = f"{most_bytes >> 20} MiB" if whole else f"{most_bytes} bytes"
        raise UsageError(f"{where}: larger than {most}", fix=fix)
