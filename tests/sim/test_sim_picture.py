# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The picture: what is in it, that it is well formed, and that it stays small."""

import xml.etree.ElementTree as ET

import pytest

from harness.cli import main
from harness.sim import calltree, run_case, svg
from harness.sim.picture import MAX_ROWS, picture
from harness.sim.trace import Event, Place, Trace, TraceEvent

TEXT = """
static __noinline int leaf(int x) { barrier_var(x); return x + 1; }
static __noinline int deep3(int x) { if (x > 10) bpf_throw(x); return x; }
static __noinline int deep2(int x)
{
    return deep3(x) + 1;
}
static __noinline int deep1(int x) { return deep2(x) + leaf(x); }
int catches(__u64 cookie) { return cookie == 64 ? 2 : 0; }
__exception_cb(catches) SEC("tc") int caught(struct __sk_buff *ctx)
{
    return leaf(1) + deep1(ctx->len);
}
SEC("tc") int calm(struct __sk_buff *ctx) { return leaf(ctx->len); }
SEC("tc") int wild(struct __sk_buff *ctx) { return leaf(1) + *(volatile int *)16 + ctx->len; }
static int again(__u32 index, void *sum) { *(int *)sum += leaf(index); return 0; }
SEC("tc") int many(struct __sk_buff *ctx)
{
    int sum = 0;
    bpf_loop(300, again, &sum, 0);
    return deep1(ctx->len) + sum;
}
"""
NAMESPACE = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def traced(case_of):
    def go(program, text=TEXT, **options):
        log = Trace(on=True)
        seen = run_case(case_of(text, program, **options), "7.3", trace=log)
        return log.events, seen

    return go


def drawn(events, verdict=""):
    """Parsed picture and its words."""
    root = ET.fromstring(picture(events, title="t", subtitle="s", verdict=verdict))
    return root, [node.text for node in root.iter(f"{NAMESPACE}text")]


def boxes(root, kind):
    return [r for r in root.iter(f"{NAMESPACE}rect") if r.get("class") == kind]


def test_a_throw_with_a_callback(traced):
    events, seen = traced("caught")
    assert seen.retval == 2
    root, words = drawn(events, "TC_ACT_SHOT")
    for name in ("caught", "deep1", "deep2", "deep3", "leaf", "catches"):
        assert name in words
    assert "bpf_throw(cookie=64 (0x40))" in words
    assert words.count("vanishes") == 3
    assert words.count("vanishes, the throw ends") == 1
    assert "value: 2  TC_ACT_SHOT" in words
    # without colour: dashed boxes for what vanishes, two for a program; one more is the legend's
    assert len(boxes(root, "gone")) == 3 + 2 + 1
    # up to the boundary, three crosses, down to the callback, and the legend's sample
    assert len([p for p in root.iter(f"{NAMESPACE}path") if p.get("class") == "throw"]) == 6
    assert "return deep3(x) + 1;" in words


def test_it_is_self_contained_and_of_sensible_size(traced):
    events, _ = traced("caught")
    text = picture(events, title="t", subtitle="s", verdict="")
    assert "href" not in text
    assert "<image" not in text
    assert "script" not in text
    assert "url(" not in text
    assert 700 <= float(ET.fromstring(text).get("width")) <= 1000
    assert "prefers-color-scheme: dark" in text


def test_no_throw_no_red(traced):
    events, _ = traced("calm")
    root, words = drawn(events)
    assert "= 65 (0x41)" in words
    assert "value: 65 (0x41)" in words
    assert not boxes(root, "gone")
    assert not [p for p in root.iter(f"{NAMESPACE}path") if p.get("class") == "throw"]


def test_a_fault_is_shown_where_it_was(traced):
    events, seen = traced("wild")
    _, words = drawn(events)
    assert seen.message.startswith("simulator fault")
    assert any(word.startswith("simulator fault: load of 4 bytes at 0x10") for word in words)
    assert not any(word.startswith("value:") for word in words)


def test_repeated_calls_are_counted(traced):
    events, _ = traced("many")
    root, words = drawn(events)
    assert "again x300" in words
    assert "deep3" in words
    assert len(words) < 60
    assert float(root.get("height")) < 500


def test_a_big_tree_is_folded_to_what_matters():
    def enter(depth, frame, name, role="subprogram"):
        at = Place("main", name, frame, "f.c", frame, f"{name}();")
        return TraceEvent(Event.ENTER, depth, name, frame=frame, place=at, role=role)

    events, frame = [enter(0, 1, "main", "program")], 1
    for outer in range(100):
        frame += 1
        first = frame
        events.append(enter(1, frame, f"outer{outer}"))
        for inner in range(4):
            frame += 1
            events.append(enter(2, frame, f"inner{inner}"))
            events.append(TraceEvent(Event.LEAVE, 2, "= 0", frame=frame))
        if outer < 99:
            events.append(TraceEvent(Event.LEAVE, 1, "= 0", frame=first))
    events.append(TraceEvent(Event.THROW, 2, "bpf_throw(cookie=1)", frame=first, cookie=1))
    events.append(TraceEvent(Event.VANISH, 1, "", frame=first))
    events.append(TraceEvent(Event.VANISH, 0, "", frame=1, boundary=True))
    tree = calltree.trees(events)[0]
    calltree.fold(tree, MAX_ROWS)
    rows = [node for _, node in tree.rows()]
    assert len(rows) <= MAX_ROWS
    assert "outer99" in [n.name for n in rows if n.kind is Event.ENTER]
    assert "outer50" not in [n.name for n in rows]
    assert sum(n.count + n.hidden for n in rows if n.kind is Event.NOTE) >= 1
    assert any("more calls" in n.text for n in rows)
    assert drawn(events)[1]


def test_of_several_runs_the_one_that_throws(traced):
    text = """
    int calls;
    SEC("tc") int entry(struct __sk_buff *ctx) { if (++calls == 2) bpf_throw(9); return 1; }
    """
    events, seen = traced("entry", text, repeat=3)
    assert seen.retvals == (1, 9, 1)
    _, words = drawn(events)
    assert "s, run 2 of 3" in words
    assert "value: 9" in words


def test_names_cannot_break_the_mark_up():
    name = '<b>&"\x00\x1b[31m\ud800\u202e' + "n" * 400
    at = Place(name, name, 0, name, 1, name)
    events = [TraceEvent(Event.ENTER, 0, name, frame=1, place=at, role="program")]
    root, words = drawn(events)
    assert float(root.get("width")) <= 1000
    assert any(word.startswith('<b>&"') and word.endswith("…") for word in words)


def test_no_event_no_failure():
    assert ET.fromstring(picture([], title="", subtitle="", verdict="")) is not None


def test_words_are_cut_to_their_room():
    assert svg.fit("abcdef", svg.width("abcdef", 10) + 1, 10) == "abcdef"
    assert svg.fit("abcdef", svg.width("abcd", 10) + 1, 10) == "abc…"
    assert svg.fit("abcdef", 0, 10) == ""


def test_the_command_writes_it(compiled, tmp_path, capsys):
    target = tmp_path / "out.svg"
    arguments = ["sim", str(compiled(TEXT)), "--prog", "caught", "--picture", str(target)]
    assert main(arguments) == 0
    assert "verdict: ran" in capsys.readouterr().out
    words = [node.text for node in ET.parse(target).iter(f"{NAMESPACE}text")]
    assert "value: 2  TC_ACT_SHOT" in words
    assert any(word.startswith("caught in t") for word in words)
    assert main([*arguments[:-1], str(tmp_path / "no" / "such.svg")]) == 2
    assert "No such file" in capsys.readouterr().err
