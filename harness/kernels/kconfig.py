# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Configuration fragments: what a kernel for guests needs, each option with its reason.

The reason of an option is the comment above it, up to an empty line. Owns reading fragments and
holding a finished .config against them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

_SET = re.compile(r"(CONFIG_\w+)=(.+)")
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")


@dataclass(frozen=True, slots=True)
class Option:
    """One line of a fragment."""

    name: str
    # "y", "n", a number or a quoted string
    value: str
    why: str
    # file and line
    where: str


def read(path: Path) -> list[Option]:
    """The options of a fragment. UsageError for a line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    found: list[Option] = []
    reason: list[str] = []
    after_option = False
    for number, line in enumerate(lines, 1):
        option = _parse(line)
        if option is not None:
            found.append(Option(*option, " ".join(reason), f"{path.name}:{number}"))
        elif line.startswith("#"):
            # a comment after options begins a new reason
            reason = [*([] if after_option else reason), line.lstrip("# ")]
        elif not line.strip():
            reason = []
        else:
            raise UsageError(f"{path}:{number}: not an option: {line!r}", fix="CONFIG_NAME=value")
        after_option = option is not None
    return found


def _parse(line: str) -> tuple[str, str] | None:
    unset, given = _UNSET.fullmatch(line), _SET.fullmatch(line)
    if unset:
        return unset[1], "n"
    return (given[1], given[2].strip()) if given else None


def values(config: Path) -> dict[str, str]:
    """Options of a finished configuration; what is not set is absent."""
    pairs = (_SET.fullmatch(line) for line in config.read_text().splitlines())
    return {pair[1]: pair[2] for pair in pairs if pair}


def check(config: Path, wanted: list[Option]) -> None:
    """UsageError that lists the options of `wanted` that a finished configuration does not have.

    Kconfig drops silently what depends on something else that is off.
    """
    have = values(config)
    last = {option.name: option for option in wanted}
    wrong = [o for o in last.values() if have.get(o.name, "n") != o.value]
    if wrong:
        lines = [f"\n  {o.name}={o.value} ({o.why or o.where})" for o in wrong]
        raise UsageError(
            f"the configuration came out without what is needed:{''.join(lines)}",
            fix="see what these depend on (make menuconfig, /), and set it with --config FRAGMENT",
        )
