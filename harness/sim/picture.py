# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The picture of a run: its call tree, the way of each throw through it, C lines beside it.

Owns the layout. Everything is said without colour too: a frame that vanishes has a dashed border
and a cross, a program a double one, a throw is the thick line. The tree is harness.sim.calltree's,
the mark-up harness.sim.svg's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.sim.calltree import Flight, Node, Tree, fold, trees
from harness.sim.svg import Drawing, fit, width
from harness.sim.trace import Event, Place, TraceEvent

MAX_ROWS = 60
_WIDEST = 980
_NARROWEST = 720
_MARGIN = 16
_TOP = 62
_LEFT = 34
_FRAME_ROW, _LEAF_ROW, _BOX = 32, 24, 23
_NAME, _SMALL = 12.5, 11.0
_MOST_TREE = 560
_LANE = 18


@dataclass(slots=True)
class _Row:
    node: Node
    depth: int
    # middle of the row
    y: float
    x: float
    # right edges of the box and of the words behind it
    box: float = 0
    right: float = 0
    # what is written: name, what follows it in the box, what follows the box
    words: tuple[str, str, str] = ("", "", "")


@dataclass(slots=True)
class _Page:
    tree: Tree
    drawing: Drawing = field(default_factory=Drawing)
    rows: list[_Row] = field(default_factory=list)
    of: dict[Node, _Row] = field(default_factory=dict)
    # x of each throw's way up
    lanes: list[float] = field(default_factory=list)
    bottom: float = 0
    # where the C column starts
    code: float = 0
    width: float = 0


def picture(events: list[TraceEvent], *, title: str, subtitle: str, verdict: str) -> str:
    """An SVG document of a traced run; of several runs the first one that throws, or the last.

    `verdict` is the name of the value that comes out, such as XDP_DROP, or "".
    """
    runs = trees(events)
    if not runs:
        runs = [Tree(Node(Event.RUN, ""))]
    tree = next((t for t in runs if t.flights), runs[-1])
    fold(tree, MAX_ROWS)
    page = _Page(tree)
    _place_rows(page)
    _place_lanes(page)
    _place_code(page)
    _draw_header(page, title, f"{subtitle}, {tree.run}" if tree.run else subtitle)
    _draw_links(page)
    for row in page.rows:
        _draw_row(page, row)
    for flight, lane in zip(tree.flights, page.lanes, strict=True):
        _draw_flight(page, flight, lane)
    _draw_value(page, verdict)
    _draw_legend(page)
    return page.drawing.svg(page.width, page.bottom + _MARGIN, f"{title}: {subtitle}")


# ---- layout --------------------------------------------------------------------------------


def _place_rows(page: _Page) -> None:
    listed = list(page.tree.rows())
    deepest = max((depth for depth, _ in listed), default=0)
    indent = max(16.0, min(26.0, 260 / (deepest + 1)))
    y = float(_TOP)
    for depth, node in listed:
        height = _FRAME_ROW if _is_box(node) else _LEAF_ROW
        row = _Row(node, depth, y + height / 2, _LEFT + depth * indent)
        row.words = _words(node)
        _measure(row)
        page.rows.append(row)
        page.of[node] = row
        y += height
    page.bottom = y


def _measure(row: _Row) -> None:
    name, inside, behind = row.words
    if not _is_box(row.node):
        room = _MOST_TREE - row.x - 12
        row.words = ("", fit(inside, room, _SMALL), "")
        row.box = row.right = row.x + 12 + width(row.words[1], _SMALL)
        if row.node.kind is Event.THROW:
            row.box = row.right = row.right + 12
        return
    name = fit(name, 230, _NAME)
    room = _MOST_TREE - row.x - width(name, _NAME) - width(behind, _SMALL) - 40
    inside = fit(inside, max(room, 0), _SMALL)
    row.words = (name, inside, behind)
    gap = 8 if inside else 0
    row.box = row.x + 18 + width(name, _NAME) + gap + width(inside, _SMALL)
    row.right = row.box + (8 + width(behind, _SMALL) if behind else 0)


def _is_box(node: Node) -> bool:
    return node.kind in (Event.ENTER, Event.DEFAULT)


def _words(node: Node) -> tuple[str, str, str]:
    if node.kind is Event.THROW:
        return "", node.text, ""
    if node.kind is Event.DEFAULT:
        result = f"= {node.result.text}" if node.result else ""
        return "default callback", "", result
    if node.kind is not Event.ENTER:
        if node.count > 1:
            return "", f"{node.name} x{node.count}", ""
        # where a released resource came from is in the C column
        return "", node.text.partition(" acquired at ")[0], ""
    if node.count > 1:
        inside = f"{node.hidden} calls inside" if node.hidden else ""
        return f"{node.name} x{node.count}", inside, ""
    inside = ", ".join(f"{v.name}={v.text}" for v in node.values)
    if node.role != "subprogram":
        inside = f"{node.role}  {inside}"
    return node.name, inside, _outcome(node)


def _outcome(node: Node) -> str:
    hidden = f"  ({node.hidden} calls inside)" if node.hidden else ""
    value = f" = {node.result.text}" if node.result is not None else ""
    if node.end == "replaced":
        words = f"tail call to {fit(node.replaced_by, 150, _SMALL)}"
        return words + (f", value {node.result.text}" if node.result else "") + hidden
    if node.end == "vanished":
        return ("vanishes, the throw ends" if node.boundary else "vanishes") + hidden
    return value.strip() + hidden


def _place_lanes(page: _Page) -> None:
    """Each throw goes up on the right of all rows that it passes; lanes that meet lie apart."""
    taken: list[tuple[float, float, float]] = []
    for flight in page.tree.flights:
        start = page.of[flight.start]
        end = page.of.get(flight.vanished[-1], start) if flight.vanished else start
        inside = [r for r in page.rows if end.y <= r.y <= start.y]
        x = max(r.right for r in inside) + _LANE
        for top, low, other in taken:
            if top <= start.y and end.y <= low and abs(other - x) < 12:
                x = other + 14
        taken.append((end.y, start.y, x))
        page.lanes.append(x)


def _place_code(page: _Page) -> None:
    rights = [r.right for r in page.rows]
    page.code = max([*rights, *page.lanes, 260]) + 26
    places = [r.node.place for r in page.rows if r.node.place is not None]
    short = max((width(p.short, _SMALL) for p in places), default=0)
    code = max((width(p.source, _SMALL) for p in places), default=0)
    wanted = page.code + short + 14 + code + 8 + _MARGIN
    page.width = min(max(wanted, _NARROWEST), max(_WIDEST, page.code + 200))


# ---- drawing -------------------------------------------------------------------------------


def _draw_header(page: _Page, title: str, subtitle: str) -> None:
    room = page.width - 2 * _MARGIN
    page.drawing.text(_MARGIN, 26, fit(title, room, 14), 14, "strong")
    page.drawing.text(_MARGIN, 44, fit(subtitle, room, _SMALL), _SMALL, "quiet")
    page.drawing.path(f"M{_MARGIN} 54H{page.width - _MARGIN:.1f}", "rule")


def _draw_links(page: _Page) -> None:
    """From each caller down to what it calls."""
    handlers = {f.handler for f in page.tree.flights}
    for row in page.rows:
        children = [page.of[c] for c in row.node.children if c not in handlers]
        if not children:
            continue
        trunk, top = row.x + 8, row.y + _BOX / 2
        page.drawing.path(f"M{trunk:.1f} {top:.1f}V{children[-1].y:.1f}", "link")
        for child in children:
            page.drawing.path(f"M{trunk:.1f} {child.y:.1f}H{child.x:.1f}", "link")


def _draw_row(page: _Page, row: _Row) -> None:
    node = row.node
    if _is_box(node):
        _draw_box(page, row)
    elif node.kind is Event.THROW:
        _draw_burst(page, row)
    else:
        kind = {Event.FAULT: "red strong", Event.RELEASE: "green"}.get(node.kind, "quiet")
        mark = {Event.FAULT: "!", Event.RELEASE: "-"}.get(node.kind, "·")
        page.drawing.text(row.x + 2, row.y + 4, mark, _SMALL, kind)
        page.drawing.text(row.x + 12, row.y + 4, row.words[1], _SMALL, kind)
    _draw_code(page, row)


def _draw_box(page: _Page, row: _Row) -> None:
    node, (name, inside, behind) = row.node, row.words
    gone = node.end == "vanished"
    handler = node.kind is Event.DEFAULT or node.role == "exception callback"
    kind = "gone" if gone else "handler" if handler else "box"
    top, span = row.y - _BOX / 2, row.box - row.x
    page.drawing.rect(row.x, top, span, _BOX, kind, rx=_BOX / 2 if handler else 3)
    if node.boundary:
        page.drawing.rect(row.x - 3, top - 3, span + 6, _BOX + 6, "gone" if gone else "link", rx=5)
    page.drawing.text(row.x + 9, row.y + 4.5, name, _NAME, "strong")
    after = row.x + 9 + width(name, _NAME) + 8
    page.drawing.text(after, row.y + 4, inside, _SMALL, "quiet")
    look = "green strong" if handler else "red" if gone else "quiet"
    page.drawing.text(row.box + 8, row.y + 4, behind, _SMALL, look)


def _draw_burst(page: _Page, row: _Row) -> None:
    left, right, half = row.x, row.box, 10
    page.drawing.path(
        f"M{left:.1f} {row.y:.1f}l7 {-half}H{right - 7:.1f}l7 {half}l-7 {half}H{left + 7:.1f}z",
        "burst",
    )
    page.drawing.text(row.x + 12, row.y + 4, row.words[1], _SMALL, "red strong")


def _draw_code(page: _Page, row: _Row) -> None:
    place = row.node.place
    if place is None or not place.file:
        return
    room = page.width - page.code - _MARGIN
    short = fit(place.short, min(room, 170), _SMALL)
    page.drawing.text(page.code, row.y + 4, short, _SMALL, "quiet")
    column = max(width(fit(p.short, min(room, 170), _SMALL), _SMALL) for p in _places(page))
    at = page.code + column + 14
    page.drawing.text(at, row.y + 4, fit(place.source, page.width - at - _MARGIN, _SMALL), _SMALL)


def _places(page: _Page) -> Iterator[Place]:
    return (r.node.place for r in page.rows if r.node.place is not None and r.node.place.file)


def _draw_flight(page: _Page, flight: Flight, lane: float) -> None:
    """Up through the frames that vanish, to the boundary, and down to who takes over."""
    start, drawing = page.of[flight.start], page.drawing
    if not flight.vanished or flight.vanished[-1] not in page.of:
        return
    end = page.of[flight.vanished[-1]]
    target = end.right + 6
    drawing.path(
        f"M{start.box:.1f} {start.y:.1f}H{lane - 6:.1f}q6 0 6 -6V{end.y + 6:.1f}"
        f"q0 -6 -6 -6H{target + 7:.1f}",
        "throw",
    )
    drawing.path(f"M{target:.1f} {end.y:.1f}l9 -5v10z", "head")
    for node in flight.vanished[:-1]:
        if node in page.of:
            y = page.of[node].y
            drawing.path(f"M{lane - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10", "throw")
    if flight.handler in page.of:
        handler = page.of[flight.handler]
        left = end.x - 14
        drawing.path(
            f"M{end.x - 3:.1f} {end.y:.1f}H{left + 6:.1f}q-6 0 -6 6V{handler.y - 6:.1f}"
            f"q0 6 6 6H{handler.x - 8:.1f}",
            "throw",
        )
        drawing.path(f"M{handler.x:.1f} {handler.y:.1f}l-9 -5v10z", "head")


def _draw_value(page: _Page, verdict: str) -> None:
    """What comes out at the end."""
    result = page.tree.result
    if result is None:
        return
    page.bottom += 10
    y, last = page.bottom + 12, page.rows[-1] if page.rows else None
    words = f"value: {result.text}"
    words += f"  {verdict}" if verdict and verdict != str(result.number) else ""
    words += f"  on the wire: {page.tree.wire}" if page.tree.wire else ""
    root = next((r for r in reversed(page.rows) if r.depth == 0), last)
    if root is not None and _is_box(root.node):
        x = root.x + 8
        page.drawing.path(f"M{x:.1f} {root.y + _BOX / 2:.1f}V{y - 13:.1f}", "back")
        page.drawing.path(f"M{x - 4:.1f} {y - 18:.1f}l4 6l4 -6", "back")
    page.drawing.rect(_LEFT, y - 11, width(words, _NAME) + 20, 24, "handler", rx=3)
    page.drawing.text(_LEFT + 10, y + 5, words, _NAME, "strong green")
    page.bottom = y + 14


def _draw_legend(page: _Page) -> None:
    y = page.bottom + 24
    drawing, x = page.drawing, float(_MARGIN)
    drawing.path(f"M{_MARGIN} {y - 14:.1f}H{page.width - _MARGIN:.1f}", "rule")

    def say(words: str, symbol: float) -> None:
        nonlocal x
        drawing.text(x + symbol + 6, y + 4, words, 10, "quiet")
        x += symbol + 6 + width(words, 10) + 18

    drawing.rect(x + 3, y - 5, 18, 10, "box", rx=2)
    drawing.rect(x, y - 8, 24, 16, "link", rx=4)
    say("program: a throw ends here", 24)
    if page.tree.flights:
        drawing.rect(x, y - 6, 20, 12, "gone", rx=2)
        say("frame that a throw takes away", 20)
        drawing.path(f"M{x:.1f} {y:.1f}h22", "throw")
        say("the throw", 22)
        drawing.rect(x, y - 6, 22, 12, "handler", rx=6)
        say("exception callback, value", 22)
    page.bottom = y + 4
