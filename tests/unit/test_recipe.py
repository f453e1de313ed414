"""Recipes: what a file may say, and what is refused by its name."""

import math
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pipeline.recipe import (
    DEFAULT,
    GROUPS,
    LIMITS,
    MONOTONE_METHODS,
    OBJECTIVES,
    RECIPES,
    ForestSettings,
    Recipe,
    RecipeError,
    read_recipe,
    recipe_of,
    to_json,
)
from services.ranker.domain.features import SOURCES, feature_names

BOUNDS: dict[str, tuple[float, float]] = {
    "cuts": (2, 20),
    "time_cuts": (4, 100),
    "next_items": (1, 6_000),
    "next_ridge": (1, 1e9),
    "together_items": (1, 20_000),
    "together_ridge": (1, 1e9),
    "together_dropout": (0, 0.99),
    "negatives": (1, 2_000),
    "source_dropout": (0, 0.5),
    "leaves": (2, 1_024),
    "least_trees": (1, 10_000),
    "most_trees": (1, 10_000),
    "learning_rate": (1e-4, 1),
    "min_data_in_leaf": (1, 1_000_000),
    "lambda_l2": (0, 1e6),
    "feature_fraction": (0.01, 1),
    "truncation": (1, 1_000),
}
LISTS = {"sources": SOURCES, "features": GROUPS, "monotone": feature_names()}
CHOICES = {"objective": OBJECTIVES, "monotone_method": MONOTONE_METHODS}
NUMBERS = (
    "next_ridge",
    "together_ridge",
    "together_dropout",
    "source_dropout",
    "learning_rate",
    "lambda_l2",
    "feature_fraction",
)
OF_FOREST = {one.name for one in fields(ForestSettings)}


def setting(name: str, value: object) -> dict[str, Any]:
    return {"forest": {name: value}} if name in OF_FOREST else {name: value}


def value_in(recipe: Recipe, name: str) -> object:
    return getattr(recipe.forest if name in OF_FOREST else recipe, name)


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_every_setting_has_limits_and_a_default_within_them() -> None:
    settings = {one.name for one in fields(Recipe)} - {"forest"} | OF_FOREST

    assert set(LIMITS) == settings == {*BOUNDS, *LISTS, *CHOICES}
    assert recipe_of(to_json(DEFAULT), "default") == DEFAULT


@pytest.mark.parametrize("name", BOUNDS)
def test_a_setting_at_either_bound_is_taken_and_changes_nothing_else(name: str) -> None:
    for bound in BOUNDS[name]:
        recipe = recipe_of(setting(name, bound), "a test")

        assert value_in(recipe, name) == bound
        others = [other for other in LIMITS if other != name]
        assert [value_in(recipe, one) for one in others] == [
            value_in(DEFAULT, one) for one in others
        ]


@pytest.mark.parametrize("name", BOUNDS)
def test_a_setting_out_of_bounds_is_refused_with_what_is_allowed(name: str) -> None:
    least, most = BOUNDS[name]
    step = 1e-6 if name in NUMBERS else 1
    kind = "a number" if name in NUMBERS else "a whole number"
    place = "mine.toml: forest: " if name in OF_FOREST else "mine.toml: "

    for value in (least - step, most + step, math.nan, math.inf, True, "3", [3], None):
        fault = f"{place}{name} is {value!r}; {kind} from "
        with pytest.raises(RecipeError, match="^" + re.escape(fault)):
            recipe_of(setting(name, value), "mine.toml")


@pytest.mark.parametrize("name", [name for name in BOUNDS if name not in NUMBERS])
def test_a_count_with_a_fraction_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"{name} is 5\.0; a whole number"):
        recipe_of(setting(name, 5.0), "a test")


@pytest.mark.parametrize(("name", "known"), LISTS.items())
def test_any_part_of_the_known_names_is_a_list_in_its_own_order(
    name: str, known: tuple[str, ...]
) -> None:
    for names in (known, known[::-1], known[1:2]):
        assert value_in(recipe_of(setting(name, list(names)), "a test"), name) == names


def test_no_feature_need_be_monotone_but_some_source_and_group_must_be_there() -> None:
    assert recipe_of({"forest": {"monotone": []}}, "a test") == DEFAULT
    for name in ("sources", "features"):
        with pytest.raises(RecipeError, match=rf"{name} is \[\]; a list of some of"):
            recipe_of({name: []}, "a test")


@pytest.mark.parametrize(("name", "known"), CHOICES.items())
def test_a_choice_is_one_of_the_known_words(name: str, known: tuple[str, ...]) -> None:
    for word in known:
        assert value_in(recipe_of(setting(name, word), "a test"), name) == word
    for other in ("", "regression", known[0].upper(), [known[0]], 1, None):
        fault = f"mine.toml: forest: {name} is {other!r}; one of {', '.join(known)} is allowed"
        with pytest.raises(RecipeError, match="^" + re.escape(fault)):
            recipe_of(setting(name, other), "mine.toml")


@pytest.mark.parametrize(("name", "known"), LISTS.items())
@pytest.mark.parametrize("kind", ["unknown", "twice", "text", "number", "table"])
def test_a_list_of_anything_else_is_refused_with_the_known_names(
    name: str, known: tuple[str, ...], kind: str
) -> None:
    value: object = {
        "unknown": [known[0], "radio"],
        "twice": [known[0], known[0]],
        "text": known[0],
        "number": [known[0], 1],
        "table": {known[0]: True},
    }[kind]

    fault = f"{name} is {value!r}; a list of some of {', '.join(known)}, each once"
    with pytest.raises(RecipeError, match="^mine.toml: .*" + re.escape(fault)):
        recipe_of(setting(name, value), "mine.toml")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"cutz": 3}, "mine.toml: 'cutz' is no setting; there are cuts, features, "),
        ({"leaves": 3}, "mine.toml: 'leaves' is no setting; "),
        ({"forest": {"cuts": 3}}, "mine.toml: forest: 'cuts' is no setting; there are feature_fra"),
        ({"forest": 3}, "mine.toml: forest is no table"),
        ({"forest": [{"leaves": 3}]}, "mine.toml: forest is no table"),
        ({"forest": {"forest": {}}}, "mine.toml: forest: 'forest' is no setting"),
    ],
)
def test_what_is_no_setting_is_refused_by_its_name(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(RecipeError, match="^" + re.escape(fault)):
        recipe_of(given, "mine.toml")


def test_a_file_says_only_what_differs_from_the_default(tmp_path: Path) -> None:
    name = written(tmp_path, 'sources = ["similar"]\nsource_dropout = 0.25\n[forest]\nleaves = 7\n')

    recipe = read_recipe(name)

    assert recipe == Recipe(
        sources=("similar",), source_dropout=0.25, forest=ForestSettings(leaves=7)
    )
    assert read_recipe(written(tmp_path, "")) == DEFAULT


@pytest.mark.parametrize("content", [b"cuts = ", b"[forest", b"cuts = 3\ncuts = 4", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)

    with pytest.raises(RecipeError, match=f"^{re.escape(str(path))} is not TOML: "):
        read_recipe(str(path))


@pytest.mark.parametrize("name", ["movielens-1", "nowhere/mine.toml", "", ".", "a" * 300])
def test_a_missing_file_is_refused_with_the_projects_own(name: str) -> None:
    with pytest.raises(RecipeError, match=r"cannot be read: .*own are 30music, .*movielens-1m"):
        read_recipe(name)


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_projects_own_recipes_are_read_by_name_and_by_path(path: Path) -> None:
    recipe = read_recipe(path.stem)

    assert recipe == read_recipe(str(path)) != DEFAULT
    assert recipe_of(to_json(recipe), "its own words") == recipe
