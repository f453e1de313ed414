"""Annoy's recall against its latency: `python -m benchmarks.recall`.

How this works. Exact search over all vectors gives the true nearest; an index of so many trees,
searched so deeply, gives others; recall@k is the part of the true ones that it found. With
re-scoring the index is asked for twice as many, whose cosines are computed exactly, and the best
are kept, as `ann` does. Two sets of vectors: GloVe words (queries and truth come with the file) and
the trained vectors of a bundle, asked for by the vectors of its users. Latency is that of one query
on one thread, the median.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from time import perf_counter_ns
from typing import Final

import numpy as np
from annoy import AnnoyIndex as Annoy
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine_facts
from meshkit.bundles import Bundle, open_store
from services.candidates.adapters.ann_source import RECENCY_SCALE
from services.candidates.adapters.annoy_index import METRIC, SEED
from services.candidates.domain.nearest import UserVector
from signals.bundle import Embedding, Histories, IndexedItems
from signals.bundle_facts import BundleFacts
from signals.limits import MAX_HISTORY_PLAYS
from signals.top import best_first

GLOVE_VARIABLE: Final = "RECMESH_GLOVE"
GLOVE_DEFAULT = Path("../shared/data/glove-50/glove50_100k_f16.npz")
TREES = (20, 40, 64)
SEARCH = (1_000, 2_000, 4_000, 8_000, 16_000)
"""Nodes inspected, all trees together."""
KS = (10, 100)
OVERSAMPLING = 2
"""What `nearest_candidates` asks for first, times the limit."""
QUERIES = 200
BLOCK_QUERIES = 64
NS_PER_MS = 1e6

Vectors = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Subject:
    """Vectors, what is asked of them, and the true answers."""

    name: str
    vectors: Vectors
    """float32 [n, d], of length 1."""
    queries: Vectors
    """float32 [q, d], of length 1."""
    truth: Rows
    """[q, 100], nearest first."""

    @classmethod
    def of(cls, name: str, vectors: Vectors, queries: Vectors) -> "Subject":
        """Return the subject of vectors and queries of any length but 0."""
        near, asked = unit(vectors), unit(queries)
        return cls(name, near, asked, exact_nearest(near, asked, min(max(KS), len(near))))


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the curve."""

    trees: int
    search_k: int
    is_rescored: bool
    recall_at_10: float
    recall_at_100: float
    p50_ms: float


def unit(vectors: Vectors) -> Vectors:
    """Return the vectors scaled to length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def exact_nearest(vectors: Vectors, queries: Vectors, count: int) -> Rows:
    """Return the places of the `count` greatest inner products of each query, [q, count]."""
    everything = np.arange(len(vectors), dtype=np.uint32)
    blocks = range(0, len(queries), BLOCK_QUERIES)
    scored = (queries[start : start + BLOCK_QUERIES] @ vectors.T for start in blocks)
    return np.stack([best_first(everything, scores, count) for block in scored for scores in block])


def recall(found: Sequence[NDArray[np.integer]], truth: Sequence[NDArray[np.integer]]) -> float:
    """Return the part of the truths, lists without repeats, that is in their answers."""
    hits = sum(len(np.intersect1d(f, t)) for f, t in zip(found, truth, strict=True))
    return hits / sum(len(each) for each in truth)


def build_index(vectors: Vectors, trees: int, path: Path) -> Annoy:
    """Return an index as the publisher builds it, mapped from `path`."""
    built = Annoy(vectors.shape[1], METRIC)
    built.set_seed(SEED)
    for number, vector in enumerate(vectors):
        built.add_item(number, vector)
    built.build(trees, n_jobs=1)
    built.save(str(path))
    return map_index(path, vectors.shape[1])


def map_index(path: Path, dimension: int) -> Annoy:
    """Return the index in `path`, mapped."""
    mapped = Annoy(dimension, METRIC)
    mapped.load(str(path))
    return mapped


def measure(subject: Subject, index: Annoy, search_k: int, *, is_rescored: bool) -> Point:
    """Ask every query once for each k and return recall and latency; latency is that of 100."""
    recalls, took_ms = {}, []
    for k in KS:
        answers = []
        for query in subject.queries:
            began_ns = perf_counter_ns()
            answers.append(_ask(subject.vectors, index, query, k, search_k, is_rescored))
            took_ms.append((perf_counter_ns() - began_ns) / NS_PER_MS)
        recalls[k] = recall(answers, list(subject.truth[:, :k]))
    return Point(
        index.get_n_trees(),
        search_k,
        is_rescored,
        recalls[10],
        recalls[100],
        statistics.median(took_ms[-len(subject.queries) :]),
    )


def _ask(
    vectors: Vectors, index: Annoy, query: Vectors, k: int, search_k: int, is_rescored: bool
) -> NDArray[np.uint32]:
    count = k * OVERSAMPLING if is_rescored else k
    rows = np.array(index.get_nns_by_vector(query.tolist(), count, search_k), dtype=np.uint32)
    if not is_rescored:
        return rows
    return rows[best_first(rows, vectors[rows] @ query, k)]


def curve(subject: Subject, directory: Path) -> Iterator[Point]:
    """Yield every point of trees and depth, without and with re-scoring."""
    for trees in TREES:
        index = build_index(subject.vectors, trees, directory / f"{subject.name}-{trees}.index")
        for search_k, is_rescored in product(SEARCH, (False, True)):
            yield measure(subject, index, search_k, is_rescored=is_rescored)


def glove_subject(path: Path, queries: int) -> Subject:
    """Return GloVe's words and the words that are asked for, which are not among them."""
    with np.load(path, allow_pickle=False) as held:
        base, asked = held["base"], held["queries"][:queries]
    return Subject.of("GloVe", base.astype(np.float32), asked.astype(np.float32))


def bundle_subject(bundle: Bundle, queries: int) -> Subject:
    """Return the vectors of a bundle's indexed items, and those of its users as `ann` has them."""
    embedding = Embedding.open(bundle.path)
    rows = IndexedItems.open(bundle.path).rows
    facts = BundleFacts.from_json(bundle.manifest.facts)
    users = user_vectors(embedding, Histories.open(bundle.path), facts, queries)
    return Subject.of(f"{len(rows):,} items", embedding.vectors[rows], users)


def user_vectors(
    embedding: Embedding, histories: Histories, facts: BundleFacts, queries: int
) -> Vectors:
    """Return the vectors of users spread over the bundle's, float32 [queries, d] at most."""
    folded = UserVector(
        confidence=facts.als_confidence,
        regularization=facts.als_regularization,
        recency_scale=RECENCY_SCALE,
    )
    n_users = len(histories.user_keys)
    places = np.linspace(0, n_users - 1, min(queries, n_users)).astype(np.int64)
    keys = histories.user_keys[places].tolist()
    newest = [histories.of(key)[0][::-1][:MAX_HISTORY_PLAYS] for key in keys]
    return np.stack([folded.of(rows, embedding) for rows in newest])


def table(name: str, points: Sequence[Point]) -> Table:
    """Return the points as a table."""
    made = Table(title=f"Annoy on {name}", title_justify="left")
    for column in ("trees", "search_k", "re-scored", "recall@10", "recall@100", "p50 ms"):
        made.add_column(column, justify="right")
    for point in points:
        made.add_row(
            str(point.trees),
            f"{point.search_k:,}",
            "yes" if point.is_rescored else "no",
            f"{point.recall_at_10:.3f}",
            f"{point.recall_at_100:.3f}",
            f"{point.p50_ms:.3f}",
        )
    return made


def subjects(arguments: argparse.Namespace) -> Iterator[Subject]:
    """Yield what there is to measure; say what is missing."""
    glove: Path = arguments.glove
    if glove.exists():
        yield glove_subject(glove, arguments.queries)
    else:
        print(f"{glove} is absent: GloVe is left out; --glove names it", file=sys.stderr)
    if arguments.bundles:
        yield bundle_subject(open_store(arguments.bundles).open(), arguments.queries)
    else:
        print("--bundles is not given: trained vectors are left out", file=sys.stderr)


def main() -> None:
    """Measure, print the tables, and write JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--glove", type=Path, default=Path(os.environ.get(GLOVE_VARIABLE) or GLOVE_DEFAULT)
    )
    parser.add_argument("--bundles", help="a store whose current bundle's vectors are measured")
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, object] = {"machine": machine_facts()}
    with tempfile.TemporaryDirectory(prefix="recmesh-") as scratch:
        for subject in subjects(arguments):
            points = list(curve(subject, Path(scratch)))
            Console().print(table(subject.name, points))
            found[subject.name] = [asdict(point) for point in points]
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
