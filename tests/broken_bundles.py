"""Every way to break a bundle that we know: what a verifier must refuse.

Each damage is done twice where that makes sense: as it would happen (the manifest names the old
hashes), and with the manifest and the seal of the probes made to fit the broken file, so that only
structure and known answers can tell.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from annoy import AnnoyIndex as Annoy

from meshkit.bundles import MANIFEST
from meshkit.bundles.manifest import content_sha256, entries_of
from pipeline.bundle_report import REPORT_FILE, SUM
from pipeline.probes import FILE as PROBES
from services.candidates.adapters.annoy_index import FILE as ANNOY
from services.candidates.adapters.annoy_index import METRIC, SEED, TREES
from services.ranker.adapters.model_text import FILE as MODEL
from services.ranker.domain.forest import Forest

Damage = Callable[[Path], None]
"""Breaks the bundle in a directory of its own."""


class BrokenBundle(NamedTuple):
    """One broken copy of a bundle; its directory's name is its version."""

    name: str
    path: Path
    is_rehashed: bool


def broken_bundles(bundle: Path, directory: Path, *, step: int = 1) -> Iterator[BrokenBundle]:
    """Yield broken copies of the sound bundle at `bundle`, each a version in `directory`.

    With `step` only one in so many of them.
    """
    for name, damage, is_rehashed in islice(_damages(bundle), 0, None, step):
        yield broken_bundle(bundle, directory, name, damage, is_rehashed=is_rehashed)


def _damages(bundle: Path) -> Iterator[tuple[str, Damage, bool]]:
    """Yield every damage, and whether the manifest is made to fit what it broke."""
    for name, damage in DAMAGES.items():
        yield from ((name, damage, is_rehashed) for is_rehashed in (False, True))
    for file in sorted(path.name for path in bundle.iterdir()):
        for is_rehashed in (False, True) if file != MANIFEST else (False,):
            yield f"flip {file}", _flip(file), is_rehashed
    yield from ((name, damage, False) for name, damage in UNHASHABLE.items())


def broken_bundle(
    bundle: Path, directory: Path, name: str, damage: Damage, *, is_rehashed: bool
) -> BrokenBundle:
    """Return one broken copy. A flipped bit is re-hashed in the manifest alone."""
    version = f"broken-{re.sub('[^A-Za-z0-9]+', '-', name)}-{'re' if is_rehashed else 'un'}hashed"
    path = directory / version
    shutil.copytree(bundle, path)
    _edit_manifest(path, version=version)
    damage(path)
    if is_rehashed:
        if not name.startswith("flip ") and name not in ABOUT_PROBES:
            reseal(path)
        rehash(path)
    return BrokenBundle(name, path, is_rehashed)


def rehash(path: Path) -> None:
    """Make the manifest fit the files beside it."""
    manifest = json.loads((path / MANIFEST).read_text())
    kept = path / MANIFEST
    kept.unlink()
    entries = entries_of(path)
    files = {name: {"size": one.size, "sha256": one.sha256} for name, one in entries.items()}
    content = content_sha256(entries, manifest["facts"])
    kept.write_text(json.dumps({**manifest, "files": files, "content_sha256": content}))


def reseal(path: Path) -> None:
    """Make the seal of the probes fit the files beside them."""

    def seal(probes: dict[str, Any]) -> None:
        probes["seal"] = {
            name: _sha256(path / name) if (path / name).exists() else sha256
            for name, sha256 in probes["seal"].items()
            if name != "facts"
        } | {"facts": probes["seal"]["facts"]}

    edit_probes(path, seal)


def edit_probes(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the probes and make their own sum fit."""
    content = json.loads((path / PROBES).read_text())
    del content["sha256"]
    edit(content)
    content["sha256"] = hashlib.sha256(_canonical(content).encode()).hexdigest()
    (path / PROBES).write_text(_canonical(content))


def edit_array(name: str, edit: Callable[[np.typing.NDArray[Any]], Any]) -> Damage:
    """Return a damage that writes what `edit` returns, or did to the array if it returns None."""

    def damage(path: Path) -> None:
        file = path / f"{name}.npy"
        array = np.load(file)
        edited = edit(array)
        np.save(file, array if edited is None else edited)

    return damage


def drop_forest(path: Path) -> None:
    """Leave a bundle as it was before there were forests: sound, once it is hashed anew."""
    for name in Forest.file_names():
        (path / name).unlink()

    def unseal(probes: dict[str, Any]) -> None:
        for name in Forest.file_names():
            del probes["seal"][name]

    edit_probes(path, unseal)


def publish_without_forest(bundle: Path, directory: Path) -> BrokenBundle:
    """Copy a bundle into `directory`, without its forest and as if it were published so."""
    return broken_bundle(bundle, directory, "no forest", drop_forest, is_rehashed=True)


def edit_model(edit: Callable[[str], str]) -> Damage:
    """Return a damage that edits the model text and makes `tree_sizes` fit."""

    def damage(path: Path) -> None:
        file = path / MODEL
        text = file.read_text()
        edited = edit(text)
        assert edited != text
        file.write_text(resized(edited))

    return damage


def resized(text: str) -> str:
    """Return a model text with `tree_sizes` made to fit its trees."""
    body, end, _ = text.partition("end of trees")
    starts = [match.start() + 1 for match in re.finditer("\nTree=", body)]
    if not end or not starts:
        return text
    sizes = np.diff([*starts, len(body)])
    return re.sub("tree_sizes=.*", "tree_sizes=" + " ".join(map(str, sizes)), text)


def replace_entry(key: str, place: int, value: str) -> Callable[[str], str]:
    """Return an edit that replaces one entry of the first list called `key`."""

    def edit(text: str) -> str:
        match = re.search(f"\n{key}=(.*)", text)
        assert match is not None
        entries = match[1].split(" ")
        entries[place] = value
        return text[: match.start(1)] + " ".join(entries) + text[match.end(1) :]

    return edit


def _adopt_left_child(text: str) -> str:
    """Return a text whose root has the same node on both sides."""
    match = re.search(r"\nleft_child=(\S+)", text)
    assert match is not None
    return replace_entry("right_child", 0, match[1])(text)


def replace_list(key: str, value: str) -> Callable[[str], str]:
    """Return an edit that replaces the whole first list called `key`."""
    return lambda text: re.sub(f"\n{key}=.*", f"\n{key}={value}", text, count=1)


def flip_bit(file: Path, bit: int) -> None:
    """Flip one bit of a file, counted from its beginning."""
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def _flip(name: str) -> Damage:
    """Return a damage that flips the lowest bit of the byte in the middle."""

    def damage(path: Path) -> None:
        if name == MANIFEST:  # its middle may be the digit of a time, which nothing reads
            text = (path / MANIFEST).read_text()
            flip_bit(path / MANIFEST, 8 * (text.index('"sha256": "') + 12))
        else:
            flip_bit(path / name, (path / name).stat().st_size // 2 * 8)

    return damage


def _truncate(name: str, part: float) -> Damage:
    return lambda path: os.truncate(path / name, int((path / name).stat().st_size * part))


def _half_the_items(path: Path) -> None:
    """Replace the index by a sound one of half the items, in size a multiple of a node's."""
    _build_index(path, np.load(path / "Embedding.vectors.npy"), part=0.5)


def _other_dimension(path: Path) -> None:
    _build_index(path, np.load(path / "Embedding.vectors.npy")[:, :-1], part=1)


def _build_index(path: Path, vectors: np.typing.NDArray[np.float32], part: float) -> None:
    rows = np.load(path / "IndexedItems.rows.npy")
    index = Annoy(vectors.shape[1], METRIC)
    index.set_seed(SEED)
    for number, row in enumerate(rows[: int(len(rows) * part)]):
        index.add_item(number, vectors[row].tolist())
    index.build(TREES, n_jobs=1)
    (path / ANNOY).unlink()
    index.save(str(path / ANNOY))


def _random_bytes(name: str) -> Damage:
    """Return a damage that fills a file with noise of the same size."""

    def damage(path: Path) -> None:
        size = (path / name).stat().st_size
        (path / name).write_bytes(np.random.default_rng(11).bytes(size))

    return damage


def _whole_nodes(path: Path) -> None:
    """Cut the index at the end of a node; behind the last item fewer trees would be left."""
    node = 12 + 4 * int(np.load(path / "Embedding.vectors.npy").shape[1])
    os.truncate(path / ANNOY, len(np.load(path / "IndexedItems.rows.npy")) * node)


def _set_nodes(column: int, value: int) -> Damage:
    """Return a damage that writes `value` into a column of every node that is no item."""

    def damage(path: Path) -> None:
        width = 3 + int(np.load(path / "Embedding.vectors.npy").shape[1])
        nodes = np.fromfile(path / ANNOY, dtype="<i4").reshape(-1, width)
        nodes[len(np.load(path / "IndexedItems.rows.npy")) :, column] = value
        nodes.tofile(path / ANNOY)

    return damage


def _vector(value: float) -> Damage:
    """Return a damage that sets the vector of the first indexed item, in the table alone."""

    def damage(path: Path) -> None:
        row = np.load(path / "IndexedItems.rows.npy")[0]

        def edit(vectors: np.typing.NDArray[np.float32]) -> None:
            vectors[row] = value

        edit_array("Embedding.vectors", edit)(path)

    return damage


def _set(place: int | tuple[int, ...], value: float) -> Callable[[np.typing.NDArray[Any]], None]:
    def edit(array: np.typing.NDArray[Any]) -> None:
        array[place] = value

    return edit


def _swap(a: int, b: int) -> Callable[[np.typing.NDArray[Any]], None]:
    def edit(array: np.typing.NDArray[Any]) -> None:
        array[[a, b]] = array[[b, a]]

    return edit


def _edit_manifest(path: Path, **changes: object) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def _edit_files(edit: Callable[[dict[str, Any]], None]) -> Damage:
    def damage(path: Path) -> None:
        files = json.loads((path / MANIFEST).read_text())["files"]
        edit(files)
        _edit_manifest(path, files=files)

    return damage


def _edit_facts(**changes: object) -> Damage:
    def damage(path: Path) -> None:
        facts = json.loads((path / MANIFEST).read_text())["facts"]
        _edit_manifest(path, facts={**facts, **changes})
        sealed = hashlib.sha256(_canonical({**facts, **changes}).encode()).hexdigest()
        edit_probes(path, lambda probes: probes["seal"].update(facts=sealed))

    return damage


def _negate_leaves(path: Path) -> None:
    def negated(match: re.Match[str]) -> str:
        leaves = (one[1:] if one.startswith("-") else f"-{one}" for one in match[1].split(" "))
        return "\nleaf_value=" + " ".join(leaves)

    edit_model(lambda text: re.sub("\nleaf_value=(.*)", negated, text))(path)


def _negate_leaves_of_both(path: Path) -> None:
    _negate_leaves(path)
    drop_forest(path)


def _edit_report(edit: Callable[[dict[str, Any]], None]) -> Damage:
    """Return a damage that edits the report, not its sum."""

    def damage(path: Path) -> None:
        report = json.loads((path / REPORT_FILE).read_text())
        edit(report)
        (path / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n")

    return damage


def _link(path: Path) -> None:
    shutil.move(path / MODEL, path.parent / f"{path.name}.elsewhere")
    (path / MODEL).symlink_to(path.parent / f"{path.name}.elsewhere")


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


DAMAGES: Mapping[str, Damage] = {
    "annoy truncated": _truncate(ANNOY, 0.6),
    "annoy truncated at a node": _whole_nodes,
    "annoy empty": _truncate(ANNOY, 0),
    "annoy random": _random_bytes(ANNOY),
    "annoy of another dimension": _other_dimension,
    "annoy of half the items": _half_the_items,
    "annoy with items out of range": _set_nodes(1, 10**9),
    "annoy with negative items": _set_nodes(1, -5),
    "annoy with wrong sizes": _set_nodes(0, 10**6),
    "model with child of 10^9": edit_model(replace_entry("left_child", 0, "1000000000")),
    "model with child cycle": edit_model(replace_entry("left_child", 0, "0")),
    "model with two parents": edit_model(_adopt_left_child),
    "model of half a file": _truncate(MODEL, 0.5),
    "model cut before its end": _truncate(MODEL, 0.99),
    "model random": _random_bytes(MODEL),
    "model empty": _truncate(MODEL, 0),
    "model with split feature out of range": edit_model(replace_entry("split_feature", 0, "999")),
    "model with NaN leaf": edit_model(replace_entry("leaf_value", 0, "nan")),
    "model with infinite leaf": edit_model(replace_entry("leaf_value", 0, "inf")),
    "model with NaN threshold": edit_model(replace_entry("threshold", 0, "nan")),
    "model with short list": edit_model(replace_list("threshold", "0.5")),
    "model with huge num_leaves": edit_model(replace_list("num_leaves", "2000000000")),
    "model with linear leaves": edit_model(replace_list("is_linear", "1")),
    "model with leaves negated": _negate_leaves_of_both,
    "model of another forest": _negate_leaves,
    "forest with another mask": edit_array("Forest.masks", _set(0, 0)),
    "forest with a word out of range": edit_array("Forest.words", _set(0, 10**6)),
    "forest with a feature out of range": edit_array("Forest.groups", _set((0, 0), 999)),
    "forest with another threshold": edit_array(
        "Forest.thresholds32", lambda t: t + t.dtype.type(1)
    ),
    "forest with a leaf one bit off": edit_array(
        "Forest.leaf_values", lambda v: np.nextafter(v, 9)
    ),
    "forest with bounds beyond": edit_array("Forest.leaf_bounds", _set(-1, 2**30)),
    "forest of another type": edit_array("Forest.masks", lambda masks: masks.astype(np.uint64)),
    "forest in another order": edit_array("Forest.groups", np.asfortranarray),
    "forest truncated": _truncate("Forest.masks.npy", 0.5),
    "forest random": _random_bytes("Forest.chunks.npy"),
    "forest missing an array": lambda path: (path / "Forest.words.npy").unlink(),
    "NaN vector": _vector(np.nan),
    "zero vector": _vector(0),
    "vectors of another training": edit_array("Embedding.vectors", lambda v: v[:, ::-1].copy()),
    "gram of other vectors": edit_array("Embedding.gram", lambda gram: gram * 1.01),
    "indexed row out of range": edit_array("IndexedItems.rows", _set(-1, 10**9)),
    "neighbour out of range": edit_array("Neighbours.rows", _set((0, 0), 10**9)),
    "neighbour scores of NaN": edit_array("Neighbours.scores", _set((0, 0), np.nan)),
    "neighbour scores unsorted": edit_array("Neighbours.scores", lambda s: s[:, ::-1].copy()),
    "successor place out of range": edit_array("Successors.places", _set(0, 10**9)),
    "successor places swapped": edit_array("Successors.places", _swap(0, 1)),
    "successor rows falling": edit_array("Successors.rows", lambda rows: rows[::-1].copy()),
    "successor row out of range": edit_array("Successors.rows", _set(-1, 10**9)),
    "successor unit of NaN": edit_array("Successors.units", _set((0, 0), np.nan)),
    "successor scale of 0": edit_array("Successors.scales", _set(0, 0)),
    "successor that weighs for itself": edit_array("Successors.weights", _set((0, 3, 3), 1)),
    "successors of another training": edit_array("Successors.weights", np.negative),
    "successors of other scales": edit_array("Successors.scales", lambda s: s * s.dtype.type(2)),
    "companion place out of range": edit_array("Companions.places", _set(0, 10**9)),
    "companion row twice": edit_array("Companions.rows", lambda rows: rows // 2 * 2),
    "companion of one item less": edit_array("Companions.weights", lambda w: w[:, :-1, :-1].copy()),
    "companion of one scale more": edit_array("Companions.weights", lambda w: np.vstack([w, w])),
    "companion weights of wider numbers": edit_array(
        "Companions.weights", lambda weights: weights.astype(np.int32)
    ),
    "companion units infinite": edit_array("Companions.units", lambda u: np.full_like(u, np.inf)),
    "companions of another training": edit_array("Companions.weights", np.negative),
    "transition place out of range": edit_array("Transitions.places", _set(0, 10**9)),
    "transition unit below 0": edit_array("Transitions.units", _set((0, 0), -1)),
    "transition that weighs for itself": edit_array("Transitions.weights", _set((0, 3, 3), 1)),
    "transitions of one kind less": edit_array("Transitions.weights", lambda w: w[:2].copy()),
    "transitions below 0": edit_array("Transitions.weights", np.negative),
    "keys unsorted": edit_array("ItemKeys.keys", _swap(0, 1)),
    "keys of other ids": edit_array("ItemKeys.keys", lambda keys: keys + np.uint64(1)),
    "keys of another type": edit_array("ItemKeys.keys", lambda keys: keys.astype(np.int64)),
    "keys too few": edit_array("ItemKeys.keys", lambda keys: keys[:-1]),
    "keys random": _random_bytes("ItemKeys.keys.npy"),
    "text offsets falling": edit_array("ItemTexts.offsets", _swap(5, 20)),
    "text offsets beyond": edit_array("ItemTexts.offsets", _set(-1, 2**60)),
    "text of no UTF-8": edit_array("ItemTexts.text", _set(3, 0xFF)),
    "genre out of range": edit_array("ItemTraits.genres", _set((0, 0), 60_000)),
    "rights out of range": edit_array("ItemTraits.rights", _set(0, 60_000)),
    "popularity doubled": edit_array("Popularity.rows", lambda rows: rows * 0 + rows[0]),
    "popularity out of range": edit_array("Popularity.rows", _set(0, 10**9)),
    "popularity reversed": edit_array("Popularity.rows", lambda rows: rows[::-1].copy()),
    "history row out of range": edit_array("Histories.rows", _set(0, 10**9)),
    "history offsets falling": edit_array("Histories.offsets", _swap(1, 5)),
    "history offsets beyond": edit_array("Histories.offsets", _set(-1, 2**60)),
    "users unsorted": edit_array("Histories.user_keys", _swap(0, 1)),
    "shares of NaN": edit_array("ItemStats.share", _set(0, np.nan)),
    "trend row out of range": edit_array("TrendCounts.rows", _set(0, 10**9)),
    "trend genre out of range": edit_array("TrendCounts.genres", _set(0, 60_000)),
    "trend counts negative": edit_array("TrendCounts.counts", _set(0, -1)),
    "facts of another dimension": _edit_facts(dimension=32),
    "facts of more items": _edit_facts(items=10**6),
    "facts without items": _edit_facts(items=0),
    "facts of an unknown source": _edit_facts(sources=["ann", "radio"]),
    "facts without sources": _edit_facts(sources=[]),
    "facts of a text": _edit_facts(als_confidence="ten"),
    "facts of another confidence": _edit_facts(als_confidence=1000.0),
    "probes missing": lambda path: (path / PROBES).unlink(),
    "probes emptied": lambda path: edit_probes(path, lambda content: content["probes"].clear()),
    "probes of other answers": lambda path: edit_probes(
        path, lambda content: content["probes"][0]["answers"].update(ann=[])
    ),
    "probes truncated": _truncate(PROBES, 0.5),
    "report edited": _edit_report(lambda report: report.update(users=10**6)),
    "report without its sum": _edit_report(lambda report: report.pop(SUM)),
    "report truncated": _truncate(REPORT_FILE, 0.5),
    "array missing": lambda path: (path / "Popularity.rows.npy").unlink(),
    "array emptied": _truncate("Popularity.rows.npy", 0),
}
"""By name; each is refused however well the manifest fits."""

ABOUT_PROBES = frozenset(name for name in DAMAGES if name.startswith("probes "))

UNHASHABLE: Mapping[str, Damage] = {
    "manifest with a missing file": lambda path: (path / MODEL).unlink(),
    "manifest with a wrong hash": _edit_files(lambda files: files[MODEL].update(sha256="0" * 64)),
    "manifest with a wrong size": _edit_files(lambda files: files[MODEL].update(size=1)),
    "manifest with dots in a name": _edit_files(
        lambda files: files.update({f"../{MODEL}": files.pop(MODEL)})
    ),
    "manifest without a file": _edit_files(lambda files: files.pop(MODEL)),
    "manifest truncated": _truncate(MANIFEST, 0.5),
    "manifest missing": lambda path: (path / MANIFEST).unlink(),
    "symbolic link": _link,
}
"""What no hash can cover."""
