# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Building kernels: sources, series, configuration, and make played by a script."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels import builder, kconfig, patchset, source, spec
from harness.paths import VM_DIR

FILE = "one\ntwo\nthree\nfour\nfive\n"
FIRST = """\
--- a/kernel/bpf/x.c
+++ b/kernel/bpf/x.c
@@ -1,4 +1,4 @@
 one
-two
+TWO
 three
 four
"""
SECOND = """\
--- a/kernel/bpf/x.c
+++ b/kernel/bpf/x.c
@@ -1,4 +1,5 @@
 one
 TWO
 three
+and a half
 four
--- /dev/null
+++ b/kernel/bpf/new.c
@@ -0,0 +1 @@
+new
"""
REMOVAL = """\
--- a/kernel/bpf/x.c
+++ /dev/null
@@ -1,5 +0,0 @@
-one
-two
-three
-four
-five
"""


def _mail(subject, body, number):
    return (
        f"From {number:040x} Mon Sep 17 00:00:00 2001\nFrom: a <a@example.org>\n"
        f"Date: Sun, 22 Nov 2026 10:00:00 +0000\nSubject: {subject}\n\nWords.\n---\n{body}\n"
    )


@pytest.fixture
def tree(tmp_path):
    place = tmp_path / "linux"
    (place / "kernel/bpf").mkdir(parents=True)
    for name in ("Makefile", "Kbuild"):
        (place / name).write_text("# nothing\nmrproper:\n")
    (place / "kernel/bpf/x.c").write_text(FILE)
    return place


def _original(tree):
    def read(name):
        path = tree / name
        return path.read_bytes() if path.is_file() else None

    return read


# ---- series --------------------------------------------------------------------------------


def test_an_mbox_is_put_in_order_and_its_cover_letter_left_out(tmp_path):
    box = tmp_path / "series.mbox"
    box.write_text(
        _mail("[PATCH v2 2/2] second", SECOND, 3)
        + _mail("[PATCH v2 0/2] cover", "nothing to apply", 1)
        + _mail("[PATCH v2 1/2]\n first", FIRST, 2)
    )
    found = patchset.read([box])
    assert [patch.subject for patch in found] == ["[PATCH v2 1/2] first", "[PATCH v2 2/2] second"]


def test_a_mail_may_be_encoded(tmp_path):
    box = tmp_path / "series.mbox"
    encoded = FIRST.replace("=", "=3D").replace("@@ -1,4", "@@ =2D1,4")
    text = _mail("[PATCH] quoted", encoded, 1)
    box.write_text(
        text.replace("Subject:", "Content-Transfer-Encoding: quoted-printable\nSubject:")
    )
    (patch,) = patchset.read([box])
    assert "@@ -1,4 +1,4 @@" in patch.text


def test_a_directory_gives_its_patches_by_name(tmp_path, tree):
    (tmp_path / "0002-b.patch").write_text(SECOND)
    (tmp_path / "0001-a.patch").write_text(FIRST)
    (tmp_path / "notes.txt").write_text("no patch")
    patches = patchset.read([tmp_path])
    assert [patch.subject for patch in patches] == ["0001-a.patch", "0002-b.patch"]
    content = patchset.apply(patches, _original(tree))
    assert content["kernel/bpf/x.c"] == b"one\nTWO\nthree\nand a half\nfour\nfive\n"
    assert content["kernel/bpf/new.c"] == b"new\n"
    assert (tree / "kernel/bpf/x.c").read_text() == FILE


def test_a_removed_file_is_not_there_any_more(tmp_path, tree):
    (tmp_path / "rm.patch").write_text(REMOVAL)
    content = patchset.apply(patchset.read([tmp_path / "rm.patch"]), _original(tree))
    assert content == {"kernel/bpf/x.c": None}


def test_a_hunk_that_does_not_fit_is_named_by_patch_file_and_line(tmp_path, tree):
    (tmp_path / "late.patch").write_text(SECOND)
    with pytest.raises(UsageError, match=r"late.patch.*does not apply: kernel/bpf/x\.c, line 1"):
        patchset.apply(patchset.read([tmp_path]), _original(tree))


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/../../x", ".git/config"])
def test_a_patch_stays_in_the_tree(tmp_path, name):
    (tmp_path / "evil.patch").write_text(FIRST.replace("kernel/bpf/x.c", name))
    with pytest.raises(UsageError, match="path out of the tree"):
        patchset.read([tmp_path / "evil.patch"])


@pytest.mark.parametrize("content", ["", "no diff at all\n", "From nobody\n\nwords\n"])
def test_what_holds_no_patch_is_said_to(tmp_path, content):
    (tmp_path / "x.patch").write_text(content)
    with pytest.raises(UsageError, match="no patch in what --patches names"):
        patchset.read([tmp_path / "x.patch"])


def test_a_patch_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="cannot read .*gone.patch: No such file"):
        patchset.read([tmp_path / "gone.patch"])


@pytest.mark.parametrize("name", ["proposal", "fix-callback-index"])
def test_our_series_change_one_file_and_have_a_message(name):
    (patch,) = patchset.read([VM_DIR / f"patches/{name}.patch"])
    assert patch.files() == ["kernel/bpf/fixups.c"]
    assert patch.subject.startswith("[PATCH] bpf: ")


# ---- configuration -------------------------------------------------------------------------


def test_every_option_of_ours_has_a_reason():
    options = kconfig.read(VM_DIR / "guest.config")
    assert len(options) > 100
    assert not [option.name for option in options if not option.why]
    unwinder = next(option for option in options if option.name == "CONFIG_UNWINDER_ORC")
    assert "without it bpf_throw is refused" in unwinder.why


def test_a_lost_option_is_named_with_its_reason(tmp_path):
    fragment, config = tmp_path / "f.config", tmp_path / ".config"
    fragment.write_text("# kfuncs\nCONFIG_DEBUG_INFO_BTF=y\n\n# small\n# CONFIG_DRM is not set\n")
    wanted = kconfig.read(fragment)
    config.write_text("CONFIG_DEBUG_INFO_BTF=y\n# CONFIG_DRM is not set\n")
    kconfig.check(config, wanted)
    config.write_text("CONFIG_DRM=y\n")
    with pytest.raises(UsageError) as caught:
        kconfig.check(config, wanted)
    assert "CONFIG_DEBUG_INFO_BTF=y (kfuncs)" in caught.value.message
    assert "CONFIG_DRM=n (small)" in caught.value.message


def test_a_later_fragment_wins(tmp_path):
    fragment, config = tmp_path / "f.config", tmp_path / ".config"
    fragment.write_text("CONFIG_KASAN=n\nCONFIG_KASAN=y\n")
    config.write_text("CONFIG_KASAN=y\n")
    kconfig.check(config, kconfig.read(fragment))


def test_a_line_that_is_no_option(tmp_path):
    (tmp_path / "f.config").write_text("\nKASAN=y\n")
    with pytest.raises(UsageError, match=r"f\.config:2: not an option: 'KASAN=y'"):
        kconfig.read(tmp_path / "f.config")


# ---- sources -------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_tarball_is_unpacked_once(cache, tree, tmp_path):
    path = tmp_path / "linux.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tree, "linux-7.3")
    first = source.obtain(str(path))
    assert (first.tree / "kernel/bpf/x.c").read_text() == FILE
    (first.tree / "marker").touch()
    assert (source.obtain(str(path)).tree / "marker").exists()


def test_a_git_tree_is_built_as_committed(cache, tree):
    git = ["git", "-C", str(tree), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    assert (source.obtain(str(tree)).tree / "kernel/bpf/x.c").read_text() == FILE
    (tree / "kernel/bpf/x.c").write_text("changed")
    with pytest.raises(UsageError, match="changes that are not committed"):
        source.obtain(str(tree))


def test_a_directory_is_copied_and_never_written(cache, tree):
    found = source.obtain(str(tree))
    found.patch({"kernel/bpf/x.c": b"patched"})
    assert (tree / "kernel/bpf/x.c").read_text() == FILE
    (tree / "kernel/bpf/x.c").write_text("another source")
    assert source.obtain(str(tree)).key != found.key


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no kernel source"),
        (lambda path: path.mkdir(), "is not a kernel source: it has no Makefile"),
        (lambda path: path.write_text("words"), "is not a tarball"),
    ],
)
def test_what_is_no_source(cache, tmp_path, make, words):
    make(tmp_path / "thing")
    with pytest.raises(UsageError, match=words):
        source.obtain(str(tmp_path / "thing"))
    assert not list((cache / "bpfthrow/sources").glob("*")) if cache.exists() else True


def test_a_package_that_is_no_source(cache):
    with pytest.raises(UsageError, match="not a kernel source"):
        source.obtain("deb:bash")


def test_patching_is_exact_and_touches_only_what_changes(cache, tree):
    found = source.obtain(str(tree))
    path, other = found.tree / "kernel/bpf/x.c", found.tree / "Kbuild"
    found.patch({"kernel/bpf/x.c": b"first", "new.c": b"new", "Kbuild": None})
    assert path.read_bytes() == b"first"
    assert not other.exists()
    assert found.original("kernel/bpf/x.c") == FILE.encode()
    assert found.original("new.c") is None
    os.utime(path, (1, 1))
    found.patch({"kernel/bpf/x.c": b"first"})
    assert path.stat().st_mtime == 1
    assert other.exists()
    assert not (found.tree / "new.c").exists()
    found.patch({})
    assert path.read_text() == FILE


# ---- building ------------------------------------------------------------------------------

MAKE = """#!{python}
import os, sys, time
words = sys.argv[1:]
if "mrproper" in words:
    sys.exit()
out = next(w[2:] for w in words if w.startswith("O="))
tree = words[words.index("-C") + 1]
if "allnoconfig" in words:
    open(out + "/.config", "w").write("")
    sys.exit()
code = open(tree + "/kernel/bpf/x.c").read()
print("  CC      kernel/bpf/x.o", flush=True)
if "error" in code:
    print("kernel/bpf/x.c:2:1: error: unknown type name 'two'")
    print("make: *** [Makefile:1: vmlinux] Error 2")
    sys.exit(2)
if "hang" in code:
    time.sleep(60)
release = "7.3.4" + next(w for w in words if w.startswith("LOCALVERSION=")).partition("=")[2]
os.makedirs(out + "/arch/x86/boot", exist_ok=True)
head = bytearray(0x400)
head[0x1fe:0x200], head[0x202:0x206] = b"\\x55\\xaa", b"HdrS"
head[0x20e:0x210] = (0x100).to_bytes(2, "little")
head[0x300:0x300 + len(release) + 1] = release.encode() + b"\\0"
open(out + "/arch/x86/boot/bzImage", "wb").write(bytes(head))
for name in ("System.map", "vmlinux"):
    open(out + "/" + name, "w").write(name)
"""
CONFIGURE = """#!/bin/sh
for word in "$@"; do case $word in O=*) out=${word#O=} ;; esac; done
while [ $# -gt 0 ]; do [ "$1" = --custom ] && cat "$2" >> "$out/.config"; shift; done
"""


@pytest.fixture
def world(cache, tree, tmp_path, monkeypatch):
    """make, objcopy and virtme-configkernel of our own, before the real ones in PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "make": MAKE.replace("{python}", sys.executable),
        "virtme-configkernel": CONFIGURE,
        "objcopy": '#!/bin/sh\nfor last; do :; done; echo btf > "$last"\n',
        **{name: f"#!/bin/sh\necho {name} 1.0\n" for name in ("gcc", "pahole", "flex", "bison")},
    }
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(builder.tools, "own", builder.tools.need)
    monkeypatch.setattr(builder, "require_space", lambda *_: None)
    monkeypatch.setattr(source, "require_space", lambda *_: None)
    return tree


def _series(tmp_path, new):
    path = tmp_path / "mine.patch"
    path.write_text(FIRST.replace("TWO", new))
    return path


def test_a_build_is_found_again_and_boots_by_its_name(world, tmp_path):
    order = builder.Order(str(world), (_series(tmp_path, "TWO"),))
    kernel = builder.build(order)
    assert (kernel.name, kernel.release) == ("mine", "7.3.4-mine")
    assert kernel.expects_throw
    assert kernel.modules is None
    assert (kernel.image.parent / "vmlinux.btf").read_text() == "btf\n"
    stamp = kernel.image.stat().st_mtime_ns
    assert builder.build(order).image.stat().st_mtime_ns == stamp
    assert spec.resolve("build:mine") == kernel


def test_another_series_is_another_build_of_the_same_tree(world, tmp_path):
    one = builder.build(builder.Order(str(world), (_series(tmp_path, "ONE"),), name="one"))
    two = builder.build(builder.Order(str(world), (_series(tmp_path, "TWO"),), name="two"))
    plain = builder.build(builder.Order(str(world), name="base"))
    assert len({one.image, two.image, plain.image}) == 3
    assert len(list((builder.cache_dir() / "sources").glob("[!.]*"))) == 1


def test_code_that_does_not_compile_shows_its_first_error_and_keeps_the_log(world, tmp_path):
    order = builder.Order(str(world), (_series(tmp_path, "error"),))
    with pytest.raises(
        UsageError, match=r"mine does not compile: kernel/bpf/x\.c:2:1: error: un"
    ) as e:
        builder.build(order)
    log = Path(e.value.fix.removeprefix("the whole log: "))
    assert "Error 2" in log.read_text()
    assert not list(builder.cached())
    assert builder.build(builder.Order(str(world), (_series(tmp_path, "TWO"),))).name == "mine"


def test_a_series_that_does_not_apply_builds_nothing(world, tmp_path):
    late = tmp_path / "late.patch"
    late.write_text(SECOND)
    with pytest.raises(UsageError, match="does not apply"):
        builder.build(builder.Order(str(world), (late,)))
    assert not builder.builds_dir().exists()


def test_a_configuration_that_lost_an_option_is_not_built(world, tmp_path, monkeypatch):
    fragment = tmp_path / "f.config"
    fragment.write_text("# wanted\nCONFIG_KASAN=y\n")
    order = builder.Order(str(world), fragments=(fragment,), name="kasan")
    (tmp_path / "bin/virtme-configkernel").write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(UsageError, match=r"CONFIG_KASAN=y \(wanted\)"):
        builder.build(order)
    assert not list(builder.cached())


def test_an_interrupt_ends_make_and_leaves_nothing(world, tmp_path):
    series = _series(tmp_path, "hang")
    code = (
        "import sys\nfrom pathlib import Path\nfrom harness.kernels import builder, source\n"
        "builder.require_space = source.require_space = lambda *_: None\n"
        "builder.tools.own = builder.tools.need\n"
        f"builder.build(builder.Order({str(world)!r}, (Path({str(series)!r}),)))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        running = [
            Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children.read_text().split()
        ]
        if any(b"LOCALVERSION" in line for line in running):
            break
        time.sleep(0.05)
    (make,) = (int(pid) for pid in children.read_text().split())
    process.send_signal(signal.SIGINT)
    assert process.wait(20) != 0
    assert not Path(f"/proc/{make}").exists()
    assert not list(builder.cached())


@pytest.mark.parametrize("name", ["../x", "Name", "a b", "-x", "x" * 50])
def test_a_name_that_cannot_be_one(world, name):
    with pytest.raises(UsageError, match="cannot be a kernel's name"):
        builder.build(builder.Order(str(world), name=name))


def test_a_missing_program_is_named(world, monkeypatch):
    monkeypatch.setattr(builder.tools, "find", lambda name: None if name == "flex" else "/bin/true")
    with pytest.raises(UsageError, match="flex is not installed") as caught:
        builder.build(builder.Order(str(world)))
    assert caught.value.fix == "make setup-build"


def test_a_name_that_was_never_built(world):
    with pytest.raises(UsageError, match="no kernel was built as 'mine'"):
        spec.resolve("build:mine")


def test_a_damaged_build_is_as_good_as_absent(world, tmp_path):
    kernel = builder.build(builder.Order(str(world), name="x"))
    (kernel.image.parent / "build.json").write_text(json.dumps({"name": "x"}))
    assert not list(builder.cached())
