# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Whether the image of the guest root is whole, as far as its first block tells.

Knows nothing of how it is made: kernels.root does.
"""

import struct
from pathlib import Path

from harness.errors import MachineLostError

# include/linux/erofs_fs.h: where the superblock lies, its magic, log2 of the block size, blocks
_AT = 1024
_SUPERBLOCK = struct.Struct("<I8xB23xI")
_MAGIC = 0xE0F5E1E2


def root_anew(image: Path) -> str:
    """What to do about a guest root that cannot be read."""
    return f"the guest root is damaged: rm -r {image.parent}; the next run makes it anew"


def require_whole(image: Path) -> None:
    """MachineLostError for an image that is none, or shorter than it says.

    Costs nothing, and a saved guest would only notice in the middle of a case.
    """
    try:
        with image.open("rb") as file:
            head = file.read(_AT + _SUPERBLOCK.size)
        there_bytes = image.stat().st_size
    except OSError as error:
        raise MachineLostError(
            f"cannot read {image}: {error.strerror}", fix=root_anew(image)
        ) from error
    magic, block_bits, blocks = (
        _SUPERBLOCK.unpack_from(head, _AT) if len(head) == _AT + _SUPERBLOCK.size else (0, 0, 0)
    )
    if magic != _MAGIC:
        raise MachineLostError(f"{image} is no erofs image", fix=root_anew(image))
    said_bytes = blocks << block_bits
    if there_bytes < said_bytes:
        raise MachineLostError(
            f"{image} is cut short: {there_bytes} bytes of {said_bytes}", fix=root_anew(image)
        )
