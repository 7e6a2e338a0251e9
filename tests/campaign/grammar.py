# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that nobody wrote, in C: throws among everything that a throw may meet.

Functions of all kinds, callbacks, loops, maps, packets, locks, references, regions, iterators and
tail calls, in statements put together at random. Most load, many do not. From a seed.
"""

import random
from dataclasses import dataclass, field

_HEAD = """// SPDX-License-Identifier: GPL-2.0-only
#include "exceptions.h"
#include <linux/pkt_cls.h>

extern void bpf_rcu_read_lock(void) __weak __ksym;
extern void bpf_rcu_read_unlock(void) __weak __ksym;
extern void bpf_preempt_disable(void) __weak __ksym;
extern void bpf_preempt_enable(void) __weak __ksym;
struct bpf_iter_num { __u64 opaque[1]; } __attribute__((aligned(8)));
extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;

struct value { struct bpf_spin_lock lock; __u32 count; __u64 sum; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32);
	__type(value, struct value); } array SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32);
	__type(value, __u64); } hash SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 2); __type(key, __u32);
	__type(value, __u32); } jumps SEC(".maps");
const volatile __u32 flag = 0;
__u64 seen;
char table[64];
"""
# section, type of the context, how a number comes out of it
_TYPES = (
    ("tc", "struct __sk_buff", "c->len"),
    ("tc", "struct __sk_buff", "c->mark"),
    ("xdp", "struct xdp_md", "c->ingress_ifindex"),
    ("cgroup_skb/ingress", "struct __sk_buff", "c->len"),
    ("syscall", "struct numbers", "c->first"),
)
_COMPARED = ("<", ">", "<=", ">=", "==", "!=")
_NUMBERS = (0, 1, 2, 3, 7, 8, 10, 15, 63, 64, 100, 255, 256, 4096, -1, -8)
_ASSERTED = ("eq", "ne", "lt", "gt", "le", "ge")
_MOST_DEPTH = 3


@dataclass
class Source:
    """One object: `programs` of them with what they call."""

    rng: random.Random
    # finished functions, in front of those that call them
    functions: list[str] = field(default_factory=list)
    count: int = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}_{self.count}"


@dataclass
class Block:
    """Statements of one function; a, b and d are its numbers."""

    source: Source
    # name of the type of the context `c`, where there is one
    context: str = ""
    depth: int = 0
    # calls below the program
    level: int = 0

    @property
    def rng(self) -> random.Random:
        return self.source.rng

    def number(self) -> str:
        return str(self.rng.choice(("a", "b", "d", *map(str, _NUMBERS))))

    def condition(self) -> str:
        left = self.rng.choice(("a", "b", "d", "(__s64)a", "(__u32)b", "(a & 7)", "flag"))
        return f"{left} {self.rng.choice(_COMPARED)} {self.number()}"

    def statements(self, most: int = 3) -> str:
        return " ".join(self.statement() for _ in range(self.rng.randint(1, most)))

    def inner(self, most: int = 2) -> str:
        self.depth += 1
        text = self.statements(most) if self.depth <= _MOST_DEPTH else "seen++;"
        self.depth -= 1
        return text

    def statement(self) -> str:
        ways = [getattr(self, f"_{way}") for way in _WAYS]
        return str(self.rng.choice(ways)())

    # ---- numbers and ways ---------------------------------------------------------------------

    def _compute(self) -> str:
        into, by = self.rng.choice("abd"), self.number()
        how = self.rng.choice(("+=", "-=", "*=", "&=", "|=", "^=", ">>= 3 +", "/= 3 +"))
        return f"{into} {how} {'1' if how.endswith('+') else by};"

    def _hide(self) -> str:
        return f"barrier_var({self.rng.choice('abd')});"

    def _if(self) -> str:
        other = f" else {{ {self.inner()} }}" if self.rng.random() < 0.4 else ""
        return f"if ({self.condition()}) {{ {self.inner()} }}{other}"

    def _throw(self) -> str:
        text = f"bpf_throw({self.number()});"
        return text if self.rng.random() < 0.2 else f"if ({self.condition()}) {text}"

    def _assert(self) -> str:
        op, of = self.rng.choice(_ASSERTED), self.rng.choice("abd")
        return f"bpf_assert_{op}_with({of}, {self.rng.choice(_NUMBERS[:12])}, {self.number()});"

    def _range(self) -> str:
        index = self.rng.choice("abd")
        most = self.rng.choice((7, 63, 63, 63, 64, 200))
        return f"bpf_assert_range_with({index}, 0, {most}, 9); table[{index}] = 1;"

    def _return(self) -> str:
        return f"if ({self.condition()}) return {self.rng.choice((0, 1, 1, 2, 7))};"

    def _loop(self) -> str:
        times = self.rng.choice((2, 3, 5))
        return f"for (int i = 0; i < {times}; i++) {{ barrier_var(i); {self.inner()} }}"

    # ---- functions ----------------------------------------------------------------------------

    def _call(self) -> str:
        if self.level > 1:
            return self._compute()
        name, rng = self.source.name("f"), self.rng
        linkage = rng.choice(("static __noinline", "static __noinline", "__noinline"))
        block = Block(self.source, level=self.level + 1, depth=1)
        body = _body(block, "x", "y")
        self.source.functions.append(f"{linkage} int {name}(__u64 x, __u64 y) {{ {body} }}")
        into = rng.choice(("a = ", "b += ", ""))
        return f"{into}{name}({self.number()}, {self.number()});"

    def _callback(self) -> str:
        if self.level > 1:
            return self._hide()
        name, each = self.source.name("cb"), self.rng.random() < 0.3
        block = Block(self.source, level=self.level + 2, depth=2)
        arguments = (
            "void *map, __u32 *key, struct value *v, void *p" if each else "__u32 i, void *p"
        )
        body = _body(block, "(__u64)p" if self.rng.random() < 0.1 else "7", "1" if each else "i")
        self.source.functions.append(f"static int {name}({arguments}) {{ {body} }}")
        if each:
            return f"bpf_for_each_map_elem(&array, {name}, 0, 0);"
        return f"bpf_loop({self.rng.choice(('a & 7', '4', '0', 'b'))}, {name}, 0, 0);"

    def _named(self) -> str:
        name = self.source.name("unused")
        self.source.functions.append(f"static __noinline int {name}(__u64 x) {{ return x + 1; }}")
        return f"{{ void *address = {name}; barrier_var(address); }}"

    def _tail_call(self) -> str:
        return "bpf_tail_call(c, &jumps, 1);" if self.context else self._hide()

    # ---- memory -------------------------------------------------------------------------------

    def _map(self) -> str:
        check = "if (v) " if self.rng.random() < 0.95 else ""
        key = self.rng.choice(("0", "1", "(__u32)a"))
        return (f"{{ __u32 key = {key}; __u64 *v = bpf_map_lookup_elem(&hash, &key); "
                f"{check}*v += {self.number()}; }}")  # fmt: skip

    def _stack(self) -> str:
        size = self.rng.choice((16, 64, 128))
        mask = self.rng.choice((7, 15, 15, size - 1, 127))
        return (f"{{ volatile char room[{size}]; room[a & {mask}] = b; "
                f"d += room[b & {mask}]; }}")  # fmt: skip

    def _packet(self) -> str:
        if self.context not in ("struct __sk_buff", "struct xdp_md"):
            return self._compute()
        need, at = self.rng.choice(((14, 12), (14, 13), (34, 33), (1, 0), (8, 8)))
        end = self.rng.choice(("bpf_throw(3);", "return 1;"))
        return (f"{{ unsigned char *start = (void *)(long)c->data; "
                f"if (start + {need} > (unsigned char *)(long)c->data_end) {end} "
                f"d = start[{at}]; }}")  # fmt: skip

    # ---- what is held -------------------------------------------------------------------------

    def _held(self, take: str, give: str) -> str:
        text = self.inner(1) if self.rng.random() < 0.5 else "seen++;"
        return f"{take} {text} {give if self.rng.random() < 0.95 else ''}"

    def _rcu(self) -> str:
        return self._held("bpf_rcu_read_lock();", "bpf_rcu_read_unlock();")

    def _preempt(self) -> str:
        return self._held("bpf_preempt_disable();", "bpf_preempt_enable();")

    def _reference(self) -> str:
        give = self.rng.choice(("bpf_ringbuf_submit(e, 0);", "bpf_ringbuf_discard(e, 0);"))
        held = self._held("if (e) { *e = a;", f"{give} }}")
        end = "" if give in held else "}"
        return f"{{ __u64 *e = bpf_ringbuf_reserve(&ring, 8, 0); {held}{end} }}"

    def _lock(self) -> str:
        inside = self.rng.choice(("v->count++;", "v->sum += a;", "v->count++;", "bpf_throw(1);"))
        return ("{ __u32 key = 1; struct value *v = bpf_map_lookup_elem(&array, &key); if (v) { "
                f"bpf_spin_lock(&v->lock); {inside} bpf_spin_unlock(&v->lock); }} }}")  # fmt: skip

    def _iterate(self) -> str:
        inside = self.inner(1) if self.rng.random() < 0.4 else "seen++;"
        return ("{ struct bpf_iter_num it; int *n; bpf_iter_num_new(&it, 0, 3); "
                f"while ((n = bpf_iter_num_next(&it))) {{ d += *n; {inside} }} "
                "bpf_iter_num_destroy(&it); }")  # fmt: skip


_WAYS = (
    "compute", "compute", "hide", "if", "if", "if", "throw", "throw", "assert", "assert", "range",
    "return", "loop", "call", "call", "callback", "named", "tail_call", "map", "stack", "packet",
    "packet", "rcu", "preempt", "reference", "lock", "iterate",
)  # fmt: skip


def _body(block: Block, first: str, second: str) -> str:
    end = block.rng.choice(("0", "1", "a & 1", "d & 1", "a"))
    return (f"__u64 a = {first}, b = {second}, d = 5; barrier_var(a); {block.statements(4)} "
            f"return {end};")  # fmt: skip


def source(seed: str, programs: int = 10) -> str:
    """C of one object."""
    made = Source(random.Random(f"source {seed}"))
    text, rng = [_HEAD, "struct numbers { __u64 first; };"], made.rng
    for number in range(programs):
        section, context, given = rng.choice(_TYPES)
        made.functions.clear()
        body = _body(Block(made, context), given, given if rng.random() < 0.5 else "1")
        tag = ""
        if rng.random() < 0.3:
            handler, tag = f"handler_{number}", f"__exception_cb(handler_{number})"
            block = Block(made, depth=2, level=2)
            inside = _body(block, "cookie", "1")
            made.functions.append(f"__noinline int {handler}(__u64 cookie) {{ {inside} }}")
        text += made.functions
        text.append(f'SEC("?{section}") {tag} int p{number}({context} *c) {{ {body} }}')
    return "\n".join([*text, 'char LICENSE[] SEC("license") = "GPL";', ""])
