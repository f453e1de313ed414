"""A request's history is written once, however many leaves it is sent to."""

import numpy as np

from services.gateway.adapters.messages import HistoryWriter
from services.gateway.domain.values import History


def history(*rows: int) -> History:
    return History(
        np.array(rows, dtype=np.uint32), np.arange(len(rows), dtype=np.float32), b"filter"
    )


def test_what_is_written_is_the_history() -> None:
    message = HistoryWriter().write(history(3, 70_000, 3))

    assert list(message.rows) == [3, 70_000, 3]
    assert list(message.ages_s) == [0.0, 1.0, 2.0]
    assert message.seen_filter == b"filter"


def test_requests_that_take_turns_each_send_their_own_history() -> None:
    writer, first, second = HistoryWriter(), history(1), history(2)

    written = [writer.write(each) for each in (first, first, second, first)]

    assert [list(message.rows) for message in written] == [[1], [1], [2], [1]]
    assert written[0] is written[1]
