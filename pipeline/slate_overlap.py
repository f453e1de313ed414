"""Rank-biased overlap: how alike two rankings are, their heads counting most.

W. Webber, A. Moffat and J. Zobel, "A similarity measure for indefinite rankings", ACM Transactions
on Information Systems 28(4), 2010: the extrapolated form, equation 32.
"""

from collections.abc import Sequence

PERSISTENCE = 0.9
"""Chance that a reader goes on to the next place: the first 10 places hold 86 % of the weight."""


def rank_biased_overlap(one: Sequence[int], other: Sequence[int], p: float = PERSISTENCE) -> float:
    """Return the overlap of two rankings (best first, no item twice): 1 equal, 0 disjoint.

    Two empty rankings are equal; an empty one has nothing in common with another.
    """
    short, long = sorted((one, other), key=len)
    if not short:
        return 1.0 if not long else 0.0
    s, length = len(short), len(long)
    common = _common_by_depth(short, long)
    at_s, at_end = common[s - 1], common[-1]
    summed = sum(common[d - 1] / d * p**d for d in range(1, length + 1))
    # Below its end the short ranking is taken to go on agreeing as it did.
    assumed = sum(at_s * (d - s) / (s * d) * p**d for d in range(s + 1, length + 1))
    tail = ((at_end - at_s) / length + at_s / s) * p**length
    return (1 - p) / p * (summed + assumed) + tail


def _common_by_depth(short: Sequence[int], long: Sequence[int]) -> list[int]:
    """Return how many items the first d places share, for every depth of `long`."""
    seen_short, seen_long = set[int](), set[int]()
    common, counts = 0, []
    for depth, item in enumerate(long):
        seen_long.add(item)
        if depth < len(short):
            other = short[depth]
            seen_short.add(other)
            common += (other in seen_long) + (item in seen_short) - (item == other)
        else:
            common += item in seen_short
        counts.append(common)
    return counts
