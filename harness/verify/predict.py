# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One program and one profile in, one Prediction out: the parts in a kernel's order.

Owns the order and what becomes of Rejection and NotModelled. The parts: harness.verify.loading
(libbpf), structure, exceptions (tags), explore (every path), exceptions again (the call graph).
"""

import os
import re

from harness import refusals
from harness.bpf.elf import Object, read_object
from harness.bpf.environment import NOWHERE, Environment
from harness.bpf.program import Program
from harness.sim import semantics
from harness.sim.semantics import Profile
from harness.verify import (
    attach,
    created_maps,
    exceptions,
    known_bugs,
    loading,
    ownedtypes,
    removal,
    signatures,
    structure,
)
from harness.verify.attach import OPEN, Onto
from harness.verify.callgraph import CallGraph
from harness.verify.explore import explore
from harness.verify.prediction import (
    Explored,
    NotModelled,
    Prediction,
    Rejection,
    Subject,
    Verdict,
)
from harness.verify.rules import rules_of

_ANY = re.compile(r"\{\{[^}]*\}\}")
# instructions that are explored before the answer is "unknown"; a kernel explores a million
DEFAULT_BUDGET = 50_000


def predict(
    target: Object | str | os.PathLike[str],
    program: str,
    profile: str | Profile,
    *,
    environment: Environment = NOWHERE,
    budget: int = DEFAULT_BUDGET,
    onto: Onto = OPEN,
) -> Prediction:
    """What a kernel of `profile` says of one program of an object.

    `environment`: the kernel that libbpf would ask. `onto`: for a program that attaches to a
    function, what its section does not say of it.
    Raises ObjectError for a broken object or one without that program, UsageError for an unknown
    profile.
    """
    obj = target if isinstance(target, Object) else read_object(target)
    kernel = semantics.profile(profile) if isinstance(profile, str) else profile
    obj.program(program)
    linked = None
    try:
        rules_of(kernel)
        linked = loading.linked(obj, program, kernel, environment)
        if environment.btf is None:
            loading.require_certain(obj, linked)
    except Rejection as error:
        return _rejected(error, linked)
    except NotModelled as error:
        return _unknown(error, linked)
    subject = Subject(obj, linked, kernel)
    return predict_linked(subject, environment=environment, budget=budget, onto=onto)


def predict_linked(
    subject: Subject,
    *,
    environment: Environment = NOWHERE,
    budget: int = DEFAULT_BUDGET,
    onto: Onto = OPEN,
) -> Prediction:
    """predict() of a program as libbpf hands it to the kernel."""
    run = _Run(subject, environment, budget)
    run.onto = onto
    return run.predict()


class _Run:
    """The parts behind linking; keeps what exploration learnt for the flags."""

    def __init__(self, subject: Subject, environment: Environment, budget: int) -> None:
        self.subject = subject
        self.environment = environment
        self.onto = OPEN
        self.budget = budget
        self.graph = CallGraph(subject.program)
        self.explored: Explored | None = None

    def predict(self) -> Prediction:
        program = self.subject.program
        try:
            self._check()
        except Rejection as error:
            return _rejected(error, program, self._bugs())
        except NotModelled as error:
            return _unknown(error, program, self._bugs())
        insns = self.explored.insns if self.explored else 0
        return Prediction(Verdict.ACCEPT, bugs=self._bugs(), explored=insns)

    def _check(self) -> None:
        created_maps.check(self.subject.obj)
        ownedtypes.require_taken(self.subject.obj)
        structure.check(self.subject, self.graph)
        attach.check(self.subject, self.environment, self.onto)
        try:
            self.explored = explore(self.subject, self.budget)
        except NotModelled as error:
            self._check_whatever_paths_say(error)
            raise
        except Rejection as error:
            loading.require_known(self.subject, self.environment, error.pc)
            raise
        exceptions.check_walk(self.subject, self.graph, self.explored)
        removal.check(self.subject, self.explored)

    def _check_whatever_paths_say(self, unknown: NotModelled) -> None:
        """A program that breaks a rule of its call graph is refused, by it or by an earlier one."""
        try:
            signatures.check_callback(self.subject)
            exceptions.check_walk(self.subject, self.graph, None)
        except NotModelled:
            return
        except Rejection as error:
            raise Rejection(
                error.category,
                "",
                errno=None,
                pc=error.pc,
                why=f"{error.why}. (Or a path is refused before that: not all were followed, "
                f"{unknown.why})",
                fix=error.fix,
            ) from error

    def _bugs(self) -> tuple[str, ...]:
        return known_bugs.bugs(self.subject, self.graph, self.explored)


def _rejected(error: Rejection, program: Program | None, bugs: tuple[str, ...] = ()) -> Prediction:
    # what the rule is in general, where the part that refuses has nothing to say about this program
    said = _ANY.sub("1", error.message).split("\n")
    known = refusals.rule_of(said) if not (error.why and error.fix) else None
    return Prediction(
        Verdict.REJECT,
        category=error.category,
        pc=error.pc,
        function=_function(program, error.pc),
        message=error.message,
        errno=error.errno,
        why=error.why or (known.rule.words if known else ""),
        fix=error.fix or (known.rule.fix if known else ""),
        derivation=error.steps,
        bugs=bugs,
    )


def _unknown(error: NotModelled, program: Program | None, bugs: tuple[str, ...] = ()) -> Prediction:
    return Prediction(
        Verdict.UNKNOWN,
        pc=error.pc,
        function=_function(program, error.pc),
        why=error.why,
        derivation=error.steps,
        bugs=bugs,
    )


def _function(program: Program | None, pc: int | None) -> str:
    return program.function_at(pc).name if program is not None and pc is not None else ""
