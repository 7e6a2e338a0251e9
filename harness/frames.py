# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The frame language: a few words become an Ethernet frame with right lengths and checksums.

Owns the words of `__input(NAME, "eth ipv4 udp payload=18")`; docs/writing-cases.md lists them.
Does not send anything and knows no hook. Standard library only. Wire formats: IEEE 802.1Q,
RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP), RFC 768 (UDP), RFC 792 and 4443 (ICMP).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import UsageError
from harness.model import Input

# What a packet program gets where nobody says anything else: 64 bytes.
DEFAULT_FRAME = "eth ipv4 udp payload=22"
# BPF_PROG_TEST_RUN copies at most a page less its head room; jumbo frames are not needed here.
MAX_FRAME_BYTES = 3000

_DST_MAC = bytes.fromhex("020000000002")
_SRC_MAC = bytes.fromhex("020000000001")
# TEST-NET-1 (RFC 5737) and the documentation prefix (RFC 3849): routed nowhere.
_SRC_V4, _DST_V4 = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
_SRC_V6 = bytes.fromhex("20010db8") + bytes(11) + b"\x01"
_DST_V6 = bytes.fromhex("20010db8") + bytes(11) + b"\x02"

# largest value of a word; 65535 for the others
_MOST = {
    **dict.fromkeys(("ihl", "version", "doff"), 15),
    **dict.fromkeys(("ttl", "proto"), 255),
    **dict.fromkeys(("payload", "pad"), MAX_FRAME_BYTES),
}

_ETHERTYPE = {"vlan": 0x8100, "qinq": 0x88A8, "ipv4": 0x0800, "ipv6": 0x86DD}
_PROTOCOL = {"icmp": 1, "tcp": 6, "udp": 17, "ipv4": 4, "ipv6": 41}
_ICMPV6 = 58
_NO_NEXT_HEADER = 59
_LOCAL_EXPERIMENT = 0x88B5  # IEEE 802: an EtherType for experiments, where no layer follows


@dataclass
class _Recipe:
    """Words of one frame: layers from the outside in, and the fields that override."""

    layers: list[tuple[str, int]] = field(default_factory=list)
    fields: dict[str, int] = field(default_factory=dict)
    tail: bytes = b""
    # ("cut" | "pad", bytes), applied in the order written
    trims: list[tuple[str, int]] = field(default_factory=list)
    ctx: bytes | None = None


def parse_input(spec: str, name: str = "default") -> Input:
    """Turn a line of the frame language into an Input.

    Raises UsageError naming the word that is wrong and the words that exist.
    """
    recipe = _Recipe()
    for word in spec.split():
        key, equals, text = word.partition("=")
        if key not in _WORDS:
            known = ", ".join(sorted(_WORDS))
            raise UsageError(f"input {name!r}: unknown word {word!r}", fix=f"words: {known}")
        kind, put = _WORDS[key]
        if bool(equals) != (kind is not _flag):
            usage = f"{key}=VALUE" if kind is not _flag else key
            raise UsageError(f"input {name!r}: {word!r} should read {usage!r}")
        put(recipe, key, kind(name, word, text))
    return _finish(recipe, spec, name)


def _finish(recipe: _Recipe, spec: str, name: str) -> Input:
    is_packet = bool(recipe.layers or recipe.tail or recipe.trims)
    if recipe.ctx is not None and is_packet:
        raise UsageError(f"input {name!r}: {spec!r} is both a ctx and a frame", fix="take one")
    if recipe.ctx is not None:
        return Input(name, ctx=recipe.ctx)
    if not is_packet:
        raise UsageError(f"input {name!r}: {spec!r} makes no frame", fix=f"try {DEFAULT_FRAME!r}")
    try:
        packet = _build(recipe)
    except struct.error as error:
        message = f"input {name!r}: {spec!r} does not fit its headers: {error}"
        raise UsageError(message, fix="give less payload or hex") from None
    if not packet or len(packet) > MAX_FRAME_BYTES:
        limit = f"1 to {MAX_FRAME_BYTES}"
        raise UsageError(f"input {name!r}: frame of {len(packet)} bytes, allowed are {limit}")
    return Input(name, packet=packet)


# ---- words ---------------------------------------------------------------------------------


def _flag(_name: str, _word: str, _text: str) -> int:
    return 0


def _number(name: str, word: str, text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        raise UsageError(f"input {name!r}: {word!r} needs a number, decimal or 0x hex") from None
    most = _MOST.get(word.partition("=")[0], 0xFFFF)
    if not 0 <= value <= most:
        raise UsageError(f"input {name!r}: {word!r} is not between 0 and {most}")
    return value


def _hex(name: str, word: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        fix = "two hex digits a byte, without spaces"
        raise UsageError(f"input {name!r}: {word!r} is not hex", fix=fix) from None


def _put_layer(recipe: _Recipe, key: str, value: int) -> None:
    recipe.layers.append((key, value))


def _put_field(recipe: _Recipe, key: str, value: int) -> None:
    recipe.fields[key] = value


def _put_payload(recipe: _Recipe, _key: str, size: int) -> None:
    recipe.tail += bytes(index & 0xFF for index in range(size))


def _put_hex(recipe: _Recipe, _key: str, data: bytes) -> None:
    recipe.tail += data


def _put_trim(recipe: _Recipe, key: str, size: int) -> None:
    recipe.trims.append((key, size))


def _put_ctx(recipe: _Recipe, _key: str, data: bytes) -> None:
    recipe.ctx = (recipe.ctx or b"") + data


# word -> (how its value reads, what it does to the recipe)
_WORDS: dict[str, tuple[Callable[[str, str, str], object], Callable[..., None]]] = {
    **dict.fromkeys(("eth", "ipv4", "ipv6", "tcp", "udp", "icmp"), (_flag, _put_layer)),
    **dict.fromkeys(("vlan", "qinq"), (_number, _put_layer)),
    **dict.fromkeys(
        ("ethertype", "ihl", "version", "totlen", "frag", "ttl", "proto", "sport", "dport", "doff"),
        (_number, _put_field),
    ),
    "payload": (_number, _put_payload),
    "hex": (_hex, _put_hex),
    "cut": (_number, _put_trim),
    "pad": (_number, _put_trim),
    "ctx": (_hex, _put_ctx),
}


# ---- layers, from the inside out -----------------------------------------------------------


def _build(recipe: _Recipe) -> bytes:
    data = recipe.tail
    names = [name for name, _ in recipe.layers]
    for index in reversed(range(len(names))):
        name, value = recipe.layers[index]
        outer = names[index - 1] if index else ""
        inner = names[index + 1] if index + 1 < len(names) else ""
        data = _LAYERS[name](recipe.fields, value, inner, outer, data)
    for kind, size in recipe.trims:
        data = data[:size] if kind == "cut" else data.ljust(size, b"\0")
    return data


_Fields = dict[str, int]


def _ethertype(fields: _Fields, inner: str) -> bytes:
    # An override belongs to the innermost tag, the one that no other tag follows.
    known = _ETHERTYPE.get(inner, _LOCAL_EXPERIMENT)
    chosen = known if inner in ("vlan", "qinq") else fields.get("ethertype", known)
    return struct.pack("!H", chosen)


def _eth(fields: _Fields, _value: int, inner: str, _outer: str, data: bytes) -> bytes:
    return _DST_MAC + _SRC_MAC + _ethertype(fields, inner) + data


def _vlan(fields: _Fields, value: int, inner: str, _outer: str, data: bytes) -> bytes:
    return struct.pack("!H", value) + _ethertype(fields, inner) + data


def _ipv4(fields: _Fields, _value: int, inner: str, _outer: str, data: bytes) -> bytes:
    ihl = fields.get("ihl", 5)
    options = b"\x01" * max(0, ihl * 4 - 20)  # NOPs
    version_ihl = (fields.get("version", 4) & 15) << 4 | ihl & 15
    total = fields.get("totlen", 20 + len(options) + len(data))
    proto = fields.get("proto", _PROTOCOL.get(inner, 253))  # RFC 3692: for experiments
    head = struct.pack(
        "!BBHHHBBH4s4s",
        *(version_ihl, 0, total, 1, fields.get("frag", 0), fields.get("ttl", 64), proto & 255),
        *(0, _SRC_V4, _DST_V4),
    )
    head += options
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + data


def _ipv6(fields: _Fields, _value: int, inner: str, _outer: str, data: bytes) -> bytes:
    known = _ICMPV6 if inner == "icmp" else _PROTOCOL.get(inner, _NO_NEXT_HEADER)
    head = struct.pack(
        "!IHBB16s16s",
        (fields.get("version", 6) & 15) << 28,
        fields.get("totlen", len(data)),
        *(fields.get("proto", known) & 255, fields.get("ttl", 64) & 255, _SRC_V6, _DST_V6),
    )
    return head + data


def _tcp(fields: _Fields, _value: int, _inner: str, outer: str, data: bytes) -> bytes:
    doff = fields.get("doff", 5)
    options = b"\x01" * max(0, doff * 4 - 20)
    ports = fields.get("sport", 40000), fields.get("dport", 80)
    head = struct.pack("!HHIIBBHHH", *ports, 1, 0, (doff & 15) << 4, 2, 64240, 0, 0) + options
    return _with_checksum(head + data, 16, outer, _PROTOCOL["tcp"])


def _udp(fields: _Fields, _value: int, _inner: str, outer: str, data: bytes) -> bytes:
    ports = fields.get("sport", 40000), fields.get("dport", 53)
    head = struct.pack("!HHHH", *ports, 8 + len(data), 0)
    return _with_checksum(head + data, 6, outer, _PROTOCOL["udp"])


def _icmp(_fields: _Fields, _value: int, _inner: str, outer: str, data: bytes) -> bytes:
    if outer == "ipv6":
        echo = struct.pack("!BBHHH", 128, 0, 0, 1, 1)
        return _with_checksum(echo + data, 2, outer, _ICMPV6)
    echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1)
    return _with_checksum(echo + data, 2, "", 0)


_LAYERS: dict[str, Callable[[_Fields, int, str, str, bytes], bytes]] = {
    "eth": _eth,
    "vlan": _vlan,
    "qinq": _vlan,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "tcp": _tcp,
    "udp": _udp,
    "icmp": _icmp,
}


def _with_checksum(segment: bytes, offset: int, outer: str, proto: int) -> bytes:
    pseudo = b""
    if outer == "ipv4":
        pseudo = _SRC_V4 + _DST_V4 + struct.pack("!BBH", 0, proto, len(segment))
    elif outer == "ipv6":
        pseudo = _SRC_V6 + _DST_V6 + struct.pack("!II", len(segment), proto)
    # RFC 768: a UDP checksum that comes out as zero travels as all ones
    value = _checksum(pseudo + segment) or (0xFFFF if proto == _PROTOCOL["udp"] else 0)
    return segment[:offset] + struct.pack("!H", value) + segment[offset + 2 :]


def _checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071) of `data`, whose checksum field must be zero."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
