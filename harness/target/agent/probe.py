# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What this machine can do, found out by trying. Versions are never asked.

A feature maps to "" where it is there, else to the reason in the kernel's own words where it
gave some. Trouble of the machine (no rights, no tracefs, no bpftool) is no answer: it passes
through as the error that it is.
"""

import errno
import gzip
import os
import platform
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.target.agent import kernelbtf, session, syscall, testrun, tracers, verifierlog
from harness.target.agent.session import Session
from harness.target.agent.syscall import KernelError

# What a kernel says that lacks something: bpf(2) of a command, program type or attribute, netlink
# of a kind of device, queueing discipline or filter; 524 is ENOTSUPP, kernel-internal, leaks out.
_LACKS = {
    errno.EINVAL, errno.ENOENT, errno.ENOSYS, errno.E2BIG, errno.EOPNOTSUPP,
    errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, 524,
}  # fmt: skip
# enum bpf_prog_type, enum bpf_attach_type
_EXT, _FENTRY, _FEXIT = 28, 24, 25
# r0 = 0; exit
_RETURN_0 = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
_CONFIG = (
    "CONFIG_BPF_JIT", "CONFIG_BPF_SYSCALL", "CONFIG_DEBUG_INFO_BTF", "CONFIG_UNWINDER_ORC",
    "CONFIG_NET_XGRESS", "CONFIG_NET_SCH_INGRESS", "CONFIG_NET_CLS_BPF", "CONFIG_VETH",
    "CONFIG_FUNCTION_TRACER", "CONFIG_CGROUP_BPF", "CONFIG_KASAN", "CONFIG_PROVE_LOCKING",
)  # fmt: skip
# program types that need nothing but a test run: name -> (enum bpf_prog_type, input bytes)
_TEST_RUNS = {
    "test_run": (testrun.SCHED_CLS, 64),
    "xdp": (testrun.XDP, 64),
    "cgroup_skb": (testrun.CGROUP_SKB, 64),
}


def facts(state: Session, wanted: list[str] | None) -> dict[str, Any]:
    """Facts of the machine; `features` are those in `wanted`, or all that can be probed."""
    names = list(FEATURES) if wanted is None else wanted
    return {
        "release": os.uname().release,
        "machine": platform.machine(),
        "jit": session.jit(),
        "config": _config(),
        "kfuncs": {"bpf_throw": kernelbtf.has_function("bpf_throw")},
        "features": {name: _probe(name, state) for name in names},
    }


def _probe(name: str, state: Session) -> str:
    if name not in FEATURES:
        return f"nobody knows how to probe {name!r}"
    try:
        return FEATURES[name](state)
    except KernelError as error:
        return _reason(error)


def _reason(error: KernelError) -> str:
    """The kernel's words, where they mean that it lacks the feature; else its error."""
    # EACCES is the verifier's no; without its log it is that of a security module
    if error.errno not in _LACKS and not (error.errno == errno.EACCES and error.filename):
        raise error
    said = verifierlog.last_word(str(error.filename or "")) or error.strerror
    return f"{said} ({errno.errorcode.get(error.errno or 0, str(error.errno))})"


# loading -----------------------------------------------------------------------------------


def _throw(_: Session) -> str:
    """Load `bpf_throw(0)`: BTF, JIT, unwinder and kfunc set all have a say."""
    if not kernelbtf.has_function("bpf_throw"):
        return f"the kernel's BTF ({kernelbtf.PATH}) has no function bpf_throw"
    ident = kernelbtf.function_id("bpf_throw")
    code = struct.pack("=BBhiBBhi", 0xB7, 1, 0, 0, 0x85, 0x20, 0, ident) + _RETURN_0
    os.close(syscall.prog_load(testrun.SCHED_CLS, code))
    return ""


# test runs, tracing ------------------------------------------------------------------------


def _test_run(kind: int, size: int) -> Callable[[Session], str]:
    def probe(_: Session) -> str:
        fd = syscall.prog_load(kind, _RETURN_0)
        try:
            syscall.run_once(fd, bytes(size), None, room=size, repeat=1)
        finally:
            os.close(fd)
        return ""

    return probe


def _syscall(_: Session) -> str:
    fd = syscall.prog_load(testrun.SYSCALL, _RETURN_0, flags=syscall.F_SLEEPABLE)
    try:
        syscall.run_once(fd, None, None, room=0, repeat=0)
    finally:
        os.close(fd)
    return ""


def _raw_tp(_: Session) -> str:
    fd = syscall.prog_load(testrun.RAW_TRACEPOINT, _RETURN_0)
    try:
        syscall.run_once(fd, None, None, room=0, repeat=0)
    finally:
        os.close(fd)
    return ""


def _tracing(attach_type: int) -> Callable[[Session], str]:
    def probe(_: Session) -> str:
        if not kernelbtf.has_function("bpf_fentry_test1"):
            return f"the kernel's BTF ({kernelbtf.PATH}) has no function bpf_fentry_test1"
        target = kernelbtf.function_id("bpf_fentry_test1")
        fd = syscall.prog_load(testrun.TRACING, _RETURN_0, attach_type=attach_type, btf_id=target)
        try:
            os.close(syscall.raw_tracepoint_open(fd))
        finally:
            os.close(fd)
        return ""

    return probe


def _freplace(_: Session) -> str:
    """Whether the verifier answers at all: a raw program has no BTF to replace anything in."""
    target = syscall.prog_load(testrun.SCHED_CLS, _RETURN_0)
    try:
        os.close(syscall.prog_load(_EXT, _RETURN_0, btf_id=1, target=target))
    except KernelError as error:
        return "" if error.filename else _reason(error)
    finally:
        os.close(target)
    return ""


# live hooks --------------------------------------------------------------------------------


def _live(hook: str) -> Callable[[Session], str]:
    kind = testrun.XDP if hook.startswith("xdp") else testrun.SCHED_CLS

    def probe(state: Session) -> str:
        fd = syscall.prog_load(kind, _RETURN_0)
        try:
            state.hooks.try_attach(fd, hook, f"{state.directory}/probe")
        finally:
            os.close(fd)
        return ""

    return probe


def _jit(*, wanted: bool) -> Callable[[Session], str]:
    def probe(_: Session) -> str:
        on = session.jit() not in ("", "0")
        return "" if on is wanted else f"the JIT is {'on' if on else 'off'}"

    return probe


FEATURES: dict[str, Callable[[Session], str]] = {
    "throw": _throw,
    "jit": _jit(wanted=True),
    "no-jit": _jit(wanted=False),
    **{name: _test_run(*how) for name, how in _TEST_RUNS.items()},
    "syscall": _syscall,
    "raw_tp": _raw_tp,
    "fentry": _tracing(_FENTRY),
    "fexit": _tracing(_FEXIT),
    "freplace": _freplace,
    "kretprobe": lambda _: tracers.missing("kretprobe"),
    "function_graph": lambda _: tracers.missing("function_graph"),
    "xdp-generic": _live("xdp-generic"),
    "xdp-native": _live("xdp-native"),
    "clsact": _live("tc-ingress"),
    "tcx": _live("tcx-ingress"),
}


def _config() -> dict[str, str]:
    """Kernel options as far as the machine keeps them; empty in a guest of ours."""
    for path in (Path("/proc/config.gz"), Path(f"/boot/config-{os.uname().release}")):
        try:
            raw = path.read_bytes()
        except OSError:
            continue
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode(errors="replace")
        lines = (line.partition("=") for line in text.splitlines())
        return {name: value for name, _, value in lines if name in _CONFIG}
    return {}
