# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Companions: freplace, fentry and fexit programs, and which function each one sits on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from harness.bpf.link import LinkedFunction, Program
from harness.model import Companion
from harness.sim.signals import Fault

_NOBODY: tuple[Companion, ...] = ()


@dataclass(slots=True)
class Attached:
    """(program, function) -> companions on it, in the order of attaching."""

    # what a kernel calls fentry and fexit programs when it refuses one
    tracing_name: str = "FENTRY/FEXIT"
    by_function: dict[tuple[str, str], list[Companion]] = field(default_factory=dict)

    def attach(
        self, main: Program, companions: Iterable[Companion], program: Callable[[str], Program]
    ) -> None:
        """A companion goes to one program: main, or the first companion before it that fits.

        A kernel attaches to one loaded program too; other programs that hold a copy of the same
        function do not notice. Raises Fault where every kernel refuses to attach.
        """
        self.by_function.clear()
        targets = [main]
        for companion in companions:
            for target in targets:
                found = next((f for f in target.functions if f.name == companion.target), None)
                if found is not None:
                    _check(companion, target, found, self.tracing_name)
                    key = (target.name, companion.target)
                    self.by_function.setdefault(key, []).append(companion)
                    break
            targets.append(program(companion.program))

    def on(self, program: Program, function: LinkedFunction) -> Sequence[Companion]:
        """Companions on a function."""
        if not self.by_function:
            return _NOBODY
        return self.by_function.get((program.name, function.name), _NOBODY)


def _check(companion: Companion, target: Program, function: LinkedFunction, tracing: str) -> None:
    """bpf_check_attach_target(): what it says of exception callbacks, and before that of links."""
    replaces = companion.kind == "freplace"
    callback = target.exception_callback
    if callback is not None and function is target.functions[callback]:
        name = "Extension" if replaces else tracing
        raise Fault(f"{name} programs cannot attach to exception callback")
    if replaces and function.linkage == "static":
        raise Fault(f"{function.name}() is not a global function")
    if companion.kind == "fmod_ret":
        raise Fault("can't modify return codes of BPF program")
