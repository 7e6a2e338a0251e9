# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is known in front of and behind each assertion: the model's against the kernel's.

Neither may know more than the other: what the kernel knows and the model does not would have the
model refuse programs, and the other way round.
"""

import pytest
from verifier_logs import logs_of

from harness import config, suite
from harness.bpf.elf import read_object
from harness.build import PROGS
from harness.environments import environment_of
from harness.series import series_of
from harness.sim import semantics
from harness.target.base import open_target
from harness.verify import knowledge, loading
from harness.verify.predict import DEFAULT_BUDGET
from harness.verify.prediction import Subject

TOPICS = ("assert", "packet")


def compared(path, name, log, series, environment):
    """(assertions that both sides came by, what they disagree on) of one program."""
    obj, profile = read_object(path), semantics.profile(series)
    linked = loading.linked(obj, name, profile, environment)
    places = knowledge.assertions(linked)
    model = knowledge.of_model(Subject(obj, linked, profile), DEFAULT_BUDGET, places)
    kernel = knowledge.of_kernel(log, places)
    met, wrong = 0, []
    for place in places:
        mine, theirs = model[place.pc], kernel[place.pc]
        if bool(mine.after) != bool(theirs.after):
            wrong.append(f"{path}: {name} {place.pc}: only one of them comes behind it")
        met += bool(mine.after and theirs.after)
        for when in ("before", "after"):
            sides = getattr(mine, when), getattr(theirs, when)
            for register in knowledge.disagreements(*sides, few=(mine.few, theirs.few)):
                one, other = (
                    side.values(register, after=when == "after") for side in (mine, theirs)
                )
                wrong.append(f"{path}: {name} {place.pc} {when} {register}: {one} {other}")
    return met, wrong


@pytest.mark.kernel
def test_model_and_kernel_learn_the_same(request):
    """Scalars: every bound and bit. Pointers: offset, proven bytes, NULL."""
    settings = config.resolve(request.config.option)
    if not settings.kernel:
        pytest.skip("it pushes objects into guests: --kernel")
    cases = suite.collect([PROGS / topic for topic in TOPICS])
    objects = sorted({case.object for case in cases})
    for kernel in settings.kernel:
        with open_target(f"vm:{kernel}", settings) as target:
            logs = logs_of(target, objects)
            release = target.release
        series, environment = series_of(release), environment_of(release)
        met, wrong = 0, []
        for path, programs in logs.items():
            for name, log in programs.items():
                more, found = compared(path, name, log, series, environment)
                met, wrong = met + more, wrong + found
        print(f"{kernel}: {met} assertions, {len(wrong)} differences")
        assert met > 100, "too little was compared to mean anything"
        assert not wrong, "\n".join(wrong[:10])
