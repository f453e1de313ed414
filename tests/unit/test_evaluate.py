"""Evaluation refuses to measure memory."""

from dataclasses import replace
from json import loads
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluate import EvaluationError, evaluate, lists_of, refuse_window
from pipeline.offline_mesh import OfflineMesh
from services.ranker.adapters.lightgbm_model import LightgbmModel
from services.ranker.domain.features import feature_names
from signals.bundle_facts import BundleFacts
from tests.small_bundle import publish_small_bundle


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_small_bundle(tmp_path_factory.mktemp("bundles")).path


@pytest.fixture(scope="module")
def mesh(bundle_path: Path) -> OfflineMesh:
    return OfflineMesh.open(bundle_path, facts_of(bundle_path))


def facts_of(bundle_path: Path) -> BundleFacts:
    return BundleFacts.from_json(loads((bundle_path / "manifest.json").read_text())["facts"])


def test_a_target_that_the_tables_know_is_refused(mesh: OfflineMesh, bundle_path: Path) -> None:
    key = int(mesh.tables.histories.user_keys[0])
    played, _ = mesh.tables.histories.of(key)
    model = LightgbmModel.open(bundle_path, feature_names())

    with pytest.raises(EvaluationError, match="1 of 1 targets"):
        evaluate(mesh, model, [(key, played[:1])])


def test_new_targets_are_measured_by_every_method(mesh: OfflineMesh, bundle_path: Path) -> None:
    key = int(mesh.tables.histories.user_keys[0])
    played, _ = mesh.tables.histories.of(key)
    unplayed = np.setdiff1d(np.arange(mesh.tables.facts.items), played).astype(np.uint32)
    model = LightgbmModel.open(bundle_path, feature_names())

    methods = evaluate(mesh, model, [(key, unplayed)])

    expected = ["ranked", "merge order", *mesh.sources, "popularity"]
    assert [each.method for each in methods] == expected
    assert methods[0].ndcg_10 == 1.0


def test_somebody_without_a_history_gets_merge_order_as_from_the_gateway(
    mesh: OfflineMesh, bundle_path: Path
) -> None:
    model = LightgbmModel.open(bundle_path, feature_names())

    lists = lists_of(mesh, model, user_key=0)

    assert len(lists["ranked"]) > 0
    assert lists["ranked"].tolist() == lists["merge order"][: len(lists["ranked"])].tolist()


def test_targets_inside_the_window_of_the_tables_are_refused(mesh: OfflineMesh) -> None:
    facts = replace(mesh.tables.facts, order="time", as_of_s=1_000)

    refuse_window(facts, np.array([1_000, 2_000]))
    with pytest.raises(EvaluationError, match="1 of 2 targets"):
        refuse_window(facts, np.array([999, 1_000]))
