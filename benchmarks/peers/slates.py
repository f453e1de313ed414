"""Slates as callers see them, whatever carries them, and whether two are the same."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from recmesh.gateway.v1 import gateway_pb2

from services.gateway.domain.values import RankedBy

PAGE_SIZE = 20
SURFACE = "batch"
"""Gives an answer 5 s, so that the mesh need not narrow or degrade what its peers take time for."""
RELATIVE = 1e-6
"""Scores are float32: 24 bits."""


class SlatesDifferError(Exception):
    """Two variants do not give one answer; the message names the first difference."""


@dataclass(frozen=True, slots=True)
class Slate:
    """What is compared of an answer."""

    item_ids: tuple[str, ...]
    scores: tuple[float, ...]
    is_full: bool
    """Nothing was missing: every source answered, the model ranked, no count was narrowed."""


def grpc_request(user_id: str) -> bytes:
    """Return the message that asks for a page."""
    request = gateway_pb2.RecommendRequest(user_id=user_id, page_size=PAGE_SIZE, surface=SURFACE)
    return request.SerializeToString()


def json_request(user_id: str) -> bytes:
    """Return the JSON that asks for a page; there are no surfaces without deadlines."""
    return json.dumps({"user_id": user_id, "page_size": PAGE_SIZE}).encode()


def read_grpc(body: bytes) -> Slate:
    """Return the slate of a message."""
    response = gateway_pb2.RecommendResponse.FromString(body)
    coverage = response.coverage
    is_ranked = coverage.ranked_by == gateway_pb2.RANKED_BY_MODEL
    return Slate(
        tuple(item.item_id for item in response.items),
        tuple(item.score for item in response.items),
        is_ranked and not coverage.degraded and coverage.quality == 1.0,
    )


def read_json(body: bytes) -> Slate:
    """Return the slate of a JSON answer."""
    response = json.loads(body)
    coverage = response["coverage"]
    is_ranked = coverage["ranked_by"] == RankedBy.MODEL.name
    return Slate(
        tuple(item["item_id"] for item in response["items"]),
        tuple(item["score"] for item in response["items"]),
        is_ranked and not coverage["degraded"] and coverage["quality"] == 1.0,
    )


def difference(ours: Slate | None, theirs: Slate | None) -> str:
    """Return how two slates differ, in words; empty: they do not."""
    if ours is None or theirs is None:
        return "" if ours is theirs else "only one was answered"
    pairs = zip(ours.item_ids, theirs.item_ids, strict=False)
    for place, (mine, yours) in enumerate(pairs):
        if mine != yours:
            return f"place {place} is {mine} here, {yours} there"
    if len(ours.item_ids) != len(theirs.item_ids):
        return f"{len(ours.item_ids)} items here, {len(theirs.item_ids)} there"
    for place, (mine_s, yours_s) in enumerate(zip(ours.scores, theirs.scores, strict=True)):
        if not math.isclose(mine_s, yours_s, rel_tol=RELATIVE, abs_tol=RELATIVE):
            return f"the score at place {place} is {mine_s!r} here, {yours_s!r} there"
    return ""


def check_same_slates(
    ask: Mapping[str, Callable[[], Sequence[Slate | None]]],
    user_ids: Sequence[str],
    most_differing: float = 0.0,
) -> tuple[Slate | None, ...]:
    """Ask every variant for all users; return the slates, None for users who get several.

    Those may be a share `most_differing`: numpy and compiled loops round features differently in
    their last bit, and a threshold of a tree may lie between. Raises SlatesDifferError with the
    first difference when they are more, and for an answer of the first that is none or not full.
    """
    first, *others = ask
    expected = ask[first]()
    for user_id, slate in zip(user_ids, expected, strict=True):
        if slate is None or not slate.is_full:
            raise SlatesDifferError(f"{first} gave user {user_id} no full answer: {slate}")
    differing: dict[int, str] = {}
    for other in others:
        for place, (ours, theirs) in enumerate(zip(expected, ask[other](), strict=True)):
            if found := difference(ours, theirs):
                differing[place] = f"user {user_ids[place]}, {first} and {other}: {found}"
    if len(differing) > most_differing * len(user_ids):
        raise SlatesDifferError(next(iter(differing.values())))
    return tuple(None if place in differing else slate for place, slate in enumerate(expected))
