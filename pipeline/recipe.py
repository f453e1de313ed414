"""Recipes: what a training is made of, in a file that can be committed, compared and searched.

A recipe is TOML. What it does not name is as in `DEFAULT`; removing a source or a group of features
is one line shorter in it. `pipeline/recipes/` holds those that come with the project.
"""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pipeline.item_regressions import COMPANION_DROPOUT, COMPANION_RIDGE, SUCCESSOR_RIDGE
from services.ranker.domain.features import FEATURE_GROUPS, SOURCES, feature_names

RECIPES = Path(__file__).parent / "recipes"
GROUPS = tuple(group.name for group in FEATURE_GROUPS)
OBJECTIVES = ("lambdarank", "rank_xendcg")
"""LambdaMART, and XE-NDCG (Bruch, "An alternative cross entropy loss for learning-to-rank", WWW
2021), which draws with the seed."""
MONOTONE_METHODS = ("basic", "intermediate")
"""Of LightGBM's: `basic` constrains more than it must, `intermediate` less."""


class RecipeError(Exception):
    """A recipe that cannot be used; the message names the file, the setting and the fault."""


@dataclass(frozen=True, slots=True)
class ForestSettings:
    """How the ranker's trees grow; LightGBM's names where it has one.

    Small by default: with 31 leaves and 300 trees NDCG@10 on 30Music's validation week fell from
    0.047 to 0.039, below merge order. A log with many listeners bears more.
    """

    leaves: int = 15
    least_trees: int = 60
    """Early stopping on a few hundred users is noise below this."""
    most_trees: int = 200
    learning_rate: float = 0.05
    min_data_in_leaf: int = 200
    lambda_l2: float = 10.0
    feature_fraction: float = 0.5
    truncation: int = 20
    """Places at the head of a list that pairs begin from (`lambdarank_truncation_level`); of
    `lambdarank` alone."""
    objective: str = "lambdarank"
    """One of `OBJECTIVES`."""
    monotone: tuple[str, ...] = ()
    """Features that may only raise the score: with all else equal more of one is never worse.
    Missing values are outside of that."""
    monotone_method: str = "basic"
    """One of `MONOTONE_METHODS`."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train."""

    sources: tuple[str, ...] = ("ann", "similar", "trending")
    """Sources whose candidates are ranked, in training and by `meshctl up`."""
    features: tuple[str, ...] = GROUPS
    """Groups of features that the ranker may use."""
    cuts: int = 3
    """Training cuts of a log without times: each holds back one more play of every user."""
    time_cuts: int = 16
    """Training cuts of a log with times, at most: with 16 of them 30Music had an NDCG@10 of 0.047,
    with 8 of 0.045."""
    next_items: int = 1_000
    """Items that take part in the regression behind `next`, the most played first: its time grows
    with the cube of it, a second a cut for 1,000 and 20 s for 4,000."""
    next_ridge: float = SUCCESSOR_RIDGE
    together_items: int = 1_000
    """The same behind `together`, 7 s a cut for 10,000."""
    together_ridge: float = COMPANION_RIDGE
    together_dropout: float = COMPANION_DROPOUT
    """Share of a user's items that the regression behind `together` has to do without: the more,
    the less do items with many listeners say."""
    negatives: int = 100
    """Candidates without a play that are drawn of each group: more cost memory."""
    source_dropout: float = 0.05
    """Share of groups that one source, drawn with the seed, takes no part in, so that the ranker
    knows answers without it."""
    forest: ForestSettings = field(default_factory=ForestSettings)


DEFAULT = Recipe()


def read_recipe(name: str) -> Recipe:
    """Return the recipe of a file, or the project's own of that name. Raises RecipeError."""
    own = sorted(one.stem for one in RECIPES.glob("*.toml"))
    path = RECIPES / f"{name}.toml" if name in own else Path(name)
    try:
        given = tomllib.loads(path.read_text())
    except OSError as exc:
        raise RecipeError(
            f"{path} cannot be read: {exc.strerror}; the project's own are {', '.join(own)}"
        ) from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise RecipeError(f"{path} is not TOML: {exc}") from exc
    return recipe_of(given, str(path))


def recipe_of(given: Mapping[str, Any], where: str) -> Recipe:
    """Return the recipe with these settings. Raises RecipeError naming `where`."""
    forest = given.get("forest", {})
    if not isinstance(forest, dict):
        raise RecipeError(f"{where}: forest is no table")
    plain = {name: value for name, value in given.items() if name != "forest"}
    return replace(
        DEFAULT,
        **_checked(plain, Recipe, where),
        forest=replace(DEFAULT.forest, **_checked(forest, ForestSettings, f"{where}: forest")),
    )


def to_json(recipe: Recipe) -> dict[str, Any]:
    """Return what `recipe_of` reads."""
    own = {one.name: getattr(recipe, one.name) for one in fields(Recipe) if one.name != "forest"}
    plain = {
        name: list(value) if isinstance(value, tuple) else value for name, value in own.items()
    }
    forest = {one.name: getattr(recipe.forest, one.name) for one in fields(ForestSettings)}
    return {**plain, "forest": {**forest, "monotone": list(recipe.forest.monotone)}}


def to_toml(recipe: Recipe, comment: str = "") -> str:
    """Return the text of a file that `read_recipe` reads as `recipe`, below a comment.

    Of what is not about the forest only what differs from `DEFAULT` is named, as by hand. The
    forest is named whole: its settings were chosen together, so no new default may change one.
    """
    given, default = to_json(recipe), to_json(DEFAULT)
    forest = given.pop("forest")
    lines = [
        *(f"# {_printable(line)}".rstrip() for line in comment.splitlines()),
        *(_assignment(name, value) for name, value in given.items() if value != default[name]),
        "",
        "[forest]",
        *(_assignment(name, value) for name, value in forest.items()),
    ]
    return "\n".join(lines).lstrip("\n") + "\n"


def _assignment(name: str, value: Any) -> str:
    # Numbers, plain names and lists of them are written alike in JSON and TOML.
    return f"{name} = {json.dumps(value)}"


def _printable(line: str) -> str:
    """Return a line that may stand in a comment: TOML allows no control characters there."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _checked(given: Mapping[str, Any], of: type, where: str) -> dict[str, Any]:
    known = {one.name for one in fields(of)} - {"forest"}
    unknown = sorted(given.keys() - known)
    if unknown:
        allowed = ", ".join(sorted(known))
        raise RecipeError(f"{where}: {unknown[0]!r} is no setting; there are {allowed}")
    checked = {}
    for name, value in given.items():
        limit, fits = LIMITS[name]
        if not fits(value):
            raise RecipeError(f"{where}: {name} is {value!r}; {limit}")
        checked[name] = tuple(value) if isinstance(value, list) else value
    return checked


Limit = tuple[str, Callable[[Any], bool]]


def _whole(least: int, most: int) -> Limit:
    def fits(value: Any) -> bool:
        return type(value) is int and least <= value <= most

    return f"a whole number from {least} to {most} is allowed", fits


def _number(least: float, most: float) -> Limit:
    def fits(value: Any) -> bool:
        return type(value) in (int, float) and least <= value <= most

    return f"a number from {least:g} to {most:g} is allowed", fits


def _some_of(names: tuple[str, ...], *, least: int = 1) -> Limit:
    def fits(value: Any) -> bool:
        is_list = isinstance(value, list) and all(type(one) is str for one in value)
        return is_list and least <= len(value) == len(set(value)) and set(value) <= set(names)

    return f"a list of some of {', '.join(names)}, each once, is allowed", fits


def _one_of(names: tuple[str, ...]) -> Limit:
    def fits(value: Any) -> bool:
        return type(value) is str and value in names

    return f"one of {', '.join(names)} is allowed", fits


LIMITS: Mapping[str, Limit] = {
    "sources": _some_of(SOURCES),
    "features": _some_of(GROUPS),
    "cuts": _whole(2, 20),
    "time_cuts": _whole(4, 100),
    "next_items": _whole(1, 6_000),
    "next_ridge": _number(1, 1e9),
    "together_items": _whole(1, 20_000),
    "together_ridge": _number(1, 1e9),
    "together_dropout": _number(0, 0.99),
    "negatives": _whole(1, 2_000),
    "source_dropout": _number(0, 0.5),
    "leaves": _whole(2, 1_024),
    "least_trees": _whole(1, 10_000),
    "most_trees": _whole(1, 10_000),
    "learning_rate": _number(1e-4, 1),
    "min_data_in_leaf": _whole(1, 1_000_000),
    "lambda_l2": _number(0, 1e6),
    "feature_fraction": _number(0.01, 1),
    "truncation": _whole(1, 1_000),
    "objective": _one_of(OBJECTIVES),
    "monotone": _some_of(feature_names(), least=0),
    "monotone_method": _one_of(MONOTONE_METHODS),
}
