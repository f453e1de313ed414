"""Run the core profile under podman, break it, see it mend: `python -m tests.compose.core_profile`.

Builds the images; asks for a whole answer; kills a container and wants degraded answers that name
what is missing, then whole ones again; looks at the sandbox from inside; takes everything down.
"""

import os
import signal
import sys
import time
from functools import partial

from recmesh_client import RankedBy, Recommendation, RecommendationClient, RecommendError
from recmesh_client import SourceStatus as Status
from tests.compose.podman_stack import SERVERS, Stack, StackError, core_stack, say, wait_for

LISTENER = "usr_000536"  # the synthetic world is the same every time
PAGE_SIZE = 10
PAUSE_S = 0.05

_SANDBOX = """
import os, pathlib
lines = pathlib.Path("/proc/1/status").read_text().splitlines()
status = dict(line.split(":", 1) for line in lines)
print("uid", os.getuid())
print("capabilities", int(status["CapEff"], 16))
print("new privileges", int(status["NoNewPrivs"]) == 0)
for place in ("/app", "/bundles", "/usr/local", "/tmp"):
    try:
        pathlib.Path(place, "written").write_text("")
        print("writes", place)
    except OSError:
        pass
"""
_SANDBOXED = "uid 65532\ncapabilities 0\nnew privileges False\nwrites /tmp\n"


def main() -> int:
    """Return 0 when the profile does what it should, 1 with the reason when not."""
    # So that everything is taken down, as at Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with core_stack(os.environ.get("PODMAN_COMPOSE", "podman-compose")) as stack:
            drill(stack)
    except StackError as error:
        print(f"compose-test: FAILED: {error}", file=sys.stderr)
        return 1
    say("passed")
    return 0


def drill(stack: Stack) -> None:
    """Take a stack that starts through a day's trouble."""
    for service in ("dynamodb", *SERVERS):
        wait_for(f"{service} is healthy", partial(_is_healthy, stack, service), within_s=120)
    with RecommendationClient(f"127.0.0.1:{stack.port}") as client:
        answer = wait_for("a whole answer", partial(_whole, client), within_s=90)
        say(f"{len(answer.items)} items of bundle {answer.bundle_version}")
        check_sandboxes(stack)
        source_crashes(stack, client)
        ranker_is_killed(stack, client)
        prepares_once(stack, answer.bundle_version)
    stops_cleanly(stack)


def check_sandboxes(stack: Stack) -> None:
    """Every server runs as nobody in particular, without capabilities, writing to /tmp only."""
    for service in SERVERS:
        found = stack.run(service, _SANDBOX)
        if found != _SANDBOXED:
            raise StackError(f"{service} is not sandboxed: {found!r}")
    say("every server is sandboxed")


def source_crashes(stack: Stack, client: RecommendationClient) -> None:
    """A crashed source is named in full, degraded answers, and comes back by itself."""
    stack.crash("candidates-similar")
    degraded = _first_degraded(client, within_s=10)
    missing = {each.source for each in degraded.coverage.sources if each.status is not Status.OK}
    if missing != {"similar"} or len(degraded.items) != PAGE_SIZE:
        raise StackError(f"without candidates-similar: {degraded.coverage}")
    say(f"crashed: {len(degraded.items)} items, degraded, without {', '.join(missing)}")
    wait_for("a whole answer again, nobody helped", partial(_whole, client), within_s=120)
    if stack.state("candidates-similar")["RestartCount"] < 1:
        raise StackError("candidates-similar answers, but was not restarted")


def ranker_is_killed(stack: Stack, client: RecommendationClient) -> None:
    """Without the ranker answers are in merge order; one that an operator killed stays down."""
    stack.command("kill", "ranker")
    degraded = _first_degraded(client, within_s=10)
    coverage = degraded.coverage
    if coverage.ranked_by is not RankedBy.FALLBACK or len(degraded.items) != PAGE_SIZE:
        raise StackError(f"without the ranker: {coverage}")
    say(f"ranker killed: {len(degraded.items)} items, degraded, in merge order")
    stack.command("start", "ranker")
    wait_for("a whole answer again, started by hand", partial(_whole, client), within_s=120)


def prepares_once(stack: Stack, version: str) -> None:
    """A second init finds the bundle and does not train."""
    started_s = time.monotonic()
    stack.command("run", "--rm", "--no-deps", "init")
    with RecommendationClient(f"127.0.0.1:{stack.port}") as client:
        again = wait_for("an answer after init ran again", partial(_whole, client), within_s=60)
    if again.bundle_version != version:
        raise StackError(f"init trained again: {version}, then {again.bundle_version}")
    say(f"init again took {time.monotonic() - started_s:.1f} s and kept the bundle")


def stops_cleanly(stack: Stack) -> None:
    """A stopped server drains and ends with status 0, well before it would be killed."""
    stack.command("stop", "--timeout", "15", "gateway", "ranker")
    for service in ("gateway", "ranker"):
        code = stack.state(service)["State"]["ExitCode"]
        if code != 0:
            raise StackError(f"{service} ended with status {code}")
    say("gateway and ranker drained and ended with status 0")


def _is_healthy(stack: Stack, service: str) -> bool | None:
    return True if stack.is_healthy(service) else None


def _ask(client: RecommendationClient) -> Recommendation | None:
    try:
        return client.recommend(LISTENER, page_size=PAGE_SIZE, timeout_s=2.0)
    except RecommendError:
        return None


def _whole(client: RecommendationClient) -> Recommendation | None:
    """Return an answer with all sources, ranked by the model; None for any other."""
    answer = _ask(client)
    if answer is None or answer.coverage.degraded or len(answer.items) != PAGE_SIZE:
        return None
    return answer if answer.coverage.ranked_by is RankedBy.MODEL else None


def _first_degraded(client: RecommendationClient, *, within_s: float) -> Recommendation:
    """Ask until an answer is degraded; an error at any time is a failure."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        answer = _ask(client)
        if answer is None:
            raise StackError("the gateway failed a request while a part was down")
        if answer.coverage.degraded:
            return answer
        time.sleep(PAUSE_S)
    raise StackError(f"no degraded answer within {within_s:g} s")


if __name__ == "__main__":
    sys.exit(main())
