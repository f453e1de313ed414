"""The mesh as `meshctl up` starts it, asked for everybody as `meshctl recommend --users` asks."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.progress import Progress

from meshctl.prepare import prepare_dynamodb
from meshctl.recommend_many import Outcome, Slate, ask_for_all
from meshctl.standard_mesh import MeshSettings, standard_mesh
from meshctl.up import current_bundle, sources_of
from recmesh_client import AsyncRecommendationClient, Recommendation

SURFACE = "batch"
"""Its budget is 5 s, so that no source is late and no count is narrowed for it."""
CALL_TIMEOUT_S = 10.0
READY_TIMEOUT_S = 30.0
WARM_USERS = 200
WARM_LIMIT_S = 60.0
"""The mesh reads what trends for somebody's genres only once somebody has asked, from an embedded
DynamoDB that takes seconds for many of them."""
WARM_PAUSE_S = 1.0

IsExpected = Callable[[str, Outcome], bool]
"""Whether an outcome is what the user should be answered."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking for everybody once."""

    outcomes: Mapping[str, Outcome]
    """By user id, in the order that they were named."""
    narrowed: frozenset[str]
    """Users for whom the gateway asked for fewer candidates than usual."""
    seconds: float


@contextmanager
def running_mesh(bundles: Path, directory: Path) -> Iterator[str]:
    """Run a mesh over the current bundle of a store until the block ends; yield its gateway.

    It has the sources that the bundle was trained on. Its state is in `directory`, which must be
    there. Raises MeshError.
    """
    bundle = current_bundle(bundles)
    settings = MeshSettings(
        bundles=bundles,
        sources=sources_of(bundle),
        prepare_dynamodb=partial(prepare_dynamodb, bundles=bundles, version=bundle.version),
        port=0,
        control_file=directory / "control.json",
        state_directory=directory,
    )
    with standard_mesh(settings, say=partial(print, file=sys.stderr)) as mesh:
        mesh.start()
        yield mesh.address("gateway")


def warm(gateway: str, user_ids: Sequence[str], page_size: int, is_expected: IsExpected) -> None:
    """Ask for some of the users until all have what is expected, at most `WARM_LIMIT_S`."""
    some = user_ids[:: max(1, len(user_ids) // WARM_USERS)]
    gives_up_at_s = time.monotonic() + WARM_LIMIT_S
    while time.monotonic() < gives_up_at_s:
        outcomes = ask(gateway, some, page_size).outcomes
        if all(is_expected(user_id, outcome) for user_id, outcome in outcomes.items()):
            return
        time.sleep(WARM_PAUSE_S)


def ask(gateway: str, user_ids: Sequence[str], page_size: int) -> Asked:
    """Ask for a page for every user. Raises Unavailable when the gateway does not serve."""
    return asyncio.run(_ask(gateway, user_ids, page_size))


async def _ask(gateway: str, user_ids: Sequence[str], page_size: int) -> Asked:
    narrowed = set()
    async with AsyncRecommendationClient(gateway, default_timeout_s=CALL_TIMEOUT_S) as client:

        async def ask_one(user_id: str) -> Recommendation:
            answer = await client.recommend(user_id, page_size=page_size, surface=SURFACE)
            if answer.coverage.quality != 1.0:
                narrowed.add(user_id)
            return answer

        await client.wait_until_ready(READY_TIMEOUT_S)
        began_s = time.perf_counter()
        outcomes = await ask_for_all(user_ids, ask_one, progress=Progress(disable=True))
        return Asked(outcomes, frozenset(narrowed), time.perf_counter() - began_s)


def items_of(outcome: Outcome) -> tuple[str, ...]:
    """Return the ids of an answer, best first; none where the call failed."""
    return outcome.item_ids if isinstance(outcome, Slate) else ()
