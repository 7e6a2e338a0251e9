# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the verifier model adds to a kernel's answer: the reason in this program, or a prediction.

A reason is shown only where the model refuses in the kernel's own words; nothing of it changes what
a kernel said.
"""

from dataclasses import replace

from harness import logmatch
from harness.bpf.elf import Object
from harness.bpf.environment import NOWHERE
from harness.bpf.program import Program
from harness.environments import environment_of, environment_of_series
from harness.repro_report import Answer
from harness.series import SERIES, series_of
from harness.verify import explain
from harness.verify.predict import predict
from harness.verify.prediction import Verdict

# more would take longer than to ask the kernel did
_BUDGET = 20_000


def explained(answer: Answer, obj: Object, name: str, program: Program | None) -> Answer:
    """The answer with the model's reason and remedy, where it refuses the same way."""
    if answer.evidence is None:
        return answer
    release = answer.seen.provenance.kernel
    series, environment = series_of(release or answer.kernel), environment_of(release)
    found = predict(obj, name, series, environment=environment, budget=_BUDGET)
    if found.verdict is not Verdict.REJECT or not found.message:
        return answer
    if logmatch.missing([found.message], answer.seen.log):
        return answer
    told = explain.Answer(obj.path, name, "", (series,), found, program)
    return replace(answer, reason=explain.reason(told), remedy=found.fix)


def predicted(obj: Object, name: str) -> list[str]:
    """What the model says of each series, one line each, where no kernel has answered."""
    rows = ["no kernel answered; the verifier model, which may say unknown, predicts:"]
    for profile in SERIES:
        environment = environment_of_series(profile) or NOWHERE
        found = predict(obj, name, profile, environment=environment)
        what = f": {found.category}: {explain.words(found) or found.why}" if found.category else ""
        why = f": {found.why}" if not what and found.why else ""
        rows.append(f"  {profile}: {found.verdict}{what}{why}")
    return rows
