"""Parts of messages that several clients send."""

from recmesh.common.v1 import common_pb2

from services.gateway.domain.values import History


def write_history(history: History) -> common_pb2.History:
    """Return the history as columns."""
    return common_pb2.History(
        rows=history.rows.tolist(),
        ages_s=history.ages_s.tolist(),
        seen_filter=history.seen_filter,
    )
