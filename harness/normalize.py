# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What two kernels, or two loads, say differently although they mean the same: taken out.

Owns the tables of what a line of a verifier log is and of what is volatile in it. Registers,
instruction numbers and C lines stay: they are the same for the same object. Does not know which
message states which rule, and searches for nothing (logmatch.py does, on its own milder terms).
"""

import difflib
import functools
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What a line of a verifier log is."""

    LOADER = "loader"  # libbpf's or bpftool's frame around the verifier's own lines
    INSTRUCTION = "instruction"  # "8: (85) call bpf_throw"
    SOURCE = "source"  # "; bpf_throw(1);"
    STATE = "state"  # registers and stack slots, without an instruction
    PROGRESS = "progress"  # which function or path comes next, what it returned to
    BOOKKEEPING = "bookkeeping"  # precision, liveness: how the verifier works, not what it found
    STATISTICS = "statistics"
    EXPLANATION = "explanation"  # 7.3 and later: the message again, at length
    MESSAGE = "message"  # everything else: the verifier's verdict


class Line(NamedTuple):
    """One line of a log."""

    kind: Kind
    # without what is volatile
    text: str
    # as the kernel wrote it
    raw: str
    # of an instruction or a state: its number in the program, else None
    number: int | None = None


# first match wins; print formats of kernel/bpf/{verifier,log,states,backtrack,liveness}.c
_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (Kind.LOADER, r"libbpf: |Error: |-- (BEGIN|END) PROG LOAD LOG --|\[bpfthrow: "),
        (Kind.STATISTICS, r"processed \d+ insns |verification time \d+ usec|stack depth (max )?\d"),
        (Kind.STATISTICS, r"subprog \d+ \(\S*\) \w+ insns_self \d+|max_states_per_insn "),
        (Kind.INSTRUCTION, r"\d+: (\([0-9a-f]{2}\)|<invalid [^>]+>)"),
        (Kind.SOURCE, r"; ?"),
        (Kind.STATE, r"(\d+:|caller:|callee:)?\s*(frame\d+: )?((R\d+|fp-\d+)(_\w+)?=|refs=|cb)"),
        (Kind.STATE, r"(caller|callee):$|\d+: (frame\d+:)?\s*$"),
        (Kind.PROGRESS, r"from \d+ to \d+( \(speculative execution\))?:|\d+: safe$|safe$"),
        (Kind.PROGRESS, r"returning from callee:|to caller at \d+:|Starting prog |\d+ bytes "),
        (
            Kind.PROGRESS,
            r"Validating \S+\(\) func#\d+\.\.\.|Func#\d+( \('\S+'\))? is (safe|global)",
        ),
        (Kind.BOOKKEEPING, r"mark_precise: |propagating |last_idx \d+|parent |regs=\S+ stack="),
        (Kind.BOOKKEEPING, r"func#\d+ @\d+|Live regs before insn:|\s*\d+: [.0-9]{10} \("),
        (Kind.BOOKKEEPING, r"arg#\d+ reference type\('UNKNOWN '\) size cannot be determined"),
        (Kind.BOOKKEEPING, r"func \S* .*type id|btf_vmlinux is|infinite loop iter|stack use/def"),
    )
)
# sections of the explanation: a title, indented lines, an empty line
_EXPLAINS = re.compile(r"Verification failed: ")
_TITLE = re.compile(r"(Reason|At|Causal path|Suggestion|Note|Hint|Help):$")
# where kernels forget a newline: "cannot call exception cb directly" of 6.18 and later, and the
# state behind a call of an iterator's next function
_RUNS_ON = (
    re.compile(r"(?<=\S)(?=processed \d+ insns \(limit)"),
    re.compile(r"(?<=\S) (?=\d+: (?:frame\d+: )?R\d+(?:_\w+)?=)"),
)


_TYPES = re.compile(r"(?ms)^libbpf: -- BEGIN BTF LOAD LOG --.*?^-- END BTF LOAD LOG --$")

# lines; those of a loop come again and again
_REMEMBERED = 1 << 12


class Rule(NamedTuple):
    """One thing that says nothing: what it is, where it stands, what it becomes."""

    what: str
    pattern: re.Pattern[str]
    becomes: str


def _rules(*rows: tuple[str, str, str]) -> tuple[Rule, ...]:
    return tuple(Rule(what, re.compile(pattern), becomes) for what, pattern, becomes in rows)


# of every line of a log
RULES = _rules(
    # 6.12 and earlier: R1_w=, R6_rD=, fp-8_w=
    ("liveness mark", r"\b(R\d+|fp-\d+)_[rwD]+=", r"\1="),
    # 6.1: ctx(off=0,imm=0), map_value(off=0,ks=4,vs=32,imm=0)
    ("zero offset", r",(?:off|imm)=0(?=[,)])", ""),
    ("zero offset", r"(?<=\()(?:off|imm)=0(?:,|(?=\)))", ""),
    # later kernels name the map: map_ptr(map=events,ks=0,vs=0)
    ("map name", r"(?<=[(,])map=[^,)]*,?", ""),
    ("old name of a bound", r"\b([us])32_(min|max)(?:_value)?=", r"\1\g<2>32="),
    # the address of a map; a constant keeps its value, the state behind it says so
    (
        "address",
        r"(\(18\) r\d+ = )0xff[0-9a-f]{14}(?!\s*; (?:frame\d+: )?R\d+=(?:0x|-?\d))",
        r"\1ADDRESS",
    ),
    # of a kfunc or helper; not the numbers of arguments and functions
    ("BTF id", r"\b(?!(?:[Ff]unc|args?|insn|subprog)#)([A-Za-z_]\w*)#\d+", r"\1"),
    ("path of an object", r"'/[^']*/([^/']+\.o)'", r"'\1'"),
    ("padding", r"\s+;(?= |$)", " ;"),
    ("empty state", r" ;\s*$", ""),
    ("space", r"[ \t]+", " "),
)
# kernels join different ones: smin=umin=1
_EQUAL = re.compile(r"\b((?:[us](?:min|max)(?:32)?=){2,})([^,()]+)")
# 7.3 says id and parent_id where earlier ones say ref_obj_id and ref_id; all count one thing
_IDS = re.compile(r"\b((?:ref_obj_|ref_|parent_|dynptr_)?id|refs)=(\d+(?:,\d+)*)")

# of a report in the kernel log (target/splats.py makes it): where and when is not what
SPLAT_RULES = _rules(
    ("processor and process", r"\b(CPU|PID|cpu|pid)(: |=|#)\d+", r"\1\g<2>N"),
    ("source line", r"\b([\w/.-]+\.[ch]):\d+", r"\1"),
    ("process", r"(?m)\b[\w.-]+[/:]\d+(?=[/ \]]|$)", "TASK"),
    ("place in a function", r"\+0x[0-9a-f]+/0x[0-9a-f]+", ""),
    ("address", r"\b(?:0x)?[0-9a-f]{12,16}\b", "ADDRESS"),
    ("time", r"\b\d+(\.\d+)?(s|ms|us| jiffies| seconds)\b", "TIME"),
    ("program", r"\bbpf_prog_[0-9a-f]{16}", "bpf_prog"),
    ("oops count", r"\[#\d+\]", "[#N]"),
)
# of what was left behind: "prog 17 'main'"
LEAK_RULES = _rules(("id", r"^(prog|map|link|btf) \d+", r"\1"))


@functools.lru_cache(maxsize=8)  # a log of megabytes is asked for its messages, its path, ...
def lines(log: str) -> tuple[Line, ...]:
    """Every line of a log with its kind; the loader's frame, and empty lines, are left out.

    Object ids are numbered anew by first appearance: id=#1, id=#2, ...; those of messages are #.
    """
    ids = _Numbering()
    explaining = False
    found: list[Line] = []
    for raw in _split(_section(log)):
        explaining = _explains(raw, already=explaining)
        kind = Kind.EXPLANATION if explaining else kind_of(raw)
        if raw.strip() and kind is not Kind.LOADER:
            text = ids.in_order(_apply(RULES, raw)).strip()
            # which number an id has depends on what else was numbered on the way
            text = _nameless(text) if kind is Kind.MESSAGE else text
            found.append(Line(kind, text, raw, _number(kind, raw)))
    return tuple(found)


@functools.lru_cache(maxsize=_REMEMBERED)
def kind_of(line: str) -> Kind:
    """What a single line is. An explanation cannot be told without the lines before it."""
    text = line.strip()
    return next((kind for kind, pattern in _KINDS if pattern.match(text)), Kind.MESSAGE)


def messages(log: str) -> tuple[str, ...]:
    """What the verifier had to say in the end, normalised: usually one line, in some kernels two.

    What it said on the way is left out: a call whose arguments were looked at in two ways, say.
    """
    found = lines(log)
    walked = [at for at, line in enumerate(found) if line.kind is Kind.INSTRUCTION]
    end = found[walked[-1] :] if walked else found
    said = [line.text for line in end if line.kind is Kind.MESSAGE]
    return tuple(said or [line.text for line in found if line.kind is Kind.MESSAGE])


def message(text: str) -> str:
    """One message, normalised like a line of a log; its object ids become #."""
    return _nameless(_Numbering().in_order(_apply(RULES, text)).strip())


def path(log: str) -> list[str]:
    """The way to the end of a log: instructions and messages, without registers' states.

    What to compare between kernel series: which registers are shown differs between those.
    """
    return [
        line.text.partition(" ; ")[0]
        for line in lines(log)
        if line.kind in (Kind.INSTRUCTION, Kind.MESSAGE)
    ]


def telling(log: str) -> list[str]:
    """Everything but statistics, bookkeeping and explanations, normalised."""
    left_out = (Kind.STATISTICS, Kind.BOOKKEEPING, Kind.EXPLANATION)
    return [line.text for line in lines(log) if line.kind not in left_out]


def difference(
    one: str, other: str, names: tuple[str, str] = ("base", "patched"), context: int = 3
) -> list[str]:
    """Unified diff of the ways through two logs; [] where they are the same."""
    found = difflib.unified_diff(path(one), path(other), *names, lineterm="", n=context)
    return list(found)


def splat(text: str) -> str:
    """A kernel splat without addresses, processes, times and source lines."""
    return _apply(SPLAT_RULES, text).strip()


def leak(text: str) -> str:
    """What was left behind, without its id."""
    return _apply(LEAK_RULES, text)


def _section(log: str) -> list[str]:
    """The verifier's own lines, of the last load where there are several; else all lines.

    What the kernel says of an object's types is no verifier's, and libbpf goes on without them.
    """
    found = _TYPES.sub("", log).splitlines()
    begins = [index for index, line in enumerate(found) if "-- BEGIN PROG LOAD LOG --" in line]
    if not begins:
        return found
    rest = found[begins[-1] + 1 :]
    ends = (index for index, line in enumerate(rest) if "-- END PROG LOAD LOG --" in line)
    return rest[: next(ends, len(rest))]


def _split(found: Sequence[str]) -> Iterator[str]:
    for line in found:
        pieces = [line]
        for pattern in _RUNS_ON:
            pieces = [piece for each in pieces for piece in pattern.split(each)]
        yield from pieces


def _explains(line: str, *, already: bool) -> bool:
    """Whether a line belongs to an explanation, given that the one before did or did not."""
    if _EXPLAINS.match(line):
        return True
    indented = not line.strip() or line.startswith(" ")
    return already and (indented or bool(_TITLE.match(line)))


def _number(kind: Kind, raw: str) -> int | None:
    found = re.match(r"\s*(\d+):", raw)
    return int(found[1]) if found and kind in (Kind.INSTRUCTION, Kind.STATE) else None


@functools.lru_cache(maxsize=_REMEMBERED)
def _apply(rules: tuple[Rule, ...], text: str) -> str:
    for rule in rules:
        text = rule.pattern.sub(rule.becomes, text)
    return _EQUAL.sub(_apart, text)


def _nameless(text: str) -> str:
    return re.sub(r"(?<=[=,])#\d+", "#", text)


def _apart(found: re.Match[str]) -> str:
    """smin=umin=1 as smin=1,umin=1."""
    return ",".join(f"{name}={found[2]}" for name in found[1].rstrip("=").split("="))


class _Numbering:
    """Object ids by first appearance; one for each log."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def in_order(self, text: str) -> str:
        return _IDS.sub(self._renamed, text)

    def _renamed(self, found: re.Match[str]) -> str:
        numbers = (self._known.setdefault(n, len(self._known) + 1) for n in found[2].split(","))
        return f"{found[1]}={','.join(f'#{number}' for number in numbers)}"
