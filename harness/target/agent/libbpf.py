# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""libbpf by ctypes: objects program by program, companions, and libbpf's own words.

The second loader, beside bpftool: for programs that are not loaded automatically, for one
program of an object whose others are refused, and for freplace, fentry and fexit against a
program that is already loaded. Needs libbpf.so.1 >= 1.3 on the machine.
"""

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ctypes import c_char
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.errors import WorldError
from harness.target.agent import memory, verifierlog

_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_DEBUG = 2
# a verifier log of 16 MiB, the kernel's limit, comes in one piece
_LINE_BYTES = 17 << 20
# BPF_LOG_STATS of the kernel's include/linux/bpf_verifier.h, and room for its lines
LOG_STATISTICS, _STATISTICS_BYTES = 4, 1 << 16
# as the loader of the kernel's selftests has it: the kernel keeps the end of what does not fit
_LOG_BYTES = 2 << 20
_POINTERS = (
    "bpf_object__open_file",
    "bpf_object__next_program",
    "bpf_object__next_map",
    "bpf_program__attach_trace",
    "bpf_program__attach_freplace",
)
_TEXTS = (
    "bpf_program__name",
    "bpf_map__name",
    "libbpf_version_string",
)


# an opened object, opaque to everybody else
Handle = ctypes.c_void_p


@dataclass(slots=True)
class Library:
    """The loaded shared library; `lines` collects what it prints."""

    so: ctypes.CDLL
    lines: list[str] = field(default_factory=list)
    printer: object = None

    @property
    def version(self) -> str:
        """As the library says it: "v1.5"."""
        return str(self.so.libbpf_version_string().decode())

    @property
    def loader(self) -> str:
        """Name of this loader for a provenance."""
        return f"libbpf {self.version} (ctypes)"

    def log(self) -> str:
        """What was printed since the last call."""
        text = "".join(self.lines)
        self.lines.clear()
        return text


_library: Library | None = None


def library() -> Library:
    """The machine's libbpf, loaded once. Raises WorldError where there is none."""
    global _library  # noqa: PLW0603  # one shared library per process
    if _library is None:
        _library = _open_library()
    return _library


def _open_library() -> Library:
    try:
        so = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise WorldError(
            "the machine has no libbpf.so.1",
            fix="install libbpf >= 1.3 there (Debian: libbpf1)",
            evidence=str(error),
        ) from None
    memory.keep()
    for name in _POINTERS:
        getattr(so, name).restype = ctypes.c_void_p
    for name in _TEXTS:
        getattr(so, name).restype = ctypes.c_char_p
    so.bpf_program__autoload.restype = ctypes.c_bool
    found = Library(so)
    libc = ctypes.CDLL(None)
    # takes memory only where it is written to
    room = (c_char * _LINE_BYTES).from_buffer(mmap.mmap(-1, _LINE_BYTES))

    def collect(level: int, pattern: int, arguments: int) -> int:
        if level < _DEBUG:
            libc.vsnprintf(room, _LINE_BYTES, ctypes.c_void_p(pattern), ctypes.c_void_p(arguments))
            found.lines.append(room.value.decode(errors="replace"))
        return 0

    found.printer = _PRINT(collect)  # kept: libbpf holds only the address
    so.libbpf_set_print(found.printer)
    return found


class Member(NamedTuple):
    """A program of an opened object."""

    name: str
    # False in a section that starts with "?" (libbpf forgets that character)
    automatic: bool
    pointer: ctypes.c_void_p


@contextmanager
def opened(path: str) -> Iterator[Handle]:
    """An object, parsed but not loaded; closed at the end with everything loaded from it."""
    lib = library()
    lib.lines.clear()
    pointer = lib.so.bpf_object__open_file(path.encode(), None)
    if not pointer:
        raise OSError(ctypes.get_errno(), lib.log() or "cannot open", path)
    handle = ctypes.c_void_p(pointer)
    try:
        yield handle
    finally:
        lib.so.bpf_object__close(handle)


def members(handle: Handle) -> list[Member]:
    """Programs of an opened object, in order."""
    so = library().so
    found: list[Member] = []
    pointer = so.bpf_object__next_program(handle, None)
    while pointer:
        at = ctypes.c_void_p(pointer)
        name = so.bpf_program__name(at).decode()
        found.append(Member(name, so.bpf_program__autoload(at), at))
        pointer = so.bpf_object__next_program(handle, at)
    return found


def map_pointers(handle: Handle) -> dict[str, ctypes.c_void_p]:
    """Maps of an opened object by libbpf's name ("stem.bss" for a section)."""
    so = library().so
    found: dict[str, ctypes.c_void_p] = {}
    pointer = so.bpf_object__next_map(handle, None)
    while pointer:
        at = ctypes.c_void_p(pointer)
        found[so.bpf_map__name(at).decode()] = at
        pointer = so.bpf_object__next_map(handle, at)
    return found


def pin_name(name: str) -> str:
    """What libbpf calls the pin of a map or program: bpffs allows no dots."""
    return name.replace(".", "_")


def select(handle: Handle, wanted: set[str]) -> None:
    """Load only the programs named in `wanted`."""
    so = library().so
    for member in members(handle):
        so.bpf_program__set_autoload(member.pointer, ctypes.c_bool(member.name in wanted))


def ask_log(handle: Handle, wanted: Iterable[str], level: int) -> dict[str, "ctypes.Array[c_char]"]:
    """Have the load of each program in `wanted` write the verifier's log of `level`, by name.

    The buffers hold text after load() and must live until then. A refused load says less then:
    its message, but not the way there. That is in the buffer, if `level` asks for more than
    LOG_STATISTICS.
    """
    so = library().so
    size = _STATISTICS_BYTES if level == LOG_STATISTICS else _LOG_BYTES
    # takes memory only where it is written to
    buffers = {name: (c_char * size).from_buffer(mmap.mmap(-1, size)) for name in wanted}
    for member in members(handle):
        if (room := buffers.get(member.name)) is not None:
            codes = (
                so.bpf_program__set_log_level(member.pointer, level),
                so.bpf_program__set_log_buf(member.pointer, room, ctypes.c_size_t(size)),
            )
            if any(codes):
                raise WorldError(f"libbpf takes no log buffer: {os.strerror(-min(codes))}")
    return buffers


def add_flags(handle: Handle, program: str, flags: int) -> None:
    """Add BPF_F_* to what `program` is loaded with."""
    so = library().so
    for member in members(handle):
        if member.name == program:
            so.bpf_program__set_flags(member.pointer, so.bpf_program__flags(member.pointer) | flags)


def load(handle: Handle, program: str) -> verifierlog.Refusal | None:
    """Load what is selected; None on success, else why not, in `program`'s words."""
    lib = library()
    lib.lines.clear()
    code = lib.so.bpf_object__load(handle)
    log = lib.log()
    if code == 0:
        return None
    message = verifierlog.useful_line(log, program) or os.strerror(-code)
    return verifierlog.Refusal(message, -code, log, lib.loader)


def program_fd(member: Member) -> int:
    """A descriptor of our own for a loaded program."""
    return os.dup(library().so.bpf_program__fd(member.pointer))


def raw_fd(member: Member) -> int:
    """The descriptor that libbpf holds of a loaded program: valid while its object is open."""
    return int(library().so.bpf_program__fd(member.pointer))


def map_fds(handle: Handle) -> dict[str, int]:
    """Descriptors of our own for the maps that were created, by libbpf's name."""
    so = library().so
    fds = {name: so.bpf_map__fd(at) for name, at in map_pointers(handle).items()}
    return {name: os.dup(fd) for name, fd in fds.items() if fd >= 0}


def reuse_maps(handle: Handle, fds: dict[str, int]) -> None:
    """Make an opened object use the maps of another load of the same object, by pin name."""
    so = library().so
    for name, at in map_pointers(handle).items():
        if so.bpf_map__reuse_fd(at, fds.get(pin_name(name), -1)):
            raise WorldError(f"libbpf cannot reuse map {name!r}", evidence=library().log())


def set_target(member: Member, fd: int, function: str) -> int:
    """Choose what a freplace, fentry or fexit program attaches to; 0 or a negative errno."""
    so = library().so
    return int(so.bpf_program__set_attach_target(member.pointer, fd, function.encode()))


def attach(member: Member, kind: str) -> ctypes.c_void_p:
    """Attach a loaded freplace, fentry or fexit program to its load-time target."""
    lib = library()
    if kind == "freplace":
        link = lib.so.bpf_program__attach_freplace(member.pointer, 0, None)
    else:
        link = lib.so.bpf_program__attach_trace(member.pointer)
    if not link:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot attach {kind} program {member.name!r}: {os.strerror(code)}")
    return ctypes.c_void_p(link)


def detach(link: ctypes.c_void_p) -> None:
    """Destroy an attachment."""
    code = library().so.bpf_link__destroy(link)
    if code:
        raise OSError(-code, f"cannot detach: {os.strerror(-code)}")
