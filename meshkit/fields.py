"""Checks of request fields: collect every fault, then refuse the request once."""

from collections.abc import Iterable

from meshkit.errors import FieldViolation, InvalidFields


class FieldFaults:
    """The faults of one request, in the order that they were found."""

    def __init__(self) -> None:
        self._violations: list[FieldViolation] = []

    def require(self, is_valid: bool, field: str, description: str) -> None:
        """Note `description` (the fault and the limit) against `field` unless it is valid."""
        if not is_valid:
            self._violations.append(FieldViolation(field, description))

    def note(self, faults: Iterable[tuple[str, str]]) -> None:
        """Note faults that were found elsewhere, as (field, description)."""
        self._violations.extend(FieldViolation(*fault) for fault in faults)

    def refuse(self) -> None:
        """Raise InvalidFields when there is any fault."""
        if self._violations:
            raise InvalidFields(self._violations)
