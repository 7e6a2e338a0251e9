# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Keys of what a CI keeps: the same for the same, another for all that matters."""

import argparse
import json
import os

import pytest
from kernel_tree import FIRST, write_programs, write_tree

from harness.errors import UsageError
from harness.kernels import builder, command, keys, making
from harness.kernels.builder import Order


@pytest.fixture
def world(cache, tmp_path, monkeypatch):
    programs = write_programs(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "ccache"))
    (tmp_path / "a.patch").write_text(FIRST)
    return write_tree(tmp_path / "linux")


def _keys(specs=("6.12",), order=None):
    return {area.name: area.key for area in keys.areas(specs, order)}


def test_the_same_gives_the_same_and_another_kernel_another(cache):
    assert _keys() == _keys(("6.12", "6.12"))
    assert set(_keys()) == {"kernels", "guests"}
    assert not set(_keys().values()) & set(_keys(("6.12", "7.3")).values())


def test_a_build_has_a_key_before_its_source_is_unpacked(cache, world, tmp_path):
    plain, patched = Order(str(world)), Order(str(world), (tmp_path / "a.patch",))
    one, other = _keys(order=plain), _keys(order=patched)
    assert one["kernels"] == other["kernels"]
    assert one["guests"] != other["guests"]
    assert one["build"] != other["build"]
    assert one["ccache"] != other["ccache"]
    assert not (cache / "sources").exists()


def test_keys_of_one_kind_begin_alike_where_the_newest_is_better_than_nothing(world, tmp_path):
    plain, patched = Order(str(world)), Order(str(world), (tmp_path / "a.patch",))
    begin = {area.name: area.restore for area in keys.areas(["6.12"], plain)}
    for area in keys.areas(["6.12"], patched):
        assert area.restore == begin[area.name]
        assert area.key.startswith(area.restore or "bpfthrow-")
    # a kernel that is another one must not be taken for this one
    assert (begin["kernels"], begin["build"]) == ("", "")


def test_another_compiler_or_qemu_is_another_key(world, monkeypatch):
    order = Order(str(world))
    before = _keys(order=order)
    monkeypatch.setattr(builder, "compiler", lambda: "gcc 99")
    after = _keys(order=order)
    assert (before["build"], before["ccache"]) != (after["build"], after["ccache"])
    monkeypatch.setattr(keys, "_host", lambda: "another machine")
    assert _keys()["guests"] != before["guests"]


def test_all_that_goes_into_the_agent_decides_what_a_saved_guest_is(world, tmp_path, monkeypatch):
    package = tmp_path / "harness"
    package.mkdir()
    (package / "wire.py").write_text("one")
    monkeypatch.setattr(keys, "_PACKAGE", package)
    before = _keys()["guests"]
    (package / "wire.py").write_text("two")
    assert _keys()["guests"] != before


def test_the_build_will_be_where_its_area_says(world, tmp_path, monkeypatch):
    monkeypatch.setattr(builder.tools, "own", builder.tools.need)
    monkeypatch.setattr(builder, "require_space", lambda *_: None)
    monkeypatch.setattr(builder.source, "require_space", lambda *_: None)
    order = Order(str(world), (tmp_path / "a.patch",), name="mine")
    (area,) = [each for each in keys.areas([], order) if each.name == "build"]
    assert builder.build(order).image.parent == area.paths[0]


@pytest.fixture
def run(capsys):
    def run(*words):
        parser = argparse.ArgumentParser()
        command.add_parser(parser.add_subparsers())
        assert command.run(parser.parse_args(["kernels", "key", *words])) == 0
        return capsys.readouterr().out

    return run


def test_github_gets_lines_for_its_outputs(world, run, tmp_path):
    words = ("--source", str(world), "--patches", str(tmp_path / "a.patch"), "--name", "mine")
    text = run("--github", *words)
    plain = json.loads(run("--json", *words))
    for area in plain:
        assert f"{area['name']}-key={area['key']}\n" in text
        block = "\n".join([f"{area['name']}-paths<<end-of-paths", *area["paths"], "end-of-paths"])
        assert f"{block}\n" in text
    assert [area["name"] for area in plain] == ["kernels", "guests", "build", "ccache"]
    assert str(tmp_path / "ccache") in text
    assert run("--kernel", "6.1*").splitlines()[0].startswith("kernels  bpfthrow-kernels-")


def test_patches_of_nothing(run):
    with pytest.raises(UsageError, match="need --source"):
        run("--name", "x")


def test_an_error_of_the_compiler_marks_its_line(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(builder.tools, "own", builder.tools.need)
    monkeypatch.setattr(builder, "require_space", lambda *_: None)
    monkeypatch.setattr(builder.source, "require_space", lambda *_: None)
    (tmp_path / "a.patch").write_text(FIRST.replace("TWO", "error"))
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    words = ["build", "--source", str(world), "--patches", str(tmp_path / "a.patch")]
    with pytest.raises(making.CompileError):
        command.run(parser.parse_args(["kernels", *words, "--annotate", "github"]))
    assert capsys.readouterr().out == (
        "::error file=kernel/bpf/x.c,line=2,title=the kernel does not compile"
        "::kernel/bpf/x.c:2:1: error: unknown type name 'two'\n"
    )
    linker = making.CompileError("x", "ld: undefined reference to `y'", tmp_path)
    assert linker.place() == ("", 0)
