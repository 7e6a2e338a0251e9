# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What came of a capture, as text and as JSON; the line that shows progress on a terminal.

Owns the words and the keys (docs/captures.md); the numbers are harness.sim.tally's.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TextIO

from harness.sim import verdicts
from harness.sim.replay import Replay
from harness.sim.tally import LISTED
from harness.sim.trace import value

SCHEMA = 1
_BAR = 30
_MOST_ROWS = 12


@dataclass(frozen=True, slots=True)
class Setting:
    """What was asked for."""

    capture: str
    object: str
    program: str
    program_type: str
    hook: str
    profile: str
    engine: str
    # seconds that the engine spent on making the program ready
    compile_s: float = 0.0
    out_pcap: str = ""


def text(setting: Setting, replay: Replay, maps: dict[str, dict[str, str]]) -> str:
    """The report for people."""
    tally = replay.tally
    lines = [
        f"capture: {setting.capture}: {_number(tally.packets, 'packet')}, "
        f"{_number(tally.size_bytes, 'byte')}"
        + (f", {tally.truncated} cut short by the capture" if tally.truncated else "")
    ]
    lines.append(
        f"program: {setting.program} ({setting.program_type}, hook {setting.hook}), "
        f"profile {setting.profile}, engine {setting.engine}"
    )
    lines += ["", *_verdict_lines(setting, replay)]
    lines += ["", *_throw_lines(setting, replay)]
    if tally.failed:
        lines += ["", *_failure_lines(replay)]
    if shown := list(_map_lines(maps)):
        lines += ["", *shown]
    lines.append("")
    if setting.out_pcap:
        lines.append(f"written: {setting.out_pcap}: {_number(replay.written, 'packet')}")
    lines.append(f"speed:   {_speed(replay)} packets/s ({replay.duration_s:.2f} s)")
    if replay.interrupted:
        lines.append("stopped by Ctrl-C: this is what there was until then")
    return "\n".join(lines)


def _number(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _speed(replay: Replay) -> str:
    return f"{replay.tally.packets / max(replay.duration_s, 1e-9):.0f}"


def _verdict_lines(setting: Setting, replay: Replay) -> Iterator[str]:
    tally = replay.tally
    rows = [
        (verdicts.name(setting.program_type, retval), packets)
        for retval, packets in tally.retvals.most_common(_MOST_ROWS)
    ]
    rest = tally.retvals.total() - sum(packets for _, packets in rows) + tally.others
    rows += [("other values", rest)] if rest else []
    rows += [("(no value)", tally.failed)] if tally.failed else []
    yield "verdicts:"
    wide = max((len(name) for name, _ in rows), default=0)
    for name, packets in rows:
        share = packets / max(tally.packets, 1)
        bar = "#" * max(round(share * _BAR), 1)
        yield f"  {name:<{wide}} {packets:>10} {100 * share:6.2f} %  {bar}"
    if not rows:
        yield "  none: the capture has no packets"


def _throw_lines(setting: Setting, replay: Replay) -> Iterator[str]:
    throws = replay.tally.throws
    yield f"threw: {throws.count} of {_number(replay.tally.packets, 'packet')}"
    for cookie, packets in throws.by_cookie.most_common(_MOST_ROWS):
        yield f"  cookie {value(cookie)}: {_number(packets, 'packet')}"
    first = zip(throws.packets, throws.cookies, throws.retvals, throws.times_ns, strict=True)
    for number, cookie, retval, at in islice(first, LISTED):
        since = (at - replay.tally.first_ns) / 1e9
        verdict = verdicts.name(setting.program_type, retval)
        yield f"  packet {number} ({since:+.6f} s): cookie {value(cookie)}, {verdict}"
    if throws.count > LISTED:
        yield f"  ... {throws.count - LISTED} more; --json lists them"


def _failure_lines(replay: Replay) -> Iterator[str]:
    tally = replay.tally
    yield f"no value: {_number(tally.failed, 'packet')}"
    for message, packets in tally.failures.most_common(_MOST_ROWS):
        yield f"  {packets} x {message}"
    for number, message in tally.first_failures:
        yield f"  packet {number}: {message}"


def _map_lines(maps: dict[str, dict[str, str]]) -> Iterator[str]:
    for name, content in maps.items():
        entries = list(content.items())
        for key, data in entries[:_MOST_ROWS]:
            yield f"{name}[{key}] = {data}"
        if len(entries) > _MOST_ROWS:
            yield f"{name}: {len(entries) - _MOST_ROWS} more"


def write_json(
    stream: TextIO, setting: Setting, replay: Replay, maps: dict[str, dict[str, str]]
) -> None:
    """One JSON document with every throw; written as it goes, so that memory stays small."""
    tally, throws = replay.tally, replay.tally.throws
    head: dict[str, Any] = {
        "schema": SCHEMA,
        "capture": setting.capture,
        "object": setting.object,
        "program": setting.program,
        "program_type": setting.program_type,
        "hook": setting.hook,
        "profile": setting.profile,
        "engine": setting.engine,
        "packets": tally.packets,
        "bytes": tally.size_bytes,
        "truncated": tally.truncated,
        "duration_s": replay.duration_s,
        "packets_per_s": float(_speed(replay)),
        "compile_s": setting.compile_s,
        "interrupted": replay.interrupted,
        "error": None if replay.error is None else replay.error.message,
        "verdicts": {
            verdicts.name(setting.program_type, v): n for v, n in tally.retvals.most_common()
        },
        "other_values": tally.others,
        "failed": tally.failed,
        "failures": dict(tally.failures.most_common()),
        "first_failures": [{"packet": n, "message": m} for n, m in tally.first_failures],
        "threw": throws.count,
        "cookies": {f"0x{c:x}": n for c, n in throws.by_cookie.most_common()},
        "written": replay.written if setting.out_pcap else None,
        "maps": maps,
    }
    stream.write(json.dumps(head, indent=2).removesuffix("\n}") + ',\n  "throws": [')
    rows = zip(throws.packets, throws.times_ns, throws.cookies, throws.retvals, strict=True)
    for index, (number, at, cookie, retval) in enumerate(rows):
        verdict = verdicts.name(setting.program_type, retval)
        row = {"packet": number, "time_ns": at, "cookie": f"0x{cookie:x}", "verdict": verdict}
        stream.write(("," if index else "") + "\n    " + json.dumps(row))
    stream.write("\n  ]\n}\n" if throws.packets else "]\n}\n")


class ProgressLine:
    """One line on a terminal that is written over and over; nothing anywhere else."""

    def __init__(self, stream: TextIO, interval_s: float = 0.2) -> None:
        self._stream = stream
        self._interval_s = interval_s
        self._on = stream.isatty()
        self._started = self._last = time.monotonic()

    def __call__(self, packets: int, share: float | None) -> None:
        """Show how far we are, a few times a second."""
        now = time.monotonic()
        if not self._on or now - self._last < self._interval_s:
            return
        self._last = now
        speed = packets / max(now - self._started, 1e-9)
        bar = ""
        if share is not None:
            full = round(share * _BAR)
            bar = f"[{'#' * full}{'.' * (_BAR - full)}] {100 * share:3.0f} %  "
        self._stream.write(f"\r\x1b[K{bar}{packets} packets, {speed:.0f}/s")
        self._stream.flush()

    def done(self) -> None:
        """Take the line away."""
        if self._on:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
