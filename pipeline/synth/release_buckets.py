"""Weighted draws from buckets of items, among those released by a moment.

How this works: items lie sorted by (bucket, release time) beside the running sum of their
weights. What a bucket has released by a moment, or within a window before it, is then one
contiguous range of that sum, found by binary search; a uniform number scaled to the range, and a
second binary search, give an item. A draw costs O(log items), takes no memory, and needs neither
a loop over buckets nor a rejection of items that are not out yet.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SPAN_S = 2**34  # more than any release time, so that bucket and time share one int64 key


@dataclass(frozen=True, slots=True)
class ReleaseBuckets:
    """Items by bucket and release time."""

    items: NDArray[np.int64]
    """Items sorted by (bucket, release time)."""
    keys: NDArray[np.int64]
    """bucket * _SPAN_S + release time, increasing."""
    sums: NDArray[np.float64]
    """Running sum of weights, [items + 1], from 0."""

    @classmethod
    def of(
        cls,
        bucket: NDArray[np.int64],
        *,
        released_s: NDArray[np.int64],
        weight: NDArray[np.float64],
    ) -> "ReleaseBuckets":
        """Sort items 0..n-1 into the bucket of each."""
        keys = bucket * _SPAN_S + released_s
        order = np.argsort(keys, kind="stable")
        return cls(order, keys[order], np.concatenate(([0.0], np.cumsum(weight[order]))))

    def draw(
        self,
        rng: np.random.Generator,
        bucket: NDArray[np.int64],
        *,
        at_s: NDArray[np.int64],
        window_s: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Draw one item a bucket, in proportion to weight; -1 where none is out at `at_s`.

        Items released in the `window_s` before `at_s` are preferred; where there are none, or
        the window is 0, all that are out take part.
        """
        key = bucket * _SPAN_S
        high = np.searchsorted(self.keys, key + at_s, side="right")
        low = np.searchsorted(self.keys, key)
        fresh = np.searchsorted(self.keys, key + np.maximum(at_s - window_s, 0), side="right")
        low = np.where((window_s > 0) & (fresh < high) & (fresh > low), fresh, low)
        target = self.sums[low] + rng.random(len(bucket)) * (self.sums[high] - self.sums[low])
        place = np.searchsorted(self.sums, target, side="right") - 1
        place = np.clip(place, low, np.maximum(high - 1, low))
        return np.where(high > low, self.items[np.minimum(place, len(self.items) - 1)], -1)
