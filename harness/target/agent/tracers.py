# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel's own tracers, set on functions of the kernel while a case runs.

Return probes and the function graph, through tracefs. They belong to the whole machine, so
nothing is set where somebody else uses them. What they write is not read: cases only want them on.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.errors import WorldError

PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_MOUNT = "mount -t tracefs tracefs /sys/kernel/tracing"
_GROUP = "bpfthrow"


def missing(kind: str) -> str:
    """Why the machine has no tracer of this kind ("kretprobe", "function_graph"); "" if it has."""
    place = _place()
    if place is None:
        return "tracefs is not mounted"
    if kind == "kretprobe":
        there = (place / "kprobe_events").exists()
        return "" if there else "the kernel has no CONFIG_KPROBE_EVENTS"
    known = (place / "available_tracers").read_text(encoding="ascii").split()
    return "" if kind in known else f"the kernel's tracers are: {', '.join(known)}"


@contextmanager
def set_on(wanted: Sequence[str]) -> Iterator[None]:
    """Set the tracers of `wanted` ("KIND:FUNCTION"); all are off again at the end.

    WorldError where a function cannot be traced or the function graph is not free.
    """
    if not wanted:
        yield
        return
    place = _place()
    if place is None:
        raise WorldError("tracefs is not mounted", fix=_MOUNT)
    functions: dict[str, list[str]] = {}
    for each in wanted:
        kind, _, function = each.partition(":")
        functions.setdefault(kind, []).append(function)
    with ExitStack() as stack:
        for function in functions.get("kretprobe", ()):
            _set_kretprobe(stack, place, function)
        if "function_graph" in functions:
            _set_graph(stack, place, functions["function_graph"])
        yield


def _place() -> Path | None:
    return next((place for place in PLACES if (place / "tracing_on").exists()), None)


def _set_kretprobe(stack: ExitStack, place: Path, function: str) -> None:
    events = place / "kprobe_events"
    _append(events, f"r:{_GROUP}/{function} {function}")
    stack.callback(_append, events, f"-:{_GROUP}/{function}")
    switch = place / "events" / _GROUP / function / "enable"
    _append(switch, "1")
    stack.callback(_append, switch, "0")


def _set_graph(stack: ExitStack, place: Path, functions: Sequence[str]) -> None:
    tracer, chosen = place / "current_tracer", place / "set_ftrace_filter"
    now = tracer.read_text(encoding="ascii").strip()
    if now != "nop":
        raise WorldError(f"tracer {now!r} is in use on the machine", fix=f"echo nop >{tracer}")
    for function in functions:
        _append(chosen, function)
    stack.callback(_clear, chosen)
    _append(tracer, "function_graph")
    stack.callback(_append, tracer, "nop")


def _append(file: Path, text: str) -> None:
    # one write(2): tracefs takes each as a command
    try:
        fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode() + b"\n")
        finally:
            os.close(fd)
    except OSError as error:
        raise WorldError(f"{file}: the kernel refuses {text!r}: {error.strerror}") from None


def _clear(file: Path) -> None:
    os.close(os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC))
