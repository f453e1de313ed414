"""Ours: trained with a holdout, served by a real mesh, and asked for every user of the protocol.

What is compared with the peers is what the running mesh answers. The stages before it (each source
alone, merge order, the ranked list in one process) stand beside it, from training's own evaluation.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar

import duckdb
import numpy as np

from benchmarks.quality.mesh import Asked, ask, items_of, running_mesh, warm
from benchmarks.quality.protocol import Window, windows_of
from meshctl.recommend_many import Outcome, Slate
from meshkit.bundles import Bundle, open_store, readable
from pipeline.evaluate import LIST_LENGTH, RANKED, MethodQuality, half_width
from pipeline.event_log import EventLog, read_event_log
from pipeline.log_directory import EVENTS_FILE
from pipeline.metrics import METRICS, list_quality
from pipeline.offline_mesh import OfflineMesh
from pipeline.progress import peak_mib
from pipeline.quality.cases import Case
from pipeline.quality.fates import source_recalls
from pipeline.quality.observe import Observation, Observer
from pipeline.recipe import Recipe, to_json
from pipeline.train import Holdout, train
from services.gateway.domain.values import Rows
from services.ranker.adapters.scoring_model import open_model
from services.ranker.domain.features import feature_names
from signals.bundle import ItemKeys
from signals.bundle_facts import BundleFacts
from signals.keys import item_key

T = TypeVar("T")

OURS = "recmesh"
IN_MESH = f"{OURS}: {RANKED} (mesh)"
"""The row that is compared with the peers."""
OFFLINE = f"{OURS}: {RANKED} (offline)"
MOST_DIFFERING = 0.01
"""Share of users whose answer may be another than the offline list, or none."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the mesh should answer: the lists of the same bundle, asked in one process."""

    items: ItemKeys
    ranked: Mapping[str, Rows]
    """By user id, the rows of the ranked list."""

    def rows_of(self, outcome: Outcome) -> Rows:
        """Return the rows of an answer, best first. Raises ValueError for an unknown item."""
        rows = self.items.rows_of_ids(items_of(outcome))
        if (rows < 0).any():
            raise ValueError("the mesh answered an item that the log has not")
        return rows.astype(np.uint32)

    def is_met(self, user_id: str, outcome: Outcome) -> bool:
        """Tell whether an answer begins with the whole ranked list.

        Behind it the mesh fills a page that is not full with popular items.
        """
        ranked = self.ranked[user_id]
        return np.array_equal(self.rows_of(outcome)[: len(ranked)], ranked)


def ours(log_directory: Path, recipe: Recipe, *, seed: int) -> dict[str, Any]:
    """Train by a recipe with a holdout, serve it, and return every stage at the test cut."""
    log = read_event_log(log_directory)
    _, window = windows_of(log, seed=seed)
    with TemporaryDirectory(prefix="recmesh-") as made:
        bundles = Path(made) / "bundles"
        trained = _trained(log_directory, log.order, bundles, recipe, seed)
        observations = observe(trained.bundle, cases_of(log, window))
        asked, expected = _asked(log_directory, log, window, observations, Path(made))
    return {
        "seed": seed,
        "users": len(window.users),
        "rows": [mesh_row(asked, expected, window.targets), *trained.rows],
        "sources": [asdict(each) for each in source_recalls(observations)],
        "mesh": mesh_facts(asked, expected),
        "tuning_s": 0.0,
        **trained.costs,
        "settings": {},
        "recipe": to_json(recipe),
        "tried": 0,
    }


@dataclass(frozen=True, slots=True)
class TrainedBundle:
    """What training published, said and took."""

    bundle: Bundle
    rows: tuple[dict[str, Any], ...]
    costs: Mapping[str, Any]


class Silent:
    """Training progress that nobody sees."""

    def step(self, _description: str) -> AbstractContextManager[None]:
        """Run the block."""
        return nullcontext()

    def track(self, things: Sequence[T], _description: str) -> Sequence[T]:
        """Return `things`."""
        return things


def _trained(
    log_directory: Path, order: str, bundles: Path, recipe: Recipe, seed: int
) -> TrainedBundle:
    """Train as `meshctl train --holdout` does."""
    holdout: Holdout = "week" if order == "time" else "last"
    began_s = perf_counter()
    trained = train(
        log_directory,
        open_store(bundles),
        holdout=holdout,
        seed=seed,
        now=datetime.now(UTC),
        progress=Silent(),
        recipe=recipe,
    )
    took_s = perf_counter() - began_s
    steps = trained.report.steps
    evaluating_s = sum(each.seconds for each in steps if each.description == "evaluating")
    costs = {
        "train_s": took_s - evaluating_s,
        "evaluate_s": evaluating_s,
        "steps": [each.to_json() for each in steps],
        "peak_mib": peak_mib(),
    }
    return TrainedBundle(trained.bundle, tuple(map(row_of, trained.report.methods)), costs)


def row_of(method: MethodQuality) -> dict[str, Any]:
    """Return a stage of ours under a name that says so."""
    name = OFFLINE if method.method == RANKED else f"{OURS}: {method.method}"
    return {**method.to_json(), "method": name}


def cases_of(log: EventLog, window: Window) -> list[Case]:
    """Return the users and targets of the protocol's window as the evaluation takes them."""
    keys = log.user_keys[window.users].tolist()
    return [Case(key, rows) for key, rows in zip(keys, window.targets, strict=True)]


def observe(bundle: Bundle, cases: Iterable[Case]) -> list[Observation]:
    """Return what the serving code says for every case, in this process. Raises BundleError."""
    with readable(bundle):
        mesh = OfflineMesh.open(bundle.path, BundleFacts.from_json(bundle.manifest.facts))
        model = open_model(bundle.path, feature_names())
    observer = Observer(mesh, model, without=(), exact=None)
    return [observer.observe(case) for case in cases]


def _asked(
    log_directory: Path,
    log: EventLog,
    window: Window,
    observations: Sequence[Observation],
    directory: Path,
) -> tuple[Asked, Expected]:
    """Serve the bundle that `directory` has, and ask it for all users of the window, in order."""
    ids = user_ids(log_directory)
    wanted = [ids[user] for user in window.users.tolist()]
    ranked = (each.lists[RANKED] for each in observations)
    expected = Expected(log.catalogue.keys, dict(zip(wanted, ranked, strict=True)))
    state = directory / "mesh"
    state.mkdir()
    with running_mesh(directory / "bundles", state) as gateway:
        warm(gateway, wanted, LIST_LENGTH, expected.is_met)
        return ask(gateway, wanted, LIST_LENGTH), expected


def user_ids(log_directory: Path) -> list[str]:
    """Return the users of a log, in the order of `EventLog.user_keys`."""
    query = "SELECT DISTINCT user_id FROM read_parquet(?)"
    rows = duckdb.execute(query, [str(log_directory / EVENTS_FILE)]).fetchall()
    return sorted((str(row[0]) for row in rows), key=item_key)


def mesh_row(asked: Asked, expected: Expected, targets: Sequence[Rows]) -> dict[str, Any]:
    """Return the quality of the answers, parallel to `targets`; a failed call is an empty list."""
    values = np.array(
        [
            [getattr(quality, metric) for metric in METRICS]
            for outcome, wanted in zip(asked.outcomes.values(), targets, strict=True)
            for quality in [list_quality(expected.rows_of(outcome), wanted)]
        ]
    )
    return {
        "method": IN_MESH,
        **dict(zip(METRICS, values.mean(axis=0).tolist(), strict=True)),
        "ndcg_10_ci95": half_width(values[:, METRICS.index("ndcg_10")].tolist()),
    }


def mesh_facts(asked: Asked, expected: Expected) -> dict[str, Any]:
    """Return how the mesh answered; `differing` counts answers that are not the offline list."""
    slates = {who: each for who, each in asked.outcomes.items() if isinstance(each, Slate)}
    return {
        "users": len(asked.outcomes),
        "seconds": asked.seconds,
        "per_s": len(asked.outcomes) / asked.seconds,
        "failed": len(asked.outcomes) - len(slates),
        "degraded": sum(slate.degraded for slate in slates.values()),
        "narrowed": len(asked.narrowed),
        "differing": sum(not expected.is_met(who, slate) for who, slate in slates.items()),
    }


def is_as_offline(mesh: Mapping[str, Any]) -> bool:
    """Tell whether nearly all users were answered with their offline list."""
    return bool(mesh["failed"] + mesh["differing"] <= MOST_DIFFERING * mesh["users"])
