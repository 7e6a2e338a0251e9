# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""AF_PACKET sockets: frames out, frames in, VLAN tags back where they were on the wire."""

import select
import socket
import struct

ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING = 263, 8, 23
_VLAN_VALID, _TPID_VALID = 0x10, 0x40
_FRAME_BYTES = 65536
_MAC_BYTES = 12
_VLAN_TYPES = (0x8100, 0x88A8)
_ETHERTYPE_MIN = 0x0600


class Tap:
    """One packet socket on one device. Make it inside the device's namespace."""

    def __init__(self, device: str, protocol: int = 0) -> None:
        self.device = device
        self.protocol = protocol
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.bind((device, protocol))

    def listen(self, protocol: int) -> None:
        """Receive only frames of `protocol` from now on; 0 for none."""
        if protocol != self.protocol:
            self._socket.bind((self.device, protocol))
            self.protocol = protocol

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    def send(self, frame: bytes) -> None:
        """Send one frame as it is."""
        self._socket.send(frame)

    def receive(self) -> bytes | None:
        """The next frame as it was on the wire, or None."""
        try:
            frame, control, _, _ = self._socket.recvmsg(_FRAME_BYTES, 64)
        except BlockingIOError:
            return None
        for level, kind, data in control:
            if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                return with_tag(frame, data)
        return frame

    def drain(self) -> None:
        """Forget what has arrived."""
        while self.receive() is not None:
            pass

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def with_tag(frame: bytes, auxdata: bytes) -> bytes:
    """Put the tag back that the kernel took out on reception (struct tpacket_auxdata)."""
    status, _, _, _, _, tci, tpid = struct.unpack_from("=IIIHHHH", auxdata)
    if not status & _VLAN_VALID:
        return frame
    tag = struct.pack(">HH", tpid if status & _TPID_VALID else _VLAN_TYPES[0], tci)
    return frame[:_MAC_BYTES] + tag + frame[_MAC_BYTES:]


def protocol_after_ingress(frame: bytes) -> int:
    """skb->protocol of a received frame when it has passed tc ingress.

    The outermost VLAN tag is gone by then (skb_vlan_untag), and the one behind a tag with id 0,
    too (__netif_receive_skb_core). Below 0x600 the field is a length: ETH_P_802_2, or
    ETH_P_802_3 for the 0xffff of raw Novell frames (eth_type_trans).
    """
    at = _MAC_BYTES
    ethertype = int.from_bytes(frame[at : at + 2], "big")
    vlan_id = 0
    while ethertype in _VLAN_TYPES and not vlan_id and len(frame) >= at + 6:
        vlan_id = int.from_bytes(frame[at + 2 : at + 4], "big") & 0xFFF
        at += 4
        ethertype = int.from_bytes(frame[at : at + 2], "big")
    if ethertype >= _ETHERTYPE_MIN:
        return ethertype
    return 0x0001 if frame[at + 2 : at + 4] == b"\xff\xff" else 0x0004


def wait(taps: list[Tap], timeout_s: float) -> list[Tap]:
    """Taps that have something to read, at the latest after `timeout_s`."""
    poller = select.poll()
    by_fd = {tap.fileno(): tap for tap in taps}
    for fd in by_fd:
        poller.register(fd, select.POLLIN)
    return [by_fd[fd] for fd, _ in poller.poll(timeout_s * 1000)]
