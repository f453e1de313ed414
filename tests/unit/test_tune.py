"""The search for forest settings, and the recipe that it writes."""

import tomllib
from dataclasses import replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from meshctl.tune import Files, TuneError, check_files, command_of
from pipeline.recipe import (
    DEFAULT,
    RECIPES,
    ForestSettings,
    Recipe,
    read_recipe,
    recipe_of,
    to_json,
    to_toml,
)
from pipeline.train_ranker import PATIENCE, Group, dataset, grow_and_judge, parameters_of
from pipeline.tune import RANGES, WHOLE, Judge, Search, Trial, search, space_around, until
from services.ranker.domain.features import feature_names

SMALL = replace(
    DEFAULT.forest, least_trees=1, most_trees=2, min_data_in_leaf=20, learning_rate=0.0512345
)
START = replace(DEFAULT, forest=SMALL)


def made_up_groups(n: int, seed: int) -> list[Group]:
    """Groups of 20 candidates; a few features tell plays from the rest, with noise."""
    random = np.random.default_rng(seed)
    groups = []
    for _ in range(n):
        features = random.normal(size=(20, len(feature_names()))).astype(np.float32)
        liking = features[:, :4].sum(axis=1) + random.normal(size=20) * 2
        groups.append((features, (liking >= np.sort(liking)[-3]).astype(np.int8)))
    return groups


def judge(recipe: Recipe = START, seed: int = 1) -> Judge:
    return Judge.of(made_up_groups(20, 1), made_up_groups(15, 2), recipe, seed=seed)


def found(trials: int, *, start: Recipe = START, seed: int = 1) -> Search:
    return search(judge(start, seed), start, range(trials), found=lambda _: None)


@pytest.fixture(scope="module")
def twelve() -> Search:
    """So many that TPE has something to go by in the last ones: the first ten are random."""
    return found(12)


def without_seconds(searched: Search) -> list[Trial]:
    return [replace(trial, seconds=0) for trial in searched.trials]


def trial(number: int, ndcg_10: float, **settings: float) -> Trial:
    return Trial(number, settings, ndcg_10, trees=1, seconds=0)


def test_the_first_trial_has_the_settings_to_start_from() -> None:
    first = found(1).trials[0]

    assert first.number == 0
    assert first.settings == {name: getattr(SMALL, name) for name in RANGES}
    assert Search(START, (first,)).recipe == START


def test_same_seed_same_trials_and_another_seed_others(twelve: Search) -> None:
    same, other = found(12), found(3, seed=2)

    assert without_seconds(twelve) == without_seconds(same)
    assert twelve.trials[1].settings != other.trials[1].settings


def test_a_longer_search_begins_with_the_shorter_one(twelve: Search) -> None:
    assert without_seconds(twelve)[:4] == without_seconds(found(4))


def test_what_is_found_is_told_after_every_trial() -> None:
    told: list[Search] = []

    last = search(judge(), START, range(3), found=told.append)

    assert [len(each.trials) for each in told] == [1, 2, 3]
    assert told[-1] == last


def test_every_trial_stays_in_the_ranges_and_is_a_recipe(twelve: Search) -> None:
    for each in twelve.trials[1:]:
        for name, (least, most) in RANGES.items():
            assert least <= each.settings[name] <= most
            assert isinstance(each.settings[name], int) == (name in WHOLE)
        recipe = Search(START, (each,)).recipe
        assert recipe_of(to_json(recipe), "") == recipe


def test_a_search_may_start_outside_the_ranges() -> None:
    odd = replace(SMALL, leaves=2, lambda_l2=0.0, learning_rate=0.7, truncation=200)

    searched = found(3, start=replace(START, forest=odd))

    assert searched.trials[0].settings == {name: getattr(odd, name) for name in RANGES}
    space = space_around(odd)
    assert all(space[name]._contains(getattr(odd, name)) for name in RANGES)


def test_ranges_name_settings_of_the_forest_and_hold_the_defaults() -> None:
    for name, (least, most) in RANGES.items():
        assert least <= getattr(DEFAULT.forest, name) <= most
        assert isinstance(getattr(DEFAULT.forest, name), int) == (name in WHOLE)


def test_the_best_is_the_first_of_equals() -> None:
    searched = Search(DEFAULT, (trial(0, 0.2), trial(1, 0.3, leaves=9), trial(2, 0.3, leaves=8)))

    assert searched.best.number == 1
    assert searched.recipe == replace(DEFAULT, forest=replace(DEFAULT.forest, leaves=9))


def test_a_trial_is_the_same_after_others_and_another_start_as_alone() -> None:
    # LightGBM would by default drop features that no leaf of the first size can split.
    used = judge(replace(START, forest=replace(SMALL, min_data_in_leaf=900)))
    for leaf_size in (900, 10):
        used.trial(0, replace(SMALL, min_data_in_leaf=leaf_size, leaves=31))

    after, alone = used.trial(1, SMALL), judge().trial(1, SMALL)

    assert replace(after, seconds=0) == replace(alone, seconds=0)


@pytest.mark.parametrize(("least", "most"), [(1, 5), (12, 4), (44, 90)])
def test_the_judge_grows_what_training_would_and_scores_that_many_trees(
    least: int, most: int
) -> None:
    forest = replace(SMALL, least_trees=least, most_trees=most)
    parameters = {**parameters_of(forest, 1), "num_threads": 1, "learning_rate": 0.9}
    older, newest = made_up_groups(20, 1), made_up_groups(15, 2)
    learnt = dataset(older, START, parameters)
    judging = dataset(newest, START, parameters, binned_as=learnt)

    judged = grow_and_judge(learnt, judging, forest, parameters)

    curve: dict[str, dict[str, list[float]]] = {}
    lgb.train(
        parameters,
        learnt,
        max(least, most),
        valid_sets=[judging],
        valid_names=["newest"],
        callbacks=[lgb.record_evaluation(curve)],
    )
    stopped = lgb.train(
        parameters,
        learnt,
        most,
        valid_sets=[judging],
        callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
    )
    assert judged.trees == max(least, stopped.best_iteration)
    assert list(judged.curve) == curve["newest"]["ndcg@10"][: len(judged.curve)]
    assert len(judged.curve) >= judged.trees
    assert judged.ndcg_10 == curve["newest"]["ndcg@10"][judged.trees - 1]


def test_no_trial_begins_when_the_time_is_up() -> None:
    times = iter([0.0, 4.0, 9.0, 10.0])

    assert list(until(10, range(9), clock=lambda: next(times))) == [0, 1, 2]


def test_the_first_trial_runs_however_short_the_time() -> None:
    times = iter([0.0, 99.0])

    assert list(until(1, range(9), clock=lambda: next(times))) == [0]


def test_without_a_timeout_every_trial_runs() -> None:
    assert list(until(None, range(4))) == [0, 1, 2, 3]


EVERY_SETTING_CHANGED = Recipe(
    sources=("together", "ann"),
    features=("item",),
    cuts=2,
    time_cuts=99,
    negatives=1,
    source_dropout=0.5,
    forest=ForestSettings(
        3, 4, 5, 1e-4, 6, 1e6, 0.123, 7, "rank_xendcg", ("link_last", "next_last"), "intermediate"
    ),
)


@pytest.mark.parametrize(
    "recipe",
    [DEFAULT, START, EVERY_SETTING_CHANGED, *(read_recipe(str(own)) for own in RECIPES.glob("*"))],
)
def test_a_recipe_is_read_as_it_was_written(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "written.toml"
    path.write_text(to_toml(recipe, "why\n\n  and how"))

    assert read_recipe(str(path)) == recipe


def test_of_a_recipe_only_what_is_not_default_is_named_and_the_forest_whole() -> None:
    written = to_toml(replace(DEFAULT, negatives=7), "first\n\nsecond")

    head, _, forest = written.partition("\n[forest]\n")
    assert head == "# first\n#\n# second\nnegatives = 7\n"
    assert tomllib.loads(forest) == to_json(DEFAULT)["forest"]


def test_nothing_in_a_comment_breaks_the_recipe() -> None:
    written = to_toml(DEFAULT, "meshctl tune 'a\x00b\r\nsources = 1\udcff\x7f\u2028cuts = 2'")

    assert recipe_of(tomllib.loads(written.encode().decode()), "") == DEFAULT


def test_the_trials_lie_beside_the_recipe() -> None:
    assert Files(Path("a/music.toml")).trials == Path("a/music.trials.json")


def test_the_recorded_command_names_every_choice_and_no_place_of_this_machine() -> None:
    command = command_of(Path("/home/me/my log"), Path("/tmp/x.toml"), "30music", 4, 9, 60)  # noqa: S108 - nothing is there

    assert command == (
        "meshctl tune 'my log' --recipe 30music --trials 4 --seed 9 --timeout-s 60 --out x.toml"
    )
    assert command_of(Path("log"), Path("out/x.toml"), "", 4, 9, None) == (
        "meshctl tune log --trials 4 --seed 9 --out out/x.toml"
    )


def test_files_of_an_earlier_search_are_replaced_only_when_told(tmp_path: Path) -> None:
    files = Files(tmp_path / "x.toml")
    check_files(files, may_replace=False)

    for path in (files.trials, files.recipe):
        path.write_text("kept")
        with pytest.raises(TuneError, match=f"{path.name} exists already; --replace"):
            check_files(files, may_replace=False)
        check_files(files, may_replace=True)
        assert path.read_text() == "kept"


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.toml").mkdir()
    refused = {
        "x.json": "name ends in .toml",
        "none/x.toml": "nothing can be written in .*none: No such file",
        "file/x.toml": "nothing can be written in .*file: Not a directory",
        "folder.toml": "is a directory",
    }

    for name, reason in refused.items():
        with pytest.raises(TuneError, match=reason):
            check_files(Files(tmp_path / name), may_replace=True)
