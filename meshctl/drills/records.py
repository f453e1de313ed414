"""What became of each request of a load, as its caller saw it: one line of JSON a request."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["plain", "short", "cancelled"]
"""An ordinary call; one whose timeout is too short to be met; one that its caller gives up."""

OK = "OK"
GIVEN_UP = "GIVEN_UP"
"""The caller cancelled the call: no answer, and nobody's fault."""
SHED = "RESOURCE_EXHAUSTED"
LATE = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One source's part in an answer, as its coverage said."""

    status: str
    latency_s: float | None = None
    data_age_s: float | None = None
    hedged: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One request. Times are seconds of the machine's monotonic clock."""

    due_s: float
    """When the load meant to send it."""
    began_s: float
    ended_s: float
    timeout_s: float
    kind: Kind = "plain"
    outcome: str = OK
    """"OK", the name of a gRPC status code, or GIVEN_UP."""
    items: int = 0
    degraded: bool = False
    ranked_by: str = ""
    tier: str = ""
    quality: float = 1.0
    sources: Mapping[str, SourceRecord] = field(default_factory=dict)

    @property
    def latency_s(self) -> float:
        """Seconds from the call to its end, with the client's own retry."""
        return self.ended_s - self.began_s

    @property
    def is_answered(self) -> bool:
        """Tell whether an answer came."""
        return self.outcome == OK

    def status_of(self, source: str) -> str:
        """Return a source's status in this answer; empty without one."""
        part = self.sources.get(source)
        return part.status if part else ""


def to_line(record: Record) -> str:
    """Return a record as one line of JSON, without its end."""
    sources = {
        name: [part.status, _short(part.latency_s), _short(part.data_age_s), int(part.hedged)]
        for name, part in record.sources.items()
    }
    values = [getattr(record, name) for name in Record.__slots__[:-1]]
    short = [_short(value) if isinstance(value, float) else value for value in values]
    return json.dumps([*short, sources], separators=(",", ":"))


def from_line(line: str) -> Record:
    """Read what `to_line` wrote."""
    *values, sources = json.loads(line)
    parts = {
        name: SourceRecord(status, latency_s, data_age_s, bool(hedged))
        for name, (status, latency_s, data_age_s, hedged) in sources.items()
    }
    return Record(*[*values, parts])


class RecordFile:
    """Reads the records of a load along with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0
        self._records: list[Record] = []

    def records(self) -> tuple[Record, ...]:
        """Return the requests that have ended so far, in the order that they ended."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                more = file.read()
            # The last line may still be on its way; a whole one ends in a line break.
            whole = more[: more.rfind(b"\n") + 1]
            self._read_bytes += len(whole)
            self._records.extend(map(from_line, whole.decode().splitlines()))
        return tuple(self._records)


def in_order(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return records in the order that the requests were sent."""
    return tuple(sorted(records, key=lambda record: record.began_s))


def between(records: Iterable[Record], from_s: float, to_s: float) -> tuple[Record, ...]:
    """Return the requests that began in [from_s, to_s)."""
    return tuple(record for record in records if from_s <= record.began_s < to_s)


def _short(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
