# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A target during a pytest session: opened by the first case that needs it, closed once."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from harness.config import Settings


@dataclass(slots=True)
class Machine:
    """One target of the session."""

    spec: str
    label: str
    settings: Settings
    # why it cannot be had; the rest of its cases is skipped with this
    broken: str = ""
    # cases in a row that no guest outlived
    deaths: int = 0
    _target: Any = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def is_open(self) -> bool:
        """Whether the machine has been had."""
        return self._target is not None

    def open(self) -> Any:
        """The running target (harness.target.base.Target). Raises BpfthrowError."""
        from harness.target import base  # noqa: PLC0415  # paramiko is slow to import

        if self._target is None:
            self._target = self._stack.enter_context(base.open_target(self.spec, self.settings))
        return self._target

    def close(self) -> tuple[str, ...]:
        """Let go of the machine; what its last case left behind."""
        with self._stack:
            if self._target is None or self.broken:
                return ()
            return tuple(self._target.finish())
