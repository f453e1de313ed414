"""Verification: a sound bundle passes, every broken one is refused with its file and fault."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from meshkit.bundles import MANIFEST, Bundle, BundleError, open_store
from meshkit.probation import on_probation
from pipeline.bundle_report import REPORT_FILE
from pipeline.probes import ProbeError, check_answers
from pipeline.train import Report, publish
from pipeline.verify_bundle import check_bundle, verify
from tests.broken_bundles import (
    ABOUT_PROBES,
    DAMAGES,
    UNHASHABLE,
    broken_bundle,
    broken_bundles,
    edit_array,
    edit_model,
    edit_probes,
    flip_bit,
    publish_without_forest,
    rehash,
    replace_entry,
    reseal,
    resized,
)
from tests.integration.small_world import NOW, TrainedWorld
from tests.small_bundle import small_tables

FILE_NAME = re.compile(r"[\w.]+\.(npy|json|txt|index)|^facts")

FILE_OF = {
    "annoy": "annoy.index",
    "model": "ranker.txt",
    "NaN": "Embedding.vectors.npy",
    "zero": "Embedding.vectors.npy",
    "neighbour": "Neighbours.",
    "successor": "Successors.",
    "companion": "Companions.",
    "transition": "Transitions.",
    "keys": "ItemKeys.keys",
    "text": "ItemTexts.",
    "popularity": "Popularity.rows.npy",
    "history": "Histories.",
    "forest": "Forest.",
    "probes": "probes.json",
    "report": "report.json",
}
"""By the first word of a damage's name: what a refusal must name."""
BY_PROBES_ALONE = frozenset(
    {
        "model with leaves negated",
        "facts of another confidence",
        "successors of another training",
        "successors of other scales",
        "companions of another training",
    }
)

DANGEROUS = (
    "annoy truncated",
    "annoy random",
    "annoy of another dimension",
    "annoy of half the items",
    "model with child of 10^9",
    "model with child cycle",
    "model of half a file",
    "keys random",
    "forest with a word out of range",
    "forest with a feature out of range",
    "forest with bounds beyond",
)
"""What would crash, hang or mislead whoever opens it, or asks numpy for much."""


def refusal_of(path: Path) -> str:
    """Return why a bundle is refused by the store that holds it or by verification, or ""."""
    try:
        open_store(path.parent).open(path.name)
        check_bundle(path, lambda _line: None)
    except (BundleError, OSError, ValueError) as exc:
        return str(exc)
    return ""


def test_a_trained_bundle_is_sound(trained_world: TrainedWorld) -> None:
    verdict = verify(trained_world.trained.bundle.path)

    assert verdict.is_sound, verdict.reason


def test_a_copy_under_another_version_is_sound(small_bundle: Bundle, tmp_path: Path) -> None:
    copy = broken_bundle(
        small_bundle.path, tmp_path, "not at all", lambda _path: None, is_rehashed=True
    )

    assert refusal_of(copy.path) == ""


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_refused_though_every_hash_fits(
    name: str, small_bundle: Bundle, tmp_path: Path
) -> None:
    broken = broken_bundle(small_bundle.path, tmp_path, name, DAMAGES[name], is_rehashed=True)
    open_store(tmp_path).open(broken.path.name)

    reason = refusal_of(broken.path)

    assert FILE_NAME.search(reason)
    if name in BY_PROBES_ALONE:
        assert "probes.json: " in reason
    else:
        assert FILE_OF.get(name.partition(" ")[0], "") in reason
        assert name in ABOUT_PROBES or "probes.json" not in reason


@pytest.mark.parametrize("name", DANGEROUS)
def test_a_dangerous_file_is_refused_on_probation_and_never_opened(
    name: str, small_bundle: Bundle, tmp_path: Path
) -> None:
    broken = broken_bundle(small_bundle.path, tmp_path, name, DAMAGES[name], is_rehashed=True)

    verdict = verify(broken.path)

    assert not verdict.is_sound
    assert FILE_OF[name.partition(" ")[0]] in verdict.reason
    assert "crashed" not in verdict.reason
    assert "no end" not in verdict.reason


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("annoy with items out of range", "crashed with SIGSEGV"),
        ("model with child cycle", "no end in 4 s"),
    ],
)
def test_what_the_structure_check_keeps_from_its_readers_would_end_them(
    name: str, end: str, small_bundle: Bundle, tmp_path: Path
) -> None:
    broken = broken_bundle(small_bundle.path, tmp_path, name, DAMAGES[name], is_rehashed=True)

    verdict = on_probation("tests.answer_probes", [str(broken.path)], time_limit_s=4)

    assert not verdict.is_sound
    assert end in verdict.reason


def test_a_bundle_without_a_forest_is_sound(small_bundle: Bundle, tmp_path: Path) -> None:
    plain = publish_without_forest(small_bundle.path, tmp_path)

    assert not list(plain.path.glob("Forest.*"))
    assert refusal_of(plain.path) == ""


def test_a_forest_that_scores_other_than_lightgbm_fails_the_probes(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    nudge = edit_array("Forest.leaf_values", lambda values: np.nextafter(values, np.inf))
    nudged = broken_bundle(small_bundle.path, tmp_path, "nudged", nudge, is_rehashed=True)

    with pytest.raises(ProbeError, match=r"Forest\.\*\.npy scores .* where LightGBM scores"):
        check_answers(nudged.path, small_bundle.manifest.facts)


def test_a_model_that_cannot_be_packed_is_published_without_a_forest(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    text = (small_bundle.path / "ranker.txt").read_text()
    averaged = text.replace("\nobjective=", "\naverage_output\nobjective=", 1)
    report = Report(cuts="none", users=0, methods=(), notes=())

    published = publish(open_store(tmp_path), small_tables(), averaged, report, now=NOW)

    assert not list(published.path.glob("Forest.*"))


def test_a_forest_beside_a_model_that_cannot_be_packed_is_refused(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    average = edit_model(
        lambda text: text.replace("\nobjective=", "\naverage_output\nobjective=", 1)
    )
    broken = broken_bundle(small_bundle.path, tmp_path, "average", average, is_rehashed=True)

    assert "cannot be packed: it is a random forest" in refusal_of(broken.path)


def test_every_broken_bundle_is_refused_by_the_store_or_by_verification(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    n_files = len(list(small_bundle.path.iterdir()))
    accepted, seen = [], 0
    for broken in broken_bundles(small_bundle.path, tmp_path):
        reason = refusal_of(broken.path)
        if not reason or not FILE_NAME.search(reason):
            accepted.append((broken.name, broken.is_rehashed, reason))
        seen += 1
        shutil.rmtree(broken.path)

    assert accepted == []
    assert seen == 2 * len(DAMAGES) + 2 * n_files - 1 + len(UNHASHABLE)


@pytest.mark.parametrize("name", UNHASHABLE)
def test_a_false_manifest_is_refused_by_the_store(
    name: str, small_bundle: Bundle, tmp_path: Path
) -> None:
    broken = broken_bundle(small_bundle.path, tmp_path, name, UNHASHABLE[name], is_rehashed=False)

    with pytest.raises(BundleError, match=rf"{MANIFEST}|ranker\.txt"):
        open_store(tmp_path).open(broken.path.name)


def test_a_bit_in_the_highest_place_of_a_vector_is_found_without_the_seal(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    def flip_sign(path: Path) -> None:
        flip_bit(path / "Embedding.vectors.npy", 8 * 2000 - 1)

    broken = broken_bundle(small_bundle.path, tmp_path, "sign", flip_sign, is_rehashed=True)

    assert "Embedding" in refusal_of(broken.path)


def test_a_title_is_guarded_by_the_seal_alone(small_bundle: Bundle, tmp_path: Path) -> None:
    def rename(path: Path) -> None:
        file = path / "ItemTexts.text.npy"
        file.write_bytes(file.read_bytes().replace("Título".encode(), b"Titulo "))

    whole = broken_bundle(small_bundle.path, tmp_path, "flip", rename, is_rehashed=False)
    rehash(whole.path)
    assert "ItemTexts.text.npy" in refusal_of(whole.path)
    reseal(whole.path)
    rehash(whole.path)

    assert refusal_of(whole.path) == ""


def seal_the_report(path: Path) -> None:
    """Leave a bundle as it was when the probes sealed reports, which had no sums."""
    report = json.loads((path / REPORT_FILE).read_text())
    del report["sha256"]
    (path / REPORT_FILE).write_text(json.dumps(report))
    edit_probes(path, lambda probes: probes["seal"].update({REPORT_FILE: ""}))


def test_a_report_that_the_probes_seal_needs_no_sum(small_bundle: Bundle, tmp_path: Path) -> None:
    old = broken_bundle(small_bundle.path, tmp_path, "old", seal_the_report, is_rehashed=True)
    assert refusal_of(old.path) == ""

    (old.path / REPORT_FILE).write_text("{}")
    rehash(old.path)

    assert "report.json is not what probes.json was made beside" in refusal_of(old.path)


def test_a_bundle_that_does_not_pass_is_not_promoted(small_bundle: Bundle, tmp_path: Path) -> None:
    store = open_store(tmp_path / "bundles")
    report = Report(cuts="none", users=0, methods=(), notes=())
    model = (small_bundle.path / "ranker.txt").read_text()
    sound = publish(store, small_tables(), model, report, now=NOW)
    great = resized(replace_entry("leaf_value", 0, "1e9")(model))

    with pytest.raises(BundleError, match=r"was published but not promoted: ranker\.txt: leaves"):
        publish(store, small_tables(), great, report, now=NOW)

    assert store.current() == sound.version
