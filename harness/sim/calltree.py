# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Events of a trace as a tree of calls, with each throw's way through it; big trees folded.

Owns what belongs together: a frame with its end, a throw with the frames that it takes away, the
callback that takes over. Knows nothing of drawing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.sim.trace import Event, Place, Shown, TraceEvent

_REPEATED = 3


@dataclass(slots=True, eq=False)
class Node:
    """One row of the tree."""

    # ENTER: a frame; CALL, THROW, RELEASE, DEFAULT, FAULT, NOTE: a leaf
    kind: Event
    name: str
    # "program", "subprogram", "callback", "exception callback"; "" for leaves
    role: str = ""
    text: str = ""
    # the call in C; of a program or exception callback its own first line
    place: Place | None = None
    values: tuple[Shown, ...] = ()
    result: Shown | None = None
    # of a frame: "returned", "vanished", "replaced" (tail call), or "live" at a fault
    end: str = "live"
    # a program: throws stop here
    boundary: bool = False
    # program that came in its place
    replaced_by: str = ""
    # how many rows this one stands for
    count: int = 1
    # calls below that are not shown
    hidden: int = 0
    children: list["Node"] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Flight:
    """One throw: where it starts, what it takes away, who takes over."""

    cookie: int
    start: Node
    # innermost first; the last one is the boundary
    vanished: list[Node] = field(default_factory=list)
    # the exception callback, or the default one
    handler: Node | None = None


@dataclass(slots=True)
class Tree:
    """One run."""

    root: Node
    flights: list[Flight] = field(default_factory=list)
    # value that the consumer sees; None after a fault
    result: Shown | None = None
    # what it means on a live hook
    wire: str = ""
    # "run 2 of 5", or ""
    run: str = ""

    def rows(self) -> Iterator[tuple[int, Node]]:
        """All nodes below the root from top to bottom, with their depth."""
        stack = [(0, child) for child in reversed(self.root.children)]
        while stack:
            depth, node = stack.pop()
            yield depth, node
            stack.extend((depth + 1, child) for child in reversed(node.children))


def trees(events: list[TraceEvent]) -> list[Tree]:
    """A tree for each run of a trace."""
    made: list[_Builder] = []
    for event in events:
        if not made or event.kind is Event.RUN or (made[-1].closed and event.kind is Event.ENTER):
            made.append(_Builder())
        made[-1].take(event)
    return [builder.tree for builder in made if builder.tree.root.children]


@dataclass(slots=True)
class _Builder:
    tree: Tree = field(default_factory=lambda: Tree(Node(Event.RUN, "")))
    # live frames, outermost first; an event at depth n belongs to the n-th
    open: list[Node] = field(default_factory=list)
    frames: dict[int, Node] = field(default_factory=dict)
    flight: Flight | None = None
    closed: bool = False

    def take(self, event: TraceEvent) -> None:
        if event.kind is Event.RUN:
            self.tree.run = event.text.rstrip(":")
        elif event.kind is Event.ENTER:
            self._enter(event)
        elif event.kind in (Event.LEAVE, Event.VANISH):
            self._end(event)
        elif event.kind is Event.REPLACE:
            self._replace(event)
        elif event.kind is Event.RESULT:
            self.tree.result, self.closed = event.result, True
        elif event.kind is Event.WIRE:
            self.tree.wire = event.name
        elif event.kind in _LEAVES:
            self._leaf(event)

    def _parent(self, event: TraceEvent) -> Node:
        if event.kind is Event.FAULT and event.frame in self.frames:
            return self.frames[event.frame]
        return self.open[event.depth - 1] if 0 < event.depth <= len(self.open) else self.tree.root

    def _enter(self, event: TraceEvent) -> None:
        own = event.place.function if event.place is not None else "?"
        at = event.caller or event.place
        node = Node(Event.ENTER, own, event.role, event.text, at, event.values)
        node.boundary = event.role == "program"
        self._parent(event).children.append(node)
        del self.open[event.depth :]
        self.open.append(node)
        self.frames[event.frame] = node
        if event.role == "exception callback":
            self._handled(node)

    def _handled(self, node: Node) -> None:
        if self.flight is not None:
            self.flight.handler = node
            self.flight = None

    def _end(self, event: TraceEvent) -> None:
        node = self.frames.get(event.frame)
        if node is None:
            return
        if event.kind is Event.LEAVE:
            node.end = "replaced" if node.replaced_by else "returned"
            node.result = event.result
        else:
            node.end = "vanished"
            if self.flight is not None:
                self.flight.vanished.append(node)

    def _replace(self, event: TraceEvent) -> None:
        if "(freplace)" in event.text:
            note = Node(Event.NOTE, event.name, text=event.text, place=event.place)
            self._parent(event).children.append(note)
        elif (node := self.frames.get(event.frame)) is not None:
            node.replaced_by = event.name

    def _leaf(self, event: TraceEvent) -> None:
        name = event.name or str(event.kind)
        node = Node(event.kind, name, "", event.text, event.place, event.values, event.result)
        self._parent(event).children.append(node)
        if event.kind is Event.THROW:
            self.flight = Flight(event.cookie or 0, node)
            self.tree.flights.append(self.flight)
        elif event.kind is Event.DEFAULT:
            self._handled(node)


_LEAVES = frozenset(
    {Event.CALL, Event.THROW, Event.RELEASE, Event.DEFAULT, Event.FAULT, Event.NOTE}
)


# ---- folding -------------------------------------------------------------------------------


def fold(tree: Tree, most_rows: int) -> None:
    """Make the tree small, in place: the ways of throws stay, what is beside them is counted.

    Rows that repeat become one; then whole subtrees, deepest first, until `most_rows` is reached
    or only the ways of throws are left.
    """
    kept = _kept(tree)
    for node in [tree.root, *(n for _, n in tree.rows())]:
        node.children = list(_merged(node.children, kept))
    while True:
        rows = list(tree.rows())
        if len(rows) <= most_rows:
            return
        foldable = [(d, n) for d, n in rows if n.children and n not in kept]
        if foldable:
            deepest = max(d for d, _ in foldable)
            for _, node in (x for x in foldable if x[0] == deepest):
                node.hidden += _size(node)
                node.children = []
        elif not _shorten(tree, kept):
            return


def _kept(tree: Tree) -> set[Node]:
    """Rows on the way of a throw, and their callers. Of many throws the first two and the last."""
    shown = tree.flights if len(tree.flights) <= 3 else [*tree.flights[:2], tree.flights[-1]]
    tree.flights[:] = shown
    marked: set[Node] = set()
    for flight in shown:
        marked |= {flight.start, *flight.vanished}
        if flight.handler is not None:
            marked.add(flight.handler)
    for _, node in reversed(list(tree.rows())):  # children before their parents
        if any(child in marked or child.kind is Event.FAULT for child in node.children):
            marked.add(node)
        if node.kind in (Event.FAULT, Event.RELEASE):
            marked.add(node)
    return marked


def _merged(nodes: list[Node], kept: set[Node]) -> Iterator[Node]:
    """Runs of the same call become one row that counts them."""
    index = 0
    while index < len(nodes):
        end = index
        while (
            end < len(nodes)
            and nodes[end] not in kept
            and (nodes[end].kind, nodes[end].name) == (nodes[index].kind, nodes[index].name)
        ):
            end += 1
        if end - index >= _REPEATED:
            first = nodes[index]
            first.count = end - index
            first.hidden = sum(_size(n) for n in nodes[index:end])
            first.children = []
            yield first
        else:
            end = max(end, index + 1)
            yield from nodes[index:end]
        index = end


def _shorten(tree: Tree, kept: set[Node]) -> bool:
    """Fold the longest run of rows beside the throws into one. False where there is none."""
    best: tuple[int, Node, int] = (1, tree.root, 0)
    for node in [tree.root, *(n for _, n in tree.rows())]:
        start = None
        for index, child in enumerate([*node.children, None]):
            if child is not None and child not in kept:
                start = index if start is None else start
            elif start is not None:
                best = max(best, (index - start, node, start), key=lambda b: b[0])
                start = None
    length, node, start = best
    if length < 2:
        return False
    gone = node.children[start : start + length]
    count = sum(n.count + n.hidden for n in gone)
    node.children[start : start + length] = [Node(Event.NOTE, "", text=f"… {count} more calls")]
    return True


def _size(node: Node) -> int:
    """Rows below a node."""
    total, stack = 0, list(node.children)
    while stack:
        child = stack.pop()
        total += child.count + child.hidden
        stack.extend(child.children)
    return total
