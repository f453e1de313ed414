"""Filters: what must not be answered, whichever source proposed it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.gateway.domain.trail import NO_TRAIL, Trail
from services.gateway.domain.values import Merged, Removed, Rows, Subject
from signals.bloom import contains
from signals.bundle import ItemKeys, ItemTraits, MarketRights

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ItemRules:
    """What filters and re-ranking know of the bundle's items."""

    keys: ItemKeys
    traits: ItemTraits
    rights: MarketRights


def filter_candidates(
    merged: Merged, subject: Subject, rules: ItemRules, trail: Trail = NO_TRAIL
) -> tuple[Merged, tuple[Removed, ...]]:
    """Return what passes every filter, in its order, and what each filter removed."""
    removed = []
    for name, allows in FILTERS:
        allowed = allows(merged.rows, subject, rules)
        removed.append(Removed(name, merged.rows[~allowed]))
        merged = merged.take(allowed)
        trail.mark(f"filter.{name}", removed=len(removed[-1].rows))
    return merged, tuple(removed)


def allowed_rows(rows: Rows, subject: Subject, rules: ItemRules) -> Mask:
    """Return for each of `rows` whether every filter lets it pass, bool [len(rows)]."""
    allowed = np.ones(len(rows), dtype=np.bool_)
    for _, allows in FILTERS:
        allowed &= allows(rows, subject, rules)
    return allowed


def _is_unseen(rows: Rows, subject: Subject, rules: ItemRules) -> Mask:
    seen = contains(subject.history.seen_filter, rules.keys.keys[rows])
    return ~(seen | np.isin(rows, subject.history.rows))


def _is_not_excluded(rows: Rows, subject: Subject, _rules: ItemRules) -> Mask:
    return ~np.isin(rows, subject.exclude_rows)


def _has_rights(rows: Rows, subject: Subject, rules: ItemRules) -> Mask:
    if not subject.market:
        return np.ones(len(rows), dtype=np.bool_)
    return rules.rights.may_show(rules.traits.rights[rows], subject.market)


FILTERS: tuple[tuple[str, Callable[[Rows, Subject, ItemRules], Mask]], ...] = (
    ("seen", _is_unseen),
    ("excluded", _is_not_excluded),
    ("rights", _has_rights),
)
