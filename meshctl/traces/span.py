"""One span as it was recorded, whoever stored it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["unspecified", "internal", "server", "client", "producer", "consumer"]
Status = Literal["unset", "ok", "error"]
Scalar = str | bool | int | float | None
Value = Scalar | tuple[Scalar, ...]

ANSWER = "recmesh.gateway.v1.RecommendationService/Recommend"
"""Name of the span that a gateway serves an answer in; `recommendation_id` names that span."""

_TRACE_ID = re.compile("[0-9a-f]{32}")
_SPAN_ID = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at one moment of a span."""

    name: str
    time_ns: int
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span; ids are lower-case hex, times are ns since 1970 and are as they were sent.

    `parent_id` is empty for a span without parent, `links` are ids of other traces.
    """

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    instance: str
    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    status: Status = "unset"
    status_message: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    links: tuple[str, ...] = ()

    @property
    def is_answer(self) -> bool:
        """Whether a gateway answered a caller in it."""
        return self.kind == "server" and self.name == ANSWER

    @property
    def duration_ms(self) -> float:
        """How long it took; below 0 when its clock was set back meanwhile."""
        return (self.end_ns - self.start_ns) / 1e6


def is_trace_id(text: str) -> bool:
    """Tell whether it is a trace id in lower-case hex."""
    return bool(_TRACE_ID.fullmatch(text))


def is_span_id(text: str) -> bool:
    """Tell whether it is a span id in lower-case hex."""
    return bool(_SPAN_ID.fullmatch(text))
