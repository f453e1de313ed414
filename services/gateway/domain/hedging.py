"""Hedging: when a slow call is worth a second one, and how many of those may be made.

A second call goes out when the first has taken longer than 95 of 100 calls did (Dean and Barroso,
"The Tail at Scale", CACM 2013). Each call that answers earns 1/20 of a further one, so a leaf that
answers nothing earns nothing: in an outage the extra load ends after what was saved up.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

QUANTILE = 0.95
EARNED = 0.05
"""Second calls that one answer pays for."""
MOST_SAVED = 5.0
"""Second calls that can be saved up."""
SCARCE = 3.0
"""Savings below which only calls slower still are worth one: by `SCARCE_FACTOR`. One in twenty is
slower than the quantile and one in twenty is paid for, so without it the slowest found nothing
left: of 16 calls ten times slower 8 were not made again."""
SCARCE_FACTOR = 1.5
REMEMBERED = 512
"""Latencies that the quantile is taken of: about ten seconds of a busy leaf."""
RENEWED_EVERY = 32
"""Answers between two looks at the quantile; the first after as many."""
LEAST_DELAY_S = 0.001
"""A second call of a leaf that answers faster would only cost."""


def _no_latencies() -> NDArray[np.float64]:
    return np.zeros(REMEMBERED)


@dataclass(slots=True)
class Hedging:
    """Of the calls to one leaf; for one event loop."""

    _latencies_s: NDArray[np.float64] = field(default_factory=_no_latencies)
    _answers: int = 0
    _saved: float = 0.0
    _delay_s: float | None = None

    def delay_s(self) -> float | None:
        """Return after how long a second call is worth it; None: not at all now."""
        if self._delay_s is None or self._saved < 1.0:
            return None
        return self._delay_s if self._saved >= SCARCE else self._delay_s * SCARCE_FACTOR

    def spend(self) -> bool:
        """Pay for one second call; False when nothing is left."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True

    def answered(self, latency_s: float) -> None:
        """Note a first call that was answered after `latency_s`, the slow ones too."""
        self._latencies_s[self._answers % REMEMBERED] = latency_s
        self._answers += 1
        self._saved = min(self._saved + EARNED, MOST_SAVED)
        if self._answers % RENEWED_EVERY == 0:
            known = self._latencies_s[: min(self._answers, REMEMBERED)]
            self._delay_s = max(_quantile(known), LEAST_DELAY_S)


def _quantile(known: NDArray[np.float64]) -> float:
    """Return what `np.quantile` does, in a tenth of its time; of two values at least."""
    place = QUANTILE * (len(known) - 1)
    below = int(place)
    low, high = np.partition(known, (below, below + 1))[below : below + 2].tolist()
    return float(low + (high - low) * (place - below))
