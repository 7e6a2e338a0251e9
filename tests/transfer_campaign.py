# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The number domain against verifiers: random programs, and what a kernel concludes of them.

python tests/transfer_campaign.py --kernel 6.12 --kernel 7.3 --programs 200
"""

import argparse

import transfer_witness
from verifier_logs import logs_of_programs

from harness import config
from harness.series import series_of
from harness.target.base import open_target


def campaign(target, seeds):
    """What one kernel printed, compared: transfer_witness.Comparison."""
    programs = [transfer_witness.random_program(seed) for seed in seeds]
    logs, total = logs_of_programs(target, programs), transfer_witness.Comparison()
    for program in programs:
        if program.name in logs:
            log = logs[program.name]
            total.add(transfer_witness.compare(log, program, series_of(target.release)))
    return total


def main():
    """Print what differs, and how much did not."""
    parser = argparse.ArgumentParser(description=__doc__)
    config.add_arguments(parser, ["kernel", "cpus", "memory", "accelerator", "timeout_scale"])
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="seed of the first program")
    arguments = parser.parse_args()
    settings = config.resolve(arguments)
    for kernel in settings.kernel or ("default",):
        with open_target(f"vm:{kernel}", settings) as target:
            seeds = range(arguments.first, arguments.first + arguments.programs)
            found = campaign(target, seeds)
        print(f"{target.release}: the same {found.same.total()}, different {len(found.other)}")
        print(*found.other[:20], sep="\n")


if __name__ == "__main__":
    main()
