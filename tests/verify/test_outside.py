# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What is said of an access that is outside: by how much, and which bound would do.

That the bound would do is tried: the program with it is accepted.
"""

import pytest

from harness.bpf.elf import read_object
from harness.verify.predict import predict

HEAD = """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1); __type(key, int);
  __type(value, char[24]); } map SEC(".maps");
#define DATA(skb) ((unsigned char *)(long)(skb)->data)
#define END(skb) ((unsigned char *)(long)(skb)->data_end)
"""
ELEMENT = """SEC("tc") int entry(struct __sk_buff *skb) {
	int key = 0;
	char *value = bpf_map_lookup_elem(&map, &key);
	__u64 index = skb->mark;
	if (!value || index > %s)
		return 0;
	return *(%s *)(value + index);
}"""
PACKET = """SEC("tc") int entry(struct __sk_buff *skb) {
	unsigned char *data = DATA(skb), *there;
	__u64 more = skb->mark %s;
	there = data + more;
	if (%s > END(skb))
		return 0;
	return %s;
}"""


@pytest.mark.parametrize(
    ("text", "why", "fix", "better"),
    [
        (ELEMENT % (24, "char"), "may be as large as 24", "added with 23", ELEMENT % (23, "char")),
        (ELEMENT % (23, "__u32"), "end at byte 27, and there are 24", "added with 20",
         ELEMENT % (20, "__u32")),
        (PACKET % ("& 1", "data + 14", "data[14]"), "14 bytes are known", "for 15 bytes",
         PACKET % ("& 1", "data + 15", "data[14]")),
        (PACKET % ("", "there + 1", "*there"), "more than 65535 bytes", "below 1500",
         PACKET % ("& 1023", "there + 1", "*there")),
        (PACKET % ("& 7", "data + 14", "there[3]"), "or a copy of it", "this pointer plus 4",
         PACKET % ("& 7", "there + 4", "there[3]")),
    ],
)  # fmt: skip
def test_the_bound_that_is_named_is_enough(compiled, text, why, fix, better):
    found = predict(read_object(compiled(HEAD + text)), "entry", "6.12")
    assert found.verdict == "reject", found
    assert why in found.why
    assert fix in found.fix
    assert predict(read_object(compiled(HEAD + better)), "entry", "6.12").verdict == "accept"


def test_where_no_part_speaks_of_the_program_the_rule_does(compiled):
    text = """SEC("tc") int entry(struct __sk_buff *skb) {
	char bytes[8];
	return bpf_skb_load_bytes(skb, 0, bytes, skb->mark & 7);
}"""
    found = predict(read_object(compiled(text)), "entry", "7.3")
    assert "invalid zero-sized read" in found.message
    assert found.fix.startswith("exclude 0")
