# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The host's side of the agent: pushes objects, runs cases, completes what comes back.

Completes means: global sections split into variables, kernel splats found in the case's log
window, absence of a feature told from a failure. Knows nothing of how the machine is reached.
"""

import base64
import datetime as dt
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import logmatch, wire
from harness.bpf.elf import Object, decode_globals, read_object
from harness.bpf.special import without_addresses
from harness.errors import UsageError
from harness.model import Case, Companion, Expectation, Observation, Verdict
from harness.target import splats
from harness.target.base import FRESH, Facts
from harness.target.channel import AgentChannel

# One request may take this long on a machine of nominal speed.
HELLO_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 60.0
CASE_TIMEOUT_S = 30.0
_PER_REPEAT_S = 1.0
# the first libbpf that loads exception callbacks; vm/root.toml asks for the same in our guests
_LIBBPF_AT_LEAST = (1, 3)
# What bpf_jit_supports_exceptions() and kfunc calls need, with the words for a kernel without it.
_THROW_OPTIONS = {
    "CONFIG_BPF_JIT": "kfunc calls need the JIT",
    "CONFIG_DEBUG_INFO_BTF": "kfuncs are found through BTF",
    "CONFIG_UNWINDER_ORC": "bpf_jit_supports_exceptions() on x86-64",
    "CONFIG_NET": "bpf_throw's kfunc set registers with networking",
}

# BPF_OBJ_NAME_LEN without the NUL
_MAP_NAME_CHARS = 15
# libbpf, of kernel functions and variables that no BTF of the kernel has
_LACKING = re.compile(
    r"extern \((?:func|var) ksym\) '(\w+)'(?: \(strong\))?: not found|<missing kfunc '(\w+)'>"
    r"|failed to find kernel BTF type ID of '(\w+)'"
    r"|kfunc '(\w+)' is referenced but wasn't resolved"
)

Push = Callable[[dict[str, Path | bytes]], None]


class AgentClient:
    """One running agent and what it holds."""

    def __init__(
        self,
        agent: AgentChannel,
        push: Push,
        place: str,
        scale: float,
        *,
        statistics: bool = False,
    ) -> None:
        self._agent = agent
        self._push = push
        # directory for objects on the machine
        self._place = place
        # factor on every time-out
        self._scale = scale
        # have the verifier's statistics in the log of accepted programs
        self._statistics = statistics
        self._pushed: dict[str, tuple[str, Object]] = {}
        # of an earlier guest of the same kernel, where there was one
        self._features: dict[str, str] = {}
        self._rules = splats.load_rules()

    def hello(self) -> dict[str, Any]:
        """Versions of what runs over there. UsageError where its bpftool is too old."""
        answer: dict[str, Any] = self._agent.request("hello", HELLO_TIMEOUT_S * self._scale)
        _require_libbpf(answer["bpftool"])
        return answer

    def missing(self, feature: str) -> str:
        """Why `feature` is absent on the machine; "" where it is there. Probed once."""
        if feature not in self._features:
            timeout_s = PROBE_TIMEOUT_S * self._scale
            answer = self._agent.request("probe", timeout_s, features=[feature])
            self._features |= answer["features"]
        return self._features.get(feature, f"nobody knows how to probe {feature!r}")

    def remember(self, features: dict[str, str]) -> None:
        """What was probed in another guest of the same machine need not be probed again."""
        self._features |= features

    @property
    def features(self) -> dict[str, str]:
        """What has been probed so far."""
        return dict(self._features)

    def run(self, case: Case, facts: Facts) -> Observation:
        """One case. Errors of the channel and of the agent pass through."""
        # whether bpf_throw is there is asked only where a load was refused: it takes a while, and
        # the refusal has the verifier's own words
        asked = (need for need in case.needs if need not in ("throw", FRESH))
        why = next((f"{need}: {lack}" for need in asked if (lack := self.missing(need))), "")
        may_lack_throw = "throw" in case.needs and not facts.expects_throw
        if why and not may_lack_throw:
            return Observation(Verdict.UNSUPPORTED, message=why)
        # what cannot run for another reason is loaded only, for those words
        seen, obj = self._seen(replace(case, hook="load", companions=()) if why else case)
        if seen.verdict is Verdict.REJECTED and may_lack_throw and self.missing("throw"):
            seen = replace(seen, verdict=Verdict.UNSUPPORTED)
        elif why:
            return Observation(Verdict.UNSUPPORTED, message=why)
        if seen.verdict is Verdict.REJECTED and _of_others(case) and not _as_claimed(case, seen):
            seen = _unless_lacking(seen)
        return self._complete(seen, obj)

    def _seen(self, case: Case) -> tuple[Observation, Object]:
        remote, obj = self._object(Path(case.object))
        timeout_s = (CASE_TIMEOUT_S + _PER_REPEAT_S * case.repeat) * self._scale
        answer = self._agent.request(
            "run",
            timeout_s,
            case=wire.to_json(self._bare(case), brief=True),
            object=remote,
            statistics=self._statistics,
        )
        return wire.from_json(Observation, answer, "agent"), obj

    def finish(self) -> tuple[str, ...]:
        """Unload everything; what was left behind, and the splats that this made."""
        answer = self._agent.request("finish", CASE_TIMEOUT_S * self._scale)
        found = self._splats(answer.get("kernel_log"))
        return (*answer["leaks"], *(f"kernel log: {splat}" for splat in found))

    def text_base(self) -> int:
        """Address of the kernel's _text."""
        timeout_s = CASE_TIMEOUT_S * self._scale
        return int(self._agent.request("symbols", timeout_s, only_base=True)["base"])

    def kallsyms(self) -> bytes:
        """The kernel's functions as in a System.map, compressed by zlib."""
        answer = self._agent.request("symbols", CASE_TIMEOUT_S * self._scale)
        return base64.b64decode(answer["packed"])

    def round_trip_s(self) -> float:
        """Seconds that a request takes that finds nothing to do."""
        began = time.monotonic()
        self._agent.request("unload", HELLO_TIMEOUT_S * self._scale)
        return time.monotonic() - began

    def close(self) -> None:
        """End the agent."""
        self._agent.close()

    def _bare(self, case: Case) -> Case:
        """What the machine needs to know of it: not what should come of it."""
        return replace(
            case,
            object="",
            companions=self._companions(case),
            expectation=Expectation(),
            per_series=(),
            needs=(),
        )

    def _companions(self, case: Case) -> tuple[Companion, ...]:
        """Those of other objects have them pushed; all know their objects' places over there."""
        return tuple(
            replace(each, object=self._object(Path(each.object))[0]) if each.object else each
            for each in case.companions
        )

    def _object(self, path: Path) -> tuple[str, Object]:
        key = str(path)
        if key not in self._pushed:
            try:
                data = path.read_bytes()
            except OSError as error:
                raise UsageError(f"cannot read {path}: {error.strerror}") from error
            remote = f"{self._place}/{hashlib.sha256(data).hexdigest()[:16]}/{path.name}"
            self._push({remote: data})
            self._pushed[key] = (remote, read_object(path))
        return self._pushed[key]

    def _complete(self, seen: Observation, obj: Object) -> Observation:
        maps = {}
        for name, content in seen.maps.items():
            if name.startswith("."):
                section = _section(obj, name)
                maps[section] = _variables(obj, section, content)
            else:
                maps[name] = _values(obj, name, content)
        return replace(seen, maps=maps, splats=self._splats(seen.kernel_log))

    def _splats(self, log: str | None) -> tuple[str, ...]:
        return splats.find_splats(log, self._rules, dt.datetime.now(dt.UTC).date())


def _of_others(case: Case) -> bool:
    """Whether nobody says that the load must fail for what the kernel lacks."""
    return case.loading.alone or (case.expectation.verdict is None and not case.per_series)


def _as_claimed(case: Case, seen: Observation) -> bool:
    """Whether a refusal shows what the case claims of one, on whichever kernel."""
    claims = (case.expectation, *(claimed for _, claimed in case.per_series))
    words = [claimed.messages for claimed in claims if claimed.messages]
    return any(not logmatch.missing(each, seen.log) for each in words)


def _unless_lacking(seen: Observation) -> Observation:
    """A refusal, or "unsupported" where libbpf misses something that a module of the tests has."""
    found = _LACKING.search(f"{seen.message}\n{seen.log}")
    if found is None:
        return seen
    name = next(filter(None, found.groups()))
    return replace(seen, verdict=Verdict.UNSUPPORTED, message=f"the kernel has no {name}")


def _section(obj: Object, name: str) -> str:
    """The section of globals that a map of this name holds: kernels cut names off."""
    if obj.data_section(name) is not None or len(name) != _MAP_NAME_CHARS:
        return name
    return next((s.name for s in obj.sections if s.name.startswith(name)), name)


def _variables(obj: Object, section: str, content: dict[str, str]) -> dict[str, str]:
    value = next(iter(content.values()), "")
    return decode_globals(obj, section, bytes.fromhex(value))


def _values(obj: Object, name: str, content: dict[str, str]) -> dict[str, str]:
    found = obj.map(name)
    if found is None or not found.value_type_id:
        return content
    return {
        key: without_addresses(obj.btf, found.value_type_id, bytes.fromhex(value)).hex()
        for key, value in content.items()
    }


def _require_libbpf(loader: str) -> None:
    # "bpftool v7.5.0 using libbpf v1.5"; before v6.8 (2022) it did not name its libbpf
    found = re.search(r"libbpf v(\d+)\.(\d+)", loader)
    if found is None or (int(found[1]), int(found[2])) < _LIBBPF_AT_LEAST:
        raise UsageError(
            f"the machine's bpftool is too old ({loader or 'it names no version'}): a libbpf before"
            f" {'.'.join(map(str, _LIBBPF_AT_LEAST))} does not load exception callbacks",
            fix="install a newer bpftool there (Debian 13 and its backports have one)",
        )


def missing_options(config: Path | None) -> list[str]:
    """Kernel options without which there are no exceptions, from a configuration file."""
    if config is None:
        return []
    have = {line.partition("=")[0] for line in config.read_text().splitlines() if "=" in line}
    return [f"{name} ({why})" for name, why in _THROW_OPTIONS.items() if name not in have]
