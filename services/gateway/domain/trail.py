"""What a request leaves behind for those who ask later where its time went."""

from typing import Protocol, TypeAlias

Fact: TypeAlias = str | int | float | bool | tuple[str, ...]


class Trail(Protocol):
    """Hears of each stage of the request when it has ended."""

    def mark(self, stage: str, **facts: Fact) -> None:
        """Note that `stage` has ended, which began when the one before it did."""
        ...


class NoTrail:
    """Leaves nothing."""

    def mark(self, stage: str, **facts: Fact) -> None:
        """Do nothing."""


NO_TRAIL = NoTrail()
