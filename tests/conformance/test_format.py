# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The text format of vectors: what it means, and that errors say file and line."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli import main
from harness.conformance import runner, vectors
from harness.conformance.vectors import Vector, parse
from harness.errors import ObjectError, UsageError

GOOD = """\
# a comment
-- mem
01 02  # two bytes
ff
-- asm
mov %r0, 1   # one
exit
-- result
0x2
0x1
"""


def test_sections():
    assert parse(GOOD, "add/one", "one.data") == Vector(
        "add/one", bytes.fromhex("b700000001000000 9500000000000000"), b"\1\2\xff", 1
    )


def test_raw_wins_over_asm():
    text = "-- asm\nexit\n-- raw\n0x00000001000000b7\n149\n-- result\n7\n"
    assert parse(text, "a", "a").code.hex() == "b7000000010000009500000000000000"


def test_error_is_exact_text():
    assert parse("-- asm\nexit\n-- error\n a b  \n", "a", "a").error == "a b"


def test_ignored_sections():
    text = "-- c\nint x = 1;\n-- no register offset\ncall\n" + GOOD
    assert parse(text, "a", "a").result == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [("-- asm\nexit\n", "neither a result nor an error"), ("-- result\n0\n", "no instructions"),
     ("-- asm\nexit\n-- error\n", "neither"), ("-- map\nx\n", "unknown directive '-- map'")],
)  # fmt: skip
def test_what_the_format_skips(text, why):
    vector = parse(text, "a", "a")
    assert why in vector.skipped
    assert runner.run_all([vector], runner.by_engine("reference"))[0].verdict == "skipped"


ENCODED = [
    ("add %r1, -1", "07 01 00 00 ff ff ff ff"), ("add32 %r1, %r2", "0c 21 00 00 00 00 00 00"),
    ("mov %r1, 0xffffffff", "b7 01 00 00 ff ff ff ff"), ("neg32 %r3", "84 03 00 00 00 00 00 00"),
    ("sdiv %r1, %r2", "3f 21 01 00 00 00 00 00"), ("smod32 %r1, 3", "94 01 01 00 03 00 00 00"),
    ("movsx832 %r1, %r2", "bc 21 08 00 00 00 00 00"), ("be16 %r9", "dc 09 00 00 10 00 00 00"),
    ("movsx3264 %r1, %r2", "bf 21 20 00 00 00 00 00"), ("le64 %r9", "d4 09 00 00 40 00 00 00"),
    ("swap32 %r1", "d7 01 00 00 20 00 00 00"), ("bswap64 %r1", "d7 01 00 00 40 00 00 00"),
    ("ldxdw %r1, [%r2+0x10]", "79 21 10 00 00 00 00 00"), ("ldxsb %r1, [%r2]",
     "91 21 00 00 00 00 00 00"), ("stb [%r10-1], 255", "72 0a ff ff ff 00 00 00"),
    ("stxw [%r10-4], %r1", "63 1a fc ff 00 00 00 00"),
    ("lock add32 [%r1+4], %r2", "c3 21 04 00 00 00 00 00"),
    ("lock fetch xor [%r1+0], %r2", "db 21 00 00 a1 00 00 00"),
    ("lock xchg [%r1+0], %r2", "db 21 00 00 e1 00 00 00"),
    ("lock cmpxchg32 [%r1+0], %r2", "c3 21 00 00 f1 00 00 00"),
    ("call 5", "85 00 00 00 05 00 00 00"), ("call %r2", "8d 02 00 00 00 00 00 00"),
    ("call runtime 7", "85 20 00 00 07 00 00 00"), ("call local +2", "85 10 00 00 02 00 00 00"),
    ("ja -2", "05 00 fe ff 00 00 00 00"), ("ja32 -2", "06 00 00 00 fe ff ff ff"),
    ("jset32 %r1, 5, +3", "46 01 03 00 05 00 00 00"), ("mov %r15, 0", "b7 0f 00 00 00 00 00 00"),
    ("lddw %r1, 0x8000000000000001", "18 01 00 00 01 00 00 00 00 00 00 00 00 00 00 80"),
    ("exit", "95 00 00 00 00 00 00 00"), ("add r1, r2", "0f 21 00 00 00 00 00 00"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "code"), ENCODED, ids=[line for line, _ in ENCODED])
def test_encoding(line, code):
    """Against bytes written down by hand from RFC 9669."""
    assert parse(f"-- asm\n{line}\n-- result\n0\n", "a", "a").code == bytes.fromhex(code)


def test_labels():
    text = "-- asm\njeq %r1, 0, exit\nback:\nlddw %r0, 1\nja32 back\ncall local back\nexit\n"
    code = parse(text + "-- result\n0\n", "a", "a").code
    # the first exit is a label by itself; lddw counts twice
    assert [code[at : at + 8].hex(" ") for at in (0, 24, 32)] == [
        "15 01 04 00 00 00 00 00", "06 00 00 00 fd ff ff ff", "85 10 00 00 fc ff ff ff",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "said"),
    [("mov %r16, 0", "'%r16' is not a register"), ("mov x0, 0", "'x0' is not a register"),
     ("move %r0, 0", "unknown instruction 'move'"), ("mov %r0", "wrong number of operands"),
     ("mov %r0, 1, 2", "wrong number of operands"), ("mov %r0, x", "'x' is not a number"),
     ("mov %r0, 0x100000000", "does not fit 32 bits"), ("exit 1", "wrong number of operands"),
     ("ldxw %r0, %r1", "not a place in memory"), ("ldxw %r0, [%r1+40000000]", "16 bits"),
     ("lock nand [%r1+0], %r2", "unknown atomic operation 'nand'"),
     ("lock add [%r1+0]", "wrong number of operands"), ("lock", "wrong number of operands"),
     ("call far 3", "no kind of call"), ("ja nowhere", "no label 'nowhere'"),
     ("lddw %r0, 0x10000000000000000", "64 bits"), ("call local 3x", "no label '3x'"),
     ("lddw %r0, --1", "unknown directive")],
)  # fmt: skip
def test_wrong_line(line, said):
    text = f"# one\n-- asm\n{line}\n-- result\n0\n"
    if "directive" in said:
        assert said in parse(text, "a", "dir/a.data").skipped
        return
    with pytest.raises(ObjectError, match=r"^dir/a\.data:3: ") as raised:
        parse(text, "a", "dir/a.data")
    assert said in raised.value.message


@pytest.mark.parametrize(
    ("section", "line"),
    [("mem", "zz"), ("mem", "100"), ("raw", "0xfg"), ("raw", "0x10000000000000000"),
     ("result", "zero"), ("result", "0x")],
)  # fmt: skip
def test_wrong_number(section, line):
    text = f"-- asm\nexit\n-- result\n0\n-- {section}\n{line}\n"
    with pytest.raises(ObjectError, match=r"^a\.data:6: "):
        parse(text, "a", "a.data")


def test_far_label():
    lines = "ja end\n" + "exit\n" * 40000 + "end:\nexit\n"
    with pytest.raises(ObjectError, match=r"^a\.data:2: label 'end' is out of reach"):
        parse(f"-- asm\n{lines}-- result\n0\n", "a", "a.data")


# ---- the command -------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/good.data").write_text(GOOD)
    return tmp_path


def test_command_passes(directory, capsys):
    assert main(["conformance", str(directory)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].split() == ["sub", "1", "-", "-"]
    assert out[2].split() == ["all", "1", "-", "-"]


def test_command_fails_and_says_why(directory, capsys):
    (directory / "sub/wrong.data").write_text(GOOD.replace("0x1\n", "0x5\n"))
    (directory / "broken-file.data").write_text("-- asm\nnonsense\n-- result\n0\n")
    (directory / "other.data").write_text("-- map\n")
    assert main(["conformance", str(directory), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 2, 1)
    assert found["reasons"]["sub/wrong"]["reason"] == "expected 0x5, got 0x1"
    assert "broken-file.data:2: unknown instruction" in found["reasons"]["broken-file"]["reason"]
    assert found["groups"]["broken"] == {"passed": 0, "failed": 1, "skipped": 0}


def test_command_with_nothing_that_runs_is_red(tmp_path, capsys):
    (tmp_path / "a.data").write_text("-- map\n")
    assert main(["conformance", str(tmp_path)]) == 1
    assert "no vector ran" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_command_wrong_directory(tmp_path, capsys, what):
    if what == "empty":
        (tmp_path / what).mkdir()
    assert main(["conformance", str(tmp_path / what)]) == 2
    assert what in capsys.readouterr().err


def test_command_one_file(directory, capsys):
    assert main(["conformance", str(directory / "sub/good.data")]) == 0


def test_plugin_that_is_not_there(directory, capsys):
    assert main(["conformance", str(directory), "--plugin", str(directory / "no")]) == 2
    assert "cannot be run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo hello", "no number in hex"), ("echo bad >&2; exit 1", "got an error: bad"),
     ("echo 2", "expected 0x1, got 0x2")],
)  # fmt: skip
def test_plugin_that_answers_wrongly(directory, capsys, script, reason):
    plugin = directory / "plugin"
    plugin.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
    plugin.chmod(0o755)
    assert main(["conformance", str(directory), "--plugin", str(plugin)]) == 1
    assert reason in capsys.readouterr().out


def test_difference():
    """What passes and what does not."""
    number, error = Vector("a", b"", result=5), Vector("a", b"", error="no")
    assert runner.difference(number, runner.Answer(5)) == ""
    assert runner.difference(number, runner.Answer(6)) == "expected 0x5, got 0x6"
    assert "got an error: no" in runner.difference(number, runner.Answer(None, "no"))
    assert runner.difference(error, runner.Answer(None, "no")) == ""
    assert runner.difference(error, runner.Answer(None, "no!"))
    assert runner.difference(error, runner.Answer(5)) == "expected error 'no', got 0x5"


_WORDS = st.sampled_from([
    "-- asm", "-- raw", "-- mem", "-- result", "-- error", "-- c", "--", "mov %r0, 1", "exit",
    "lock", "lock fetch", "ldxw", "[%r1", "[%r1+", "[+]", "call local", "ja", "ja +", "a:", ":",
    "0x", "-", "0", "\0", "%", ",", "jeq %r1, %r2, a", "lddw %r0, -1", "st", "stw [%r1-1], 0",
])  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(_WORDS, st.text(max_size=20)), max_size=12).map("\n".join))
def test_any_text_is_a_vector_or_an_error(text):
    with contextlib.suppress(ObjectError):
        vector = parse(text, "a", "a.data")
        assert vector.skipped or len(vector.code) % 8 == 0


@settings(max_examples=500, deadline=None)
@given(st.lists(st.one_of(_WORDS, st.text("%r0159+-x[],: ", max_size=12)), max_size=5))
def test_any_line_is_an_instruction_or_an_error(words):
    with contextlib.suppress(ObjectError):
        parse(f"-- asm\n{' '.join(words)}\n-- result\n0\n", "a", "a.data")


def test_unreadable_file(tmp_path):
    (tmp_path / "a.data").mkdir()
    assert "cannot be read" in vectors.read(tmp_path)[0].broken
    with pytest.raises(UsageError):
        vectors.read(tmp_path / "b")
