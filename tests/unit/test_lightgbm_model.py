"""The model behind the ranker's port: LightGBM's own scores, or a clear refusal."""

from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from services.ranker.adapters.lightgbm_model import LightgbmModel
from services.ranker.adapters.model_text import FILE

NAMES = ("first", "second", "third")


@pytest.fixture(scope="module")
def model_text() -> str:
    random = np.random.default_rng(5)
    features = random.random((300, len(NAMES)))
    features[random.random(features.shape) < 0.2] = np.nan
    labels = (np.nan_to_num(features[:, 0]) + random.random(300) > 1.0).astype(int)
    data = lgb.Dataset(features, labels, group=[30] * 10, feature_name=list(NAMES))
    parameters = {"objective": "lambdarank", "num_leaves": 7, "num_threads": 1, "verbosity": -1}
    return str(lgb.train(parameters, data, 20).model_to_string())


@pytest.fixture
def features() -> np.typing.NDArray[np.float32]:
    random = np.random.default_rng(6)
    drawn = random.random((50, len(NAMES)), dtype=np.float32)
    drawn[::4, 1] = np.nan
    return drawn


def test_scores_are_the_boosters_raw_scores(
    model_text: str, features: np.typing.NDArray[np.float32]
) -> None:
    scores = LightgbmModel(model_text, NAMES).score(features)

    expected = lgb.Booster(model_str=model_text).predict(features, raw_score=True)
    assert scores.dtype == np.float32
    assert scores.tolist() == np.asarray(expected, dtype=np.float32).tolist()
    assert len(set(scores.tolist())) > 10


def test_an_items_score_does_not_depend_on_what_is_scored_beside_it(
    model_text: str, features: np.typing.NDArray[np.float32]
) -> None:
    model = LightgbmModel(model_text, NAMES)

    apart = [float(model.score(features[place : place + 1])[0]) for place in range(len(features))]

    assert apart == model.score(features).tolist()


def test_a_bundles_model_is_read_from_its_file(tmp_path: Path, model_text: str) -> None:
    (tmp_path / FILE).write_text(model_text)

    assert LightgbmModel.open(tmp_path, NAMES)


@pytest.mark.parametrize(
    "names",
    [("first", "second"), ("first", "second", "fourth"), ("second", "first", "third"), ()],
    ids=["fewer", "another", "another order", "none"],
)
def test_a_model_of_other_features_is_refused(model_text: str, names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"{FILE} was trained on 3 features that are not"):
        LightgbmModel(model_text, names)


@pytest.mark.parametrize("text", ["", "not a model", "tree\nversion=v4\n"])
def test_a_text_that_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=FILE):
        LightgbmModel(text, NAMES)
