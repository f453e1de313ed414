"""What a call can fail with.

    RecommendError             every failure of a call; carries the gRPC status code
    |-- InvalidRequest         yours: a field is outside its limits; asking again cannot help
    |-- Unavailable            nobody answered, after one retry: no connection, no bundle, closed
    |-- DeadlineExceeded       the answer did not come in time
    |-- Overloaded             the service refuses work to protect itself; wait `retry_after_s`
    `-- ServerFault            anything else; the service's own log knows more

An answer that is worth less than hoped is no error: see `Recommendation.coverage`.
"""

from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that was refused.

    `field` is its name in the request, such as "page_size" or "seed_item_ids[3]"; `description`
    says what is wrong with it and what is allowed.
    """

    field: str
    description: str


class RecommendError(Exception):
    """A call that brought no recommendation; `code` is its gRPC status code."""

    def __init__(self, message: str, *, code: grpc.StatusCode = grpc.StatusCode.UNKNOWN) -> None:
        super().__init__(message)
        self.code = code


class InvalidRequest(RecommendError):  # noqa: N818  its base says Error
    """The request is outside the contract's limits; `violations` names every field at fault."""

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT,
        violations: tuple[FieldViolation, ...] = (),
    ) -> None:
        super().__init__(message, code=code)
        self.violations = violations


class Unavailable(RecommendError):  # noqa: N818  named as gRPC names it
    """No gateway could be reached or none serves a bundle yet; one retry has failed as well."""

    def __init__(
        self, message: str, *, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    ) -> None:
        super().__init__(message, code=code)


class DeadlineExceeded(RecommendError):  # noqa: N818  named as gRPC names it
    """The answer did not come within the call's timeout."""

    def __init__(
        self, message: str, *, code: grpc.StatusCode = grpc.StatusCode.DEADLINE_EXCEEDED
    ) -> None:
        super().__init__(message, code=code)


class Overloaded(RecommendError):  # noqa: N818  named as gRPC names it
    """The service refused the call to protect itself.

    `retry_after_s` is how long it asks callers to wait, in seconds; None when it does not say.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class ServerFault(RecommendError):  # noqa: N818  its base says Error
    """The service, or something between it and you, failed in a way that you did not cause."""
