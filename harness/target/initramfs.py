# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The initramfs of a guest: busybox, the kernel's modules we need, and one guest's keys.

Two cpio archives one after the other (Documentation/driver-api/early-userspace/buffer-format.rst):
a common one, cached per kernel, and a small private one per guest. Owns vm/modules.toml.
"""

import hashlib
import io
import lzma
import os
import re
import stat
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import tools
from harness.errors import UsageError, WorldError
from harness.paths import (
    VM_DIR,
    cache_dir,
    locked,
    make_dir,
    replace_file,
    require_space,
    telling_no_space,
)

_PURPOSE = "a guest's initramfs"
_HEADER_MAGIC = b"070701"  # newc
_DIRECTORY = stat.S_IFDIR | 0o755
_SCRIPT = stat.S_IFREG | 0o755
_FILE = stat.S_IFREG | 0o644
_SECRET = stat.S_IFREG | 0o600
_LINK = stat.S_IFLNK | 0o777
_CHARACTER_DEVICE = stat.S_IFCHR | 0o600
# a line of modprobe --show-depends: the path, which may have spaces, then the module's options
_INSMOD = re.compile(r"^insmod (.+?\.ko(?:\.\w+)?)(?:\s.*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a cpio archive."""

    name: str
    mode: int
    data: bytes = b""
    # (major, minor) of a device node
    device: tuple[int, int] = (0, 0)


def pack(entries: Iterable[Entry]) -> bytes:
    """A cpio archive in newc format, with its trailer, padded to 512 bytes.

    The padding lets another archive follow: the kernel skips zeros between two of them.
    """
    out = bytearray()
    for number, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.name.encode() + b"\0"
        fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device)
        out += _HEADER_MAGIC + b"".join(b"%08X" % f for f in (*fields, len(name), 0)) + name
        out += bytes(-len(out) % 4) + entry.data
        out += bytes(-len(out) % 4)
    out += bytes(-len(out) % 512)
    return bytes(out)


def module_order(modules_dir: Path, wanted: Iterable[str]) -> list[Path]:
    """Files of the modules `wanted` and what they need, in the order of insertion.

    modules_dir is BASE/lib/modules/RELEASE after depmod. modprobe decides: it knows soft
    dependencies (libcrc32c cannot start before crc32c), which modules.dep does not hold. Built-in
    modules are left out, and so are ones that this kernel does not have: who needs them says so.
    The host's modprobe.d has no say, and its options do not count.
    """
    base, release = modules_dir.parents[2], modules_dir.name
    command = [tools.need("modprobe"), "-C", "/dev/null", "-d", str(base), "-S", release]
    order: list[Path] = []
    for name in wanted:
        argv = [*command, "--show-depends", name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        order += [Path(path) for path in _INSMOD.findall(done.stdout)]
    return list(dict.fromkeys(order))


def common_part(modules_dir: Path | None) -> Path:
    """The archive that all guests of one kernel share, built on first use. modules_dir may be None
    for a kernel that has everything built in. MachineLostError where there is no space for it.
    """
    busybox = tools.need("busybox")
    lists = tomllib.loads((VM_DIR / "modules.toml").read_text())
    boot, late = ([], [])
    if modules_dir is not None:
        boot = module_order(modules_dir, lists["boot"])
        late = [p for p in module_order(modules_dir, lists["late"]) if p not in boot]
    parts = [Path(busybox), VM_DIR / "initramfs.sh", VM_DIR / "init.sh", VM_DIR / "sshd_config"]
    key = _stamp([*parts, Path(__file__)], [boot, late])
    archive = cache_dir() / "initramfs" / f"{key}.cpio"
    with locked("initramfs"):
        if not archive.exists():
            _keep(archive, pack(_common_entries(Path(busybox), boot, late)))
        os.utime(archive)  # `kernels rm --unused` goes by it
    return archive


def _keep(archive: Path, data: bytes) -> None:
    place = make_dir(archive.parent)
    # under the lock: whoever wrote these was killed
    for remains in place.glob("*.partial"):
        remains.unlink()
    with telling_no_space(_PURPOSE, place):
        require_space(len(data), _PURPOSE)
        replace_file(archive, data)


def write_initramfs(target: Path, common: Path, secrets: dict[str, bytes]) -> None:
    """Write `common` followed by this guest's files; they appear in /run/bpfthrow there.

    MachineLostError where there is no space for it.
    """
    private = pack(Entry(f"payload/{name}", _SECRET, data) for name, data in secrets.items())
    shared = common.read_bytes()
    # a guest's own directory goes with the guest
    place = target.parent.parent
    with telling_no_space(_PURPOSE, place):
        require_space(len(shared) + len(private), _PURPOSE, place)
        with target.open("xb") as out:
            os.fchmod(out.fileno(), 0o600)
            out.write(shared)
            out.write(private)


def _stamp(files: list[Path], module_lists: list[list[Path]]) -> str:
    digest = hashlib.sha256()
    for path in (*files, *(p for modules in module_lists for p in modules)):
        info = path.stat()
        digest.update(f"{path}\0{info.st_size}\0{info.st_mtime_ns}\0".encode())
    digest.update(repr([len(modules) for modules in module_lists]).encode())
    return digest.hexdigest()[:16]


def _common_entries(busybox: Path, boot: list[Path], late: list[Path]) -> Iterator[Entry]:
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415  # only where something is built

    image = busybox.read_bytes()
    if any(s["p_type"] == "PT_INTERP" for s in ELFFile(io.BytesIO(image)).iter_segments()):
        raise UsageError(
            f"{busybox} is dynamically linked and cannot start a guest",
            fix="apt-get install busybox-static",
        )
    for name in ("bin", "dev", "proc", "root", "modules", "payload", "payload/modules"):
        yield Entry(name, _DIRECTORY)
    yield Entry("dev/console", _CHARACTER_DEVICE, device=(5, 1))
    yield Entry("bin/busybox", _SCRIPT, image)
    yield Entry("bin/sh", _LINK, b"busybox")
    yield Entry("init", _SCRIPT, (VM_DIR / "initramfs.sh").read_bytes())
    yield Entry("payload/init", _SCRIPT, (VM_DIR / "init.sh").read_bytes())
    yield Entry("payload/sshd_config", _FILE, (VM_DIR / "sshd_config").read_bytes())
    for path in boot:
        yield Entry(f"modules/{_plain_name(path)}", _FILE, decompress(path))
    yield Entry("modules/boot.list", _FILE, _listing(boot, ""))
    for path in late:
        yield Entry(f"payload/modules/{_plain_name(path)}", _FILE, decompress(path))
    yield Entry("payload/modules/load.list", _FILE, _listing(late, "/run/bpfthrow/modules/"))


def _plain_name(path: Path) -> str:
    return path.name.split(".ko", 1)[0] + ".ko"


def _listing(paths: list[Path], prefix: str) -> bytes:
    return "".join(f"{prefix}{_plain_name(path)}\n" for path in paths).encode()


def decompress(path: Path) -> bytes:
    """A module's ELF bytes, whatever the distribution compressed it with (.xz, .zst, .gz)."""
    if path.suffix == ".ko":
        return path.read_bytes()
    try:
        if path.suffix == ".xz":
            return lzma.decompress(path.read_bytes())
        return _through(path, {".zst": "zstd", ".gz": "gzip"}[path.suffix])
    except (lzma.LZMAError, KeyError) as error:
        raise WorldError(
            f"cannot unpack the kernel module {path}: {error}",
            fix="fetch the kernel again: bpfthrow kernels rm NAME; bpfthrow kernels fetch NAME",
        ) from error


def _through(path: Path, program: str) -> bytes:
    argv = [tools.need(program), "-dc", str(path)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()
        raise WorldError(f"cannot unpack the kernel module {path}: {words}")
    return done.stdout
