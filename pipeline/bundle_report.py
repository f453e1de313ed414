"""The reports of published bundles, and what they say of a promotion."""

import json
from typing import Any

from meshkit.bundles import Bundle, BundleError, BundleStore
from pipeline.promotion import Promotion, decide, quality_of

REPORT_FILE = "report.json"


def report_of(bundle: Bundle) -> dict[str, Any]:
    """Return the report in a bundle; empty when it has none. Raises BundleError."""
    if REPORT_FILE not in bundle.manifest.files:
        return {}
    file = bundle.path / REPORT_FILE
    try:
        report = json.loads(file.read_bytes())
        quality_of(report)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as exc:
        raise BundleError(f"{file} is not a report: {exc!r}") from exc
    return dict(report)


def judge(store: BundleStore, bundle: Bundle) -> Promotion:
    """Say whether `bundle` may be promoted over its parent. Raises BundleError.

    A parent that is no longer in the store forbids nothing; a damaged one does.
    """
    parent = bundle.manifest.parent
    quality = quality_of(report_of(bundle))
    if parent is None:
        return Promotion(is_allowed=True, reason="it is the first bundle")
    if parent not in store.versions():
        return Promotion(is_allowed=True, reason=f"its parent {parent} is no longer in the store")
    try:
        compared = quality_of(report_of(store.open(parent)))
    except BundleError as exc:
        return Promotion(is_allowed=False, reason=f"its parent cannot be compared with: {exc}")
    return decide(quality, compared)
