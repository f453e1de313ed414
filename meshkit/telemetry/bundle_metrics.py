"""What a process says of its bundles: which one it serves, how old that is, what it refused."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TypeVar

from meshkit.bundles import Bundle
from meshkit.config import ConfigError
from meshkit.telemetry.instruments import Value
from meshkit.telemetry.metrics import Meter

T = TypeVar("T")


class BundleMetrics:
    """Watches bundles being loaded; `served` returns the version that is served now."""

    def __init__(self, meter: Meter, served: Callable[[], str | None]) -> None:
        self._served = served
        self._made_at_s: dict[str, float] = {}
        self._refused = meter.counter("recmesh.bundle.refused", "{bundle}", "Bundles not served")
        meter.gauge(
            "recmesh.bundle.age", "s", "Time since the bundle served now was made", self._ages_s
        )

    def watched(
        self, open_bundle: Callable[[str], Bundle], load: Callable[[Bundle], T]
    ) -> Callable[[str], T]:
        """Return what opens and loads a version; what it raises counts as a refusal."""

        def load_version(version: str) -> T:
            try:
                bundle = open_bundle(version)
                value = load(bundle)
            except ConfigError:
                raise
            except Exception:
                self._refused.add(1)
                raise
            self._made_at_s[version] = datetime.fromisoformat(
                bundle.manifest.created_at
            ).timestamp()
            return value

        return load_version

    def _ages_s(self) -> Iterator[tuple[Mapping[str, Value], float]]:
        """Yield one series: versions come and go, and none may leave a series behind."""
        version = self._served()
        if version in self._made_at_s:
            age_s = time.time() - self._made_at_s[version]
            yield {"recmesh.bundle.version": version}, age_s
