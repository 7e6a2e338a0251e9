# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The matrix as one HTML page that needs nothing else: style and script are in it.

Built as a tree, so that whatever a kernel or a program says is escaped; the page's own policy lets
nothing but our script run. How it looks is page.css, what it does page.js: without the script
everything is there but the filters.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from harness.model import Result
from harness.report import grid
from harness.report.detail import evidence, replay, says
from harness.report.outcome import (
    FAILURES,
    Outcome,
    RunHeader,
    Tested,
    again,
    exit_code,
    first_line,
    headline,
    outcome,
    reasons,
    summary,
    targets_of,
    verdict_line,
)
from harness.report.style import SYMBOLS, clean

_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
_SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
# failures that are shown in full: one that hits every case says the same each time
_DETAILS = 300
_MEANING = {
    Outcome.AGREE: "as expected: kernel, simulator and declaration say the same",
    Outcome.DIFFER: "a difference",
    Outcome.UNSUPPORTED: "this kernel lacks what the case needs",
    Outcome.CRASHED: "the kernel oopsed or panicked",
    Outcome.HUNG: "no answer before the deadline",
    Outcome.FLAKY: "failed, and not when tried again",
    Outcome.LOST: "the machine went away: no result",
}
_FILTERS = (
    ("all", "All", "every row"),
    ("bad", "Failures", "rows with a difference, crash, hang, flaky or lost case"),
    ("varies", "Kernels differ", "rows in which kernels that ran the case answer differently"),
    ("unsupported", "Unsupported", "rows that some kernel cannot run"),
)


def page(results: Sequence[Result], header: RunHeader, title: str = "BPF exceptions") -> str:
    """The whole page as text."""
    root = ET.Element("html", lang="en")
    _head(root, title)
    main = _add(_add(root, "body"), "main")
    _top(main, results, header, title)
    _kernels(main, results, header)
    anchors = {id(result): f"f{n}" for n, result in enumerate(_failures(results))}
    _matrix(main, results, header, anchors)
    _details(main, results, header, anchors)
    _reasons(main, results, header)
    _add(root[-1], "script", _SCRIPT)
    return "<!doctype html>\n" + ET.tostring(root, encoding="unicode", method="html") + "\n"


def _add(parent: ET.Element, tag: str, text: str = "", **attributes: str) -> ET.Element:
    """A child; `class_` is the attribute class, `data_x` is data-x."""
    named = {key.rstrip("_").replace("_", "-"): clean(v) for key, v in attributes.items()}
    child = ET.SubElement(parent, tag, named)
    # the script is ours and goes as it is; ElementTree escapes all other text
    child.text = clean(text)
    return child


def _after(element: ET.Element, text: str) -> None:
    element.tail = clean(text)


def _head(root: ET.Element, title: str) -> None:
    head = _add(root, "head")
    _add(head, "meta", charset="utf-8")
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    meta = _add(head, "meta", content=policy)
    meta.set("http-equiv", "Content-Security-Policy")
    _add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", title)
    _add(head, "style", _STYLE)


def _top(main: ET.Element, results: Sequence[Result], header: RunHeader, title: str) -> None:
    top = _add(main, "header", class_="top")
    words = _add(top, "div")
    _add(words, "h1", title)
    cases = len({result.case.id for result in results})
    about = f"{cases} cases on {len(targets_of(results))} kernels"
    known = [about, f"in {_duration(header.seconds)}" if header.seconds else ""]
    known += [header.began, header.clang]
    _add(words, "p", " · ".join(each for each in known if each), class_="about")
    _add(
        top,
        "button",
        "◐ light / dark",
        id="theme",
        type="button",
        class_="theme scripted",
        hidden="",
    )
    worst = exit_code(results, header)
    counts = summary(results)
    bad = sum(counts[kind] for kind in Outcome if kind in FAILURES)
    kind, text = Outcome.AGREE, f"all agree: {verdict_line(results, header)}"
    if bad or counts[Outcome.LOST]:
        kind = Outcome.DIFFER if bad else Outcome.LOST
        text = f"{bad} failed" if bad else f"{counts[Outcome.LOST]} lost"
        text += f": {verdict_line(results, header)}"
    elif worst:
        kind, text = Outcome.LOST, f"nothing was tested: {verdict_line(results, header)}"
    banner = _add(main, "p", class_=f"banner {kind}")
    _after(_add(banner, "b", SYMBOLS[kind], class_="mark"), text)


def _kernels(main: ET.Element, results: Sequence[Result], header: RunHeader) -> None:
    cards = _add(main, "section", class_="kernels", aria_label="Kernels")
    for name in targets_of(results):
        own = [result for result in results if result.target == name]
        _card(cards, header.target(name), own)
    legend = _add(main, "ul", class_="legend", aria_label="Legend")
    present = {outcome(result) for result in results}
    for kind in (kind for kind in Outcome if kind in present):
        item = _add(legend, "li")
        _after(_badge(item, kind, str(kind)), f" {_MEANING[kind]}")
    if len(targets_of(results)) > 1:
        item = _add(legend, "li")
        _after(_add(item, "span", class_="sample"), "another answer than the kernel to the left")


def _card(cards: ET.Element, target: Tested, own: Sequence[Result]) -> None:
    card = _add(cards, "article", class_="kernel")
    heading = _add(card, "h3")
    _add(heading, "span", target.name)
    if target.seconds:
        _add(heading, "span", _duration(target.seconds), class_="took")
    _add(card, "p", target.facts() or "never came up")
    if not target.expects_throw:
        _add(card, "p", "has no bpf_throw: the negative control")
    counts = summary(own)
    kinds = [kind for kind in Outcome if counts[kind]]
    words = ", ".join(f"{counts[kind]} {kind}" for kind in kinds)
    bar = _add(card, "div", class_="bar", role="img", aria_label=words)
    for kind in kinds:
        _add(
            bar, "i", class_=str(kind), style=f"flex:{counts[kind]}", title=f"{counts[kind]} {kind}"
        )
    listed = _add(card, "ul", class_="counts")
    for kind in kinds:
        _badge(_add(listed, "li"), kind, f"{counts[kind]} {kind}")


def _badge(parent: ET.Element, kind: Outcome, text: str) -> ET.Element:
    badge = _add(parent, "span", class_=f"badge {kind}")
    _after(_add(badge, "span", SYMBOLS[kind], class_="mark"), text)
    return badge


def _matrix(
    main: ET.Element, results: Sequence[Result], header: RunHeader, anchors: dict[int, str]
) -> None:
    rows = grid.rows(results)
    _add(main, "h2", "Cases and kernels")
    _tools(main, rows)
    frame = _add(main, "div", class_="frame")
    table = _add(frame, "table", class_="matrix")
    line = _add(_add(table, "thead"), "tr")
    for text in ("case", "hook", "simulator"):
        _add(line, "th", text, scope="col")
    for name in targets_of(results):
        _add(_add(line, "th", name, scope="col"), "small", header.target(name).release)
    topics: dict[str, list[grid.Row]] = {}
    for row in rows:
        topics.setdefault(row.topic, []).append(row)
    for number, (topic, own) in enumerate(topics.items()):
        _topic(table, number, topic, own, anchors)
    _add(frame, "p", "no row fits", id="nothing", class_="nothing", hidden="")


def _tools(main: ET.Element, rows: Sequence[grid.Row]) -> None:
    tools = _add(main, "div", class_="tools scripted", hidden="", role="search")
    _add(
        tools, "input", id="search", type="search", placeholder="filter: case, hook, value ( / )",
        aria_label="Filter rows",
    )  # fmt: skip
    kinds = [kind for row in rows for kind in _kinds(row)]
    for kind, text, why in _FILTERS:
        count = len(rows) if kind == "all" else kinds.count(kind)
        pressed = "true" if kind == "all" else "false"
        _add(
            tools, "button", f"{text} {count}", type="button", title=why, data_show=kind,
            aria_pressed=pressed,
        )  # fmt: skip
    hooks = _add(tools, "select", id="hook", aria_label="Hook")
    _add(hooks, "option", "every hook", value="")
    for hook in dict.fromkeys(hook for row in rows for hook in row.hooks):
        _add(hooks, "option", hook, value=hook)
    _add(tools, "button", "fold / unfold", id="fold", type="button")
    _add(tools, "output", f"{len(rows)} rows", id="shown")


def _kinds(row: grid.Row) -> list[str]:
    kinds = {
        "bad": not row.good,
        "varies": row.varies,
        "unsupported": any(cell.outcome is Outcome.UNSUPPORTED for cell in row.cells),
    }
    return [kind for kind, applies in kinds.items() if applies]


def _topic(
    table: ET.Element, number: int, topic: str, rows: Sequence[grid.Row], anchors: dict[int, str]
) -> None:
    group = _add(table, "tbody", class_="group", id=f"t{number}")
    columns = str(3 + len(rows[0].cells))
    heading = _add(_add(group, "tr", class_="topic"), "th", colspan=columns, scope="colgroup")
    button = _add(heading, "button", type="button", aria_expanded="true")
    _add(button, "span", topic)
    _add(button, "span", f"{len(rows)} row{'s' if len(rows) > 1 else ''}", class_="count")
    bad = sum(not row.good for row in rows)
    if bad:
        _badge(button, Outcome.DIFFER, f"{bad} with failures")
    last = ""
    for row in rows:
        _row(group, row, anchors, repeated=row.name == last)
        last = row.name


def _row(group: ET.Element, row: grid.Row, anchors: dict[int, str], *, repeated: bool) -> None:
    hooks = row.hook_names()
    texts = [row.topic, row.name, hooks, row.simulated]
    texts += [word for cell in row.cells for word in (cell.text, str(cell.outcome or ""))]
    line = _add(
        group, "tr", class_="row", data_text=" ".join(texts).lower(), data_name=row.name,
        data_hooks=" ".join(row.hooks), data_kinds=" ".join(_kinds(row)),
    )  # fmt: skip
    _add(line, "th", row.name, scope="row", class_="name again" if repeated else "name")
    _add(line, "td", hooks, class_="hook")
    _add(line, "td", row.simulated, class_="simulated value")
    before = ""
    for cell in row.cells:
        turned = cell.answers and before not in ("", cell.text)
        _cell(line, cell, anchors, turned=turned)
        before = cell.text if cell.answers else before


def _cell(line: ET.Element, cell: grid.Cell, anchors: dict[int, str], *, turned: bool) -> None:
    if cell.outcome is None:
        _add(line, "td", cell.text, class_="cell none")
        return
    why = first_line(cell.results[0].observed.message)
    if not cell.good:
        why = headline(cell.results[0])
    if turned:
        why = f"{why} (another answer than the kernel before)".strip()
    kinds = f"cell {cell.outcome}" + (" turn" if turned else "")
    td = _add(line, "td", class_=kinds, **({"title": why} if why else {}))
    _add(td, "span", SYMBOLS[cell.outcome], class_="mark")
    place = next((anchors[id(r)] for r in cell.results if id(r) in anchors), "")
    if place:
        _add(td, "a", cell.text, href=f"#{place}", class_="value")
    else:
        _add(td, "span", cell.text, class_="value")


def _failures(results: Sequence[Result]) -> list[Result]:
    """Those that have a place of their own: every failure, and one for each reason of a loss."""
    found, told = [], set()
    for result in results:
        kind = outcome(result)
        reason = (result.target, result.observed.message)
        if kind in FAILURES or (kind is Outcome.LOST and reason not in told):
            found.append(result)
            told.add(reason)
    return found[:_DETAILS]


def _details(
    main: ET.Element, results: Sequence[Result], header: RunHeader, anchors: dict[int, str]
) -> None:
    chosen = [result for result in results if id(result) in anchors]
    if not chosen:
        return
    _add(main, "h2", "Failures")
    for result in chosen:
        _failure(main, result, header, anchors[id(result)])
    if len(chosen) == _DETAILS:
        _add(main, "p", f"The first {_DETAILS}; all of them are in the JSON.", class_="nothing")


def _failure(main: ET.Element, result: Result, header: RunHeader, place: str) -> None:
    case = result.case
    block = _add(main, "details", class_="failure", id=place)
    title = _add(block, "summary")
    _badge(title, outcome(result), str(outcome(result)))
    _add(title, "code", case.id)
    _add(title, "span", f"{case.hook} on {result.target}", class_="hook")
    _add(title, "span", headline(result), class_="why")
    inside = _add(block, "div", class_="inside")
    if result.differences:
        _differences(inside, result)
    simulator, kernel = says(result)
    answers = [("simulator", simulator), ("kernel", kernel)]
    answers += [("tried again", again(result))] if result.again is not None else []
    _add(inside, "h4", "Answers")
    _table(inside, ("who", "says"), answers)
    for name, text in evidence(result):
        _add(inside, "h4", name[:1].upper() + name[1:])
        _add(inside, "pre", text)
    _add(inside, "h4", "See it again")
    line = _add(inside, "div", class_="replay")
    _add(line, "pre", replay(result, header.target(result.target).spec))
    _add(line, "button", "copy", type="button", class_="copy scripted", hidden="")


def _differences(inside: ET.Element, result: Result) -> None:
    _add(inside, "h4", "Differences")
    rows = [
        (item.path, f"{item.between[0]}: {item.expected}", f"{item.between[1]}: {item.observed}",
         item.rule)
        for item in result.differences
    ]  # fmt: skip
    _table(inside, ("where", "expected", "observed", "because"), rows)


def _table(parent: ET.Element, titles: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    table = _add(parent, "table")
    line = _add(_add(table, "thead"), "tr")
    for title in titles:
        _add(line, "th", title, scope="col")
    body = _add(table, "tbody")
    for row in rows:
        line = _add(body, "tr")
        for text in row:
            _add(line, "td", text, class_="value")


def _reasons(main: ET.Element, results: Sequence[Result], header: RunHeader) -> None:
    lines = reasons(results, header)
    if not lines:
        return
    _add(main, "h2", "Without a verdict")
    listed = _add(main, "ul", class_="reasons")
    for text in lines:
        _add(listed, "li", text)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{seconds:.1f} s"
