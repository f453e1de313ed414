"""What a bundle says of itself beside its arrays: the facts of its manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """Scalars that training and serving must agree on."""

    order: str
    """Order of the log: "time", "position" (places without times) or "none"."""
    as_of_s: int
    """Unix seconds that the bundle's tables are as of: the second after the log's last event,
    or the cut of a holdout; 0 where the log has no times."""
    window_start_s: int
    """Unix seconds of the first event in the tables."""
    recent_window_s: int
    """Length of `ItemStats.recent_share`'s window in seconds; 0 without times."""
    items: int
    users: int
    events: int
    dimension: int
    """Length of an item vector."""
    metric: str
    """Annoy's distance over item vectors; "angular"."""
    als_confidence: float
    """c - 1 of one play in fold-in and training."""
    als_regularization: float
    sources: tuple[str, ...]
    """Sources whose candidates the ranker was trained on."""
    features: tuple[str, ...]
    """Feature names in the model's column order."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object of all facts."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote. Raises ValueError naming a fact that is missing."""
        missing = [field.name for field in fields(cls) if field.name not in facts]
        if missing:
            raise ValueError(f"the manifest lacks the facts {', '.join(missing)}")
        known = {field.name: facts[field.name] for field in fields(cls)}
        return cls(**{**known, **{name: tuple(facts[name]) for name in ("sources", "features")}})
