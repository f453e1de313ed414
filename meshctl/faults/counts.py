"""What a fault proxy saw and did, as the file beside its control file says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshctl.json_file import read_json_object

MESH_PREFIX = "/recmesh."
"""Methods that faults of calls apply to; others (health) pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts since the proxy started; what its level does not know stays 0 or None."""

    applied: int = 0
    """Generation of the control file that is in force; 0: none yet."""
    refused: str = ""
    """Why what the control file says now is not in force; empty when it is."""
    refused_generation: int = 0
    """Generation of what is refused, as far as it could be read."""
    connections: int = 0
    """Accepted so far (levels bytes and dynamodb)."""
    open_connections: int = 0
    """Open now."""
    calls: Mapping[str, int] = field(default_factory=dict)
    """By method (`/package.Service/Method`) or DynamoDB operation; each attempt is a call."""
    retries: int = 0
    """Calls to the mesh that gRPC's own retry sent again."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """Faults done, by kind: calls, requests; at level bytes connections or chunks."""
    least_remaining_s: float | None = None
    """Shortest time left of a call to the mesh when it came."""
    most_remaining_s: float | None = None
    """Longest time left of one."""
    without_deadline: int = 0
    """Calls to the mesh that had no deadline."""

    @property
    def mesh_calls(self) -> int:
        """Calls to the mesh's own methods, every attempt counted."""
        return sum(n for method, n in self.calls.items() if method.startswith(MESH_PREFIX))

    @property
    def first_attempts(self) -> int:
        """Calls to the mesh that were not gRPC's own retries; hedges are among them."""
        return self.mesh_calls - self.retries


def counts_path(control_file: Path) -> Path:
    """Return where the proxy of `control_file` writes its counts."""
    return control_file.with_name(control_file.name + ".counts.json")


def read_counts(control_file: Path) -> Counts:
    """Return the counts written last, all zero when there are none yet."""
    try:
        fields: dict[str, Any] = read_json_object(counts_path(control_file))
    except FileNotFoundError:
        return Counts()
    return Counts(**fields)
