# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Packages of any Debian suite, by an apt that has its own configuration, lists and cache.

The host's apt is left alone: its lists, its locks, its hooks and its sources. What the host says
about the way to the network (proxies, certificates: `Acquire::`) is kept. Signatures are always
verified, against the Debian archive keyring only.
"""

import functools
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from harness import tools
from harness.errors import UsageError, WorldError
from harness.kernels.sources import Mirror, debian_mirror
from harness.paths import cache_dir, locked, make_dir, replace_file, require_space

_FRESH_S = 24 * 3600
_DOWNLOAD_S = 1800
_LISTS_BYTES = 100 << 20
_NETWORK = "check the network, the proxy and the mirror in /etc/apt; then try again"


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a binary package in one suite."""

    name: str
    version: str
    suite: str
    # of the .deb and of what it unpacks to
    size_bytes: int
    unpacked_bytes: int


# The host's settings of the transport, without its index targets (DEP-11, Contents, languages).
def _acquire_settings() -> str:
    dump = tools.run([tools.need("apt-config"), "dump", "Acquire"])
    skipped = ("Acquire::IndexTargets", "Acquire::Languages", "Acquire::GzipIndexes")
    return "".join(
        f"{line}\n"
        for line in dump.splitlines()
        if line.startswith("Acquire::") and not line.startswith(skipped)
    )


def configuration(area: Path, acquire: str) -> str:
    """Text of an apt.conf that keeps everything below `area`."""
    settings = {
        # read before the parts and the main file of the host: those are not read at all then
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": area / "empty",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": area / "empty",
        "Dir::Etc::trusted": "/dev/null",
        "Dir::Etc::trustedparts": area / "empty",
        "Dir::Etc::sourcelist": area / "debian.sources",
        "Dir::Etc::sourceparts": area / "empty",
        "Dir::State": area / "state",
        # an empty one: nothing is installed, so that closures are complete
        "Dir::State::status": area / "status",
        "Dir::Cache": area / "cache",
        "Dir::Log": area / "log",
        "APT::Architecture": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Get::AllowUnauthenticated": "false",
        # the area belongs to whoever runs us; _apt may not look into it
        "APT::Sandbox::User": "root",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowWeakRepositories": "false",
        "Acquire::AllowDowngradeToInsecureRepositories": "false",
        "Acquire::Languages": "none",
        # lists and caches of a suite take 110 MB as plain files
        "Acquire::GzipIndexes": "true",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Acquire::Retries": "3",
    }
    ours = "".join(f'{name} "{value}";\n' for name, value in settings.items())
    return f'{acquire}{ours}#clear APT::Architectures;\nAPT::Architectures {{ "amd64"; }};\n'


def sources(mirror: Mirror, suite: str) -> str:
    """Text of the deb822 source for one suite of a mirror."""
    return (
        f"Types: deb\nURIs: {mirror.uri}\nSuites: {suite}\nComponents: main\n"
        f"Signed-By: {mirror.keyring}\n"
    )


# At once or not at all: another thread's apt may be reading.
def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        replace_file(path, text.encode())


# Each time, since the host's mirror or proxy may have changed. Under the area's lock. Returns the
# area.
def _prepare(suite: str) -> Path:
    area = make_dir(cache_dir() / "apt" / suite)
    for name in ("empty", "state/lists/partial", "cache/archives/partial", "log"):
        make_dir(area / name)
    (area / "status").touch()
    _write(area / "debian.sources", sources(debian_mirror(), suite))
    _write(area / "apt.conf", configuration(area, _acquire_settings()))
    return area


def _apt(suite: str, argv: list[str], *, cwd: Path | None = None, what: str = "") -> str:
    env = {"APT_CONFIG": str(cache_dir() / "apt" / suite / "apt.conf")}
    argv = [tools.need(argv[0]), *argv[1:]]
    return tools.run(argv, cwd=cwd, env=env, timeout_s=_DOWNLOAD_S, what=what, fix=_NETWORK)


def update(suite: str, *, force: bool = False) -> None:
    """Bring the package lists of a suite up to date when they are older than a day.

    WorldError when the mirror cannot be reached or its signature is not good; lists that are
    already there stay in use then, unless `force`.
    """
    with locked(f"apt-{suite}"):
        area = _prepare(suite)
        stamp = area / "updated"
        age_s = time.time() - stamp.stat().st_mtime if stamp.exists() else None
        if age_s is not None and age_s < _FRESH_S and not force:
            return
        require_space(_LISTS_BYTES, f"the package lists of {suite}")
        tools.say(f"reading the package lists of {suite}")
        try:
            _apt(
                suite,
                ["apt-get", "update", "-q", "--error-on=any"],
                what=f"cannot read the package lists of {suite}",
            )
        except WorldError:
            if age_s is None or force:
                raise
            tools.say(f"the mirror does not answer: package lists of {suite} from the cache")
        else:
            stamp.touch()


def _records(suite: str, names: list[str]) -> list[Package]:
    text = _apt(suite, ["apt-cache", "show", *names]) if names else ""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "Package" in fields and "Version" in fields:
            unpacked_bytes = int(fields.get("Installed-Size", 0)) * 1024
            size_bytes = int(fields.get("Size", 0))
            found.append(
                Package(fields["Package"], fields["Version"], suite, size_bytes, unpacked_bytes)
            )
    return found


def _compare(left: Package, right: Package) -> int:
    if left.version == right.version:
        return 0
    argv = [tools.need("dpkg"), "--compare-versions", left.version, "lt", right.version]
    return -1 if subprocess.run(argv, check=False).returncode == 0 else 1


def search(pattern: str, suites: Iterable[str], exclude: Iterable[str] = ()) -> list[Package]:
    """Packages whose name matches the glob `pattern` and none of `exclude`, oldest first."""
    prefix = re.split(r"[*?[]", pattern, maxsplit=1)[0]
    found: list[Package] = []
    for suite in suites:
        names = [
            name
            for name in _apt(suite, ["apt-cache", "pkgnames", prefix]).split()
            if fnmatchcase(name, pattern) and not any(fnmatchcase(name, bad) for bad in exclude)
        ]
        found += _records(suite, sorted(names))
    return sorted(found, key=functools.cmp_to_key(_compare))


def newest(pattern: str, suites: tuple[str, ...], exclude: Iterable[str] = ()) -> Package:
    """The newest package that matches; lists are read again when nothing does.

    UsageError that names the suites when the mirror has none.
    """
    for force in (False, True):
        for suite in suites:
            update(suite, force=force)
        found = search(pattern, suites, exclude)
        if found:
            return found[-1]
    raise UsageError(
        f"no package matches {pattern} in {', '.join(suites)} of this machine's mirror",
        fix="correct the pattern or the suites in vm/kernels.toml",
    )


def download(packages: Iterable[Package], into: Path) -> list[Path]:
    """Fetch packages as .deb files into a directory; checksums verified by apt."""
    paths: list[Path] = []
    for package in packages:
        require_space(package.size_bytes, package.name)
        tools.say(f"downloading {package.name} {package.version} ({package.size_bytes >> 20} MB)")
        before = set(into.iterdir())
        _apt(
            package.suite,
            ["apt-get", "download", "-q", f"{package.name}={package.version}"],
            cwd=into,
            what=f"download of {package.name} failed",
        )
        paths += set(into.iterdir()) - before
    return paths


def download_with_dependencies(names: Iterable[str], suite: str, into: Path) -> list[Path]:
    """Fetch packages and all that they depend on; nothing is installed or configured."""
    update(suite)
    archives = make_dir(into / "partial").parent
    _apt(
        suite,
        [
            "apt-get",
            "install",
            "-q",
            "-y",
            "--download-only",
            f"-oDir::Cache::archives={archives}",
            *names,
        ],
        what="download of the guest's packages failed",
    )
    return sorted(archives.glob("*.deb"))
