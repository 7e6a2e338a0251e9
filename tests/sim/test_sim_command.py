# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow sim`: output, exit codes, and one clear message for each mistake."""

import argparse
import json

import pytest

from harness.errors import UsageError
from harness.sim import command

TEXT = """
int hits;
static __noinline int check(int len) { if (len > 60) bpf_throw(len); return len; }
SEC("tc") int entry(struct __sk_buff *ctx) { hits++; return check(ctx->len); }
SEC("tc") int wild(struct __sk_buff *ctx) { return *(int *)16; }
SEC("xdp") int other(struct xdp_md *ctx) { return XDP_PASS; }
SEC("syscall") int calc(int *ctx) { bpf_throw(*ctx); return 0; }
__noinline int twice(int x) { asm volatile("" : "+r"(x)); return 2 * x; }
SEC("?freplace/twice") int ext(int x) { bpf_throw(300); return 0; }
__with(ext) SEC("tc") int doubled(struct __sk_buff *ctx) { return twice(ctx->len); }
"""


@pytest.fixture
def sim(compiled):
    """Run the command on an object made of TEXT: the exit code."""

    def go(*arguments):
        parser = argparse.ArgumentParser()
        command.add_parser(parser.add_subparsers())
        args = parser.parse_args(["sim", str(compiled(TEXT)), *arguments])
        return args.func(args)

    return go


def test_result_with_the_default_frame(sim, capsys):
    assert sim("--prog", "entry") == 0
    out = capsys.readouterr().out
    assert "verdict: ran\nretval:  64 (0x40)\n" in out
    assert ".bss[hits] = 01000000" in out


def test_a_source_is_compiled(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "seven.bpf.c"
    source.write_text(
        '#include "exceptions.h"\n'
        'SEC("tc") int seven(struct __sk_buff *skb) { bpf_throw(7); return 0; }\n'
        'char LICENSE[] SEC("license") = "GPL";\n'
    )
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["sim", str(source)])
    assert args.func(args) == 0
    assert "retval:  7\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("packet", "retval"),
    [
        ("00" * 61, 61),
        ("00:00 " * 7 + "\n08", 15),
        ("eth ipv4 tcp cut=33", 33),
        ("@frame.bin", 40),
    ],
)
def test_packet_forms(sim, capsys, tmp_path, monkeypatch, packet, retval):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frame.bin").write_bytes(bytes(40))
    assert sim("--prog", "entry", "--packet", packet, "--json") == 0
    assert json.loads(capsys.readouterr().out)["retval"] == retval


def test_json_is_the_observation(sim, capsys):
    assert sim("--prog", "entry", "--json", "--repeat", "2", "--trace", "--profile", "7.3") == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["verdict"], seen["retval"], seen["retvals"]) == ("ran", 64, [64, 64])
    assert seen["maps"] == {".bss": {"hits": "02000000"}}
    assert seen["provenance"]["source"] == "simulator"
    assert seen["provenance"]["kernel"] == "7.3"
    assert "x frame of check vanishes" in seen["trace"]


def test_full_trace_shows_instructions(sim, capsys):
    assert sim("--prog", "entry", "--trace=full") == 0
    out = capsys.readouterr().out
    assert ": call bpf_throw" in out
    assert "= *(u32 *)(r1 +0)" in out
    assert all(len(line) <= 100 for line in out.split("\n\n")[0].splitlines())


def test_fault_is_exit_code_1_with_the_place(sim, capsys):
    assert sim("--prog", "wild") == 1
    out = capsys.readouterr().out
    assert "verdict: rejected" in out
    assert "simulator fault: load of 4 bytes at 0x10: not a pointer" in out


def test_ctx_and_live_hook(sim, capsys):
    assert sim("--prog", "calc", "--ctx", "2a000000") == 0
    assert "retval:  42" in capsys.readouterr().out
    assert sim("--prog", "other", "--hook", "xdp-native") == 0
    assert "wire:    pass" in capsys.readouterr().out


def test_companions_come_from_tags_and_from_with(sim, capsys):
    assert sim("--prog", "doubled") == 0
    assert "retval:  300" in capsys.readouterr().out
    with pytest.raises(UsageError, match="'calc' in section 'syscall' cannot be attached"):
        sim("--prog", "doubled", "--with", "calc")


def test_an_object_without_a_program(compiled):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    path = str(compiled("int f(int x) { return x; }"))
    args = parser.parse_args(["sim", path])
    with pytest.raises(UsageError, match=f"{path}: no program in it"):
        args.func(args)


@pytest.mark.parametrize(
    ("arguments", "message", "fix"),
    [
        ([], "has 6 programs", "choose by --prog: "),
        (["--prog", "nix"], "no program 'nix'", "calc, doubled, entry"),
        (["--prog", "entry", "--profile", "5.4"], "no profile '5.4'", "series-v1, 6.12"),
        (["--prog", "entry", "--hook", "nix"], "no hook 'nix'", "tcx-egress"),
        (["--prog", "entry", "--hook", "xdp-native"], "does not run on xdp-native", "tc-ingress"),
        (["--prog", "entry", "--packet", "00 0g"], "character 5 is 'g'", "hex digits"),
        (["--prog", "entry", "--packet", "abc"], r"odd number of hex digits \(3\)", "hex digits"),
        (["--prog", "entry", "--packet", "zz"], r"not hex \(character 1 is 'z'\)", "vlan"),
        (["--prog", "entry", "--packet", "@/nix"], "--packet: /nix: cannot be read: No", "hex"),
        (["--prog", "entry", "--packet", "@"], "--packet: '': cannot be read: No", "hex digits"),
        (["--prog", "entry", "--packet", "@/dev/zero"], "/dev/zero: larger than 64959 bytes", ""),
        (["--prog", "calc", "--ctx", "@/dev/zero"], "--ctx: /dev/zero: larger than 65535", ""),
        (["--prog", "entry", "--packet", "00" * 65000], "65000 bytes is too long", "at most 64"),
        (["--prog", "calc", "--ctx", "00" * 70000], "70000 bytes is too long", "at most 65535"),
        (["--prog", "calc", "--ctx", "00", "--packet", "00"], "exclude each other", ""),
        (["--prog", "entry", "--repeat", "0"], "--repeat 0: must be at least 1", ""),
    ],
)
def test_mistakes(sim, arguments, message, fix):
    with pytest.raises(UsageError, match=message) as caught:
        sim(*arguments)
    assert fix in caught.value.fix


@pytest.mark.parametrize("option", ["--trace", "--step", "--picture=x.svg"])
def test_only_the_reference_engine_can_be_watched(sim, option):
    with pytest.raises(UsageError, match="shows the reference engine, not source"):
        sim("--prog", "entry", "--engine", "source", option)


def test_an_engine_runs_it(sim, capsys):
    assert sim("--prog", "entry", "--engine", "source") == 0
    assert "retval:  64 (0x40)" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--json", "--trace"])
def test_step_goes_alone(sim, option):
    with pytest.raises(UsageError, match="--step and --(json|trace) exclude each other"):
        sim("--prog", "entry", "--step", option)


def test_json_lines_and_events_in_the_observation(sim, capsys):
    assert sim("--prog", "entry", "--trace=json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [lines[0]["event"], lines[-1]["event"]] == ["trace", "end"]
    assert sim("--prog", "entry", "--json", "--trace=json-full") == 0
    seen = json.loads(capsys.readouterr().out)
    assert {"throw", "instruction"} <= {event["event"] for event in seen["events"]}
