# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""*.bpf.c -> *.bpf.o: the only caller of clang.

Owns where an object lies, which clang compiles it, and when it need not be compiled again (a
`.json` file beside the object holds the hash of every file that went in). Knows nothing of what
is in an object.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError, WorldError
from harness.paths import NO_SPACE, cache_dir

CHECKOUT = Path(__file__).resolve().parent.parent
PROGS = CHECKOUT / "progs"
SOURCE_SUFFIX = ".bpf.c"
OBJECT_SUFFIX = ".bpf.o"
CLANGS = ("clang-19", "clang-18", "clang-17", "clang-16", "clang")
FLAGS = ("-target", "bpf", "-O2", "-g", "-mcpu=v3", "-D__TARGET_ARCH_x86")
# Programs of others have a build of their own that judges their style; vmlinux.h warns by itself.
OUR_WARNINGS = ("-Wall", "-Werror")
THEIR_WARNINGS = ("-w",)
COMPILE_TIMEOUT_S = 120
# the types of a kernel as C, the largest header there is, have 4
MAX_SOURCE_BYTES = 64 << 20
NO_PROGRAM = 'write a function with a section: SEC("tc") int prog(struct __sk_buff *skb) {...}'
_CLANG = "apt install clang-19 (or set CLANG to a clang of version 16 or newer)"
_FULL = "No space left on device"


@dataclass(frozen=True, slots=True)
class _Job:
    source: Path
    object: Path

    @property
    def stamp(self) -> Path:
        return self.object.with_name(self.object.name + ".json")


def build(
    paths: Sequence[str | Path], out_dir: Path | None = None, clang: str | None = None
) -> list[Path]:
    """Compile the `.bpf.c` files and return their objects, in the order of `paths`.

    A directory stands for all sources below it. Without `out_dir`, sources of this checkout
    go to build/progs/<topic>/ and others to the cache directory. `clang`: a command, or None
    for $CLANG or the newest one found.

    Raises UsageError: nothing to compile, clang missing, clang's own complaint, no permission;
    WorldError: a full disk.
    """
    sources = [source for path in paths for source in sources_of(Path(path))]
    jobs = [_Job(source, object_of(source, out_dir)) for source in sources]
    stale = list(dict.fromkeys(job for job in jobs if not _is_fresh(job, clang)))
    if stale:
        command = find_clang(clang)
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            list(pool.map(lambda job: _compile(job, command), stale))
    return [job.object for job in jobs]


def sources_of(path: Path) -> list[Path]:
    """Return the sources that `path` (a `.bpf.c` file or a directory) stands for, sorted."""
    if path.is_dir():
        return [_readable(file) for file in sorted(path.resolve().rglob("*" + SOURCE_SUFFIX))]
    if not path.exists():
        raise UsageError(f"{path}: no such file", fix="give a .bpf.c file or a directory")
    if not path.name.endswith(SOURCE_SUFFIX):
        raise UsageError(f"{path}: not a BPF source", fix="its name must end in .bpf.c")
    return [_readable(path.resolve())]


def _readable(source: Path) -> Path:
    """The same, if a compiler can read it to its end. Raises UsageError."""
    if not source.is_file():
        raise UsageError(f"{source}: not a file", fix="a program's source is one")
    if source.stat().st_size > MAX_SOURCE_BYTES:
        raise UsageError(f"{source}: larger than {MAX_SOURCE_BYTES >> 20} MiB: not a BPF source")
    return source


def object_of(source: Path, out_dir: Path | None = None) -> Path:
    """Return where the object of `source` lies: <out>/<topic>/<stem>.bpf.o."""
    source = source.resolve()
    name = source.name.removesuffix(SOURCE_SUFFIX) + OBJECT_SUFFIX
    inside = source.is_relative_to(PROGS)
    topic = source.relative_to(PROGS).parent if inside else Path(source.parent.name)
    if out_dir is not None:
        return out_dir / topic / name
    if inside:
        return CHECKOUT / "build" / "progs" / topic / name
    place = hashlib.sha256(str(source.parent).encode()).hexdigest()[:12]
    return cache_dir() / "progs" / place / topic / name


def find_clang(clang: str | None = None) -> str:
    """Return the path of the clang to use: `clang`, $CLANG, or the newest one installed."""
    wanted = clang or os.environ.get("CLANG")
    names = (wanted,) if wanted else CLANGS
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        tried = ", ".join(names)
        raise UsageError(f"no clang to compile BPF programs with; looked for {tried}", fix=_CLANG)
    return found


def include_dirs() -> list[Path]:
    """Return what programs may include from: progs/ and the machine's asm/ headers."""
    triplet = sysconfig.get_config_var("MULTIARCH") or f"{os.uname().machine}-linux-gnu"
    asm = Path("/usr/include") / str(triplet)
    candidates = [asm, *sorted(Path("/usr/include").glob("*-linux-gnu"))]
    found = next((path for path in candidates if (path / "asm/types.h").exists()), None)
    return [PROGS] if found is None else [PROGS, found]


def _command(source: Path, clang: str) -> list[str]:
    warnings = OUR_WARNINGS if source.is_relative_to(PROGS) else THEIR_WARNINGS
    return [clang, *FLAGS, *warnings, *(f"-I{path}" for path in include_dirs())]


def _identity(clang: str) -> str:
    # Another compiler, or a newer one of the same name, compiles everything again.
    path = Path(clang).resolve()
    return f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}"


def _is_fresh(job: _Job, clang: str | None) -> bool:
    if not job.object.exists():
        return False
    try:
        stamp = json.loads(job.stamp.read_text())
        command = find_clang(clang)
        if stamp["clang"] != _identity(command) or stamp["command"] != _command(
            job.source, command
        ):
            return False
        return all(_digest(Path(path)) == digest for path, digest in stamp["inputs"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # no stamp, a broken one, or a file that is gone: compile


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _compile(job: _Job, clang: str) -> None:
    _make_dir(job.object.parent)
    scratch = job.object.with_name(f".{job.object.name}.{os.getpid()}")
    depends = scratch.with_name(scratch.name + ".d")
    command = _command(job.source, clang)
    argv = [*command, "-MD", "-MF", str(depends), "-c", str(job.source), "-o", str(scratch)]
    try:
        _run(argv, job)
        _require_program(job.source, scratch, clang)
        inputs = {str(path): _digest(path) for path in _depends_of(depends.read_text())}
        stamp = {"command": command, "clang": _identity(clang), "inputs": inputs}
        job.stamp.write_text(json.dumps(stamp, indent=1))
        scratch.replace(job.object)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise _no_room(job) from error
        raise UsageError(f"{job.object}: cannot write it: {error.strerror}") from error
    finally:
        scratch.unlink(missing_ok=True)
        depends.unlink(missing_ok=True)


def _run(argv: Sequence[str], job: _Job) -> None:
    """Let the compiler run. UsageError: its own complaint, too slow; WorldError: a full disk."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"{job.source}: clang ran for {COMPILE_TIMEOUT_S} s") from error
    except OSError as error:
        raise UsageError(f"{argv[0]}: cannot be run: {error.strerror}", fix=_CLANG) from error
    if done.returncode and _FULL in done.stderr:
        raise _no_room(job)
    if done.returncode:
        said = done.stderr.rstrip() or f"{argv[0]} ended with {done.returncode} and said nothing"
        raise UsageError(f"{job.source}: clang refuses it\n{said}", fix=_fix_of(done.stderr))


def _no_room(job: _Job) -> WorldError:
    fix = "make room there"
    if job.object.is_relative_to(cache_dir()):
        fix += ", or set XDG_CACHE_HOME to a larger file system"
    place = job.object.parent
    return WorldError(f"{job.source}: not compiled: no space left in {place}", fix=fix)


def _require_program(source: Path, made: Path, clang: str) -> None:
    """UsageError where a compiler that has not complained left nothing that can be used."""
    if not made.is_file():
        raise UsageError(f"{source}: {clang} ran without an error and wrote no object", fix=_CLANG)
    # -g makes types of whatever is compiled: without them there was nothing
    if b".BTF\0" not in made.read_bytes():
        raise UsageError(f"{source}: no program in it", fix=NO_PROGRAM)


def _fix_of(stderr: str) -> str:
    missing = {"bpf/": "apt install libbpf-dev", "linux/": "apt install linux-libc-dev"}
    missing["asm/"] = missing["linux/"]
    missing["vmlinux.h"] = "bpftool btf dump file /sys/kernel/btf/vmlinux format c > vmlinux.h"
    words = [fix for prefix, fix in missing.items() if f"'{prefix}" in stderr]
    if "file not found" not in stderr:
        return ""
    return words[0] if words else "compile it yourself (clang -target bpf -g) and give the object"


def _make_dir(path: Path) -> None:
    fix = "choose another output directory"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: cannot create it: {error.strerror}", fix=fix) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: not writable", fix=fix)


def _depends_of(text: str) -> Iterable[Path]:
    # a make rule: the target, then its files over continued lines
    words = text.replace("\\\n", " ").replace("\\ ", "\0").split()
    return [Path(word.replace("\0", " ")) for word in words[1:]]
