# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Reading captures: both formats, both byte orders, and files that are broken or hostile."""

import gzip
import io
import os
import struct
import subprocess
import sys

import captures
import pytest
from captures import FRAMES, GOOD, GOOD_NG, PACKETS, RECORD, START_NS, expected, read
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.sim import pcap
from harness.sim.pcap import Capture, Writer


@pytest.fixture
def capture_file(tmp_path):
    """Write bytes as a capture; its path."""

    def go(data, name="in.pcap"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return go


# ---- reading -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_of_both_orders_and_units(capture_file, order, nano):
    found, error = read(capture_file(captures.pcap(PACKETS, order=order, nano=nano)))
    assert error is None
    assert found == expected()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("block", ["enhanced", "old"])
def test_pcapng_of_both_orders(capture_file, order, block):
    data = captures.section(order) + captures.interface(order)
    data += b"".join(captures.packet(order, *p, block=block) for p in PACKETS)
    found, error = read(capture_file(data))
    assert error is None
    assert found == expected()


def test_gzip_and_standard_input(capture_file, monkeypatch):
    path = capture_file(gzip.compress(captures.pcap(PACKETS)), "in.pcap.gz")
    assert read(path) == (expected(), None)
    descriptor = os.open(path, os.O_RDONLY)
    keep = os.dup(0)
    try:
        os.dup2(descriptor, 0)
        assert read("-") == (expected(), None)
    finally:
        os.dup2(keep, 0)
        os.close(descriptor)
        os.close(keep)


def test_pcapng_sections_interfaces_and_blocks_between(capture_file):
    frame = FRAMES[0]
    data = b"".join((
        captures.section("<"),
        captures.block("<", 0x0BAD, b"x" * 100_000),
        captures.interface("<", resolution=9),
        captures.interface("<", resolution=0x80 | 10, offset_s=START_NS // 10**9),
        captures.packet("<", START_NS + 7, frame, 2000, unit_ns=1, options=b"\1\0\5\0hello\0\0\0"),
        captures.block("<", 6, struct.pack("<5I", 1, 0, 512, len(frame), len(frame)) + frame),
        captures.block("<", 4, b""),
        captures.section(">"),
        captures.interface(">", snaplen=30),
        captures.packet(">", START_NS + 5000, frame, len(frame)),
        captures.block(">", 3, struct.pack(">I", len(frame)) + frame[:30]),
    ))  # fmt: skip
    found, error = read(capture_file(data))
    assert error is None
    assert found == [
        (START_NS + 7, 2000, frame),
        (START_NS + 500_000_000, len(frame), frame),
        (START_NS + 5000, len(frame), frame),
        (START_NS + 5000, len(frame), frame[:30]),
    ]


def test_many_packets_in_many_pieces(capture_file, monkeypatch):
    monkeypatch.setattr(pcap, "_PIECE_BYTES", 1000)
    packets = [(START_NS + i * 1000, FRAMES[i % 4], 99) for i in range(900)]
    for data in (captures.pcap(packets), captures.pcapng(packets)):
        found, error = read(capture_file(data))
        assert error is None
        assert found == [(at, original, frame) for at, frame, original in packets]


def test_an_empty_capture_has_no_packets(capture_file):
    assert read(capture_file(captures.pcap([]))) == ([], None)
    assert read(capture_file(captures.pcapng([]))) == ([], None)


# ---- hostile files -------------------------------------------------------------------------

SHB, IDB = captures.section("<"), captures.interface("<")


@pytest.mark.parametrize(
    ("data", "kept", "message"),
    [
        (b"", 0, "byte 0: not a capture: empty"),
        (b"\x7fELF" + bytes(60), 0, "byte 0: not a capture: an ELF file"),
        (b"\x28\xb5\x2f\xfd" + bytes(60), 0, "compressed with zstd"),
        (b"hello, world", 0, "begins with 68656c6c"),
        (GOOD[:20], 0, "byte 20: the file ends inside of its header"),
        (GOOD[:4] + b"\x01" + GOOD[5:], 0, "byte 4: pcap version 1.4"),
        (GOOD[:20] + b"\x71\0\0\0" + GOOD[24:], 0, "byte 20: link type 113 (Linux cooked), not"),
        (GOOD[:20] + b"\xe7\3\0\0" + GOOD[24:], 0, "link type 999, not Ethernet"),
        (GOOD[:-1], 3, "the file ends inside of a packet"),
        (GOOD + b"\1\2\3", 4, f"byte {len(GOOD)}: the file ends inside of a packet"),
        (GOOD + RECORD, 4, f"byte {len(GOOD)}: a packet of 1048576 bytes"),
        (gzip.compress(GOOD)[:-12], None, "the gzip data is broken"),
        (b"\x1f\x8b" + bytes(50), 0, "the gzip data is broken"),
        (GOOD_NG[:-5], 3, "the file ends inside of a block"),
        (GOOD_NG + b"\6\0\0\0", 4, f"byte {len(GOOD_NG)}: the file ends inside of a block"),
        (SHB[:8] + b"????" + SHB[12:], 0, "byte 0: byte order 3f3f3f3f"),
        (SHB[:12] + b"\2\0" + SHB[14:], 0, "pcapng version 2.0"),
        (SHB + captures.packet("<", 0, b"x" * 14, 14), 0, "a packet of interface 0, of 0"),
        (SHB + IDB + captures.block("<", 6, b"1234"), 0, "a block of type 6 with 4 bytes"),
        (SHB + struct.pack("<II", 6, 33), 0, f"byte {len(SHB)}: a block of 33 bytes"),
        (SHB + struct.pack("<II", 1, 1 << 30), 0, "a block of 1073741824 bytes"),
        (SHB + struct.pack("<II", 99, 1 << 30), 0, "the file ends inside of a block"),
        (SHB + IDB[:-4] + b"\0\0\0\0", 0, "its two lengths differ"),
        (SHB + captures.interface("<", link=101) + captures.packet("<", 0, b"x", 1), 0,
         "link type 101 (raw IP), not Ethernet"),
        (SHB + captures.block("<", 1, struct.pack("<HHIHH", 1, 0, 0, 9, 200)), 0,
         "an option that goes beyond its block"),
        (SHB + IDB + captures.block("<", 6, struct.pack("<5I", 0, 0, 0, 999, 999) + bytes(20)), 0,
         "a packet of 999 bytes in a block of 52"),
    ],
)  # fmt: skip
def test_broken_files_keep_what_came_before(capture_file, data, kept, message):
    found, error = read(capture_file(data, "bad.pcap"))
    assert message in str(error)
    assert "bad.pcap: byte " in str(error)
    if kept is not None:
        assert [frame for _, _, frame in found] == FRAMES[:kept]


def test_a_file_that_is_none(tmp_path, capsys):
    with pytest.raises(Exception, match="No such file"):
        Capture(str(tmp_path / "nix"))
    with pytest.raises(Exception, match="Is a directory"):
        read(tmp_path)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bytes_can_break_the_reader(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzzed.pcap"
    start = data.draw(
        st.sampled_from([GOOD, GOOD_NG, captures.pcap(PACKETS, order=">"), SHB + IDB])
    )
    edited = bytearray(start)
    for _ in range(data.draw(st.integers(0, 6))):
        place = data.draw(st.integers(0, len(edited) - 1))
        edited[place] = data.draw(st.integers(0, 255))
    edited = edited[: data.draw(st.integers(4, len(edited)))] + data.draw(st.binary(max_size=40))
    path.write_bytes(bytes(edited))
    found, _ = read(path)
    assert all(0 <= at < 1 << 63 and len(frame) <= 1 << 18 for at, _, frame in found)


def test_a_bomb_of_gzip_does_not_fill_memory(tmp_path, capsys):
    path = tmp_path / "bomb.pcapng.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(SHB + struct.pack("<II", 99, 200 << 20))
        for _ in range(200):
            stream.write(bytes(1 << 20))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20));"
        "from harness.sim.pcap import Capture; list(Capture(sys.argv[1]))"
    )
    argv = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(argv, check=False, capture_output=True, timeout=60)
    assert b"MemoryError" not in done.stderr
    assert b"the file ends inside of a block" in done.stderr


def test_what_is_written_can_be_read(tmp_path):
    stream = io.BytesIO()
    writer = Writer(stream)
    for at, frame, original in PACKETS:
        writer.packet(at, frame, original)
    path = tmp_path / "written.pcap"
    path.write_bytes(stream.getvalue())
    assert read(path) == (expected(), None)
