# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Images of the guest root, made by the program that makes the real ones."""

import shutil
import subprocess

import pytest

from harness import tools
from harness.errors import MachineLostError
from harness.target import rootimage


@pytest.fixture
def image(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"{number}").write_bytes(bytes([number]) * 8192)
    made = tmp_path / "0123/root.erofs"
    made.parent.mkdir()
    argv = [tools.need("mkfs.erofs"), "--quiet", str(made), str(tree)]
    subprocess.run(argv, check=True, capture_output=True)
    shutil.rmtree(tree)
    return made


def _refused(image):
    with pytest.raises(MachineLostError) as caught:
        rootimage.require_whole(image)
    assert f"rm -r {image.parent};" in caught.value.fix
    return caught.value.message


def test_a_whole_image_is_taken(image):
    rootimage.require_whole(image)


def test_an_image_that_is_a_byte_short_is_not(image):
    whole = image.read_bytes()
    image.write_bytes(whole[:-1])
    assert _refused(image) == f"{image} is cut short: {len(whole) - 1} bytes of {len(whole)}"


@pytest.mark.parametrize("length", [0, 1024, 1063])
def test_less_than_its_first_block_is_no_image(image, length):
    image.write_bytes(image.read_bytes()[:length])
    assert _refused(image) == f"{image} is no erofs image"


def test_what_was_overwritten_is_no_image(image):
    image.write_bytes(b"\xa5" * image.stat().st_size)
    assert _refused(image) == f"{image} is no erofs image"


def test_an_image_that_is_gone_is_named(image):
    image.unlink()
    assert _refused(image) == f"cannot read {image}: No such file or directory"
