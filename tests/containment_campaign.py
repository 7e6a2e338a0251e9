# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Every case against the verifier of a booted kernel: see containment.py for what is judged."""

import argparse

import containment
from verifier_logs import logs_of

from harness import config, suite
from harness.bpf.environment import NOWHERE
from harness.environments import environment_of, needs_kernel
from harness.series import series_of
from harness.sim.run import load
from harness.target.base import open_target


def campaign(target, cases):
    """All cases on what one kernel's verifier said: Outcome. Rejected programs have no log."""
    series = series_of(target.release)
    logs = logs_of(target, sorted({case.object for case in cases}))
    total = containment.Outcome()
    for case in cases:
        if case.program in logs[case.object]:
            environment = environment_of(target.release) if _asks(case) else NOWHERE
            total.add(containment.check(case, series, logs[case.object], environment))
    return total


def _asks(case):
    return needs_kernel(load(case.object))


def main():
    """The campaign on one kernel: `python tests/containment_campaign.py --kernel 6.12`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    config.add_arguments(parser, ["kernel", "cpus", "memory", "accelerator", "timeout_scale"])
    settings = config.resolve(parser.parse_args())
    for kernel in settings.kernel or ("default",):
        with open_target(f"vm:{kernel}", settings) as target:
            found = campaign(target, suite.collect())
        print(f"{target.name}: {found.numbers} numbers and {found.pointers} pointers before")
        print(f"{found.judged} instructions; {found.beyond} behind the end of a path,")
        print(f"{found.holes} behind tail calls of subprograms that the kernel trusts")
        print(f"violations: {len(found.violations)}", *found.violations[:20], sep="\n")


if __name__ == "__main__":
    main()
