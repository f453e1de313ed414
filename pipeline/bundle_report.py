"""The reports of published bundles, and what they say of a promotion."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshkit.bundles import Bundle, BundleError, BundleStore
from pipeline.promotion import Promotion, decide, quality_of

REPORT_FILE = "report.json"
"""It holds times, so it is left out of what makes equal trainings equal, the seal of the probes
included, and carries a sum of its own."""
SUM = "sha256"


class ReportError(ValueError):
    """A report that is not what training wrote; the message names the file."""


def report_text(report: Mapping[str, Any]) -> str:
    """Return the text of a report file, with the sum of everything else in it."""
    digest = hashlib.sha256(_text(report).encode()).hexdigest()
    return _text({**report, SUM: digest})


def check_report(directory: Path, *, needs_sum: bool) -> None:
    """Raise ReportError unless the report in a bundle's directory, if any, is what its sum says.

    Without `needs_sum` it may have none: that of a bundle whose probes seal it.
    """
    file = directory / REPORT_FILE
    if not file.exists():
        return
    try:
        text = file.read_text()
        report = dict(json.loads(text))
    except (ValueError, TypeError) as exc:
        raise ReportError(f"{REPORT_FILE} is not a report: {exc}") from exc
    is_bare = SUM not in report and not needs_sum
    if not is_bare and text != report_text({name: report[name] for name in report if name != SUM}):
        raise ReportError(f"{REPORT_FILE} is not what its own sum says")


def _text(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=2) + "\n"


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
