# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is written to tracefs while a case is traced, and that it is taken back."""

import pytest

from harness.errors import WorldError
from harness.target.agent import tracers

GRAPH = "function_graph:bpf_throw"


@pytest.fixture
def tracefs(tmp_path, monkeypatch):
    """A directory with the files that are used; returns what each holds."""
    monkeypatch.setattr(tracers, "PLACES", (tmp_path / "absent", tmp_path))
    for name in ("tracing_on", "kprobe_events", "set_ftrace_filter"):
        (tmp_path / name).touch()
    (tmp_path / "current_tracer").write_text("nop\n")
    (tmp_path / "available_tracers").write_text("blk function_graph nop\n")
    switch = tmp_path / "events/bpfthrow/bpf_throw/enable"
    switch.parent.mkdir(parents=True)
    switch.touch()
    return tmp_path


def _lines(file):
    return file.read_text().splitlines()


def test_nothing_asked_touches_nothing(monkeypatch):
    monkeypatch.setattr(tracers, "PLACES", ())
    with tracers.set_on(()):
        pass


def test_a_return_probe_is_made_enabled_disabled_and_removed(tracefs):
    events, switch = tracefs / "kprobe_events", tracefs / "events/bpfthrow/bpf_throw/enable"
    with tracers.set_on(["kretprobe:bpf_throw"]):
        assert (_lines(events), _lines(switch)) == (["r:bpfthrow/bpf_throw bpf_throw"], ["1"])
    assert _lines(events)[1:] == ["-:bpfthrow/bpf_throw"]
    assert _lines(switch) == ["1", "0"]


def test_the_function_graph_is_limited_to_the_functions_and_switched_off(tracefs):
    chosen, tracer = tracefs / "set_ftrace_filter", tracefs / "current_tracer"
    with tracers.set_on([GRAPH, "function_graph:caller"]):
        assert _lines(chosen) == ["bpf_throw", "caller"]
        assert _lines(tracer) == ["nop", "function_graph"]
    assert _lines(chosen) == []
    assert _lines(tracer)[-1] == "nop"


def test_a_tracer_in_use_is_left_alone(tracefs):
    (tracefs / "current_tracer").write_text("function\n")
    with pytest.raises(WorldError, match="'function' is in use"), tracers.set_on([GRAPH]):
        pass
    assert _lines(tracefs / "set_ftrace_filter") == []


def test_a_function_that_cannot_be_traced_is_named_and_nothing_stays(tracefs):
    wanted = ["kretprobe:bpf_throw", "kretprobe:absent"]
    complaint = pytest.raises(WorldError, match="absent/enable: the kernel refuses '1'")
    with complaint, tracers.set_on(wanted):
        pass
    assert _lines(tracefs / "kprobe_events")[-1] == "-:bpfthrow/bpf_throw"


def test_what_a_machine_lacks(tracefs, monkeypatch):
    assert tracers.missing("kretprobe") == tracers.missing("function_graph") == ""
    (tracefs / "kprobe_events").unlink()
    (tracefs / "available_tracers").write_text("nop\n")
    assert "CONFIG_KPROBE_EVENTS" in tracers.missing("kretprobe")
    assert "tracers are: nop" in tracers.missing("function_graph")
    monkeypatch.setattr(tracers, "PLACES", ())
    assert tracers.missing("kretprobe") == "tracefs is not mounted"
    with pytest.raises(WorldError, match="tracefs is not mounted"), tracers.set_on([GRAPH]):
        pass
