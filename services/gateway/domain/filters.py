"""Filters: what must not be answered, whichever source proposed it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.gateway.domain.trail import NO_TRAIL, Trail
from services.gateway.domain.values import Merged, Removed, Rows, Subject
from signals.bundle import ItemKeys, ItemTraits, MarketRights
from signals.membership import first_absent

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
    rows = merged.rows
    passing = np.ones(len(rows), dtype=np.bool_)
    removed = []
    for name, allows in FILTERS:
        passing, before = passing & allows(rows, subject, rules), passing
        removed.append(Removed(name, rows[before ^ passing]))
        trail.mark(f"filter.{name}", removed=len(removed[-1].rows))
    return merged.take(passing), tuple(removed)


def allowed_rows(rows: Rows, subject: Subject, rules: ItemRules) -> Mask:
    """Return for each of `rows` whether every filter lets it pass, bool [len(rows)]."""
    allowed = np.ones(len(rows), dtype=np.bool_)
    for _, allows in FILTERS:
        allowed &= allows(rows, subject, rules)
    return allowed


def _is_unseen(rows: Rows, subject: Subject, rules: ItemRules) -> Mask:
    return _is_absent(rows, subject.history.rows, subject.history.seen_filter, rules)


def _is_not_excluded(rows: Rows, subject: Subject, rules: ItemRules) -> Mask:
    return _is_absent(rows, subject.exclude_rows, NO_FILTER, rules)


def _has_rights(rows: Rows, subject: Subject, rules: ItemRules) -> Mask:
    if not subject.market:
        return np.ones(len(rows), dtype=np.bool_)
    return rules.rights.may_show(rules.traits.rights[rows], subject.market)


def _is_absent(rows: Rows, gone: Rows, gone_filter: bytes, rules: ItemRules) -> Mask:
    """Return for each of `rows` that it is neither one of `gone` nor in the filter."""
    if not len(gone) and not gone_filter:
        return np.ones(len(rows), dtype=np.bool_)
    absent = np.zeros(len(rows), dtype=np.bool_)
    absent[first_absent(rows, gone, gone_filter, rules.keys.keys, len(rows))] = True
    return absent


NO_FILTER = b""

FILTERS: tuple[tuple[str, Callable[[Rows, Subject, ItemRules], Mask]], ...] = (
    ("seen", _is_unseen),
    ("excluded", _is_not_excluded),
    ("rights", _has_rights),
)
