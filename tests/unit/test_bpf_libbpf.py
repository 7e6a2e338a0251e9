# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What our linker makes of an object is what libbpf hands to the kernel, to the last bit."""

import pytest
from libbpf_witness import HERE, check, parse, real_types, recorder

from harness import build

PROBES = build.CHECKOUT / "tests/sim/probes"


@pytest.fixture(scope="session")
def record(tmp_path_factory):
    """Run libbpf on an object: a recording for each program."""
    return recorder(tmp_path_factory.mktemp("recorder"))


@pytest.fixture(scope="session")
def real_kernel(tmp_path_factory):
    """Types of Linux 6.12."""
    return real_types(tmp_path_factory.mktemp("real"))


COLLECTION = [*build.sources_of(build.PROGS), *build.sources_of(PROBES)]
# what libbpf refuses of the collection, by file
REFUSED = {
    "callback_missing": 1,
    "callback_static": 1,
    "callback_tag_on_static": 1,
    "callback_tags": 7,
}


@pytest.mark.parametrize("source", COLLECTION, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_collection(source, record, real_kernel):
    (path,) = build.build([source])
    recordings = record(path, real_kernel)
    assert recordings
    refused = check(path, real_kernel, recordings)
    assert refused == REFUSED.get(source.name.removesuffix(".bpf.c"), 0)


OLDER = sorted((HERE / "data/objects").glob("*.o"))


@pytest.mark.parametrize("path", OLDER, ids=lambda path: path.name)
def test_object_of_an_older_compiler(path):
    """Recorded: neither that compiler nor libbpf is needed."""
    name, _, compiler = path.stem.partition("-")
    recordings = parse(path.with_name(f"{name}-{compiler}.txt").read_text())
    types = path.with_name("core.btf" if name == "core" else "features.btf")
    assert recordings
    assert check(path, types, recordings) == 0
