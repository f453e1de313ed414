"""Settings of a ranker process."""

from dataclasses import dataclass
from pathlib import Path

from meshkit.server import ServerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerConfig:
    """Read once from RECMESH_* variables, named after the fields in upper case."""

    bundles: Path
    """Directory of the bundle store."""
    bundle_version: str | None = None
    """Version to serve; unset: the current one."""
    server: ServerSettings
