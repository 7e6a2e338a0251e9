# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sources, series and configurations of kernels that are built."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from kernel_tree import FILE, FIRST, REMOVAL, SECOND, write_tree

from harness.errors import UsageError
from harness.kernels import kconfig, patchset, source
from harness.paths import VM_DIR


def _mail(subject, body, number):
    return (
        f"From {number:040x} Mon Sep 17 00:00:00 2001\nFrom: a <a@example.org>\n"
        f"Date: Sun, 22 Nov 2026 10:00:00 +0000\nSubject: {subject}\n\nWords.\n---\n{body}\n"
    )


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "linux")


def _original(tree):
    def read(name):
        path = tree / name
        return path.read_bytes() if path.is_file() else None

    return read


# ---- series --------------------------------------------------------------------------------


def test_an_mbox_is_put_in_order_and_its_cover_letter_left_out(tmp_path):
    box = tmp_path / "series.mbox"
    box.write_text(
        _mail("[PATCH v2 2/2] second", SECOND, 3)
        + _mail("[PATCH v2 0/2] cover", "nothing to apply", 1)
        + _mail("[PATCH v2 1/2]\n first", FIRST, 2)
    )
    found = patchset.read([box])
    assert [patch.subject for patch in found] == ["[PATCH v2 1/2] first", "[PATCH v2 2/2] second"]


def test_a_mail_may_be_encoded(tmp_path):
    box = tmp_path / "series.mbox"
    encoded = FIRST.replace("=", "=3D").replace("@@ -1,4", "@@ =2D1,4")
    text = _mail("[PATCH] quoted", encoded, 1)
    box.write_text(
        text.replace("Subject:", "Content-Transfer-Encoding: quoted-printable\nSubject:")
    )
    (patch,) = patchset.read([box])
    assert "@@ -1,4 +1,4 @@" in patch.text


def test_a_directory_gives_its_patches_by_name(tmp_path, tree):
    (tmp_path / "0002-b.patch").write_text(SECOND)
    (tmp_path / "0001-a.patch").write_text(FIRST)
    (tmp_path / "notes.txt").write_text("no patch")
    patches = patchset.read([tmp_path])
    assert [patch.subject for patch in patches] == ["0001-a.patch", "0002-b.patch"]
    content = patchset.apply(patches, _original(tree))
    assert content["kernel/bpf/x.c"] == b"one\nTWO\nthree\nand a half\nfour\nfive\n"
    assert content["kernel/bpf/new.c"] == b"new\n"
    assert (tree / "kernel/bpf/x.c").read_text() == FILE


def test_a_removed_file_is_not_there_any_more(tmp_path, tree):
    (tmp_path / "rm.patch").write_text(REMOVAL)
    content = patchset.apply(patchset.read([tmp_path / "rm.patch"]), _original(tree))
    assert content == {"kernel/bpf/x.c": None}


def test_a_hunk_that_does_not_fit_is_named_by_patch_file_and_line(tmp_path, tree):
    (tmp_path / "late.patch").write_text(SECOND)
    with pytest.raises(UsageError, match=r"late.patch.*does not apply: kernel/bpf/x\.c, line 1"):
        patchset.apply(patchset.read([tmp_path]), _original(tree))


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/../../x", ".git/config"])
def test_a_patch_stays_in_the_tree(tmp_path, name):
    (tmp_path / "evil.patch").write_text(FIRST.replace("kernel/bpf/x.c", name))
    with pytest.raises(UsageError, match="path out of the tree"):
        patchset.read([tmp_path / "evil.patch"])


@pytest.mark.parametrize("content", ["", "no diff at all\n", "From nobody\n\nwords\n"])
def test_what_holds_no_patch_is_said_to(tmp_path, content):
    (tmp_path / "x.patch").write_text(content)
    with pytest.raises(UsageError, match="no patch in what --patches names"):
        patchset.read([tmp_path / "x.patch"])


def test_a_patch_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="gone.patch: cannot be read: No such file"):
        patchset.read([tmp_path / "gone.patch"])


@pytest.mark.parametrize("name", ["proposal", "fix-callback-index"])
def test_our_series_change_one_file_and_have_a_message(name):
    (patch,) = patchset.read([VM_DIR / f"patches/{name}.patch"])
    assert patch.files() == ["kernel/bpf/fixups.c"]
    assert patch.subject.startswith("[PATCH] bpf: ")


# ---- configuration -------------------------------------------------------------------------


def test_every_option_of_ours_has_a_reason():
    options = kconfig.read(VM_DIR / "guest.config")
    assert len(options) > 100
    assert not [option.name for option in options if not option.why]
    unwinder = next(option for option in options if option.name == "CONFIG_UNWINDER_ORC")
    assert "without it bpf_throw is refused" in unwinder.why


def test_a_lost_option_is_named_with_its_reason(tmp_path):
    fragment, config = tmp_path / "f.config", tmp_path / ".config"
    fragment.write_text("# kfuncs\nCONFIG_DEBUG_INFO_BTF=y\n\n# small\n# CONFIG_DRM is not set\n")
    wanted = kconfig.read(fragment)
    config.write_text("CONFIG_DEBUG_INFO_BTF=y\n# CONFIG_DRM is not set\n")
    kconfig.check(config, wanted)
    config.write_text("CONFIG_DRM=y\n")
    with pytest.raises(UsageError) as caught:
        kconfig.check(config, wanted)
    assert "CONFIG_DEBUG_INFO_BTF=y (kfuncs)" in caught.value.message
    assert "CONFIG_DRM=n (small)" in caught.value.message


def test_a_later_fragment_wins(tmp_path):
    fragment, config = tmp_path / "f.config", tmp_path / ".config"
    fragment.write_text("CONFIG_KASAN=n\nCONFIG_KASAN=y\n")
    config.write_text("CONFIG_KASAN=y\n")
    kconfig.check(config, kconfig.read(fragment))


def test_a_line_that_is_no_option(tmp_path):
    (tmp_path / "f.config").write_text("\nKASAN=y\n")
    with pytest.raises(UsageError, match=r"f\.config:2: not an option: 'KASAN=y'"):
        kconfig.read(tmp_path / "f.config")


# ---- sources -------------------------------------------------------------------------------


def test_a_tarball_is_unpacked_once(cache, tree, tmp_path):
    path = tmp_path / "linux.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tree, "linux-7.3")
    first = source.obtain(source.find(str(path)))
    assert (first.tree / "kernel/bpf/x.c").read_text() == FILE
    (first.tree / "marker").touch()
    assert (source.obtain(source.find(str(path))).tree / "marker").exists()


def test_a_git_tree_is_built_as_committed(cache, tree):
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    assert (source.obtain(source.find(str(tree))).tree / "kernel/bpf/x.c").read_text() == FILE
    (tree / "kernel/bpf/x.c").write_text("changed")
    with pytest.raises(UsageError, match="changes that are not committed"):
        source.obtain(source.find(str(tree)))


def test_a_directory_is_copied_and_never_written(cache, tree):
    found = source.obtain(source.find(str(tree)))
    found.patch({"kernel/bpf/x.c": b"patched"})
    assert (tree / "kernel/bpf/x.c").read_text() == FILE
    (tree / "kernel/bpf/x.c").write_text("another source")
    assert source.obtain(source.find(str(tree))).key != found.key


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no kernel source"),
        (lambda path: path.mkdir(), "is not a kernel source: it has no Makefile"),
        (lambda path: path.write_text("words"), "is not a tarball"),
    ],
)
def test_what_is_no_source(cache, tmp_path, make, words):
    make(tmp_path / "thing")
    with pytest.raises(UsageError, match=words):
        source.obtain(source.find(str(tmp_path / "thing")))
    assert not list((cache / "sources").glob("*")) if cache.exists() else True


def test_a_checkout_of_somebody_else(cache, tree, tmp_path, monkeypatch):
    """As in a container whose checkout another user made."""
    (tree / ".git").mkdir()
    words = f"fatal: detected dubious ownership in repository at '{tree}'\n\n\tgit config ...\n"
    git = tmp_path / "bin/git"
    git.parent.mkdir()
    git.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{words}END\nexit 128\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    with pytest.raises(UsageError, match="dubious ownership") as caught:
        source.find(str(tree))
    assert caught.value.fix == f"git config --global --add safe.directory {tree}"


def test_a_package_that_is_no_source(cache):
    with pytest.raises(UsageError, match="not a kernel source"):
        source.obtain(source.find("deb:bash"))


def test_patching_is_exact_and_touches_only_what_changes(cache, tree):
    found = source.obtain(source.find(str(tree)))
    path, other = found.tree / "kernel/bpf/x.c", found.tree / "Kbuild"
    found.patch({"kernel/bpf/x.c": b"first", "new.c": b"new", "Kbuild": None})
    assert path.read_bytes() == b"first"
    assert not other.exists()
    assert found.original("kernel/bpf/x.c") == FILE.encode()
    assert found.original("new.c") is None
    os.utime(path, (1, 1))
    found.patch({"kernel/bpf/x.c": b"first"})
    assert path.stat().st_mtime == 1
    assert other.exists()
    assert not (found.tree / "new.c").exists()
    found.patch({})
    assert path.read_text() == FILE


def test_a_half_written_original_is_no_file_of_the_source(cache, tree):
    found = source.obtain(source.find(str(tree)))
    found.patch({"kernel/bpf/x.c": b"patched"})
    (found.place / "originals/kernel/bpf/y.c.partial").write_text("ha")
    found.patch({})
    assert not (found.tree / "kernel/bpf/y.c.partial").exists()
    assert sorted(path.name for path in (found.tree / "kernel/bpf").iterdir()) == ["x.c"]


def test_originals_are_read_rightly_while_another_patches(cache, tree, monkeypatch):
    """Between two looks of ours the other keeps the original and writes its own."""
    found = source.obtain(source.find(str(tree)))
    path = found.tree / "kernel/bpf/x.c"
    read, first = Path.read_bytes, []

    def meanwhile(self):
        data = read(self)
        if self == path and not first:
            first.append(self)
            found.patch({"kernel/bpf/x.c": b"patched"})
        return data

    monkeypatch.setattr(Path, "read_bytes", meanwhile)
    assert found.original("kernel/bpf/x.c") == FILE.encode()
    assert found.original("kernel/bpf/x.c") == FILE.encode()
    assert path.read_text() == "patched"
