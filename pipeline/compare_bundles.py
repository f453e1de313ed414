"""What a promotion would change: features, and the slates of a sample of users."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshkit.bundles import Bundle, BundleError, readable
from pipeline.evaluate import RANKED, lists_of
from pipeline.offline_mesh import OfflineMesh
from pipeline.slate_overlap import rank_biased_overlap
from services.ranker.adapters.scoring_model import open_model
from services.ranker.domain.features import feature_names
from services.ranker.domain.values import ScoringModel
from signals.bundle_facts import BundleFacts

SAMPLED_USERS = 200
SLATE_LENGTH = 20
QUANTILES = (0.0, 0.05, 0.25, 0.5)
"""The worst slate first."""


@dataclass(frozen=True, slots=True)
class FeatureChanges:
    """How the ordered features of two bundles differ."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    is_reordered: bool
    """The features that both have stand in another order."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Rank-biased overlap of the slates of users that both bundles know."""

    users: int
    mean: float
    quantiles: tuple[float, ...]
    """At `QUANTILES`."""


@dataclass(frozen=True, slots=True)
class _Ranker:
    """A bundle that answers users."""

    mesh: OfflineMesh
    model: ScoringModel

    @classmethod
    def open(cls, bundle: Bundle) -> "_Ranker":
        with readable(bundle):
            facts = BundleFacts.from_json(bundle.manifest.facts)
            model = open_model(bundle.path, feature_names())
            return cls(OfflineMesh.open(bundle.path, facts), model)

    def slate(self, user_key: int) -> list[int]:
        """Return the keys of the items of a user's slate: rows mean nothing in another bundle."""
        rows = lists_of(self.mesh, self.model, user_key)[RANKED][:SLATE_LENGTH]
        keys: list[int] = self.mesh.tables.keys.keys[rows].tolist()
        return keys

    def user_keys(self) -> NDArray[np.uint64]:
        return self.mesh.tables.histories.user_keys


def feature_changes(one: Bundle, other: Bundle) -> FeatureChanges:
    """Return how the features of `other` differ from those of `one`. Raises BundleError."""
    with readable(one):
        before = BundleFacts.from_json(one.manifest.facts).features
    with readable(other):
        after = BundleFacts.from_json(other.manifest.facts).features
    return FeatureChanges(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        is_reordered=[name for name in before if name in after]
        != [name for name in after if name in before],
    )


def slate_overlap(one: Bundle, other: Bundle, *, seed: int, sample: int = SAMPLED_USERS) -> Overlap:
    """Return how alike the slates are of a seeded sample of the users that both bundles know.

    The bundles' files are opened in this process: verify them first. Raises BundleError for a
    bundle that this program cannot rank with, and when no user is in both.
    """
    before, after = _Ranker.open(one), _Ranker.open(other)
    users = np.intersect1d(before.user_keys(), after.user_keys())
    if not len(users):
        raise BundleError(f"{one.version} and {other.version} have no user in common")
    drawn = np.random.default_rng(seed).permutation(len(users))[:sample]
    overlaps = [
        rank_biased_overlap(before.slate(key), after.slate(key)) for key in users[drawn].tolist()
    ]
    return Overlap(
        users=len(overlaps),
        mean=float(np.mean(overlaps)),
        quantiles=tuple(np.quantile(overlaps, QUANTILES).tolist()),
    )
