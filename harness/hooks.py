# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The hooks a program can run on, and what a return value means on each: data only.

Both oracles read this table; neither learns from the other through it. Sources: the kernel's
net/core/dev.c (do_xdp_generic, sch_handle_ingress), net/sched/cls_bpf.c (cls_bpf_exec_opcode),
include/net/tcx.h (tcx_action_code), include/uapi/linux/bpf.h (enum xdp_action, enum tcx_action).
"""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What the wire shows after one frame met the program."""

    PASS = "pass"  # noqa: S105  # the frame went on up (or out)
    DROP = "drop"
    TX = "tx"  # transmitted back out of the interface it came in on
    REDIRECT = "redirect"
    ABORTED = "aborted"  # dropped, and the xdp_exception tracepoint fired


@dataclass(frozen=True, slots=True)
class Hook:
    """One place where a program runs."""

    name: str
    # kernel program type as libbpf names it in section prefixes: "xdp", "tc", "syscall", ...
    prog_type: str
    # frames really cross a wire; return values are only visible through their meaning
    live: bool
    # feature that the agent's probe must report, or "" where every kernel has it
    needs: str
    # known return values (as unsigned 32-bit) and their meaning on the wire
    meanings: dict[int, Action]
    # meaning of every other value
    unknown: Action


_XDP = {
    0: Action.ABORTED,
    1: Action.DROP,
    2: Action.PASS,
    3: Action.TX,
    4: Action.REDIRECT,
}
# cls_bpf_exec_opcode: anything not listed becomes TC_ACT_UNSPEC, "next filter", here: pass.
_CLSACT = {
    0: Action.PASS,  # TC_ACT_OK
    2: Action.DROP,  # TC_ACT_SHOT
    4: Action.DROP,  # TC_ACT_STOLEN: consumed, seen from the wire as a drop
    7: Action.REDIRECT,  # TC_ACT_REDIRECT
    8: Action.DROP,  # TC_ACT_TRAP: consumed
    0xFFFFFFFF: Action.PASS,  # TC_ACT_UNSPEC
}
# tcx_action_code: anything not listed becomes TCX_NEXT.
_TCX = {0: Action.PASS, 2: Action.DROP, 7: Action.REDIRECT, 0xFFFFFFFF: Action.PASS}

HOOKS: dict[str, Hook] = {
    hook.name: hook
    for hook in (
        Hook("test_run", "", live=False, needs="", meanings={}, unknown=Action.PASS),
        # only loaded, for types that BPF_PROG_TEST_RUN cannot run: "ran" with no return value
        Hook("load", "", live=False, needs="", meanings={}, unknown=Action.PASS),
        Hook("xdp-generic", "xdp", True, "xdp-generic", _XDP, Action.ABORTED),
        Hook("xdp-native", "xdp", True, "xdp-native", _XDP, Action.ABORTED),
        Hook("tc-ingress", "tc", True, "clsact", _CLSACT, Action.PASS),
        Hook("tc-egress", "tc", True, "clsact", _CLSACT, Action.PASS),
        Hook("tcx-ingress", "tc", True, "tcx", _TCX, Action.PASS),
        Hook("tcx-egress", "tc", True, "tcx", _TCX, Action.PASS),
    )
}


def meaning(hook: str, retval: int, *, redirect_set: bool = False) -> Action:
    """What `retval` (any width; the low 32 bits count) means on a live hook.

    A redirect code without a target (no bpf_redirect() before it) finds no device and drops:
    xdp_do_redirect() and skb_do_redirect() fail, and no xdp_exception is traced.
    """
    entry = HOOKS[hook]
    action = entry.meanings.get(retval & 0xFFFFFFFF, entry.unknown)
    if action is Action.REDIRECT and not redirect_set:
        return Action.DROP
    return action
