# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The journal of a run: what was chosen, attempted and found, on disk before each case begins.

A run that ends in an orderly way takes its journal away. One that was interrupted or killed leaves
it, and `bpfthrow run --resume` goes on from there. Owns the file and its locks; runs nothing.

One JSON object a line: {"schema", "selection", ...} first, then {"attempted"}, {"result"},
{"tested"} and {"released"} (attempted, without a result that counts, and not to blame). A line that
cannot be read was being written when the process was killed, and is passed over.
"""

import fcntl
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Self

from harness import tools, wire
from harness.errors import BpfthrowError, UsageError
from harness.model import Case, Result
from harness.paths import cache_dir, locked, make_dir
from harness.report.outcome import Tested

_SCHEMA = 1
# interrupted runs that nobody went on with
_KEPT = 10
_SUFFIX = ".jsonl"

# target's spec, case, hook, and what the case and its object were
Key = tuple[str, str, str, str]


@dataclass(slots=True)
class Record:
    """What a journal holds."""

    path: Path
    # what was chosen, as run_command.py wrote it
    selection: dict[str, Any] = field(default_factory=dict)
    # time.time() of the beginning
    began: float = 0.0
    results: dict[Key, Result] = field(default_factory=dict)
    # attempted, never finished: what ran when the run was killed
    culprits: set[Key] = field(default_factory=set)
    # spec of a target -> what it turned out to be, and its kernel's identity
    tested: dict[str, Tested] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)

    def keep(self, spec: str, identity: str) -> bool:
        """Whether results of a target count: its kernel is what it was. Forgets them if not."""
        if self.identities.get(spec, identity) == identity:
            return True
        self.results = {key: item for key, item in self.results.items() if key[0] != spec}
        self.culprits = {key for key in self.culprits if key[0] != spec}
        return False


class Journal:
    """An open journal, locked for this process. Safe to be used by several threads.

    A journal that cannot be written any more says so once; the run goes on without.
    """

    def __init__(self, path: Path, file: IO[str]) -> None:
        self.path = path
        self._file: IO[str] | None = file
        # attempted, not finished
        self._running: set[Key] = set()
        # whether there is anything to go on with
        self.used = False
        self._mutex = threading.Lock()

    def attempted(self, key: Key) -> None:
        """On disk when this returns: the case is about to run."""
        self._running.add(key)
        self.used = True
        self._write({"attempted": key}, sync=True)

    def result(self, key: Key, result: Result) -> None:
        """What came of it."""
        self._running.discard(key)
        self._write({"result": key, "value": wire.to_json(result)})

    def released(self, key: Key) -> None:
        """Nothing came of it, for a reason that is not the case's."""
        self._running.discard(key)
        self._write({"released": [key]})

    def tested(self, spec: str, identity: str, tested: Tested | None = None) -> None:
        """What a target is made of and, once it is known, what it turned out to be."""
        value = None if tested is None else wire.to_json(tested)
        self._write({"tested": spec, "identity": identity, "value": value})

    def left(self) -> None:
        """The run ends before its time, in an orderly way: no case is to blame."""
        self._write({"released": sorted(self._running)}, sync=True)
        self.close()

    def done(self) -> None:
        """The run is complete: there is nothing to go on with."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._mutex:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: Mapping[str, object], *, sync: bool = False) -> None:
        with self._mutex:
            if self._file is None:
                return
            try:
                self._file.write(json.dumps(line) + "\n")
                self._file.flush()
                if sync:
                    os.fdatasync(self._file.fileno())
            except OSError as error:
                tools.say(f"this run cannot be resumed: {self.path}: {error.strerror}")
                with suppress(OSError):
                    self._file.close()
                self._file = None


def directory() -> Path:
    """Where journals lie."""
    return cache_dir() / "runs"


def begin(selection: Mapping[str, Any]) -> Journal | None:
    """A new journal; None, and said so, where it cannot be written."""
    began = time.time()
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(began))}-{os.getpid()}{_SUFFIX}"
    try:
        with locked("runs"):
            path = make_dir(directory()) / name
            _drop_old()
            journal = _open(path)
    except (OSError, BpfthrowError) as error:
        reason = getattr(error, "message", None) or error
        tools.say(f"this run cannot be resumed: {reason}")
        return None
    head = {"schema": _SCHEMA, "selection": dict(selection), "began": began}
    journal._write(head)  # noqa: SLF001  # our own class
    return journal


def _open(path: Path) -> Journal:
    file = path.open("a", encoding="utf-8")
    path.chmod(0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        file.close()
        raise
    return Journal(path, file)


def _drop_old() -> None:
    for path in sorted(directory().glob(f"*{_SUFFIX}"))[: -_KEPT or None]:
        if not _in_use(path):
            path.unlink(missing_ok=True)


def _in_use(path: Path) -> bool:
    try:
        # not "a": a run that ends just now takes its journal away, and it must not come back
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def interrupted() -> Iterator[Record]:
    """Runs that were interrupted, the last one first; what cannot be read is passed over."""
    for path in sorted(directory().glob(f"*{_SUFFIX}"), reverse=True):
        if _in_use(path):
            continue
        record = read(path)
        if record.selection:
            yield record


def resume(record: Record) -> Journal:
    """Go on with an interrupted run. UsageError when somebody else does already."""
    try:
        with locked("runs"):
            journal = _open(record.path)
    except BlockingIOError as error:
        raise UsageError(f"another process goes on with the run in {record.path}") from error
    journal._write({})  # noqa: SLF001  # ends a line that was cut short
    return journal


def read(path: Path) -> Record:
    """Everything that can be read of a journal; no selection where it is none."""
    record = Record(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return record
    for line in lines:
        with suppress(ValueError, KeyError, TypeError, AttributeError, UsageError):
            _take(record, json.loads(line))
    return record


def _take(record: Record, line: dict[str, Any]) -> None:
    if line.get("schema") == _SCHEMA:
        record.selection, record.began = line["selection"], line["began"]
    elif "attempted" in line:
        record.culprits.add(_key(line["attempted"]))
    elif "result" in line:
        key = _key(line["result"])
        record.results[key] = wire.from_json(Result, line["value"])
        record.culprits.discard(key)
    elif "tested" in line:
        record.identities[line["tested"]] = line["identity"]
        if line["value"] is not None:
            record.tested[line["tested"]] = wire.from_json(Tested, line["value"])
    elif "released" in line:
        record.culprits -= {_key(words) for words in line["released"]}


def _key(words: list[str]) -> Key:
    spec, case, hook, made_of = words
    return spec, case, hook, made_of


class Keys:
    """Makes the keys of cases; each object is read once."""

    def __init__(self) -> None:
        self._objects: dict[str, str] = {}

    def of(self, spec: str, case: Case) -> Key:
        """The key of a case on a target: another one when the case or its object has changed."""
        paths = [case.object, *(each.object for each in case.companions if each.object)]
        made_of = [self._content(path) for path in paths]
        text = json.dumps([wire.to_json(replace(case, object="")), *made_of])
        return spec, case.id, case.hook, hashlib.sha256(text.encode()).hexdigest()[:16]

    def _content(self, path: str) -> str:
        if path not in self._objects:
            try:
                content = Path(path).read_bytes()
            except OSError:
                content = b""  # whoever runs it will say so
            self._objects[path] = hashlib.sha256(content).hexdigest()
        return self._objects[path]
