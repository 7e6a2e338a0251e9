# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The machine's own Debian mirror, read from its apt sources (sources.list(5), both formats).

Only reads. No host name of a mirror is known to this project: the machine's owner chose one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import UsageError

_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
_ALIASES = frozenset({"stable", "oldstable", "testing", "unstable", "sid"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One repository and suite of the machine's configuration."""

    uri: str
    suite: str
    components: tuple[str, ...]
    # path of a keyring, an embedded key block, or "" where nothing is said
    signed_by: str


@dataclass(frozen=True, slots=True)
class Mirror:
    """A place with Debian's main archive, and the keys that sign it."""

    uri: str
    keyring: Path


def _one_line(text: str) -> Iterator[Entry]:
    form = re.compile(r"^deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)$")
    for line in text.splitlines():
        match = form.match(line.split("#", 1)[0].strip())
        if match:
            options = dict(word.split("=", 1) for word in (match[1] or "").split() if "=" in word)
            yield Entry(match[2], match[3], tuple(match[4].split()), options.get("signed-by", ""))


def _stanzas(text: str) -> Iterator[dict[str, str]]:
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for block in re.split(r"\n\s*\n", kept):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')}\n{line.strip()}"
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        yield fields


def _deb822(text: str) -> Iterator[Entry]:
    for fields in _stanzas(text):
        disabled = fields.get("enabled", "yes").lower() in {"no", "false", "0", "off"}
        if disabled or "deb" not in fields.get("types", "").split():
            continue
        components = tuple(fields.get("components", "").split())
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Entry(uri, suite, components, fields.get("signed-by", "").strip())


def entries(etc_apt: Path) -> list[Entry]:
    """Every enabled binary repository below `etc_apt`; unreadable files are left out."""
    parts = sorted((etc_apt / "sources.list.d").glob("*"))
    found: list[Entry] = []
    for path in [etc_apt / "sources.list", *parts]:
        reader = {".list": _one_line, ".sources": _deb822}.get(path.suffix)
        if reader and path.is_file():
            found += reader(path.read_text(errors="replace"))
    return found


# 0 is best; None: not Debian's own archive.
def _rank(entry: Entry) -> int | None:
    scheme, path = urlsplit(entry.uri).scheme, urlsplit(entry.uri).path.rstrip("/")
    if scheme in {"cdrom", "file"} or path.endswith("security"):
        return None
    if "debian-archive" in entry.signed_by:
        return 0
    if entry.signed_by and "BEGIN PGP" not in entry.signed_by:
        return None  # somebody else's key: a third party
    return 1 if path.endswith("/debian") else 2


def _codename(os_release: Path) -> str:
    text = os_release.read_text() if os_release.is_file() else ""
    match = re.search(r'^VERSION_CODENAME="?([^"\n]+)', text, re.MULTILINE)
    return match[1] if match else ""


def debian_mirror(
    etc_apt: Path = Path("/etc/apt"), os_release: Path = Path("/etc/os-release")
) -> Mirror:
    """The mirror from which this machine gets Debian main.

    Security, updates and third-party repositories do not count. UsageError where there is none.
    """
    suites = _ALIASES | {_codename(os_release)}
    ranked = [
        (rank, entry)
        for entry in entries(etc_apt)
        if entry.suite in suites and "main" in entry.components
        for rank in [_rank(entry)]
        if rank is not None
    ]
    if not ranked:
        raise UsageError(
            f"no Debian archive among the apt sources below {etc_apt}",
            fix="add a `deb` entry for Debian main that is signed by the debian-archive-keyring",
        )
    best = min(ranked, key=lambda pair: pair[0])[1]
    named = [Path(word) for word in best.signed_by.split() if word.startswith("/")]
    for keyring in (*named, *_KEYRINGS):
        if keyring.is_file():
            return Mirror(best.uri, keyring)
    raise UsageError(
        "the keys of Debian's archive are not on this machine",
        fix="apt-get install debian-archive-keyring",
    )
