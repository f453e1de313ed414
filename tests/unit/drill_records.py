"""Records of requests that went well, to spoil one thing at a time."""

from collections.abc import Mapping
from dataclasses import replace

from meshctl.drills.records import Record, SourceRecord

STARTED_S = 1_000.0


def answered(began_s: float, *, latency_s: float = 0.02, **changes: object) -> Record:
    """Return a whole answer to a request that began `began_s` after `STARTED_S`."""
    record = Record(
        due_s=STARTED_S + began_s,
        began_s=STARTED_S + began_s,
        ended_s=STARTED_S + began_s + latency_s,
        timeout_s=0.2,
        items=20,
        ranked_by="MODEL",
        tier="RECENT_ITEMS",
        sources=parts(),
    )
    return replace(record, **changes)  # type: ignore[arg-type]  # fields of a record


def parts(**statuses: str) -> Mapping[str, SourceRecord]:
    """Return the parts of an answer, all OK but those named."""
    names = ("ann", "similar", "trending")
    return {name: SourceRecord(statuses.get(name, "OK"), 0.004) for name in names}


def steady(seconds: float, per_s: float = 50.0) -> list[Record]:
    """Return whole answers at a steady rate."""
    return [answered(number / per_s) for number in range(int(seconds * per_s))]
