"""What the running mesh computes for a request is what training computes from the same bundle."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pytest

from meshctl.child_process import ProcessSpec
from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.prepare import prepare_dynamodb
from meshctl.standard_mesh import MeshSettings, standard_specs
from meshkit.bundles import Bundle, open_store
from pipeline.offline_mesh import NO_ROWS, OfflineMesh, ranking_query
from pipeline.tables import Tables
from pipeline.train import Trained, publish
from recmesh_client import RankedBy, Recommendation, RecommendationClient, SourceStatus
from services.gateway.domain.recommend import reorder
from services.gateway.domain.rerank import fill, select
from services.gateway.domain.values import Merged, Slate, Subject
from services.ranker.adapters.lightgbm_model import LightgbmModel
from services.ranker.adapters.model_text import FILE as MODEL_FILE
from services.ranker.domain.features import SOURCES, assemble, feature_names
from services.ranker.domain.rank import rank
from services.ranker.domain.values import RankingQuery
from services.ranker.servicer import read_query
from signals.bundle_facts import BundleFacts
from signals.keys import item_key
from tests.integration.recording_ranker import RecordingRanker, recording_ranker
from tests.integration.small_world import NOW, TrainedWorld

USERS = 10
PAGE_SIZE = 20
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ServedWorld:
    """A bundle, served by real processes and opened offline."""

    client: RecommendationClient
    ranker: RecordingRanker
    offline: OfflineMesh
    model: LightgbmModel

    def ask(self, user_id: str) -> tuple[Recommendation, RankingQuery]:
        """Return the mesh's answer, and what it asked the ranker for it."""
        asked = len(self.ranker.requests)
        answer = self.client.recommend(
            user_id, page_size=PAGE_SIZE, surface="batch", timeout_s=TIMEOUT_S
        )
        assert len(self.ranker.requests) == asked + 1
        query = read_query(self.ranker.last_request(), self.offline.tables.facts.items)
        return answer, query

    def candidates(self, user_id: str) -> tuple[Merged, RankingQuery]:
        """Return what the ranker should be asked."""
        history = self.offline.history(item_key(user_id))
        candidates = self.offline.candidates(history, self.offline.ask_sources(history))
        return candidates, ranking_query(candidates, history)

    def slate(self, user_id: str) -> Slate:
        """Return what the mesh should answer."""
        candidates, query = self.candidates(user_id)
        scores = rank(query, self.offline.item_tables(), self.model)
        ranked = reorder(candidates, scores)
        chosen = select(ranked, PAGE_SIZE, self.offline.rules)
        history = self.offline.history(item_key(user_id))
        subject = Subject(history, NO_ROWS, market="", ignored_item_ids=0)
        popular = self.offline.tables.popularity.rows
        return fill(ranked, chosen, PAGE_SIZE, subject, self.offline.rules, popular)


@pytest.fixture(scope="module")
def served(
    trained_world: TrainedWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedWorld]:
    bundle = of_every_source(trained_world.trained, tmp_path_factory.mktemp("bundles"))
    facts = BundleFacts.from_json(bundle.manifest.facts)
    assert facts.sources == SOURCES
    meshes: list[LocalMesh] = []
    with recording_ranker(lambda: meshes[0].address("ranker")) as ranker:
        state = tmp_path_factory.mktemp("mesh")
        with a_mesh(specs_through(ranker, bundle, state), state) as mesh:
            meshes.append(mesh)
            mesh.start()
            with RecommendationClient(mesh.address("gateway")) as client:
                yield ServedWorld(
                    client=client,
                    ranker=ranker,
                    offline=OfflineMesh.open(bundle.path, facts),
                    model=LightgbmModel.open(bundle.path, feature_names()),
                )


def of_every_source(trained: Trained, root: Path) -> Bundle:
    """Publish what was trained anew, for a mesh that asks every source that there is."""
    path = trained.bundle.path
    facts = BundleFacts.from_json(trained.bundle.manifest.facts)
    tables = Tables.open(path, replace(facts, sources=SOURCES))
    model_text = (path / MODEL_FILE).read_text()
    return publish(open_store(root), tables, model_text, trained.report, now=NOW)


def a_mesh(specs: list[ProcessSpec], state: Path) -> LocalMesh:
    return LocalMesh(specs, state_directory=state, facts=MeshFacts(), say=lambda _: None)


def specs_through(ranker: RecordingRanker, bundle: Bundle, state: Path) -> list[ProcessSpec]:
    """Return the standard mesh, its gateway asking the recording ranker."""
    bundles, version = bundle.path.parent, bundle.version
    settings = MeshSettings(
        bundles=bundles,
        bundle_version=version,
        sources=SOURCES,
        prepare_dynamodb=partial(prepare_dynamodb, bundles=bundles, version=version),
        port=0,
        clock="bundle",
        control_file=state / "control.json",
        state_directory=state,
    )
    recorded = {"RECMESH_RANKER": ranker.address}
    return [
        replace(spec, env={**spec.env, **recorded}) if spec.name == "gateway" else spec
        for spec in standard_specs(settings)
    ]


@pytest.fixture(scope="module")
def users(served: ServedWorld, trained_world: TrainedWorld) -> list[str]:
    """Users from the one with fewest plays to the one with most, once the mesh knows their trends.

    The trending source reads a genre when it is first asked for it.
    """
    chosen = spread_by_plays(trained_world)
    for user in chosen:
        assert eventually(partial(trends_as_offline, served, user)), user
    return chosen


def spread_by_plays(world: TrainedWorld) -> list[str]:
    with duckdb.connect() as db:
        db.read_parquet(str(world.log / "events.parquet")).create_view("events")
        rows = db.sql("SELECT user_id FROM events GROUP BY user_id ORDER BY count(*), user_id")
        ids = [row[0] for row in rows.fetchall()]
    return [ids[place] for place in np.linspace(0, len(ids) - 1, USERS).astype(int)]


def trends_as_offline(served: ServedWorld, user: str) -> bool:
    _, asked = served.ask(user)
    _, expected = served.candidates(user)
    column, own = asked.sources.get("trending"), expected.sources["trending"]
    return column is not None and np.array_equal(np.sort(column.scores), np.sort(own.scores))


def eventually(claim: Callable[[], bool], *, within_s: float = 60.0) -> bool:
    deadline_s = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def test_a_served_request_and_the_offline_computation_give_identical_feature_rows(
    served: ServedWorld, users: list[str]
) -> None:
    tables = served.offline.item_tables()
    for user in users:
        answer, asked = served.ask(user)
        _, expected = served.candidates(user)

        assert answer.coverage.ranked_by is RankedBy.MODEL
        assert [source.status for source in answer.coverage.sources] == [SourceStatus.OK] * 5
        assert asked.rows.tolist() == expected.rows.tolist()
        assert list(asked.sources) == list(expected.sources) == list(SOURCES)
        features, offline_features = assemble(asked, tables), assemble(expected, tables)
        assert features.shape == (len(expected.rows), len(feature_names()))
        assert np.array_equal(features, offline_features, equal_nan=True)


def test_the_slate_is_the_offline_slate(served: ServedWorld, users: list[str]) -> None:
    texts = served.offline.tables.texts
    for user in users:
        answer, _ = served.ask(user)
        slate = served.slate(user)

        assert [item.item_id for item in answer.items] == [texts.item_id(r) for r in slate.rows]
        assert [item.score for item in answer.items] == slate.scores.tolist()
        assert len(answer.items) == PAGE_SIZE


def test_the_compared_features_are_not_empty(served: ServedWorld, users: list[str]) -> None:
    tables = served.offline.item_tables()
    matrices = [assemble(served.candidates(user)[1], tables) for user in users]

    features = np.concatenate(matrices)

    assert len(features) > 100 * USERS
    known = {
        name
        for name, column in zip(feature_names(), features.T, strict=True)
        if len(np.unique(column[~np.isnan(column)])) > 1
    }
    assert known == set(feature_names())
