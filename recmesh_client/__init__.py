"""Typed client of the recmesh recommendation service."""

from recmesh_client.aio import AsyncRecommendationClient
from recmesh_client.blocking import RecommendationClient
from recmesh_client.errors import (
    DeadlineExceeded,
    FieldViolation,
    InvalidRequest,
    Overloaded,
    RecommendError,
    ServerFault,
    Unavailable,
)
from recmesh_client.results import (
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

__all__ = [
    "AsyncRecommendationClient",
    "Coverage",
    "DeadlineExceeded",
    "FieldViolation",
    "HistoryCoverage",
    "InvalidRequest",
    "Overloaded",
    "Provenance",
    "RankedBy",
    "RecommendError",
    "Recommendation",
    "RecommendationClient",
    "RecommendedItem",
    "ServerFault",
    "SourceCoverage",
    "SourceStatus",
    "Tier",
    "Unavailable",
]
