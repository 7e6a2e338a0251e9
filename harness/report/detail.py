# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""One result in full: what differs and why it must not, both observations, the evidence, how to
see it again. Plain text, fit for a mail.
"""

import os
import re
import shlex
from collections.abc import Iterable, Sequence

from harness.compare import has_say
from harness.logmatch import useful_lines
from harness.model import Observation, Result, Verdict
from harness.report.outcome import RunHeader, again, outcome, value

# evidence is cut to this many lines; all of it is in the JSON
_EVIDENCE_LINES = 40
# "vm-6.12" is the guest of kernel 6.12
_KINDS = re.compile(r"^vm-(.+)")


def detail(result: Result, header: RunHeader | None = None, *, with_evidence: bool = True) -> str:
    """The text for one result, ending without a newline."""
    case, observed = result.case, result.observed
    tested = (header or RunHeader()).target(result.target)
    facts = tested.facts() or observed.provenance.kernel
    lines = [f"{case.id} [{case.hook}] on {result.target}{f' ({facts})' if facts else ''}"]
    for item in result.differences:
        left, right = item.between
        lines += _block(f"{item.path}: {left} says", item.expected, indent=2)
        lines += _block(f"{' ' * len(item.path)}  {right} says", item.observed, indent=2)
        lines += [f"    rule: {item.rule}"]
    if result.again is not None:
        lines += [f"  {outcome(result)}: {again(result)}"]
    simulator, kernel = says(result)
    lines += [f"  simulator: {simulator}", f"  kernel:    {kernel}"]
    for title, text in evidence(result) if with_evidence else ():
        lines += [f"  {title}:", *(f"    {line}" for line in text.splitlines())]
    lines += [f"  replay: {replay(result, tested.spec)}"]
    return "\n".join(lines)


def says(result: Result) -> tuple[str, str]:
    """What the simulator and the kernel answered, in words."""
    return _described(result), _observation(result.observed, result.case.hook)


def losses(results: Iterable[Result]) -> list[str]:
    """A text for each distinct reason why a machine was lost: all of it, and its last words."""
    reasons: dict[tuple[str, str], Result] = {}
    for result in results:
        if result.observed.verdict is Verdict.LOST:
            reasons.setdefault((result.target, result.observed.message), result)
    return [
        "\n".join(
            [
                *_block(f"{target} lost:", message, indent=0),
                *(
                    line
                    for title, text in evidence(result)
                    for line in _block(f"{title}:", f"\n{text}", indent=2)
                ),
            ]
        )
        for (target, message), result in reasons.items()
    ]


def evidence(result: Result) -> list[tuple[str, str]]:
    """Title and text of the simulator's trace, the loader's log and the kernel log, if any.

    The log of a program that was loaded as expected tells nothing, and is left out.
    """
    observed, simulated = result.observed, result.simulated
    parts = []
    if simulated is not None and simulated.trace:
        parts.append(("simulator's trace", _cut(simulated.trace.splitlines())))
    if observed.log and observed.verdict is Verdict.LOST:
        # the console of a guest that did not come up, or what the agent said at last
        parts.append(("last words", _cut(observed.log.splitlines())))
    elif observed.log and observed.verdict is not Verdict.RAN:
        parts.append(("verifier log", "\n".join(useful_lines(observed.log))))
    if observed.kernel_log:
        parts.append(("kernel log", _cut(observed.kernel_log.splitlines())))
    return parts


def replay(result: Result, spec: str = "") -> str:
    """A command that runs just this case on just this hook and target.

    `spec`: what to write after --kernel or --target; "": the target's name says it.
    """
    case = result.case
    words = ["bpfthrow", "run", _short(case.claimed_of or case.object)]
    words += ["--expect", _short(case.claimed_in)] if case.claimed_in else []
    words += ["-k", case.id, "--hook", case.hook]
    spec = spec or _KINDS.sub(lambda match: match[1], result.target)
    option = "--target" if spec == "local" or spec.startswith("ssh") else "--kernel"
    return shlex.join([*words, option, spec.replace("ssh-", "ssh:", 1)])


def _short(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _described(result: Result) -> str:
    if result.simulated is None:
        return "not asked: refusing a program is the verifier's business"
    if not has_say(result.simulated):
        return f"has no say: {result.simulated.message or 'no reason given'}"
    verdict = _observation(result.simulated, result.case.hook)
    profile = result.simulated.provenance.kernel
    return f"{verdict} (profile {profile})" if profile else verdict


def _observation(observation: Observation, hook: str) -> str:
    if observation.verdict is not Verdict.RAN:
        errno = f" (errno {observation.errno})" if observation.errno else ""
        message = f": {observation.message}" if observation.message else ""
        return f"{observation.verdict}{errno}{message}"
    parts = [f"ran: {value(observation, hook)}"]
    if observation.data_out is not None:
        parts.append(f"{len(observation.data_out)} bytes out")
    return ", ".join(parts)


def _block(title: str, text: str, indent: int) -> list[str]:
    first, *rest = text.splitlines() or [""]
    pad = " " * indent
    return [f"{pad}{title} {first}", *(f"{pad}    {line}" for line in rest)]


def _cut(lines: Sequence[str]) -> str:
    if len(lines) <= _EVIDENCE_LINES:
        return "\n".join(lines)
    half = _EVIDENCE_LINES // 2
    omitted = f"({len(lines) - 2 * half} lines omitted, all of them in the JSON)"
    return "\n".join([*lines[:half], omitted, *lines[-half:]])
