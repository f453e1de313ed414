"""A mesh that is asked, and in trouble: so that everything that is measured has happened."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from meshctl.drills.mesh import DrillMesh, MeshPlan, drill_mesh
from meshctl.drills.world import open_world
from meshctl.standard_mesh import SOURCES, STANDARD_PARTS
from meshkit.bundles.manifest import MANIFEST
from meshkit.bundles.store import POINTER
from recmesh_client import RecommendationClient, RecommendError
from tests.compose.prometheus import Collector
from tests.small_bundle import ITEM_IDS, USER_IDS, publish_small_bundle

CALLERS = 2
PAUSE_S = 0.02
SETTLED_S = 3.0
"""Until what happened has been exported and read, each once a second, and can have a rate."""
STOPPED_S = 1.0
"""Less than a peer may be silent: longer, and its connection would end instead."""
BURST = 200
IN_TIME_S = 5.0
HURRIED_S = (0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006)
"""Some of these end before a request is begun, some in the middle of it."""
ERROR_WITHIN_S = 15.0
WORKERS = {"ann": 2}
"""Somebody has to answer in the place of one that is slow or gone."""
MARKETS = ("SE", "US", "")

Troubles = Mapping[str, Callable[[], object]]


@contextmanager
def troubled_mesh(collector: Collector, directory: Path) -> Iterator["Trouble"]:
    """Run a mesh that exports to the collector, and is asked, until the block ends."""
    store = directory / "bundles"
    publish_small_bundle(store)
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "RECMESH_BUNDLE_VERSION": "",  # follow the store
        "RECMESH_TRENDING_REFRESH_S": "1",
    }
    names = [f"candidates-{part}" if part in SOURCES else part for part in STANDARD_PARTS]
    plan = MeshPlan(workers=WORKERS, history="dynamodb", extra_env=dict.fromkeys(names, settings))
    with (
        drill_mesh(plan, open_world(store), directory, print) as mesh,
        RecommendationClient(mesh.gateways(), default_timeout_s=IN_TIME_S) as client,
    ):
        client.wait_until_ready(IN_TIME_S)
        trouble = Trouble(mesh, client, collector, directory)
        with trouble.being_asked():
            yield trouble


class Trouble:
    """What can be done to a mesh."""

    def __init__(
        self, mesh: DrillMesh, client: RecommendationClient, collector: Collector, directory: Path
    ) -> None:
        self._mesh = mesh
        self._client = client
        self._collector = collector
        self._directory = directory
        self._is_over = threading.Event()

    def each(self) -> Troubles:
        """Return every trouble by what it is, in the order to make it in."""
        return {
            "nothing": lambda: None,
            "bad and empty requests, callers who do not wait": self.ask_oddly,
            "a source switched off": self.switch_off_a_source,
            "a slow worker": self.stop_a_worker,
            "more at once than can be served": self.burst,
            "a worker killed": lambda: self.kill("candidates-ann-2"),
            "the ranker killed": lambda: self.kill("ranker"),
            "spans refused": self.refuse_spans,
            "a bundle that is broken": self.publish_a_broken_bundle,
        }

    @contextmanager
    def being_asked(self) -> Iterator[None]:
        """Ask all the time until the block ends."""
        with ThreadPoolExecutor(CALLERS) as pool:
            callers = [pool.submit(self._ask_on, number) for number in range(CALLERS)]
            try:
                yield
            finally:
                self._is_over.set()
        for caller in callers:
            caller.result()

    def ask_oddly(self) -> None:
        self._ask(page_size=-1)
        self._ask(user_id=USER_IDS[0], exclude_item_ids=ITEM_IDS)
        # Whether the gateway notices that a caller has gone is a matter of luck.
        gives_up_s = time.monotonic() + ERROR_WITHIN_S
        while "error_type=" not in self._collector.text() and time.monotonic() < gives_up_s:
            for timeout_s in HURRIED_S:
                self._ask(user_id=USER_IDS[1], timeout_s=timeout_s)

    def switch_off_a_source(self) -> None:
        switches = self._directory / "control.json"
        switches.write_text(json.dumps({"disabled_sources": ["similar"]}))
        time.sleep(SETTLED_S)
        switches.unlink()

    def stop_a_worker(self) -> None:
        pid = self._mesh.process("candidates-ann-1").identity.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(STOPPED_S)
        os.kill(pid, signal.SIGCONT)

    def burst(self) -> None:
        with ThreadPoolExecutor(BURST) as pool:
            for number in range(BURST):
                pool.submit(self._ask, user_id=_user(number), surface="home", timeout_s=0.2)

    def kill(self, name: str) -> None:
        identity = self._mesh.process(name).identity
        # Stopped first, so that calls are under way when it dies: those are tried again.
        os.kill(identity.pid, signal.SIGSTOP)
        time.sleep(STOPPED_S)
        os.kill(identity.pid, signal.SIGKILL)
        self._mesh.await_restart(name, identity)

    def refuse_spans(self) -> None:
        with self._collector.refusing_spans():
            time.sleep(SETTLED_S)

    def publish_a_broken_bundle(self) -> None:
        pointer = self._directory / "bundles" / POINTER
        good = pointer.read_text()
        broken = pointer.with_name("broken")
        shutil.copytree(pointer.with_name(good.strip()), broken)
        (broken / MANIFEST).write_text("{}")
        pointer.write_text("broken\n")
        time.sleep(SETTLED_S)
        pointer.write_text(good)

    def _ask_on(self, caller: int) -> None:
        number = caller
        while not self._is_over.wait(PAUSE_S):
            number += CALLERS
            # One in five is nobody whom the mesh knows.
            user_id = "" if number % 5 == 0 else _user(number)
            self._ask(user_id=user_id, market=MARKETS[number % 3], seed_item_ids=ITEM_IDS[:2])

    def _ask(self, **fields: Any) -> None:
        # Some are refused, or late: that is what they are for.
        with suppress(RecommendError):
            self._client.recommend(**{"page_size": 10, "surface": "batch", **fields})


def _user(number: int) -> str:
    return USER_IDS[number % len(USER_IDS)]
