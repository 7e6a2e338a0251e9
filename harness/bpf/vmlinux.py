# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The types of a kernel, out of whatever the user has: an image, an ELF file, a raw BTF file.

Owns the unpacking of a bzImage (Documentation/arch/x86/boot.rst, "payload_offset") and a cache of
what came out, because unpacking takes longer than everything that follows.
"""

import bz2
import functools
import hashlib
import lzma
import mmap
import os
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from harness import tools
from harness.bpf import rawelf
from harness.bpf.btf import MAX_SIZE_BYTES, Btf, parse
from harness.errors import BpfthrowError, ObjectError
from harness.paths import cache_dir, make_dir, replace_file

_FIX = "give a vmlinuz, a vmlinux, an object with .BTF, or a file like /sys/kernel/btf/vmlinux"
_BTF_MAGIC = b"\x9f\xeb"
# a kernel is some 70 MB; what is far above is no kernel
_MAX_UNPACKED_BYTES = 192 << 20
_MAX_IMAGE_BYTES = 128 << 20
_SETUP_SECTORS, _MAGIC_AT, _PAYLOAD_AT = 0x1F1, 0x202, 0x248


def kernel_types(path: str | os.PathLike[str]) -> Btf:
    """BTF of a kernel image (bzImage), of an ELF file with a section .BTF, or of a raw file.

    Opened once for each state of the file. Raises ObjectError.
    """
    name = os.fspath(path)
    try:
        status = Path(name).stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ObjectError(f"{name}: cannot be read: {reason}", fix=_FIX) from error
    return _types(name, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8)
def _types(name: str, mtime_ns: int, size_bytes: int) -> Btf:
    with _opened(name) as data:
        head = bytes(data[:4])
        if head[:2] == _BTF_MAGIC:
            found = bytes(data[: MAX_SIZE_BYTES + 1])
        elif head == b"\x7fELF":
            found = section_of(name, data, ".BTF")
        elif bytes(data[_MAGIC_AT : _MAGIC_AT + 4]) == b"HdrS":
            found = _cached(data, f"{Path(name).resolve()} {mtime_ns} {size_bytes}", name)
        else:
            raise ObjectError(f"{name}: neither a kernel image nor BTF", fix=_FIX)
    try:
        return parse(found, f"{name}: BTF")
    except ObjectError as error:
        raise ObjectError(f"{name}: {error.message}", fix=_FIX) from error


def _opened(name: str) -> mmap.mmap:
    try:
        with Path(name).open("rb") as file:
            # a file of sysfs cannot be mapped, and has no length: mmap refuses both
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        data = _read(name, error)
        anonymous = mmap.mmap(-1, len(data))
        anonymous.write(data)
        return anonymous


def _read(name: str, because: Exception) -> bytes:
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MAX_IMAGE_BYTES)
    except OSError as error:
        raise ObjectError(f"{name}: cannot be read: {error.strerror}", fix=_FIX) from error
    if not data:
        raise ObjectError(f"{name}: empty file", fix=_FIX) from because
    return data


def section_of(name: str, data: "bytes | mmap.mmap", section: str) -> bytes:
    """Content of a section of a 64-bit ELF file of any machine. Raises ObjectError."""
    if len(data) < 64 or data[4] != 2 or data[5] != 1:
        raise ObjectError(f"{name}: not a 64-bit little-endian ELF file", fix=_FIX)
    headers = rawelf.section_headers(name, data)
    found = next((h for h in headers if h.name == section), None)
    if found is None:
        raise ObjectError(
            f"{name}: no section {section}", fix="build it with CONFIG_DEBUG_INFO_BTF"
        )
    if found.offset + found.size > len(data):
        raise ObjectError(f"{name}: truncated: {section} ends at byte {found.offset + found.size}")
    _require_size(f"{name}: {section}", found.size)
    return bytes(data[found.offset : found.offset + found.size])


def _require_size(what: str, size_bytes: int) -> None:
    # a file may have holes, and promise more than there is memory
    if size_bytes > _MAX_UNPACKED_BYTES:
        raise ObjectError(f"{what}: larger than {_MAX_UNPACKED_BYTES >> 20} MiB", fix=_FIX)


def _cached(image: "bytes | mmap.mmap", key: str, name: str) -> bytes:
    """The image's .BTF, unpacked once for each state of the file; the cache is a help only."""
    place = cache_dir() / "btf" / hashlib.sha256(key.encode()).hexdigest()[:16]
    try:
        return place.read_bytes()
    except OSError:
        found = section_of(name, unpack(name, image), ".BTF")
    try:
        make_dir(place.parent)
        replace_file(place, found)
    except (OSError, BpfthrowError):
        pass  # a full disk costs the next run a second, not this one its result
    return found


def unpack(name: str, image: "bytes | mmap.mmap") -> bytes:
    """The vmlinux (ELF) that a bzImage holds. Raises ObjectError."""
    if len(image) < _PAYLOAD_AT + 8:
        raise ObjectError(f"{name}: truncated kernel image", fix=_FIX)
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_AT)
    start = ((image[_SETUP_SECTORS] or 4) + 1) * 512 + offset
    if length < 8 or start + length > len(image):
        raise ObjectError(f"{name}: truncated kernel image: it ends before byte {start + length}")
    _require_size(f"{name}: the packed kernel", length)
    payload = bytes(image[start : start + length])
    for magic, (what, method) in _METHODS.items():
        if payload.startswith(magic):
            try:
                unpacked = method(payload)
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
                raise ObjectError(f"{name}: broken {what} data: {error}") from error
            if len(unpacked) > _MAX_UNPACKED_BYTES:
                raise ObjectError(f"{name}: unpacks to more than {_MAX_UNPACKED_BYTES >> 20} MiB")
            return unpacked
    raise ObjectError(f"{name}: compressed in an unknown way (starts with {payload[:4].hex()})")


def _gzip(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(payload, _MAX_UNPACKED_BYTES + 1)


def _xz(payload: bytes) -> bytes:
    return lzma.LZMADecompressor().decompress(payload, _MAX_UNPACKED_BYTES + 1)


def _bzip2(payload: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(payload, _MAX_UNPACKED_BYTES + 1)


def _by_command(program: str) -> Callable[[bytes], bytes]:
    def run(payload: bytes) -> bytes:
        command = tools.need(program)
        with tempfile.TemporaryFile() as packed:
            packed.write(payload[:-4])  # the last word is the unpacked size, not the tool's data
            packed.seek(0)
            process = subprocess.Popen(
                [command, "-dc"],
                stdin=packed,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            with process:
                assert process.stdout is not None  # it was asked for
                unpacked = process.stdout.read(_MAX_UNPACKED_BYTES + 1)
                process.kill()
        if not unpacked:
            raise OSError(f"{program} refuses it")
        return unpacked

    return run


# first bytes -> (name, how)
_METHODS: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"\xfd7zXZ\0": ("xz", _xz),
    b"\x5d\0\0": ("lzma", _xz),
    b"BZh": ("bzip2", _bzip2),
    b"\x28\xb5\x2f\xfd": ("zstd", _by_command("zstd")),
    b"\x02\x21\x4c\x18": ("lz4", _by_command("lz4")),
}
