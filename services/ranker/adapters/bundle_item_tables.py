"""The ranker's tables, mapped from a bundle."""

from pathlib import Path

from services.ranker.domain.values import ItemTables
from signals.bundle import (
    Companions,
    Embedding,
    ItemStats,
    ItemTraits,
    Neighbours,
    Successors,
    Transitions,
)
from signals.bundle_facts import BundleFacts


def open_item_tables(directory: Path, facts: BundleFacts) -> ItemTables:
    """Map what features look up of a verified bundle. Raises OSError or ValueError."""
    return ItemTables(
        facts=facts,
        embedding=Embedding.open(directory),
        neighbours=Neighbours.open(directory),
        successors=Successors.open(directory),
        companions=Companions.open(directory),
        transitions=Transitions.open(directory),
        stats=ItemStats.open(directory),
        traits=ItemTraits.open(directory),
    )
