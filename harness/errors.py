# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Two roots of errors: the caller's mistake and the world's.

Owns the exit codes. A message names what failed, where (file, offset or line) and, in `fix`,
how to go on. No traceback ever reaches a user of the command line for one of these.
"""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every bpfthrow command."""

    OK = 0
    DIFFERENCE = 1  # a difference or a failed expectation
    USAGE = 2  # the caller's mistake: argparse's own code too
    LOST = 128  # a machine was lost or could not be had
    INTERRUPTED = 130  # Ctrl-C


class BpfthrowError(Exception):
    """Common root: a message and, where one is known, the way to go on."""

    exit_code = Exit.USAGE

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message


class UsageError(BpfthrowError):
    """The caller's mistake: a wrong name, a broken file, an unknown option."""


class ObjectError(UsageError):
    """A BPF object that cannot be used: not ELF, truncated, without BTF, ..."""


class ToolMissingError(UsageError):
    """A program that is needed is not installed here: no kernel can be booted, say."""


class WorldError(BpfthrowError):
    """The world's fault: carries the evidence (console, stderr, log) for the report."""

    exit_code = Exit.LOST

    def __init__(self, message: str, *, fix: str = "", evidence: str = "") -> None:
        super().__init__(message, fix=fix)
        self.evidence = evidence


class MachineLostError(WorldError):
    """A machine went away or could not be had: infrastructure, never a test result."""
