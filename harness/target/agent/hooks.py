# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Live hooks: attach a program, send frames past it, say what became of each.

docs/hooks.md tells where each program sits and where its frames are watched. A drop is never
decided by silence alone: the program's run count must have moved first. What a return value
should have meant is the host's business.
"""

import errno
import os
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError, WorldError
from harness.hooks import Action
from harness.model import Case
from harness.target.agent import namespace, spawn, syscall, taps, testrun
from harness.target.agent.links import XDP_DRV_MODE, XDP_SKB_MODE, End, Wire, create
from harness.target.agent.loading import Program
from harness.target.agent.tracepoints import Trace

# from sending to the program's having run, and from that to the frame's arrival elsewhere: the
# rest of the same softirq, for which an idle CPU waits no longer
_RUN_LIMIT_S = 2.0
_GRACE_S = 0.03
_STEP_S = 0.002
# what a program on ingress may turn a frame into: IPv4, IPv6, one more VLAN tag
_OTHER_PROTOCOLS = (0x0800, 0x86DD, 0x8100, 0x88A8)
# r0 = XDP_PASS; exit
_XDP_PASS = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Place:
    """How a hook is served: which end of the wire, attached by what."""

    attach: Callable[["Hooks", Program], None]
    # "a" for the end that sends, "b" for the one that receives
    end: str
    attached_by: str
    xdp_mode: int = 0
    # XDP name of bpftool net attach, for the cross-check
    bpftool_type: str = ""
    direction: str = ""


@dataclass(frozen=True, slots=True)
class Shot:
    """What became of one frame."""

    action: Action
    frame: bytes | None


class Hooks:
    """The wire, what watches it, and the one program attached to it."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self.wire: Wire = create()
            stack.callback(self.wire.close)
            with namespace.inside(self.wire.a.namespace):
                self._sender = taps.Tap(self.wire.a.device)
                stack.callback(self._sender.close)
                self._back = taps.Tap(self.wire.a.device, taps.ETH_P_ALL)
                stack.callback(self._back.close)
            with namespace.inside(self.wire.b.namespace):
                self._far = taps.Tap(self.wire.b.device)
                stack.callback(self._far.close)
            self._trace = Trace()
            stack.callback(self._trace.close)
            stack.callback(os.close, syscall.enable_stats())
            self._passing = syscall.prog_load(testrun.XDP, _XDP_PASS)
            stack.callback(os.close, self._passing)
            self._attached = ExitStack()
            stack.callback(self.detach)
            self._stack = stack.pop_all()
        self._key: tuple[int, str] | None = None
        self._peer_ready = False
        # taps behind tc ingress, by protocol
        self._behind: dict[int, taps.Tap] = {}

    def run(self, case: Case, program: Program) -> list[Shot]:
        """Send the case's packet `repeat` times past `program` on the case's hook."""
        frame = case.input.packet
        if frame is None:
            raise UsageError(f"{case.id}: hook {case.hook!r} needs a packet, not a context")
        self.attach(program, case.hook)
        return self._send(case.hook, program, frame, case.repeat)

    @staticmethod
    def has_second_way(hook: str) -> bool:
        """Whether bpftool can attach there, too."""
        return bool(PLACES[hook].bpftool_type)

    def cross_check(self, case: Case, program: Program) -> list[Shot]:
        """The same as run(), attached by bpftool net attach."""
        place = PLACES[case.hook]
        self.detach()
        with self._attach_bpftool(program, place.bpftool_type, place.xdp_mode):
            return self._send(case.hook, program, case.input.packet or b"", case.repeat)

    @staticmethod
    def attached_by(hook: str) -> str:
        """Who attaches on `hook`, for a provenance."""
        return PLACES[hook].attached_by

    def attach(self, program: Program, hook: str) -> None:
        """Attach `program`; it stays for the next case, or until detach()."""
        if self._key == (program.id, hook):
            return
        self.detach()
        PLACES[hook].attach(self, program)
        self._key = (program.id, hook)

    def try_attach(self, fd: int, hook: str, pin: str) -> None:
        """Attach a program of any kind to `hook` and detach it again: for the probe."""
        info = syscall.prog_info(fd)
        syscall.obj_pin(fd, pin)
        try:
            self.prepare(hook)
            self.attach(Program(info.name, fd, info.type, info.id, pin, "bpf(2)", (), {}), hook)
            self.detach()
        finally:
            Path(pin).unlink()

    def detach(self) -> None:
        """Detach what is attached and make sure that it is."""
        self._key = None
        self._attached.close()

    def close(self) -> None:
        """Detach, and remove devices, namespaces, sockets and the trace instance."""
        self._stack.close()

    # sending and watching --------------------------------------------------------------

    def _send(self, hook: str, program: Program, frame: bytes, repeat: int) -> list[Shot]:
        far = [self._far]
        if PLACES[hook].direction == "ingress":
            # an ETH_P_ALL tap would see the frame before tc does
            self._far.listen(0)
            protocols = {taps.protocol_after_ingress(frame), *_OTHER_PROTOCOLS}
            far = [self._tap_behind(protocol) for protocol in sorted(protocols)]
        else:
            self._far.listen(taps.ETH_P_ALL)
        return [self._shoot(hook, program, frame, far) for _ in range(max(repeat, 1))]

    def _tap_behind(self, protocol: int) -> taps.Tap:
        if protocol not in self._behind:
            with namespace.inside(self.wire.b.namespace):
                self._behind[protocol] = taps.Tap(self.wire.b.device, protocol)
            self._stack.callback(self._behind[protocol].close)
        return self._behind[protocol]

    def _shoot(self, hook: str, program: Program, frame: bytes, far: list[taps.Tap]) -> Shot:
        watched = [*far, self._back]
        for tap in watched:
            tap.drain()
        runs = syscall.prog_info(program.fd).run_count
        self._fire(frame)
        deadline = time.monotonic() + _RUN_LIMIT_S
        while syscall.prog_info(program.fd).run_count == runs:
            if time.monotonic() > deadline:
                raise WorldError(
                    f"{hook}: the hook never ran {program.name!r}",
                    evidence=f"run_cnt stayed {runs} for {_RUN_LIMIT_S} s after sending "
                    f"{frame.hex()}; at the far side: {_arrived(far)}",
                )
            taps.wait(watched, _STEP_S)
        ready = taps.wait(watched, 0) or taps.wait(watched, _GRACE_S)
        return self._judge(hook, program, ready)

    def _fire(self, frame: bytes) -> None:
        try:
            self._sender.send(frame)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return  # how the sender learns of a drop on egress (NET_XMIT_DROP)
            words = f"a frame of {len(frame)} bytes cannot be sent: {os.strerror(error.errno or 0)}"
            if error.errno not in (errno.EMSGSIZE, errno.EINVAL):
                raise WorldError(words) from None
            raise UsageError(
                words, fix="live hooks take 15 to 1514 bytes (and 4 more for a VLAN tag)"
            ) from None

    def _judge(self, hook: str, program: Program, ready: list[taps.Tap]) -> Shot:
        xdp = bool(PLACES[hook].xdp_mode)
        arrived = [tap for tap in ready if tap is not self._back]
        if arrived:
            return Shot(Action.PASS, arrived[0].receive())
        events = self._trace.events(program.id) if xdp else set()
        if self._back in ready:
            redirected = not xdp or "xdp_redirect" in events
            action = Action.REDIRECT if redirected else Action.TX
            return Shot(action, self._back.receive())
        return Shot(Action.ABORTED if "xdp_exception" in events else Action.DROP, None)

    # attaching: one method per way, listed in PLACES ------------------------------------

    def _end(self, hook_end: str) -> End:
        return self.wire.a if hook_end == "a" else self.wire.b

    def attach_xdp(self, program: Program, mode: int) -> None:
        """By pyroute2, on the receiving end."""
        end = self.wire.b
        end.xdp(program.fd, mode)
        self._attached.callback(self._gone_xdp, end)
        self._attached.callback(end.xdp, -1, mode)

    def prepare(self, hook: str) -> None:
        """Before native XDP: a program on the sending end, too, for good.

        Without one veth leaves XDP_TX frames in its ring (veth_xdp_flush() asks for it; NAPI by
        GRO is not enough).
        """
        if PLACES[hook].xdp_mode == XDP_DRV_MODE and not self._peer_ready:
            self.wire.a.xdp(self._passing, XDP_DRV_MODE)
            self._peer_ready = True

    def _attach_bpftool(self, program: Program, kind: str, mode: int) -> ExitStack:
        end = self.wire.b
        stack = ExitStack()
        with namespace.inside(end.namespace):
            _bpftool_net("attach", kind, program, end.device)
        stack.callback(self._gone_xdp, end)
        stack.callback(end.xdp, -1, mode)
        return stack

    @staticmethod
    def _gone_xdp(end: End) -> None:
        if end.xdp_mode():
            raise WorldError(f"XDP is still attached to {end.device} after detaching")

    def attach_clsact(self, program: Program, side: str, direction: str) -> None:
        """By pyroute2: clsact with one direct-action filter."""
        end = self._end(side)
        self._attached.callback(self._gone_clsact, end)
        self._attached.callback(end.remove_filters)
        try:
            end.add_filter(program.fd, program.name, direction)
        except BaseException:
            self._attached.pop_all()
            with suppress(Exception):  # the qdisc may not have come into being
                end.remove_filters()
            raise

    @staticmethod
    def _gone_clsact(end: End) -> None:
        if "clsact" in end.qdiscs():
            raise WorldError(f"clsact is still on {end.device} after detaching")

    def attach_tcx(self, program: Program, side: str, direction: str) -> None:
        """By bpftool, detached by bpf(2)."""
        end = self._end(side)
        kind = syscall.TCX_INGRESS if direction == "ingress" else syscall.TCX_EGRESS
        with namespace.inside(end.namespace):
            # a kernel without tcx says so itself: bpftool's words do not tell whose fault it is
            syscall.prog_query(end.index, kind)
            _bpftool_net("attach", f"tcx_{direction}", program, end.device)
        self._attached.callback(self._detach_tcx, end, program, kind)

    @staticmethod
    def _detach_tcx(end: End, program: Program, kind: int) -> None:
        with namespace.inside(end.namespace):
            syscall.prog_detach(program.fd, end.index, kind)
            left = syscall.prog_query(end.index, kind)
        if left:
            raise WorldError(f"tcx programs {left} are still on {end.device} after detaching")


def _arrived(far: list[taps.Tap]) -> str:
    frames = [frame.hex() for tap in far if (frame := tap.receive()) is not None]
    return ", ".join(frames) or "nothing"


def _bpftool_net(verb: str, kind: str, program: Program, device: str) -> None:
    done = spawn.bpftool("net", verb, kind, "pinned", program.pin, "dev", device)
    if done.status:
        raise WorldError(
            f"bpftool net {verb} {kind} of {program.name!r} failed",
            evidence=done.stderr + done.stdout,
        )


def _xdp(mode: int, kind: str) -> Place:
    return Place(
        lambda hooks, program: hooks.attach_xdp(program, mode), "b", "pyroute2", mode, kind
    )


def _clsact(side: str, direction: str) -> Place:
    return Place(
        lambda hooks, program: hooks.attach_clsact(program, side, direction),
        side, "pyroute2", direction=direction,
    )  # fmt: skip


def _tcx(side: str, direction: str) -> Place:
    return Place(
        lambda hooks, program: hooks.attach_tcx(program, side, direction),
        side, "bpftool", direction=direction,
    )  # fmt: skip


PLACES = {
    "xdp-generic": _xdp(XDP_SKB_MODE, "xdpgeneric"),
    "xdp-native": _xdp(XDP_DRV_MODE, "xdpdrv"),
    "tc-ingress": _clsact("b", "ingress"),
    "tc-egress": _clsact("a", "egress"),
    "tcx-ingress": _tcx("b", "ingress"),
    "tcx-egress": _tcx("a", "egress"),
}
