# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Bundles: the same bytes each time, and safe to open when a stranger sent them."""

import io
import json
import tarfile

import pytest

from harness import repro_bundle
from harness.errors import UsageError
from harness.model import Observation, Provenance, Verdict
from harness.repro_bundle import Bundle, dumps, loads
from harness.repro_load import Loaded

SEEN = Observation(
    Verdict.REJECTED,
    message="R1 is not a scalar",
    errno=22,
    log="0: R1=ctx()\nR1 is not a scalar\n",
    provenance=Provenance("vm-7.3", "7.3.4"),
    duration_s=0.5,
)
BUNDLE = Bundle(
    "a.bpf.c", ("main",), b"\x7fELF...", b"int x;\n", {"main": {"errno": 22}},
    (Loaded("7.3", {"main": SEEN}), Loaded("tree:/home/me/linux", {"main": SEEN})),
)  # fmt: skip


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}


def rebuilt(changes=None, *, extra=()):
    """The bundle above with other content, or None to leave a member out, and further members."""
    content = members(dumps(BUNDLE)) | (changes or {})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in content.items():
            if data is not None:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        for member, data in extra:
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_there_and_back():
    again = loads(dumps(BUNDLE), "x.tar")
    assert (again.name, again.programs) == ("a.bpf.c", ("main",))
    assert (again.object, again.source) == (BUNDLE.object, BUNDLE.source)
    assert again.expected == {"main": {"errno": 22}}
    assert [load.kernel for load in again.loads] == ["7.3", "tree:/home/me/linux"]
    seen = again.loads[0].seen["main"]
    assert (seen.log, seen.errno, seen.provenance) == (SEEN.log, 22, SEEN.provenance)


def test_the_same_bytes_whoever_writes_them():
    data = dumps(BUNDLE)
    assert data == dumps(BUNDLE)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
    assert list(members(data))[:3] == ["manifest.json", "object.bpf.o", "source.bpf.c"]


def test_names_of_kernels_become_harmless_members():
    assert "logs/tree:_home_me_linux/main.txt" in members(dumps(BUNDLE))


def special(name, kind, link=""):
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = link
    return member


def plain(name, size=0):
    member = tarfile.TarInfo(name)
    member.size = size
    return member


LOG = "logs/7.3/other.txt"


@pytest.mark.parametrize(
    ("member", "word"),
    [
        (plain("../../etc/passwd"), "does not belong"),
        (plain("/etc/passwd"), "does not belong"),
        (plain("logs/../x.txt"), "does not belong"),
        (plain("logs/7.3/../../x.txt"), "does not belong"),
        (plain("object.bpf.o.sh"), "does not belong"),
        (plain("logs/7.3/a\n.txt"), "does not belong"),
        (plain("object.bpf.o"), "twice"),
        (special(LOG, tarfile.SYMTYPE, "/etc/passwd"), "not a plain file"),
        (special(LOG, tarfile.LNKTYPE, "object.bpf.o"), "not a plain file"),
        (special(LOG, tarfile.FIFOTYPE), "not a plain file"),
        (special(LOG, tarfile.CHRTYPE), "not a plain file"),
        (special(LOG, tarfile.DIRTYPE), "not a plain file"),
    ],
)
def test_members_of_a_stranger(member, word):
    with pytest.raises(UsageError, match=word):
        loads(rebuilt(extra=[(member, b"")]), "x.tar")


def test_a_member_that_claims_to_be_huge():
    """Its header says so; nobody has to send that much."""
    data = rebuilt({"object.bpf.o": None})
    header = plain("object.bpf.o", 1 << 40).tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(UsageError, match="larger than 64 MiB"):
        loads(header + data, "x.tar")


def test_too_many_members(monkeypatch):
    monkeypatch.setattr(repro_bundle, "_MEMBERS", 4)
    with pytest.raises(UsageError, match="holds too much"):
        loads(dumps(BUNDLE), "x.tar")


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(repro_bundle, "_TOTAL_BYTES", 100)
    path = tmp_path / "x.tar"
    path.write_bytes(dumps(BUNDLE))
    with pytest.raises(UsageError, match="larger than"):
        repro_bundle.read(path)


@pytest.mark.parametrize("data", [b"", b"not a tar", b"\0" * 10240, b"\x1f\x8b" + b"x" * 600])
def test_what_is_no_tar(data):
    with pytest.raises(UsageError, match=r"not a bundle|no manifest"):
        loads(data, "x.tar")


def with_headers(content, **headers):
    """A bundle whose last member has these extended headers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members(dumps(BUNDLE)).items():
            if name != "source.bpf.c":
                archive.addfile(plain(name, len(data)), io.BytesIO(data))
        last = plain("source.bpf.c", len(content))
        last.pax_headers = {key.replace("__", "."): value for key, value in headers.items()}
        archive.addfile(last, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"path": "../../evil"}, "does not belong"),
        ({"size": str(1 << 50)}, "larger than 4 MiB"),
        ({"GNU__sparse__map": "0,1", "GNU__sparse__size": str(1 << 40)}, "not a plain file"),
        ({"GNU__sparse__major": "1", "GNU__sparse__minor": "0",
          "GNU__sparse__realsize": str(1 << 40)}, "not a plain file"),
    ],
)  # fmt: skip
def test_extended_headers_say_nothing_new(headers, word):
    """What a second header says of a member counts, and is looked at like the first."""
    with pytest.raises(UsageError, match=word):
        loads(with_headers(b"1\n0\n1\n".ljust(512, b"\0"), **headers), "x.tar")


def test_a_header_whose_sum_is_wrong():
    data = bytearray(dumps(BUNDLE))
    data[100] ^= 0x40
    with pytest.raises(UsageError, match="bad checksum"):
        loads(bytes(data), "x.tar")


def test_compressed_archives_are_refused():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(plain("manifest.json"), io.BytesIO(b""))
    with pytest.raises(UsageError, match="not a bundle"):
        loads(out.getvalue(), "x.tar")


@pytest.mark.parametrize("missing", ["manifest.json", "object.bpf.o"])
def test_what_is_missing(missing):
    with pytest.raises(UsageError, match=f"no {missing}"):
        loads(rebuilt({missing: None}), "x.tar")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema": 2}, "schema"),
        ({"file": 5}, "file: not a str"),
        ({"programs": "main"}, "programs: not a list"),
        ({"programs": [5]}, "not names"),
        ({"loads": [5]}, "not objects"),
        ({"loads": [{"kernel": "7.3", "programs": {"main": {"log": "x"}}}]}, "seen: not a dict"),
        ({"loads": [{"kernel": "7.3", "programs": {"main": {"log": "x", "seen": {"a": 1}}}}]},
         "unknown key 'a'"),
        ({"loads": [{"kernel": 5, "programs": {}}]}, "kernel: not a str"),
    ],
)  # fmt: skip
def test_manifests_that_make_no_sense(change, word):
    manifest = json.loads(members(dumps(BUNDLE))["manifest.json"]) | change
    with pytest.raises(UsageError, match=word):
        loads(rebuilt({"manifest.json": json.dumps(manifest).encode()}), "x.tar")


@pytest.mark.parametrize("content", [b"", b"[", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_manifests_that_are_none(content):
    with pytest.raises(UsageError, match=r"not JSON|not of schema"):
        loads(rebuilt({"manifest.json": content}), "x.tar")


def test_a_path_as_file_name_is_a_name():
    manifest = json.loads(members(dumps(BUNDLE))["manifest.json"]) | {"file": "../../a.bpf.c"}
    data = rebuilt({"manifest.json": json.dumps(manifest).encode()})
    assert loads(data, "x.tar").name == "a.bpf.c"


def test_cut_anywhere_it_is_an_error_or_whole():
    data = dumps(BUNDLE)
    for size in range(0, len(data), 97):
        try:
            loads(data[:size], "x.tar")
        except UsageError:
            continue
        assert len(data) - size <= 1024 + tarfile.RECORDSIZE  # the end's padding
