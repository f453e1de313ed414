"""Parts of messages that several clients send."""

from recmesh.common.v1 import common_pb2

from meshkit.columns import append_floats, append_uints
from services.gateway.domain.values import History


class HistoryWriter:
    """Writes histories as columns; for one event loop.

    A request sends the same history to every source and to the ranker, so the one that was
    written last is kept.
    """

    def __init__(self) -> None:
        self._last: tuple[History, common_pb2.History] | None = None

    def write(self, history: History) -> common_pb2.History:
        """Return the message of `history`, which is to be copied and not changed."""
        if self._last is None or self._last[0] is not history:
            self._last = history, write_history(history)
        return self._last[1]


def write_history(history: History) -> common_pb2.History:
    """Return the history as columns."""
    message = common_pb2.History(seen_filter=history.seen_filter)
    append_uints(message, "rows", history.rows)
    append_floats(message, "ages_s", history.ages_s)
    return message
