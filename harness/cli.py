# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The command line's tree. What a verb does is in the module that its row names."""

import argparse
import importlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from harness import __version__
from harness.errors import BpfthrowError, Exit, UsageError, WorldError

# verb -> module with add_parser(subparsers) and run(arguments)
VERBS = {
    "run": "harness.run_command",
    "compare": "harness.regress_command",
    "repro": "harness.repro_command",
    "sim": "harness.sim.command",
    "verify": "harness.ranges_command",
    "disasm": "harness.disasm_command",
    "asm": "harness.asm_command",
    "bugs": "harness.bugs_command",
    "conformance": "harness.conformance.command",
    "vm": "harness.target.vm_command",
    "kernels": "harness.kernels.command",
    "doctor": "harness.doctor",
    "setup": "harness.setup_command",
    "config": "harness.config_command",
    "bench": "harness.bench",
}
# as a shell reports SIGPIPE: `run | head` must not look like a good run
_PIPE_CLOSED = 141
_EPILOG = """\
examples:
  bpfthrow doctor                              would a run work here?
  bpfthrow run                                 all cases of progs/ on the default kernel
  bpfthrow run my.bpf.c --kernel 6.12 --kernel 7.3
  bpfthrow sim my.bpf.o --prog main --packet 'eth ipv4 udp' --trace
  bpfthrow vm up --kernel 7.3 && bpfthrow vm ssh

exit codes:
  0 all agree   1 a difference or a failed expectation   2 usage
  128 a machine was lost or could not be had   130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code. No traceback for anything but a bug of ours."""
    given = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, _terminated)
    try:
        # argparse would let words behind "--" fill optional positions in front of it
        given, behind = _split(given)
        chosen = build_parser(given).parse_args(given)
        chosen.behind = behind
        return int(importlib.import_module(VERBS[chosen.verb]).run(chosen))
    except BpfthrowError as error:
        return _report(error)
    except KeyboardInterrupt:
        print("bpfthrow: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # the reader (head, less) has gone; nothing more to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except OSError as error:
        # a full disk, a directory taken away: the world's fault, and it has a name
        where = f"{error.filename}: " if error.filename else ""
        return _report(WorldError(f"{where}{error.strerror or error}", fix="bpfthrow doctor"))


def build_parser(given: list[str]) -> argparse.ArgumentParser:
    """The parser; only the verb that `given` starts with is imported, else all of them."""
    parser = argparse.ArgumentParser(
        prog="bpfthrow",
        description="Real-kernel tests for BPF exceptions, held against a simulator.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bpfthrow {__version__}")
    subparsers = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    verbs = [given[0]] if given and given[0] in VERBS else list(VERBS)
    for verb in verbs:
        importlib.import_module(VERBS[verb]).add_parser(subparsers)
    return parser


def _split(given: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in given:
        return given, []
    at = given.index("--")
    if given[:2] != ["vm", "ssh"]:
        raise UsageError("only `vm ssh` takes a command behind --")
    return given[:at], given[at + 1 :]


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    # as Ctrl-C: every context manager ends what it began
    raise KeyboardInterrupt


def _report(error: BpfthrowError) -> int:
    if isinstance(error, WorldError) and error.evidence:
        print(error.evidence.rstrip(), file=sys.stderr)
    print(f"bpfthrow: {error}", file=sys.stderr)
    return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
