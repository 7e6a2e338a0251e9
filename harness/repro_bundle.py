# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A refused program in one file: object, source, how it was loaded, what was said.

Owns the format, and opening a file that a stranger sent: it is read as plain tar into memory,
nothing is unpacked, names are those of a short list, sizes are limited.
"""

import io
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import __version__, wire
from harness.errors import UsageError
from harness.model import Observation
from harness.reading import read_asked
from harness.repro_load import Loaded, without_paths

SCHEMA = 1
SUFFIX = ".tar"
_MANIFEST, _OBJECT, _SOURCE = "manifest.json", "object.bpf.o", "source.bpf.c"
_LOG = re.compile(r"logs/[A-Za-z0-9][\w.+~:-]{0,79}/[A-Za-z_]\w{0,127}\.txt")
# a load log has at most 16 MiB (harness/target/agent/verifierlog.py); the rest is far smaller
_LIMITS = {_MANIFEST: 4 << 20, _OBJECT: 64 << 20, _SOURCE: 4 << 20}
_LOG_BYTES = 17 << 20
_TOTAL_BYTES = 256 << 20
_MEMBERS = 2000
_FIX = "ask for it again: bpfthrow repro FILE --bundle OUT.tar"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds."""

    # of the file that was loaded
    name: str
    programs: tuple[str, ...]
    object: bytes
    # None where only an object was there
    source: bytes | None
    # what the program's own tags claim, by program
    expected: Mapping[str, Any]
    loads: tuple[Loaded, ...]


def dumps(bundle: Bundle) -> bytes:
    """The file's content: the same for the same bundle, whoever writes it, whenever."""
    logs: dict[str, bytes] = {}
    loads = []
    for load in bundle.loads:
        rows = {}
        for program, seen in load.seen.items():
            member = f"logs/{_plain(load.kernel)}/{program}.txt"
            logs[member] = seen.log.encode()
            bare = {**wire.to_json(without_paths(seen)), "log": "", "duration_s": 0.0}
            rows[program] = {"log": member, "seen": bare}
        loads.append({"kernel": load.kernel, "programs": rows})
    manifest = {
        "schema": SCHEMA,
        "bpfthrow": __version__,
        "file": bundle.name,
        "programs": list(bundle.programs),
        "load": [f"bpftool --debug prog loadall {_OBJECT} /sys/fs/bpf/repro"],
        "expected": dict(bundle.expected),
        "loads": loads,
    }
    members = {
        _MANIFEST: (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode(),
        _OBJECT: bundle.object,
        **({} if bundle.source is None else {_SOURCE: bundle.source}),
        **dict(sorted(logs.items())),
    }
    return _tar(members)


def _plain(kernel: str) -> str:
    return re.sub(r"[^\w.+~:-]", "_", kernel)[-80:].lstrip("._+~:-") or "kernel"


def _tar(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            # owner, time and mode are the defaults of TarInfo: nobody, 1970, 0644
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def read(path: Path) -> Bundle:
    """Open a bundle. UsageError for what is none, or is not to be trusted."""
    return loads(read_asked(path, _TOTAL_BYTES, _FIX), str(path))


def loads(data: bytes, where: str) -> Bundle:
    """Read a bundle's content. UsageError for what is none, or is not to be trusted."""
    members = _members(data, where)
    for needed in (_MANIFEST, _OBJECT):
        if needed not in members:
            raise UsageError(f"{where}: no {needed} in it", fix=_FIX)
    manifest = _manifest(members[_MANIFEST], where)
    return Bundle(
        name=_text(manifest, "file", where).rpartition("/")[2],
        programs=tuple(_names(manifest, where)),
        object=members[_OBJECT],
        source=members.get(_SOURCE),
        expected=_dict(manifest, "expected", where),
        loads=tuple(_load(each, members, where) for each in _list(manifest, "loads", where)),
    )


def _members(data: bytes, where: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        # "r:" takes no compression: what is small stays small
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                _require_harmless(member, found, where)
                content = archive.extractfile(member)
                found[member.name] = content.read() if content else b""
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError) as error:
        raise UsageError(f"{where}: not a bundle: {error}", fix=_FIX) from error
    return found


def _require_harmless(member: tarfile.TarInfo, found: Mapping[str, bytes], where: str) -> None:
    log = _LOG.fullmatch(member.name) and ".." not in member.name
    if not log and member.name not in _LIMITS:
        raise UsageError(f"{where}: {member.name[:80]!r} does not belong in a bundle", fix=_FIX)
    if not member.isreg() or member.issparse():
        raise UsageError(f"{where}: {member.name} is not a plain file", fix=_FIX)
    limit = _LIMITS.get(member.name, _LOG_BYTES)
    if member.size > limit:
        raise UsageError(f"{where}: {member.name} is larger than {limit >> 20} MiB", fix=_FIX)
    if member.name in found or len(found) >= _MEMBERS:
        raise UsageError(f"{where}: {member.name} is in it twice, or it holds too much", fix=_FIX)


def _manifest(data: bytes, where: str) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: {_MANIFEST} is not JSON: {error}", fix=_FIX) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise UsageError(f"{where}: {_MANIFEST} is not of schema {SCHEMA}", fix=_FIX)
    return manifest


def _load(data: Any, members: Mapping[str, bytes], where: str) -> Loaded:
    if not isinstance(data, dict):
        raise UsageError(f"{where}: loads: not objects", fix=_FIX)
    seen = {}
    for program, row in _dict(data, "programs", where).items():
        log = members.get(_text(row, "log", where), b"").decode(errors="replace")
        place = f"{where}: loads: {program}"
        said = wire.from_json(Observation, {**_dict(row, "seen", where), "log": log}, place)
        seen[str(program)] = said
    return Loaded(_text(data, "kernel", where), seen)


def _names(manifest: dict[str, Any], where: str) -> Sequence[str]:
    names = _list(manifest, "programs", where)
    if not all(isinstance(name, str) for name in names):
        raise UsageError(f"{where}: programs: not names", fix=_FIX)
    return names


def _of(data: Any, key: str, kind: type, where: str) -> Any:
    value = data.get(key) if isinstance(data, dict) else None
    if not isinstance(value, kind):
        raise UsageError(f"{where}: {key}: not a {kind.__name__}", fix=_FIX)
    return value


def _text(data: Any, key: str, where: str) -> str:
    return str(_of(data, key, str, where))


def _list(data: Any, key: str, where: str) -> list[Any]:
    found: list[Any] = _of(data, key, list, where)
    return found


def _dict(data: Any, key: str, where: str) -> dict[str, Any]:
    found: dict[str, Any] = _of(data, key, dict, where)
    return found
