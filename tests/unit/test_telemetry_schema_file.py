"""The telemetry schema as a file: whole, told to people as it is, and able to say no."""

import json
from dataclasses import replace
from typing import Any

import pytest

from meshkit.telemetry.instruments import SECONDS
from tests.telemetry_schema import (
    Emitted,
    Event,
    Point,
    Span,
    never_emitted,
    read_schema,
    unknown,
)
from tests.telemetry_tables import PAGE, page_with_tables

SCHEMA: dict[str, Any] = {
    "resource": {},
    "attributes": {
        "status": {"type": "string", "values": ["OK", "LATE"]},
        "count": {"type": "int"},
        "is_full": {"type": "boolean"},
        "parts": {"type": "string[]", "pattern": "[a-z]+"},
        "code": {"type": "string", "one_of": "gRPC status"},
    },
    "spans": [
        {
            "name": "work",
            "kind": "SERVER",
            "services": ["a"],
            "attributes": ["status"],
            "may_have": ["count", "is_full", "parts", "code"],
            "events": ["oops"],
            "links": ["work"],
        }
    ],
    "events": [{"name": "oops", "attributes": ["count"], "may_have": []}],
    "metrics": [
        {
            "name": "calls",
            "type": "counter",
            "unit": "{call}",
            "attributes": ["status"],
            "services": ["a"],
        }
    ],
}

OTHERS = {"count": 1, "is_full": True, "parts": ["a", "b"], "code": "OK"}
WORK = Span(
    "work",
    "SERVER",
    "a",
    b"t",
    b"1",
    {"status": "OK", **OTHERS},
    [Event("oops", {"count": 1})],
    [b"1"],
)
CALLS = Point("calls", "counter", "{call}", "a", {"status": "LATE"}, is_reached=True)


def emitted(span: Span = WORK, point: Point = CALLS) -> Emitted:
    return Emitted([], [span], [point])


def with_attributes(**attributes: Any) -> Span:
    return replace(WORK, attributes={**WORK.attributes, **attributes})


def test_what_is_as_the_schema_has_it_passes_both_ways() -> None:
    assert unknown(SCHEMA, emitted()) == set()
    assert never_emitted(SCHEMA, emitted()) == set()


@pytest.mark.parametrize(
    ("strange", "fault"),
    [
        (emitted(replace(WORK, name="worq")), "span SERVER worq: of a"),
        (emitted(replace(WORK, kind="CLIENT")), "span CLIENT work: of a"),
        (emitted(replace(WORK, service="b")), "span SERVER work: of b"),
        (emitted(with_attributes(stattus="OK")), "span SERVER work: attribute stattus"),
        (emitted(replace(WORK, attributes={})), "span SERVER work: without status"),
        (emitted(with_attributes(status="FINE")), "span SERVER work: status='FINE'"),
        (emitted(with_attributes(count="1")), "span SERVER work: count='1'"),
        (emitted(with_attributes(count=True)), "span SERVER work: count=True"),
        (emitted(with_attributes(is_full=1)), "span SERVER work: is_full=1"),
        (emitted(with_attributes(parts=["a", "B"])), "span SERVER work: parts=['a', 'B']"),
        (emitted(with_attributes(code="FINE")), "span SERVER work: code='FINE'"),
        (emitted(replace(WORK, events=[Event("ouch", {})])), "span SERVER work: event ouch"),
        (emitted(replace(WORK, events=[Event("oops", {})])), "event oops: without count"),
        (emitted(point=replace(CALLS, name="cals")), "metric cals: of a"),
        (emitted(point=replace(CALLS, service="b")), "metric calls: of b"),
        (emitted(point=replace(CALLS, unit="s")), "metric calls: a counter in s"),
        (emitted(point=replace(CALLS, kind="gauge")), "metric calls: a gauge in {call}"),
        (emitted(point=replace(CALLS, attributes={"x": ""})), "metric calls: attribute x"),
        (
            Emitted([{"host.name": "x"}], [WORK], [CALLS]),
            "resource: attribute host.name",
        ),
    ],
)
def test_whatever_differs_is_named(strange: Emitted, fault: str) -> None:
    assert fault in unknown(SCHEMA, strange)


def test_a_link_to_another_span_is_named() -> None:
    other = replace(WORK, name="rest", span_id=b"2")
    linking = replace(WORK, links=[b"2"])

    assert "span SERVER work: link to rest" in unknown(SCHEMA, Emitted([], [linking, other], []))


@pytest.mark.parametrize(
    ("less", "missing"),
    [
        (Emitted([], [], [CALLS]), "span SERVER work: of a"),
        (emitted(replace(WORK, attributes={})), "span SERVER work: attribute count"),
        (emitted(replace(WORK, events=[])), "span SERVER work: event oops"),
        (emitted(replace(WORK, events=[Event("oops", {})])), "event oops: attribute count"),
        (emitted(replace(WORK, links=[])), "span SERVER work: link to work"),
        (Emitted([], [WORK], []), "metric calls"),
        (emitted(point=replace(CALLS, is_reached=False)), "metric calls"),
        (emitted(point=replace(CALLS, attributes={})), "metric calls: attribute status"),
        (emitted(point=replace(CALLS, attributes={"status": "OK"})), "status='LATE'"),
    ],
)
def test_whatever_never_came_is_named(less: Emitted, missing: str) -> None:
    assert missing in never_emitted(SCHEMA, less)


def attributes_of(schema: dict[str, Any], part: str) -> set[str]:
    return {
        name
        for entry in schema[part]
        for name in (*entry["attributes"], *entry.get("may_have", ()))
    }


def test_every_attribute_is_explained_and_used() -> None:
    schema = read_schema()
    used = set().union(*(attributes_of(schema, part) for part in ("spans", "events", "metrics")))

    assert used == set(schema["attributes"])
    assert all(entry["what"] for entry in (*schema["spans"], *schema["metrics"]))


def test_nothing_is_listed_twice() -> None:
    schema = read_schema()
    spans = [(span["kind"], span["name"]) for span in schema["spans"]]
    metrics = [metric["name"] for metric in schema["metrics"]]

    assert len(set(spans)) == len(spans)
    assert len(set(metrics)) == len(metrics)


def test_metrics_have_only_attributes_with_few_values() -> None:
    schema = read_schema()
    unbounded = {
        name
        for name in attributes_of(schema, "metrics")
        if not {"values", "one_of"} & set(schema["attributes"][name])
    }

    # The version is the one served now; an error's type is a gRPC status there.
    assert unbounded == {"recmesh.bundle.version", "error.type"}


def test_the_page_for_people_says_the_same() -> None:
    page = PAGE.read_text()

    assert page == page_with_tables(page, read_schema()), "run python -m tests.telemetry_tables"
    changed = json.loads(json.dumps(read_schema()).replace("recmesh.tier", "recmesh.rung"))
    assert page != page_with_tables(page, changed)


def test_the_page_names_the_buckets() -> None:
    shown = "0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 150, 250 and 500 ms, 1, 2.5 and 5 s"
    figures = [float(word) for word in shown.replace(",", "").split() if word[0].isdigit()]
    seconds = [figure / 1000 for figure in figures[:16]] + figures[16:]

    assert shown in " ".join(PAGE.read_text().split())
    assert seconds == pytest.approx(SECONDS)
