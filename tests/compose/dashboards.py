"""See that every panel of the dashboards has data: `python -m tests.compose.dashboards`.

Starts a local mesh, a receiver in the collector's place and Debian's Prometheus; asks the mesh for
under a minute, with trouble in it; then has Prometheus evaluate every query of every panel over
that time, and prints what came of it. Status 1 when a panel has nothing to show.
"""

import json
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshctl.drills.child import DrillError
from meshctl.mesh_member import MeshError
from tests.compose.podman_stack import StackError
from tests.compose.prometheus import Collector, Found, Prometheus, exposed, running_prometheus
from tests.compose.troubled_mesh import SETTLED_S, troubled_mesh
from tests.unit.test_deploy_metrics import DASHBOARDS

GRAFANA_VARIABLES = {"$__rate_interval": "10s"}
RIGHTLY_EMPTY: Mapping[str, str] = {}
"""Why a panel, by `dashboard: title`, has nothing to show in a run like this."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What one query of a panel has to show."""

    dashboard: str
    panel: str
    query: str
    """The letter that the dashboard gives it."""
    found: Found

    @property
    def where(self) -> str:
        """Return which panel it is."""
        return f"{self.dashboard}: {self.panel}"

    @property
    def is_missed(self) -> bool:
        """Tell whether there should be data and is none."""
        return not self.found.series and self.where not in RIGHTLY_EMPTY


def main() -> int:
    """Return 0 when every panel has data, 1 with what has none when not."""
    # So that everything is taken down, as at Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if shutil.which("prometheus") is None:
        print("dashboards: FAILED: prometheus is not installed", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory() as made:
            shown = measured(Path(made))
    except (StackError, MeshError, DrillError) as error:
        print(f"dashboards: FAILED: {error}", file=sys.stderr)
        return 1
    print(table(shown))
    print(summary(shown))
    return int(any(each.is_missed for each in shown))


def measured(directory: Path) -> Sequence[Shown]:
    """Run everything, and return what every query found."""
    collector = Collector()
    with (
        collector.serving(),
        exposed(collector) as target,
        running_prometheus(target, directory) as prometheus,
        troubled_mesh(collector, directory) as trouble,
    ):
        began_s = time.time()
        for what, make in trouble.each().items():
            print(f"{time.time() - began_s:3.0f} s  {what}", flush=True)
            make()
            time.sleep(SETTLED_S)
        return list(evaluated(DASHBOARDS, prometheus, began_s, time.time()))


def evaluated(
    dashboards: Sequence[Path], prometheus: Prometheus, began_s: float, ended_s: float
) -> Iterator[Shown]:
    """Yield what every query of every panel finds. Raises StackError for one that is refused."""
    for path in dashboards:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                found = prometheus.found(without_variables(target["expr"]), began_s, ended_s)
                yield Shown(path.stem, panel["title"], target["refId"], found)


def without_variables(expression: str) -> str:
    """Put values in the place of Grafana's variables. Raises StackError for one not known."""
    for name, value in GRAFANA_VARIABLES.items():
        expression = expression.replace(name, value)
    unknown = re.search(r"\$\w+|\$\{\w+\}", expression)
    if unknown:
        raise StackError(f"{expression}: no value is given for {unknown[0]}")
    return expression


def table(shown: Sequence[Shown]) -> str:
    """Return a line for every query."""
    lines = [f"{'dashboard':<10}{'panel':<34}{'query':<7}{'series':>6}{'greatest':>11}"]
    lines += [
        f"{each.dashboard:<10}{each.panel:<34}{each.query:<7}{each.found.series:>6}"
        f"{each.found.greatest:>11.4g}{'  <- nothing' if each.is_missed else ''}"
        for each in shown
    ]
    return "\n".join(lines)


def summary(shown: Sequence[Shown]) -> str:
    """Return how many panels have data, and which do not."""
    panels = {each.where for each in shown}
    missed = {each.where for each in shown if each.is_missed}
    quiet = {f"{each.where} ({each.query})" for each in shown if each.found.greatest == 0}
    excused = [f"{name}: {why}" for name, why in RIGHTLY_EMPTY.items()]
    lines = [
        f"{len(panels)} panels, {len(shown)} queries; panels with nothing to show: {len(missed)}",
        *(f"  nothing: {name}" for name in sorted(missed)),
        *(f"  rightly nothing: {text}" for text in excused),
        *(f"  0 all the time: {name}" for name in sorted(quiet)),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
