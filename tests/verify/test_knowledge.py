# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# ruff: noqa: E501  # lines of logs are long
"""Knowledge gained by throwing: the model's beside what logs of 6.12 and 7.3 say."""

import json

import pytest

from harness.bpf import asm, writeelf
from harness.bpf.elf import read_object
from harness.bpf.link import link
from harness.cli import main
from harness.sim.semantics import profile
from harness.verify import knowledge, rangetable
from harness.verify.kernel_log import STALE, known_of, parse
from harness.verify.prediction import Subject

BUDGET = 1000
# the byte at data[14] says how far behind the start to look
VARIABLE = """
    r7 = *(u32 *)(r1 +80)
    r6 = *(u32 *)(r1 +76)
    r1 = r6
    r1 += 15
    if r1 <= r7 goto enough
    r1 = 98
    call bpf_throw
enough: r1 = *(u8 *)(r6 +14)
    r6 += r1
    r1 = r6
    r1 += 1
    if r1 <= r7 goto inside
    r1 = 9
    call bpf_throw
inside: r0 = *(u8 *)(r6 +0)
    exit
"""
LOGS = {
    "6.12": """\
0: R1=ctx() R10=fp0
0: (61) r7 = *(u32 *)(r1 +80)         ; R1=ctx() R7_w=pkt_end()
1: (61) r6 = *(u32 *)(r1 +76)         ; R1=ctx() R6_w=pkt(r=0)
2: (bf) r1 = r6                       ; R1_w=pkt(r=0) R6_w=pkt(r=0)
3: (07) r1 += 15                      ; R1_w=pkt(off=15,r=0)
4: (bd) if r1 <= r7 goto pc+2         ; R1_w=pkt(off=15,r=0xfffffffffffffffe) R7_w=pkt_end()
5: (b7) r1 = 98                       ; R1_w=98
6: (85) call bpf_throw#59519

from 4 to 7: R1=pkt(off=15,r=15) R6=pkt(r=15) R7=pkt_end() R10=fp0
7: R1=pkt(off=15,r=15) R6=pkt(r=15) R7=pkt_end() R10=fp0
7: (71) r1 = *(u8 *)(r6 +14)          ; R1_w=scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R6=pkt(r=15)
8: (0f) r6 += r1
9: R1_w=scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R6_w=pkt(id=1,r=0,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))
9: (bf) r1 = r6                       ; R1_w=pkt(id=1,r=0,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R6_w=pkt(id=1,r=0,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))
10: (07) r1 += 1                      ; R1_w=pkt(id=1,off=1,r=0,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))
11: (bd) if r1 <= r7 goto pc+2        ; R1_w=pkt(id=1,off=1,r=0xfffffffffffffffe,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R7=pkt_end()
12: (b7) r1 = 9                       ; R1_w=9
13: (85) call bpf_throw#59519

from 11 to 14: R1_w=pkt(id=1,off=1,r=1,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R6_w=pkt(id=1,r=1,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R7=pkt_end() R10=fp0
14: R1_w=pkt(id=1,off=1,r=1,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R6_w=pkt(id=1,r=1,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R7=pkt_end() R10=fp0
14: (71) r0 = *(u8 *)(r6 +0)          ; R0_w=scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R6_w=pkt(id=1,r=1,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))
15: (95) exit
processed 16 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 1
""",
    "7.3": """\
0: R1=ctx() R10=fp0
0: (61) r7 = *(u32 *)(r1 +80)         ; R1=ctx() R7=pkt_end()
1: (61) r6 = *(u32 *)(r1 +76)         ; R1=ctx() R6=pkt(r=0)
2: (bf) r1 = r6                       ; R1=pkt(r=0) R6=pkt(r=0)
3: (07) r1 += 15                      ; R1=pkt(r=0,imm=15)
4: (bd) if r1 <= r7 goto pc+2         ; R1=pkt(r=0xfffffffffffffffe,imm=15) R7=pkt_end()
5: (b7) r1 = 98                       ; R1=98
6: (85) call bpf_throw#71958

from 4 to 7: R6=pkt(r=15) R7=pkt_end() R10=fp0
7: R6=pkt(r=15) R7=pkt_end() R10=fp0
7: (71) r1 = *(u8 *)(r6 +14)          ; R1=scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R6=pkt(r=15)
8: (0f) r6 += r1
9: R1=scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R6=pkt(id=1,r=0,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))
9: (bf) r1 = r6                       ; R1=pkt(id=1,r=0,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R6=pkt(id=1,r=0,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))
10: (07) r1 += 1                      ; R1=pkt(id=1,r=0,smin=umin=1,smax=umax=256,smin32=0,smax32=umax32=511,var_off=(0x0; 0x1ff))
11: (bd) if r1 <= r7 goto pc+2        ; R1=pkt(id=1,r=0xfffffffffffffffe,smin=umin=1,smax=umax=256,smin32=0,smax32=umax32=511,var_off=(0x0; 0x1ff)) R7=pkt_end()
12: (b7) r1 = 9                       ; R1=9
13: (85) call bpf_throw#71958

from 11 to 14: R6=pkt(id=1,r=256,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R10=fp0
14: R6=pkt(id=1,r=256,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R10=fp0
14: (71) r0 = *(u8 *)(r6 +0)          ; R0=scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R6=pkt(id=1,r=256,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))
15: (95) exit
processed 16 insns (limit 1000000) max_states_per_insn 0 total_states 1 peak_states 1 mark_read 0
""",
}
# a copy of what a jump compares: the form of 6.12
COPY = """\
0: R1=ctx() R10=fp0
0: (61) r6 = *(u32 *)(r1 +0)          ; R1=ctx() R6_w=scalar(smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))
1: (bf) r7 = r6                       ; R6_w=scalar(id=1,smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff)) R7_w=scalar(id=1,smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))
2: (55) if r6 != 0x5 goto pc+2        ; R6_w=5
3: (b7) r0 = 0                        ; R0_w=0
"""
THROWS = """
static __noinline void fail(void) { bpf_throw(3); }
SEC("tc") int entry(struct __sk_buff *skb)
{
	__u32 length = *(volatile __u32 *)&skb->len;

	if (length > 100)
		fail();
	skb->mark = length;
	return 1;
}
"""


@pytest.fixture
def both(tmp_path):
    """Series -> the program, its assertions, what the model knows there and what the log says."""

    def make(series, edit=lambda text: text):
        file = tmp_path / "p.bpf.o"
        program = asm.assemble(f".section tc\n.func main global\n{VARIABLE}\n")
        file.write_bytes(writeelf.write_object(program, "GPL"))
        obj = read_object(file)
        subject = Subject(obj, link(obj, obj.programs[0].name), profile(series))
        places = knowledge.assertions(subject.program)
        model = knowledge.of_model(subject, BUDGET, places)
        kernel = knowledge.of_kernel(parse(edit(LOGS[series])), places)
        return subject.program, places, model, kernel

    return make


@pytest.mark.parametrize("series", LOGS)
def test_model_knows_what_the_log_says(both, series):
    _, places, model, kernel = both(series)
    assert [(place.pc, place.holds) for place in places] == [(4, 7), (11, 14)]
    for place in places:
        mine, theirs = model[place.pc], kernel[place.pc]
        assert len(mine.before) == len(mine.after) == len(theirs.before) == len(theirs.after) == 1
        assert knowledge.disagreements(mine.before, theirs.before) == ()
        assert knowledge.disagreements(mine.after, theirs.after) == ()


@pytest.mark.parametrize(("series", "proven"), [("6.12", 1), ("7.3", 256)])
def test_packet_behind_a_variable_offset(both, series, proven):
    """Since 7.0 the largest offset counts in."""
    for source in both(series)[2:]:
        (known,) = source[11].values("R6", after=True)
        assert knowledge.proven(known) == proven
        assert (known.umin, known.umax) == (0, 255)


def test_what_differs_is_seen(both):
    _, _, model, kernel = both("7.3", lambda text: text.replace("R6=pkt(r=15)", "R6=pkt(r=14)"))
    assert knowledge.disagreements(model[4].before, kernel[4].before) == ()
    assert knowledge.disagreements(model[4].after, kernel[4].after) == ("R6",)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("scalar(umin=4)", "scalar(umin=4)", ()),
        ("scalar(umin=4)", "scalar(umin=5)", ("umin",)),
        ("scalar(smax32=7)", "scalar()", ("smax32",)),
        ("scalar(var_off=(0x0; 0xf0))", "scalar()", ("mask",)),
        ("5", "fp0", ("kind",)),
        ("map_value(ks=4,vs=8)", "map_value_or_null(id=1,ks=4,vs=8)", ("null",)),
        ("map_value(ks=4,vs=8)", "map_value(ks=4,vs=16)", ("vs",)),
        ("pkt(r=18)", "pkt(r=17)", ("r",)),
        ("pkt(r=0xfffffffffffffffe)", "pkt(r=-2)", ()),
        ("pkt(off=1,r=0)", "pkt(r=0,imm=1)", ()),
    ],
)
def test_differences(one, other, what):
    assert knowledge.differences(known_of(one), known_of(other)) == what
    assert knowledge.differences(known_of(other), known_of(one)) == what


def test_fewer_paths_are_no_difference_where_paths_ended():
    small, large = {"R1": known_of("1")}, {"R1": known_of("2")}
    assert knowledge.disagreements([small, large], [small]) == ("R1",)
    assert knowledge.disagreements([small, large], [small], few=(False, True)) == ()
    assert knowledge.disagreements([small], [small, large], few=(True, False)) == ()
    assert knowledge.disagreements([small], [large], few=(True, True)) == ("R1",)


def test_copies_of_what_a_jump_compares_are_not_believed():
    log = parse(COPY)
    (state,) = log.states[3]
    assert state["R6"] == known_of("5")
    assert STALE in state["R7"].fields
    assert log.origins == [-1, 0, 1, 2]


def test_throw_in_a_function_that_always_throws(subject_of_c):
    subject = subject_of_c(THROWS, "7.3")
    places = knowledge.assertions(subject.program)
    assert len(places) == 1
    learnt = knowledge.of_model(subject, BUDGET, places)[places[0].pc]
    (register,) = places[0].registers
    assert [known.umax for known in learnt.values(register, after=False)] == [0xFFFFFFFF]
    assert [known.umax for known in learnt.values(register, after=True)] == [100]


def test_no_assertion_where_both_sides_throw_or_none(subject_of_c):
    subject = subject_of_c(
        'SEC("tc") int entry(struct __sk_buff *skb)'
        "{ if (skb->len > 9) skb->mark = 1; else skb->mark = 2; bpf_throw(skb->len); return 0; }"
    )
    assert knowledge.assertions(subject.program) == ()


def test_table_has_model_and_kernel_side_by_side(both):
    program, places, model, kernel = both("6.12")
    tables = [rangetable.table(place, model[place.pc], kernel[place.pc]) for place in places]
    lines = rangetable.text(program, tables, kernel=True)
    assert [line.split() for line in lines if "R6" in line] == [
        ["R6", "before", "pkt", "r=0", "kernel:", "pkt", "r=0", "agree"],
        ["R6", "after", "pkt", "r=15", "kernel:", "pkt", "r=15", "agree"],
        ["R6", "before", "pkt+(0..255)", "r=0", "kernel:", "pkt+(0..255)", "r=0", "agree"],
        ["R6", "after", "pkt+(0..255)", "r=1", "kernel:", "pkt+(0..255)", "r=1", "agree"],
    ]
    # the end of the packet is where it was
    assert [line.split()[1] for line in lines if "R7" in line] == ["before", "before"]
    written = json.loads(json.dumps([rangetable.to_json(program, each) for each in tables]))
    assert [each["pc"] for each in written] == [4, 11]
    assert all(row["agree"] for each in written for row in each["registers"])


def test_command(compiled, capsys):
    file = str(compiled(THROWS))
    assert main(["verify", file, "--ranges"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("entry (tc) on 6.12, 6.18, 7.3\n")
    assert "after   0..100" in out
    assert main(["verify", file, "--ranges", "--profile", "7.3", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["profile"] == "7.3"
    assert found["kernel"] is None
    rows = found["assertions"][0]["registers"]
    assert [row["model"][0]["umax"] for row in rows] == [0xFFFFFFFF, 100]


def test_program_that_is_refused_has_a_reason_and_no_table(compiled, capsys):
    refused = 'SEC("tc") int entry(struct __sk_buff *skb) { return *(int *)(long)skb->len; }'
    assert main(["verify", str(compiled(refused)), "--ranges", "--profile", "7.3"]) == 1
    out = capsys.readouterr().out
    assert "model: reject: R1 invalid mem access 'scalar'" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--kernel", "7.3"], "--kernel goes with --ranges"),
        (["--ranges", "--explain"], "--ranges goes neither with"),
        (["--ranges", "--kernel", "7.3", "--profile", "7.3"], "--kernel says which profile"),
    ],
)
def test_command_mistakes(compiled, capsys, options, words):
    assert main(["verify", str(compiled(THROWS)), *options]) == 2
    assert words in capsys.readouterr().err
