# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a helper takes and gives, and who may call it, as the verifier has it.

Reads the tables of harness.verify.helperprotos and harness.verify.availability. kfuncs are
harness.verify.kfuncprotos'. Checks no register: that is the caller's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from harness.bpf.helper_names import NAMES
from harness.bpf.mapdef import MapType
from harness.verify import availability
from harness.verify.helperprotos import ROWS
from harness.verify.prediction import NotModelled

# bpf_helper_changes_pkt_data(): pointers into the packet end there
_CHANGES_PACKET = """
    clone_redirect l3_csum_replace l4_csum_replace lwt_push_encap lwt_seg6_action
    lwt_seg6_adjust_srh lwt_seg6_store_bytes msg_pop_data msg_pull_data msg_push_data
    skb_adjust_room skb_change_head skb_change_proto skb_change_tail skb_pull_data skb_store_bytes
    skb_vlan_pop skb_vlan_push store_hdr_opt xdp_adjust_head xdp_adjust_meta xdp_adjust_tail
    tail_call
"""
CHANGES_PACKET = frozenset(f"bpf_{name}" for name in _CHANGES_PACKET.split())
# is_acquire_function(); map_lookup_elem of a SOCKMAP or SOCKHASH too
ACQUIRES = frozenset({
    "bpf_sk_lookup_tcp", "bpf_sk_lookup_udp", "bpf_skc_lookup_tcp", "bpf_ringbuf_reserve",
    "bpf_kptr_xchg",
})  # fmt: skip
# is_ptr_cast_function(): the result is the same object as the argument, with its reference
CASTS = frozenset({
    "bpf_tcp_sock", "bpf_sk_fullsock", "bpf_skc_to_tcp_sock", "bpf_skc_to_tcp6_sock",
    "bpf_skc_to_udp6_sock", "bpf_skc_to_mptcp_sock", "bpf_skc_to_tcp_timewait_sock",
    "bpf_skc_to_tcp_request_sock",
})  # fmt: skip
# helpers that call a function of the program: at once, or later
CALLS_BACK = frozenset({
    "bpf_for_each_map_elem", "bpf_find_vma", "bpf_loop", "bpf_user_ringbuf_drain",
})  # fmt: skip
CALLS_BACK_LATER = frozenset({"bpf_timer_set_callback"})

_SINCE_7 = ("7.3", "cleanup")
# prototype -> its row before 7.0
EARLIER = {"loop": "loop = int (any func stack? any)"}
_ROW = re.compile(r"(\w+) = (\S+) \(([^)]*)\)(.*)")
_WORD = re.compile(r"([a-z_0-9]+)(?::([\w*]+))?(\?)?(!)?((?:\+\w+)*)")


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument, or the result.

    kind, of arguments: "any" (initialised), "scalar", "ctx", "map", "key", "value", "mem",
    "size", "size0" (bytes of the "mem" before it; "size0" may be 0), "alloc_size0" (a constant),
    "stack", "func", "lock", "timer", "str", "dynptr", "ringbuf" (reserved memory), "socket",
    "sock_common", "btf", "btf_sock" (a BTF pointer to a socket, or a socket), "percpu_btf",
    "kptr" (where one is kept).
    kind, of results: "int", "void", "value", "socket", "sock_common", "tcp_sock", "ringbuf",
    "dynptr_mem", "mem_or_btf", "btf".
    """

    kind: str
    # NULL is allowed, or possible
    null: bool = False
    # memory that the helper fills: it need not be initialised
    uninit: bool = False
    # memory of a fixed size, 0 where the next argument is the size
    size_bytes: int = 0
    # of a BTF pointer the struct, "*" where a map or object decides; of a dynptr its kind
    what: str = ""
    # "r", "w", "release", "aligned", "trusted"
    flags: frozenset[str] = frozenset()

    @property
    def writes(self) -> bool:
        """Whether the helper writes into the memory."""
        return self.uninit or "w" in self.flags


@dataclass(frozen=True, slots=True)
class Prototype:
    """A helper, as programs of a type may call it."""

    # of the prototype; helpers can have several
    name: str
    args: tuple[Arg, ...]
    returns: Arg
    gpl: bool = False
    # pointers into the packet may be passed as memory
    packet: bool = False
    sleeps: bool = False
    fastcall: bool = False
    # only some hooks have it: not modelled which
    hooks: bool = False


def helper(number: int, program_type: str, profile: str) -> Prototype | None:
    """Prototype of helper `number`; None: programs of this type may not call it, or it is none.

    program_type as in harness.bpf.sections; "struct_ops" stands for any member of any struct and
    "freplace" for any target, so that only what every type has is certain.
    Raises NotModelled where the answer depends on more.
    """
    if not 0 < number < len(NAMES):
        return None
    name = NAMES[number].removeprefix("bpf_")
    if program_type in ("struct_ops", "freplace"):
        # every type has what netfilter has
        if any(name not in _table("netfilter", late) for late in _ages(profile)):
            raise NotModelled(f"whether bpf_{name} may be called in a {program_type} program")
        program_type = "netfilter"
    if program_type not in availability.TYPES:
        raise NotModelled(f"helpers of program type {program_type or '?'}")
    depends = availability.DEPENDS.get(program_type, frozenset())
    if program_type in availability.CGROUPS:
        depends |= availability.CGROUP_DEPENDS
    if name in depends:
        raise NotModelled(f"whether bpf_{name} may be called depends on what is attached to")
    found = {_table(program_type, late).get(name, "-") for late in _ages(profile)}
    if len(found) > 1:
        raise NotModelled(f"whether bpf_{name} may be called in {profile}")
    if found == {"-"}:
        return None
    late = profile in _SINCE_7
    row = _prototypes(late).get(found.pop())
    if row is None:
        raise NotModelled(f"the prototype of bpf_{name}")
    if row.hooks:
        raise NotModelled(f"which hooks may call bpf_{name}")
    return row


def map_allowed(name: str, map_type: int) -> bool:
    """Whether a helper may be given a map of this type, as far as the two decide.

    SOCKMAP and SOCKHASH: updating and deleting depends on the program type too.
    """
    short = name.removeprefix("bpf_")
    kind = MapType(map_type).name
    only = availability.ONLY_WITH.get(kind)
    if only is not None and short not in only.split():
        return False
    return all(
        kind in kinds.split()
        for names, kinds in availability.ONLY_ON.items()
        if short in names.split()
    )


def _ages(profile: str) -> tuple[bool, ...]:
    """Which tables count: those of 7.3 (True) or those of 6.12; what lies between is in doubt."""
    if profile in _SINCE_7:
        return (True,)
    return (False, True) if profile == "6.18" else (False,)


@cache
def _table(program_type: str, late: bool) -> dict[str, str]:
    """Helper -> prototype, with all that the type builds on."""
    parent, words = availability.TYPES[program_type]
    found = _table(parent, late) if parent else _base(late)
    found = found | _words(words)
    if program_type == "any_tracing" and not late:
        found |= _words(availability.ANY_TRACING_EARLIER)
    if program_type in ("tc", "sched_act", "socket_filter") and late:
        found |= _words(availability.SOCKET_LATER)
    if program_type in availability.CGROUPS:
        found["get_local_storage"] = "get_local_storage"
        if program_type not in ("cgroup_skb", "sock_ops") and not late:
            found |= _words(availability.CGROUP_EARLIER)
    if program_type == "sk_msg" and not late:
        found |= _words("get_current_uid_gid get_cgroup_classid=get_cgroup_classid_curr")
    return found


def _base(late: bool) -> dict[str, str]:
    more = availability.BASE_LATER if late else ""
    return _words(availability.BASE + more)


def _words(text: str) -> dict[str, str]:
    return {
        name: prototype or name
        for name, _, prototype in (word.partition("=") for word in text.split())
    }


@cache
def _prototypes(late: bool) -> dict[str, Prototype]:
    rows = [line for line in ROWS.splitlines() if line]
    if not late:
        rows += EARLIER.values()
    made = (_parse(line) for line in rows)
    return {each.name: each for each in made}


def _parse(line: str) -> Prototype:
    match = _ROW.fullmatch(line)
    assert match, line
    name, result, args, words = match.groups()
    known = set(words.split())
    return Prototype(
        name,
        tuple(parse_arg(each) for each in args.split()),
        parse_arg(result),
        gpl="gpl" in known,
        packet="packet" in known,
        sleeps="sleeps" in known,
        fastcall="fastcall" in known,
        hooks="hooks" in known,
    )


def parse_arg(word: str) -> Arg:
    """An argument or result as the tables have it."""
    match = _WORD.fullmatch(word)
    assert match, word
    kind, what, null, uninit, flags = match.groups()
    what = what or ""
    size = int(what) if kind == "mem" and what else 0
    return Arg(
        kind,
        null=bool(null),
        uninit=bool(uninit),
        size_bytes=size,
        what="" if size else what,
        flags=frozenset(flags.split("+")[1:]),
    )
