# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Trace events as JSON: one object a line, keys as docs/simulator.md lists them.

Owns the keys, which stay as they are within one SCHEMA number. Values of 64 bits travel as
hexadecimal strings, because most readers of JSON cut numbers at 53 bits; keys without content
are left out.
"""

import json
from collections.abc import Iterator
from typing import Any

from harness.model import Case, Observation
from harness.sim.trace import Event, Place, Shown, TraceEvent

SCHEMA = 1


def event_json(event: TraceEvent) -> dict[str, Any]:
    """One event as plain JSON types."""
    made: dict[str, Any] = {"event": str(event.kind), "depth": event.depth, "text": event.text}
    if event.frame:
        made["frame"] = event.frame
    if event.place is not None:
        made |= _place(event.place)
    if event.caller is not None:
        made["caller"] = _place(event.caller)
    made |= {key: text for key, text in (("role", event.role), ("name", event.name)) if text}
    if event.values:
        made["values"] = [_shown(v) for v in event.values]
    if event.cookie is not None:
        made["cookie"] = f"0x{event.cookie:x}"
    if event.result is not None:
        made["result"] = _shown(event.result)
    if event.kind is Event.VANISH:
        made["boundary"] = event.boundary
    return made


def lines(case: Case, profile: str, events: list[TraceEvent], seen: Observation) -> Iterator[str]:
    """A head, every event, and the end: each is one line of JSON, without its newline."""
    head = {
        "event": "trace",
        "schema": SCHEMA,
        "object": case.object,
        "program": case.program,
        "section": case.section,
        "hook": case.hook,
        "profile": profile,
    }
    if case.input.packet is not None:
        head["packet"] = case.input.packet.hex()
    if case.input.ctx is not None:
        head["ctx"] = case.input.ctx.hex()
    yield json.dumps(head)
    for event in events:
        yield json.dumps(event_json(event))
    end = {"event": "end", "verdict": str(seen.verdict), "retvals": list(seen.retvals)}
    if seen.message:
        end["message"] = seen.message
    yield json.dumps(end)


def _place(place: Place) -> dict[str, Any]:
    made: dict[str, Any] = {"program": place.program, "function": place.function, "pc": place.pc}
    if place.file:
        made |= {"file": place.file, "line": place.line, "source": place.source}
    return made


def _shown(shown: Shown) -> dict[str, Any]:
    number = None if shown.number is None else f"0x{shown.number:x}"
    return {"name": shown.name, "value": number, "text": shown.text}
