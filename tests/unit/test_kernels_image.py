# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import pytest

from harness.errors import UsageError
from harness.kernels.image import numbers, release_of, should_throw


def test_release_comes_from_the_boot_header(make_image):
    assert release_of(make_image("6.12.107+deb13-amd64")) == "6.12.107+deb13-amd64"


@pytest.mark.parametrize("cut", [0, 0x1FF, 0x203])
def test_truncated_image_is_named_and_refused(make_image, cut):
    image = make_image("6.12.1")
    image.write_bytes(image.read_bytes()[:cut])
    with pytest.raises(UsageError, match=r"bzImage is not an x86 kernel image"):
        release_of(image)


def test_elf_is_not_a_kernel_image(tmp_path):
    image = tmp_path / "vmlinux"
    image.write_bytes(b"\x7fELF" + bytes(4096))
    with pytest.raises(UsageError, match="not an x86 kernel image") as caught:
        release_of(image)
    assert "bzImage" in caught.value.fix


@pytest.mark.parametrize("release", ["", "\x01jC3", "a/../b"])
def test_header_without_a_release_is_refused(make_image, release):
    with pytest.raises(UsageError, match="names no release"):
        release_of(make_image(release))


def test_unreadable_image_says_why(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        release_of(tmp_path / "absent")


@pytest.mark.parametrize(
    ("release", "expected"),
    [("6.1.0-50-amd64", False), ("6.6.9", False), ("6.7.0-rc1", True), ("7.3.4+deb13-amd64", True)],
)
def test_which_releases_should_throw(release, expected):
    assert should_throw(release) is expected


def test_numbers_stop_at_the_first_word():
    assert numbers("6.12.107+deb13-amd64") == (6, 12, 107)
    assert numbers("next-20261122") == ()
