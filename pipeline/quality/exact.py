"""The `ann` source with exact search, to see what the approximation costs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.offline_mesh import NO_ROWS, OfflineMesh
from services.candidates.adapters.ann_source import RECENCY_SCALE
from services.candidates.domain.nearest import UserVector, nearest_candidates
from services.candidates.domain.values import Query
from services.gateway.domain.values import History
from signals.top import best_first

ANN = "ann"
"""The source that searches approximately."""
COSINE, INNER_PRODUCT = "exact, by cosine", "exact, by inner product"


@dataclass(frozen=True, slots=True)
class ExactIndex:
    """Answers `NearestIndex` by looking at every vector."""

    rows: NDArray[np.uint32]
    vectors: NDArray[np.float32]
    """float32 [rows, d]; of length 1 for the greatest cosine, as they are for inner product."""

    def nearest(self, vector: NDArray[np.float32], count: int) -> NDArray[np.uint32]:
        """Return the `count` rows whose vectors have the greatest product with `vector`."""
        if not vector.any():
            return self.rows[:0]
        return self.rows[best_first(self.rows, self.vectors @ vector, count)]


@dataclass(frozen=True, slots=True)
class ExactSearch:
    """What `ann` would answer if it looked at everything."""

    mesh: OfflineMesh
    indexes: dict[str, ExactIndex]
    """By kind of search."""
    user_vector: UserVector

    @classmethod
    def over(cls, mesh: OfflineMesh) -> "ExactSearch":
        """Return both kinds of search over the mesh's vectors."""
        tables = mesh.tables
        rows = np.asarray(tables.indexed.rows)
        vectors = np.asarray(tables.embedding.vectors)[rows]
        return cls(
            mesh,
            {
                COSINE: ExactIndex(rows, unit(vectors)),
                INNER_PRODUCT: ExactIndex(rows, vectors),
            },
            UserVector(
                confidence=tables.facts.als_confidence,
                regularization=tables.facts.als_regularization,
                recency_scale=np.inf if tables.facts.order == "none" else RECENCY_SCALE,
            ),
        )

    def answers(self, history: History) -> dict[str, NDArray[np.uint32]]:
        """Return the rows of each kind of search for one user, best first."""
        query = Query(
            limit=self.mesh.limits.candidates_per_source,
            history_rows=history.rows,
            seen_filter=history.seen_filter,
            exclude_rows=NO_ROWS,
            market="",
        )
        embedding, items = self.mesh.tables.embedding, self.mesh.tables.keys
        return {
            kind: nearest_candidates(query, index, embedding, items, self.user_vector).rows
            for kind, index in self.indexes.items()
        }


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the vectors (none of them zero) scaled to length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
