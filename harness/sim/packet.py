# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The frame of one run: where it lies in memory, and its life under helpers that move it.

Owns the rule that every helper which may move a packet ends the life of all pointers into it,
whether it succeeds or not, as the verifier has it (bpf_helper_changes_pkt_data() in
net/core/filter.c).
"""

from dataclasses import dataclass

from harness.sim.memory import Memory, Region

ETH_HEADER_BYTES = 14
# NET_SKB_PAD on x86-64: what BPF_PROG_TEST_RUN leaves free in front of a frame, and the step in
# which that grows
SKB_HEADROOM_BYTES = 64
_UNSET = 0xFFFF


@dataclass(slots=True)
class Packet:
    """A frame in memory; positions are offsets in its region."""

    region: Region
    # where data_meta, data and data_end point
    meta: int
    start: int
    end: int
    # bytes of the frame before `start` that the program does not see (cgroup_skb: Ethernet)
    hidden: bytes = b""
    # of such a frame: the link layer header, which helpers can read
    mac: bytes = b""
    # data_end was never set: every bounds check fails
    closed: bool = False
    # of an skb, from `start` on: network header, transport header where it is set
    network: int = ETH_HEADER_BYTES
    transport: int | None = None
    # free bytes in front of an skb, as the kernel counts them
    headroom: int = SKB_HEADROOM_BYTES
    encapsulated: bool = False
    # depth of checksums known to be right; None: nothing is known (CHECKSUM_NONE)
    csum_level: int | None = None
    # of an skb: who set the hash set it by bpf_set_hash()
    hash_known: bool = False

    @property
    def size_bytes(self) -> int:
        """Length of what the program sees."""
        return self.end - self.start

    def settle(self) -> None:
        """Let the bounds of the region follow a move of the positions."""
        self.region.low, self.region.high = self.meta, self.end

    def frame(self) -> bytes:
        """What the program sees."""
        return bytes(self.region.data[self.start : self.end])

    def renew(self, memory: Memory, why: str) -> None:
        """End the life of all pointers into the packet; `why` is for the message of whoever uses
        one all the same.
        """
        old = self.region
        made = memory.region(old.name, old.data)
        made.writable, made.load, made.store = old.writable, old.load, old.store
        memory.release(old, f"{old.name} before {why}")
        self.region = made
        self.settle()

    def grow(self, size: int) -> None:
        """skb_cow() and skb_push(): take `size` bytes in front; headers stay where they are.

        Where the room does not suffice, skb_headers_offset_update() moves a transport header that
        is not set like any other, after which it counts as set.
        """
        if size > self.headroom:
            more = -(-(size - self.headroom) // SKB_HEADROOM_BYTES) * SKB_HEADROOM_BYTES
            self.headroom += more
            if self.transport is None:
                self.transport = (_UNSET + more & _UNSET) - self.headroom
        self.pull(-size)

    def pull(self, size: int) -> None:
        """skb_pull(): give `size` bytes in front away."""
        self.headroom += size
        self.network -= size
        if self.transport is not None:
            self.transport -= size

    @property
    def shortest(self) -> int:
        """__bpf_skb_min_len()."""
        if self.transport is not None and self.transport > 0:
            return self.transport
        return max(self.network, 0)

    def replace(self, memory: Memory, frame: bytes) -> None:
        """Put another frame in place of this one, with the same room in front, after renew()."""
        made = memory.region(self.region.name, self.region.data[: self.start] + frame)
        memory.release(self.region)
        self.region, self.end = made, self.start + len(frame)
        self.settle()
