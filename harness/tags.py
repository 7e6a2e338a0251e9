# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Declaration tags of one program -> what they claim.

Owns the spelling of every tag (progs/exceptions.h has the macros, docs/writing-cases.md the
table) and the errors for tags that are wrong. Does not know objects, programs or hooks: that is
harness.suite. The tags of the kernel's selftests, `comment:test_...`, are harness.kerneltags'.
"""

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from harness.errors import BpfthrowError, ObjectError
from harness.frames import parse_input
from harness.model import Expectation, Input, Verdict
from harness.series import SERIES

OURS = "bpfthrow:"
_NUMBERED = re.compile(r"(\d+)=(.*)", re.DOTALL)
_REGEX_PART = re.compile(r"\{\{(.*?)\}\}")
_C_NUMBER = re.compile(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]+\b")
# tracers of the kernel that a case may ask for, each a feature of the machine
TRACERS = ("kretprobe", "function_graph")
# what __on() may say of a kernel series, and the verdict that it means
_VERDICTS = {
    "success": Verdict.RAN,
    "retval": Verdict.RAN,
    "failure": Verdict.REJECTED,
    "errno": Verdict.REJECTED,
    "msg": Verdict.REJECTED,
}
# enum names survive the preprocessor, macros do not: <linux/bpf.h> has these as an enum
_CONSTANTS = {"XDP_ABORTED": 0, "XDP_DROP": 1, "XDP_PASS": 2, "XDP_TX": 3, "XDP_REDIRECT": 4}


@dataclass
class Claims:
    """What the tags of one program say; filled tag by tag, then only read."""

    # names of harness.hooks, none: every hook of the program's type
    hooks: list[str] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    verdict: Verdict | None = None
    retval: int | None = None
    # input name -> value
    retval_of: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    errno: int | None = None
    # variable -> value, possibly negative
    globals: dict[str, int] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    repeat: int = 1
    companions: list[str] = field(default_factory=list)
    traced: list[str] = field(default_factory=list)
    crashes: str = ""
    # only a tail-call target or a companion
    is_target: bool = False
    # series -> (what, value) in order
    on_series: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    # of an object without any tag of ours
    is_foreign: bool = False
    # ---- from here on only harness.kerneltags writes ----
    # loaded without what else loads automatically, except programs that are auxiliary
    alone: bool = False
    # log_level and flags of the load, see harness.model.Loading
    log_level: int = 0
    flags: int = 0
    # (number of messages before it, pattern)
    unwanted: list[tuple[int, str]] = field(default_factory=list)
    architectures: list[str] = field(default_factory=list)
    description: str = ""
    # reasons why the case cannot be tried
    unsupported: list[str] = field(default_factory=list)
    # tags that are not held against anything: "TAG: WHY"
    left_out: list[str] = field(default_factory=list)

    def expectation(self, input_name: str, globals_: dict[str, int]) -> Expectation:
        """Return what is claimed for one input; `globals_` are the values at variable width."""
        retval = self.retval_of.get(input_name, self.retval)
        verdict = self.verdict
        if verdict is None and (self.messages or self.errno is not None):
            verdict = Verdict.REJECTED
        if verdict is None and (retval is not None or globals_):
            verdict = Verdict.RAN
        # only the kernel's loader reads the log of what loads
        said = tuple(self.messages) if self.alone or verdict is Verdict.REJECTED else ()
        unwanted = tuple(self.unwanted)
        if verdict is Verdict.REJECTED:
            return Expectation(verdict, messages=said, unwanted=unwanted, errno=self.errno)
        values = tuple(globals_.items())
        return Expectation(verdict, retval, messages=said, unwanted=unwanted, globals=values)

    def per_series(
        self, general: Expectation, input_name: str, globals_: dict[str, int]
    ) -> tuple[tuple[str, Expectation], ...]:
        """Return the overrides, `general` with what each kernel series changes in it."""
        # what the log of a refusal shows, that of a load does not
        same = general.verdict is not Verdict.REJECTED
        ran = replace(
            self,
            verdict=Verdict.RAN,
            messages=self.messages if same else [],
            unwanted=self.unwanted if same else [],
        ).expectation(input_name, globals_)
        refused = replace(self, verdict=Verdict.REJECTED).expectation(input_name, globals_)
        made = []
        for series in SERIES:
            changes = self.on_series.get(series, ())
            # a series that words its refusal otherwise does not say the general words too
            reworded = any(what == "msg" for what, _ in changes)
            words = () if reworded else refused.messages
            expectation = replace(general, messages=()) if reworded else general
            for what, value in changes:
                expectation = _override(
                    expectation, ran, replace(refused, messages=words), what, value
                )
            if expectation != general:
                made.append((series, expectation))
        return tuple(made)


def _override(
    now: Expectation, ran: Expectation, refused: Expectation, what: str, value: str
) -> Expectation:
    if what == "success":
        return ran
    if what == "retval":
        return replace(ran, retval=parse_integer(value) & 0xFFFFFFFF)
    refused = now if now.verdict is Verdict.REJECTED else refused
    if what == "failure":
        return refused
    if what == "errno":
        return replace(refused, errno=parse_integer(value))
    return replace(refused, messages=(*refused.messages, _message(value)))


def parse_tags(tags: tuple[str, ...], where: str) -> Claims:
    """Read the tags of one program.

    `where` names the object and the program for errors. Raises ObjectError naming the tag.
    Tags that are not ours are left alone.
    """
    claims = Claims()
    for tag in sorted((tag for tag in tags if tag.startswith(OURS)), key=_order):
        key, _, value = tag.removeprefix(OURS).partition("=")
        put = KEYS.get(key)
        if put is None:
            known = ", ".join(sorted(KEYS))
            raise ObjectError(f"{where}: unknown tag {tag!r}", fix=f"known after {OURS}: {known}")
        try:
            put(claims, value)
        except BpfthrowError as error:
            raise ObjectError(f"{where}: tag {tag!r}: {error.message}", fix=error.fix) from None
        except ValueError as error:
            raise ObjectError(f"{where}: tag {tag!r}: {error}") from None
    require_judged(claims, where)
    return claims


def require_judged(claims: Claims, where: str) -> None:
    """Refuse a claim that the program's verdict would drop, unless a series has the other one."""
    of_refusal = ["__msg"] * bool(claims.messages) + ["__errno"] * (claims.errno is not None)
    of_run = ["__retval"] * (claims.retval is not None)
    of_run += [f"__retval_of({name})" for name in claims.retval_of]
    of_run += [f"__global_is({name})" for name in claims.globals]
    verdict = claims.verdict or (Verdict.REJECTED if of_refusal else Verdict.RAN)
    said = {_VERDICTS[what] for changes in claims.on_series.values() for what, _ in changes}
    for other, tags in ((Verdict.REJECTED, of_refusal), (Verdict.RAN, of_run)):
        if tags and other is not verdict and other not in said:
            ends = "runs" if verdict is Verdict.RAN else "is refused"
            fix = "drop one of them, or claim the other verdict of a kernel series by __on(...)"
            message = f"{where}: {tags[0]} says nothing of a program that {ends}"
            raise ObjectError(message, fix=fix)


def _order(tag: str) -> int:
    # the number that __COUNTER__ put in, where there is one
    match = re.search(r"=(\d+)=", tag)
    return int(match[1]) if match else 0


def _split_number(value: str) -> tuple[int, str]:
    match = _NUMBERED.fullmatch(value)
    return (int(match[1]), match[2]) if match else (0, value)


# ---- one function a key ---------------------------------------------------------------------


def _put_input(claims: Claims, value: str) -> None:
    name, equals, spec = _split_number(value)[1].partition("=")
    if not equals or not name:
        raise ValueError("should read N=NAME=SPEC")
    if any(old.name == name for old in claims.inputs):
        raise ValueError(f"a second input called {name!r}")
    claims.inputs.append(parse_input(spec, name))


def _put_retval(claims: Claims, value: str) -> None:
    if "=" not in value:
        claims.retval = parse_integer(value) & 0xFFFFFFFF
        return
    name, number = _pair(value, "INPUT=VALUE")
    claims.retval_of[name] = parse_integer(number) & 0xFFFFFFFF


def _put_global(claims: Claims, value: str) -> None:
    name, number = _pair(value, "VARIABLE=VALUE")
    claims.globals[name] = parse_integer(number)


def _put_repeat(claims: Claims, value: str) -> None:
    claims.repeat = parse_integer(value)
    if not 1 <= claims.repeat <= 10_000:
        raise ValueError("a number of runs is between 1 and 10000")


def _put_verdict(claims: Claims, verdict: Verdict) -> None:
    if claims.verdict not in (None, verdict):
        raise ValueError("both success and failure are expected")
    claims.verdict = verdict


def _put_on(claims: Claims, value: str) -> None:
    names, what = _pair(value, "SERIES[,SERIES]=WHAT")
    kind, _, argument = what.partition("=")
    if kind not in _VERDICTS:
        raise ValueError("WHAT is success, failure, retval=V, errno=E or msg=N=TEXT")
    if kind in ("retval", "errno"):
        parse_integer(argument)
    if kind == "msg":
        _message(argument)
    for series in names.split(","):
        if series not in SERIES:
            raise ValueError(f"unknown kernel series {series!r}; known: {', '.join(SERIES)}")
        claims.on_series.setdefault(series, []).append((kind, argument))


def _put_message(claims: Claims, value: str) -> None:
    claims.messages.append(_message(value))


def _message(value: str) -> str:
    """Return the pattern of `N=TEXT`; ValueError where a part in {{...}} is no expression."""
    text = _split_number(value)[1]
    try:
        re.compile("".join(f"(?:{part})" for part in _REGEX_PART.findall(text)))
    except (re.error, OverflowError) as error:
        raise ValueError(f"{{{{...}}}} holds no regular expression: {error}") from None
    return text


def _put_errno(claims: Claims, value: str) -> None:
    claims.errno = parse_integer(value)


def _put_traced(claims: Claims, value: str) -> None:
    kind, _, function = value.partition(":")
    if kind not in TRACERS or not re.fullmatch(r"[A-Za-z_]\w*", function):
        raise ValueError(f"should read {' or '.join(f'{kind}:FUNCTION' for kind in TRACERS)}")
    claims.traced.append(value)


def _put_crashes(claims: Claims, value: str) -> None:
    claims.crashes = value


def _put_target(claims: Claims, _value: str) -> None:
    claims.is_target = True


KEYS: dict[str, Callable[[Claims, str], None]] = {
    "success": lambda claims, _: _put_verdict(claims, Verdict.RAN),
    "failure": lambda claims, _: _put_verdict(claims, Verdict.REJECTED),
    "msg": _put_message,
    "hook": lambda claims, value: claims.hooks.append(value),
    "input": _put_input,
    "retval": _put_retval,
    "global": _put_global,
    "needs": lambda claims, value: claims.needs.append(value),
    "repeat": _put_repeat,
    "with": lambda claims, value: claims.companions.append(value),
    "traced": _put_traced,
    "errno": _put_errno,
    "on": _put_on,
    "crashes": _put_crashes,
    "target": _put_target,
}


def _pair(value: str, form: str) -> tuple[str, str]:
    name, equals, rest = value.partition("=")
    if not equals or not name or not rest:
        raise ValueError(f"should read {form}")
    return name.strip(), rest.strip()


# ---- integer expressions in C syntax --------------------------------------------------------

_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
    ast.LShift: lambda left, right: left << (right & 63),
    ast.RShift: lambda left, right: left >> (right & 63),
}
_UNARY: dict[type[ast.unaryop], Callable[[int], int]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}


def parse_integer(text: str) -> int:
    """Value of a constant expression: "64", "-1", "0x5ULL", "(1 << 4) | 2", "XDP_DROP".

    Raises ValueError.
    """
    try:
        tree = ast.parse(_C_NUMBER.sub(r"\1", text.strip()), mode="eval")
    except (SyntaxError, ValueError):
        raise ValueError(f"{text!r} is not an integer expression") from None
    return _evaluate(tree.body, text)


def _evaluate(node: ast.expr, text: str) -> int:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_evaluate(operand, text))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_evaluate(left, text), _evaluate(right, text))
    raise ValueError(f"{text!r} is not an integer expression")
