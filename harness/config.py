# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Settings: one table that feeds the command line, pytest, the environment and the file.

Owns names, defaults, precedence and provenance. Precedence: command line, then BPFTHROW_*, then
bpfthrow.toml or [tool.bpfthrow] of pyproject.toml, then the default. Does not know what a kernel
or a hook is good for: names are checked where they are used.
"""

import argparse
import dataclasses
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError

ENVIRONMENT_PREFIX = "BPFTHROW_"
# prefix of the attributes in an argparse or pytest namespace, so that no other plugin's clash
_DEST = "bpfthrow_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its value; `sources` says where each came from."""

    # kernels by catalogue name, pattern, image path or "tree:PATH"; empty: the default one
    kernel: tuple[str, ...] = ()
    # where cases run: "vm", "local" or "ssh:HOST"
    target: str = "vm"
    # hooks to run on; empty: every hook of the case's program type
    hook: tuple[str, ...] = ()
    # simulator profile; "": the one that belongs to the kernel
    profile: str = ""
    cpus: int = 1
    # MiB of the guest
    memory: int = 512
    keep_vm: bool = False
    # boot every guest anew; save none
    cold: bool = False
    # ask the verifier what it counted for each program
    statistics: bool = False
    # where consoles, logs and captures of failed cases go
    artifacts: Path = Path("build/artifacts")
    # times that a failed case is tried again in a fresh guest: 0 or 1
    retries: int = 1
    # "run": one guest for all cases; "case": a fresh one for each
    isolate: str = "run"
    # factor on every deadline
    timeout_scale: float = 1.0
    json: Path | None = None
    junit: Path | None = None
    html: Path | None = None
    markdown: Path | None = None
    # "auto" probes; "kvm" and "tcg" insist
    accelerator: str = "auto"
    # setting name -> "default", "file PATH", "environment BPFTHROW_X" or "command line"
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    def source(self, name: str) -> str:
        """Where the value of `name` came from."""
        return self.sources.get(name, "default")


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    # field of Settings; the flag has dashes for underscores
    name: str
    # from the text of a flag or a variable; raises ValueError saying what is wanted
    parse: Callable[[str], Any]
    help: str
    metavar: str = ""
    # several values: repeatable flag, list in the file, comma or blank in the environment
    many: bool = False
    # bare flag, and its --no- form
    switch: bool = False

    @property
    def flag(self) -> str:
        """The flag, as typed."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable's name."""
        return ENVIRONMENT_PREFIX + self.name.upper()


def _text(text: str) -> str:
    if not text:
        raise ValueError("not empty")
    return text


def _target(text: str) -> str:
    if text in ("vm", "local") or (text.startswith("ssh:") and len(text) > len("ssh:")):
        return text
    raise ValueError("vm, local or ssh:HOST")


def _accelerator(text: str) -> str:
    if text not in ("auto", "kvm", "tcg"):
        raise ValueError("auto, kvm or tcg")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number, 1 or more")
    return int(text)


def _isolate(text: str) -> str:
    if text not in ("run", "case"):
        raise ValueError("run or case")
    return text


def _retries(text: str) -> int:
    # more than one would be looking for a good answer
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return int(text)


def _memory(text: str) -> int:
    if not text.isdecimal() or int(text) < 64:
        raise ValueError("a whole number of MiB, 64 or more")
    return int(text)


def _factor(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.01 <= value <= 1000:
        raise ValueError("a factor between 0.01 and 1000")
    return value


def _switch(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in known:
        raise ValueError("one of " + ", ".join(known))
    return known[text.lower()]


def _path(text: str) -> Path:
    return Path(_text(text)).expanduser()


TABLE: tuple[Setting, ...] = (
    Setting(
        "kernel",
        _text,
        "kernel: name, pattern, range (6.12..7.3), build:NAME, tree:PATH, image",
        "K",
        many=True,
    ),
    Setting("target", _target, "where cases run: vm, local or ssh:HOST", "WHERE"),
    Setting("hook", _text, "run on this hook only", "HOOK", many=True),
    Setting("profile", _text, "simulator profile instead of the kernel's own", "P"),
    Setting("cpus", _positive, "processors of the guest", "N"),
    Setting("memory", _memory, "memory of the guest in MiB", "MIB"),
    Setting("keep_vm", _switch, "leave the guest running afterwards", switch=True),
    Setting("cold", _switch, "boot guests anew instead of restoring saved ones", switch=True),
    Setting("statistics", _switch, "keep what the verifier counted in each log", switch=True),
    Setting("artifacts", _path, "directory for consoles, logs and captures", "DIR"),
    Setting("retries", _retries, "try a failed case again in a fresh guest: 0 or 1", "N"),
    Setting("isolate", _isolate, "run: one guest for a run; case: a fresh one for each", "WHAT"),
    Setting("timeout_scale", _factor, "multiply every deadline by this", "X"),
    Setting("json", _path, "write the results as JSON", "FILE"),
    Setting("junit", _path, "write the results as JUnit XML", "FILE"),
    Setting("html", _path, "write the matrix as one HTML page", "FILE"),
    Setting("markdown", _path, "write the matrix as Markdown", "FILE"),
    Setting("accelerator", _accelerator, "auto (probed), kvm or tcg", "A"),
)
BY_NAME: dict[str, Setting] = {setting.name: setting for setting in TABLE}


def add_arguments(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add the flags of the settings `names` to `parser`; resolve() reads them back."""
    for name in names:
        add_flag(parser.add_argument, BY_NAME[name])


def add_flag(add: Callable[..., Any], setting: Setting) -> None:
    """Add one setting's flag through `add` (argparse's add_argument or pytest's addoption)."""
    dest = _DEST + setting.name
    if setting.switch:
        no = setting.flag.replace("--", "--no-", 1)
        add(setting.flag, dest=dest, action="store_const", const="yes", help=setting.help)
        add(no, dest=dest, action="store_const", const="no", help=argparse.SUPPRESS)
        return
    action = "append" if setting.many else "store"
    add(setting.flag, dest=dest, action=action, metavar=setting.metavar, help=setting.help)


def resolve(
    namespace: object = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """Settle every setting from `namespace` (parsed flags), environment, file and defaults.

    Raises UsageError for a bad value, an unknown key of the file or an unknown BPFTHROW_*.
    """
    environ = os.environ if environ is None else environ
    _check_environment(environ)
    path, table = find_file(directory or Path.cwd())
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting in TABLE:
        given = getattr(namespace, _DEST + setting.name, None)
        if given is not None:
            words, source = given if setting.many else [given], "command line"
        elif environ.get(setting.variable):
            words = _split(setting, environ[setting.variable])
            source = f"environment {setting.variable}"
        elif setting.name in table:
            words = _words(setting, table[setting.name], f"{path}: {setting.name}")
            source = f"file {path}"
        else:
            continue
        where = setting.flag if source == "command line" else source
        if source.startswith("file"):
            where = f"{path}: {setting.name}"
        values[setting.name] = _value(setting, words, where)
        sources[setting.name] = source
    return Settings(**values, sources=sources)


def find_file(directory: Path) -> tuple[Path | None, dict[str, Any]]:
    """Nearest bpfthrow.toml or pyproject.toml with [tool.bpfthrow], from `directory` upwards.

    Returns the path (None: there is no such file) and its table, keys with underscores.
    """
    for folder in (directory.absolute(), *directory.absolute().parents):
        own, shared = folder / "bpfthrow.toml", folder / "pyproject.toml"
        in_own = read_toml(own) if own.is_file() else None
        in_shared = None
        if shared.is_file():
            in_shared = read_toml(shared).get("tool", {}).get("bpfthrow")
        if in_own is not None and in_shared is not None:
            raise UsageError(
                f"{own} and [tool.bpfthrow] of {shared} both hold settings",
                fix="keep one of them",
            )
        if in_own is not None:
            return own, _known(own, in_own)
        if in_shared is not None:
            return shared, _known(shared, in_shared)
    return None, {}


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises UsageError with the line when it is broken or unreadable."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", fix="correct the TOML") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", fix="check the path") from error


def _known(path: Path, table: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise UsageError(f"{path}: bpfthrow is not a table", fix="write [tool.bpfthrow]")
    renamed = {key.replace("-", "_"): value for key, value in table.items()}
    unknown = sorted(set(renamed) - set(BY_NAME))
    if unknown:
        raise UsageError(
            f"{path}: unknown setting {unknown[0]!r}", fix="known: " + ", ".join(BY_NAME)
        )
    return renamed


def _check_environment(environ: Mapping[str, str]) -> None:
    known = {setting.variable for setting in TABLE}
    unknown = sorted(k for k in environ if k.startswith(ENVIRONMENT_PREFIX) and k not in known)
    if unknown:
        raise UsageError(
            f"unknown environment variable {unknown[0]}",
            fix="unset it; known: " + ", ".join(setting.variable for setting in TABLE),
        )


def _split(setting: Setting, text: str) -> list[str]:
    return text.replace(",", " ").split() if setting.many else [text]


def _words(setting: Setting, value: Any, where: str) -> list[str]:
    # The file's own types are kept strict: true for a switch, numbers for numbers.
    items = value if setting.many and isinstance(value, list) else [value]
    default = Settings.__dataclass_fields__[setting.name].default
    kinds: tuple[type, ...] = (str,)
    if isinstance(default, bool):
        kinds = (bool,)
    elif isinstance(default, (int, float)):
        kinds = (int, float)
    for item in items:
        if not isinstance(item, kinds) or (isinstance(item, bool) and bool not in kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise UsageError(f"{where} = {item!r}: wrong type", fix=f"give {wanted}")
    return [str(item) for item in items]


def _value(setting: Setting, words: Sequence[str], where: str) -> Any:
    parsed = []
    for word in words:
        try:
            parsed.append(setting.parse(word))
        except ValueError as error:
            raise UsageError(f"{where} = {word!r}", fix=f"give {error}") from error
    return tuple(parsed) if setting.many else parsed[-1]
