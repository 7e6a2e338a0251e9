# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import struct

import pytest

from harness.target.agent import maps, taps

MACS = bytes(range(12))
PAYLOAD = b"payload"
VLAN_VALID, TPID_VALID = 0x10, 0x40


def auxdata(status, tci=0, tpid=0):
    return struct.pack("=IIIHHHH", status, 60, 60, 0, 14, tci, tpid)


def test_frame_without_tag_stays():
    frame = MACS + b"\x08\x00" + PAYLOAD
    assert taps.with_tag(frame, auxdata(1)) == frame


@pytest.mark.parametrize(
    ("status", "tpid", "expected"),
    [
        (VLAN_VALID, 0, b"\x81\x00"),
        (VLAN_VALID | TPID_VALID, 0x8100, b"\x81\x00"),
        (VLAN_VALID | TPID_VALID, 0x88A8, b"\x88\xa8"),
    ],
)
def test_tag_goes_back_behind_the_addresses(status, tpid, expected):
    frame = MACS + b"\x08\x00" + PAYLOAD
    tagged = taps.with_tag(frame, auxdata(status, 0x2005, tpid))
    assert tagged == MACS + expected + b"\x20\x05" + b"\x08\x00" + PAYLOAD


@pytest.mark.parametrize(
    ("after_macs", "protocol"),
    [
        (b"\x08\x00" + PAYLOAD, 0x0800),
        (b"\x86\xdd" + PAYLOAD, 0x86DD),
        (b"\x88\xb5\x00", 0x88B5),
        # one tag is taken out before tc, a second one is not
        (b"\x81\x00\x00\x05\x08\x00" + PAYLOAD, 0x0800),
        (b"\x88\xa8\x00\x07\x81\x00\x00\x05\x08\x00" + PAYLOAD, 0x8100),
        # unless the first has id 0, a mere priority
        (b"\x81\x00\xe0\x00\x81\x00\x00\x05\x08\x00" + PAYLOAD, 0x0800),
        # too short to hold what follows the tag: left alone
        (b"\x81\x00\x00", 0x8100),
        # a length, not a type: 802.2, and the 802.3 of raw Novell frames
        (b"\x00\x20\xaa\xaa", 0x0004),
        (b"\x00\x20\xff\xff", 0x0001),
    ],
)
def test_protocol_behind_tc_ingress(after_macs, protocol):
    assert taps.protocol_after_ingress(MACS + after_macs) == protocol


@pytest.mark.parametrize(
    ("kernel", "pin", "name"),
    [
        ("hits", "hits", "hits"),
        # kernel names end after 15 characters, pins do not
        ("a_map_with_a_lo", "a_map_with_a_long_name", "a_map_with_a_long_name"),
        ("stem.bss", "stem_bss", ".bss"),
        ("long_ste.rodata", "long_stem_rodata", ".rodata"),
        (".data.custom_se", "_data_custom_section", ".data.custom_section"),
        ("stem.data.foo", "_data_foo", ".data.foo"),
    ],
)
def test_map_names(kernel, pin, name):
    assert maps.section_name(kernel, pin) == name
