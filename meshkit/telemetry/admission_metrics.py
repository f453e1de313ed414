"""What a server says of its places."""

from meshkit.admission import Admission
from meshkit.telemetry.metrics import Meter


def watch_admission(meter: Meter, admission: Admission) -> None:
    """Have the places of `admission` read at every collection."""
    meter.gauge(
        "recmesh.admission.limit",
        "{call}",
        "Calls that may be served at a time now",
        lambda: [({}, admission.limit)],
    )
    meter.gauge(
        "recmesh.admission.in_flight",
        "{call}",
        "Calls that are served now",
        lambda: [({}, admission.in_flight)],
    )
