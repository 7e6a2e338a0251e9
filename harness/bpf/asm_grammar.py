# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Which words make which instruction: a tree made of the table's forms.

Owns the reading of one instruction, in the kernel's words and in LLVM's, and what was expected
where it goes wrong. Labels and names stay words; harness.bpf.asm gives them numbers.
"""

import re
from dataclasses import dataclass, field

from harness.bpf.asm_words import HALF, NAME, NUMBER, REGISTER, Where, Word, split
from harness.bpf.opcodes import BY_CODE, FORMS, INTERNAL, Form

# a step of the tree: kind of a word, or the word itself
Key = str
# what a word fills: a slot, or a register or number that it must be
Filled = str | int | None
Path = list[tuple[Key, Filled]]

_PART = re.compile(
    r"(?P<register>[rw])\{(?P<number>\w+)\}|\{(?P<slot>\w+)\}"
    r"|(?P<literal>[^{]+?)(?=[rw]?\{|$)"
)
_NUMBER: Path = [(NUMBER, "value")]
_OFFSET: Path = [(NUMBER, "high")]
_NAMED: Path = [(NAME, "name")]


def _words(text: str) -> Path:
    return [
        (w.kind, w.value) if w.kind in (REGISTER, HALF, NUMBER)
        else (w.text, None) for w in split(Where("", 0, text))
    ]  # fmt: skip


# slot -> the ways to write it; one word alone fills the slot of that name
_WAYS: dict[str, list[Path]] = {
    "jump": [[("pc", None), *_NUMBER], _NUMBER, _NAMED],
    "far": [[("pc", None), *_NUMBER], _NUMBER, _NAMED],
    "helper": [
        [("pc", None), (NUMBER, "pc")],
        [("pc", None), (NUMBER, "pc"), ("#", None), (NAME, "note")],
        _NUMBER, _NAMED, [*_NAMED, ("#", None), *_NUMBER],
        [*_words("kernel-function#"), (NUMBER, "kfunc")],
    ],
    "map": [[*_words("map[id:"), *_NUMBER, ("]", None)], [*_words("map["), *_NAMED, ("]", None)]],
    "value": [
        [*_words("map[id:"), *_NUMBER, *_words("][0]"), *_OFFSET],
        [*_words("map["), *_NAMED, *_words("][0]"), *_OFFSET],
    ],
    "variable": [
        [*_words("btf_id["), *_NUMBER, ("]", None)],
        [*_words("btf_id["), *_NUMBER, ("]", None), *_OFFSET],
        [*_words("ksym["), *_NAMED, ("]", None)],
    ],
    "function": [
        [*_words("subprog["), *_NUMBER, ("]", None)], [*_words("subprog["), *_NAMED, ("]", None)],
    ],
    "wide": [[(NUMBER, "wide")], [*_words("type[struct"), *_NAMED, ("]", None)]],
    "index": [[*_words("map[idx:"), *_NUMBER, ("]", None)]],
    "ivalue": [[*_words("map[idx:"), *_NUMBER, ("]", None), *_OFFSET]],
}  # fmt: skip
# `call` is one thing to read; what it calls says which form it is
_ONLY_BY_CALL = frozenset({"call_local", "call_kfunc"})


@dataclass(slots=True)
class Node:
    """What may follow, and the forms that end here with what their words fill."""

    then: dict[Key, "Node"] = field(default_factory=dict)
    ends: list[tuple[Form, tuple[Filled, ...]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to understand a line: a form, and the word in each slot."""

    form: Form
    slots: dict[str, Word]


def _paths(template: str) -> list[Path]:
    paths: list[Path] = [[]]
    for part in _PART.finditer(template):
        if part["register"]:
            kind = REGISTER if part["register"] == "r" else HALF
            ways: list[Path] = [[(kind, part["number"])]]
        elif part["slot"]:
            slot = part["slot"]
            ways = _WAYS.get(slot, [[(NUMBER, slot)]])
        else:
            ways = [_words(part["literal"])]
        paths = [[*path, *way] for path in paths for way in ways]
    return paths


def _grow() -> Node:
    root = Node()
    for form in FORMS:
        if form.name in _ONLY_BY_CALL or (form.since == INTERNAL and form.name == "nospec"):
            continue
        llvm = form.llvm if form.llvm and form.name != "call" else form.syntax
        # a number with its sign is one word
        both = (
            text.replace("{uimm}", "{imm}").replace(" + {", " {") for text in (form.syntax, llvm)
        )
        for template in dict.fromkeys(both):
            for path in _paths(template):
                _add(root, path, form)
    for path, form in _loads_of_halves():
        _add(root, path, form)
    return root


def _add(root: Node, path: Path, form: Form) -> None:
    node = root
    for key, _ in path:
        node = node.then.setdefault(key, Node())
    fills = tuple(filled for _, filled in path)
    if (form, fills) not in node.ends:
        node.ends.append((form, fills))


# LLVM writes 32-bit loads and stores with the half of the register.
def _loads_of_halves() -> list[tuple[Path, Form]]:
    found = []
    for form in (f for code in (0x61, 0x69, 0x71, 0x63, 0x6B, 0x73) for f in BY_CODE[code]):
        before, _, after = form.syntax.partition(" = ")
        text = f"w{before[1:]} = {after}" if before[0] == "r" else f"{before} = w{after[1:]}"
        found += [(path, form) for path in _paths(text)]
    return found


_ROOT = _grow()


def read(where: Where, words: list[Word]) -> list[Reading]:
    """The ways to read an instruction's words. Raises UsageError with what was expected."""
    node = _ROOT
    for word in words:
        following = node.then.get(word.text) or node.then.get(word.kind)
        if following is None:
            raise where.mistake(word.column, f"expected {_expected(node)}, not {word.text!r}")
        node = following
    end = words[-1].column + len(words[-1].text)
    if not node.ends:
        raise where.mistake(end, f"expected {_expected(node)}, not the end of the line")
    wrong: list[tuple[Word, str]] = []
    readings = []
    for form, fills in node.ends:
        slots, mismatch = _fill(fills, words)
        if mismatch is None:
            readings.append(Reading(form, slots))
        else:
            wrong.append(mismatch)
    if not readings:
        word, wanted = wrong[0]
        raise where.mistake(word.column, f"expected {wanted}, not {word.text!r}")
    return readings


def _fill(
    fills: tuple[Filled, ...], words: list[Word]
) -> tuple[dict[str, Word], tuple[Word, str] | None]:
    slots: dict[str, Word] = {}
    for filled, word in zip(fills, words, strict=True):
        if isinstance(filled, int) and word.value != filled:
            return slots, (word, f"{word.text[:1] if word.kind != NUMBER else ''}{filled}")
        if isinstance(filled, str):
            if filled in slots and slots[filled].value != word.value:
                return slots, (word, f"{slots[filled].text} again")
            slots[filled] = word
    return slots, None


_MOST_SAID = 8
_SAID = {
    REGISTER: "a register (r0 to r10)", HALF: "a register (w0 to w10)", NUMBER: "a number",
    NAME: "a name",
}  # fmt: skip


def _expected(node: Node) -> str:
    said = [_SAID.get(key, f"{key!r}") for key in node.then]
    if node.ends:
        said.append("the end of the line")
    if len(said) > _MOST_SAID:
        said[_MOST_SAID:] = [f"one of {len(said) - _MOST_SAID} other words"]
    return said[0] if len(said) == 1 else ", ".join(said[:-1]) + f" or {said[-1]}"
