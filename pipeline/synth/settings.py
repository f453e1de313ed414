"""What a synthetic world is made from, and its limits."""

from dataclasses import dataclass

DEFAULT_EVENTS_PER_USER = 50.0
END_S = 1_767_225_600
"""The log ends at 2026-01-01T00:00:00Z, whenever it is made: equal settings give equal logs."""
DAY_S = 86_400

_LIMITS: dict[str, tuple[float, float]] = {
    "users": (1, 2_000_000),
    "items": (100, 1_000_000),  # fewer cannot fill the genres; more would repeat artist names
    "days": (1, 3_650),
    "seed": (0, 2**63 - 1),
    "events_per_user": (1, 1_000),
}
MOST_EVENTS = 200_000_000
"""Users times events per user: the plays are held in memory, at about 60 bytes each."""


class SynthSettingsError(Exception):
    """A setting outside its limits; the message names it, its value and the limits."""


@dataclass(frozen=True, slots=True)
class SynthSettings:
    """Raises SynthSettingsError for a value outside its limits."""

    users: int
    items: int
    days: int
    """Length of the log, which ends at END_S."""
    seed: int
    events_per_user: float = DEFAULT_EVENTS_PER_USER
    """Mean plays of a user over the whole log; the realised mean differs by some per cent."""

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SynthSettingsError(
                    f"{name.replace('_', '-')} must be {low:,} to {high:,}, not {value:,}"
                )
        if self.users * self.events_per_user > MOST_EVENTS:
            raise SynthSettingsError(
                f"users times events-per-user must be at most {MOST_EVENTS:,}, "
                f"not {self.users * self.events_per_user:,.0f}"
            )

    @property
    def start_s(self) -> int:
        """Unix seconds at which the log begins."""
        return END_S - self.days * DAY_S
