"""The failure policy: what becomes of an answer when a call to a leaf, or its history, goes wrong.

Every rule fails open: a request is answered without the part. What fails closed is decided before
any leaf is asked (a bad field, a full gateway, nothing to serve yet) and is no business of leaves.
`docs/degradation.md` shows the table to a person; its tests provoke every row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from services.gateway.domain.values import SourceStatus


class Failure(Enum):
    """What went wrong with one call, or with reading a history."""

    NO_TIME = auto()
    """The caller left no time to make it."""
    LATE = auto()
    """No answer within its time."""
    UNAVAILABLE = auto()
    """Nobody there, or the connection broke."""
    FULL = auto()
    """The leaf refused the call to protect itself."""
    MOVED = auto()
    """The leaf no longer holds the bundle version that the request is pinned to."""
    REFUSED = auto()
    """The leaf finds our request invalid."""
    BROKEN = auto()
    """The leaf failed, or its answer breaks the contract."""


class Fault(Enum):
    """Whose a failure is."""

    CALLER = auto()
    DEPENDENCY = auto()
    OURS = auto()


class Again(Enum):
    """Whether the call is made a second time; never a third."""

    NO = auto()
    RETRY = auto()
    """After it failed, on another worker if there is one, while few calls of the channel fail."""
    HEDGE = auto()
    """Before it failed: slower than 95 of 100, while 5 % more calls are not used up."""
    REQUEST = auto()
    """The whole request is made again, once, of the version that is current by then."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What follows from one failure."""

    fault: Fault
    status: SourceStatus
    """What coverage says of a source; a ranker that fails is replaced by merge order."""
    again: Again


RULES: Mapping[Failure, Rule] = {
    Failure.NO_TIME: Rule(Fault.CALLER, SourceStatus.TIMEOUT, Again.NO),
    Failure.LATE: Rule(Fault.DEPENDENCY, SourceStatus.TIMEOUT, Again.HEDGE),
    Failure.UNAVAILABLE: Rule(Fault.DEPENDENCY, SourceStatus.ERROR, Again.RETRY),
    Failure.FULL: Rule(Fault.DEPENDENCY, SourceStatus.SHED, Again.NO),
    Failure.MOVED: Rule(Fault.DEPENDENCY, SourceStatus.ERROR, Again.REQUEST),
    Failure.REFUSED: Rule(Fault.OURS, SourceStatus.ERROR, Again.NO),
    Failure.BROKEN: Rule(Fault.DEPENDENCY, SourceStatus.ERROR, Again.NO),
}


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How one leaf is called."""

    timeout_s: float
    """Its own limit, whatever the request's budget."""
    retries: bool = True
    """Whether failures whose rule says RETRY are tried again."""
    hedges: bool = True
    """Whether slow calls are made a second time."""


HISTORY = "history"

SOURCE_CALLS = CallPolicy(timeout_s=1.0)
"""Of every source without a line of its own in `CALLS`."""

CALLS: Mapping[str, CallPolicy] = {
    # A batch of 2,000 candidates on a busy core still ends in time.
    "ranker": CallPolicy(timeout_s=2.0),
    # Everything else waits for it; DynamoDB answers in a few ms, and its slowest in a hundred in
    # some twenty. The next request of the user asks anew.
    HISTORY: CallPolicy(timeout_s=0.02, retries=False, hedges=False),
}


def call_policy(leaf: str) -> CallPolicy:
    """Return how a source, by its name, "ranker" or "history" is called."""
    return CALLS.get(leaf, SOURCE_CALLS)
