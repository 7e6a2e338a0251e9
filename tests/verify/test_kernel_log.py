# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# ruff: noqa: E501  # lines of logs are long
"""Verifier logs as 6.12, 6.18 and 7.3 print them, read."""

import pytest

from harness.verify.kernel_log import items, known_of, parse, programs

U64 = (1 << 64) - 1

# 6.12: liveness behind the names, states where paths begin and in between what changed
V6_12 = """\
func#0 @0
0: R1=ctx() R10=fp0
; bpf_assert_with(skb->len % 2 == 0, skb->len); @ conditions.bpf.c:25
0: (61) r1 = *(u32 *)(r1 +0)          ; R1_w=scalar(smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))
1: (bc) w2 = w1                       ; R1_w=scalar(id=1,smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff)) R2_w=scalar(id=1,smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))
2: (54) w2 &= 1                       ; R2_w=scalar(smin=smin32=0,smax=umax=smax32=umax32=1,var_off=(0x0; 0x1))
3: (16) if w2 == 0x0 goto pc+1        ; R2_w=1
4: (85) call bpf_throw#59519

from 3 to 5: R1_w=scalar(id=1,smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff)) R2_w=0 R10=fp0
5: R1_w=scalar(id=1,smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff)) R2_w=0 R10=fp0
; return 7; @ conditions.bpf.c:26
5: (b4) w0 = 7                        ; R0_w=7
6: (95) exit

from 2 to 6: safe
verification time 8857 usec
stack depth 0+0
processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0"""
# 7.3: lists programs first, prints only what is live
V7_3 = """\
func#0 @0
topo_order[0] = plain
subprog#0 plain:
  0: (61) r1 = *(u32 *)(r1 +0)
100: (95) exit
Live regs before insn:
      0: .1........ (61) r1 = *(u32 *)(r1 +0)
    100: 0......... (95) exit
0: R1=ctx() R10=fp0
0: (61) r1 = *(u32 *)(r1 +0)          ; R1=scalar(smin=0,smax=umax=0xffffffff,var_off=(0x0; 0xffffffff))
1: (85) call pc+2
caller:
 R6=ctx() R10=fp0
callee:
 frame1: R1=5 R10=fp0
4: frame1: R1=5 R10=fp0
4: (bf) r0 = r1                       ; frame1: R0=5 R1=5
5: (95) exit
returning from callee:
 frame1: R0=5 R10=fp0
to caller at 2:
 R0=5 R6=ctx() R10=fp0
2: R0=5 R6=ctx() R10=fp0
2: (95) exit
processed 5 insns (limit 1000000)"""


def test_states():
    log = parse(V6_12)
    assert log.processed == 7
    assert sorted(log.states) == [0, 1, 2, 3, 4, 5, 6]
    (before,) = log.states[0]
    assert (before["R1"].kind, before["R10"].kind) == ("ctx", "fp")
    (loaded,) = log.states[1]
    assert loaded["R1"].contains(0xFFFFFFFF)
    assert not loaded["R1"].contains(1 << 32)
    (masked,) = log.states[3]
    assert [n for n in range(4) if masked["R2"].contains(n)] == [0, 1]
    (taken,) = log.states[5]
    assert taken["R2"].contains(0)
    assert not taken["R2"].contains(1)
    assert log.pruned == {(2, 6)}
    # nothing is known of R0 to R5 behind a call
    assert set(parse("0: R1=1 R6=2 R10=fp0\n0: (85) call x#1\n1: (95) exit").states[1][0]) == {
        "R6", "R10",
    }  # fmt: skip


def test_listings_are_not_states():
    log = parse(V7_3)
    assert sorted(log.states) == [0, 1, 2, 4, 5]
    assert log.states[4][0]["R1"].contains(5)
    assert set(log.states[2][0]) == {"R0", "R6", "R10"}
    assert log.processed == 5


def test_callback_returns_to_its_call():
    """Numbers of the caller may have been widened: they are not known any more."""
    text = """\
0: R6=7 R7=ctx() R10=fp0
0: (85) call bpf_loop#181
returning from callee:
 frame1: R0=0 R10=fp0 cb
to caller at 0:
 R6=7 R7=ctx() R10=fp0
0: R6=7 R7=ctx() R10=fp0
0: (85) call bpf_loop#181
"""
    first, second = parse(text.replace("\n0: R6=7 R7=ctx() R10=fp0\n0: (85)", "\n0: (85)")).states[
        0
    ]
    assert "R6" in first
    assert set(second) == {"R7", "R10"}


def test_what_is_written_and_not_printed():
    """7.3 prints nothing of a register that nobody reads."""
    log = parse("0: R1=ctx() R10=fp0\n0: (b7) r1 = 1                        ;\n1: (05) goto pc+0")
    assert set(log.states[1][0]) == {"R10"}


def test_pruned_without_from():
    log = parse("0: R1=1 R10=fp0\n3: (05) goto pc+1\n5: safe")
    assert log.ended == {5}
    assert log.pruned == {(3, 5)}


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("scalar()", [0, U64], []),
        ("P7", [7], [8]),
        ("-1", [U64], [0xFFFFFFFF]),
        ("0xffffffff", [0xFFFFFFFF], [U64]),
        ("scalar(smin=umin=3,smax=umax=9)", [3, 9], [2, 10]),
        ("scalar(id=2,smin=-3,smax=4)", [U64 - 2, 4, 0], [5, U64 - 3]),
        ("scalar(smin=0xffffffff80000000,smax=0x7fffffff)", [0xFFFFFFFF80000000, 5], [1 << 31]),
        ("scalar(smin32=0x80000001,smax32=-1)", [0x80000001, 0xFFFFFFFF], [0, 0x80000000]),
        ("scalar(umin32=5)", [5, 1 << 40 | 7], [4, 1 << 40]),
        ("scalar(var_off=(0x1; 0xfe))", [1, 3, 255], [2, 257]),
    ],
)
def test_numbers(text, inside, outside):
    known = known_of(text)
    assert known.kind == "scalar"
    assert all(known.contains(number) for number in inside)
    assert not any(known.contains(number) for number in outside)


def test_pointers():
    assert known_of("fp-16").contains_offset(-16)
    assert known_of("fp[1]-8").fields == {"frame": "1"}
    assert known_of("fp(off=-16,umax=8,var_off=(0x0; 0x8))").contains_offset(-8)
    old = known_of("map_value(map=hits,ks=4,vs=8,off=4)")
    new = known_of("map_value(map=hits,ks=4,vs=8,imm=4)")
    assert old.contains_offset(4)
    assert new.contains_offset(4)
    assert not new.contains_offset(0)
    maybe = known_of("map_value_or_null(id=2,map=hits,ks=4,vs=8)")
    assert (maybe.kind, maybe.null, maybe.fields["map"]) == ("map_value", True, "hits")
    packet = known_of("pkt(id=3,off=14,r=34,smin=smin32=0,smax=umax=60,var_off=(0x0; 0x3c))")
    assert packet.fields["r"] == "34"
    assert packet.contains_offset(14 + 8)
    assert not packet.contains_offset(13)
    item = known_of("ptr_or_null_item(id=4,ref_obj_id=4)")
    assert (item.kind, item.null) == ("ptr_item", True)
    assert known_of("arena").kind == "arena"
    assert known_of("mmmmmmmm") is None


def test_items():
    found = items(" frame1: R1=fp[0]-8 R2_rw=P5 fp-8_w=mmmmscalar(umax=3) fp-16=00000000 refs=2 cb")
    assert set(found) == {"R1", "R2", "fp-8", "fp-16"}
    assert found["fp-8"].umax == 3


def test_programs():
    text = f"""\
libbpf: prog 'a': -- BEGIN PROG LOAD LOG --
{V6_12}
-- END PROG LOAD LOG --
libbpf: prog 'b': BPF program load failed: -EINVAL
libbpf: prog 'b': -- BEGIN PROG LOAD LOG --
{V7_3}
-- END PROG LOAD LOG --
libbpf: prog 'b': failed to load: -EINVAL
"""
    assert programs(text) == {"a": V6_12}


def test_anything():
    """What is no log has no states, and is no error."""
    for text in (
        "",
        "\n",
        "0:",
        "from 1 to",
        "R1=",
        "1: (",
        "processed x insns",
        "(95) exit",
        "\x00",
    ):
        assert not parse(text).states
