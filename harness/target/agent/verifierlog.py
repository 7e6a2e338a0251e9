# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From the log of a refused load to its errno and to the one line that states the rule.

Reads what bpftool and libbpf print (both speak libbpf's language). No kernel, no loading.
"""

import errno
import os
import re
from typing import NamedTuple

# patterns are compiled when the first load is refused: at import they would cost every start
_BEGIN, _END = "-- BEGIN PROG LOAD LOG --", "-- END PROG LOAD LOG --"
# 6.18 and later forget the newline after "cannot call exception cb directly"
_STATISTICS = r"(processed \d+ insns|verification time \d+ usec|stack depth \d).*"
# lines that tell the path of the verifier, not its verdict
_TRACE = r"""(?x)\s*(
      \d+:\s | ;\s? | from\s\d+\sto\s\d+ | func\#\d+\s@ | func\s.*\stype\sid | R\d+(_\w+)?= |
      frame\d+:\s | mark_precise: | last_idx | regs= | parent\s | caller: | callee: |
      returning\sfrom\scallee | to\scaller\sat | Func\#\d+ | Validating\s.*\sfunc\# |
      Live\sregs | propagating | btf_vmlinux\sis | arg\#\d+\sreference\stype.*unknown$ |
      max_states | \d+\sbytes | Starting\sprog | libbpf:\s | \-\-\s
    )"""
_NOISE = (
    r"BPF program load failed|failed to load: |failed to load object|failed to load program|"
    r"BEGIN PROG LOAD LOG|END PROG LOAD LOG|Kernel doesn't support|elf: skipping|"
    r"extern \(func ksym\)|failed to find valid kernel BTF|loading kernel BTF|"
    r"couldn't find.*kernel BTF|Retrying without BTF|BTF loading error|BTF is optional, ignoring"
)
_ABSENT = r"extern \(func ksym\).*(not found|incompatible)"
# what the kernel says of the object's own types: libbpf goes on without them
_TYPES = re.compile(r"(?ms)^libbpf: -- BEGIN BTF LOAD LOG --.*?^-- END BTF LOAD LOG --$")
# a bundle of `bpfthrow repro` takes 17 MiB of each log
_KEPT = 8 << 20
_FAILED = r"failed to load(?: object '[^']*')?: (?:(-?\d+)|-(E[A-Z0-9]+))\b"
_FAILED_TEXT = r"(?:BPF program load failed|failed to load object file): (.+)"
_ENOTSUPP = 524  # kernel-internal, leaks out where the JIT lacks kfuncs


class Refusal(NamedTuple):
    """A load that the loader or the verifier refused. errno is positive, or None."""

    message: str
    errno: int | None
    log: str
    loader: str


def section(log: str, program: str) -> str:
    """The verifier's own lines about `program`; "" when the verifier was never asked."""
    lines = log.splitlines()
    marker = f"prog '{program}': {_BEGIN}"
    starts = [i for i, line in enumerate(lines) if marker in line]
    starts = starts or [i for i, line in enumerate(lines) if _BEGIN in line]
    if not starts:
        return ""
    first = starts[-1] + 1
    ends = (i for i, line in enumerate(lines[first:], first) if _END in line)
    return "\n".join(lines[first : next(ends, len(lines))])


def useful_line(log: str, program: str = "") -> str:
    """The line that states the rule: the verifier's last word, else libbpf's first."""
    verdict = last_word(section(log, program))
    if verdict:
        return verdict
    lines = _TYPES.sub("", log).splitlines()
    spoken = [line.strip() for line in lines if not re.search(_NOISE, line)]
    spoken = [line for line in spoken if line and not line.startswith("Error: failed to load")]
    # libbpf says this of a kernel function and gives up without another word
    spoken = spoken or [line for line in lines if re.search(_ABSENT, line)]
    return spoken[0].removeprefix("libbpf: ") if spoken else log.strip().split("\n")[-1]


def last_word(verifier: str) -> str:
    """Last line of a bare verifier log that is neither trace, statistics nor diagnosis."""
    kept: list[str] = []
    for line in verifier.splitlines():
        if line.startswith("Verification failed"):
            break  # 7.3 explains at length what it has just said
        text = re.sub(_STATISTICS, "", line).rstrip()
        if text.strip() and not re.match(_TRACE, text):
            kept.append(text.strip())
    return kept[-1] if kept else ""


def shortened(log: str, kept: int = _KEPT) -> str:
    """`log` without its middle where it is longer than twice `kept` letters, with a note there."""
    if len(log) <= 2 * kept:
        return log
    head, tail = log[: log.rfind("\n", 0, kept) + 1], log[log.find("\n", len(log) - kept) + 1 :]
    count = len(log) - len(head) - len(tail)
    return f"{head}[bpfthrow: {count} letters of the log left out here]\n{tail}"


def load_errno(log: str) -> int | None:
    """Positive errno of the refused load, as far as the log tells."""
    for match in reversed(list(re.finditer(_FAILED, log))):
        if match[1]:
            return abs(int(match[1])) or None
        return _ENOTSUPP if match[2] == "ENOTSUPP" else getattr(errno, match[2], None)
    said = {text.strip() for text in re.findall(_FAILED_TEXT, log)}
    return next((code for code in sorted(errno.errorcode) if os.strerror(code) in said), None)
