# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
from fnmatch import fnmatchcase

import pytest

from harness.errors import UsageError
from harness.kernels import catalogue

GOOD = """
default = "1"
[kernels.1]
suites = ["s"]
image = "linux-image-1*"
expects_throw = true
"""


@pytest.fixture
def load(tmp_path):
    def load(text):
        (tmp_path / "kernels.toml").write_text(text)
        return catalogue.load(tmp_path / "kernels.toml")

    return load


def test_the_projects_catalogue_holds_the_four_series_and_the_negative_control():
    known = catalogue.load()
    assert list(known.entries) == ["6.1", "6.12", "6.18", "7.3"]
    assert known.default == "6.12"
    assert [name for name, entry in known.entries.items() if not entry.expects_throw] == ["6.1"]


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("6.1", "linux-image-6.1.0-50-amd64"),
        ("6.12", "linux-image-6.12.107+deb13-amd64"),
        ("6.18", "linux-image-6.18.15+deb13-amd64"),
        ("7.3", "linux-binary-7.3.4+deb13-amd64"),
    ],
)
def test_patterns_take_the_plain_flavour_only(name, package):
    known = catalogue.load()

    def taken(candidate):
        excluded = any(fnmatchcase(candidate, bad) for bad in known.exclude)
        return fnmatchcase(candidate, known.entries[name].image) and not excluded

    assert taken(package)
    stem = package.removesuffix("-amd64")
    others = [f"{stem}-cloud-amd64", f"{stem}-rt-amd64", f"{package}-dbg", f"{package}-unsigned"]
    assert not [other for other in others if taken(other)]


def test_missing_optional_keys_are_empty(load):
    assert load(GOOD).entries["1"].also == ()
    assert load(GOOD).exclude == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense = 1\n" + GOOD, "unknown key 'nonsense'"),
        (GOOD + "flavour = 1\n", "unknown key 'flavour'"),
        (GOOD.replace("expects_throw = true", ""), "expects_throw must be given"),
        (GOOD.replace('["s"]', '"s"'), "suites must be given, as list"),
        (GOOD.replace('default = "1"', 'default = "2"'), "default '2' is not among"),
        (GOOD.replace("[kernels.1]", "[kernels.1"), "kernels.toml"),
    ],
)
def test_a_wrong_catalogue_names_file_and_key(load, text, message):
    with pytest.raises(UsageError, match=r"kernels\.toml") as caught:
        load(text)
    assert message in caught.value.message
