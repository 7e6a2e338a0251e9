# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which programs of an object one load takes along, and for how many cases it is good."""

from types import SimpleNamespace

import pytest

from harness.model import Loading
from harness.suite import collect
from harness.target.agent import loading, session, syscall
from harness.target.agent.loading import Loaded, Program

_SOURCE = """
#include "exceptions.h"

SEC("tc") int plain(struct __sk_buff *skb) { return 1; }

SEC("?tc") __success __retval(2) __hook("test_run") int loads(struct __sk_buff *skb) { return 2; }

SEC("?tc") __success int loads_too(struct __sk_buff *skb) { return skb->len; }

SEC("?tc") __failure __errno(22) __msg("R0 !read_ok") int refused(struct __sk_buff *skb) {
	return 4;
}

SEC("?tc") __success __on("6.12", "failure") int refused_there(struct __sk_buff *skb) {
	return 5;
}

SEC("?tc") int says_nothing(struct __sk_buff *skb) { return 6; }
"""


@pytest.fixture
def cases(tmp_path):
    def compiled(more=""):
        source = tmp_path / "some.bpf.c"
        source.write_text(_SOURCE + more)
        return {case.program: case for case in collect([source])}

    return compiled


def test_what_no_kernel_refuses_is_taken_along(cases):
    found = cases()
    assert {case.loading for case in found.values()} == {Loading(along=("loads", "loads_too"))}


def test_nothing_is_taken_along_where_a_program_may_crash(cases):
    found = cases('SEC("?tc") __crashes("why") int bad(struct __sk_buff *skb) { return 7; }')
    assert {case.loading for case in found.values()} == {Loading()}


class Loads:
    """libbpf and bpftool, played: what was loaded together, in order."""

    def __init__(self, refuses):
        self.refuses, self.seen = refuses, []

    def by_libbpf(self, loaded, wanted, keep, how=None):
        self.seen.append(tuple(keep))
        if self.refuses & set(wanted):
            return loading.Refusal("no", 22, "", "libbpf")
        loaded.programs |= {name: SimpleNamespace(name=name, fd=7) for name in keep}
        return None


@pytest.fixture
def loads(monkeypatch, tmp_path):
    def made(*refuses):
        played = Loads(set(refuses))
        monkeypatch.setattr(loading, "_names", lambda _: (("a", "b", "c", "d"), ("a", "b")))
        monkeypatch.setattr(loading, "_load_by_libbpf", played.by_libbpf)
        path = tmp_path / "some.bpf.o"
        path.write_bytes(b"")
        return played, str(path)

    return made


def test_one_load_for_all_that_load(loads, tmp_path):
    played, path = loads("d")
    loaded = loading.load(path, str(tmp_path / "pins"), along=("c",))
    assert played.seen == [("a", "b", "c")]
    assert isinstance(loaded.program("d"), loading.Refusal)
    assert loaded.program("c").name == "c"
    assert len(played.seen) == 2


def test_a_refused_program_does_not_hide_the_others(loads, tmp_path):
    played, path = loads("c")
    loaded = loading.load(path, str(tmp_path / "pins"), along=("c", "d"))
    assert played.seen == [("a", "b", "c", "d"), ("a", "b")]
    assert isinstance(loaded.program("c"), loading.Refusal)
    assert loaded.program("d").name == "d"


def test_a_program_loaded_alone_takes_nothing_along(loads, tmp_path):
    played, path = loads()
    loading.load(path, str(tmp_path / "pins"), alone=True, along=("c",))
    assert played.seen == []


@pytest.mark.parametrize(
    ("uses", "companions", "spent"),
    [
        ({1}, False, False),
        ({1}, True, True),
        ({1, 2}, False, True),
        # through a prog array everything is reached
        ({3}, False, True),
    ],
)
def test_what_cannot_be_put_back_spends_a_load(monkeypatch, uses, companions, spent):
    monkeypatch.setattr(syscall, "program_maps", lambda _: frozenset(uses))
    loaded = Loaded("o", "d", lasting={2}, leading={3})
    loaded.spend(Program("p", 7, 3, 1, "", "", (), {}), companions=companions)
    assert loaded.spent is spent


def test_without_such_maps_nobody_asks_the_kernel():
    loaded = Loaded("o", "d", leading={3})
    loaded.spend(Program("p", -1, 3, 1, "", "", (), {}), companions=True)
    assert not loaded.spent


def test_a_spent_object_is_loaded_anew_for_one_case(monkeypatch):
    seen = []

    def load(path, _place, *, statistics, alone, along):
        seen.append(along)
        return Loaded(path, "", statistics=statistics, alone=alone)

    monkeypatch.setattr(loading, "load", load)
    agent = object.__new__(session.Session)
    agent._loaded, agent._loads, agent._hooks = None, 0, None
    agent.directory, agent._cross_checked = "", set()
    how = Loading(along=("x",))
    first = agent._object("o", how, statistics=False)
    assert agent._object("o", how, statistics=False) is first
    first.spent = True
    assert agent._object("o", how, statistics=False) is not first
    assert agent._object("other", how, statistics=False).path == "other"
    assert seen == [("x",), (), ("x",)]
