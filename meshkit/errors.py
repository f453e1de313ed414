"""The error tree: whose fault a failure is, and what of it a caller may read.

    MeshError
    |-- CallerError             the caller's fault; its message is sent to the caller
    |   |-- InvalidFields       fields outside their limits         INVALID_ARGUMENT
    |   `-- VersionNotHeld      a version this server has not got   FAILED_PRECONDITION
    |-- DependencyError         something that we called failed us  INTERNAL
    |   |-- DependencyUnavailable  down, or not read yet            UNAVAILABLE
    |   `-- DependencyTimeout   no time left, or none was enough    DEADLINE_EXCEEDED
    |-- Overloaded              we have no room; try again later    RESOURCE_EXHAUSTED
    `-- NotReady                we have not loaded what we serve    UNAVAILABLE

Any other exception is our own fault: INTERNAL.
Only the message of a `CallerError` ever leaves the process; every other text
goes to the log and to the span. `meshkit.statuses` does the mapping.
"""

from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT_RETRY_AFTER_S = 0.1  # long enough for a full queue of millisecond calls to empty


class MeshError(Exception):
    """Anything that the mesh raises on purpose."""


class CallerError(MeshError):
    """The caller's fault. The message is sent to the caller: put no secret in it."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request, by its proto path, and its fault with the limit it broke."""

    field: str
    description: str


class InvalidFields(CallerError):  # noqa: N818  names what happened
    """One or more request fields are outside their documented limits."""

    def __init__(self, violations: Sequence[FieldViolation]) -> None:
        if not violations:
            raise ValueError("violations: InvalidFields needs at least one")
        super().__init__("; ".join(f"{each.field}: {each.description}" for each in violations))
        self.violations = tuple(violations)


class VersionNotHeld(CallerError):  # noqa: N818  names what happened
    """The request is pinned to a version that this server does not hold."""


class DependencyError(MeshError):
    """Something that we called failed us."""


class DependencyUnavailable(DependencyError):  # noqa: N818  names what happened
    """A dependency could not be reached, or answered that it is down."""


class DependencyTimeout(DependencyError):  # noqa: N818  names what happened
    """A dependency did not answer in its time, or no time was left to ask it."""


class Overloaded(MeshError):  # noqa: N818  names what happened
    """The server has no room for the call; the caller may try again after `retry_after_s`."""

    def __init__(
        self, message: str = "overloaded", *, retry_after_s: float = DEFAULT_RETRY_AFTER_S
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotReady(MeshError):  # noqa: N818  names what happened
    """The server has not yet loaded what it serves."""
