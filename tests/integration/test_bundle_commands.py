"""`meshctl bundle`, on bundles as training publishes them."""

import re
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from meshctl.bundle import app
from meshkit.bundles import Bundle, BundleStore, open_store
from pipeline.bundle_report import REPORT_FILE, report_text
from pipeline.evaluate import RANKED
from pipeline.probes import FILE as PROBES_FILE
from pipeline.probes import write_probes
from services.ranker.adapters.model_text import FILE as MODEL_FILE
from tests.integration.small_world import TrainedWorld, train_on
from tests.small_bundle import publish_small_bundle


def bundle(*arguments: str, store: BundleStore) -> Result:
    # A wide terminal: tables must not break versions.
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments, "--bundles", store.location])


def publish_like(
    store: BundleStore,
    original: Bundle,
    *,
    ndcg_10: float | None = None,
    change: Callable[[Path], None] = lambda _: None,
    after: timedelta = timedelta(hours=1),
) -> Bundle:
    """Publish a copy of a bundle, not promoted, with another NDCG@10 (±0.01) in its report."""

    def write(directory: Path) -> None:
        for name in original.manifest.files:
            shutil.copy(original.path / name, directory / name)
        if ndcg_10 is not None:
            method = {"method": RANKED, "ndcg_10": ndcg_10, "ndcg_10_ci95": 0.01}
            report = {"users": 100, "methods": [method]}
            (directory / REPORT_FILE).write_text(report_text(report))
            (directory / PROBES_FILE).unlink()
            write_probes(directory, original.manifest.facts)
        change(directory)

    now = datetime.fromisoformat(original.manifest.created_at) + after
    return store.publish(write, original.manifest.facts, now=now, promote=False)


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return open_store(tmp_path / "bundles")


@pytest.fixture
def first(store: BundleStore) -> Bundle:
    return publish_small_bundle(Path(store.location))


@pytest.fixture
def served(store: BundleStore, first: Bundle) -> Bundle:
    """The second version, with an NDCG@10 of 0.2."""
    second = publish_like(store, first, ndcg_10=0.2)
    store.promote(second.version)
    return second


def break_the_model(directory: Path) -> None:
    model = (directory / MODEL_FILE).read_text()
    (directory / MODEL_FILE).write_text(model[: len(model) // 2])


def test_the_list_marks_what_is_served_and_what_it_replaced(
    store: BundleStore, first: Bundle, served: Bundle
) -> None:
    waiting = publish_like(store, served)
    damaged = publish_like(store, served, after=timedelta(days=1))
    (damaged.path / "manifest.json").write_text("{")

    lines = bundle("list", store=store).stdout.splitlines()

    rows = [line for line in lines if re.search(r"\d{8}T", line)]
    assert [row.split()[1] for row in rows] == [
        each.version for each in (first, served, waiting, damaged)
    ]
    assert ["replaced" in rows[0], "current" in rows[1]] == [True, True]
    assert rows[2].count(served.version) == 1  # its parent; in its own place stands its own name
    assert "cannot be read" in rows[3]


def test_an_empty_store_lists_nothing(store: BundleStore) -> None:
    listed = bundle("list", store=store)

    assert listed.exit_code == 0
    assert "T" not in listed.stdout.replace("│", "").split("parent")[1].split("─")[0]


def test_show_prints_facts_files_and_the_report(store: BundleStore, served: Bundle) -> None:
    shown = bundle("show", served.version, store=store)

    assert shown.exit_code == 0, shown.output
    assert "0.2000 ±0.0100" in shown.stdout
    assert re.search(r"^items +60$", shown.stdout, re.MULTILINE)
    assert re.search(r"^scorer +forest$", shown.stdout, re.MULTILINE)
    assert re.search(rf"^parent +{served.manifest.parent}$", shown.stdout, re.MULTILINE)
    for name, entry in served.manifest.files.items():
        assert re.search(rf"{re.escape(name)} .*{entry.size:,} .*{entry.sha256[:16]}", shown.stdout)


@pytest.mark.parametrize("command", ["show", "verify", "promote"])
def test_a_version_that_is_not_there_is_an_error(
    store: BundleStore, first: Bundle, command: str
) -> None:
    refused = bundle(command, "20200101T000000Z-0", store=store)

    assert refused.exit_code == 1
    assert "error: " in refused.stderr
    assert "20200101T000000Z-0" in refused.stderr
    assert store.current() == first.version


def test_verify_tells_a_sound_bundle_from_a_broken_one(store: BundleStore, first: Bundle) -> None:
    broken = publish_like(store, first, change=break_the_model)

    sound, unsound = (bundle("verify", v, store=store) for v in (first.version, broken.version))

    assert (sound.exit_code, sound.stdout) == (0, f"{first.version} is sound\n")
    assert unsound.exit_code == 1
    assert f"error: {broken.version} is not sound: " in unsound.stderr


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_an_unsound_bundle_is_not_promoted_by_force_either(
    store: BundleStore, served: Bundle, force: list[str]
) -> None:
    broken = publish_like(store, served, change=break_the_model)

    refused = bundle("promote", broken.version, *force, store=store)

    assert refused.exit_code == 1
    assert f"{broken.version} is not sound" in refused.stderr
    assert store.current() == served.version


def test_a_bundle_as_good_as_its_parent_is_promoted(store: BundleStore, served: Bundle) -> None:
    next_one = publish_like(store, served, ndcg_10=0.19)

    promoted = bundle("promote", next_one.version, store=store)

    assert promoted.exit_code == 0, promoted.output
    assert f"serving {next_one.version}, {served.version} before" in promoted.stdout
    assert store.current() == next_one.version


def test_a_bundle_worse_than_its_parent_is_promoted_by_force_alone(
    store: BundleStore, served: Bundle
) -> None:
    worse = publish_like(store, served, ndcg_10=0.18)

    refused = bundle("promote", worse.version, store=store)
    assert refused.exit_code == 1
    assert "NDCG@10 0.1800, its parent's 0.2000: 0.0200 lower" in refused.stderr
    assert "--force promotes it anyway" in refused.stderr
    assert store.current() == served.version

    assert bundle("promote", worse.version, "--force", store=store).exit_code == 0
    assert store.current() == worse.version


def test_rollback_serves_what_was_served_before(
    store: BundleStore, first: Bundle, served: Bundle
) -> None:
    rolled_back = bundle("rollback", store=store)

    assert rolled_back.stdout == f"serving {first.version}, {served.version} before\n"
    assert store.current() == first.version


def test_rollback_to_a_damaged_bundle_is_refused(
    store: BundleStore, first: Bundle, served: Bundle
) -> None:
    (first.path / MODEL_FILE).write_text("")

    refused = bundle("rollback", store=store)

    assert refused.exit_code == 1
    assert MODEL_FILE in refused.stderr
    assert store.current() == served.version


def test_gc_deletes_what_is_old_and_not_served(store: BundleStore, served: Bundle) -> None:
    waiting = [publish_like(store, served, after=timedelta(days=n)) for n in (1, 2, 3)]

    deleted = bundle("gc", "--keep", "1", store=store)

    assert deleted.stdout == "".join(
        [*(f"deleted {each.version}\n" for each in waiting[:2]), "2 deleted\n"]
    )
    assert len(store.versions()) == 3


def test_diff_of_equal_bundles_finds_equal_slates(store: BundleStore, served: Bundle) -> None:
    same = publish_like(store, served, ndcg_10=0.25)

    compared = bundle("diff", served.version, same.version, store=store)

    assert compared.exit_code == 0, compared.output
    assert re.search(r"ranked .*NDCG@10 .*0\.2000 ±0\.0100 .*0\.2500 ±0\.0100", compared.stdout)
    assert "features are the same" in compared.stdout
    assert "slates of 40 users" in compared.stdout
    assert "mean 1.000; worst 1.000" in compared.stdout


def test_diff_shows_how_far_slates_of_another_training_are_apart(
    trained_world: TrainedWorld, tmp_path: Path
) -> None:
    store = open_store(shutil.copytree(trained_world.bundles, tmp_path / "bundles"))
    first = store.open()
    second = train_on(trained_world.log, Path(store.location), holdout="week", seed=2)

    compared = bundle("diff", first.version, second.bundle.version, "--users", "20", store=store)

    assert compared.exit_code == 0, compared.output
    assert "slates of 20 users" in compared.stdout
    figures = re.search(
        r"mean (\S+); worst (\S+), worst 5% (\S+), worst 25% (\S+), worst 50% (\S+)",
        compared.stdout,
    )
    assert figures is not None
    mean, *worst = (float(figure) for figure in figures.groups())
    assert worst == sorted(worst)
    assert 0 < worst[0] < mean < 1
    assert second.promotion.is_allowed == (store.current() == second.bundle.version)
