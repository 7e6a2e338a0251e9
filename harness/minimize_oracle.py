# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Who says whether a smaller program is still the same: kernels, and the verifier model.

Owns what "the same" means: verdict, rule (harness.refusals), how its words begin, and the kind of
instruction at which it is refused; where it has to be exact, how every message begins. A load that
takes the guest down is never the same.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness import logmatch, normalize, refusals
from harness.bpf import disasm, isa
from harness.bpf.elf import Object, read_object
from harness.bpf.environment import Environment
from harness.bpf.link import link
from harness.config import Settings
from harness.errors import BpfthrowError, MachineLostError, ObjectError, UsageError
from harness.model import Case, Observation, Verdict
from harness.repro_log import evidence
from harness.repro_report import Answer
from harness.series import series_of
from harness.target.base import Target, open_target
from harness.verify.predict import predict
from harness.verify.prediction import Prediction
from harness.verify.prediction import Verdict as Foreseen

# what makes two answers the same
Key = tuple[str, ...]
_WORDS = 5
_DIGITS = re.compile(r"\d+")
_CALLED = re.compile(r"\(85\) call (\S+)")
_OPCODE = re.compile(r"\(([0-9a-f]{2})\)")
# where the instruction says nothing: the rule is about the program as a whole
_WITHOUT_PLACE = frozenset({"program-structure", "policy", "loader"})
_ANY = re.compile(r"\{\{.*?\}\}")
_LINES = r"{{[\s\S]*}}"
# this many losses of the machine in a row, and it is gone
_MOST_LOST = 2


def key_of(answer: Answer, *, exact: bool = False) -> Key:
    """What has to stay as it is; `exact`: of everything that is said, not of the rule alone."""
    found = answer.evidence
    if found is None:
        return answer.key
    of_rule = found.found.messages if found.found else found.messages
    place = ""
    if found.refused and not (found.found and found.found.rule.category in _WITHOUT_PLACE):
        place = kind_of(found.refused.instruction)
    said = found.messages if exact else of_rule[:1]
    return (answer.rule, place, *map(_beginning, said))


def _beginning(message: str) -> str:
    return _DIGITS.sub("N", " ".join(message.split()[:_WORDS]))


def kind_of(instruction: str) -> str:
    """What kind an instruction is, as a log prints it: what is called, or its class."""
    if called := _CALLED.match(instruction):
        return "a function" if called[1].startswith("pc") else called[1].partition("#")[0]
    opcode = _OPCODE.match(instruction)
    if opcode is None:
        return ""
    code = int(opcode[1], 16)
    return "exit" if code == isa.EXIT else isa.Class(code & 7).name


# ---- kernels ------------------------------------------------------------------------------------


def answer_of(kernel: str, seen: Observation) -> Answer:
    """A load's answer, with what its log says."""
    if seen.verdict is not Verdict.REJECTED:
        return Answer(kernel, seen)
    return Answer(kernel, seen, evidence(seen.log, seen.message))


@dataclass(slots=True)
class Kernels:
    """Guests that load candidates; `keys` is what each of them has to say."""

    targets: dict[str, Target]
    program: str
    section: str
    # where objects are written before they are pushed
    scratch: Path
    keys: dict[str, Key] = field(default_factory=dict)
    exact: bool = False
    # to the last object that was the same
    answers: tuple[Answer, ...] = ()
    # who said no last
    strictest: str = ""
    loads: int = 0
    _lost: int = 0

    def load(self, kernel: str, data: bytes) -> Answer:
        """Load an object on one kernel. MachineLostError where its guests are gone for good."""
        self.loads += 1
        path = self.scratch / f"small-{self.loads}.bpf.o"
        path.write_bytes(data)
        name = f"{path.name}/{self.program}"
        case = Case(
            id=name, object=str(path), program=self.program, section=self.section, hook="load"
        )
        try:
            seen = self.targets[kernel].run(case)
        except UsageError as error:  # nothing that libbpf can open
            seen = Observation(Verdict.UNSUPPORTED, message=error.message)
        path.unlink()
        self._lost = self._lost + 1 if seen.verdict is Verdict.LOST else 0
        if self._lost >= _MOST_LOST:
            raise MachineLostError(f"{kernel}: {seen.message}", evidence=seen.log)
        return answer_of(kernel, seen)

    def same(self, data: bytes) -> bool:
        """Whether every kernel says of it what it has to say; the one who said no last is first."""
        answers: dict[str, Answer] = {}
        for name in sorted(self.targets, key=lambda name: name != self.strictest):
            answers[name] = self.load(name, data)
            if self.key(answers[name]) != self.keys[name]:
                self.strictest = name
                return False
        self.answers = tuple(answers[name] for name in self.targets)
        return True

    def key(self, answer: Answer) -> Key:
        """What has to stay as it is."""
        return key_of(answer, exact=self.exact)


@contextmanager
def opened(names: Sequence[str], settings: Settings) -> Iterator[dict[str, Target]]:
    """A guest of each kernel, closed at the end."""
    with ExitStack() as stack:
        targets = {}
        for name in names:
            targets[name] = stack.enter_context(open_target(f"vm:{name}", settings))
        yield targets


# ---- the model ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Model:
    """The verifier model for one series, of which `key` is what it has to say."""

    series: str
    environment: Environment
    program: str
    scratch: Path
    key: Key | None = None
    asked: int = 0

    def predict(self, data: bytes) -> tuple[Prediction, Key | None]:
        """The prediction, and what makes it the same as another: None where it does not know."""
        self.asked += 1
        path = self.scratch / "model.bpf.o"
        path.write_bytes(data)
        obj = read_object(path)
        found = predict(obj, self.program, self.series, environment=self.environment)
        return found, _key_of_model(found, obj, self.program, self.environment)

    def same(self, data: bytes) -> bool | None:
        """Whether the model says the same of it; None where it does not know."""
        try:
            key = self.predict(data)[1]
        except BpfthrowError:
            return None
        return None if key is None or self.key is None else key == self.key


def _key_of_model(
    found: Prediction, obj: Object, program: str, environment: Environment
) -> Key | None:
    if found.verdict is Foreseen.UNKNOWN:
        return None
    if found.verdict is Foreseen.ACCEPT:
        return ("accept",)
    if not found.message:
        return None  # refused, but by which rule is not certain
    said = [normalize.message(_ANY.sub("0", line)) for line in found.message.split(_LINES)]
    rule = refusals.rule_of(said)
    place = ""
    category = rule.rule.category if rule else str(found.category)
    if found.pc is not None and category not in _WITHOUT_PLACE:
        try:
            linked = link(obj, program, environment)
            place = kind_of(disasm.line(linked.insns, found.pc, disasm.linked_names(linked)))
        except ObjectError:
            return None
    words = _beginning(rule.messages[0] if rule else said[0])
    return ("reject", rule.rule.name if rule else "", words, place)


def model_of(
    series: str, environment: Environment, kernels: Kernels, data: bytes, answer: Answer | None
) -> Model | None:
    """A model that agrees with a kernel's answer; None where it does not, or does not know.

    Without an answer it is the model's own that counts.
    """
    model = Model(series, environment, kernels.program, kernels.scratch)
    try:
        found, key = model.predict(data)
    except BpfthrowError:
        return None
    model.key = key
    if key is None or (answer is not None and not _agree(found, answer)):
        return None
    return model


def _agree(found: Prediction, answer: Answer) -> bool:
    if answer.evidence is None:
        return answer.taken and found.verdict is Foreseen.ACCEPT
    log = f"{answer.seen.log}\n{answer.seen.message}"
    return found.verdict is Foreseen.REJECT and not logmatch.missing([found.message], log)


@dataclass(slots=True)
class Models:
    """A model for each kernel, as far as there are, who guess together."""

    models: dict[str, Model]
    # whether none is missing
    complete: bool

    @property
    def asked(self) -> int:
        """How often they were asked."""
        return sum(model.asked for model in self.models.values())

    def same(self, data: bytes) -> bool | None:
        """False as soon as one says so; None where one does not know."""
        unknown = not self.complete
        for model in self.models.values():
            guess = model.same(data)
            if guess is False:
                return False
            unknown = unknown or guess is None
        return None if unknown else True


def models_for(
    answers: Sequence[Answer], environments: dict[str, Environment], kernels: Kernels, data: bytes
) -> tuple[Models, tuple[str, ...]]:
    """Models that agree with the kernels, and the kernels that none agrees with."""
    found = {}
    for answer in answers:
        series = series_of(answer.seen.provenance.kernel or answer.kernel)
        model = model_of(series, environments[answer.kernel], kernels, data, answer)
        if model is not None:
            found[answer.kernel] = model
    without = tuple(a.kernel for a in answers if a.kernel not in found)
    return Models(found, complete=not without), without
