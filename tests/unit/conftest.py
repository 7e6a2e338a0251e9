# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Small stand-ins for things that a unit test cannot fetch."""

import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the test's own; returns bpfthrow's directory in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/bpfthrow"


@pytest.fixture
def make_image(tmp_path):
    """Writes a file with the boot header of a bzImage, and nothing that would boot."""

    def make(release, path=None):
        path = path or tmp_path / "bzImage"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = bytearray(0x1000)
        head[0x1FE:0x200] = b"\x55\xaa"
        head[0x202:0x206] = b"HdrS"
        text = f"{release} (build@test) #1 SMP".encode() if release else b""
        head[0x20E:0x210] = (0x600 if release else 0).to_bytes(2, "little")
        head[0x800 : 0x800 + len(text)] = text
        path.write_bytes(head)
        return path

    return make
