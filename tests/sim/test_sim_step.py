# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow sim --step`: scripts of commands, and what they show."""

import argparse
import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from harness.sim import command, step

TEXT = """int hits;
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 2); __type(key, int);
         __type(value, long); } seen SEC(".maps");
static __noinline int inner(int len)
{
    int key = 1;
    long *slot = bpf_map_lookup_elem(&seen, &key);
    if (slot)
        *slot = 9;
    if (len > 10)
        bpf_throw(len);
    return len;
}
static __noinline int outer(int len)
{
    hits++;
    return inner(len) + 1;
}
int catches(__u64 cookie)
{
    return cookie + 5;
}
__exception_cb(catches) SEC("tc") int entry(struct __sk_buff *ctx)
{
    int first = outer(3);
    return outer(ctx->len) + first;
}
SEC("syscall") int calm(int *ctx) { return 4; }
SEC("tc") int wild(struct __sk_buff *ctx) { return *(volatile int *)16 + ctx->len; }
SEC("tc") int endless(struct __sk_buff *ctx)
{
    for (int i = 0; i < 100000000; i++)
        *(volatile int *)&hits = i;
    return 1;
}
"""


@pytest.fixture
def session(compiled, monkeypatch, capsys):
    """Run a script of commands, one a line: exit code and what was printed."""

    def go(script, *arguments, program="entry"):
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(script) + "\n"))
        parser = argparse.ArgumentParser()
        command.add_parser(parser.add_subparsers())
        args = parser.parse_args(
            ["sim", str(compiled(TEXT)), "--prog", program, "--step", *arguments]
        )
        code = args.func(args)
        return code, capsys.readouterr().out

    return go


def answers(out):
    """Command -> what was printed after it, of the last time it was given."""
    parts = out.split(step.PROMPT)
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts[1:]}


def test_stops_before_the_first_instruction(session):
    code, out = session(["quit"])
    assert code == 0
    assert "entry at t" in out
    assert "   0: " in out
    assert "verdict" not in out


def test_the_end_of_input_ends_it(session):
    code, out = session(["step"])
    assert code == 0
    assert "verdict" not in out


def test_until_throw_then_across_it(session):
    code, out = session(["until throw", "frames", "step", "registers", "frames", "continue"])
    said = answers(out)
    assert code == 0
    assert "! bpf_throw(cookie=64 (0x40))" in said["until throw"]
    frames = said["frames"]
    across = said["step"]
    assert [line.split("frame of ")[1].split()[0] for line in across.splitlines() if " of " in line
            and "vanishes" in line] == ["inner", "outer", "entry"]  # fmt: skip
    assert "catches at " in across
    assert "  r1  = 64 (0x40)\n  r2  = ?" in said["registers"]
    assert frames.startswith("  #0 catches [exception callback] pc ")
    assert "retval:  69 (0x45)" in said["continue"]


def test_frames_at_the_throw(session):
    _, out = session(["throw", "bt", "registers 2", "stack", "quit"])
    said = answers(out)
    assert [line.split()[1] for line in said["bt"].splitlines()] == ["inner", "outer", "entry"]
    assert "[program]" in said["bt"]
    assert "  r10 = entry.fp+0" in said["registers 2"]
    assert "fp-" in said["stack"]
    assert "01 00 00 00" in said["stack"]


def test_next_goes_over_calls_and_step_into_them(session):
    _, out = session(["b outer", "c", "finish", "delete", "n", "q"])
    said = answers(out)
    assert "breakpoint 1: function outer" in said["b outer"]
    assert "outer at " in said["c"]
    assert "< = 4" in said["finish"]
    assert "entry at " in said["finish"]
    _, out = session(["line", "line", "into", "q"])
    places = [line.split()[0] for line in out.splitlines() if " at t" in line]
    assert places[0] == "entry"


def test_an_empty_line_repeats(session):
    _, once = session(["step", "step", "step", "registers", "q"])
    _, again = session(["step", "", "", "registers", "q"])
    assert answers(once)["registers"] == answers(again)["registers"]


def test_counts(session):
    _, counted = session(["step 3", "registers", "q"])
    _, single = session(["step", "step", "step", "registers", "q"])
    assert answers(counted)["registers"] == answers(single)["registers"]


def test_lines_go_over_calls(session):
    _, out = session(["line", "line", "line", "line", "q"])
    assert not any(line.startswith("outer at") for line in out.splitlines())
    _, out = session(["into", "into", "into", "into", "q"])
    assert any(line.startswith("outer at") for line in out.splitlines())


def test_breakpoints_at_lines_and_instructions(session):
    _, out = session(["break 10", "c", "break *0", "break 9999", "break *9999", "break nix",
                      "break", "delete 1", "delete 7", "delete", "break", "q"])  # fmt: skip
    said = answers(out)
    assert "bpf.c:10" not in said["break *0"]
    assert "instruction 0 of entry" in said["break *0"]
    assert "no code at t" in said["break 9999"]
    assert "near it: " in said["break 9999"]
    assert "no instruction '9999'; entry has 0 to " in said["break *9999"]
    assert "no function 'nix'; there are entry, outer, inner" in said["break nix"]
    assert "no breakpoint '7'" in said["delete 7"]
    assert said["break"] == "none\n"


def test_watches(session):
    _, out = session(
        ["watch hits", "c", "c", "watch r99", "watch nix", "delete hits", "break", "q"]
    )
    said = answers(out)
    assert "watch hits: 0\n" in out
    assert "watch hits: 0 -> 1" in out
    assert "watch hits: 1 -> 2" in out
    assert "no variable 'nix' of up to 8 bytes; there are hits" in said["watch nix"]
    assert said["break"] == "none\n"


def test_memory_is_shown(session):
    _, out = session(["throw", "maps", "maps seen", "maps nix", "globals", "packet", "q"])
    said = answers(out)
    assert "seen: array, key 4, value 8 bytes, at most 2 entries" in said["maps"].lower()
    assert "[01000000] = 0900000000000000" in said["maps seen"]
    assert "no map 'nix'; there are seen" in said["maps nix"]
    assert ".bss hits = 2  02000000" in said["globals"]
    assert said["packet"].startswith("64 bytes; data is byte 0\n      0: 02 00 00 00 00 02")


def test_sources_and_code(session):
    _, out = session(["throw", "list", "code", "list 1", "list 9", "code 9", "stack 9", "q"])
    said = answers(out)
    assert "=>" in said["list"]
    assert "bpf_throw(len);" in said["list"]
    assert "call bpf_throw" in said["code"]
    assert "return inner(len) + 1;" in said["list 1"]
    for view in ("list 9", "code 9", "stack 9"):
        assert said[view] == "no frame '9'; there are 0 to 2\n"


def test_mistakes_are_answered(session):
    _, out = session(["nix", "s", "step 0", "until never", "help", "q"])
    said = answers(out)
    assert said["nix"] == "no command 'nix'; `help` lists them\n"
    assert said["step 0"] == "'0' is no number of steps\n"
    assert "until throw" in said["until never"]
    for known in step.COMMANDS:
        assert known.help in said["help"]


def test_short_names_are_unique():
    names = [name for c in step.COMMANDS for name in (c.name, c.short)]
    assert len(names) == len(set(names))
    assert step.find("fin").name == "finish"
    assert step.find("li") == "'li' may be line, list"


def test_runs_to_the_end_without_a_packet(session):
    code, out = session(["packet", "c"], "--ctx", "00000000", program="calm")
    assert code == 0
    assert answers(out)["packet"] == "this program has no packet\n"
    assert "retval:  4" in out


def test_a_fault_ends_the_session(session):
    code, out = session(["c"], program="wild")
    assert code == 1
    assert "! simulator fault: load of 4 bytes at 0x10" in out
    assert "verdict: rejected" in out


def test_several_runs_are_one_session(session):
    code, out = session(["b *0", "c", "globals", "c"], "--repeat", "2")
    assert code == 0
    assert "run 2 of 2:" in answers(out)["c"] or "run 2 of 2:" in out
    assert ".bss hits = 2  " in answers(out)["globals"]
    assert "retval:  69 (0x45), 69 (0x45)" in out


# makes the terminal on standard input the one that sends Ctrl-C, then runs its arguments
CONTROLLING = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def terminal(compiled):
    """The command on a terminal of its own: process and the terminal's other side."""
    made = []

    def go(program="entry"):
        ours, theirs = pty.openpty()
        argv = [sys.executable, "-m", "harness.cli", "sim", str(compiled(TEXT)), "--prog", program]
        process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLING, *argv, "--step"],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        made.append((process, ours))
        return process, ours

    yield go
    for process, ours in made:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(ours, *texts):
    """Read from a terminal until these came, one after the other."""
    pattern, seen = b".*".join(map(re.escape, texts)), b""
    while not re.search(pattern, seen, re.DOTALL) and select.select([ours], [], [], 30)[0]:
        try:
            seen += os.read(ours, 4096)
        except OSError:
            break
    assert re.search(pattern, seen, re.DOTALL)


def test_a_terminal_gets_a_prompt_and_ctrl_d_leaves(terminal):
    process, ours = terminal()
    read_until(ours, step.PROMPT.encode())
    os.write(ours, b"frames\n")
    read_until(ours, b"#0 entry", step.PROMPT.encode())
    os.write(ours, b"\x04")
    assert process.wait(20) == 0


def test_ctrl_c_at_the_prompt_leaves(terminal):
    process, ours = terminal()
    read_until(ours, step.PROMPT.encode())
    # until it is heard: CPython's readline misses what comes between its prompt and its select()
    while process.poll() is None:
        os.write(ours, b"\x03")
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)
    assert process.returncode == 130


def test_ctrl_c_stops_a_program_that_runs(terminal):
    process, ours = terminal("endless")
    prompt = step.PROMPT.encode()
    read_until(ours, prompt)
    os.write(ours, b"watch r11\nbreak wild\ncontinue\n")
    read_until(ours, b"no variable 'r11'", b"continue")
    time.sleep(1)
    os.write(ours, b"\x03")
    read_until(ours, b"interrupted", prompt)
    os.write(ours, b"globals\nquit\n")
    read_until(ours, b".bss hits = ")
    assert process.wait(20) == 0
