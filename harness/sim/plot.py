# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The plot of a capture: what became of packets over time, as stacked bars.

Owns bins, scales and patterns; each verdict has a colour and a pattern of its own, and the legend
says both with the number of packets. The mark-up is harness.sim.svg's.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from harness.sim import verdicts
from harness.sim.svg import Drawing, fit, width
from harness.sim.tally import Timeline

_WIDTH, _HEIGHT = 960, 410
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 20, 102, 52
_BARS = 120
# series that get a pattern of their own; the rest is "other"
_SERIES = 6
_COLOURS = ("#1a7f37", "#cf222e", "#0969da", "#bf8700", "#8250df", "#1b7c83", "#6e7781")
# strokes over a colour, in a tile of 8 x 8
_PATTERNS = (
    "",
    "M0 8L8 0M-2 2L2 -2M6 10L10 6",
    "M0 4H8",
    "M4 0V8",
    "M0 0L8 8M-2 6L2 10M6 -2L10 2",
    "M0 4H8M4 0V8",
    "M2 2h1M6 6h1",
)
# the usual verdicts look the same in every plot
_USUAL = {
    "XDP_PASS": 0, "TC_ACT_OK": 0, "pass": 0, "XDP_DROP": 1, "TC_ACT_SHOT": 1, "drop": 1,
    "XDP_TX": 2, "TC_ACT_UNSPEC": 2, "XDP_REDIRECT": 3, "TC_ACT_REDIRECT": 3, "XDP_ABORTED": 4,
}  # fmt: skip
_OTHER = -1
_UNITS = (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1000), ("ns", 1))


@dataclass(frozen=True, slots=True)
class _Bars:
    # start of the first bar and width of all
    start_ns: int
    width_ns: int
    # one for each bar: return value (or _OTHER) -> packets
    counts: list[Counter[int]]
    # return values, the most frequent first; _OTHER last
    series: list[int]
    totals: Counter[int]
    # index in _COLOURS and _PATTERNS of each of the series
    looks: list[int]


def plot(timeline: Timeline, program_type: str, *, title: str, subtitle: str) -> str:
    """An SVG document: packets per interval by verdict, since the first packet."""
    bars = _bars(timeline, program_type)
    drawing = Drawing()
    _define_patterns(drawing)
    drawing.text(16, 26, fit(title, _WIDTH - 32, 14), 14, "strong")
    drawing.text(16, 42, fit(subtitle, _WIDTH - 32, 11), 11, "quiet")
    _draw_legend(drawing, bars, program_type)
    most = max((c.total() for c in bars.counts), default=0)
    top = _draw_scale(drawing, most)
    _draw_time(drawing, bars)
    _draw_bars(drawing, bars, top)
    _axis_titles(drawing, bars)
    return drawing.svg(_WIDTH, _HEIGHT, f"{title}: {subtitle}")


def _bars(timeline: Timeline, program_type: str) -> _Bars:
    totals: Counter[int] = Counter()
    for counted in timeline.bins.values():
        totals.update(counted)
    listed = [value for value, _ in totals.most_common()]
    series = listed if len(listed) <= _SERIES + 1 else [*listed[:_SERIES], _OTHER]
    if not timeline.bins:
        return _Bars(0, 1, [], [], totals, [])
    first, last = min(timeline.bins), max(timeline.bins)
    each = round(_nice((last - first + 1) / _BARS)) if last - first >= _BARS else 1
    counts = [Counter[int]() for _ in range((last - first) // each + 1)]
    for place, counted in timeline.bins.items():
        for value, packets in counted.items():
            counts[(place - first) // each][value if value in series else _OTHER] += packets
    start, span = first * timeline.width_ns, each * timeline.width_ns
    return _Bars(start, span, counts, series, totals, _looks(series, program_type))


def _looks(series: list[int], program_type: str) -> list[int]:
    usual = [_USUAL.get(verdicts.name(program_type, value)) for value in series]
    free = iter(index for index in range(len(_COLOURS)) if index not in usual)
    return [next(free) if index is None else index for index in usual]


def _define_patterns(drawing: Drawing) -> None:
    for index in range(len(_COLOURS)):
        tile = f'<rect width="8" height="8" fill="{_COLOURS[index]}"/>'
        if _PATTERNS[index]:
            tile += (
                f'<path d="{_PATTERNS[index]}" stroke="#ffffff" stroke-width="1.6" '
                'stroke-opacity="0.75" fill="none"/>'
            )
        drawing.define("pattern", tile, id=f"s{index}", width=8, height=8,
                       patternUnits="userSpaceOnUse")  # fmt: skip


def _draw_legend(drawing: Drawing, bars: _Bars, program_type: str) -> None:
    x, y, total = float(_LEFT), 68, max(bars.totals.total(), 1)
    known = sum(bars.totals[v] for v in bars.series if v != _OTHER)
    for index, value in zip(bars.looks, bars.series, strict=True):
        packets = total - known if value == _OTHER else bars.totals[value]
        name = "other values" if value == _OTHER else verdicts.name(program_type, value)
        words = f"{name} {packets} ({100 * packets / total:.1f} %)"
        if x + 24 + width(words, 11) > _WIDTH - _RIGHT and x > _LEFT:
            x, y = float(_LEFT), y + 19
        drawing.rect(x, y - 10, 16, 12, "axis", style=f"fill:url(#s{index})")
        drawing.text(x + 22, y, words, 11)
        x += 22 + width(words, 11) + 20


def _draw_scale(drawing: Drawing, most: int) -> float:
    """Horizontal lines with numbers; the value at the top of the plot."""
    step = _nice(most / 4) if most else 1
    step = max(step, 1)
    top = math.ceil(max(most, 1) / step) * step
    for index in range(round(top / step) + 1):
        value = index * step
        y = _y(value, top)
        drawing.path(f"M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}", "axis" if not index else "grid")
        label = f"{value:g}" if value < 1_000_000 else f"{value / 1_000_000:g} M"
        drawing.text(_LEFT - 8, y + 4, label, 11, "quiet", text_anchor="end")
    return float(top)


def _draw_time(drawing: Drawing, bars: _Bars) -> None:
    """Marks on the time axis, counted from the first bar."""
    span = max(len(bars.counts), 1) * bars.width_ns
    _, unit_ns = _unit(span)
    step = _nice(span / unit_ns / 8)
    index = 0
    while index * step * unit_ns <= span:
        x = _LEFT + index * step * unit_ns / span * (_WIDTH - _LEFT - _RIGHT)
        drawing.path(f"M{x:.1f} {_HEIGHT - _BOTTOM}v5", "axis")
        drawing.text(x, _HEIGHT - _BOTTOM + 18, f"{index * step:g}", 11, "quiet",
                     text_anchor="middle")  # fmt: skip
        index += 1


def _draw_bars(drawing: Drawing, bars: _Bars, top: float) -> None:
    room = (_WIDTH - _LEFT - _RIGHT) / max(len(bars.counts), 1)
    gap = 1.0 if room > 4 else 0.0
    most = min(room - gap, 48.0)
    for index, counted in enumerate(bars.counts):
        low = 0
        left = _LEFT + index * room + (room - most) / 2
        for number, value in _stacked(bars, counted):
            y, base = _y(low + value, top), _y(low, top)
            drawing.rect(left, y, most, base - y, "bar", style=f"fill:url(#s{number})")
            low += value


def _stacked(bars: _Bars, counted: Counter[int]) -> Iterator[tuple[int, int]]:
    pairs = zip(bars.looks, bars.series, strict=True)
    return ((look, counted[value]) for look, value in pairs if counted[value])


def _axis_titles(drawing: Drawing, bars: _Bars) -> None:
    span = max(len(bars.counts), 1) * bars.width_ns
    unit, _ = _unit(span)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    drawing.text(middle, _HEIGHT - 12, f"time since the first packet [{unit}]", 11, "quiet",
                 text_anchor="middle")  # fmt: skip
    small, small_ns = _unit(bars.width_ns)
    words = f"packets per {bars.width_ns / small_ns:.3g} {small}"
    y = (_TOP + _HEIGHT - _BOTTOM) / 2
    drawing.text(18, y, words, 11, "quiet", text_anchor="middle",
                 transform=f"rotate(-90 18 {y:.0f})")  # fmt: skip


def _unit(span_ns: int) -> tuple[str, int]:
    return next(((name, size) for name, size in _UNITS if span_ns >= size), _UNITS[-1])


def _nice(number: float) -> float:
    """1, 2 or 5 times a power of ten, not below `number`."""
    if number <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(number))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= number * 0.999)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)
