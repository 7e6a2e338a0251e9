# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import multiprocessing
from pathlib import Path

import pytest
from fake_target import case, ran

from harness import schedule
from harness.model import Observation, Result, Verdict

ONE, TWO = case("throw/a"), case("throw/b", hook="xdp-native")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def result(wanted=ONE, seen=None):
    return Result(wanted, "vm-6.12", seen or ran(1))


def test_what_was_measured_is_known_next_time():
    schedule.record({"vm:6.12": [(result(), 0.25), (result(TWO), 1.0)], "vm:7.3": []})
    schedule.record({"vm:6.12": [(result(), 0.5)], "vm:7.3": [(result(), 2.0)]})
    assert schedule.durations() == {
        "vm:6.12": {"throw/a test_run": 0.5, "throw/b xdp-native": 1.0},
        "vm:7.3": {"throw/a test_run": 2.0},
    }


@pytest.mark.parametrize("verdict", [Verdict.CRASHED, Verdict.HUNG, Verdict.LOST])
def test_an_end_before_its_time_tells_nothing(verdict):
    schedule.record({"vm:6.12": [(result(seen=Observation(verdict)), 30.0)]})
    assert schedule.durations() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2}', '{"schema": 1, "targets": 3}'])
def test_a_damaged_record_is_none(text):
    schedule.durations_file().parent.mkdir(parents=True)
    schedule.durations_file().write_text(text)
    assert schedule.durations() == {}
    schedule.record({"vm:6.12": [(result(), 0.5)]})
    assert schedule.durations() == {"vm:6.12": {"throw/a test_run": 0.5}}


def test_a_record_that_cannot_be_written_stays_and_is_told(capsys, monkeypatch):
    schedule.record({"vm:6.12": [(result(), 0.5)]})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    schedule.record({"vm:6.12": [(result(), 7.0)]})
    assert schedule.durations() == {"vm:6.12": {"throw/a test_run": 0.5}}
    assert "durations were not recorded" in capsys.readouterr().err
    assert [f.name for f in schedule.durations_file().parent.iterdir() if f.is_file()] == [
        "durations.json"
    ]


def _add(number):
    for again in range(5):
        schedule.record({f"vm:{number}-{again}": [(result(), 1.0)]})


def test_processes_add_side_by_side():
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(schedule.durations()) == 20


def test_targets_that_nobody_uses_go(monkeypatch):
    monkeypatch.setattr(schedule, "_KEPT_TARGETS", 2)
    for spec in ("vm:a", "vm:b", "vm:a", "vm:c"):
        schedule.record({spec: [(result(), 1.0)]})
    assert list(schedule.durations()) == ["vm:a", "vm:c"]


def test_longest_first_and_the_unknown_before_them():
    known = {"quick": {"x": 1.0, "y": 1.0}, "slow": {"x": 3.0}, "middle": {"y": 2.0}}
    assert schedule.longest_first(["quick", "new", "middle", "slow"], known) == [
        "new", "slow", "middle", "quick"
    ]  # fmt: skip


def test_expected_seconds():
    known = {"throw/a test_run": 1.0, "throw/b xdp-native": 3.0}
    assert schedule.expected_s([ONE], known) == 1.0
    assert schedule.expected_s([ONE, TWO, case("throw/new")], known) == 6.0
    assert schedule.expected_s([case("throw/new")], known) is None


@pytest.mark.parametrize(
    ("guests", "cpus", "cores", "free_mib", "wanted"),
    [
        (4, 1, 2, 20_000, 2),  # cores
        (4, 1, 8, 20_000, 4),  # guests
        (8, 2, 8, 20_000, 4),  # cores, two for each
        (8, 1, 8, 1800, 2),  # memory: two guests of 612, and what is left alone
        (4, 4, 2, 20_000, 1),  # never none
        (4, 1, 2, 100, 1),
    ],
)
def test_at_once(guests, cpus, cores, free_mib, wanted):
    assert schedule.at_once(guests, cpus, 512, cores=cores, free_mib=free_mib) == wanted


@pytest.mark.parametrize(
    ("limit", "wanted"), [(None, 2000), ("max", 2000), (str(1 << 30), 1024 - 700 + 200)]
)
def test_available_memory_is_ours(tmp_path, limit, wanted):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 9 kB\nMemAvailable:  {2000 << 10} kB\n")
    if limit:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{700 << 20}\n")
        (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {200 << 20}\n")
    assert schedule.available_mib(meminfo, tmp_path) == wanted
