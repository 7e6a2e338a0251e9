# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Vectors through an engine, or through a plugin's command as the public suite calls it.

Owns what passed and failed mean: all 64 bits of R0, or the exact text where an error is expected.
"""

import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.conformance import machine
from harness.conformance.vectors import Vector
from harness.errors import UsageError

TIMEOUT_S = 60.0
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a vector."""

    # None where there is an error
    r0: int | None
    error: str = ""
    took_s: float = 0.0
    # engine that ran it, "" where a plugin did
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One vector's row."""

    name: str
    group: str
    # "passed", "failed" or "skipped"
    verdict: str
    # why it failed or was skipped
    reason: str = ""
    took_s: float = 0.0
    engine: str = ""


Execute = Callable[[Vector], Answer]


def run_all(vectors: Iterable[Vector], execute: Execute) -> list[Outcome]:
    """Run every vector that is a test."""
    return [_run(vector, execute) for vector in vectors]


def _run(vector: Vector, execute: Execute) -> Outcome:
    if vector.broken:
        return Outcome(vector.name, vector.group, FAILED, vector.broken)
    if vector.skipped:
        return Outcome(vector.name, vector.group, SKIPPED, vector.skipped)
    answer = execute(vector)
    reason = difference(vector, answer)
    verdict = FAILED if reason else PASSED
    return Outcome(vector.name, vector.group, verdict, reason, answer.took_s, answer.engine)


def difference(vector: Vector, answer: Answer) -> str:
    """How an answer differs from what the vector expects, "" where it does not."""
    if answer.r0 is None:
        if not vector.error:
            return f"expected 0x{vector.result or 0:x}, got an error: {answer.error}"
        same = answer.error == vector.error
        return "" if same else f"expected error {vector.error!r}, got {answer.error!r}"
    if vector.result is None:
        return f"expected error {vector.error!r}, got 0x{answer.r0:x}"
    if answer.r0 != vector.result:
        return f"expected 0x{vector.result:x}, got 0x{answer.r0:x}"
    return ""


def by_engine(name: str) -> Execute:
    """Run in this process. Raises UsageError for an engine that is not there."""
    machine.engine_named(name)

    def execute(vector: Vector) -> Answer:
        started = time.perf_counter()
        result = machine.run(vector.code, vector.memory, name)
        took_s = time.perf_counter() - started
        return Answer(result.r0, result.error, took_s, result.engine)

    return execute


def by_plugin(argv: list[str]) -> Execute:
    """Run a plugin's command once for each vector. Raises UsageError where it cannot be started."""

    def execute(vector: Vector) -> Answer:
        memory = [_protocol_text(vector.memory)] if vector.memory else []
        started = time.perf_counter()
        try:
            done = subprocess.run(
                [argv[0], *memory, *argv[1:]],
                input=_protocol_text(vector.code).encode() + b"\n",
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Answer(None, f"no answer within {TIMEOUT_S:.0f} s", TIMEOUT_S)
        except OSError as error:
            raise UsageError(f"{argv[0]}: cannot be run: {error.strerror}") from error
        took_s = time.perf_counter() - started
        out, said = (part.decode("utf-8", "replace") for part in (done.stdout, done.stderr))
        if done.returncode != 0:
            return Answer(None, (out or said).rstrip(), took_s)
        try:
            return Answer(int(out, 16), took_s=took_s)
        except ValueError:
            return Answer(None, f"printed {out[:80]!r}, which is no number in hex", took_s)

    return execute


def _protocol_text(data: bytes) -> str:
    """Bytes as the public runner writes them."""
    return "".join(f"{byte:02x}  " for byte in data)
