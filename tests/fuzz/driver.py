# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Fuzz the readers and the machine with atheris: `make fuzz-parsers`.

    python tests/fuzz/driver.py [-max_total_time=SECONDS] [-jobs=N] [-seed=N] [TARGET...]

Each target of tests/fuzz/targets.py runs in a process of its own, from a corpus made of what the
project compiles (build/fuzz/TARGET/corpus, kept from run to run). Limits for each: 512 MB, and 20 s
for one input. SECONDS is for all targets together, 600 unless told. What was found lies in
build/fuzz/TARGET/found, with how to repeat it; exit code 1 then.
"""

import hashlib
import os
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOTAL_S = 600
INPUT_S = 20
MEMORY_MB = 512
_STATUS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+).*?(?:rss: (\d+)Mb)?$", re.MULTILINE)
_PEAK = re.compile(r"peak_rss_mb:\s*(\d+)")
_EXECUTED = re.compile(r"number_of_executed_units: (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one target."""

    target: str
    executed: int
    took_s: float
    branches: int
    peak_mb: int
    # files that show something
    found: tuple[Path, ...]
    # the last lines that the process said, where it did not end well
    said: str


def one(name: str, arguments: list[str]) -> None:
    """The process of one target, with libFuzzer's arguments; files: only those. Never returns."""
    import atheris  # noqa: PLC0415  # only here, and it is an extra

    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    with atheris.instrument_imports(include=["harness", "fuzz"]):
        from fuzz import targets  # noqa: PLC0415  # instruments what this imports

    if all(word.startswith("-") for word in arguments):
        arguments = [*arguments, _corpus(name, targets.TARGETS[name][1]())]
    # what one input may ask for at once; libFuzzer's own limit looks at what is in use
    now = _used_kb("VmSize") * 1024
    resource.setrlimit(resource.RLIMIT_AS, (now + (MEMORY_MB << 20),) * 2)
    atheris.Setup([sys.argv[0], *arguments], lambda data: targets.check(name, data))
    atheris.Fuzz()


def _corpus(name: str, seeds: list[bytes]) -> str:
    place = ROOT / "build/fuzz" / name / "corpus"
    place.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (place / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    return str(place)


def _used_kb(what: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what))


def fuzz(name: str, seconds: int, options: list[str]) -> Outcome:
    """Run one target for some seconds."""
    from fuzz import targets  # noqa: PLC0415  # see the end of the file

    place = ROOT / "build/fuzz" / name
    found = place / "found"
    found.mkdir(parents=True, exist_ok=True)
    before, began = set(found.iterdir()), time.monotonic()
    argv = [
        sys.executable, str(Path(__file__)), "--one", name, f"-max_total_time={seconds}",
        f"-timeout={INPUT_S}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={targets.MOST_BYTES}",
        f"-artifact_prefix={found}/", "-print_final_stats=1", *options,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONHASHSEED": "0"}
    with (place / "log").open("w+", errors="replace") as log:
        code = subprocess.run(argv, stdout=log, stderr=log, env=environment, check=False).returncode
    text = (place / "log").read_text(errors="replace")
    new = tuple(sorted(set(found.iterdir()) - before))
    seen = _STATUS.findall(text)
    executed, peak = _EXECUTED.findall(text), _PEAK.findall(text)
    return Outcome(
        name,
        int(executed[-1]) if executed else max((int(row[0]) for row in seen), default=0),
        time.monotonic() - began,
        max((int(row[1]) for row in seen), default=0),
        int(peak[-1]) if peak else 0,
        new,
        "" if code == 0 else _why(text),
    )


def _why(text: str) -> str:
    """The traceback that libFuzzer was told of, without what comes after it."""
    at = text.rfind("Uncaught Python exception")
    text = text[at:].partition("\n==")[0] if at >= 0 else text[-1500:]
    return text.strip()


def main(arguments: list[str]) -> int:
    """Run targets one after the other, or `-jobs=N` at a time; 0, or 1 when something was found."""
    from fuzz import targets  # noqa: PLC0415  # see the end of the file

    from harness import build  # noqa: PLC0415  # as above

    total, jobs, options, names = TOTAL_S, 1, [], []
    for word in arguments:
        if word.startswith("-max_total_time="):
            total = int(word.partition("=")[2])
        elif word.startswith("-jobs="):
            jobs = int(word.partition("=")[2])
        else:
            (options if word.startswith("-") else names).append(word)
    unknown = [name for name in names if name not in targets.TARGETS]
    if unknown:
        print(f"fuzz: no target {unknown[0]!r}: {', '.join(targets.TARGETS)}", file=sys.stderr)
        return 2
    names = names or list(targets.TARGETS)
    build.build([ROOT / "progs"])  # what the corpus is made of
    seconds = max(total * jobs // len(names), 1)
    print(f"{'target':14} {'inputs':>9} {'seconds':>8} {'branches':>9} {'peak MB':>8}", flush=True)
    bad = 0
    with ThreadPoolExecutor(jobs) as pool:
        for seen in pool.map(lambda name: fuzz(name, seconds, options), names):
            row = f"{seen.executed:9} {seen.took_s:8.1f} {seen.branches:9} {seen.peak_mb:8}"
            print(
                f"{seen.target:14} {row}  {'found!' if seen.said else 'nothing found'}", flush=True
            )
            if seen.said:
                bad += 1
                print("\n".join(f"    {line}" for line in seen.said.splitlines()))
                for path in seen.found:
                    print(f"    python tests/fuzz/driver.py --one {seen.target} {path}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    # from the checkout, and tests/fuzz itself is in the path as nobody else sees it
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3:])
    sys.exit(main(sys.argv[1:]))
