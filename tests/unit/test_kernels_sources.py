# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import pytest

from harness.errors import UsageError
from harness.kernels.sources import debian_mirror, entries

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
THIRD_PARTY = "deb [signed-by=/etc/keys/other.gpg] https://other.example/debian bookworm main\n"


@pytest.fixture
def machine(tmp_path):
    """A machine's /etc/apt and os-release, filled file by file."""
    (tmp_path / "sources.list.d").mkdir()
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')

    def write(**files):
        for name, text in files.items():
            path = tmp_path / {"main": "sources.list"}.get(name, f"sources.list.d/{name}")
            path = path if path.suffix else path.with_suffix(".sources")
            path.write_text(text)
        return lambda: debian_mirror(tmp_path, release)

    write.etc = tmp_path
    return write


def test_one_line_entry_with_options(machine):
    look = machine(
        main=f"deb [arch=amd64 signed-by={KEYRING}] http://a.example/debian bookworm main\n"
    )
    assert look().uri == "http://a.example/debian"


def test_deb822_entry_with_several_suites_and_comments(machine):
    look = machine(
        debian="# ours\nTypes: deb deb-src\n# why\nURIs: http://b.example/debian\n"
        f"Suites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: {KEYRING}\n"
    )
    assert look().uri == "http://b.example/debian"
    assert str(look().keyring).startswith("/usr/share/keyrings/debian-archive-keyring")


def test_folded_signing_key_and_fields_in_any_case(machine):
    machine(
        odd="TYPES: deb\nuris:\n http://c.example/debian\nSuites: bookworm\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQIN\n"
    )
    (entry,) = entries(machine.etc)
    assert (entry.uri, entry.suite) == ("http://c.example/debian", "bookworm")
    assert "BEGIN PGP" in entry.signed_by


@pytest.mark.parametrize(
    "line",
    [
        THIRD_PARTY,
        "# deb http://a.example/debian bookworm main\n",
        "deb-src http://a.example/debian bookworm main\n",
        "deb http://a.example/debian-security bookworm main\n",
        "deb http://a.example/debian-security bookworm-security main\n",
        "deb http://a.example/debian bookworm-updates main\n",
        "deb http://a.example/debian bookworm contrib\n",
        "deb http://a.example/debian trixie main\n",
        "deb cdrom:[Debian]/ bookworm main\n",
    ],
)
def test_what_is_not_the_debian_archive_is_refused_with_a_fix(machine, line):
    with pytest.raises(UsageError, match="no Debian archive") as caught:
        machine(main=line)()
    assert "debian-archive-keyring" in caught.value.fix


def test_disabled_stanza_does_not_count(machine):
    look = machine(
        debian="Enabled: no\nTypes: deb\nURIs: http://b.example/debian\n"
        "Suites: bookworm\nComponents: main\n"
    )
    with pytest.raises(UsageError):
        look()


def test_signed_entry_wins_over_one_that_only_looks_right(machine):
    look = machine(
        main=THIRD_PARTY + "deb http://plain.example/debian bookworm main\n"
        "deb http://odd.example/pool bookworm main\n",
        debian="Types: deb\nURIs: http://signed.example/pool\nSuites: bookworm\n"
        f"Components: main\nSigned-By: {KEYRING}\n",
    )
    assert look().uri == "http://signed.example/pool"


def test_stable_is_an_alias_of_any_release(machine):
    assert machine(main="deb http://a.example/debian stable main\n")().uri.endswith("/debian")
