"""See the whole stack of docker-compose.yml work: `python -m deploy.compose.smoke`.

Asks for recommendations, finds one of their traces in Jaeger with every service in it, and sees
that Prometheus reads all of its targets and has what the dashboards ask for. Status 0 if so.
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from recmesh_client import RecommendationClient, RecommendError

GATEWAY = "127.0.0.1:8080"
JAEGER = "http://127.0.0.1:16686"
PROMETHEUS = "http://127.0.0.1:9090"
GRAFANA = "http://127.0.0.1:3000"
DASHBOARDS = Path(__file__).parent / "grafana" / "dashboards"
LISTENER = "usr_000536"
SERVICES = frozenset(
    {"gateway", "candidates-ann", "candidates-similar", "candidates-trending", "ranker"}
)
ASKED = 50
"""The collector keeps one plain trace in five: of 50, none once in 70,000 runs."""
TRACES_WITHIN_S = 30.0
METRICS_WITHIN_S = 60.0
POLL_S = 1.0
HTTP_TIMEOUT_S = 5.0

T = TypeVar("T")


class SmokeError(Exception):
    """The stack does not do what it should; the message says what."""


def main() -> int:
    """Return 0 when all of it works, 1 with the reason when not."""
    try:
        trace_ids = ask(GATEWAY)
        print(f"{len(trace_ids)} answers")
        found = wait_for(lambda: whole_trace(trace_ids), TRACES_WITHIN_S, "a whole trace")
        print(f"trace {found}: {JAEGER}/trace/{found}")
        wait_for(targets_are_up, METRICS_WITHIN_S, "every target of Prometheus up")
        wait_for(answers_are_counted, METRICS_WITHIN_S, "the answers in Prometheus")
        print(f"Prometheus reads every target and counts answers: {GRAFANA}")
        for panel in empty_panels(DASHBOARDS):
            print(f"  no data yet: {panel}")
    except SmokeError as error:
        print(f"compose-smoke: FAILED: {error}", file=sys.stderr)
        return 1
    return 0


def ask(gateway: str) -> list[str]:
    """Return the trace ids of ASKED answers; raises SmokeError."""
    with RecommendationClient(gateway) as client:
        try:
            answers = [client.recommend(LISTENER, timeout_s=5.0) for _ in range(ASKED)]
        except RecommendError as error:
            raise SmokeError(f"the gateway at {gateway}: {error}") from error
    return [answer.recommendation_id.partition("-")[0] for answer in answers]


def whole_trace(trace_ids: Iterable[str]) -> str | None:
    """Return the first trace that Jaeger has with every service in it."""
    for trace_id in trace_ids:
        answer = get(f"{JAEGER}/api/traces/{trace_id}")
        if answer is not None and services_of(answer) >= SERVICES:
            return trace_id
    return None


def services_of(jaeger_answer: Any) -> set[str]:
    """Return the services that have spans in an answer of Jaeger's query API."""
    return {
        trace["processes"][span["processID"]]["serviceName"]
        for trace in jaeger_answer["data"] or ()
        for span in trace["spans"]
    }


def targets_are_up() -> bool | None:
    """Return True when Prometheus reads each of its targets."""
    answer = get(f"{PROMETHEUS}/api/v1/targets?state=active")
    return True if answer is not None and not bad_targets(answer) else None


def bad_targets(prometheus_answer: Any) -> list[str]:
    """Return the targets that Prometheus cannot read; all are bad when there is none."""
    targets = prometheus_answer["data"]["activeTargets"]
    if not targets:
        return ["no target at all"]
    return [
        f"{target['labels']['job']}: {target['lastError'] or target['health']}"
        for target in targets
        if target["health"] != "up"
    ]


def answers_are_counted() -> bool | None:
    """Return True when Prometheus has seen the gateway answer."""
    return True if has_data(query("sum(recmesh_answers_total) > 0")) else None


def empty_panels(dashboards: Path) -> list[str]:
    """Return the panels for which Prometheus has nothing; quiet counters have none either."""
    return [
        f"{path.stem}: {panel['title']}"
        for path in sorted(dashboards.glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        if panel.get("targets") and not any(map(panel_has_data, panel["targets"]))
    ]


def panel_has_data(target: Any) -> bool:
    """Tell whether Prometheus answers one query of a panel."""
    return has_data(query(target["expr"].replace("$__rate_interval", "1m")))


def has_data(prometheus_answer: Any) -> bool:
    """Tell whether an answer of Prometheus' query API holds a sample."""
    return prometheus_answer is not None and bool(prometheus_answer["data"]["result"])


def query(expression: str) -> Any:
    """Return Prometheus' answer to an instant query; None when it has none."""
    return get(f"{PROMETHEUS}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")


def get(url: str) -> Any:
    """Return the JSON at a loopback URL; None when it cannot be had."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=HTTP_TIMEOUT_S) as answer:
            return json.load(answer)
    except (urllib.error.URLError, TimeoutError, ConnectionError, json.JSONDecodeError):
        return None


def wait_for(ask: Callable[[], T | None], within_s: float, what: str) -> T:
    """Return the first answer that is not None; raises SmokeError when none came."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        answer = ask()
        if answer is not None:
            return answer
        time.sleep(POLL_S)
    raise SmokeError(f"not within {within_s:g} s: {what}")


if __name__ == "__main__":
    sys.exit(main())
