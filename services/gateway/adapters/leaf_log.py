"""What the log says of a leaf: each change once, however many requests see it."""

import logging

_log = logging.getLogger(__name__)

ANSWERS = "answers"


class LeafLog:
    """Remembers how one leaf last answered."""

    def __init__(self, leaf: str) -> None:
        self._leaf = leaf
        self._last = ANSWERS

    def note(self, state: str) -> None:
        """Log `state` when it is not the last one; coverage counts the requests."""
        if state == self._last:
            return
        level = logging.INFO if state == ANSWERS else logging.WARNING
        _log.log(level, "%s: %s (was: %s)", self._leaf, state, self._last)
        self._last = state
