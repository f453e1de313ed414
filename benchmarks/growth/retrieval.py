"""How deep an index must be searched to find what exact search finds, and how long that takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
from annoy import AnnoyIndex as Annoy

from benchmarks.recall import Point, Subject, bundle_subject, map_index, measure
from meshkit.bundles import Bundle
from services.candidates.adapters.annoy_index import FILE, write_annoy_index

WANTED_RECALL = 0.95
"""At 100, against exact search."""
DEPTHS = tuple(int(1_000 * 2 ** (step / 4)) for step in range(25))
"""Nodes inspected, 19 % apart: 1,000 to 64,000."""
QUERIES = 400


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The least depth that finds enough."""

    point: Point
    configured: Point
    """With the depth that `ann` asks for: the price of what is configured."""
    build_s: float
    is_reached: bool


def retrieve(bundle: Bundle, scratch: Path, *, depth: int) -> Retrieval:
    """Build the index of a bundle's vectors as the publisher does, and search it ever deeper."""
    subject = bundle_subject(bundle, QUERIES)
    began_s = monotonic()
    write_annoy_index(scratch, subject.vectors, np.arange(len(subject.vectors), dtype=np.uint32))
    build_s = monotonic() - began_s
    index = map_index(scratch / FILE, subject.vectors.shape[1])
    configured = measure(subject, index, depth, is_rescored=True)
    point = least_depth(subject, index, DEPTHS)
    return Retrieval(point, configured, build_s, point.recall_at_100 >= WANTED_RECALL)


def least_depth(subject: Subject, index: Annoy, depths: Sequence[int]) -> Point:
    """Return the point of the least of `depths`, rising, that finds enough; else of the last."""
    low, high = 0, len(depths) - 1
    while low < high:
        middle = (low + high) // 2
        point = measure(subject, index, depths[middle], is_rescored=True)
        low, high = (low, middle) if point.recall_at_100 >= WANTED_RECALL else (middle + 1, high)
    return measure(subject, index, depths[low], is_rescored=True)
