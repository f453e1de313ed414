"""Charts: what is drawn where."""

from xml.etree import ElementTree as ET

import pytest

from pipeline.quality.charts import Bar, Scale, bar_chart, figure, line_chart, stacked_bar


def widths(chart: ET.Element) -> list[float]:
    return [float(rect.get("width", "0")) for rect in chart.iter("rect")]


def texts(chart: ET.Element) -> list[str]:
    return [text.text or "" for text in chart.iter("text")]


def test_bars_are_as_long_as_their_values() -> None:
    chart = bar_chart("t", [Bar("one", 0.1), Bar("two", 0.4)])

    one, two = widths(chart)
    assert two == pytest.approx(4 * one, rel=0.01)
    assert texts(chart) == ["one", "0.1000", "two", "0.4000"]


def test_a_bar_below_zero_goes_to_the_other_side() -> None:
    chart = bar_chart("t", [Bar("gain", 0.2), Bar("loss", -0.2)])

    gain, loss = chart.iter("rect")
    axis = float(list(chart.iter("line"))[-1].get("x1", "0"))
    assert float(gain.get("x", "0")) == pytest.approx(axis)
    assert float(loss.get("x", "0")) + float(loss.get("width", "0")) == pytest.approx(axis, abs=0.2)


def test_whiskers_span_the_interval() -> None:
    chart = bar_chart("t", [Bar("one", 0.2, low=0.1, high=0.4)])

    (bar,) = chart.iter("rect")
    whisker = next(iter(chart.iter("line")))
    start, end = float(whisker.get("x1", "0")), float(whisker.get("x2", "0"))
    origin = float(bar.get("x", "0"))
    assert (end - origin) == pytest.approx(4 * (start - origin), rel=0.01)


def test_lines_rise_with_their_values_and_stay_inside() -> None:
    chart = line_chart(
        "t", {"a": [(1, 0.0), (2, 0.5), (3, 1.0)], "none": []}, x_label="x", y_label="y"
    )

    (line,) = chart.iter("polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    _, _, width, height = map(float, chart.get("viewBox", "").split())
    assert points[0][0] < points[1][0] < points[2][0] <= width
    assert height >= points[0][1] > points[1][1] > points[2][1] >= 0
    assert {"x", "y", "a"} <= set(texts(chart))


def test_the_parts_of_a_stacked_bar_fill_it() -> None:
    chart = stacked_bar("t", {"most": 0.75, "none": 0.0, "rest": 0.25})

    assert texts(chart) == ["75.0% most", "25.0% rest"]
    assert widths(chart)[0] + widths(chart)[2] == pytest.approx(720, abs=0.2)


@pytest.mark.parametrize("points", [[], [(1.0, 0.0)], [(1.0, 0.0), (2.0, 0.0)]])
def test_charts_without_a_spread_are_drawn(points: list[tuple[float, float]]) -> None:
    line_chart("t", {"a": points}, x_label="x", y_label="y")
    bar_chart("t", [Bar("zero", 0.0)])
    bar_chart("t", [])
    stacked_bar("t", {})


def test_a_scale_maps_both_ends() -> None:
    scale = Scale(2.0, 4.0, 100.0, 200.0)

    assert (scale(2.0), scale(3.0), scale(4.0)) == (100.0, 150.0, 200.0)


def test_figures_keep_four_digits_where_they_fit() -> None:
    assert (figure(0.12345), figure(-0.00001), figure(12.34)) == ("0.1235", "-0.0000", "12.3")
