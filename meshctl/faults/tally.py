"""Counts as they grow, and the file that a driver reads them from."""

import logging
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from meshctl.faults.counts import MESH_PREFIX, Counts, counts_path
from meshctl.faults.fault import FaultKind
from meshctl.json_file import write_json

_log = logging.getLogger(__name__)


class Tally:
    """Counts what a proxy sees and does; `control_file` None: for nobody to read."""

    def __init__(self, control_file: Path | None) -> None:
        self.applied = 0
        self.refused = ""
        self.refused_generation = 0
        self.connections = 0
        self.open_connections = 0
        self._calls: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._retries = 0
        self._least_remaining_s: float | None = None
        self._most_remaining_s: float | None = None
        self._without_deadline = 0
        self._path = None if control_file is None else counts_path(control_file)
        self._written: Counts | None = None

    def add_connection(self) -> None:
        """Count a connection accepted."""
        self.connections += 1
        self.open_connections += 1

    def drop_connection(self) -> None:
        """Count a connection ended."""
        self.open_connections -= 1

    def add_call(self, method: str) -> None:
        """Count a call or request."""
        self._calls[method] += 1

    def add_mesh_call(self, method: str, *, is_retry: bool, remaining_s: float | None) -> None:
        """Count a call to the mesh; `remaining_s` None: it has no deadline."""
        self._calls[method] += 1
        self._retries += is_retry
        if remaining_s is None:
            self._without_deadline += 1
            return
        least_s, most_s = self._least_remaining_s, self._most_remaining_s
        self._least_remaining_s = remaining_s if least_s is None else min(least_s, remaining_s)
        self._most_remaining_s = remaining_s if most_s is None else max(most_s, remaining_s)

    def add_fault(self, kind: FaultKind) -> None:
        """Count a fault done."""
        self._faults[kind.value] += 1

    def counts(self) -> Counts:
        """Return the counts as of now."""
        return Counts(
            applied=self.applied,
            refused=self.refused,
            refused_generation=self.refused_generation,
            connections=self.connections,
            open_connections=self.open_connections,
            calls=dict(self._calls),
            retries=self._retries,
            faults=dict(self._faults),
            least_remaining_s=self._least_remaining_s,
            most_remaining_s=self._most_remaining_s,
            without_deadline=self._without_deadline,
        )

    def write(self) -> None:
        """Replace the file when a count has changed since it was written."""
        counts = self.counts()
        if self._path is None or counts == self._written:
            return
        try:
            write_json(self._path, asdict(counts))
        except OSError as exc:
            _log.error("%s: counts cannot be written: %s", self._path, exc.strerror)
        self._written = counts


def is_mesh_method(method: str) -> bool:
    """Tell whether faults of calls apply to `method`."""
    return method.startswith(MESH_PREFIX)
