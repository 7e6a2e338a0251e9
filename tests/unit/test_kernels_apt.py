# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""apt's own view of our configuration; no mirror is asked."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from harness import tools
from harness.errors import UsageError, WorldError
from harness.kernels import apt
from harness.kernels.sources import Mirror

DEAD = Mirror("file:/nonexistent/debian", "/usr/share/keyrings/debian-archive-keyring.gpg")


@pytest.fixture
def area(cache, monkeypatch):
    """The prepared area of one suite of a mirror that does not answer."""
    monkeypatch.setattr(apt, "debian_mirror", lambda: DEAD)
    return apt._prepare("trixie")


def dump(area):
    environment = os.environ | {"APT_CONFIG": str(area / "apt.conf")}
    argv = ["apt-config", "dump"]
    return subprocess.run(argv, env=environment, check=True, capture_output=True, text=True).stdout


def test_apt_stays_in_its_area(area):
    lines = dict(line.split(" ", 1) for line in dump(area).splitlines() if "::" in line)
    for name in ("Dir::State", "Dir::State::status", "Dir::Cache", "Dir::Etc::sourcelist"):
        assert lines[name].startswith(f'"{area}/'), name
    for name in ("Dir::Etc::parts", "Dir::Etc::sourceparts", "Dir::Etc::trustedparts"):
        assert lines[name] == f'"{area}/empty";'


def test_no_hook_of_the_host_is_run(area):
    text = dump(area)
    assert "Post-Invoke " not in text
    assert "Pre-Install-Pkgs" not in text


def test_nothing_unsigned_is_accepted(area):
    text = dump(area)
    assert 'Acquire::AllowInsecureRepositories "false";' in text
    assert 'APT::Get::AllowUnauthenticated "false";' in text
    assert "Signed-By: /usr/share/keyrings/" in (area / "debian.sources").read_text()


def test_transport_settings_of_the_host_are_kept(tmp_path):
    text = apt.configuration(tmp_path, 'Acquire::http::Proxy "http://proxy.example:3142";\n')
    (tmp_path / "apt.conf").write_text(text)
    assert 'Acquire::http::Proxy "http://proxy.example:3142";' in dump(tmp_path)


def test_mirror_that_does_not_answer_is_the_worlds_fault(area):
    with pytest.raises(WorldError, match="cannot read the package lists of trixie") as caught:
        apt.update("trixie")
    assert "mirror" in caught.value.fix


def test_old_lists_stay_in_use_when_the_mirror_is_away(area, capsys):
    old_s = time.time() - 2 * 86400
    (area / "updated").touch()
    os.utime(area / "updated", (old_s, old_s))
    apt.update("trixie")
    assert "from the cache" in capsys.readouterr().err
    with pytest.raises(WorldError):
        apt.update("trixie", force=True)


def test_fresh_lists_are_not_read_again(area, monkeypatch):
    (area / "updated").touch()
    monkeypatch.setattr(apt, "_apt", None)
    apt.update("trixie")


def test_pattern_without_a_package_names_the_suites(area, monkeypatch):
    asked = []
    monkeypatch.setattr(apt, "update", lambda suite, *, force: asked.append((suite, force)))
    with pytest.raises(UsageError, match=r"linux-image-9\* in trixie of this machine's mirror"):
        apt.newest("linux-image-9*", ("trixie",))
    assert asked == [("trixie", False), ("trixie", True)]


def test_versions_are_compared_as_dpkg_does():
    def package(version):
        return apt.Package("x", version, "s", 0, 0)

    assert apt._compare(package("6.12.9-1"), package("6.12.107-1")) < 0
    assert apt._compare(package("6.18.15-1"), package("6.18.15-1~bpo13+1")) > 0
    assert apt._compare(package("1"), package("1")) == 0


def test_children_of_an_interrupted_tool_do_not_outlive_it(tmp_path):
    script = f"sh -c 'echo $$ > {tmp_path}/pid; sleep 60; :'; :"
    with pytest.raises(WorldError):
        tools.run(["sh", "-c", script], timeout_s=0.5)
    pid = int((tmp_path / "pid").read_text())
    deadline_s = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()


def test_tools_report_their_own_words():
    with pytest.raises(WorldError, match="it failed: ls: cannot access") as caught:
        tools.run(["ls", "/nonexistent"], what="it failed")
    assert "/nonexistent" in caught.value.evidence
    with pytest.raises(WorldError, match="no end after 0 s"):
        tools.run(["sleep", "5"], timeout_s=0.1)
    with pytest.raises(UsageError, match="no-such-tool is not installed"):
        tools.need("no-such-tool")


def test_what_apt_may_be_reading_is_not_written_again(area, monkeypatch):
    files = [area / "apt.conf", area / "debian.sources"]
    before = [path.stat().st_ino for path in files]
    apt._prepare("trixie")
    assert [path.stat().st_ino for path in files] == before
    with files[1].open() as being_read:
        monkeypatch.setattr(apt, "debian_mirror", lambda: Mirror("file:/other", DEAD.keyring))
        apt._prepare("trixie")
        assert "file:/nonexistent" in being_read.read()
    assert "file:/other" in files[1].read_text()
