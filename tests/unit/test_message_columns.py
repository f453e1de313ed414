"""Columns: filling a message's field from an array is what appending each number would be."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from recmesh.candidates.v1 import candidates_pb2
from recmesh.common.v1 import common_pb2
from recmesh.ranker.v1 import ranker_pb2

from meshkit.columns import append_floats, append_uints

LARGEST = 2**32 - 1
EDGES = sorted({edge for bits in range(0, 33, 7) for edge in (2**bits - 1, 2**bits)} | {LARGEST})
uints = st.lists(st.one_of(st.integers(0, LARGEST), st.sampled_from(EDGES)), max_size=300)
floats = st.lists(st.floats(width=32), max_size=300)


def slowly(rows: Sequence[int], ages_s: Sequence[float]) -> bytes:
    return common_pb2.History(rows=rows, ages_s=ages_s).SerializeToString()


@given(rows=uints, ages_s=floats)
def test_a_filled_message_is_sent_as_one_filled_number_by_number(
    rows: list[int], ages_s: list[float]
) -> None:
    message = common_pb2.History()

    append_uints(message, "rows", np.array(rows, dtype=np.uint32))
    append_floats(message, "ages_s", np.array(ages_s, dtype=np.float32))

    assert message.SerializeToString() == slowly(rows, ages_s)
    assert list(message.rows) == rows


@pytest.mark.parametrize("largest", EDGES)
def test_every_length_of_number_is_written(largest: int) -> None:
    message = common_pb2.History()

    append_uints(message, "rows", np.array([0, largest, 1], dtype=np.uint32))

    assert message.SerializeToString() == slowly([0, largest, 1], [])


@given(first=uints, second=uints)
def test_columns_are_appended_and_leave_the_rest_alone(first: list[int], second: list[int]) -> None:
    message = common_pb2.History(rows=first, seen_filter=b"filter")

    append_uints(message, "rows", np.array(second, dtype=np.uint32))

    assert list(message.rows) == first + second
    assert message.seen_filter == b"filter"


@pytest.mark.parametrize("value", [0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3.4028235e38])
def test_every_float_keeps_its_bits(value: float) -> None:
    message = candidates_pb2.GenerateResponse()
    values = np.array([value], dtype=np.float32)

    append_floats(message, "scores", values)

    assert np.array(message.scores, dtype=np.float32).tobytes() == values.tobytes()


def test_arrays_that_are_views_are_written_in_their_own_order() -> None:
    message = ranker_pb2.SourceColumn()
    backwards = np.arange(1000, dtype=np.uint32)[::-3]

    append_uints(message, "ranks", backwards)
    append_floats(message, "scores", backwards.astype(np.float32)[::2])

    assert list(message.ranks) == backwards.tolist()
    assert list(message.scores) == backwards[::2].tolist()


def test_a_message_inside_another_is_filled_in_place() -> None:
    request = candidates_pb2.GenerateRequest()

    append_uints(request.history, "rows", np.array([7], dtype=np.uint32))

    assert list(request.history.rows) == [7]


@pytest.mark.parametrize(
    ("append", "values"),
    [
        (append_uints, np.array([-1])),
        (append_uints, np.array([2**32], dtype=np.uint64)),
        (append_uints, np.array([0.5])),
        (append_floats, np.array([0.1])),
        (append_floats, np.array([1], dtype=np.uint32)),
    ],
)
def test_values_that_may_not_fit_are_refused(append: Callable[..., None], values: Any) -> None:
    message = common_pb2.History()

    with pytest.raises(TypeError, match="according to the rule 'safe'"):
        append(message, "rows" if append is append_uints else "ages_s", values)

    assert message == common_pb2.History()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (common_pb2.History(), "ages_s"),
        (common_pb2.History(), "seen_filter"),
        (common_pb2.History(), "nothing"),
        (Duration(), "nanos"),
        (candidates_pb2.GenerateRequest(), "limit"),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(message: Any, field: str) -> None:
    with pytest.raises(TypeError, match=f"no packed column {field}"):
        append_uints(message, field, np.array([1], dtype=np.uint32))
