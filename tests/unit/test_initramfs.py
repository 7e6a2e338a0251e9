# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The archive that a guest starts from."""

import errno
import lzma
import stat
from pathlib import Path

import pytest

from harness import paths
from harness.errors import MachineLostError, WorldError
from harness.target import initramfs
from harness.target.initramfs import Entry


def _unpack(data):
    """Read newc archives back: name -> (mode, data, device)."""
    found, at = {}, 0
    while at < len(data):
        if data[at : at + 6] != b"070701":
            at += 1  # padding between archives
            continue
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name_at = at + 110
        name = data[name_at : name_at + fields[11] - 1].decode()
        body = -(-(name_at + fields[11]) // 4) * 4
        if name != "TRAILER!!!":
            found[name] = (fields[1], data[body : body + fields[6]], (fields[9], fields[10]))
        at = -(-(body + fields[6]) // 4) * 4
    return found


def test_what_is_packed_can_be_read():
    packed = initramfs.pack(
        [
            Entry("dev", stat.S_IFDIR | 0o755),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
            Entry("odd", stat.S_IFREG | 0o644, b"12345"),
        ]
    )
    assert len(packed) % 512 == 0
    assert _unpack(packed) == {
        "dev": (stat.S_IFDIR | 0o755, b"", (0, 0)),
        "dev/console": (stat.S_IFCHR | 0o600, b"", (5, 1)),
        "odd": (stat.S_IFREG | 0o644, b"12345", (0, 0)),
    }


def test_keys_follow_the_common_part_and_are_secret(tmp_path):
    common = tmp_path / "common.cpio"
    common.write_bytes(initramfs.pack([Entry("init", stat.S_IFREG | 0o755, b"#!")]))
    target = tmp_path / "initramfs"
    initramfs.write_initramfs(target, common, {"host_key": b"secret"})
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    members = _unpack(target.read_bytes())
    assert members["init"][1] == b"#!"
    assert members["payload/host_key"][:2] == (stat.S_IFREG | 0o600, b"secret")


def test_modules_are_unpacked(tmp_path):
    packed = tmp_path / "veth.ko.xz"
    packed.write_bytes(lzma.compress(b"\x7fELF module"))
    assert initramfs.decompress(packed) == b"\x7fELF module"


@pytest.mark.parametrize("name", ["veth.ko.xz", "veth.ko.zst", "veth.ko.lz4"])
def test_a_broken_module_is_named(tmp_path, name):
    broken = tmp_path / name
    broken.write_bytes(b"not compressed at all")
    with pytest.raises(WorldError, match=name):
        initramfs.decompress(broken)


def test_a_kernel_without_modules_gets_empty_lists(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    archive = initramfs.common_part(None)
    members = _unpack(archive.read_bytes())
    assert members["modules/boot.list"][1] == b""
    assert members["payload/modules/load.list"][1] == b""
    assert members["init"][1].startswith(b"#!/bin/sh")
    assert initramfs.common_part(None) == archive


def test_remains_of_killed_processes_go_when_an_archive_is_written(cache):
    place = cache / "initramfs"
    place.mkdir(parents=True)
    for name in ("0123.77.partial", ".0123.cpio.77-ab.partial"):
        (place / name).touch()
    archive = initramfs.common_part(None)
    assert list(place.iterdir()) == [archive]


def _full(_place):
    return type("Usage", (), {"free": 4096})


def test_a_full_cache_is_said_and_nothing_stays(cache, monkeypatch):
    monkeypatch.setattr(paths.shutil, "disk_usage", _full)
    with pytest.raises(MachineLostError, match=f"initramfs: .* 0 MB available in {cache}"):
        initramfs.common_part(None)
    assert not list((cache / "initramfs").iterdir())


def test_a_cache_that_fills_up_meanwhile_is_said_and_nothing_stays(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(MachineLostError, match="initramfs: No space left on device in"):
        initramfs.common_part(None)
    assert not list((cache / "initramfs").iterdir())


def test_a_full_runtime_directory_is_named(cache, tmp_path, monkeypatch):
    common = tmp_path / "common.cpio"
    common.write_bytes(bytes(1 << 16))
    (tmp_path / "guest").mkdir()
    monkeypatch.setattr(paths.shutil, "disk_usage", _full)
    with pytest.raises(MachineLostError, match=f"available in {tmp_path}\n") as caught:
        initramfs.write_initramfs(tmp_path / "guest/initramfs", common, {})
    assert "XDG_RUNTIME_DIR" in caught.value.fix
    assert not list((tmp_path / "guest").iterdir())


def test_paths_with_spaces_are_read_and_options_and_the_hosts_settings_are_not(
    tmp_path, monkeypatch
):
    modprobe = tmp_path / "modprobe"
    modprobe.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho "builtin crc32c"\n'
        'echo "insmod /a tree/veth.ko.xz opt=1 other=a.ko"\necho "insmod /a tree/dummy.ko "\n'
    )
    modprobe.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = initramfs.module_order(tmp_path / "lib/modules/6.12", ["veth"])
    assert [str(path) for path in found] == ["/a tree/veth.ko.xz", "/a tree/dummy.ko"]
    assert (tmp_path / "asked").read_text().startswith("-C /dev/null ")
