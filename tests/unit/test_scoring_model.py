"""Which of the two scores: the forest where it can, LightGBM where it must, and never silently."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from numpy.typing import NDArray

from meshkit.bundles import Bundle
from pipeline.forest_files import write_forest
from services.ranker import wiring
from services.ranker.adapters.forest_model import ForestModel
from services.ranker.adapters.lightgbm_model import LightgbmModel
from services.ranker.adapters.model_text import FILE, read_trees
from services.ranker.adapters.scoring_model import model_of, open_model
from services.ranker.domain.forest import Forest, NotPackable
from services.ranker.domain.forest_kernel import score_rows
from services.ranker.domain.rank import rank
from services.ranker.domain.values import RankingQuery, SourceColumn

NAMES = ("first", "second", "third")


def trained(**parameters: Any) -> str:
    random = np.random.default_rng(5)
    features = random.random((400, len(NAMES)))
    features[random.random(features.shape) < 0.2] = np.nan
    labels = np.nan_to_num(features[:, 0]) + features[:, 2] + random.random(400)
    data = lgb.Dataset(features, np.nan_to_num(labels), feature_name=list(NAMES))
    common = {"objective": "regression", "num_leaves": 7, "num_threads": 1, "verbosity": -1}
    return str(lgb.train({**common, **parameters}, data, 10).model_to_string())


@pytest.fixture(scope="module")
def text() -> str:
    return trained()


@pytest.fixture
def features() -> NDArray[np.float32]:
    drawn = np.random.default_rng(6).random((70, len(NAMES)), dtype=np.float32)
    drawn[::4, 1] = np.nan
    return drawn


def published(directory: Path, text: str) -> Path:
    (directory / FILE).write_text(text)
    write_forest(directory, text)
    return directory


def test_a_forest_scores_where_the_bundle_holds_one(
    tmp_path: Path, text: str, features: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    model = open_model(published(tmp_path, text), NAMES)

    assert model.scorer == "forest"
    assert model.score(features).dtype == np.float32
    assert model.score(features).tolist() == LightgbmModel(text, NAMES).score(features).tolist()
    assert not caplog.records


def test_lightgbm_scores_a_bundle_that_was_published_without_a_forest_and_the_log_says_so(
    tmp_path: Path, text: str, features: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_text(text)

    model = open_model(tmp_path, NAMES)

    assert model.scorer == "lightgbm"
    assert model.score(features).tolist() == model_of(text, NAMES).score(features).tolist()
    assert "published without the forest's arrays" in caplog.text


UNPACKABLE: dict[str, dict[str, Any]] = {
    "Tree=0 is linear": {"linear_tree": True},
    "it is a random forest": {
        "boosting": "rf",
        "bagging_freq": 1,
        "bagging_fraction": 0.5,
    },
}


@pytest.mark.parametrize("reason", UNPACKABLE)
def test_lightgbm_scores_what_cannot_be_packed_and_the_log_says_why(
    tmp_path: Path,
    reason: str,
    features: NDArray[np.float32],
    caplog: pytest.LogCaptureFixture,
) -> None:
    unpackable = trained(**UNPACKABLE[reason])
    with pytest.raises(NotPackable, match=reason):
        read_trees(unpackable)

    model = open_model(published(tmp_path, unpackable), NAMES)

    expected = np.asarray(lgb.Booster(model_str=unpackable).predict(features, raw_score=True))
    assert model.scorer == model_of(unpackable, NAMES).scorer == "lightgbm"
    assert model.score(features).tolist() == expected.astype(np.float32).tolist()
    assert reason in caplog.text


@pytest.mark.parametrize("names", [NAMES[:2], NAMES[::-1], (*NAMES, "fourth"), ()])
def test_a_forest_over_other_features_is_refused(
    tmp_path: Path, text: str, names: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=f"{FILE} was trained on 3 features that are not"):
        open_model(published(tmp_path, text), names)
    with pytest.raises(ValueError, match=f"{FILE} was trained on 3 features that are not"):
        model_of(text, names)


def test_a_forest_that_lacks_a_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    (published(tmp_path, text) / "Forest.words.npy").unlink()

    with pytest.raises(OSError, match=r"Forest\.words\.npy"):
        open_model(tmp_path, NAMES)


def test_rows_that_are_too_narrow_are_refused_before_the_kernel_reads_them(text: str) -> None:
    model = ForestModel(Forest.of(read_trees(text)))

    for shape in ((5, 2), (5, 0), (5,), (1, 5, 3)):
        with pytest.raises(ValueError, match="3 are needed"):
            model.score(np.zeros(shape, dtype=np.float32))


def test_the_kernel_is_compiled_once_for_whatever_a_request_brings(
    tmp_path: Path, text: str, features: NDArray[np.float32]
) -> None:
    model = open_model(published(tmp_path, text), NAMES)
    model.score(features)
    compiled = list(score_rows.signatures)

    wide = np.concatenate([features, features], axis=1)
    for kind in (features[:1], features[:0], features[::2], np.asfortranarray(features), wide):
        model.score(kind)
    model_of(text, NAMES).score(features)

    assert score_rows.signatures == compiled


def test_a_ranker_that_is_ready_compiles_nothing_more(small_bundle: Bundle) -> None:
    held = wiring._load(small_bundle)
    compiled = list(score_rows.signatures)
    assert compiled
    proposed = SourceColumn(np.ones(9, dtype=np.uint32), np.ones(9, dtype=np.float32))
    rows = np.arange(9, dtype=np.uint32)
    ages_s = np.zeros(5, dtype=np.float32)

    for query in (
        RankingQuery(rows, {"ann": proposed, "other": proposed}, rows[:5], ages_s),
        RankingQuery(rows[:1], {}, rows[:0], ages_s[:0]),
    ):
        rank(query, held.tables, held.model)

    assert held.model.scorer == "forest"
    assert score_rows.signatures == compiled


def test_a_process_that_scores_by_a_forest_never_loads_lightgbm(small_bundle: Bundle) -> None:
    program = """
import sys
from pathlib import Path
import numpy as np
import services.ranker.wiring
from services.ranker.adapters.scoring_model import open_model
from services.ranker.domain.features import feature_names
model = open_model(Path(sys.argv[1]), feature_names())
model.score(np.zeros((1, len(feature_names())), dtype=np.float32))
print(model.scorer, "lightgbm" in sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(small_bundle.path)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.split() == ["forest", "False"]
