# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""When the agent's archive is built, and what is said where it cannot be."""

import pytest

from harness import paths, tools
from harness.errors import MachineLostError, WorldError
from harness.target import archive


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A guest root, which the machine's fsck.erofs unpacks in no time."""
    image = tmp_path / "root/0123/root.erofs"
    image.parent.mkdir(parents=True)
    image.write_bytes(bytes(1 << 16))
    fsck = tmp_path / "fsck.erofs"
    fsck.write_text("#!/bin/sh\n")
    fsck.chmod(0o755)
    monkeypatch.setattr(tools, "need", lambda _: str(fsck))

    def build(out, _tree):
        out.mkdir()
        built = out / "agent.pyz"
        built.write_text("agent")
        return built

    monkeypatch.setattr(archive.zipapp, "build_agent", build)
    return image


def _says(tmp_path, words):
    (tmp_path / "fsck.erofs").write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")


def test_an_agent_is_built_once(cache, root, tmp_path):
    built = archive.agent_archive(root, "0123")
    assert built.read_text() == "agent"
    _says(tmp_path, "unpacked again")
    assert archive.agent_archive(root, "0123") == built
    assert list((cache / "agent").iterdir()) == [built]


def test_a_full_disk_is_said_before_the_root_is_unpacked(cache, root, tmp_path, monkeypatch):
    _says(tmp_path, "I/O error occurred when verifying data chunk")
    monkeypatch.setattr(paths.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1 << 24}))
    words = r"no space for building the agent: 17 MB needed, 16 MB available"
    with pytest.raises(MachineLostError, match=words):
        archive.agent_archive(root, "0123")
    assert not list((cache / "agent").iterdir())


def test_a_disk_that_fills_up_is_not_a_damaged_root(cache, root, tmp_path, monkeypatch):
    _says(tmp_path, "I/O error occurred when verifying data chunk")
    free = [1 << 30, 0]
    monkeypatch.setattr(
        paths.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free.pop(0)})
    )
    with pytest.raises(MachineLostError, match="no space for building the agent"):
        archive.agent_archive(root, "0123")
    assert not list((cache / "agent").iterdir())


def test_a_damaged_root_is_said_to_be(cache, root, tmp_path):
    _says(tmp_path, "failed to read data of m_pa 59043840")
    with pytest.raises(WorldError, match=f"cannot unpack {root}: failed to read") as caught:
        archive.agent_archive(root, "0123")
    assert f"rm -r {root.parent}; the next run makes it anew" in caught.value.fix
    assert not list((cache / "agent").iterdir())
