# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import json
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.kernels import apt, root


def test_recipe_is_well_formed_and_names_what_the_guest_needs():
    recipe = root.load_recipe()
    assert {"bpftool", "openssh-server", "libbpf1"} <= set(recipe["packages"])
    assert not set(recipe["packages"]) & set(recipe["without"])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda text: text + "\nflavour = 1\n", "flavour"),
        (lambda text: text.replace('libbpf_at_least = "1.3"', "libbpf_at_least = 1.3"), "libbpf"),
        (lambda text: text.replace("suite =", "suites ="), "suite, suites"),
    ],
)
def test_wrong_recipe_names_the_key(tmp_path, change, key):
    path = tmp_path / "root.toml"
    path.write_text(change((Path(__file__).parents[2] / "vm/root.toml").read_text()))
    with pytest.raises(UsageError, match=rf"unknown, missing or mistyped: {key}"):
        root.load_recipe(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bpftool v7.5.0\nusing libbpf v1.5\nfeatures: llvm, skeletons\n", ("7.5.0", "1.5")),
        ("bpftool v7.9.9\nusing libbpf v1.10\n", ("7.9.9", "1.10")),
    ],
)
def test_bpftool_that_is_new_enough(text, expected):
    assert root.check_bpftool(text, "1.3") == expected


@pytest.mark.parametrize(
    "text", ["bpftool v7.1.0\nusing libbpf v1.1\n", "bpftool v6.1.0\nfeatures:\n", ""]
)
def test_bpftool_that_is_too_old_says_what_it_could_not_do(text):
    with pytest.raises(UsageError, match=r"1\.3 is needed: .* exception callback"):
        root.check_bpftool(text, "1.3")


def test_library_of_the_build_machine_counts_as_missing():
    listed = """\
\tlinux-vdso.so.1 (0x00007ffc)
\tlibc.so.6 => /build/tree/usr/lib/x86_64-linux-gnu/libc.so.6 (0x00007f)
\tlibsqlite3.so.0 => /lib/x86_64-linux-gnu/libsqlite3.so.0 (0x00007f)
\tlibgone.so.1 => not found
"""
    assert root.missing_libraries(listed, Path("/build/tree")) == [
        "libsqlite3.so.0",
        "libgone.so.1",
    ]


def test_failed_build_leaves_nothing_and_says_why(cache, monkeypatch):
    def refuse(_names, suite, _into):
        raise UsageError(f"no {suite} today")

    monkeypatch.setattr(apt, "download_with_dependencies", refuse)
    with pytest.raises(UsageError, match="no trixie today"):
        root.ensure_root()
    assert not list((cache / "root").iterdir())
    assert root.cached_root() is None


def test_built_root_is_found_without_asking_anybody(cache, monkeypatch):
    monkeypatch.setattr(apt, "download_with_dependencies", None)
    place = cache / "root" / root.recipe_hash()
    place.mkdir(parents=True)
    (place / "root.erofs").touch()
    (place / "manifest.json").write_text(
        json.dumps({"bpftool": "7.5.0", "libbpf": "1.5", "python": "3.13.5"})
    )
    built = root.ensure_root()
    assert (built.image, built.libbpf) == (place / "root.erofs", "1.5")
    assert root.as_json(built)["image"] == str(place / "root.erofs")
    (place / "root.erofs").unlink()
    assert root.cached_root() is None
