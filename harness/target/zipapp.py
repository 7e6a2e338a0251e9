# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Builds the agent: one zipapp of a few harness modules and pyroute2, the same bytes every time.

Given a guest's root tree, the modules also go in compiled by that tree's Python: under software
emulation the guest would need seconds to compile them. They are marked as unchecked, so that
zipimport compares neither time nor hash. Knows nothing about pushing the archive.
"""

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import harness
from harness.errors import WorldError

_MODULES = ("__init__", "errors", "hooks", "model", "series", "wire", "target/__init__")
# prints the files of all pyroute2 modules that the agent's imports reach
_REACHED = """
import sys
sys.path.insert(0, sys.argv[1])
import harness.target.agent.links
for name, module in sorted(sys.modules.items()):
    if name.partition(".")[0] == "pyroute2":
        print(module.__file__)
"""
_MAIN = """import sys

if "--listen" in sys.argv:
    from harness.target.agent.listener import main
else:
    from harness.target.agent.loop import main

sys.exit(main("{identity}"))
"""
# 2020-01-01: any fixed time that zip can say
_STAMP = (2020, 1, 1, 0, 0, 0)


def build_agent(out: Path, guest_root: Path | None = None) -> Path:
    """Write agent-<hash>.pyz into the directory `out` and return its path.

    `guest_root` is an unpacked root tree with /usr/bin/python3; without one the archive holds
    sources only and works on any Python >= 3.11.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="agent-", dir=out) as scratch:
        tree = Path(scratch) / "tree"
        _collect(tree)
        if guest_root is not None:
            _compile(tree, guest_root)
            for source in (tree / "pyroute2").rglob("*.py"):
                source.unlink()  # half of the archive; ours stay, for tracebacks
        archive = Path(scratch) / "agent.pyz"
        _write(archive, tree)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        return archive.replace(out / f"agent-{digest[:16]}.pyz")


def sources() -> dict[str, Path]:
    """What of ours goes in: path in the archive -> file."""
    package = Path(harness.__file__).parent
    ours = {f"harness/{name}.py": package / f"{name}.py" for name in _MODULES}
    for source in sorted((package / "target/agent").glob("*.py")):
        ours[f"harness/target/agent/{source.name}"] = source
    return ours


def _collect(tree: Path) -> None:
    for name, source in sources().items():
        _copy(source, tree / name)
    spec = importlib.util.find_spec("pyroute2")
    if spec is None or spec.origin is None:
        raise WorldError("pyroute2 is not installed", fix="make run installs it into .venv")
    shutil.copytree(
        Path(spec.origin).parent, tree / "pyroute2", ignore=shutil.ignore_patterns("__pycache__")
    )
    # the real one imports all of pyroute2, 3 s under emulation; the agent names its modules
    (tree / "pyroute2/__init__.py").write_text("", encoding="utf-8")
    _trim(tree)
    identity = hashlib.sha256()
    for path in sorted(tree.rglob("*.py")):
        identity.update(path.relative_to(tree).as_posix().encode() + b"\0" + path.read_bytes())
    main = _MAIN.format(identity=identity.hexdigest())
    (tree / "__main__.py").write_text(main, encoding="utf-8")


def _trim(tree: Path) -> None:
    """Leave out what is never imported: zipimport reads the whole directory at every start."""
    argv = [sys.executable, "-B", "-c", _REACHED, str(tree)]
    printed = _run(argv, "the agent's modules cannot be imported", 60.0)
    reached = {Path(line) for line in printed.splitlines()}
    for path in (tree / "pyroute2").rglob("*"):
        if path.is_file() and path not in reached:
            path.unlink()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _compile(tree: Path, guest_root: Path) -> None:
    """Compile with the guest's own Python, started by the guest's own loader: no chroot."""
    loaders = sorted(guest_root.glob("usr/lib64/ld-linux-*.so.*"))
    pythons = sorted(guest_root.glob("usr/bin/python3.[0-9][0-9]"))
    if not loaders or not pythons:
        raise WorldError(f"{guest_root}: no Python in this root tree", fix="build the root again")
    libraries = sorted(guest_root.glob("usr/lib/*-linux-gnu"))
    job = (
        "import compileall, py_compile, sys\n"
        "mode = py_compile.PycInvalidationMode.UNCHECKED_HASH\n"  # times depend on time zones
        "sys.exit(not compileall.compile_dir(%r, invalidation_mode=mode, **%r))"
    )
    options = {"quiet": 1, "legacy": True, "force": True, "stripdir": str(tree)}
    argv = [
        str(loaders[0]), "--library-path", ":".join(map(str, libraries)),
        str(pythons[-1]), "-s", "-S", "-B", "-c", job % (str(tree), options),
    ]  # fmt: skip
    environment = {"PYTHONHOME": str(guest_root / "usr"), "PYTHONHASHSEED": "0"}
    _run(argv, f"{pythons[-1]} cannot compile the agent", 300.0, environment)


# not tools.run(): the guest's Python must not see our environment, which changes what it compiles
def _run(argv: list[str], what: str, limit_s: float, env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            argv, env=env, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except subprocess.TimeoutExpired as error:
        raise WorldError(f"{what}: no end after {limit_s:.0f} s") from error
    except OSError as error:
        raise WorldError(f"{what}: {argv[0]}: {error.strerror}") from error
    if done.returncode:
        raise WorldError(what, evidence=done.stdout + done.stderr)
    return done.stdout


def _write(archive: Path, tree: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for path in sorted(path for path in tree.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), _STAMP)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, path.read_bytes())
