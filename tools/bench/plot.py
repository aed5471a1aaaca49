"""A plot of percentiles as SVG: how long the slowest share of requests took, for each system.

Written by hand, so that no library has to be installed: two logarithmic axes, a line for each
system. It has a background of its own, so that it can be read on a dark page as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from slices import percentile

__all__ = ["percentile_plot"]

_WIDTH, _HEIGHT = 760, 430
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 34, 48
_COLOURS = ("#7f7f7f", "#1f77b4", "#17becf", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")
_TICKS = (0.0, 50.0, 90.0, 99.0, 99.9)
_PER_DECADE = 30
_FONT = "font-family='sans-serif' font-size='12'"


def percentile_plot(title: str, samples: Mapping[str, list[float]]) -> str:
    """``samples`` are microseconds in order of size, of at least one system."""
    low = min(each[0] for each in samples.values())
    high = max(percentile(each, _share(_depth(each))) for each in samples.values())
    scale = _Scale(low, high, max(_depth(each) for each in samples.values()))
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' {_FONT}>",
        f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='white'/>",
        f"<text x='{_LEFT}' y='20' font-size='14'>{escape(title)}</text>",
        *_grid(scale),
        *_lines(scale, samples),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Scale:
    """Where a percentile and a time are on the paper. ``depth`` is how many nines are shown."""

    def __init__(self, low: float, high: float, depth: float) -> None:
        self.low, self.high, self.depth = math.log10(low), math.log10(high), depth

    def x(self, depth: float) -> float:
        return _LEFT + depth / self.depth * (_WIDTH - _LEFT - _RIGHT)

    def y(self, microseconds: float) -> float:
        share = (math.log10(microseconds) - self.low) / max(self.high - self.low, 0.01)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _depth(ordered: list[float]) -> float:
    """How many nines so many samples can tell: ten of them are slower still."""
    return max(1.0, math.log10(len(ordered) / 10))


def _share(depth: float) -> float:
    """The share of requests that are quicker: 0.9 at a depth of 1."""
    return float(1 - 10**-depth)


def _grid(scale: _Scale) -> list[str]:
    parts = []
    for tick in _TICKS:
        depth = -math.log10(1 - tick / 100)
        if depth <= scale.depth:
            x = scale.x(depth)
            parts.append(_line(x, _TOP, x, _HEIGHT - _BOTTOM))
            parts.append(_text(x, _HEIGHT - _BOTTOM + 18, f"{tick:g}", "middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, "percentile", "middle"))
    for value in _round_values(10**scale.low, 10**scale.high):
        y = scale.y(value)
        parts.append(_line(_LEFT, y, _WIDTH - _RIGHT, y))
        parts.append(_text(_LEFT - 6, y + 4, f"{value:,.0f}", "end"))
    parts.append(_text(_LEFT - 6, _TOP - 6, "us", "end"))
    return parts


def _round_values(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … between the two."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [figure * 10.0**decade for decade in decades for figure in (1, 2, 5)]
    return [value for value in values if low <= value <= high]


def _lines(scale: _Scale, samples: Mapping[str, list[float]]) -> list[str]:
    parts = []
    by_median = sorted(samples.items(), key=lambda item: -item[1][len(item[1]) // 2])
    colours = dict(zip(samples, _COLOURS * len(samples), strict=False))
    for row, (name, ordered) in enumerate(by_median):
        steps = int(_depth(ordered) * _PER_DECADE)
        depths = [step / _PER_DECADE for step in range(steps + 1)]
        points = [(scale.x(d), scale.y(percentile(ordered, _share(d)))) for d in depths]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        colour = colours[name]
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        y, x = _TOP + 8 + row * 18, _WIDTH - _RIGHT + 14
        parts.append(f"<rect x='{x}' y='{y - 6}' width='14' height='4' fill='{colour}'/>")
        parts.append(_text(x + 20, y, name, "start"))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='#dddddd'/>"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{escape(text)}</text>"
