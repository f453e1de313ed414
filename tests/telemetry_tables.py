"""The tables of docs/telemetry.md: `python -m tests.telemetry_tables` makes them of the schema."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.telemetry_schema import Schema, read_schema

PAGE = Path(__file__).parents[1] / "docs" / "telemetry.md"
BEGIN = "<!-- tables: made of services/telemetry.json by python -m tests.telemetry_tables -->"

Entry = Mapping[str, Any]


def page_with_tables(page: str, schema: Schema) -> str:
    """Return the page with its tables as the schema has them now."""
    return page.partition(BEGIN)[0] + BEGIN + "\n\n" + "\n\n".join(_tables(schema)) + "\n"


def _tables(schema: Schema) -> Iterable[str]:
    yield "## Spans"
    yield _table(
        ("span", "of", "attributes, in brackets those it may lack", "what"), _spans(schema)
    )
    yield "## Metrics"
    yield _table(("metric", "type", "unit", "attributes", "of", "what"), _metrics(schema))
    yield "## Attributes"
    named = {**schema["attributes"], **schema["resource"]}
    yield _table(("attribute", "type", "values", "what"), _attributes(named))


def _spans(schema: Schema) -> Iterable[Sequence[str]]:
    for span in schema["spans"]:
        extras = [f"event `{name}`" for name in span["events"]]
        extras += [f"link to `{name}`" for name in span["links"]]
        what = span["what"] + "".join(f" Has: {extra}." for extra in extras)
        kind = "" if span["kind"] == "INTERNAL" else f" ({span['kind'].lower()})"
        yield f"`{span['name']}`{kind}", _services(span), _names(span), what
    for event in schema["events"]:
        yield f"event `{event['name']}`", "", _names(event), event["what"]


def _metrics(schema: Schema) -> Iterable[Sequence[str]]:
    for metric in schema["metrics"]:
        name, kind, unit = f"`{metric['name']}`", metric["type"], f"`{metric['unit']}`"
        yield name, kind, unit, _names(metric), _services(metric), metric["what"]


def _attributes(named: Mapping[str, Entry]) -> Iterable[Sequence[str]]:
    for name, rule in named.items():
        yield f"`{name}`", rule["type"], _values(rule), rule["what"]


def _values(rule: Entry) -> str:
    if "values" in rule:
        return ", ".join(
            f"`{str(value).lower() if value is True or value is False else value}`"
            for value in rule["values"]
        )
    return str(rule.get("one_of", "any"))


def _names(entry: Entry) -> str:
    always = [f"`{name}`" for name in entry["attributes"]]
    return " ".join([*always, *(f"[`{name}`]" for name in entry.get("may_have", ()))])


def _services(entry: Entry) -> str:
    services = entry["services"]
    return "all" if len(services) == 7 else ", ".join(services)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell for cell in line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(), read_schema()))
