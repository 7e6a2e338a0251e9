# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The agent's zipapp for one guest root, built once and cached.

Owns when it has to be built again; what goes in is zipapp.py's business.
"""

import hashlib
import importlib.metadata
import tempfile
from pathlib import Path

from harness import tools
from harness.errors import WorldError
from harness.paths import LEFT_BYTES, cache_dir, locked, make_dir, require_space, telling_no_space
from harness.target import zipapp
from harness.target.rootimage import root_anew

_PURPOSE = "building the agent"
# beside the unpacked guest root: what the agent is collected from
_BESIDE_BYTES = 16 << 20


def agent_archive(root_image: Path, root_hash: str) -> Path:
    """Path of the zipapp with bytecode for the Python in `root_image` (erofs).

    MachineLostError where there is no space to build it, WorldError where the image is damaged.
    """
    name = f"agent-{_sources_hash()}-{root_hash}.pyz"
    place = cache_dir() / "agent"
    archive = place / name
    if archive.exists():
        return archive
    make_dir(place)
    with (
        locked("agent"),
        telling_no_space(_PURPOSE, place),
        tempfile.TemporaryDirectory(dir=place) as scratch,
    ):
        if not archive.exists():
            _build(root_image, Path(scratch)).replace(archive)
    return archive


def _build(root_image: Path, scratch: Path) -> Path:
    # the image is not compressed; files take whole blocks
    needed_bytes = root_image.stat().st_size * 9 // 8 + _BESIDE_BYTES
    require_space(needed_bytes, _PURPOSE, scratch.parent)
    tree = scratch / "root"
    unpack = [tools.need("fsck.erofs"), f"--extract={tree}", str(root_image)]
    try:
        what = f"cannot unpack {root_image}"
        tools.run(unpack, timeout_s=300, what=what, fix=root_anew(root_image))
        return zipapp.build_agent(scratch / "out", tree)
    except WorldError:
        # programs that hit the end of a disk blame something else
        require_space(LEFT_BYTES, _PURPOSE, scratch.parent)
        raise


def _sources_hash() -> str:
    # the builder too: it decides what becomes of them
    builder = Path(zipapp.__file__)
    digest = hashlib.sha256(importlib.metadata.version("pyroute2").encode())
    for source in (builder, *zipapp.sources().values()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
