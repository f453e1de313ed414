"""What a fault is, and at which level it can be injected."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MAX_DELAY_S = 600.0


class FaultLevel(StrEnum):
    """What a proxy understands of what it relays; chosen when it starts."""

    BYTES = "bytes"
    """TCP connections, whatever they carry."""
    CALLS = "calls"
    """gRPC calls: unary ones, and server streams outside `/recmesh.`."""
    DYNAMODB = "dynamodb"
    """HTTP requests to DynamoDB."""


class FaultKind(StrEnum):
    """What goes wrong."""

    NONE = "none"
    BLACK_HOLE = "black_hole"
    """Connections are kept and accepted, and nothing passes either way.

    Nothing withheld is sent later: connections that lived through it are closed when it ends.
    """
    RESET = "reset"
    """Connections are closed with RST, new ones right after they are accepted."""
    GARBAGE = "garbage"
    """What the server sends is replaced by as many random bytes."""
    DELAY = "delay"
    """Each chunk that the server sends is held for `delay_s`, in order."""
    UNAVAILABLE = "unavailable"
    """A call is answered UNAVAILABLE without asking the server."""
    SLOW = "slow"
    """A call's answer is held for `delay_s` before it is passed on."""
    RUBBISH = "rubbish"
    """A call is answered random bytes with status OK, without asking the server."""
    ERRORS = "errors"
    """A request is answered 500 InternalServerError."""
    THROTTLE = "throttle"
    """A request is answered 400 ProvisionedThroughputExceededException."""
    HANG = "hang"
    """A request is taken and never answered; its connection is closed when the fault ends."""


KINDS_OF: Mapping[FaultLevel, tuple[FaultKind, ...]] = {
    FaultLevel.BYTES: (
        FaultKind.NONE,
        FaultKind.BLACK_HOLE,
        FaultKind.RESET,
        FaultKind.GARBAGE,
        FaultKind.DELAY,
    ),
    FaultLevel.CALLS: (
        FaultKind.NONE,
        FaultKind.UNAVAILABLE,
        FaultKind.SLOW,
        FaultKind.RUBBISH,
    ),
    FaultLevel.DYNAMODB: (
        FaultKind.NONE,
        FaultKind.ERRORS,
        FaultKind.THROTTLE,
        FaultKind.HANG,
    ),
}

_DELAYING = (FaultKind.DELAY, FaultKind.SLOW)
_SHARED = tuple(
    kind
    for level in (FaultLevel.CALLS, FaultLevel.DYNAMODB)
    for kind in KINDS_OF[level]
    if kind is not FaultKind.NONE
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What to inject. Raises ValueError naming the field, its fault and what is allowed.

    `delay_s` (lowest, highest) is drawn evenly for each chunk or call; `delay` and `slow` need it
    and nothing else takes it. `share` of the calls or requests are hit, above 0 and up to 1;
    faults of bytes hit everything.
    """

    kind: FaultKind = FaultKind.NONE
    delay_s: tuple[float, float] | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.kind, FaultKind):
            raise ValueError(  # noqa: TRY004 - a bad value like the others
                f"kind {self.kind!r} is no fault; allowed: {', '.join(FaultKind)}"
            )
        if (self.delay_s is not None) != (self.kind in _DELAYING):
            raise ValueError(_delay_fault(self.kind))
        if self.delay_s is not None:
            _check_delay(*self.delay_s)
        _check_share(self.kind, self.share)

    def as_fields(self) -> dict[str, object]:
        """Return the fields of a control file, all but the generation."""
        fields: dict[str, object] = {"kind": self.kind.value}
        if self.delay_s is not None:
            fields["delay_s"] = list(self.delay_s)
        if self.share != 1:
            fields["share"] = self.share
        return fields


def _delay_fault(kind: FaultKind) -> str:
    if kind in _DELAYING:
        return f"delay_s is missing; {kind} needs [lowest, highest] in seconds"
    return f"delay_s is given, but {kind} takes none; allowed with: {', '.join(_DELAYING)}"


def _check_delay(lowest_s: float, highest_s: float) -> None:
    # Written so that NaN fails it too.
    if not (math.isfinite(lowest_s) and 0 <= lowest_s <= highest_s <= MAX_DELAY_S):
        raise ValueError(
            f"delay_s [{lowest_s:g}, {highest_s:g}]; "
            f"allowed: 0 <= lowest <= highest <= {MAX_DELAY_S:g}"
        )


def _check_share(kind: FaultKind, share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"share {share:g}; allowed: above 0 and up to 1")
    if share != 1 and kind not in _SHARED:
        raise ValueError(
            f"share {share:g} is given, but {kind} hits everything; "
            f"allowed with: {', '.join(_SHARED)}"
        )


NO_FAULT = Fault()
