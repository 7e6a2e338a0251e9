# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The trace as data, as text and as JSON lines: the same events in all of them."""

import json

import pytest

from harness.sim import run_case, trace, tracejson
from harness.sim.trace import Event, Trace, TraceEvent

PARSER = """
int calls;
static __noinline int inner(int len) { calls++; if (len > 10) bpf_throw(len + 1000); return len; }
static __noinline int outer(int len) { return inner(len) + 1; }
int catches(__u64 cookie) { return cookie + 5; }
SEC("tc") int entry(struct __sk_buff *ctx) { return outer(ctx->len); }
__exception_cb(catches) SEC("tc") int caught(struct __sk_buff *ctx) { return outer(ctx->len); }
SEC("tc") int wild(struct __sk_buff *ctx) { return *(volatile int *)16 + ctx->len; }
"""
TAIL = """
__noinline int other(struct __sk_buff *ctx) { return ctx->len; }
SEC("tc") int target(struct __sk_buff *ctx) { bpf_throw(7); return 0; }
struct {
    __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __uint(key_size, 4);
    __array(values, int(void *));
} jump SEC(".maps") = {.values = {[0] = (void *)&target}};
static __noinline int sub(struct __sk_buff *ctx)
{
    int result = 3;
    barrier_var(result);
    bpf_tail_call(ctx, &jump, 0);
    return result;
}
SEC("tc") int entry(struct __sk_buff *ctx) { return sub(ctx) + 1; }
"""


@pytest.fixture
def traced(case_of):
    """Run C text with a trace of its own: the events and the observation."""

    def go(text, program="entry", *, full=False, profile="7.3", **options):
        log = Trace(on=True, instructions=full)
        seen = run_case(case_of(text, program, **options), profile, trace=log)
        return log, seen

    return go


def kinds(log):
    return [event.kind for event in log.events]


def test_a_throw_is_a_sequence_of_events(traced):
    log, seen = traced(PARSER)
    assert seen.retval == 1064
    assert kinds(log) == [
        *[Event.ENTER] * 3, Event.THROW, *[Event.VANISH] * 3, Event.DEFAULT, Event.RESULT,
    ]  # fmt: skip
    throw = log.events[3]
    assert (throw.cookie, throw.depth, throw.frame) == (1064, 3, 3)
    assert (throw.place.function, throw.place.source) == ("inner", PARSER.splitlines()[2])
    assert [e.frame for e in log.events if e.kind is Event.VANISH] == [3, 2, 1]
    assert [e.boundary for e in log.events if e.kind is Event.VANISH] == [False, False, True]
    assert log.events[-2].result.number == 1064


def test_frames_know_who_called_them(traced):
    log, _ = traced(PARSER)
    entry, outer, inner = log.events[:3]
    assert entry.caller is None
    assert (outer.caller.function, inner.caller.function) == ("entry", "outer")
    assert inner.caller.source == "static __noinline int outer(int len) { return inner(len) + 1; }"
    assert [v.number for v in inner.values] == [64]


def test_a_callback_has_a_frame_of_its_own(traced):
    log, seen = traced(PARSER, "caught")
    handler = next(e for e in log.events if e.role == "exception callback")
    assert (handler.place.function, handler.values[0].number, handler.frame) == ("catches", 1064, 4)
    assert next(e for e in log.events if e.kind is Event.LEAVE).frame == 4
    assert seen.retval == 1069


def test_a_tail_call_stays_in_the_frame_that_it_replaces(traced):
    log, seen = traced(TAIL)
    assert seen.retval == 8
    replaced = next(e for e in log.events if e.kind is Event.REPLACE)
    assert (replaced.name, replaced.frame) == ("target", 2)
    assert [e.frame for e in log.events if e.kind is Event.LEAVE] == [2, 1]


def test_a_fault_names_its_frame_and_place(traced):
    log, seen = traced(PARSER, "wild")
    fault = log.events[-1]
    assert (fault.kind, fault.frame, fault.place.function) == (Event.FAULT, 1, "wild")
    assert fault.text == seen.message


def test_instructions_show_what_they_read(traced):
    log, _ = traced(PARSER, full=True)
    steps = [e for e in log.events if e.kind is Event.INSTRUCTION]
    first = steps[0]
    assert (first.place.pc, first.values[0].name, first.values[0].text) == (
        0,
        "r1",
        "&ctx (__sk_buff)",
    )
    assert any("call bpf_throw" in e.text for e in steps)


def test_text_is_a_rendering_of_at_most_100_columns(traced):
    log, seen = traced(PARSER, full=True)
    assert seen.trace == "\n".join(trace.render(e) for e in log.events)
    assert all(len(line) <= 100 for line in seen.trace.splitlines())
    long = TraceEvent(Event.NOTE, 3, "x" * 300)
    assert len(trace.render(long)) == 100
    assert trace.render(long).endswith("...")


def test_nothing_is_recorded_while_it_is_off(case_of):
    log = Trace()
    assert run_case(case_of(PARSER), "7.3", trace=log).retval == 1064
    assert log.events == []


def test_too_many_events_end_in_a_word_about_it(traced, monkeypatch):
    monkeypatch.setattr(trace, "MAX_EVENTS", 5)
    heard = []
    log = Trace(on=True, listener=heard.append)
    for number in range(8):
        log.say(f"note {number}")
    assert [e.text for e in log.events[-2:]] == [
        "note 4",
        "... more than 5 lines: from here on only throws and results",
    ]
    assert len(heard) == 8


def test_json_lines(traced, case_of):
    log, seen = traced(PARSER, "caught")
    case = case_of(PARSER, "caught")
    lines = [json.loads(line) for line in tracejson.lines(case, "7.3", log.events, seen)]
    head, end = lines[0], lines[-1]
    assert (head["event"], head["schema"], head["program"]) == ("trace", 1, "caught")
    assert (head["profile"], head["packet"]) == ("7.3", case.input.packet.hex())
    assert end == {"event": "end", "verdict": "ran", "retvals": [1069]}
    throw = next(line for line in lines if line["event"] == "throw")
    assert (throw["cookie"], throw["function"], throw["depth"]) == ("0x428", "inner", 3)
    vanished = [line for line in lines if line["event"] == "vanish"]
    assert [line["boundary"] for line in vanished] == [False, False, True]
    entered = next(line for line in lines if line.get("role") == "exception callback")
    assert entered["values"] == [{"name": "r1", "value": "0x428", "text": "1064 (0x428)"}]
    assert {line["event"] for line in lines[1:-1]} <= {str(kind) for kind in Event}


def test_json_keeps_64_bits(traced, case_of):
    text = """
    SEC("syscall") int entry(__u64 *ctx) { bpf_throw(0xfedcba9876543210); return 0; }
    """
    log, _ = traced(text, ctx=bytes(8))
    throw = next(e for e in log.events if e.kind is Event.THROW)
    assert tracejson.event_json(throw)["cookie"] == "0xfedcba9876543210"


def test_a_throw_is_never_left_out(traced, monkeypatch):
    text = """
    static int again(__u32 index, void *sum) { *(int *)sum += index; return 0; }
    static __noinline int deep(int x) { if (x > 10) bpf_throw(x); return x; }
    static __noinline int outer(int x) { return deep(x) + 1; }
    int catches(__u64 cookie) { return cookie + 5; }
    __exception_cb(catches) SEC("tc") int entry(struct __sk_buff *ctx)
    {
        int sum = 0;
        bpf_loop(200, again, &sum, 0);
        return outer(sum);
    }
    """
    whole, seen = traced(text)
    monkeypatch.setattr(trace, "MAX_EVENTS", 50)
    short, _ = traced(text)
    assert len(short.events) < 65
    cut = next(i for i, e in enumerate(short.events) if e.text.startswith("... more than 50"))
    assert short.events[:cut] == whole.events[:cut]
    told = [(e.kind, e.text) for e in short.events[cut + 1 :]]
    assert told == [(e.kind, e.text) for e in whole.events[-len(told) :]]
    assert [e.place.function for e in short.events[cut + 1 :] if e.kind is Event.ENTER] == [
        "outer",
        "deep",
        "catches",
    ]
    assert seen.retval == 19905
