# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The agent's main loop: one JSON request per line in, one response per line out.

    {"id": 1, "op": "hello"} -> {"id": 1, "ok": true, "result": {...}}
                              | {"id": 1, "ok": false, "error": {"kind", "message", "evidence"}}

kind is "usage" (the request is wrong), "world" (the machine is) or "bug" (the agent is; the
traceback is the evidence). Nothing else reaches stdout. The end of stdin, SIGTERM and SIGHUP end
the process after everything attached, pinned and loaded is gone.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from harness import wire
from harness.errors import BpfthrowError, UsageError, WorldError
from harness.model import Case
from harness.target.agent import spawn, syscall
from harness.target.agent.session import Session

Result = dict[str, Any]
Operation = Callable[["Agent", Result], Result]


class Agent:
    """Answers requests; starts its session with the first one that needs it."""

    def __init__(self, identity: str = "") -> None:
        self.identity = identity
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The session, begun on first use."""
        if self._session is None:
            self._session = Session()
        return self._session

    def answer(self, line: bytes) -> Result:
        """Response to one request line. Never raises an Exception."""
        ident: Any = None
        try:
            request = _parse(line)
            ident = request.pop("id", None)
            operation = _operation(request.pop("op", None))
            return {"id": ident, "ok": True, "result": operation(self, request)}
        except BpfthrowError as error:
            kind = "world" if isinstance(error, WorldError) else "usage"
            return _failure(ident, kind, str(error), getattr(error, "evidence", ""))
        except OSError as error:
            return _failure(ident, "world", str(error), _traceback())
        except Exception as error:  # noqa: BLE001  # the agent outlives its own bugs
            return _failure(ident, "bug", repr(error), _traceback())

    def close(self) -> None:
        """End the session."""
        spawn.batch().close()
        if self._session is not None:
            self._session.close()


def _parse(line: bytes) -> Result:
    try:
        request = json.loads(line)
    except ValueError as error:
        raise UsageError(f"request is not JSON: {error}") from None
    if not isinstance(request, dict):
        raise UsageError(f"request is not an object: {line[:80]!r}")
    return request


def _operation(name: Any) -> Operation:
    if not isinstance(name, str) or name not in _OPERATIONS:
        raise UsageError(f"unknown op {name!r}", fix=f"one of: {', '.join(_OPERATIONS)}")
    return _OPERATIONS[name]


def _failure(ident: Any, kind: str, message: str, evidence: str) -> Result:
    error = {"kind": kind, "message": message, "evidence": evidence}
    return {"id": ident, "ok": False, "error": error}


def _traceback() -> str:
    import traceback  # noqa: PLC0415  # rarely needed, slow to import

    return traceback.format_exc()


def _hello(agent: Agent, _request: Result) -> Result:
    from harness.target.agent import facts  # noqa: PLC0415  # only asked once

    _ = agent.session  # begins here: the baseline for leaks is taken before anything else
    return facts.hello(agent.identity)


def _probe(agent: Agent, request: Result) -> Result:
    from harness.target.agent import probe  # noqa: PLC0415  # imports more than a case needs

    wanted = request.get("features")
    if wanted is not None and not isinstance(wanted, list):
        raise UsageError(f"$.features: expected a list, got {wanted!r}")
    return probe.facts(agent.session, wanted)


def _run(agent: Agent, request: Result) -> Result:
    case = wire.from_json(Case, request.get("case"), "$.case")
    path = request.get("object")
    if not isinstance(path, str):
        raise UsageError(f"$.object: expected a path, got {path!r}")
    seen = agent.session.run(case, path, statistics=bool(request.get("statistics")))
    observation: Result = wire.to_json(seen, brief=True)
    return observation


def _symbols(_: Agent, request: Result) -> Result:
    from harness.target.agent import kallsyms  # noqa: PLC0415  # rarely asked

    found: Result = {"base": kallsyms.base()}
    return found if request.get("only_base") else found | {"packed": kallsyms.packed()}


def _unload(agent: Agent, _: Result) -> Result:
    agent.session.unload()
    return {}


def _finish(agent: Agent, _: Result) -> Result:
    return {"leaks": list(agent.session.finish()), "kernel_log": agent.session.log.window()}


_OPERATIONS: dict[str, Operation] = {
    "hello": _hello,
    "probe": _probe,
    "run": _run,
    "symbols": _symbols,
    "unload": _unload,
    "finish": _finish,
}


def _end(number: int, _: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # cleaning up must not be cut short
    raise SystemExit(128 + number)


def main(identity: str = "") -> int:
    """Serve stdin until it ends. `identity` names the archive this runs from."""
    return serve(Agent(identity))


def serve(agent: Agent) -> int:
    """Have `agent` answer the requests on stdin until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a child or a library prints must not break the protocol
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    syscall.pin_to_first_cpu()
    try:
        for line in sys.stdin.buffer:
            answers.write(json.dumps(agent.answer(line)) + "\n")
            answers.flush()
    except BrokenPipeError:
        return 1  # nobody listens any more
    finally:
        agent.close()
    return 0
