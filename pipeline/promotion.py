"""Whether a bundle may be promoted: not when it ranks worse than its parent beyond chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot, isfinite
from typing import Any

from pipeline.evaluate import RANKED


@dataclass(frozen=True, slots=True)
class Quality:
    """NDCG@10 of the slate as served."""

    ndcg_10: float
    ci95: float
    """Half-width of its 95 % interval; 0 in reports that hold none."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """Whether a bundle may be promoted, and why."""

    is_allowed: bool
    reason: str


def quality_of(report: Mapping[str, Any]) -> Quality | None:
    """Return the quality in a report, as `Report.to_json` writes it; None when it holds none."""
    for method in report.get("methods", ()):
        if method.get("method") == RANKED:
            quality = Quality(float(method["ndcg_10"]), float(method.get("ndcg_10_ci95", 0.0)))
            return quality if isfinite(quality.ndcg_10) and isfinite(quality.ci95) else None
    return None


def decide(quality: Quality | None, parent: Quality | None) -> Promotion:
    """Refuse a bundle whose NDCG@10 is below its parent's by more than the confidence interval.

    The interval is that of the difference of two means taken independently: the root of the sum
    of both squared half-widths. Where both were measured on the same users it is too wide: the
    rule then refuses too seldom rather than too often.
    """
    if parent is None:
        return Promotion(is_allowed=True, reason="there is no parent's NDCG@10 to compare with")
    if quality is None:
        return Promotion(is_allowed=False, reason="its report has no NDCG@10; its parent's has one")
    loss, interval = parent.ndcg_10 - quality.ndcg_10, hypot(quality.ci95, parent.ci95)
    figures = f"NDCG@10 {quality.ndcg_10:.4f}, its parent's {parent.ndcg_10:.4f}"
    if loss > interval:
        return Promotion(
            is_allowed=False,
            reason=f"{figures}: {loss:.4f} lower, which the confidence interval of "
            f"±{interval:.4f} does not explain",
        )
    return Promotion(is_allowed=True, reason=f"{figures}, confidence interval ±{interval:.4f}")
