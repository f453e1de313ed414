"""Charts as inline SVG: bars with whiskers, lines, and one stacked bar. No script, no library.

How this works. A chart is an `ElementTree` element, so text is escaped and tags are closed by the
standard library. Colours are Okabe and Ito's, which colour-blind readers tell apart; text and axes
take the page's own colour.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999999")
WIDTH = 720
LABEL_WIDTH = 210
BAR_HEIGHT, BAR_STEP = 14, 22
PLOT_HEIGHT, MARGIN, TOP = 240, 60, 14
TICKS = 5

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `low` and `high` are its whisker."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to a span of pixels."""

    least: float
    most: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        span = self.most - self.least or 1.0
        return self.start + (value - self.least) / span * (self.end - self.start)


def bar_chart(title: str, bars: Sequence[Bar]) -> ET.Element:
    """Return horizontal bars from 0, a label and a value each; values may be below 0."""
    height = TOP + BAR_STEP * len(bars) + 4
    chart = _svg(title, height)
    ends = [
        0.0,
        *(end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None),
    ]
    x = Scale(min(ends), max(ends), LABEL_WIDTH, WIDTH - 70)
    for place, bar in enumerate(bars):
        y = TOP + BAR_STEP * place
        _text(chart, bar.label, LABEL_WIDTH - 8, y + 11, anchor="end")
        left, right = sorted((x(0.0), x(bar.value)))
        _rect(chart, left, y, right - left, BAR_HEIGHT, COLOURS[0])
        if bar.low is not None and bar.high is not None:
            _whisker(chart, x(bar.low), x(bar.high), y + BAR_HEIGHT / 2)
        beside = max(right, x(bar.high) if bar.high is not None else right)
        _text(chart, figure(bar.value), beside + 6, y + 11)
    _line(chart, x(0.0), TOP - 4, x(0.0), height - 4)
    return chart


def line_chart(
    title: str, series: Mapping[str, Sequence[Point]], *, x_label: str, y_label: str
) -> ET.Element:
    """Return lines with axes and a legend; a series without points is left out."""
    drawn = {name: points for name, points in series.items() if points}
    chart = _svg(title, TOP + PLOT_HEIGHT + 50 + 16 * len(drawn))
    x, y = _axes(chart, [point for points in drawn.values() for point in points])
    bottom = TOP + PLOT_HEIGHT
    _text(chart, x_label, (MARGIN + WIDTH) / 2, bottom + 34, anchor="middle")
    _text(chart, y_label, 4, TOP - 3)
    for place, (name, points) in enumerate(drawn.items()):
        colour = COLOURS[place % len(COLOURS)]
        ET.SubElement(
            chart,
            "polyline",
            points=" ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in points),
            fill="none",
            stroke=colour,
        ).set("stroke-width", "2")
        _rect(chart, MARGIN, bottom + 44 + 16 * place, 12, 10, colour)
        _text(chart, name, MARGIN + 18, bottom + 53 + 16 * place)
    return chart


def stacked_bar(title: str, parts: Mapping[str, float]) -> ET.Element:
    """Return one bar of parts that add up to 1, with a legend of those above 0."""
    shown = {name: share for name, share in parts.items() if share > 0}
    chart = _svg(title, TOP + 40 + 18 * len(shown))
    x = Scale(0.0, 1.0, 0.0, WIDTH)
    start = 0.0
    for place, (name, share) in enumerate(shown.items()):
        colour = COLOURS[place % len(COLOURS)]
        _rect(chart, x(start), TOP, x(share) - x(0.0), 24, colour)
        start += share
        _rect(chart, 0, TOP + 36 + 18 * place, 12, 10, colour)
        _text(chart, f"{share:.1%} {name}", 18, TOP + 45 + 18 * place)
    return chart


def figure(value: float) -> str:
    """Return a value as figures are shown: four digits behind the point, or fewer where large."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"  # noqa: PLR2004 - digits that fit


def _bar_scale(bars: Sequence[Bar]) -> Scale:
    said = [end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None]
    return Scale(min([0.0, *said]), max([0.0, *said]), LABEL_WIDTH, WIDTH - 70)


def _axes(chart: ET.Element, points: Sequence[Point]) -> tuple[Scale, Scale]:
    """Draw both axes with ticks and return their scales; y begins at 0, or below."""
    xs, ys = [px for px, _ in points] or [0.0], [py for _, py in points] or [0.0]
    right, bottom = WIDTH - 16, TOP + PLOT_HEIGHT
    x = Scale(min(xs), max(xs), MARGIN, right)
    y = Scale(min([0.0, *ys]), max(ys) or 1.0, bottom, TOP + 8)
    _line(chart, MARGIN, bottom, right, bottom)
    _line(chart, MARGIN, TOP, MARGIN, bottom)
    for tick in _ticks(x.least, x.most):
        _text(chart, f"{tick:.3g}", x(tick), bottom + 16, anchor="middle")
    for tick in _ticks(y.least, y.most):
        _text(chart, f"{tick:.3g}", MARGIN - 6, y(tick) + 4, anchor="end")
    return x, y


def _ticks(least: float, most: float) -> list[float]:
    """Return up to about `TICKS` round values between both."""
    span = most - least
    if span <= 0:
        return [least]
    step = 10.0 ** math.floor(math.log10(span / TICKS))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= TICKS)
    return [n * step for n in range(math.ceil(least / step), math.floor(most / step) + 1)]


def _svg(title: str, height: float) -> ET.Element:
    chart = ET.Element("svg", viewBox=f"0 0 {WIDTH} {height:g}", role="img")
    ET.SubElement(chart, "title").text = title
    return chart


def _text(chart: ET.Element, text: str, x: float, y: float, *, anchor: str = "start") -> None:
    label = ET.SubElement(chart, "text", x=f"{x:.1f}", y=f"{y:.1f}")
    label.set("text-anchor", anchor)
    label.text = text


def _rect(chart: ET.Element, x: float, y: float, width: float, height: float, fill: str) -> None:
    sizes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "height": f"{height:g}", "fill": fill}
    ET.SubElement(chart, "rect", {**sizes, "width": f"{max(width, 0.5):.1f}"})


def _line(chart: ET.Element, x1: float, y1: float, x2: float, y2: float) -> None:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    written = {name: f"{at:.1f}" for name, at in ends.items()}
    ET.SubElement(chart, "line", {**written, "stroke": "currentColor"})


def _whisker(chart: ET.Element, low: float, high: float, y: float) -> None:
    _line(chart, low, y, high, y)
    for end in (low, high):
        _line(chart, end, y - 4, end, y + 4)
