"""A request's trail as stages of the current call's recording."""

from collections.abc import Mapping

from meshkit.telemetry import recording
from services import attributes
from services.gateway.domain.trail import Fact

NAMES: Mapping[str, str] = {
    "plays": attributes.PLAYS,
    "sources": attributes.SOURCES,
    "candidates_in": attributes.CANDIDATES_IN,
    "candidates_out": attributes.CANDIDATES_OUT,
    "removed": attributes.REMOVED,
    "items": attributes.ITEMS,
    "filled": attributes.FILLED,
}


class RecordingTrail:
    """Answers `Trail`; outside a served call it leaves nothing."""

    def mark(self, stage: str, **facts: Fact) -> None:
        """Note that `stage` has ended."""
        current = recording.current()
        if current.mode.is_recording:
            current.mark(stage, {NAMES[name]: fact for name, fact in facts.items()})
