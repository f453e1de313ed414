"""What the monolith is asked and what it answers: the mesh's public fields, in JSON."""

from typing import Annotated

from pydantic import BaseModel, Field

from services.gateway.domain.values import Answer, Ask
from signals.bundle import ItemTexts
from signals.limits import MAX_EXCLUDED, MAX_ID_BYTES

MAX_PAGE_SIZE = 200
MAX_SEEDS = 50

ItemId = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES)]


class Request(BaseModel):
    """One request for a slate."""

    user_id: str = Field(default="", max_length=MAX_ID_BYTES)
    page_size: int = Field(default=20, ge=1, le=MAX_PAGE_SIZE)
    market: str = Field(default="", pattern=r"^([A-Z]{2})?$")
    seed_item_ids: list[ItemId] = Field(default=[], max_length=MAX_SEEDS)
    exclude_item_ids: list[ItemId] = Field(default=[], max_length=MAX_EXCLUDED)

    def ask(self) -> Ask:
        """Return it as the domain has it."""
        return Ask(
            user_id=self.user_id,
            page_size=self.page_size,
            market=self.market,
            seed_item_ids=tuple(self.seed_item_ids),
            exclude_item_ids=tuple(self.exclude_item_ids),
        )


class Provenance(BaseModel):
    """One source's word on one item."""

    source: str
    rank: int
    score: float


class Item(BaseModel):
    """One recommended item."""

    item_id: str
    score: float
    sources: list[Provenance]
    title: str
    artist: str


class SourceCoverage(BaseModel):
    """One source's part in an answer."""

    source: str
    status: str
    latency_s: float | None
    candidates: int
    data_age_s: float | None
    hedged: bool


class Coverage(BaseModel):
    """What took part in an answer."""

    sources: list[SourceCoverage]
    ranked_by: str
    ranker_latency_s: float | None
    degraded: bool
    filled_from_popularity: int
    ignored_item_ids: int
    tier: str
    quality: float


class Response(BaseModel):
    """One slate and what it is worth."""

    recommendation_id: str
    bundle_version: str
    items: list[Item]
    coverage: Coverage


def write_answer(answer: Answer, texts: ItemTexts, recommendation_id: str) -> Response:
    """Return the answer as it is sent."""
    slate = answer.slate
    return Response(
        recommendation_id=recommendation_id,
        bundle_version=answer.bundle_version,
        items=[
            Item(
                item_id=texts.item_id(row),
                score=score,
                sources=_provenance(answer, place) if place >= 0 else [],
                title=texts.title(row),
                artist=texts.artist(row),
            )
            for row, place, score in zip(
                slate.rows.tolist(), slate.places.tolist(), slate.scores.tolist(), strict=True
            )
        ],
        coverage=_coverage(answer),
    )


def _provenance(answer: Answer, place: int) -> list[Provenance]:
    return [
        Provenance(source=name, rank=int(column.ranks[place]), score=float(column.scores[place]))
        for name, column in answer.ranked.columns.items()
        if column.ranks[place]
    ]


def _coverage(answer: Answer) -> Coverage:
    return Coverage(
        sources=[
            SourceCoverage(
                source=source.source,
                status=source.status.name,
                latency_s=source.latency_s,
                candidates=len(source.rows),
                data_age_s=source.data_age_s,
                hedged=source.is_hedged,
            )
            for source in answer.sources
        ],
        ranked_by=answer.ranked_by.name,
        ranker_latency_s=answer.ranker.latency_s,
        degraded=answer.is_degraded,
        filled_from_popularity=answer.slate.filled,
        ignored_item_ids=answer.subject.ignored_item_ids,
        tier=answer.tier.name,
        quality=answer.quality,
    )
