"""The peers of the quality benchmark, on plays made by hand, and the protocol that all share."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.quality.__main__ import methods_for
from benchmarks.quality.data_sets import DATA_SETS, DataSet
from benchmarks.quality.factor_peers import Als, Bpr
from benchmarks.quality.item_peers import (
    Ease,
    ItemKnn,
    Popularity,
    RecentPopularity,
    Settings,
    Transitions,
    ease_weights,
    keep_greatest,
)
from benchmarks.quality.mesh import Asked
from benchmarks.quality.ours import (
    IN_MESH,
    OFFLINE,
    Expected,
    is_as_offline,
    mesh_facts,
    mesh_row,
)
from benchmarks.quality.protocol import Past, Window, measure, windows_of
from benchmarks.quality.results import ResultsError, merged, over_seeds, read_results
from benchmarks.quality.tables import grids, markdown
from benchmarks.quality.tune import PEERS, Peer, tune
from meshctl.recommend_many import Outcome, Slate
from pipeline.metrics import METRICS
from pipeline.recipe import DEFAULT, read_recipe
from recmesh_client import Unavailable
from signals.bundle import ItemKeys
from signals.keys import item_keys
from tests.unit.event_logs import Play, event_log, events

INF = float("inf")
DAY_S = 86_400
EVERYBODY = np.arange(3)


@pytest.fixture
def past() -> Past:
    """User 0 played 0 1 2, user 1 played 0 1 1, user 2 played 3 0."""
    played = events([0, 0, 0, 1, 1, 1, 2, 2], [0, 1, 2, 0, 1, 1, 3, 0], [1, 2, 3, 1, 2, 3, 8, 9])
    timed = events(played.users.tolist(), played.rows.tolist(), (played.times_s * DAY_S).tolist())
    return Past(timed, n_users=3, n_items=5, as_of_s=10 * DAY_S, order="time", seed=1)


def test_popularity_counts_listeners(past: Past) -> None:
    scores = Popularity(past)({})(EVERYBODY)

    assert scores.tolist() == [[3, 2, 1, 1, 0]] * 3


def test_recent_popularity_counts_the_last_days(past: Past) -> None:
    popular = RecentPopularity(past)

    assert popular({"days": 7.0, "listeners": 0.0})(EVERYBODY[:1]).tolist() == [[1, 1, 1, 1, 0]]
    assert popular({"days": 8.0, "listeners": 0.0})(EVERYBODY[:1]).tolist() == [[1, 3, 1, 1, 0]]
    assert popular({"days": 8.0, "listeners": 1.0})(EVERYBODY[:1]).tolist() == [[1, 2, 1, 1, 0]]


def test_item_knn_adds_up_cosines(past: Past) -> None:
    settings = {"neighbours": 5.0, "shrink": 0.0, "scale": INF}

    scores = ItemKnn(past)(settings)(np.array([2]))

    # User 2 played items 0 and 3. Item 1: cosine to 0 is 2 / sqrt(3 * 2), to 3 none.
    assert scores[0, 1] == pytest.approx(2 / np.sqrt(6))
    assert scores[0, 2] == pytest.approx(1 / np.sqrt(3))
    assert scores[0, 4] == 0


def test_item_knn_shrinks_and_keeps_the_nearest_only(past: Past) -> None:
    knn = ItemKnn(past)

    shrunk = knn({"neighbours": 5.0, "shrink": 10.0, "scale": INF})(np.array([2]))
    nearest = knn({"neighbours": 1.0, "shrink": 0.0, "scale": INF})(np.array([2]))

    assert shrunk[0, 1] == pytest.approx(2 / (np.sqrt(6) + 10))
    assert nearest[0, 1] == pytest.approx(2 / np.sqrt(6))
    assert nearest[0, 2] == 0


def test_transitions_go_forward_by_distance(past: Past) -> None:
    settings = {"reach": 2.0, "backward": 0.0, "damping": 0.0, "scale": 1e9}

    scores = Transitions(past)(settings)(np.array([2]))

    # 0 is followed by 1 (twice at 1, once at 2) and by 2 (at 2); 3 by 0. User 2 played 3, then 0.
    assert scores[0].tolist() == pytest.approx([1.0, 2.5, 0.5, 0.0, 0.0])


def test_transitions_count_backward_damp_and_forget(past: Past) -> None:
    peer = Transitions(past)
    both = {"reach": 1.0, "backward": 0.5, "damping": 0.0, "scale": 1e9}

    backward = peer(both)(np.array([2]))
    damped = peer({**both, "damping": 1.0})(np.array([2]))
    forgetful = peer({**both, "scale": 1.0})(np.array([2]))

    assert backward[0].tolist() == pytest.approx([1.0, 2.0, 0.0, 0.5, 0.0])
    assert damped[0].tolist() == pytest.approx([1 / 3, 1.0, 0.0, 0.5, 0.0])
    assert forgetful[0].tolist() == pytest.approx([np.exp(-1), 2.0, 0.0, 0.5, 0.0])


def test_ease_is_the_solution_of_its_own_problem() -> None:
    random = np.random.default_rng(3)
    played = (random.random((40, 6)) < 0.4).astype(float)

    weights = ease_weights(played.T @ played, 5.0)

    inverse = np.linalg.inv(played.T @ played + 5.0 * np.eye(6))
    expected = np.eye(6) - inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    # Each column is a ridge regression of its item on all others.
    others = np.delete(played, 2, axis=1)
    ridge = np.linalg.solve(others.T @ others + 5.0 * np.eye(5), others.T @ played[:, 2])
    np.testing.assert_allclose(np.delete(weights[:, 2], 2), ridge, atol=1e-6)


def test_ease_scores_what_goes_with_a_users_items(past: Past) -> None:
    scores = Ease(past)({"l2": 1.0, "scale": INF})(EVERYBODY)

    assert scores.shape == (3, 5)
    assert scores[2, 1] > scores[2, 4] == 0


@pytest.mark.parametrize(
    ("peer", "settings"),
    [
        (Als, {"confidence": 10.0, "factors": 8.0, "regularization": 0.05}),
        (
            Bpr,
            {"learning_rate": 0.1, "regularization": 0.001, "factors": 8.0, "epochs": 100.0},
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning", "ignore::UserWarning")
def test_factors_find_the_taste_of_a_user(peer: type[Als] | type[Bpr], settings: Settings) -> None:
    """Users of two tastes played all but one item of theirs."""
    plays = [
        (user, 10 * (user % 2) + item)
        for user in range(20)
        for item in range(10)
        if item != user // 2
    ]
    users, rows = zip(*plays, strict=True)
    past = Past(events(users, rows), n_users=20, n_items=20, as_of_s=0, order="none", seed=1)

    scores = peer(past)(settings)(np.arange(20))

    left_out = np.array([10 * (user % 2) + user // 2 for user in range(20)])
    other = np.array([10 * (1 - user % 2) + user // 2 for user in range(20)])
    everybody = np.arange(20)
    assert (scores[everybody, left_out] > scores[everybody, other]).mean() > 0.9


def test_the_greatest_of_each_row_are_kept() -> None:
    block = np.array([[0.1, 0.3, 0.2], [0.5, 0.0, 0.4]], dtype=np.float32)

    expected = np.array([[0, 0.3, 0.2], [0.5, 0, 0.4]], dtype=np.float32)
    np.testing.assert_array_equal(keep_greatest(block, 2), expected)
    assert keep_greatest(block, 3) is block


def test_lists_leave_out_what_was_played_and_ties_break_by_row(past: Past) -> None:
    window = Window(past, np.array([0]), (np.array([3], dtype=np.uint32),))
    flat: NDArray[np.float32] = np.zeros((1, 5), dtype=np.float32)

    values = measure(window, lambda _: flat)

    # 0, 1 and 2 were played, so 3 is first.
    assert values[0, METRICS.index("ndcg_10")] == 1.0


def test_validation_is_the_window_before_the_test_window(tmp_path: Path) -> None:
    plays = [Play("u", str(day), day * DAY_S) for day in range(100)]
    log = event_log(tmp_path, plays)

    validation, test = windows_of(log, seed=1)

    assert test.past.as_of_s - validation.past.as_of_s == 7 * DAY_S
    assert len(test.targets[0]) == len(validation.targets[0]) == 7
    assert not set(validation.targets[0].tolist()) & set(test.targets[0].tolist())
    assert int(validation.past.events.times_s.max()) < validation.past.as_of_s


def test_users_with_a_short_history_are_not_asked_for(tmp_path: Path) -> None:
    known = [Play("known", str(day), day * DAY_S) for day in range(100)]
    new = [Play("new", str(day), day * DAY_S) for day in range(90, 100)]
    short = [Play("short", str(day), day * DAY_S) for day in range(96, 100)]

    _, test = windows_of(event_log(tmp_path, [*known, *new, *short]), seed=1)

    assert len(test.users) == 1


def test_tuning_tries_one_setting_after_the_other_and_nothing_twice() -> None:
    asked = []

    def worth(settings: Settings) -> float:
        asked.append(tuple(settings.values()))
        return -abs(settings["a"] - 2) - abs(settings["b"] - 2)

    peer = Peer("p", Popularity, {"a": (1.0, 2.0, 3.0), "b": (1.0, 2.0)}, rounds=2)

    found = tune(peer, worth)

    assert found.settings == {"a": 2.0, "b": 2.0}
    assert (found.value, found.tried) == (0.0, len(asked))
    assert len(asked) == len(set(asked)) == 6


def test_a_peer_without_settings_is_asked_once() -> None:
    found = tune(Peer("p", Popularity, {}), lambda _: 0.5)

    assert (dict(found.settings), found.value, found.tried) == ({}, 0.5, 1)


def test_methods_that_need_an_order_are_left_out_without_one() -> None:
    assert "transitions" in methods_for("position", ())
    assert "popularity, 7 days" not in methods_for("position", ())
    assert methods_for("none", ()) == ["popularity", "ItemKNN", "ALS", "BPR", "EASE", "recmesh"]
    assert methods_for("time", ["EASE"]) == ["EASE"]


def row(method: str, value: float) -> dict[str, Any]:
    return {"method": method, **dict.fromkeys(METRICS, value), "ndcg_10_ci95": 0.01}


def peer_found(name: str, value: float, *, users: int = 5) -> dict[str, Any]:
    costs = {"tuning_s": 1.0, "train_s": 2.0, "peak_mib": 300.0, "settings": {"l2": 30.0}}
    return {"users": users, "rows": [row(name, value)], **costs}


def our_run(seed: int, value: float, *, users: int = 5, differing: int = 0) -> dict[str, Any]:
    counts = {"failed": 0, "degraded": 3, "narrowed": 0, "differing": differing}
    return {
        "seed": seed,
        "users": users,
        "rows": [row(IN_MESH, value), row(OFFLINE, 0.9)],
        "sources": [{"source": "ann", "recall": value, "unique_recall": 0.02, "answered": 200.0}],
        "mesh": {"users": users, "seconds": 2.0, "per_s": users / 2.0, **counts},
        "settings": {},
        "tuning_s": 0.0,
        "train_s": 10.0 * seed,
        "evaluate_s": 1.0,
        "peak_mib": 100.0 * seed,
    }


def written(name: str, order: str, **methods: Any) -> dict[str, Any]:
    sets = [{"data_set": name, "order": order, "methods": methods}]
    return {"machine": {"cores": 2, "processor": "P", "python": "3.11"}, "sets": sets}


def test_the_verdict_is_of_what_the_mesh_answers_beside_the_best_peer() -> None:
    peers = {"EASE": peer_found("EASE", 0.1), "ALS": peer_found("ALS", 0.05)}
    ours = over_seeds([our_run(1, 0.15, users=6)])

    (result,) = merged([written("30Music", "time", **peers, recmesh=ours)])
    (without,) = merged([written("30Music", "time", **peers)])

    judged = result["verdict"]
    assert (judged["method"], judged["best_peer"]) == (IN_MESH, "EASE")
    assert (judged["value"], judged["ratio"]) == (0.15, pytest.approx(1.5))
    assert judged["same_users"] is False
    assert "NOT ASKED FOR THE SAME USERS" in next(grids(result)).about
    assert without["verdict"] is None


def test_seeds_are_averaged_and_their_spread_is_kept() -> None:
    ours = over_seeds([our_run(1, 0.1), our_run(2, 0.2), our_run(3, 0.6)])

    assert ours["rows"][0]["ndcg_10"] == pytest.approx(0.3)
    assert ours["sources"][0]["recall"] == pytest.approx(0.3)
    assert ours["spread"]["hit_10"] == {"mean": pytest.approx(0.3), "least": 0.1, "most": 0.6}
    assert (ours["train_s"], ours["peak_mib"]) == (pytest.approx(20.0), 300.0)
    assert [run["seed"] for run in ours["runs"]] == [1, 2, 3]


@pytest.mark.parametrize(("order", "value"), [("position", 0.3), ("none", 0.2)])
def test_the_mean_over_seeds_is_compared_unless_a_seed_draws_another_holdout(
    order: str, value: float
) -> None:
    ours = over_seeds([our_run(1, 0.2), our_run(2, 0.4)])

    (result,) = merged([written("Last.fm-2K", order, EASE=peer_found("EASE", 0.1), recmesh=ours)])

    assert result["verdict"]["value"] == pytest.approx(value)


def test_of_a_method_measured_twice_the_last_file_counts() -> None:
    first = written("30Music", "time", recmesh=over_seeds([our_run(1, 0.2)]))
    second = written("30Music", "time", EASE=peer_found("EASE", 0.1), ALS=peer_found("ALS", 0.3))
    third = written("30Music", "time", ALS=peer_found("ALS", 0.4))
    other = written("MovieLens-1M", "position", EASE=peer_found("EASE", 0.2))

    results = merged([other, first, second, third])

    assert [each["data_set"] for each in results] == ["30Music", "MovieLens-1M"]
    assert list(results[0]["methods"]) == ["ALS", "EASE", "recmesh"]
    assert results[0]["verdict"]["best_peer_value"] == 0.4


def test_markdown_has_every_table_of_what_was_stored() -> None:
    ours = over_seeds([our_run(1, 0.1), our_run(2, 0.2, differing=4)])
    file = written("30Music", "time", EASE=peer_found("EASE", 0.1), recmesh=ours)

    text = markdown([file["machine"], file["machine"]], merged([file]))

    assert text.count("Measured on 2 cores of P, Python 3.11.") == 1
    assert "### 30Music, 5 users\n\n| method | NDCG@10 |" in text
    assert (
        "| EASE | 0.1000 ±0.0100 | 0.1000 | 0.1000 | 0.1000 | 1.0 | 2.0 | 300.0 | l2=30 |" in text
    )
    assert "| recmesh: ranked (mesh) | 0.1500 ±0.0100 | 0.1500 |" in text
    assert "| ann | 200 | 0.1500 | 0.0200 |" in text
    assert "| least | 0.1000 |" in text
    assert "| most | 0.2000 |" in text
    assert "2 a second; 0 failed, 3 degraded, 0 narrowed, 4 not the offline list. THE MESH" in text
    assert text.count("THE MESH DIFFERS") == 1


def test_a_file_without_results_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.json").write_text('{"machine":')
    (tmp_path / "other.json").write_text("[]")

    for name, fault in (("cut", "is not JSON"), ("other", "no results"), ("none", "No such file")):
        with pytest.raises(ResultsError, match=f"{name}.json .*{fault}"):
            read_results(tmp_path / f"{name}.json")


def expected_of(ranked: dict[str, tuple[str, ...]]) -> Expected:
    keys = ItemKeys(np.sort(item_keys("abcdefgh")))
    rows = {who: keys.rows_of_ids(items).astype(np.uint32) for who, items in ranked.items()}
    return Expected(keys, rows)


def test_an_answer_is_expected_when_it_begins_with_the_whole_ranked_list() -> None:
    expected = expected_of({"u": ("c", "d")})

    def is_met(*items: str) -> bool:
        return expected.is_met("u", Slate(items, degraded=False))

    assert is_met("c", "d")
    assert is_met("c", "d", "e")  # filled up with what is popular
    assert not is_met("d", "c")
    assert not is_met("c")
    assert not expected.is_met("u", Unavailable("gone"))


def test_a_failed_call_is_an_empty_list_and_what_went_wrong_is_counted() -> None:
    expected = expected_of({"u": ("c", "d"), "v": ("d",), "w": ("e",), "x": ("f",)})
    outcomes: dict[str, Outcome] = {
        "u": Slate(("d", "c"), degraded=True),
        "v": Unavailable("gone"),
        "w": Slate(("e", "f"), degraded=False),
        "x": Slate(("f",), degraded=False),
    }
    asked = Asked(outcomes, frozenset({"u"}), seconds=0.5)
    targets = [expected.items.rows_of_ids(item).astype(np.uint32) for item in "cdef"]

    facts = mesh_facts(asked, expected)
    row = mesh_row(asked, expected, targets)

    assert facts == {
        "users": 4,
        "seconds": 0.5,
        "per_s": 8.0,
        "failed": 1,
        "degraded": 1,
        "narrowed": 1,
        "differing": 1,
    }
    assert not is_as_offline(facts)
    assert is_as_offline({**facts, "users": 200})
    assert row["method"] == IN_MESH
    assert row["hit_10"] == pytest.approx(3 / 4)
    assert row["ndcg_10"] == pytest.approx((1 / np.log2(3) + 2) / 4)


def test_peers_have_names_of_their_own() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)


def test_ours_trains_by_the_recipe_of_the_data_set() -> None:
    by_name = {each.name: each for each in DATA_SETS}

    assert by_name["MovieLens-1M"].recipe == read_recipe("movielens-1m") != DEFAULT
    assert DataSet("Other", "other", "events", "ndcg_10").recipe == DEFAULT
