# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What libbpf asks the machine on which it loads: the kernel's types, release and configuration.

Owns the values of Kconfig externs (bpf_object__resolve_externs, set_kcfg_value_* in
tools/lib/bpf/libbpf.c) and the reading of a kernel configuration. Everything here is input from
the user; nothing is asked of a kernel.
"""

import gzip
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.bpf.btf import Btf
from harness.bpf.externs import KCONFIG, Extern, Shape
from harness.errors import ObjectError, UsageError
from harness.reading import require_size

MAX_CONFIG_BYTES = 8 << 20
_OPTION = re.compile(rb"^(# )?CONFIG_\w", re.MULTILINE)
_FIX = "give a file like /boot/config-6.12.107 or /proc/config.gz, or CONFIG_NAME=value"
_TRISTATE = {"n": 0, "y": 1, "m": 2}
# virtual values that libbpf computes itself, besides LINUX_KERNEL_VERSION
_FEATURES = {"LINUX_HAS_BPF_COOKIE": (5, 15), "LINUX_HAS_SYSCALL_WRAPPER": (4, 17)}
_NUMBERS = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")
# what every x86-64 kernel that this project knows has in common; for a run without --kconfig
SEEDED: dict[str, str] = {
    "CONFIG_64BIT": "y",
    "CONFIG_X86_64": "y",
    "CONFIG_BPF": "y",
    "CONFIG_BPF_SYSCALL": "y",
    "CONFIG_BPF_JIT": "y",
    "CONFIG_DEBUG_INFO_BTF": "y",
    "CONFIG_NET": "y",
    "CONFIG_INET": "y",
    "CONFIG_SMP": "y",
    "CONFIG_HZ": "250",
}


@dataclass(frozen=True, slots=True, eq=False)
class Environment:
    """The machine. What is None or empty is not known, and nothing is made up in its place."""

    btf: Btf | None = field(default=None, repr=False)
    # "6.12.107"; what follows the numbers does not matter
    release: str = ""
    # CONFIG_NAME -> value as it stands behind the "="
    kconfig: Mapping[str, str] | None = field(default=None, repr=False)
    # whether `kconfig` is all of it: then a name that is not there is off
    complete: bool = True


NOWHERE = Environment()


def version_code(release: str) -> int:
    """LINUX_KERNEL_VERSION of "6.12.107": 0x060c6b. The last number ends at 255."""
    found = _NUMBERS.match(release)
    if found is None:
        return 0
    major, minor, patch = (int(word or 0) for word in found.groups())
    return (major << 16 | minor << 8 | min(patch, 255)) & 0xFFFF_FFFF


def read_kconfig(path: str | os.PathLike[str]) -> dict[str, str]:
    """A kernel configuration: /boot/config-*, /proc/config.gz.

    Raises UsageError, also for a file that names no option: with it, all of them would be off.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if packed else file as content:
                data = content.read(MAX_CONFIG_BYTES + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{name}: cannot be read: {reason}", fix=_FIX) from error
    require_size(data, MAX_CONFIG_BYTES, name, _FIX)
    if b"\0" in data or not _OPTION.search(data):
        raise UsageError(f"{name}: no kernel configuration: no line CONFIG_NAME=value", fix=_FIX)
    return parse_kconfig(data.decode(errors="replace").splitlines(), name)


def parse_kconfig(lines: Sequence[str], where: str) -> dict[str, str]:
    """Lines "CONFIG_NAME=value"; all others are skipped, the first of a name counts."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.startswith("CONFIG_"):
            continue
        name, sign, text = line.rstrip("\n").partition("=")
        if not sign or not text:
            raise UsageError(
                f"{where}: line {number}: {line[:60]!r} has no value", fix="write CONFIG_NAME=value"
            )
        found.setdefault(name, text)
    return found


def unknown(extern: Extern, environment: Environment) -> str:
    """Why the value of a Kconfig extern is not known, or "" where it is."""
    if extern.name.startswith("CONFIG_"):
        if environment.kconfig is None:
            return "no kernel configuration is given"
        known = environment.complete or extern.name in environment.kconfig
        return "" if known else "no value of it is given"
    return "" if environment.release else "no kernel release is given"


def kconfig_map(externs: Sequence[Extern], environment: Environment) -> bytes:
    """Content of map .kconfig; what is not known is zero there.

    Raises ObjectError where libbpf refuses: a value that does not fit its type, a strong name that
    the configuration lacks.
    """
    mine = [e for e in externs if e.section == KCONFIG]
    data = bytearray(max((e.offset + e.size_bytes for e in mine), default=0))
    for extern in mine:
        if not unknown(extern, environment):
            data[extern.offset : extern.offset + extern.size_bytes] = _value(extern, environment)
    return bytes(data)


def _value(extern: Extern, environment: Environment) -> bytes:
    where = f"extern (kcfg) {extern.name!r}"
    if not extern.name.startswith("CONFIG_"):
        return _number(extern, _virtual(extern, environment, where), where)
    text = (environment.kconfig or {}).get(extern.name)
    if text is None:
        if not extern.weak:
            raise ObjectError(f"extern {extern.name!r} (strong): not resolved")
        return bytes(extern.size_bytes)
    if text[0] in _TRISTATE:
        return _letter(extern, text[0], where)
    if text[0] == '"':
        return _text(extern, text, where)
    try:
        number = int(text, 16 if text[:2].lower() == "0x" else 8 if text[0] == "0" else 10)
    except ValueError:
        raise ObjectError(f"{where}: value {text[:60]!r} isn't a valid integer") from None
    if extern.shape not in (Shape.INT, Shape.CHAR):
        raise ObjectError(f"{where}: value {text[:60]!r} implies integer type")
    return _number(extern, number, where)


def _virtual(extern: Extern, environment: Environment, where: str) -> int:
    if extern.name == "LINUX_KERNEL_VERSION":
        return version_code(environment.release)
    if extern.name in _FEATURES:
        major, minor = _FEATURES[extern.name]
        return int(version_code(environment.release) >= major << 16 | minor << 8)
    if not extern.name.startswith("LINUX_") or not extern.weak:
        raise ObjectError(f"{where}: unrecognized virtual extern")
    return 0


def _letter(extern: Extern, letter: str, where: str) -> bytes:
    if extern.shape is Shape.BOOL and letter != "m":
        return bytes([letter == "y"])
    if extern.shape is Shape.TRISTATE:
        return _TRISTATE[letter].to_bytes(extern.size_bytes, "little")
    if extern.shape is Shape.CHAR:
        return letter.encode()
    kinds = (
        "tristate or char"
        if letter == "m" and extern.shape is Shape.BOOL
        else ("bool, tristate, or char")
    )
    raise ObjectError(f"{where}: value {letter!r} implies {kinds} type")


def _text(extern: Extern, text: str, where: str) -> bytes:
    if extern.shape is not Shape.TEXT:
        raise ObjectError(f"{where}: value {text[:60]!r} implies char array type")
    if len(text) < 2 or not text.endswith('"'):
        raise ObjectError(f"{where}: invalid string config {text[:60]!r}")
    # libbpf cuts a long one and leaves room for the zero byte
    return text[1:-1].encode()[: extern.size_bytes - 1].ljust(extern.size_bytes, b"\0")


def _number(extern: Extern, number: int, where: str) -> bytes:
    if extern.shape not in (Shape.INT, Shape.CHAR, Shape.BOOL):
        raise ObjectError(f"{where}: value {number} implies integer, char, or boolean type")
    if extern.shape is Shape.BOOL and number > 1:
        raise ObjectError(f"{where}: value {number} isn't boolean compatible")
    bits = extern.size_bytes * 8
    number &= (1 << 64) - 1
    # a negative number is its two's complement in 64 bits, as strtoull makes it
    low = number + (1 << (bits - 1)) & (1 << 64) - 1 if extern.signed else number
    if bits < 64 and low >> bits:
        raise ObjectError(f"{where}: value {number} doesn't fit in {extern.size_bytes} bytes")
    return (number & (1 << bits) - 1).to_bytes(extern.size_bytes, "little")
