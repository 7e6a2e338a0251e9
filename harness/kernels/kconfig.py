# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Configuration fragments: what a kernel for guests needs, each option with its reason.

The reason of an option is the comment above it, up to an empty line. Owns reading fragments and
holding a finished .config against them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.paths import VM_DIR
from harness.reading import read_asked

_MAX_BYTES = 8 << 20
# of every kernel that is built here
FRAGMENT = VM_DIR / "guest.config"
_SET = re.compile(r"(CONFIG_\w+)=(.+)")
_UNSET = re.compile(r"# (CONFIG_\w+) is not set")
# without these no guest starts
_BOOT = (
    "CONFIG_VIRTIO_PCI", "CONFIG_VIRTIO_BLK", "CONFIG_VIRTIO_CONSOLE", "CONFIG_EROFS_FS",
    "CONFIG_BLK_DEV_INITRD", "CONFIG_BINFMT_ELF",
)  # fmt: skip
# without these no program throws in it; of a kernel that is not ours the guest is asked
_THROW = ("CONFIG_BPF_SYSCALL", "CONFIG_BPF_JIT", "CONFIG_UNWINDER_ORC", "CONFIG_DEBUG_INFO_BTF")


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
        lines = read_asked(path, _MAX_BYTES).decode().splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not text: {error}") from error
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


def check_kept(ours: list[Option], theirs: list[Option]) -> None:
    """UsageError for a fragment that turns off what nothing works without."""
    reasons = {option.name: option for option in ours if option.name in (*_BOOT, *_THROW)}
    last = {option.name: option for option in theirs}
    off = [each for each in last.values() if each.name in reasons and each.value == "n"]
    if off:
        lines = [f"\n  {each.where}: {each.name} ({reasons[each.name].why})" for each in off]
        raise UsageError(
            f"the fragment turns off what every guest needs:{''.join(lines)}",
            fix="leave these out of --config",
        )


def lacking(config: Path, ours: list[Option], *, modules: bool) -> list[Option]:
    """What a kernel of somebody else's would need to boot as a guest, and has not.

    `modules`: it has its modules with it, which are as good as built in.
    """
    have, good = values(config), ("y", "m") if modules else ("y",)
    return [o for o in ours if o.name in _BOOT and have.get(o.name) not in good]
