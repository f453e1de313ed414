"""The growth benchmark makes real bundles of any size, and reads figures rightly."""

import os
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from annoy import AnnoyIndex as Annoy
from rich.console import Console

from benchmarks.growth import report
from benchmarks.growth.bundles import SEED, Steps, bytes_by_group, grow, synthetic_tables
from benchmarks.growth.found import Size
from benchmarks.growth.memory import MIB, Memory, memory_of, parse_rollup
from benchmarks.growth.mesh import Answered, Subject, in_single_file, second_worker_shares
from benchmarks.growth.retrieval import WANTED_RECALL, Retrieval, least_depth, retrieve
from benchmarks.growth.worlds import synthetic_log
from benchmarks.recall import (
    Point,
    build_index,
    bundle_subject,
    exact_nearest,
    glove_subject,
    measure,
    recall,
)
from benchmarks.recall import Subject as Vectors
from meshctl.child_process import ProcessSpec
from meshctl.process_order import stop_waves
from meshkit.bundles import Bundle, FileEntry, open_store
from pipeline.tables import Tables, build_tables
from services.candidates.adapters.annoy_index import TREES
from signals.bundle import ArrayView

ITEMS = 400
SOME_VECTORS = np.random.default_rng(5).normal(size=(3_000, 16)).astype(np.float32)
SOME_QUERIES = np.random.default_rng(6).normal(size=(20, 16)).astype(np.float32)


def views_of(tables: Tables) -> dict[str, bytes]:
    views = [(field.name, getattr(tables, field.name)) for field in fields(tables)]
    return {
        f"{name}.{field.name}": getattr(view, field.name).tobytes()
        for name, view in views
        if isinstance(view, ArrayView)
        for field in fields(view)
    }


def test_a_synthetic_log_plays_each_of_its_items() -> None:
    world = synthetic_log(ITEMS, seed=1, country_items=200)

    assert len(world.log.catalogue) == ITEMS
    assert (np.bincount(world.log.events.rows, minlength=ITEMS) > 0).all()
    assert np.bincount(world.country).tolist() == [200, 200]


def test_a_listener_stays_in_one_country() -> None:
    world = synthetic_log(ITEMS, seed=1, country_items=200)

    countries = world.country[world.log.events.rows]

    for user in range(len(world.log.user_keys)):
        assert len(set(countries[world.log.events.users == user].tolist())) <= 1


def test_a_log_that_its_countries_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="items is 300; beyond 200 it must be a multiple of it"):
        synthetic_log(300, seed=1, country_items=200)


def test_tables_made_by_country_are_those_of_the_trainer() -> None:
    world = synthetic_log(ITEMS, seed=1, country_items=200)
    as_of_s = int(world.log.events.times_s.max()) + 1

    made = synthetic_tables(world, Steps().step)

    trained = build_tables(world.log.events, world.log, as_of_s=as_of_s, seed=SEED)
    assert made.facts == trained.facts
    assert views_of(made) == views_of(trained)


def test_a_grown_bundle_is_verified_current_and_searched(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    model_text = (small_bundle.path / "ranker.txt").read_text()

    grown = grow(ITEMS, model_text, tmp_path)

    assert open_store(grown.store).open().version == grown.bundle.version
    assert {"vectors", "neighbours", "publish"} <= grown.seconds.keys()
    subject = Subject.of(grown.store, grown.bundle)
    assert all(1 <= len(slate) <= 20 for slate in subject.slates)
    (tmp_path / "index").mkdir()
    found = retrieve(grown.bundle, tmp_path / "index", depth=4_000)
    assert found.is_reached
    assert found.point.trees == TREES
    assert found.point.recall_at_100 >= WANTED_RECALL
    assert found.configured.recall_at_100 > 0.99


def test_every_file_of_a_bundle_is_in_one_group() -> None:
    files = {
        name: FileEntry(size, "")
        for name, size in {
            "annoy.index": 1,
            "Embedding.gram.npy": 2,
            "Neighbours.rows.npy": 4,
            "ItemTexts.text.npy": 8,
            "probes.json": 16,
        }.items()
    }

    sizes = bytes_by_group(files)

    assert (sizes["index"], sizes["vectors"], sizes["neighbour lists"]) == (1, 2, 4)
    assert (sizes["texts"], sizes["other"], sizes["all"]) == (8, 16, 31)


def test_recall_is_the_part_of_the_truth_that_was_found() -> None:
    truth = [np.array([1, 2, 3, 4]), np.array([5, 6, 7, 8])]

    assert recall([np.array([4, 1, 9]), np.array([8, 7, 6, 5])], truth) == 6 / 8


def test_exact_search_is_by_inner_product_and_ties_go_to_the_lower_row() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]], dtype=np.float32)

    found = exact_nearest(vectors, np.array([[1, 0], [0, 1]], dtype=np.float32), 3)

    assert found.tolist() == [[0, 2, 3], [1, 3, 0]]


def test_a_search_of_everything_finds_everything(tmp_path: Path) -> None:
    subject = Vectors.of("random", SOME_VECTORS, SOME_QUERIES)
    index = build_index(subject.vectors, 4, tmp_path / "index")

    whole = measure(subject, index, 100_000, is_rescored=True)
    little = measure(subject, index, 100, is_rescored=True)

    assert (whole.trees, whole.recall_at_10, whole.recall_at_100) == (4, 1.0, 1.0)
    assert little.recall_at_100 < 0.8


def test_the_least_depth_is_the_first_that_finds_enough(tmp_path: Path) -> None:
    subject = Vectors.of("random", SOME_VECTORS, SOME_QUERIES)
    index: Annoy = build_index(subject.vectors, 4, tmp_path / "index")
    depths = (200, 400, 800, 1_600, 3_200, 6_400, 12_800)

    found = least_depth(subject, index, depths)

    recalls = [measure(subject, index, depth, is_rescored=True).recall_at_100 for depth in depths]
    enough = [depth for depth, one in zip(depths, recalls, strict=True) if one >= WANTED_RECALL]
    assert found.search_k == enough[0]


def test_a_bundle_is_asked_by_its_users(small_bundle: Bundle) -> None:
    # Sixty items have no hundred nearest: the truth is all of them.
    subject = bundle_subject(small_bundle, queries=10)

    assert subject.queries.shape == (10, subject.vectors.shape[1])
    np.testing.assert_allclose(np.linalg.norm(subject.queries, axis=1), 1, rtol=1e-5)


def test_glove_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "glove.npz"
    half = SOME_VECTORS.astype(np.float16)
    np.savez(path, base=half, queries=half[:7])

    subject = glove_subject(path, queries=5)

    assert subject.vectors.shape == (3_000, 16)
    assert subject.truth[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_memory_is_read_from_the_kernels_sums() -> None:
    text = (
        "55d0-7ffd ---p 00000000 00:00 0 [rollup]\n"
        "Rss:                1000 kB\nPss:                 500 kB\nPrivate_Clean:        30 kB\n"
        "Private_Dirty:       200 kB\nAnonymous:           150 kB\n"
    )

    assert parse_rollup(text) == Memory(rss=1000 * 1024, uss=230 * 1024, anonymous=150 * 1024)


def test_memory_of_our_own_grows_with_what_we_hold() -> None:
    before = memory_of(os.getpid())

    held = np.ones(64 * MIB, dtype=np.uint8)

    grown = memory_of(os.getpid()).uss - before.uss
    assert 56 * MIB < grown < 128 * MIB, held.nbytes


def test_processes_in_single_file_wait_for_each_other() -> None:
    specs = [ProcessSpec(name=name, argv=()) for name in "abc"]

    chained = in_single_file([*specs[:2], replace(specs[2], waits_for=("a",))])

    assert [spec.waits_for for spec in chained] == [(), ("a",), ("a", "b")]
    assert stop_waves(chained) == [["c"], ["b"], ["a"]]


def some_memory(rss_mib: int, uss_mib: int) -> Memory:
    return Memory(rss_mib * MIB, uss_mib * MIB, uss_mib * MIB)


def some_size(items: int, p50_ms: float) -> Size:
    leaves = ("candidates-ann", "candidates-similar", "candidates-trending", "ranker")
    first = {f"{leaf}-1": some_memory(400, 90) for leaf in leaves}
    second = {f"{leaf}-2": some_memory(390, 100) for leaf in leaves}
    point = Point(TREES, 4_000, is_rescored=True, recall_at_10=1, recall_at_100=0.95, p50_ms=p50_ms)
    gateway = some_memory(100, 50)
    answered = Answered(1, 10, 5.0, 9.0, 100.0, 0, 0, 1.0, {"gateway": 1.0}, gateway)
    return Size(
        items=items,
        making_s={"publish": 1.0},
        bytes_by_group=bytes_by_group({}),
        retrieval=Retrieval(point, point, build_s=1.0, is_reached=True),
        start_s={"gateway": 1.0},
        memory={**first, **second, "gateway": gateway},
        request=answered,
    )


def test_a_second_workers_share_is_its_own_memory_over_all_of_the_firsts() -> None:
    shares = second_worker_shares(some_size(10_000, 1.0).memory)

    assert set(shares.values()) == {100 / 400}


def test_targets_are_judged_at_their_sizes() -> None:
    small, large = some_size(10_000, 0.5), some_size(1_000_000, 3.5)

    ratio, *shares = report.targets([small, large])

    assert (ratio.value, ratio.is_met) == (7.0, False)
    assert [(share.value, share.is_met) for share in shares] == [(0.25, True)] * 4
    assert len(report.targets([large])) == 4
    assert report.targets([small]) == []


def test_a_target_needs_the_recall_that_it_speaks_of() -> None:
    small, large = some_size(10_000, 0.5), some_size(1_000_000, 1.0)
    missed = replace(large, retrieval=replace(large.retrieval, is_reached=False))

    assert not report.targets([small, missed])[0].is_met


def test_the_report_has_a_column_for_each_size(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=200)

    report.show(console, [some_size(10_000, 0.5), some_size(1_000_000, 1.0)], [])

    out = capsys.readouterr().out
    assert re.search(r"10,000 +┃ +1,000,000", out)
    assert "400 / 90 / 90" in out
