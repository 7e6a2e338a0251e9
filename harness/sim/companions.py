# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Companions: freplace, fentry and fexit programs, and which function each one sits on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.bpf.link import LinkedFunction, Program
from harness.model import Companion


@dataclass(slots=True)
class Attached:
    """(program, function) -> companions on it, in the order of attaching."""

    by_function: dict[tuple[str, str], list[Companion]] = field(default_factory=dict)

    def attach(
        self, main: Program, companions: Iterable[Companion], program: Callable[[str], Program]
    ) -> None:
        """A companion goes to one program: main, or the first companion before it that fits.

        A kernel attaches to one loaded program too; other programs that hold a copy of the same
        function do not notice.
        """
        self.by_function.clear()
        targets = [main]
        for companion in companions:
            for target in targets:
                if any(f.name == companion.target for f in target.functions):
                    key = (target.name, companion.target)
                    self.by_function.setdefault(key, []).append(companion)
                    break
            targets.append(program(companion.program))

    def on(self, program: Program, function: LinkedFunction) -> list[Companion]:
        """Companions on a function."""
        return self.by_function.get((program.name, function.name), [])
