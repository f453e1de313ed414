"""Settings of a ranker process."""

from dataclasses import dataclass
from pathlib import Path

from meshkit.held_server import BundleSettings
from meshkit.server import ServerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerConfig:
    """Read once from RECMESH_* variables, named after the fields in upper case."""

    call_log: Path | None = None
    """File to record the versions of calls in; unset: none."""
    stock: BundleSettings
    server: ServerSettings
