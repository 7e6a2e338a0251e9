# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.build import find_clang
from harness.errors import UsageError
from harness.kernels import Kernel, catalogue, resolve, resolve_all, spec
from harness.paths import VM_DIR

GUEST = (VM_DIR / "guest.config").read_text()


@pytest.fixture
def tree(tmp_path, make_image):
    """A built kernel tree, as far as anybody looks into it."""
    top = tmp_path / "linux"
    make_image("6.99.0-mine", top / "arch/x86/boot/bzImage")
    (top / "Kbuild").touch()
    (top / ".config").write_text(GUEST)
    (top / "include/config").mkdir(parents=True)
    (top / "include/config/kernel.release").write_text("6.99.0-mine\n")
    return top


@pytest.fixture
def module(tmp_path):
    """An object file that depmod takes for a module without dependencies."""
    source = tmp_path / "veth.c"
    source.write_text("int nothing;\n")
    built = tmp_path / "veth.ko"
    subprocess.run([find_clang(), "-c", source, "-o", built], check=True)
    return built


@pytest.fixture
def built(monkeypatch):
    """Let kernels of these names count as built."""

    def known(*names):
        kernels = [Kernel(n, n, Path(n), None, None, expects_throw=True, origin="") for n in names]
        monkeypatch.setattr(spec.builds, "cached", lambda: iter(kernels))

    return known


def test_names_patterns_default_and_all():
    known = catalogue.load()
    assert spec.names("6.18", known) == ["6.18"]
    assert spec.names("default", known) == ["6.12"]
    assert spec.names("7.*", known) == ["7.3"]
    assert spec.names("all", known) == list(known.entries)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("6.12..7.3", ["6.12", "6.18", "7.3"]),
        ("6.7..7.0", ["6.12", "6.18"]),
        ("..6.12", ["6.1", "6.12"]),
        ("6.18..", ["6.18", "7.3"]),
        ("6..6", ["6.1", "6.12", "6.18"]),
        ("6.1*", ["6.1", "6.12", "6.18"]),
    ],
)
def test_ranges_and_patterns(given, found):
    assert spec.names(given, catalogue.load()) == found


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("6.13..6.17", "no kernel lies in 6.13..6.17.*a wider range"),
        ("7.3..6.1", "no kernel lies in.*the older version first"),
        ("..", "is no range of kernels"),
        ("6.1..6.12..7.3", "is no range of kernels"),
        ("old..new", "is no range of kernels"),
    ],
)
def test_ranges_that_stand_for_nothing(given, says):
    with pytest.raises(UsageError) as caught:
        spec.names(given, catalogue.load())
    assert re.search(says, str(caught.value), re.DOTALL)


def test_expand_keeps_the_order_and_names_each_once(built):
    built("mine", "theirs")
    found = spec.expand(["7.3", "6.12..", "build:m*", "build:*", "tree:/linux", "a/bzImage"])
    assert found == [
        "7.3", "6.12", "6.18", "build:mine", "build:theirs", "tree:/linux", "a/bzImage",
    ]  # fmt: skip


def test_pattern_of_builds_that_matches_none(built):
    built("mine")
    with pytest.raises(UsageError, match=r"'x\*' \(there are: mine\)"):
        spec.expand(["build:x*"])


def test_unknown_name_lists_the_known_ones(cache):
    with pytest.raises(UsageError, match=r"'6\.13'.*6\.1, 6\.12, 6\.18, 7\.3"):
        resolve("6.13")


def test_image_without_modules(cache, make_image):
    image = make_image("6.5.1")
    kernel = resolve(str(image))
    assert (kernel.release, kernel.modules, kernel.config) == ("6.5.1", None, None)
    assert kernel.expects_throw is False


def test_image_finds_its_unpacked_package(cache, tmp_path, make_image, module):
    image = make_image("6.8.1-x", tmp_path / "pkg/boot/vmlinuz-6.8.1-x")
    image.with_name("config-6.8.1-x").write_text(GUEST)
    place = tmp_path / "pkg/usr/lib/modules/6.8.1-x/kernel/drivers/net"
    place.mkdir(parents=True)
    shutil.copy(module, place)
    kernel = resolve(str(image))
    assert kernel.config == image.with_name("config-6.8.1-x")
    assert "drivers/net/veth.ko" in (kernel.modules / "modules.dep").read_text()
    # the package's own directory is not written to
    assert cache in kernel.modules.parents
    assert not list(tmp_path.glob("pkg/**/modules.dep"))


def test_tree_without_modules(cache, tree):
    kernel = resolve(f"tree:{tree}")
    assert (kernel.release, kernel.modules) == ("6.99.0-mine", None)
    assert kernel.config == tree / ".config"
    assert kernel.origin == f"tree:{tree}"
    assert kernel.expects_throw


@pytest.mark.parametrize("order", ["drivers/net/veth.o\n", "kernel/drivers/net/veth.ko\n"])
def test_tree_modules_are_indexed_once_and_again_after_a_build(cache, tree, module, order):
    (tree / "drivers/net").mkdir(parents=True)
    shutil.copy(module, tree / "drivers/net")
    (tree / "modules.order").write_text(order)
    kernel = resolve(f"tree:{tree}")
    index = kernel.modules / "modules.dep"
    assert "kernel/drivers/net/veth.ko:" in index.read_text()
    before = index.stat().st_ino
    assert resolve(str(kernel.image)) == kernel
    assert index.stat().st_ino == before
    (tree / "modules.order").write_text("")
    assert resolve(f"tree:{tree}").modules is None


def test_tree_that_is_not_built_says_what_to_make(cache, tree):
    (tree / "arch/x86/boot/bzImage").unlink()
    with pytest.raises(UsageError, match="not built") as caught:
        resolve(f"tree:{tree}")
    assert f"make -C {tree} bzImage" in caught.value.fix


def test_directory_that_is_no_tree(cache, tmp_path):
    with pytest.raises(UsageError, match="not a kernel tree"):
        resolve(f"tree:{tmp_path}")


def test_the_same_kernel_twice_is_one(cache, make_image):
    image = str(make_image("6.9.1"))
    assert len(resolve_all([image, image])) == 1


@pytest.mark.parametrize("option", ["CONFIG_VIRTIO_BLK", "CONFIG_EROFS_FS"])
@pytest.mark.parametrize("how", ["{} is not set", "{}=m"])
def test_a_kernel_that_could_not_boot_as_a_guest_is_refused(tree, option, how):
    (tree / ".config").write_text(GUEST.replace(f"{option}=y", how.format(option)))
    with pytest.raises(
        UsageError, match=rf"lacks what a guest needs, built in:\n  {option} \("
    ) as e:
        resolve(f"tree:{tree}")
    assert "kernels build" in e.value.fix
    shutil.copy(tree / "arch/x86/boot/bzImage", tree.with_name("vmlinuz"))
    shutil.copy(tree / ".config", tree.with_name("config-6.99.0-mine"))
    with pytest.raises(UsageError, match=option):
        resolve(str(tree.with_name("vmlinuz")))


def test_a_kernel_without_unwinder_is_booted_and_asked(tree):
    (tree / ".config").write_text(GUEST.replace("CONFIG_UNWINDER_ORC=y", ""))
    assert resolve(f"tree:{tree}").expects_throw
