# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel's own BPF selftests as objects: fetch a source package, dump types, compile.

Owns the way from a kernel release to compiled objects in a scratch directory. Nothing of a
kernel's source is kept in this repository.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import build
from harness.bpf import vmlinux
from harness.errors import UsageError
from harness.kernels import apt
from harness.paths import make_dir

# programs of the exceptions selftests
EXCEPTIONS = ("exceptions", "exceptions_ext", "exceptions_fail", "exceptions_assert")
SUITES = ("trixie", "trixie-backports")
SELFTESTS = "tools/testing/selftests/bpf"
_WANTED = (f"*/{SELFTESTS}/*", "*/tools/lib/bpf/*", "*/tools/include/*",
           "*/scripts/bpf_doc.py")  # fmt: skip
# as CLANG_CFLAGS and BPF_CFLAGS in the selftests' own Makefile
_FLAGS = ("-g", "-O2", "-target", "bpf", "-mcpu=v3", "-mlittle-endian", "-D__TARGET_ARCH_x86",
          "-std=gnu11", "-fno-strict-aliasing", "-fms-extensions", "-Wno-microsoft-anon-tag",
          "-Wno-compare-distinct-pointer-types", "-Wno-missing-declarations",
          "-idirafter", "/usr/include/x86_64-linux-gnu")  # fmt: skip


def add_arguments(
    parser: argparse.ArgumentParser, *, types_required: bool = True
) -> "argparse._MutuallyExclusiveGroup":
    """Where the selftests come from and how they are compiled; the group of the former."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--tree", help="a kernel source tree")
    source.add_argument("--fetch", metavar="SERIES", help="Debian's linux-source-SERIES (6.12)")
    parser.add_argument(
        "--types",
        required=types_required,
        type=Path,
        metavar="FILE",
        help="vmlinuz, vmlinux or BTF to dump types from",
    )
    parser.add_argument("--bpftool", default="bpftool", help="command that prints vmlinux.h")
    parser.add_argument("--root", type=Path, help="run bpftool in this tree, by chroot")
    parser.add_argument("--scratch", help="keep what is fetched and built there")
    return source


def tree_of(args: argparse.Namespace, scratch: Path) -> Path:
    """The source tree that the arguments name, fetched first where they say so."""
    return Path(args.tree) if args.tree else fetch(args.fetch, scratch)


def exceptions(args: argparse.Namespace, scratch: Path) -> list[Path]:
    """The objects of the exceptions selftests, compiled as the arguments say."""
    if args.types is None:
        raise UsageError("--types is needed to compile", fix="name a vmlinuz, vmlinux or BTF file")
    into = make_dir(scratch.resolve())
    tree = tree_of(args, into)
    dump_header(raw_types(args.types), into, args.bpftool, args.root)
    helper_definitions(tree, into)
    return [compile_program(tree, name, into) for name in EXCEPTIONS]


def fetch(series: str, scratch: Path) -> Path:
    """Source tree of Debian's linux-source-SERIES, unpacked as far as the selftests need it."""
    into = make_dir(scratch / f"source-{series}")
    found = sorted(into.glob("linux-source-*/Makefile.done"))
    if found:
        return found[0].parent
    (package,) = apt.download([apt.newest(f"linux-source-{series}", SUITES)], into)
    _run(["dpkg-deb", "-x", package, into])
    (archive,) = into.glob("usr/src/linux-source-*.tar.xz")
    _run(["tar", "-xf", archive, "-C", into, "--wildcards", *_WANTED])
    tree = next(into.glob("linux-source-*/"))
    (tree / "Makefile.done").touch()
    return tree


def raw_types(image: Path) -> bytes:
    """BTF of a kernel image (bzImage), or of a file that holds nothing else. Raises ObjectError."""
    data = image.read_bytes()
    if data[:2] == b"\x9f\xeb":
        return data
    elf = data if data[:4] == b"\x7fELF" else vmlinux.unpack(str(image), data)
    return vmlinux.section_of(str(image), elf, ".BTF")


def dump_header(types: bytes, into: Path, bpftool: str, root: Path | None) -> None:
    """Write vmlinux.h as bpftool prints it; with `root`, bpftool runs there (chroot).

    Raises UsageError when bpftool cannot be had or does not like the types.
    """
    base = root or into
    raw = base / "tmp" / "bpfthrow-types" if root else into / "types"
    raw.write_bytes(types)
    inside = f"/{raw.relative_to(base)}" if root else str(raw)
    command = [*shlex.split(bpftool), "btf", "dump", "file", inside, "format", "c"]
    try:
        text = _run(["chroot", root, *command] if root else command)
    finally:
        raw.unlink()
    (into / "vmlinux.h").write_text(text)


def helper_definitions(tree: Path, into: Path) -> None:
    """Make bpf/bpf_helper_defs.h, as tools/lib/bpf/Makefile does."""
    make_dir(into / "bpf")
    header = tree / "tools/include/uapi/linux/bpf.h"
    command: list[str | Path] = [
        sys.executable,
        tree / "scripts/bpf_doc.py",
        "--header",
        "--file",
        header,
    ]
    (into / "bpf/bpf_helper_defs.h").write_text(_run(command))


def compile_program(tree: Path, name: str, into: Path) -> Path:
    """Compile progs/NAME.c of the selftests, unmodified; the object's path."""
    here = tree / SELFTESTS
    includes = [into, into / "bpf", tree / "tools/lib", here, tree / "tools/include/uapi",
                here / "libarena/include"]  # fmt: skip
    made = into / f"{name}.bpf.o"
    # those that include the kernel's filter.h by its place want this one
    _run([build.find_clang(), *_FLAGS, *(f"-I{path}" for path in includes),
          "-idirafter", tree / "tools/include",
          "-c", here / "progs" / f"{name}.c", "-o", made])  # fmt: skip
    return made


def _run(argv: Sequence[str | Path]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"{argv[0]}: {error.strerror}", fix="see --help") from error
    if done.returncode:
        raise UsageError(f"{shlex.join(map(str, argv))}\n{done.stderr.strip()}", fix="see --help")
    return done.stdout
