"""Tune: a recorded search for the settings that the ranker's forest grows best with.

How it works. Candidates and features of every training cut are collected once, as training does,
and binned once. A trial grows a forest on the older training cuts, as training would with these
settings, and is judged by LightGBM's own NDCG@10 on the groups of the newest one. Trial 0 has the
settings of the recipe that the search starts from; what the others try is proposed by TPE
(Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NIPS 2011). The test cut is not
read, so an evaluation on it afterwards is of settings that have not seen it.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm as lgb
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from pipeline.cuts import cut_log
from pipeline.event_log import read_event_log
from pipeline.progress import Progress
from pipeline.recipe import ForestSettings, Recipe
from pipeline.train import Course
from pipeline.train_ranker import (
    Group,
    dataset,
    grow_and_judge,
    older_and_newest,
    parameters_of,
)

JUDGED_BY = (
    "LightGBM's ndcg@10 on the newest training cut, among the candidates that training keeps; "
    "not of whole slates"
)
SIGNIFICANT_DIGITS = 4
"""Of what a trial proposes: more would be noise in the recipe."""
RANGES: Mapping[str, tuple[float, float]] = {
    "leaves": (4, 128),
    "learning_rate": (0.01, 0.2),
    "min_data_in_leaf": (10, 1_000),
    "lambda_l2": (0.1, 100.0),
    "feature_fraction": (0.2, 1.0),
    "truncation": (5, 60),
}
"""Least and most of each setting that is searched."""
WHOLE = frozenset({"leaves", "min_data_in_leaf", "truncation"})
"""Settings that are whole numbers."""

Settings = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """One forest of the search."""

    number: int
    settings: Settings
    """By the recipe's names."""
    ndcg_10: float
    """`JUDGED_BY`."""
    trees: int
    """As many as training would grow with these settings."""
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "number": self.number,
            "settings": dict(self.settings),
            "ndcg_10": self.ndcg_10,
            "trees": self.trees,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, slots=True)
class Search:
    """What a search has found so far."""

    start: Recipe
    """The recipe that it starts from."""
    trials: tuple[Trial, ...]
    """In order; the first has the settings of `start`."""

    @property
    def best(self) -> Trial:
        """The trial with the highest NDCG@10, the first of equals."""
        return max(self.trials, key=lambda trial: trial.ndcg_10)

    @property
    def recipe(self) -> Recipe:
        """The starting recipe with the settings of the best trial."""
        return replace(self.start, forest=_with(self.start.forest, self.best.settings))


@dataclass(frozen=True, slots=True)
class Judge:
    """Grows and judges forests on datasets that are built once."""

    older: lgb.Dataset
    newest: lgb.Dataset
    seed: int

    @classmethod
    def of(
        cls, older: Sequence[Group], newest: Sequence[Group], recipe: Recipe, *, seed: int
    ) -> "Judge":
        """Bin the groups of the older training cuts, and those of the newest alike."""
        parameters = _parameters(recipe.forest, seed)
        binned = dataset(older, recipe, parameters)
        return cls(binned, dataset(newest, recipe, parameters, binned_as=binned), seed)

    def trial(self, number: int, forest: ForestSettings) -> Trial:
        """Return how good a forest of these settings is."""
        begin_s = time.monotonic()
        parameters = _parameters(forest, self.seed)
        judged = grow_and_judge(self.older, self.newest, forest, parameters)
        return Trial(
            number=number,
            settings=_searched(forest),
            ndcg_10=judged.ndcg_10,
            trees=judged.trees,
            seconds=time.monotonic() - begin_s,
        )


def tune(
    directory: Path,
    recipe: Recipe,
    *,
    trials: int,
    seed: int,
    timeout_s: float | None,
    progress: Progress,
    found: Callable[[Search], None],
) -> Search:
    """Search on a log directory; `found` gets everything found so far after each trial.

    Same log, recipe, `trials` and `seed`, same search, but for its seconds. With `timeout_s` no
    trial but the first begins when the trials have run for that long. Raises LogError or
    LogDirectoryError for a log that cannot be trained on.
    """
    with progress.step("reading the log"):
        log = read_event_log(directory)
        cuts = cut_log(log, seed=seed, recipe=recipe)
    older, newest = older_and_newest(Course(log, cuts, seed, progress, recipe).training_groups())
    with progress.step("binning the features"):
        judge = Judge.of(older, newest, recipe, seed=seed)
    del older, newest  # the datasets hold all that trials need, in a quarter of the memory
    numbers = until(timeout_s, progress.track(range(trials), "trials"))
    return search(judge, recipe, numbers, found=found)


def until(
    timeout_s: float | None,
    numbers: Iterable[int],
    clock: Callable[[], float] = time.monotonic,
) -> Iterable[int]:
    """Yield the first of `numbers`, and more of them for as long as there is time."""
    begin_s = clock()
    for number in numbers:
        if number and timeout_s is not None and clock() - begin_s >= timeout_s:
            return
        yield number


def search(
    judge: Judge, start: Recipe, numbers: Iterable[int], *, found: Callable[[Search], None]
) -> Search:
    """Run a trial for each of `numbers`, which are 0, 1, 2, ..."""
    study = _study(judge.seed)
    study.enqueue_trial(_searched(start.forest))
    space = space_around(start.forest)
    so_far = Search(start, ())
    for number in numbers:
        proposed = study.ask(space)
        forest = _with(start.forest, _rounded(proposed.params)) if number else start.forest
        trial = judge.trial(number, forest)
        study.tell(proposed, trial.ndcg_10)
        so_far = replace(so_far, trials=(*so_far.trials, trial))
        found(so_far)
    return so_far


def space_around(forest: ForestSettings) -> dict[str, BaseDistribution]:
    """Return what is searched: `RANGES`, widened to hold what the search starts from.

    By the order of magnitude, but for a range that begins at 0, which has none.
    """
    return {name: _distribution(name, getattr(forest, name)) for name in RANGES}


def _distribution(name: str, start: float) -> BaseDistribution:
    least, most = min(start, RANGES[name][0]), max(start, RANGES[name][1])
    if name in WHOLE:
        return IntDistribution(int(least), int(most), log=True)
    return FloatDistribution(least, most, log=least > 0)


def _study(seed: int) -> optuna.Study:
    # It would log every trial; ours are shown by who runs the search.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))


def _parameters(forest: ForestSettings, seed: int) -> dict[str, Any]:
    """Return what training uses, but for a filter that would bind a dataset to one leaf size."""
    return {**parameters_of(forest, seed), "feature_pre_filter": False}


def _searched(forest: ForestSettings) -> dict[str, float]:
    return {name: getattr(forest, name) for name in RANGES}


def _with(forest: ForestSettings, settings: Settings) -> ForestSettings:
    values: dict[str, Any] = dict(settings)
    return replace(forest, **values)


def _rounded(settings: Settings) -> dict[str, float]:
    return {
        name: value if name in WHOLE else float(f"{value:.{SIGNIFICANT_DIGITS}g}")
        for name, value in settings.items()
    }
