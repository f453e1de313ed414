"""A leaf as a process of its own, with real servers and servicers around a scripted core.

python -m tests.integration.faulty_leaf NAME, where NAME is that of a source, or "ranker".
`FAULT_FILE` names a file that says what goes wrong with the next calls: one of `FAULTS`, then
`once` for the next call only; whoever takes that removes the file. Processes may share it.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from recmesh.candidates.v1 import candidates_pb2_grpc
from recmesh.ranker.v1 import ranker_pb2_grpc

from meshkit import telemetry
from meshkit.bundles import Bundle
from meshkit.call_log import CallLog
from meshkit.config import read_environment
from meshkit.errors import CallerError, DependencyUnavailable, Overloaded
from meshkit.held_server import serve_held
from meshkit.logs import setup_logs
from meshkit.shelf import Shelf
from services.candidates import wiring as candidates_wiring
from services.candidates.domain.values import Candidates, Query
from services.candidates.servicer import CandidateServicer, HeldSource
from services.ranker import wiring as ranker_wiring
from services.ranker.adapters.bundle_item_tables import open_item_tables
from services.ranker.config import RankerConfig
from services.ranker.servicer import HeldModel, RankerServicer
from signals.bundle_facts import BundleFacts

PROPOSED = {"ann": [10, 11, 12], "similar": [12, 20, 21], "trending": [30, 31, 32]}


def _raise(error: Exception) -> None:
    raise error


FAULTS: Mapping[str, Callable[[], None]] = {
    "abort": lambda: _raise(CallerError("not like this")),
    "exception": lambda: _raise(RuntimeError("secret")),
    "shed": lambda: _raise(Overloaded()),
    "unavailable": lambda: _raise(DependencyUnavailable("gone")),
    "slow": lambda: time.sleep(0.6),
    "slower": lambda: time.sleep(1.5),
}


class Script:
    """What goes wrong, as the file says."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def follow(self) -> None:
        """Do what the file says now."""
        try:
            fault, *once = self._path.read_text().split()
            if once:
                self._path.unlink()
        except FileNotFoundError:
            return
        FAULTS[fault]()


class ScriptedSource:
    """Proposes the same items to everybody, unless something goes wrong."""

    def __init__(self, script: Script, rows: list[int]) -> None:
        self._script = script
        self._rows = np.array(rows, dtype=np.uint32)

    def generate(self, _query: Query) -> Candidates:
        self._script.follow()
        return Candidates(self._rows, np.arange(len(self._rows), 0, -1, dtype=np.float32))


class ScriptedModel:
    """Likes what comes late, unless something goes wrong."""

    scorer = "forest"

    def __init__(self, script: Script) -> None:
        self._script = script

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        self._script.follow()
        return np.arange(len(features), dtype=np.float32)


def serve_source(name: str, settings: RankerConfig, script: Script) -> None:
    def register(server: grpc.Server, shelf: Shelf[HeldSource]) -> None:
        servicer = CandidateServicer(shelf, CallLog(None, name))
        candidates_pb2_grpc.add_CandidateServiceServicer_to_server(servicer, server)

    serve_held(
        settings.server,
        settings.stock,
        lambda _: HeldSource(ScriptedSource(script, PROPOSED[name]), 60, ExitStack()),
        register,
        service_names=[candidates_wiring.SERVICE],
    )


def serve_ranker(settings: RankerConfig, script: Script) -> None:
    def load(bundle: Bundle) -> HeldModel:
        facts = BundleFacts.from_json(bundle.manifest.facts)
        return HeldModel(open_item_tables(bundle.path, facts), ScriptedModel(script))

    def register(server: grpc.Server, shelf: Shelf[HeldModel]) -> None:
        servicer = RankerServicer(shelf, CallLog(None, "ranker"), lambda _count, _seconds: None)
        ranker_pb2_grpc.add_RankerServiceServicer_to_server(servicer, server)

    serve_held(
        settings.server, settings.stock, load, register, service_names=[ranker_wiring.SERVICE]
    )


def main(name: str) -> None:
    service = name if name == "ranker" else f"candidates-{name}"
    setup_logs(service)
    telemetry.setup(service, str(os.getpid()))
    settings = read_environment(RankerConfig, os.environ)
    script = Script(Path(os.environ["FAULT_FILE"]))
    try:
        if name == "ranker":
            serve_ranker(settings, script)
        else:
            serve_source(name, settings, script)
    finally:
        telemetry.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
