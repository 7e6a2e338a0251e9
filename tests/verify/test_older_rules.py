# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Where 6.18.15 has an older rule than 6.12.107, whose stable series got the newer one first.

Each was seen on the three booted kernels; some are holes of 6.18.15.
"""

import pytest

from harness.bpf import asm, writeelf
from harness.bpf.elf import read_object
from harness.series import SERIES
from harness.verify.predict import predict
from harness.verify.prediction import Verdict

ACCEPT = ("", 0)
SPILLED = """
    r6 = r1
    r7 = *(u32 *)(r6 +8)
    r7 &= 3
    *(u64 *)(r10 -8) = r6
    r1 = r10
    r1 += {at}
    r1 += r7
    r2 = 1
    *(u8 *)(r1 +0) = r2
    r3 = *(u64 *)(r10 -8)
    r0 = 0
    exit
"""

# what happens -> (text of a tc program, {series: (words, errno)}; 7.3 is as 6.12)
ASM = {
    # 6.18.15 scrubs no spill around a store at an offset that varies (6.12.107 and 7.3.4 do)
    "the rest of a spill": (
        SPILLED.format(at=-4),
        {"6.12": ACCEPT, "6.18": ("invalid size of register fill", 13), "7.3": ACCEPT},
    ),
    "the upper rest of a spill": (
        SPILLED.format(at=-8),
        {"6.12": ACCEPT, "6.18": ("invalid read from stack off -8+4 size 8", 13), "7.3": ACCEPT},
    ),
    # regsafe() of 6.18.15 has no case of its own for such pointers, as those of 6.12.107 and 7.3.4
    # have: the path that goes on is taken for the one that ended behind the packet's end
    "a path that ends at the packet's end hides one that goes on": (
        """
        r6 = r1
        r0 = *(u32 *)(r6 +0)
        if r0 == 1 goto a
        r0 = *(u32 *)(r6 +8)
        a: if r0 == 2 goto b
        r0 += 1
        b: if r0 == 3 goto c
        r0 += 1
        c: r2 = *(u32 *)(r6 +76)
        r3 = *(u32 *)(r6 +80)
        r4 = r2
        r4 += 8
        r0 = 0
        if r4 <= r3 goto d
        r0 = 0
        goto e
        d: r0 = 0
        e: r5 = 0
        r5 = 0
        r5 = 0
        r5 = 0
        r5 = 0
        r5 = 0
        r5 = 0
        r5 = 0
        goto f
        f: goto g
        g: goto h
        h: if r4 > r3 goto i
        r0 = *(u8 *)(r2 +100)
        i: r0 = 0
        exit
        """,
        {
            "6.12": (r"invalid access to packet, off=100 size=1, R2(id={{.*}}r=8)", 13),
            "6.18": ACCEPT,
            "7.3": (r"invalid access to packet, off=100 size=1, R2(id={{.*}}r=8)", 13),
        },
    ),
}
# the same in C
C = {
    "a number plus a pointer into an arena": (
        """char *page = bpf_arena_alloc_pages(&arena, 0, 1, -1, 0); __u64 at = 8;
        asm volatile("%0 = addr_space_cast(%0, 0, 1); %1 += %0; *(u8 *)(%1 + 0) = %0"
                     : "+r"(page), "+r"(at));
        return 0;""",
        {"6.12": ACCEPT, "6.18": ("R1 pointer arithmetic on arena prohibited", 13),
         "7.3": ACCEPT},
    ),
    # 6.18.15 forgets who holds a pointer that is added to a number: it goes on after the end
    "a number plus what is given back": (
        """__u64 *e = bpf_ringbuf_reserve(&events, 8, 0), at = 4;
        if (!e) return 0;
        asm volatile("%0 += %1" : "+r"(at) : "r"(e));
        bpf_ringbuf_submit(e, 0); *(volatile __u32 *)at = 1; return 0;""",
        {"6.12": ("R6 invalid mem access 'scalar'", 13), "6.18": ACCEPT,
         "7.3": ("R6 invalid mem access 'scalar'", 13)},
    ),
}  # fmt: skip
HEAD = """
struct { __uint(type, 33); __uint(map_flags, 1 << 10); __uint(max_entries, 1); } arena SEC(".maps");
extern void *bpf_arena_alloc_pages(void *, void *, __u32, int, __u64) __weak __ksym;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
SEC("%s") int entry(struct __sk_buff *skb) { %s }
"""


def check(found, table, series):
    words, errno = table[series]
    assert found.verdict is (Verdict.REJECT if words else Verdict.ACCEPT), found
    assert found.message.startswith(words) if words else not found.message
    assert found.errno == (errno or None)


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", ASM)
def test_in_assembler(name, series, tmp_path):
    text, table = ASM[name]
    program = asm.assemble(f".section tc\n.func main global\n{text}\n")
    path = tmp_path / "p.bpf.o"
    path.write_bytes(writeelf.write_object(program, "GPL"))
    obj = read_object(path)
    check(predict(obj, obj.programs[0].name, series), table, series)


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", C)
def test_in_c(name, series, compiled):
    body, table = C[name]
    section = "syscall" if "arena" in body else "tc"
    check(predict(read_object(compiled(HEAD % (section, body))), "entry", series), table, series)
