# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Kernel splats: warnings, oopses, lockdep and sanitizer reports in a window of the kernel log.

Owns the rules file (vm/splats.toml) and the search. A pure function of text: reading the log of a
machine is the target's business.
"""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import read_toml
from harness.errors import UsageError, WorldError
from harness.paths import VM_DIR

RULES_FILE = VM_DIR / "splats.toml"

# What a line begins with: <level>, /dev/kmsg's "level,sequence,time,flags;", [time][ caller].
_PREFIX = re.compile(r"^(?:<\d+>)?(?:\d+,\d+,\d+,[^;]*;)?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?")
_BLOCK_START = re.compile(r"^-+\[ cut here \]-+")
_BLOCK_END = re.compile(r"^---\[ end trace|^ *</TASK>")
_FUNCTION = re.compile(r"^(?:RIP: [0-9a-f]{4}:| +)([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x")
# The hash of a BPF program's instructions in its symbol, the number of a trampoline in its.
_PROGRAM_TAG = re.compile(r"^(bpf_prog|bpf_trampoline)_(?:[0-9a-f]{16}|\d+)")
# An RCU stall shows its own thread first, and what stalled behind it.
_ASIDE = re.compile(r"^rcu: RCU grace-period kthread stack dump")
_ASIDE_END = re.compile(r"^ *</TASK>")
# lockdep shows how locks were taken earlier, and then where it complains
_RESTART = "stack backtrace:"
# Functions that report, and those that are on top of every report of their kind.
_REPORTERS = re.compile(
    r"dump_stack(_lvl)?|show_stack|print_report|(__)?kasan_\w+|__asan_\w+|kcsan_\w+|__tsan_\w+"
    r"|ubsan_\w+|__ubsan_\w+|print_\w*(bug|deadlock|scenario|violation)\w*|check_noncircular"
    r"|check_prev_add|validate_chain|mark_lock\w*|(__)?lock_acquire|__schedule_bug|panic|vpanic"
    r"|(?:__)?might_resched|__might_sleep"
)
# longest report without an end marker
_BLOCK_LINES = 120
# how a fingerprint is written in a description
_IN, _BELOW = "  in ", " < "
# functions in a fingerprint
_FUNCTIONS = 5
# further denied lines ("WARNING: ... at") quoted below the first
_QUOTED = 3


@dataclass(frozen=True, slots=True)
class Deny:
    """A line that starts a splat."""

    name: str
    pattern: re.Pattern[str]
    # follows from the splat before it: not a splat of its own unless alone
    consequence: bool = False
    # comes again as long as the trouble lasts
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Allow:
    """A known splat that is not counted until `expires`."""

    pattern: re.Pattern[str]
    reason: str
    link: str
    expires: dt.date


@dataclass(frozen=True, slots=True)
class Rules:
    """The two lists of vm/splats.toml."""

    deny: tuple[Deny, ...]
    allow: tuple[Allow, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """One splat as it stands in the log, without time stamps."""

    lines: tuple[str, ...]
    # fingerprint() of the lines
    functions: tuple[str, ...]


# key of an entry -> its type; the keys after the bar are optional
_DENY_KEYS = {"name": str, "pattern": str}
_DENY_OPTIONAL = {"consequence": bool, "repeats": bool}
_ALLOW_KEYS = {"pattern": str, "reason": str, "link": str, "expires": dt.date}


def load_rules(path: Path = RULES_FILE) -> Rules:
    """Read the rules file. Raises UsageError for unknown or missing keys and bad patterns."""
    data = read_toml(path)
    _check_keys(f"{path}", data, {}, {"deny": list, "allow": list})
    deny = [_deny(f"{path}: deny[{i}]", e) for i, e in enumerate(data.get("deny", []))]
    allow = [_allow(f"{path}: allow[{i}]", e) for i, e in enumerate(data.get("allow", []))]
    if not deny:
        raise UsageError(f"{path}: no deny entry", fix="a search for nothing finds nothing")
    return Rules(tuple(deny), tuple(allow))


def find_splats(log: str | None, rules: Rules, today: dt.date) -> tuple[str, ...]:
    """Every splat in `log` that is not allowed, each as its first lines and its functions.

    `log` is text of dmesg, a console or /dev/kmsg. Raises WorldError when it is None (the log
    could not be read: that must not look clean) and UsageError when an allow entry has expired.
    """
    if log is None:
        raise WorldError("the kernel log could not be read: nobody can say that it is clean")
    _check_expiry(rules, today)
    found: list[str] = []
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for starter, block in _blocks(log, rules):
        text = "\n".join(block)
        key = (starter.name, fingerprint(block))
        if starter.repeats and key in seen:
            continue
        seen.add(key)
        if any(entry.pattern.search(text) for entry in rules.allow):
            continue
        if not (starter.consequence and found):
            found.append(_describe(block, rules))
    return tuple(found)


def plain_lines(log: str) -> list[str]:
    """Lines of a log without time stamps, levels and callers."""
    return [_PREFIX.sub("", raw.rstrip("\r")) for raw in log.split("\n")]


def reports(log: str, rules: Rules) -> tuple[Report, ...]:
    """Every splat in `log`, allowed or not; what only follows from another one is left out."""
    found: list[Report] = []
    for starter, block in _blocks(log, rules):
        if not (starter.consequence and found):
            found.append(Report(tuple(block), fingerprint(block)))
    return tuple(found)


def _blocks(log: str, rules: Rules) -> list[tuple[Deny, list[str]]]:
    blocks: list[tuple[Deny, list[str]]] = []
    is_open = is_aside = False
    for line in plain_lines(log):
        if is_aside:
            is_aside = not _ASIDE_END.match(line)
        elif is_open and _ASIDE.match(line):
            is_aside = True
        elif _BLOCK_START.match(line):
            is_open = False
        elif is_open:
            block = blocks[-1][1]
            block.append(line)
            is_open = not _BLOCK_END.match(line) and len(block) < _BLOCK_LINES
        elif entry := _denied(line, rules):
            blocks.append((entry, [line]))
            is_open = True
    return blocks


def _denied(line: str, rules: Rules) -> Deny | None:
    return next((entry for entry in rules.deny if entry.pattern.search(line)), None)


def _describe(block: Sequence[str], rules: Rules) -> str:
    quoted = [line for line in block[1:] if (d := _denied(line, rules)) and not d.consequence]
    text = [block[0], *(f"  {line}" for line in quoted[:_QUOTED])]
    functions = fingerprint(block)
    return "\n".join(text + ([f"{_IN}{_BELOW.join(functions)}"] if functions else []))


def described(text: str) -> Report:
    """The report that find_splats() described as `text`, as far as that tells."""
    lines = text.splitlines()
    functions: tuple[str, ...] = ()
    if lines[-1].startswith(_IN):
        functions = tuple(lines.pop().removeprefix(_IN).split(_BELOW))
    return Report(tuple(lines), functions)


def fingerprint(block: Iterable[str]) -> tuple[str, ...]:
    """The first functions of a report's call trace, innermost first.

    Guesses ("? f") and the functions that only report are left out.
    """
    names: list[str] = []
    for line in block:
        if line == _RESTART:
            names = []
        match = _FUNCTION.match(line)
        if match and not _REPORTERS.fullmatch(match[1].partition(".")[0]):
            name = _PROGRAM_TAG.sub(r"\1", match[1])
            if name not in names[-1:]:
                names.append(name)
    return tuple(names[:_FUNCTIONS])


def _check_expiry(rules: Rules, today: dt.date) -> None:
    for entry in rules.allow:
        if entry.expires <= today:
            raise UsageError(
                f"splat allowance {entry.pattern.pattern!r} expired on {entry.expires}"
                f" ({entry.reason}, {entry.link})",
                fix="look whether the kernel is fixed; remove the entry or renew its date",
            )


def _deny(where: str, entry: Any) -> Deny:
    _check_keys(where, entry, _DENY_KEYS, _DENY_OPTIONAL)
    pattern = _compile(where, entry["pattern"])
    flags = [entry.get(key, False) for key in _DENY_OPTIONAL]
    return Deny(entry["name"], pattern, *flags)


def _allow(where: str, entry: Any) -> Allow:
    _check_keys(where, entry, _ALLOW_KEYS, {})
    pattern = _compile(where, entry["pattern"])
    return Allow(pattern, entry["reason"], entry["link"], entry["expires"])


def _check_keys(
    where: str, table: Any, required: Mapping[str, type], optional: Mapping[str, type]
) -> None:
    if not isinstance(table, dict):
        raise UsageError(f"{where}: not a table", fix="write [[deny]] or [[allow]]")
    known = {**required, **optional}
    problems = [f"unknown key {key!r}" for key in table if key not in known]
    problems += [f"missing key {key!r}" for key in required if key not in table]
    problems += [
        f"{key!r} is not a {kind.__name__}"
        for key, kind in known.items()
        if key in table and (type(table[key]) is not kind or table[key] == "")
    ]
    if problems:
        raise UsageError(f"{where}: {problems[0]}", fix="known keys: " + ", ".join(known))


def _compile(where: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{where}: {error}", fix="correct the regular expression") from error
