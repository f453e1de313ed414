"""The page: an evaluation as one HTML file that asks nothing of the network."""

from collections.abc import Iterable
from xml.etree import ElementTree as ET

from pipeline.quality import tables
from pipeline.quality.charts import Bar, bar_chart, line_chart, stacked_bar
from pipeline.quality.evaluation import Evaluation
from pipeline.quality.tables import Grid

FEATURES_SHOWN = 25
STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #8886; padding: .15rem .7rem .15rem 0; text-align: right; }
th:first-child, td:first-child { text-align: left; }
section { margin-top: 2.5rem; }
.table { overflow-x: auto; }
figure { margin: 1rem 0; }
figcaption { font-weight: 600; }
svg { width: 100%; height: auto; display: block; margin: .5rem 0; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
"""


def page(evaluation: Evaluation) -> str:
    """Return the HTML text."""
    html = ET.Element("html", lang="en")
    head = ET.SubElement(html, "head")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    title = f"Evaluation of {evaluation.version}"
    ET.SubElement(head, "title").text = title
    ET.SubElement(head, "style").text = STYLE
    body = ET.SubElement(html, "body")
    ET.SubElement(body, "h1").text = title
    _add_notes(body, evaluation)
    charts = _charts(evaluation)
    for grid in tables.grids(evaluation):
        _add_section(body, grid, charts.get(grid.title, ()))
    if evaluation.learning_curve or evaluation.steps:
        _add_section(body, tables.training(evaluation), _learning_charts(evaluation))
    return "<!DOCTYPE html>\n" + ET.tostring(html, encoding="unicode", method="html") + "\n"


def _charts(evaluation: Evaluation) -> dict[str, list[ET.Element]]:
    """Return the charts of each section, by its title."""
    return {
        "Quality": [_quality_chart(evaluation), _gain_chart(evaluation)],
        "Sources": [_recall_chart(evaluation)],
        "Where the played items were lost": [
            stacked_bar("Fates", {each.name: each.share for each in evaluation.fates})
        ],
        "Without a source or a feature group": [_loss_chart(evaluation)],
        "Score and plays": [_calibration_chart(evaluation)],
        "Features": [
            bar_chart(
                "Share of the gain",
                [Bar(each.feature, each.share) for each in evaluation.feature_gains][
                    :FEATURES_SHOWN
                ],
            )
        ],
    }


def _quality_chart(evaluation: Evaluation) -> ET.Element:
    found = [(each.method, each.metrics["ndcg_10"]) for each in evaluation.methods]
    return bar_chart("NDCG@10", [Bar(name, at.mean, at.low, at.high) for name, at in found])


def _gain_chart(evaluation: Evaluation) -> ET.Element:
    curves = {
        method: [(float(place), share) for place, share in enumerate(curve, start=1)]
        for method, curve in evaluation.gain_curves.items()
    }
    return line_chart(
        "Played items found by place", curves, x_label="first places", y_label="share found"
    )


def _recall_chart(evaluation: Evaluation) -> ET.Element:
    bars = [
        bar
        for each in evaluation.sources
        for bar in (Bar(each.source, each.recall), Bar("of that unique", each.unique_recall))
    ]
    return bar_chart("Recall of the sources", bars)


def _loss_chart(evaluation: Evaluation) -> ET.Element:
    found = [(label, each["ndcg_10"]) for label, each in evaluation.losses.items()]
    return bar_chart("NDCG@10 lost", [Bar(name, at.mean, at.low, at.high) for name, at in found])


def _calibration_chart(evaluation: Evaluation) -> ET.Element:
    rates = [(float(at), each.hit_rate) for at, each in enumerate(evaluation.calibration, start=1)]
    return line_chart(
        "Plays by score", {"played": rates}, x_label="tenth by score", y_label="share played"
    )


def _learning_charts(evaluation: Evaluation) -> list[ET.Element]:
    curve = [(float(trees), at) for trees, at in enumerate(evaluation.learning_curve, start=1)]
    if not curve:
        return []
    return [line_chart("Learning curve", {"NDCG@10": curve}, x_label="trees", y_label="NDCG@10")]


def _add_notes(body: ET.Element, evaluation: Evaluation) -> None:
    ET.SubElement(body, "p").text = (
        f"{evaluation.users:,} users with at least {evaluation.min_history} plays, "
        f"{evaluation.new_users:,} with fewer; bootstrap seed {evaluation.seed}."
    )
    notes = ET.SubElement(body, "ul")
    for note in evaluation.notes:
        ET.SubElement(notes, "li").text = note


def _add_section(body: ET.Element, grid: Grid, charts: Iterable[ET.Element]) -> None:
    section = ET.SubElement(body, "section")
    ET.SubElement(section, "h2").text = grid.title
    ET.SubElement(section, "p").text = grid.about
    for chart in charts:
        figure = ET.SubElement(section, "figure")
        ET.SubElement(figure, "figcaption").text = chart.findtext("title")
        figure.append(chart)
    if not grid.rows:
        return
    table = ET.SubElement(ET.SubElement(section, "div", {"class": "table"}), "table")
    _add_row(table, "th", grid.headings)
    for row in grid.rows:
        _add_row(table, "td", row)


def _add_row(table: ET.Element, cell: str, texts: Iterable[str]) -> None:
    row = ET.SubElement(table, "tr")
    for text in texts:
        ET.SubElement(row, cell).text = text
