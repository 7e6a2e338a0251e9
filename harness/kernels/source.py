# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernel sources to build: unpacked once, patched in place, put back before the next series.

What is built lies in a tree of our own in the cache, so that only what a series changes is compiled
again; the user's tree is read and never written. The tree of a source is under a lock while it is
in use; originals of patched files are kept beside it, so that an interrupted run does no harm.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import tools
from harness.errors import UsageError, WorldError
from harness.kernels import apt
from harness.paths import cache_dir, locked, require_space, staged

# suites of the catalogue's kernels, newest last
_SUITES = ("bookworm", "trixie", "trixie-backports")
# an unpacked tree takes 1.7 GB
TREE_BYTES = 3 << 30
# what tells that a source is complete; its time is that of its last use
NOTE = "source.json"
_LABELS = ("Makefile", "Kbuild", "kernel/bpf")


@dataclass(frozen=True, slots=True)
class Source:
    """An unpacked source in the cache. `place` holds tree/, originals/ and the outputs."""

    key: str
    origin: str
    place: Path

    @property
    def tree(self) -> Path:
        """The tree that is compiled."""
        return self.place / "tree"

    def output(self, name: str) -> Path:
        """Where one configuration is compiled."""
        return self.place / f"out-{name}"

    def original(self, name: str) -> bytes | None:
        """A file as the source has it; None where it has none."""
        kept, path = self.place / "originals" / name, self.tree / name
        # first the tree: whoever patches it meanwhile keeps the original before that
        found = path.read_bytes() if path.is_file() else None
        if kept.with_name(f"{kept.name}.absent").exists():
            return None
        return kept.read_bytes() if kept.is_file() else found

    def patch(self, content: Mapping[str, bytes | None]) -> None:
        """Make the tree the source with `content` in place of its files (None: no such file).

        Files that are as they should be are not written: their objects stay good.
        """
        kept = self.place / "originals"
        for path in sorted(kept.rglob("*")) if kept.is_dir() else []:
            name = str(path.relative_to(kept)).removesuffix(".absent")
            if path.name.endswith(".partial"):
                path.unlink()  # of a process that was killed
            elif path.is_file() and name not in content:
                self._set(name, self.original(name))
        for name, data in content.items():
            self._keep(name)
            self._set(name, data)

    def _keep(self, name: str) -> None:
        kept = self.place / "originals" / name
        absent = kept.with_name(f"{kept.name}.absent")
        if kept.exists() or absent.exists():
            return
        kept.parent.mkdir(parents=True, exist_ok=True)
        source = self.tree / name
        target = kept if source.is_file() else absent
        partial = kept.with_name(f"{kept.name}.partial")
        partial.write_bytes(source.read_bytes() if source.is_file() else b"")
        partial.rename(target)

    def _set(self, name: str, data: bytes | None) -> None:
        path = self.tree / name
        now = path.read_bytes() if path.is_file() else None
        if now == data:
            return
        if data is None:
            path.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        partial.write_bytes(data)
        if path.exists():
            shutil.copymode(path, partial)
        partial.rename(path)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A source that was found but perhaps not unpacked yet."""

    # hash of what it holds
    key: str
    origin: str
    # puts it into an empty directory
    fill: Callable[[Path], None]

    @property
    def place(self) -> Path:
        """Where it is, or will be, in the cache."""
        return sources_dir() / self.key


def sources_dir() -> Path:
    """Where unpacked sources and what is compiled from them are, one directory each."""
    return cache_dir() / "sources"


def cached() -> list[str]:
    """What the unpacked sources are, by what they were made of."""
    notes = sorted(sources_dir().glob(f"[!.]*/{NOTE}")) if sources_dir().is_dir() else []
    return [json.loads(note.read_text())["origin"] for note in notes]


def find(spec: str) -> Wanted:
    """The source that `spec` names: deb:PATTERN, a tarball, a git tree or a directory.

    UsageError where it is no kernel source; WorldError where the mirror does not answer.
    """
    if spec.startswith("deb:"):
        return _of_package(spec.removeprefix("deb:"))
    path = Path(spec).expanduser().resolve()
    if path.is_file():
        return _of_tarball(path)
    if not path.is_dir():
        raise UsageError(
            f"no kernel source: {spec}", fix="a directory, a git tree, a tarball, or deb:PATTERN"
        )
    _require_kernel(path, spec)
    return _of_git(path) if (path / ".git").exists() else _of_directory(path)


def is_cached(wanted: Wanted) -> bool:
    """Whether it is unpacked already."""
    return (wanted.place / NOTE).is_file()


def obtain(wanted: Wanted) -> Source:
    """Unpack a source, unless it is. UsageError: no kernel, no space; WorldError: no download."""
    source = Source(wanted.key, wanted.origin, wanted.place)
    note = wanted.place / NOTE
    with locked(f"source-{wanted.key}", f"unpacking {wanted.origin}"):
        if note.is_file():
            os.utime(note)  # used: see prune
            return source
        require_space(TREE_BYTES, f"the source {wanted.origin}")
        with staged(wanted.place) as staging:
            tree = staging / "tree"
            tree.mkdir()
            tools.say(f"unpacking {wanted.origin}")
            wanted.fill(tree)
            _require_kernel(tree, wanted.origin)
            (staging / NOTE).write_text(json.dumps({"origin": wanted.origin}))
    return source


def _require_kernel(tree: Path, what: str) -> None:
    missing = [label for label in _LABELS if not (tree / label).exists()]
    if missing:
        raise UsageError(
            f"{what} is not a kernel source: it has no {missing[0]}",
            fix="name the top of the tree (where Kbuild is)",
        )


def _key(*words: object) -> str:
    return hashlib.sha256("\0".join(map(str, words)).encode()).hexdigest()[:16]


def _of_package(pattern: str) -> Wanted:
    if not pattern.startswith("linux-source-"):
        raise UsageError(f"deb:{pattern}: not a kernel source", fix="deb:linux-source-7.3")
    try:
        package = apt.newest(pattern, _SUITES)
    except UsageError as error:
        raise UsageError(error.message, fix="apt-cache search linux-source shows some") from error

    def fill(tree: Path) -> None:
        require_space(2 * package.unpacked_bytes + TREE_BYTES, package.name)
        with tempfile.TemporaryDirectory(dir=tree.parent) as scratch:
            (deb,) = apt.download([package], Path(scratch))
            tools.run([tools.need("dpkg-deb"), "-x", str(deb), scratch], what="cannot unpack")
            archives = sorted(Path(scratch).glob("usr/src/linux-source-*.tar.*"))
            if len(archives) != 1:
                raise UsageError(f"{package.name} holds no tarball of a source")
            _unpack(archives[0], tree)

    origin = f"{package.name}={package.version}"
    return Wanted(_key("deb", origin), origin, fill)


def _of_tarball(path: Path) -> Wanted:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Wanted(_key("tar", digest), str(path), lambda tree: _unpack(path, tree))


def _unpack(path: Path, tree: Path) -> None:
    """Without the directory that everything in a kernel's tarball is in."""
    if not tarfile.is_tarfile(path):
        raise UsageError(f"{path} is not a tarball", fix="a kernel source as .tar.xz or .tar.gz")
    argv = [tools.need("tar"), "xf", str(path), "-C", str(tree), "--strip-components=1"]
    tools.run(argv, what=f"cannot unpack {path.name}")


def _of_git(path: Path) -> Wanted:
    """The commit that is checked out: what is not committed would be built by nobody else."""

    def git(*words: str) -> str:
        try:
            return tools.run([tools.need("git"), "-C", str(path), *words], what=f"git in {path}")
        except WorldError as error:
            said = error.evidence.partition("\n")[0] or error.message
            raise UsageError(
                f"git in {path}: {said}", fix=_git_fix(error.evidence, path)
            ) from error

    if git("status", "--porcelain", "--untracked-files=no").strip():
        raise UsageError(
            f"{path} has changes that are not committed",
            fix="commit or stash them, or give them as --patches",
        )
    commit = git("rev-parse", "HEAD").strip()

    def fill(tree: Path) -> None:
        archive = [tools.need("git"), "-C", str(path), "archive", commit]
        with subprocess.Popen(archive, stdout=subprocess.PIPE) as packer:
            unpack = [tools.need("tar"), "xf", "-", "-C", str(tree)]
            done = subprocess.run(unpack, stdin=packer.stdout, check=False)
        if packer.returncode or done.returncode:
            raise WorldError(f"git archive of {path} failed")

    return Wanted(_key("git", commit), f"{path.name}@{commit[:12]}", fill)


def _git_fix(words: str, path: Path) -> str:
    if "dubious ownership" in words:
        # a checkout that another user made, as in containers
        return f"git config --global --add safe.directory {path}"
    return "name a checkout with at least one commit, or give a tarball"


def _of_directory(path: Path) -> Wanted:
    """A tree without history: its files by name, size and time are what it is."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            info = os.lstat(os.path.join(folder, name))  # noqa: PTH118  # 90,000 of them
            digest.update(f"{folder}/{name}\0{info.st_size}\0{info.st_mtime_ns}\n".encode())

    def fill(tree: Path) -> None:
        tools.run([tools.need("cp"), "-a", "--reflink=auto", f"{path}/.", str(tree)])
        # what was built there is configured and compiled otherwise here
        tools.run(["make", "-s", "-C", str(tree), "mrproper"], what="make mrproper failed")

    return Wanted(_key("dir", digest.hexdigest()), str(path), fill)
