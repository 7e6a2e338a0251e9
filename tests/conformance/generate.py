# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Write the vectors: python tests/conformance/generate.py [--check].

The expected results come from conformance.rfc, arithmetic written from the RFC that shares no code
with the simulator. --check says which files differ from what would be written.
"""

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
VECTORS = HERE / "vectors"

if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))

from conformance import cases_alu, cases_jump, cases_memory, cases_reserved  # noqa: E402


def specs():
    """All vectors by name."""
    found = {}
    for module in (cases_alu, cases_jump, cases_memory, cases_reserved):
        for spec in module.cases():
            assert spec.name not in found, f"two vectors are called {spec.name}"
            found[spec.name] = spec
    return found


def differences():
    """Names of files that are missing, that differ, or that nothing makes."""
    wanted = {f"{name}.data": spec.text() for name, spec in specs().items()}
    there = {
        path.relative_to(VECTORS).as_posix(): path.read_text(encoding="utf-8")
        for path in VECTORS.rglob("*.data")
    }
    return sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name))


def main():
    if sys.argv[1:] == ["--check"]:
        wrong = differences()
        print("\n".join(wrong) or "all files are as generated")
        return 1 if wrong else 0
    shutil.rmtree(VECTORS, ignore_errors=True)
    for name, spec in specs().items():
        path = VECTORS / f"{name}.data"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(spec.text(), encoding="utf-8")
    print(f"{len(specs())} vectors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
