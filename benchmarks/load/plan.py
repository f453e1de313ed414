"""What a load is told, and what it tells."""

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from benchmarks.load.closed_loop import Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """Whom to ask what, how often."""

    protocol: Literal["grpc", "http"]
    addresses: tuple[str, ...]
    """`host:port`; of gRPC the first is used."""
    path: str
    bodies: tuple[str, ...]
    """Of each request, base64."""
    callers: int
    results: str
    """The file to write."""
    ramp_s: float = 0.0
    """Asked before anything is measured."""
    seconds: float = 0.0
    """Measured; 0: every body is asked once."""
    timeout_s: int = 30
    """Deadline of a gRPC call."""

    def to_json(self) -> str:
        """Return the plan as the process reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "LoadPlan":
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**{**fields, **lists})


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What ended in the measured time."""

    ended: tuple[Ended, ...]
    elapsed_s: float
    cpu_s: float
    """The load's own processor time."""

    @classmethod
    def read(cls, path: Path) -> "LoadResult":
        """Read what the process wrote."""
        with path.open() as lines:
            rest = json.loads(next(lines))
            ended = tuple(_ended(*json.loads(line)) for line in lines)
        return cls(ended, rest["elapsed_s"], rest["cpu_s"])


def _ended(request: int, latency_s: float, body: str | None) -> Ended:
    return Ended(request, latency_s, None if body is None else base64.b64decode(body))
