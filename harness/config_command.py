# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow config`: every setting, its value and where the value came from."""

import argparse
import json

from harness.config import TABLE, add_arguments, resolve
from harness.errors import Exit


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb `config` to the command line's tree."""
    parser = commands.add_parser("config", help="print every setting, its value and its source")
    # the settings' own --json FILE would clash with the verb's --json
    add_arguments(parser, [setting.name for setting in TABLE if setting.name != "json"])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or JSON: {name: {"value", "source"}}."""
    settings = resolve(arguments)
    rows = {s.name: (getattr(settings, s.name), settings.source(s.name)) for s in TABLE}
    if arguments.json:
        plain = {
            name: {"value": _plain(value), "source": source}
            for name, (value, source) in rows.items()
        }
        print(json.dumps(plain, indent=2))
        return Exit.OK
    for name, (value, source) in rows.items():
        print(f"{name:14} {_text(value):28} {source}")
    return Exit.OK


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)
