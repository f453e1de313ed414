"""What a person reads of a recommendation."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from meshctl.slate_table import print_slate
from recmesh_client import (
    Coverage,
    HistoryCoverage,
    Provenance,
    RankedBy,
    Recommendation,
    RecommendedItem,
    SourceCoverage,
    SourceStatus,
    Tier,
)

COVERAGE = Coverage(
    sources=(
        SourceCoverage("ann", SourceStatus.OK, 0.00421, 100, None),
        SourceCoverage("trending", SourceStatus.STALE, 0.002, 50, 7200.0),
        SourceCoverage("similar", SourceStatus.DISABLED, None, 0, None),
    ),
    ranked_by=RankedBy.MODEL,
    ranker_latency_s=0.0063,
    degraded=False,
    filled_from_popularity=0,
    ignored_item_ids=0,
)
ITEM = RecommendedItem(
    item_id="t1",
    score=1.23456,
    sources=(Provenance("similar", 3, 0.5), Provenance("ann", 12, 0.1)),
    title="Song",
    artist="Band",
)


def printed(*items: RecommendedItem, coverage: Coverage = COVERAGE, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_slate(console, "For ada", Recommendation("r-1", "v-7", items, coverage))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row_with(text: str, output: str) -> list[str]:
    line = next(line for line in output.splitlines() if text in line)
    return [cell.strip() for cell in line.strip("│ ").split("│")]


def test_a_row_holds_rank_title_artist_score_and_sources() -> None:
    output = printed(replace(ITEM, title="First"), ITEM)

    assert row_with("Song", output) == ["2", "Song", "Band", "1.235", "similar #3, ann #12"]


def test_an_item_without_a_title_shows_its_id() -> None:
    assert row_with("t1", printed(replace(ITEM, title="", artist="")))[1] == "t1"


def test_an_item_that_no_source_proposed_came_from_popularity() -> None:
    assert row_with("Song", printed(replace(ITEM, sources=())))[4] == "popularity"


@pytest.mark.parametrize("title", ["Song [live]", "[/bold] [red]", "Ode :smile: [", "a\x1b[31mb"])
def test_titles_are_shown_as_they_are_but_for_control_characters(title: str) -> None:
    shown = title.replace("\x1b", " ")

    assert row_with("Band", printed(replace(ITEM, title=title)))[1] == shown


@pytest.mark.parametrize(
    ("source", "cells"),
    [
        ("ann", ["ann", "OK", "4.2 ms", "100", "bundle"]),
        ("trending", ["trending", "STALE", "2.0 ms", "50", "2.0 h"]),
        ("similar", ["similar", "DISABLED", "-", "0", "-"]),
    ],
)
def test_coverage_shows_each_source(source: str, cells: list[str]) -> None:
    assert row_with(source, printed()) == cells


@pytest.mark.parametrize(
    ("history", "cells"),
    [
        (HistoryCoverage(SourceStatus.OK), ["(history)", "OK", "-"]),
        (HistoryCoverage(SourceStatus.TIMEOUT, 0.02), ["(history)", "TIMEOUT", "20.0 ms"]),
    ],
)
def test_coverage_shows_how_the_history_was_read(
    history: HistoryCoverage, cells: list[str]
) -> None:
    shown = printed(coverage=replace(COVERAGE, history=history))

    assert row_with("(history)", shown) == cells


def test_a_gateway_that_says_nothing_of_histories_has_no_line_of_it() -> None:
    assert "(history)" not in printed()


@pytest.mark.parametrize(
    ("age_s", "age"),
    [(0.0, "0.0 s"), (59.0, "59.0 s"), (60.0, "1.0 min"), (3600.0, "1.0 h"), (129600.0, "1.5 d")],
)
def test_ages_are_shown_in_the_largest_unit_that_they_fill(age_s: float, age: str) -> None:
    source = SourceCoverage("trending", SourceStatus.OK, 0.001, 1, age_s)

    assert row_with("trending", printed(coverage=replace(COVERAGE, sources=(source,))))[4] == age


@pytest.mark.parametrize(
    ("ranked_by", "latency_s", "claim"),
    [
        (RankedBy.MODEL, 0.0063, "ranked by the model in 6.3 ms"),
        (RankedBy.FALLBACK, None, "ranked by the fallback, merge order\n"),
        (RankedBy.FALLBACK, 0.05, "ranked by the fallback, merge order, ranker given up after 50"),
    ],
)
def test_the_summary_says_what_ranked(
    ranked_by: RankedBy, latency_s: float | None, claim: str
) -> None:
    coverage = replace(COVERAGE, ranked_by=ranked_by, ranker_latency_s=latency_s)

    lines = "\n".join(line.rstrip() for line in printed(coverage=coverage).splitlines())

    assert claim in lines


def test_the_summary_says_whether_the_answer_is_degraded_and_why_it_is_filled() -> None:
    whole = printed()
    lacking = printed(
        coverage=replace(COVERAGE, degraded=True, filled_from_popularity=4, ignored_item_ids=2)
    )

    assert "not degraded" in whole
    assert "filled in" not in whole
    assert "ignored" not in whole
    assert "not degraded" not in lacking
    assert "degraded" in lacking
    assert "4 filled in from popularity" in lacking
    assert "2 seed or exclude ids unknown" in lacking


def test_the_summary_names_the_answer_and_the_bundle_in_full_on_a_narrow_screen() -> None:
    identifier = "r-" + "0123456789" * 6

    console = Console(file=io.StringIO(), width=40)
    print_slate(console, "For ada", Recommendation(identifier, "v-7", (ITEM,), COVERAGE))

    assert isinstance(console.file, io.StringIO)
    assert identifier in console.file.getvalue().replace("\n", "").replace(" ", "")


def test_the_tier_is_named_and_a_busy_gateways_narrowing_too() -> None:
    usual = printed(coverage=replace(COVERAGE, tier=Tier.RECENT_ITEMS, quality=1.0))
    busy = printed(coverage=replace(COVERAGE, quality=0.4))

    assert "tier RECENT_ITEMS" in usual
    assert "usual candidates" not in usual
    assert "40% of the usual candidates" in busy


def test_a_source_that_was_asked_twice_says_so() -> None:
    source = SourceCoverage("ann", SourceStatus.OK, 0.004, 9, None, hedged=True)

    assert "4.0 ms hedged" in printed(coverage=replace(COVERAGE, sources=(source,)))
