# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Captures for tests and measurements, made of frames of the frame language: no file to keep.

`python tests/captures.py OUT.pcap[ng][.gz] COUNT` writes one: mixed traffic with a burst of short
packets in the middle, always the same bytes.
"""

import gzip
import random
import struct
import sys
from pathlib import Path

from harness.frames import parse_input
from harness.sim.pcap import Capture, CaptureError

_MAGIC = {
    ("<", False): b"\xd4\xc3\xb2\xa1",
    (">", False): b"\xa1\xb2\xc3\xd4",
    ("<", True): b"\x4d\x3c\xb2\xa1",
    (">", True): b"\xa1\xb2\x3c\x4d",
}
# words, weight in ordinary times, weight in the burst
TRAFFIC = (
    ("eth ipv4 tcp payload=40", 50, 20),
    ("eth ipv4 tcp dport=443 payload=600", 30, 10),
    ("eth ipv4 udp payload=22", 25, 10),
    ("eth ipv6 udp payload=4", 15, 5),
    ("eth ipv6 tcp payload=10", 10, 5),
    ("eth vlan=5 ipv4 tcp", 8, 2),
    ("eth ethertype=0x0806 payload=28", 3, 1),
    ("eth ipv4 tcp cut=50", 2, 60),
    ("eth ipv6 udp cut=61", 1, 40),
    ("eth ipv4 udp payload=30 ihl=4", 1, 2),
)
START_NS = 1_700_000_000_000_000_000


def pcap(packets, *, order="<", nano=True, link=1):
    """A pcap file of (time in ns, bytes, original length)."""
    parts = [_MAGIC[order, nano] + struct.pack(order + "HHiIII", 2, 4, 0, 0, 262144, link)]
    for time_ns, data, original in packets:
        seconds, rest = divmod(time_ns, 10**9)
        fraction = rest if nano else rest // 1000
        parts.append(struct.pack(order + "IIII", seconds, fraction, len(data), original) + data)
    return b"".join(parts)


def block(order, kind, body):
    """One block of pcapng."""
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order):
    """A section header block."""
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order, *, link=1, snaplen=0, resolution=None, offset_s=None):
    """An interface description block; options only where they are given."""
    body = struct.pack(order + "HHI", link, 0, snaplen)
    if resolution is not None:
        body += struct.pack(order + "HHB3x", 9, 1, resolution)
    if offset_s is not None:
        body += struct.pack(order + "HHq", 14, 8, offset_s)
    return block(order, 1, body + struct.pack(order + "HH", 0, 0))


def packet(order, time_ns, data, original, *, unit_ns=1000, options=b"", block="enhanced"):
    """A packet block of interface 0."""
    units = time_ns // unit_ns
    lengths = struct.pack(order + "II", len(data), original)
    time = struct.pack(order + "II", units >> 32, units & 0xFFFF_FFFF)
    padded = data + bytes(-len(data) % 4) + options
    if block == "old":
        return _block(order, 2, struct.pack(order + "HH", 0, 0) + time + lengths + padded)
    return _block(order, 6, struct.pack(order + "I", 0) + time + lengths + padded)


_block = block


def pcapng(packets, order="<"):
    """A pcapng file with one interface."""
    parts = [section(order), interface(order)]
    return b"".join((*parts, *(packet(order, *p) for p in packets)))


def traffic(count, seed=1):
    """`count` packets of TRAFFIC, the burst in the middle third: (time in ns, bytes, original)."""
    chosen = random.Random(seed)
    frames = [parse_input(words).packet for words, _, _ in TRAFFIC]
    time_ns = START_NS
    for index in range(count):
        burst = count // 3 < index < count // 2
        weights = [row[2 if burst else 1] for row in TRAFFIC]
        time_ns += int(chosen.expovariate(1 / (300_000 if burst else 1_500_000)))
        frame = chosen.choices(frames, weights)[0]
        yield time_ns, frame, len(frame)


def write(path, count):
    """Write a capture whose format its name says."""
    name = path.name.removesuffix(".gz")
    data = (pcapng if name.endswith("ng") else pcap)(traffic(count))
    path.write_bytes(gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


# what tests read: four packets, a millisecond apart
FRAMES = [
    parse_input(words).packet
    for words in (
        "eth ipv4 tcp",
        "eth ipv4 udp cut=36",
        "eth ipv6 udp payload=5",
        "eth ipv4 cut=20",
    )
]


def read(path):
    """All packets: (time, original length, bytes); and the error that ended it, or None."""
    found, error = [], None
    try:
        with Capture(str(path)) as capture:
            for batch in capture:
                found += [
                    (batch.times_ns[i], batch.originals[i], batch.packet(i))
                    for i in range(len(batch))
                ]
    except CaptureError as caught:
        error = caught
    return found, error


def expected(unit_ns=1):
    return [
        (START_NS + i * 1_000_000 // unit_ns * unit_ns, len(frame), frame)
        for i, frame in enumerate(FRAMES)
    ]


PACKETS = [(START_NS + i * 1_000_000, frame, len(frame)) for i, frame in enumerate(FRAMES)]
GOOD = pcap(PACKETS)
GOOD_NG = pcapng(PACKETS)
# claims a packet of a mebibyte
RECORD = struct.pack("<IIII", 1, 0, 1 << 20, 1 << 20)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
