"""Settings of a candidates process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meshkit.config import setting
from meshkit.dynamodb import (
    DEFAULT_CONNECT_TIMEOUT_S,
    DEFAULT_READ_TIMEOUT_S,
    DEFAULT_TABLE_PREFIX,
)
from meshkit.held_server import BundleSettings
from meshkit.server import ServerSettings
from services.candidates.domain.trending_candidates import MAX_AGE_S

DEFAULT_REFRESH_S = 30.0  # trending buckets are six hours long


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidatesConfig:
    """Read once from RECMESH_* variables, named after the fields in upper case."""

    source: str
    """Which source this process serves; `wiring.SOURCES` names them."""
    clock: Literal["wall", "bundle"] = "wall"
    """What now is, for trending: the machine's time, or the end of the bundle's log."""
    dynamodb_endpoint: str | None = None
    """URL of DynamoDB; unset: AWS's own. Only `trending` reads it."""
    table_prefix: str = DEFAULT_TABLE_PREFIX
    """First part of the table names."""
    dynamodb_connect_timeout_s: float = setting(
        default=DEFAULT_CONNECT_TIMEOUT_S, at_least=0.01, at_most=60
    )
    """Seconds that an attempt to read trending waits for its connection; there are two."""
    dynamodb_read_timeout_s: float = setting(
        default=DEFAULT_READ_TIMEOUT_S, at_least=0.01, at_most=60
    )
    """Seconds that it waits for more of the answer."""
    trending_refresh_s: float = setting(default=DEFAULT_REFRESH_S, at_least=0.1, at_most=3600)
    """Seconds between two reads of trending."""
    trending_max_age_s: float = setting(default=MAX_AGE_S, at_least=0.1, at_most=86_400)
    """Age in seconds beyond which what trends is stale."""
    call_log: Path | None = None
    """File to record the versions of calls in; unset: none."""
    stock: BundleSettings
    server: ServerSettings
