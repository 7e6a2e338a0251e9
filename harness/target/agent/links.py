# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The wire: a veth pair between two namespaces, kept quiet so that only our frames are on it.

    bpfthrow-a: va (sends) ----- vb (receives): bpfthrow-b

The only module that speaks pyroute2, which takes a second to import under emulation: import this
module when a live hook is really wanted. docs/hooks.md says why each setting is there.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2.iproute.linux import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from harness.errors import WorldError
from harness.target.agent import modules, namespace
from harness.target.agent.syscall import KernelError

_INGRESS_HANDLE = {"ingress": "ffff:fff2", "egress": "ffff:fff3"}
XDP_NOT_YET, XDP_SKB_MODE, XDP_DRV_MODE = 1, 2, 4


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Around netlink requests: KernelError for the kernel's no, which is pyroute2's own kind."""
    try:
        yield
    except NetlinkError as error:
        raise KernelError(error.code, f"{what}: {error.args[-1]}") from error


@dataclass(slots=True)
class End:
    """One end of the wire."""

    device: str
    namespace: int
    index: int
    netlink: Any  # pyroute2.IPRoute, untyped upstream

    def xdp(self, fd: int, mode: int) -> None:
        """Attach (fd >= 0) or detach (fd -1) XDP in `mode` (XDP_SKB_MODE or XDP_DRV_MODE)."""
        flags = mode | (XDP_NOT_YET if fd >= 0 else 0)
        attrs = [("IFLA_XDP_FD", fd), ("IFLA_XDP_FLAGS", flags)]
        with asking(f"XDP on {self.device}"):
            self.netlink.link("set", index=self.index, xdp={"attrs": attrs})

    def xdp_mode(self) -> int:
        """0 when no XDP program is attached (XDP_ATTACHED_NONE)."""
        with asking(f"state of {self.device}"):
            (link,) = self.netlink.get_links(self.index)
        attributes = link.get_attr("IFLA_XDP")
        return int(attributes.get_attr("IFLA_XDP_ATTACHED") or 0) if attributes else 0

    def add_filter(self, fd: int, name: str, direction: str) -> None:
        """Add clsact with one direct-action bpf filter."""
        with asking(f"clsact on {self.device}"):
            self.netlink.tc("add", "clsact", self.index)
        with asking(f"bpf filter on {self.device}"):
            self.netlink.tc(
                "add-filter", "bpf", self.index, ":1", fd=fd, name=name, prio=1,
                parent=_INGRESS_HANDLE[direction], classid=1, direct_action=True,
            )  # fmt: skip

    def remove_filters(self) -> None:
        """Take clsact away, and every filter with it."""
        with asking(f"clsact off {self.device}"):
            self.netlink.tc("del", "clsact", self.index)

    def qdiscs(self) -> tuple[str, ...]:
        """Kinds of the queueing disciplines on the device."""
        with asking(f"qdiscs of {self.device}"):
            found = self.netlink.get_qdiscs(self.index)
            return tuple(str(q.get_attr("TCA_KIND")) for q in found)

    def remove(self) -> None:
        """Take the device away, and the other end with it."""
        with asking(f"removing {self.device}"):
            self.netlink.link("del", index=self.index)


@dataclass(slots=True)
class Wire:
    """Both ends, open until close()."""

    a: End
    b: End
    stack: ExitStack

    def close(self) -> None:
        """Remove devices and namespaces."""
        self.stack.close()


def create() -> Wire:
    """Make namespaces and devices; they replace what a killed agent left."""
    modules.insert_all()
    with ExitStack() as stack, asking("veth pair"):
        spaces = [_space(stack, name) for name in namespace.NAMES]
        netlinks = [_netlink(stack, space) for space in spaces]
        netlinks[0].link(
            "add", ifname="va", kind="veth", address="02:00:00:00:00:0a",
            num_tx_queues=1, num_rx_queues=1,
            peer={
                "ifname": "vb", "address": "02:00:00:00:00:0b", "net_ns_fd": spaces[1],
                "num_tx_queues": 1, "num_rx_queues": 1,
            },
        )  # fmt: skip
        ends = [
            End(device, space, _index(netlink, device), netlink)
            for device, space, netlink in zip(("va", "vb"), spaces, netlinks, strict=True)
        ]
        for end in ends:
            end.netlink.link("set", index=end.index, arp=False, state="up")
        stack.callback(ends[0].remove)
        return Wire(ends[0], ends[1], stack.pop_all())


def _space(stack: ExitStack, name: str) -> int:
    fd = namespace.create(name)
    stack.callback(namespace.remove, name)
    stack.callback(os.close, fd)
    with namespace.inside(fd):
        for scope in ("all", "default"):
            switch = Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6")
            if switch.exists():
                switch.write_text("1", encoding="ascii")
    return fd


def _netlink(stack: ExitStack, space: int) -> Any:
    with namespace.inside(space):
        netlink = IPRoute(groups=0)
        stack.callback(netlink.close)
        netlink.link_lookup(ifname="lo")  # the socket is made by the first request: here, inside
    return netlink


def _index(netlink: Any, device: str) -> int:
    found = netlink.link_lookup(ifname=device)
    if not found:
        raise WorldError(f"the kernel made no device {device}", fix="is veth available?")
    return int(found[0])
