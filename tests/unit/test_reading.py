# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Files that a user names: devices without an end among them."""

import pytest

from harness.errors import UsageError
from harness.reading import read_asked


def test_no_more_is_read_of_a_file_than_asked_for(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(5))
    assert read_asked(file, 5) == bytes(5)
    with pytest.raises(UsageError, match="file: larger than 4 bytes") as caught:
        read_asked(file, 4, "shorten it")
    assert caught.value.fix == "shorten it"
    with pytest.raises(UsageError, match="^/dev/zero: larger than 1 MiB$"):
        read_asked("/dev/zero", 1 << 20)


@pytest.mark.parametrize(
    ("name", "why"),
    [("", "No such file"), ("absent", "No such file"), (".", "Is a directory"), ("\0", "null")],
)
def test_what_cannot_be_read_is_named(name, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"{name}.*: cannot be read: .*{why}"):
        read_asked(name, 1)
