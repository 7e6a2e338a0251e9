# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The agent's zipapp for one guest root, built once and cached.

Owns when it has to be built again; what goes in is zipapp.py's business.
"""

import hashlib
import importlib.metadata
import tempfile
from pathlib import Path

from harness import tools
from harness.paths import cache_dir, locked, make_dir
from harness.target import zipapp


def agent_archive(root_image: Path, root_hash: str) -> Path:
    """Path of the zipapp with bytecode for the Python in `root_image` (erofs)."""
    name = f"agent-{_sources_hash()}-{root_hash}.pyz"
    place = cache_dir() / "agent"
    archive = place / name
    if archive.exists():
        return archive
    with locked("agent"), tempfile.TemporaryDirectory(dir=make_dir(place)) as scratch:
        if not archive.exists():
            tree = Path(scratch) / "root"
            unpack = [tools.need("fsck.erofs"), f"--extract={tree}", str(root_image)]
            tools.run(unpack, timeout_s=300, what=f"cannot unpack {root_image}")
            zipapp.build_agent(Path(scratch) / "out", tree).replace(archive)
    return archive


def _sources_hash() -> str:
    # the builder too: it decides what becomes of them
    builder = Path(zipapp.__file__)
    digest = hashlib.sha256(importlib.metadata.version("pyroute2").encode())
    for source in (builder, *zipapp.sources().values()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
