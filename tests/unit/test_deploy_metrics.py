"""Dashboards and alerts ask for metrics that the mesh has, by labels that they have."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
SCHEMA = ROOT / "services" / "telemetry.json"
DASHBOARDS = sorted((COMPOSE / "grafana" / "dashboards").glob("*.json"))
ALERTS = COMPOSE / "alerts.yaml"

OF_EVERY_SERIES = frozenset({"job", "instance", "le"})
NOT_OF_THE_MESH: Mapping[str, frozenset[str]] = {"up": frozenset()}
UNITS = {"s": "_seconds", "1": "_ratio"}
WORDS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or"}) | {
    "unless",
    "bool",
    "offset",
}


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and where it stands."""

    where: str
    expression: str


def metric_names() -> dict[str, frozenset[str]]:
    """Return the labels of every series of the mesh, by its name in Prometheus."""
    metrics = json.loads(SCHEMA.read_text())["metrics"]
    return {
        series: frozenset(attribute.replace(".", "_") for attribute in metric["attributes"])
        for metric in metrics
        for series in in_prometheus(metric["name"], metric["type"], metric["unit"])
    }


def in_prometheus(name: str, kind: str, unit: str) -> tuple[str, ...]:
    """Return the series that the collector's Prometheus exporter makes of a metric."""
    # A unit in braces is a note; "1" is spelled out for gauges only.
    suffix = UNITS.get(unit, "") if kind == "gauge" or unit != "1" else ""
    base = name.replace(".", "_") + suffix
    if kind == "histogram":
        return tuple(f"{base}_{part}" for part in ("bucket", "count", "sum"))
    return (f"{base}_total",) if kind == "counter" else (base,)


def dashboard_queries(path: Path) -> Iterator[Query]:
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield Query(f"{path.name}: {panel['title']}", target["expr"])


def alert_queries() -> list[Query]:
    # An expression is one line, or folded lines that are further in.
    rule = re.compile(r"- alert: (\w+)\n +expr: (?:>-\n)?((?:.+\n)+?) +(?:for|labels):")
    return [Query(name, expression) for name, expression in rule.findall(ALERTS.read_text())]


def metrics_in(expression: str) -> set[str]:
    """Return the names of the series that a PromQL expression selects."""
    rest = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", expression)
    rest = re.sub(r"\b(by|without|on|ignoring|group_left|group_right) *\([^)]*\)", " ", rest)
    names = re.findall(r"\b[a-z_][a-zA-Z0-9_]*\b(?! *\()", rest)
    return set(names) - WORDS


def labels_in(expression: str) -> set[str]:
    """Return the labels that a PromQL expression matches or groups by."""
    matched = re.findall(r"[{,] *([a-z_]+) *(?:=~|!~|!=|=)", expression)
    groups = re.findall(r"\b(?:by|on|without|ignoring) *\(([^)]*)\)", expression)
    return set(matched) | {label.strip() for group in groups for label in group.split(",")}


QUERIES = [
    *alert_queries(),
    *(query for dashboard in DASHBOARDS for query in dashboard_queries(dashboard)),
]


def test_there_are_queries_to_check() -> None:
    assert {path.stem for path in DASHBOARDS} == {
        "mesh",
        "sources",
        "ranker",
        "bundles",
        "dynamodb",
    }
    assert len(alert_queries()) == ALERTS.read_text().count("- alert: ")
    assert all(metrics_in(query.expression) for query in QUERIES)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_a_query_names_only_metrics_and_labels_of_the_schema(query: Query) -> None:
    known = {**metric_names(), **NOT_OF_THE_MESH}
    used = metrics_in(query.expression)

    assert used <= known.keys(), f"{query.where}: no metric is called {used - known.keys()}"
    labels = OF_EVERY_SERIES.union(*(known[name] for name in used))
    assert labels_in(query.expression) <= labels, query.where


def test_every_metric_of_the_schema_is_on_a_dashboard() -> None:
    used: set[str] = set().union(
        *(
            metrics_in(query.expression)
            for dashboard in DASHBOARDS
            for query in dashboard_queries(dashboard)
        )
    )
    metrics = json.loads(SCHEMA.read_text())["metrics"]
    unseen = {
        metric["name"]
        for metric in metrics
        if used.isdisjoint(in_prometheus(metric["name"], metric["type"], metric["unit"]))
    }

    assert unseen == set()


def test_a_metric_that_was_renamed_is_noticed() -> None:
    assert metrics_in("sum by (job) (rate(recmesh_answer_total[5m])) / on (job) up") == {
        "recmesh_answer_total",
        "up",
    }
    assert "recmesh_answer_total" not in metric_names()


def test_a_label_that_was_renamed_is_noticed() -> None:
    assert labels_in('sum by (le, job) (rate(a_total{tier="x",other!~"y|z"}[5m]))') == {
        "le",
        "job",
        "tier",
        "other",
    }


def test_every_alert_has_a_test() -> None:
    tests = (COMPOSE / "alerts.test.yaml").read_text()

    fired = set(re.findall(r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:", tests))
    assert fired == {query.where for query in alert_queries()}


def test_panels_do_not_overlap_and_have_a_description() -> None:
    for path in DASHBOARDS:
        panels = json.loads(path.read_text())["panels"]
        cells = [
            (x, y)
            for panel in panels
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(cells) == len(set(cells)), path.name
        assert all(panel["type"] == "row" or panel["description"] for panel in panels), path.name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_alerts_pass_their_own_tests() -> None:
    for arguments in (
        ("check", "config", "prometheus.yaml"),
        ("test", "rules", "alerts.test.yaml"),
    ):
        run = subprocess.run(
            ["promtool", *arguments],  # noqa: S607  wherever it is installed
            cwd=COMPOSE,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
