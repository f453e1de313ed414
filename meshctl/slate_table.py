"""A recommendation as tables that a person reads."""

import unicodedata

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from recmesh_client import (
    Coverage,
    HistoryCoverage,
    RankedBy,
    Recommendation,
    RecommendedItem,
    SourceCoverage,
    SourceStatus,
)

_NOTHING = "-"
_MINUTE_S = 60
_HOUR_S = 60 * _MINUTE_S
_DAY_S = 24 * _HOUR_S

_STATUS_STYLES = {
    SourceStatus.OK: "green",
    SourceStatus.STALE: "yellow",
    SourceStatus.DISABLED: "yellow",
}


def print_slate(console: Console, title: str, recommendation: Recommendation) -> None:
    """Print the slate with each item's sources, and below it what took part in the answer."""
    console.print(
        Group(
            Text(title, style="bold"),
            _slate(recommendation.items),
            _sources(recommendation.coverage),
            *_summary(recommendation),
        )
    )


def _slate(items: tuple[RecommendedItem, ...]) -> Table:
    table = Table()
    table.add_column("rank", justify="right")
    table.add_column("title", overflow="fold")
    table.add_column("artist", overflow="fold")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("sources")
    for rank, item in enumerate(items, start=1):
        table.add_row(
            str(rank),
            _catalogue_text(item.title or item.item_id),
            _catalogue_text(item.artist),
            f"{item.score:.4g}",
            Text(_provenance(item)),
        )
    return table


def _catalogue_text(text: str) -> Text:
    # Anybody may have named a track: "[live]" is no markup, and a terminal obeys escape codes.
    return Text("".join(" " if unicodedata.category(char) == "Cc" else char for char in text))


def _provenance(item: RecommendedItem) -> str:
    return ", ".join(f"{p.source} #{p.rank}" for p in item.sources) or "popularity"


def _sources(coverage: Coverage) -> Table:
    table = Table()
    table.add_column("source")
    table.add_column("status", no_wrap=True)
    table.add_column("latency", justify="right", no_wrap=True)
    table.add_column("candidates", justify="right")
    table.add_column("data age", justify="right", no_wrap=True)
    if coverage.history.status is not SourceStatus.UNSPECIFIED:
        table.add_row(*_history(coverage.history))
    for source in coverage.sources:
        table.add_row(
            Text(source.source),
            Text(source.status.name, style=_STATUS_STYLES.get(source.status, "red")),
            _milliseconds(source.latency_s) + (" hedged" if source.hedged else ""),
            str(source.candidates),
            _data_age(source),
        )
    return table


def _history(history: HistoryCoverage) -> tuple[str | Text, ...]:
    status = Text(history.status.name, style=_STATUS_STYLES.get(history.status, "red"))
    return "(history)", status, _milliseconds(history.latency_s), "", ""


def _summary(recommendation: Recommendation) -> list[Text]:
    coverage = recommendation.coverage
    lines = [
        Text(_ranking(coverage)),
        Text("degraded", style="yellow") if coverage.degraded else Text("not degraded"),
        Text(f"tier {coverage.tier.name}"),
    ]
    if coverage.quality is not None and coverage.quality < 1:
        lines.append(Text(f"{coverage.quality:.0%} of the usual candidates: the gateway is busy"))
    if coverage.filled_from_popularity:
        lines.append(Text(f"{coverage.filled_from_popularity} filled in from popularity"))
    if coverage.ignored_item_ids:
        lines.append(Text(f"{coverage.ignored_item_ids} seed or exclude ids unknown and ignored"))
    lines.append(Text(f"recommendation {recommendation.recommendation_id}", overflow="fold"))
    lines.append(Text(f"bundle {recommendation.bundle_version}", overflow="fold"))
    return lines


def _ranking(coverage: Coverage) -> str:
    latency = "" if coverage.ranker_latency_s is None else _milliseconds(coverage.ranker_latency_s)
    match coverage.ranked_by:
        case RankedBy.MODEL:
            return f"ranked by the model in {latency}" if latency else "ranked by the model"
        case RankedBy.FALLBACK:
            after = f", ranker given up after {latency}" if latency else ""
            return f"ranked by the fallback, merge order{after}"
        case _:
            return "ranked by something that this client does not know"


def _milliseconds(latency_s: float | None) -> str:
    return _NOTHING if latency_s is None else f"{latency_s * 1e3:.1f} ms"


def _data_age(source: SourceCoverage) -> str:
    if source.data_age_s is not None:
        return _age(source.data_age_s)
    is_from_bundle = source.status in {SourceStatus.OK, SourceStatus.STALE}
    return "bundle" if is_from_bundle else _NOTHING


def _age(age_s: float) -> str:
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if age_s >= unit_s:
            return f"{age_s / unit_s:.1f} {unit}"
    return f"{age_s:.1f} s"
