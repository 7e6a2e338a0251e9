# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The frame language, held against a decoder of its own and against frames written by hand."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.frames import DEFAULT_FRAME, MAX_FRAME_BYTES, parse_input

MACS = bytes.fromhex("020000000002020000000001")


def frame(spec):
    packet = parse_input(spec).packet
    assert packet is not None
    return packet


def ones_complement(data):
    """Fold by arithmetic instead of by shifts: 2**16 is 1 modulo 65535."""
    padded = data + b"\0" * (len(data) % 2)
    return int.from_bytes(padded, "big") % 0xFFFF


def pseudo_header(ip, proto, size):
    if ip[0] >> 4 == 4:
        return ip[12:20] + struct.pack("!BBH", 0, proto, size)
    return ip[8:40] + struct.pack("!II", size, proto)


def test_default_frame_is_64_bytes():
    assert len(frame(DEFAULT_FRAME)) == 64


def test_udp_over_ipv4_byte_for_byte():
    """Checksums computed by hand from RFC 791 and RFC 768."""
    assert frame("eth ipv4 udp sport=1 dport=2 hex=beef").hex() == (
        MACS.hex() + "0800"
        "4500001e000100004011" + "f6ca" + "c0000201c0000202"
        "00010002000a" + "bce3" + "beef"
    )


@pytest.mark.parametrize(
    ("spec", "ethertypes"),
    [
        ("eth ipv4", [0x0800]),
        ("eth vlan=5 ipv6", [0x8100, 0x86DD]),
        ("eth qinq=7 vlan=5 ipv4", [0x88A8, 0x8100, 0x0800]),
        ("eth ethertype=0x0806 payload=28", [0x0806]),
        ("eth vlan=5 ethertype=0x0806 payload=28", [0x8100, 0x0806]),
        ("eth payload=4", [0x88B5]),
    ],
)
def test_ethertypes_name_what_follows(spec, ethertypes):
    packet = frame(spec)
    seen = [struct.unpack_from("!H", packet, 12 + 4 * n)[0] for n in range(len(ethertypes))]
    assert packet[:12] == MACS
    assert seen == ethertypes


def test_vlan_ids_are_in_their_tags():
    assert struct.unpack_from("!HH", frame("eth qinq=7 vlan=4095 ipv4"), 14)[0] == 7
    assert struct.unpack_from("!H", frame("eth qinq=7 vlan=4095 ipv4"), 18)[0] == 4095


@given(
    network=st.sampled_from(["ipv4", "ipv6"]),
    transport=st.sampled_from([("tcp", 6, 20), ("udp", 17, 8), ("icmp", 0, 8)]),
    payload=st.integers(0, 1400),
    ports=st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
)
def test_lengths_and_checksums_hold(network, transport, payload, ports):
    name, proto, header = transport
    packet = frame(f"eth {network} {name} sport={ports[0]} dport={ports[1]} payload={payload}")
    ip = packet[14:]
    head = 20 if network == "ipv4" else 40
    proto = proto or {"ipv4": 1, "ipv6": 58}[network]
    segment = ip[head:]
    assert len(segment) == header + payload
    if network == "ipv4":
        assert struct.unpack_from("!H", ip, 2)[0] == len(ip)
        assert ones_complement(ip[:20]) == 0
        assert ip[9] == proto
    else:
        assert struct.unpack_from("!H", ip, 4)[0] == len(segment)
        assert ip[6] == proto
    pseudo = b"" if proto == 1 else pseudo_header(ip, proto, len(segment))
    assert ones_complement(pseudo + segment) == 0
    if name == "udp":
        assert struct.unpack_from("!H", segment, 4)[0] == len(segment)
        assert segment[6:8] != b"\0\0"


@pytest.mark.parametrize(
    ("spec", "offset", "expected"),
    [
        ("eth ipv4 ihl=6 tcp", 14, 0x46),
        ("eth ipv4 ihl=4 udp", 14, 0x44),
        ("eth ipv4 version=5", 14, 0x55),
        ("eth ipv4 ttl=3 proto=47", 22, 3),
        ("eth ipv4 proto=47 payload=4", 23, 47),
        ("eth ipv6 proto=43", 20, 43),
        ("eth ipv4 tcp doff=4", 14 + 20 + 12, 0x40),
    ],
)
def test_fields_can_be_overridden(spec, offset, expected):
    assert frame(spec)[offset] == expected


def test_options_lengthen_the_header():
    assert len(frame("eth ipv4 ihl=15 tcp doff=15")) == 14 + 60 + 60
    assert len(frame("eth ipv4 ihl=4 tcp doff=3")) == 14 + 20 + 20


def test_total_length_and_fragment_offset():
    assert struct.unpack_from("!H", frame("eth ipv4 totlen=9"), 16)[0] == 9
    assert struct.unpack_from("!H", frame("eth ipv4 frag=185"), 20)[0] == 185


def test_cut_and_pad_apply_in_order():
    whole = frame("eth ipv4 udp payload=50")
    assert frame("eth ipv4 udp payload=50 cut=33") == whole[:33]
    assert frame("eth ipv4 udp payload=50 cut=33 pad=60") == whole[:33] + bytes(27)
    assert frame("eth ipv4 pad=60 cut=40") == frame("eth ipv4") + bytes(6)


def test_hex_alone_is_the_frame_and_context_is_no_packet():
    assert frame("hex=00ff hex=10") == b"\x00\xff\x10"
    data = parse_input("ctx=0102", "arguments")
    assert (data.name, data.packet, data.ctx) == ("arguments", None, b"\x01\x02")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("eth ipv5", r"input 'x': unknown word 'ipv5'[\s\S]*words:.*ipv4.*payload"),
        ("eth=1 ipv4", "'eth=1' should read 'eth'"),
        ("eth vlan", "'vlan' should read 'vlan=VALUE'"),
        ("eth vlan=five", "'vlan=five' needs a number"),
        ("eth vlan=70000", "'vlan=70000' is not between 0 and 65535"),
        ("eth payload=-1", f"not between 0 and {MAX_FRAME_BYTES}"),
        ("eth ipv4 udp payload=65535", f"'payload=65535' is not .* {MAX_FRAME_BYTES}"),
        ("eth ipv6 udp payload=65530", f"'payload=65530' is not .* {MAX_FRAME_BYTES}"),
        ("eth ipv4 ttl=300 udp", "'ttl=300' is not between 0 and 255"),
        ("eth ipv4 proto=256", "'proto=256' is not between 0 and 255"),
        ("eth ipv4 ihl=65535", "'ihl=65535' is not between 0 and 15"),
        ("eth ipv4 tcp doff=16", "'doff=16' is not between 0 and 15"),
        pytest.param("eth ipv4 hex=" + "00" * 65535, "does not fit its headers", id="hex-v4"),
        pytest.param("eth ipv6 udp hex=" + "00" * 65535, "does not fit its headers", id="hex-v6"),
        ("hex=abc", "'hex=abc' is not hex"),
        ("hex=zz", "is not hex"),
        ("", "makes no frame"),
        ("sport=5", "makes no frame"),
        ("eth ctx=00", "both a ctx and a frame"),
        ("eth cut=0", "frame of 0 bytes"),
        (f"eth payload={MAX_FRAME_BYTES}", "allowed are 1 to"),
    ],
)
def test_wrong_words_are_named(spec, complaint):
    with pytest.raises(UsageError, match=complaint):
        parse_input(spec, "x")
