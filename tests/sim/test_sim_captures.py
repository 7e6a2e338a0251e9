# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Captures through a program: the loop over packets, reports, output files, engines."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET

import captures
import pytest
from captures import FRAMES, GOOD, PACKETS, RECORD, START_NS, read

from harness.cli import main
from harness.sim import pcap, tally, verdicts, world
from harness.sim.batch import Batch, Outcomes
from harness.sim.capturereport import ProgressLine
from harness.sim.plot import plot
from harness.sim.tally import Tally, Timeline

TEXT = """
__u64 seen, total;
int catches(__u64 cookie) { return cookie & 0xff; }
static __noinline int check(int len) { if (len < 40) bpf_throw(len << 8 | 1); return 2; }
__exception_cb(catches) SEC("xdp") int entry(struct xdp_md *ctx)
{
    __u32 len = ctx->data_end - ctx->data;
    seen++;
    total += len;
    return check(len);
}
SEC("xdp") int push(struct xdp_md *ctx)
{
    if (bpf_xdp_adjust_head(ctx, -4))
        return XDP_ABORTED;
    char *data = (void *)(long)ctx->data;
    if (data + 4 > (char *)(long)ctx->data_end)
        return XDP_ABORTED;
    *(volatile int *)data = 0x04030201;
    return XDP_TX;
}
SEC("tc") int third(struct __sk_buff *ctx) { return ++seen % 3 ? 0 : 2; }
SEC("tc") int mark(struct __sk_buff *ctx) { return ctx->protocol == 8 ? 0 : 2; }
SEC("xdp") int wild(struct xdp_md *ctx)
{
    __u32 len = ctx->data_end - ctx->data;
    return len > 50 ? *(volatile int *)16 : 2;
}
SEC("xdp") int away(struct xdp_md *ctx) { return bpf_redirect(3, 0); }
SEC("syscall") int calm(int *ctx) { return 4; }
"""


# ---- the command ---------------------------------------------------------------------------


@pytest.fixture
def replayed(compiled, tmp_path, capsys):
    """`bpfthrow sim --pcap` on PACKETS (or other bytes): exit code, output, errors."""

    def go(program, *arguments, data=GOOD, name="in.pcap"):
        path = tmp_path / name
        path.write_bytes(data)
        given = ["sim", str(compiled(TEXT)), "--prog", program, "--pcap", str(path), *arguments]
        code = main(given)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return go


def test_verdicts_throws_and_state(replayed):
    code, out, err = replayed("entry")
    assert (code, err) == (0, "")
    assert "4 packets" in out
    assert "XDP_PASS" in out
    assert "XDP_DROP" in out
    assert "threw: 2 of 4 packets" in out
    assert "packet 2 (+0.001000 s): cookie 9217 (0x2401), XDP_DROP" in out
    assert ".bss[seen] = 0400000000000000" in out
    total = sum(map(len, FRAMES)).to_bytes(8, "little").hex()
    assert f".bss[total] = {total}" in out


def test_json_has_every_throw(replayed):
    code, out, _ = replayed("entry", "--json", "--profile", "7.3", data=GOOD * 1)
    seen = json.loads(out)
    assert code == 0
    assert (seen["packets"], seen["bytes"], seen["truncated"]) == (4, sum(map(len, FRAMES)), 0)
    assert seen["verdicts"] == {"XDP_PASS": 2, "XDP_DROP": 2}
    assert seen["threw"] == 2
    assert seen["cookies"] == {"0x2401": 1, "0x1401": 1}
    assert seen["throws"][0] == {
        "packet": 2, "time_ns": START_NS + 1_000_000, "cookie": "0x2401", "verdict": "XDP_DROP",
    }  # fmt: skip
    assert seen["maps"][".bss"]["seen"] == "0400000000000000"
    assert (seen["profile"], seen["interrupted"], seen["error"]) == ("7.3", False, None)


def test_json_without_throws(replayed):
    seen = json.loads(replayed("third", "--json")[1])
    assert seen["throws"] == []
    assert seen["verdicts"] == {"TC_ACT_OK": 3, "TC_ACT_SHOT": 1}


def test_a_failing_packet_is_counted_and_the_next_one_runs(replayed):
    code, out, _ = replayed("wild", "--json")
    seen = json.loads(out)
    assert code == 1
    assert (seen["failed"], seen["verdicts"]) == (2, {"XDP_PASS": 2})
    assert [f["packet"] for f in seen["first_failures"]] == [1, 3]
    assert "load of 4 bytes at 0x10: not a pointer" in seen["first_failures"][0]["message"]
    assert "no value: 2 packets" in replayed("wild")[1]


def test_frames_that_a_hook_refuses_are_failures(replayed):
    data = captures.pcap([(START_NS, b"short", 5), (START_NS, bytes(6000), 6000), *PACKETS])
    code, out, _ = replayed("entry", "--json", data=data)
    seen = json.loads(out)
    assert (code, seen["failed"], seen["packets"]) == (1, 2, 6)
    assert "frame of 5 bytes" in seen["first_failures"][0]["message"]


def test_packets_that_the_capture_cut_are_counted(replayed):
    data = captures.pcap([(START_NS, FRAMES[0], 1500), *PACKETS])
    assert "1 cut short by the capture" in replayed("entry", data=data)[1]


def test_frames_that_go_on_are_written(replayed, tmp_path):
    target = tmp_path / "out.pcap"
    code, out, _ = replayed("push", "--out-pcap", str(target))
    assert code == 0
    assert f"written: {target}: 4 packets" in out
    found, error = read(target)
    assert error is None
    assert [frame for _, _, frame in found] == [b"\1\2\3\4" + frame for frame in FRAMES]
    assert [at for at, _, _ in found] == [at for at, _, _ in PACKETS]


def test_frames_that_are_dropped_are_not_written(replayed, tmp_path):
    target = tmp_path / "out.pcap"
    data = captures.pcap([(at, frame, len(frame) + 60) for at, frame, _ in PACKETS])
    replayed("mark", "--out-pcap", str(target), data=data)
    found, _ = read(target)
    kept = [(at, len(frame) + 60, frame) for at, frame, _ in PACKETS if frame[12:14] == b"\x08\x00"]
    assert found == kept


def test_a_broken_file_gives_what_there_was_and_exit_2(replayed):
    code, out, err = replayed("entry", data=GOOD + RECORD)
    assert code == 2
    assert "4 packets" in out
    assert f"byte {len(GOOD)}: a packet of 1048576 bytes" in err
    seen = json.loads(replayed("entry", "--json", data=GOOD[:-1])[1])
    assert seen["packets"] == 3
    assert "ends inside of a packet" in seen["error"]


def test_the_plot_is_a_drawing_with_the_numbers(replayed, tmp_path):
    target = tmp_path / "plot.svg"
    assert replayed("entry", "--plot", str(target))[0] == 0
    words = [n.text for n in ET.parse(target).iter("{http://www.w3.org/2000/svg}text")]
    assert "XDP_PASS 2 (50.0 %)" in words
    assert "XDP_DROP 2 (50.0 %)" in words
    assert "time since the first packet [ms]" in words


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("calm", [], "gets no packets"),
        ("entry", ["--packet", "eth"], "--pcap and --packet exclude each other"),
        ("entry", ["--ctx", "00"], "--pcap and --ctx exclude each other"),
        ("entry", ["--trace"], "--pcap and --trace exclude each other"),
        ("entry", ["--step"], "--pcap and --step exclude each other"),
        ("entry", ["--picture", "x.svg"], "--pcap and --picture exclude each other"),
        ("entry", ["--repeat", "2"], "--pcap and --repeat exclude each other"),
        ("entry", ["--out-pcap", "/no/such/dir/x"], "/no/such/dir/x: No such file"),
    ],
)
def test_mistakes(replayed, program, arguments, message):
    code, _, err = replayed(program, *arguments)
    assert code == 2
    assert message in err


def test_the_capture_itself_is_never_overwritten(replayed, tmp_path):
    code, _, err = replayed("entry", "--out-pcap", str(tmp_path / "in.pcap"))
    assert code == 2
    assert "is the capture that is read" in err
    assert (tmp_path / "in.pcap").read_bytes() == GOOD


def test_outputs_need_a_capture(compiled, capsys):
    assert main(["sim", str(compiled(TEXT)), "--prog", "entry", "--plot", "x.svg"]) == 2
    assert "--plot needs --pcap" in capsys.readouterr().err


def test_ctrl_c_prints_what_there_is(compiled, tmp_path):
    path = tmp_path / "endless.pcap"
    os.mkfifo(path)
    argv = [sys.executable, "-m", "harness.cli", "sim", str(compiled(TEXT)), "--prog", "entry"]
    process = subprocess.Popen(
        [*argv, "--pcap", str(path), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with path.open("wb") as stream:
        stream.write(captures.pcap(PACKETS * 5000))
        stream.flush()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    seen = json.loads(out)
    assert process.returncode == 130
    assert seen["interrupted"] is True
    assert 0 < seen["packets"] <= 20_000
    assert b"Traceback" not in err


def test_progress_is_for_terminals_only(compiled, tmp_path):
    path = tmp_path / "in.pcap"
    path.write_bytes(captures.pcap(PACKETS))
    argv = [sys.executable, "-m", "harness.cli", "sim", str(compiled(TEXT)), "--prog", "third"]
    argv += ["--pcap", str(path), "--engine", "reference"]
    assert subprocess.run(argv, capture_output=True, check=True).stderr == b""
    ours, theirs = pty.openpty()
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16)
    os.close(ours)
    assert shown.endswith(b"\r\x1b[K")


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_says_how_far_it_is(terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    line = ProgressLine(stream, interval_s=0.0)
    line(50, 0.5)
    line(100, None)
    line.done()
    shown = stream.getvalue()
    assert ("]  50 %  50 packets, " in shown) == terminal
    assert ("\r\x1b[K100 packets, " in shown) == terminal
    assert shown.endswith("\r\x1b[K") == terminal


# ---- counting ------------------------------------------------------------------------------


def batch_of(times, retvals, cookies=()):
    batch, seen = Batch(b"x"), Outcomes()
    for index, (at, retval) in enumerate(zip(times, retvals, strict=True)):
        batch.offsets.append(0)
        batch.lengths.append(1)
        batch.originals.append(1)
        batch.times_ns.append(at)
        seen.retvals.append(retval)
        cookie = cookies[index] if index < len(cookies) else None
        seen.threw.append(cookie is not None)
        seen.cookies.append(cookie or 0)
    return batch, seen


def test_numbers_stay_bounded(monkeypatch):
    monkeypatch.setattr(tally, "MOST_KINDS", 10)
    monkeypatch.setattr(tally, "MOST_THROWS", 5)
    counted = Tally(timeline=Timeline())
    batch, seen = batch_of(range(0, 3000 * 10**9, 10**9), range(3000), list(range(3000)))
    counted.add(batch, seen)
    assert (len(counted.retvals), counted.others) == (10, 2990)
    assert (counted.throws.count, len(counted.throws.packets)) == (3000, 5)
    assert len(counted.throws.by_cookie) == 10
    assert len(counted.timeline.bins) <= 2048
    assert sum(c.total() for c in counted.timeline.bins.values()) == 3000


def test_a_plot_of_odd_times():
    for times in ([], [0], [5, 5, 5], [0, (1 << 63) - 1], [9, 3, 7]):
        line = Timeline()
        batch, seen = batch_of(times, range(len(times)))
        line.add(batch.times_ns, seen.retvals)
        assert ET.fromstring(plot(line, "xdp", title="t", subtitle="s")) is not None


def test_more_verdicts_than_patterns():
    line = Timeline()
    batch, seen = batch_of(range(40), range(40))
    line.add(batch.times_ns, seen.retvals)
    assert "other values 34 (85.0 %)" in plot(line, "tc", title="t", subtitle="s")


def test_names_of_verdicts():
    assert verdicts.name("xdp", 3) == "XDP_TX"
    assert verdicts.name("tc", 0xFFFF_FFFF) == "TC_ACT_UNSPEC"
    assert verdicts.name("cgroup_skb", 1) == "pass"
    assert verdicts.name("xdp", 77) == "77"
    assert verdicts.keeps_frame("xdp", 2)
    assert not verdicts.keeps_frame("xdp", 77)
    assert verdicts.keeps_frame("tc", 77)
    assert not verdicts.keeps_frame("tc", 2)


@pytest.mark.parametrize("engine", ["auto", "source", "native"])
@pytest.mark.parametrize("program", ["entry", "push", "third", "wild"])
def test_every_engine_gives_the_same(replayed, tmp_path, engine, program):
    if engine == "native":
        pytest.importorskip("llvmlite")
    # on both sides of what a page holds, for XDP and for an skb
    around = [(START_NS, bytes(size), size) for size in (3520, 3521, 3712, 3713)]
    data, target = captures.pcap([*captures.traffic(596), *around]), tmp_path / "out.pcap"
    seen = []
    for name in ("reference", engine):
        out = replayed(program, "--json", "--engine", name, "--out-pcap", str(target), data=data)[1]
        document = json.loads(out)
        frames, _ = read(target)
        for key in ("engine", "duration_s", "packets_per_s", "compile_s"):
            del document[key]
        seen.append((document, frames))
    assert seen[0] == seen[1]
    assert seen[0][0]["packets"] == 600


def test_a_named_engine_that_declines_says_why(replayed, monkeypatch):
    monkeypatch.setattr("harness.sim.engines.native.llvm", None)
    code, _, err = replayed("entry", "--engine", "native")
    assert code == 2
    assert "engine native does not run entry: llvmlite is not installed" in err
    data = captures.pcap(captures.traffic(3000))
    seen = json.loads(replayed("entry", "--json", data=data)[1])
    assert (seen["engine"], seen["packets"]) == ("source", 3000)


def test_a_small_capture_is_not_worth_a_compilation(replayed):
    seen = json.loads(replayed("entry", "--json")[1])
    assert (seen["engine"], seen["packets"]) == ("reference", 4)


def test_a_big_capture_runs_on_native_code(replayed):
    pytest.importorskip("llvmlite")
    data = captures.pcap(captures.traffic(3000))
    seen = json.loads(replayed("entry", "--json", data=data)[1])
    assert (seen["engine"], seen["packets"]) == ("native", 3000)


def test_profile_cleanup_has_its_own_engine(replayed):
    data = captures.pcap(captures.traffic(3000))
    seen = json.loads(replayed("entry", "--json", "--profile", "cleanup", data=data)[1])
    assert (seen["engine"], seen["packets"]) == ("reference", 3000)


def test_recorded_calls_do_not_pile_up(replayed, monkeypatch):
    monkeypatch.setattr(world, "_MAX_RECORDED_BYTES", 20_000)
    monkeypatch.setattr(pcap, "_PIECE_BYTES", 1000)
    data = captures.pcap(captures.traffic(2000))
    seen = json.loads(replayed("away", "--json", "--engine", "source", data=data)[1])
    assert seen["verdicts"] == {"XDP_REDIRECT": 2000}
