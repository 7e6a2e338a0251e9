# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The guest's root file system: a small erofs image built from Debian packages.

Packages are unpacked, never configured: no chroot, no mount and no root rights are needed, and no
maintainer script runs. Holds no keys, no init and nothing of the host: what the guest does when it
boots comes with the initramfs. What is in it is vm/root.toml's business.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from harness import tools
from harness.errors import UsageError, WorldError
from harness.kernels import apt
from harness.paths import VM_DIR, cache_dir, locked, require_space, staged

_BUILD_BYTES = 700 << 20
_KEYS = {
    "suite": str,
    "packages": list,
    "without": list,
    "drop": list,
    "programs": list,
    "python_imports": list,
    "libbpf_at_least": str,
}
# Debian's merged /usr; the package that ships these links (base-files) brings nothing else of use.
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_MOUNT_POINTS = (
    *("dev", "proc", "sys", "run", "tmp", "root", "mnt"),
    *("var/empty", "var/tmp", "usr/lib/modules"),
)
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "sshd:x:100:65534::/run/sshd:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hostname": "guest\n",
    "etc/hosts": "127.0.0.1 localhost guest\n::1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
# Part of the hash: what this module does to the tree beside the recipe.
_LAYOUT = "1"


@dataclass(frozen=True, slots=True)
class GuestRoot:
    """A built image and what is in it."""

    # erofs image: read-only by construction
    image: Path
    # "7.5.0", "1.5", "3.13.5"
    bpftool: str
    libbpf: str
    python: str
    # of the recipe: 16 hex digits
    hash: str


def load_recipe(path: Path | None = None) -> dict[str, list[str] | str]:
    """vm/root.toml, checked: UsageError on keys that are unknown, missing or of another type."""
    path = path or VM_DIR / "root.toml"
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    wrong = [key for key in table.keys() | _KEYS.keys() if not _is_good(table, key)]
    if wrong:
        raise UsageError(
            f"{path}: unknown, missing or mistyped: {', '.join(sorted(wrong))}",
            fix=f"the keys are {', '.join(_KEYS)}",
        )
    return table


def _is_good(table: dict[str, object], key: str) -> bool:
    return key in _KEYS and isinstance(table.get(key), _KEYS[key])


def recipe_list(key: str) -> list[str]:
    """One list of the recipe, as strings."""
    return [str(word) for word in load_recipe()[key]]


@functools.cache
def recipe_hash() -> str:
    """16 hex digits over everything that decides what the image holds."""
    digest = hashlib.sha256(_LAYOUT.encode())
    digest.update((VM_DIR / "root.toml").read_bytes())
    return digest.hexdigest()[:16]


def _unpack(debs: Iterable[Path], tree: Path) -> None:
    unpack = tools.need("dpkg-deb")
    without = recipe_list("without")
    for deb in debs:
        name = deb.name.split("_")[0]
        if not any(fnmatchcase(name, pattern) for pattern in without):
            tools.run([unpack, "-x", str(deb), str(tree)], what=f"cannot unpack {deb.name}")


def _prune(tree: Path) -> None:
    for pattern in recipe_list("drop"):
        for path in tree.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _furnish(tree: Path) -> None:
    for point in _MOUNT_POINTS:
        (tree / point).mkdir(parents=True, exist_ok=True)
    for name, text in _FILES.items():
        (tree / name).write_text(text)
    (tree / "var/run").symlink_to("/run")
    (tree / "etc/mtab").symlink_to("/proc/self/mounts")


# The guest's programs run on the build machine through the guest's own loader and libraries.
def _guest_run(tree: Path, argv: list[str], env: dict[str, str] | None = None) -> str:
    loader = tree / "usr/lib64/ld-linux-x86-64.so.2"
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    return tools.run(
        [str(loader), "--library-path", str(libraries), *argv],
        cwd=tree,
        env=env,
        timeout_s=300,
        what=f"the guest's {' '.join(argv[:2])} does not work",
    )


def _check_libraries(tree: Path) -> None:
    for program in recipe_list("programs"):
        if program.endswith("busybox"):
            (tree / program).stat()  # static: it has no list
            continue
        _complain(program, missing_libraries(_guest_run(tree, ["--list", program]), tree))


def missing_libraries(listed: str, tree: Path) -> list[str]:
    """Libraries that a loader's --list does not find, or finds only on the build machine."""
    lines = [line.split() for line in listed.splitlines() if "=>" in line]
    return [words[0] for words in lines if not words[2].startswith(f"{tree}/")]


def _complain(program: str, lost: list[str]) -> None:
    if lost:
        raise UsageError(
            f"the guest's {program} lacks {', '.join(lost)}",
            fix="take the library's package out of `without` in vm/root.toml",
        )


# The loader falls back on the build machine's libraries, which the guest will not have.
_IMPORTS = """
import {names}
for line in open("/proc/self/maps"):
    path = line.split(maxsplit=5)[5:]
    if path and ".so" in path[0]:
        print(path[0].strip())
"""


def _python(tree: Path, *arguments: str) -> str:
    env = {"PYTHONHOME": str(tree / "usr"), "PYTHONDONTWRITEBYTECODE": "1"}
    return _guest_run(tree, ["usr/bin/python3", "-s", *arguments], env)


# Byte code for a read-only root: without it every import would compile, under emulation too.
def _compile_python(tree: Path) -> str:
    library = next((tree / "usr/lib").glob("python3.*"))
    _python(
        tree,
        *("-m", "compileall", "-q", "-x", "lib2to3|test_", "-s", str(tree), "-p", "/"),
        *("--invalidation-mode", "unchecked-hash", str(library)),
    )
    names = recipe_list("python_imports")
    mapped = set(_python(tree, "-c", _IMPORTS.format(names=", ".join(names))).splitlines())
    _complain("Python", sorted(path for path in mapped if not path.startswith(f"{tree}/")))
    return _python(tree, "-c", "import platform; print(platform.python_version())").strip()


def _version(text: str, name: str) -> str:
    match = re.search(rf"^(?:using )?{name} v([\d.]+)", text, re.MULTILINE)
    return match[1] if match else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(word) for word in version.split(".") if word)


def check_bpftool(text: str, least: str) -> tuple[str, str]:
    """Versions (bpftool, libbpf) out of `bpftool version`; UsageError where libbpf is older."""
    bpftool, libbpf = _version(text, "bpftool"), _version(text, "libbpf")
    if not libbpf or _numbers(libbpf) < _numbers(least):
        raise UsageError(
            f"the guest's bpftool {bpftool} is linked to libbpf {libbpf or '(unknown)'},"
            f" {least} is needed: older ones cannot load a custom exception callback",
            fix="choose a newer suite in vm/root.toml",
        )
    return bpftool, libbpf


# bpftool lives in /usr/sbin and wants its libraries only; `version` opens no kernel interface.
def _examine(tree: Path) -> dict[str, str]:
    _check_libraries(tree)
    words = _guest_run(tree, ["usr/sbin/bpftool", "version"])
    bpftool, libbpf = check_bpftool(words, str(load_recipe()["libbpf_at_least"]))
    return {"bpftool": bpftool, "libbpf": libbpf, "python": _compile_python(tree)}


# Uncompressed: under emulation unpacking costs more than reading. Same tree, same image.
def _make_image(tree: Path, image: Path) -> None:
    fixed = ("-T0", "-U00000000-0000-0000-0000-000000000001", "--all-root", "-x-1")
    argv = [tools.need("mkfs.erofs"), "--quiet", *fixed, str(image), str(tree)]
    tools.run(argv, what="cannot make the image of the guest root")


def _build(target: Path) -> None:
    require_space(_BUILD_BYTES, "the guest root")
    recipe = load_recipe()
    tools.say(f"building the guest root from {recipe['suite']} packages (once)")
    with staged(target) as place, tempfile.TemporaryDirectory(dir=place) as scratch:
        tree = Path(scratch) / "tree"
        for name, aim in _LINKS.items():
            (tree / aim).mkdir(parents=True)
            (tree / name).symlink_to(aim)
        debs = apt.download_with_dependencies(
            recipe_list("packages"), str(recipe["suite"]), Path(scratch) / "debs"
        )
        _unpack(debs, tree)
        _prune(tree)
        _furnish(tree)
        manifest = _examine(tree) | {"packages": "\n".join(deb.stem for deb in debs)}
        _make_image(tree, place / "root.erofs")
        (place / "manifest.json").write_text(json.dumps(manifest, indent=1))


def cached_root() -> GuestRoot | None:
    """The guest root of today's recipe if it has been built already. Touches no network."""
    place = cache_dir() / "root" / recipe_hash()
    try:
        manifest = json.loads((place / "manifest.json").read_text())
        (place / "root.erofs").stat()
    except (OSError, ValueError):
        return None
    return GuestRoot(
        image=place / "root.erofs",
        bpftool=manifest["bpftool"],
        libbpf=manifest["libbpf"],
        python=manifest["python"],
        hash=recipe_hash(),
    )


def ensure_root() -> GuestRoot:
    """The guest root, built now if the recipe has changed or it was never built.

    UsageError or WorldError (mirror, disk space, bpftool too old); then nothing is left behind.
    """
    root = cached_root()
    if root is None:
        with locked("root"):
            root = cached_root()  # another process may have built it meanwhile
            if root is None:
                _build(cache_dir() / "root" / recipe_hash())
                root = cached_root()
    if root is None:
        raise WorldError("the guest root vanished while it was built")
    return root


def as_json(root: GuestRoot) -> dict[str, str]:
    """The record with its path as text."""
    return asdict(root) | {"image": os.fspath(root.image)}
