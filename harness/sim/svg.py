# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Writing SVG: elements, escaped text, and one style sheet for a light and a dark reader.

Owns the mark-up and the look of it; knows neither traces nor packets. A drawing brings its own
background and uses no font, image or script from elsewhere, so that it can be pasted anywhere.
"""

import re
from xml.sax.saxutils import escape, quoteattr

# advance of one character of a monospaced font, in parts of the font's size
_ADVANCE = 0.602
# what XML 1.0 cannot hold, and what would turn the direction of the text
_NOT_XML = re.compile(
    "[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)

_STYLE = """
text { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1f2328 }
.card { fill: #ffffff; stroke: #d0d7de }
.rule { stroke: #d0d7de; fill: none }
.quiet { fill: #59636e }
.strong { font-weight: bold }
.box { fill: #f6f8fa; stroke: #59636e; stroke-width: 1.2 }
.gone { fill: none; stroke: #8c959f; stroke-width: 1.2; stroke-dasharray: 4 3 }
.link { fill: none; stroke: #8c959f; stroke-width: 1.2 }
.back { fill: none; stroke: #1a7f37; stroke-width: 1.6 }
.throw { fill: none; stroke: #cf222e; stroke-width: 2.4 }
.head { fill: #cf222e; stroke: none }
.burst { fill: #ffebe9; stroke: #cf222e; stroke-width: 1.6 }
.handler { fill: #dafbe1; stroke: #1a7f37; stroke-width: 1.6 }
.red { fill: #a40e26 }
.green { fill: #116329 }
.grid { stroke: #d0d7de; stroke-width: 1; stroke-dasharray: 2 3; fill: none }
.axis { stroke: #59636e; stroke-width: 1; fill: none }
"""
_DARK = """
text { fill: #e6edf3 }
.card { fill: #0d1117; stroke: #3d444d }
.rule, .grid { stroke: #3d444d }
.quiet { fill: #9198a1 }
.box { fill: #1c2128; stroke: #9198a1 }
.gone, .link { stroke: #6e7681 }
.back { stroke: #3fb950 }
.throw { stroke: #ff7b72 }
.head { fill: #ff7b72 }
.burst { fill: #3c1618; stroke: #ff7b72 }
.handler { fill: #12261e; stroke: #3fb950 }
.red { fill: #ffa198 }
.green { fill: #7ee787 }
.axis { stroke: #9198a1 }
"""


def width(text: str, size: float) -> float:
    """Width of monospaced text in user units, for a font of `size`."""
    return len(text) * size * _ADVANCE


def fit(text: str, room: float, size: float) -> str:
    """`text`, cut to `room` user units with an ellipsis where it is longer."""
    most = int(room / (size * _ADVANCE))
    if len(text) <= most:
        return text
    return text[: most - 1] + "…" if most > 1 else ""


class Drawing:
    """Elements in the order of drawing; coordinates are user units, y grows downwards."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._definitions: list[str] = []

    def element(self, name: str, content: str = "", /, **attributes: object) -> None:
        """Add any element; `_` at the end or inside of an attribute's name stands for `-`."""
        self._parts.append(_element(name, content, attributes))

    def define(self, name: str, content: str, **attributes: object) -> None:
        """Add an element to <defs>."""
        self._definitions.append(_element(name, content, attributes))

    def rect(self, x: float, y: float, w: float, h: float, kind: str, **more: object) -> None:
        """A rectangle of class `kind`."""
        size: dict[str, object] = {"x": _n(x), "y": _n(y), "width": _n(w), "height": _n(h)}
        self.element("rect", class_=kind, **size, **more)

    def path(self, d: str, kind: str, **more: object) -> None:
        """A path; `d` in SVG's words."""
        self.element("path", class_=kind, d=d, **more)

    def text(self, x: float, y: float, words: str, size: float = 12, kind: str = "",
             **more: object) -> None:  # fmt: skip
        """One line of text, unless it is empty; (x, y) is the left end of its base line."""
        if not words:
            return
        place: dict[str, object] = {"x": _n(x), "y": _n(y), "font_size": _n(size)}
        if kind:
            place["class_"] = kind
        self.element("text", escape(clean(words)), **place, xml__space="preserve", **more)

    def svg(self, w: float, h: float, title: str, extra_style: str = "") -> str:
        """The whole document. `title` is what a screen reader says."""
        style = f"{_STYLE}{extra_style}@media (prefers-color-scheme: dark) {{{_DARK}}}"
        definitions = f"<defs>{''.join(self._definitions)}</defs>\n" if self._definitions else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(w)}" height="{_n(h)}" '
            f'viewBox="0 0 {_n(w)} {_n(h)}" role="img">\n'
            f"<title>{escape(clean(title))}</title>\n<style>{style}</style>\n{definitions}"
            f'<rect class="card" x="0.5" y="0.5" width="{_n(w - 1)}" height="{_n(h - 1)}" '
            'rx="6"/>\n' + "\n".join(self._parts) + "\n</svg>\n"
        )


def clean(text: str) -> str:
    """`text` without what XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def _element(name: str, content: str, attributes: dict[str, object]) -> str:
    said = "".join(
        f" {key.rstrip('_').replace('__', ':').replace('_', '-')}={quoteattr(clean(str(given)))}"
        for key, given in attributes.items()
    )
    return f"<{name}{said}>{content}</{name}>" if content else f"<{name}{said}/>"


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
