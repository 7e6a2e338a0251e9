# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The agent: runs on the machine under test, answers JSON lines, and is pushed as one zipapp.

It imports the standard library, harness.{model,errors,wire,hooks} and, for live hooks only,
pyroute2. It judges nothing: it loads, attaches, feeds, and reports what it saw.

The records of modules that every start imports are NamedTuples: under emulation it takes 8 ms to
make a frozen dataclass.
"""
