"""Limits of messages: every broken one is said, with its field."""

import numpy as np
import pytest

from signals.bloom import MAX_BYTES
from signals.limits import MAX_HISTORY_PLAYS, history_faults, is_market, row_faults

N_ITEMS = 10
NAN, INFINITY = float("nan"), float("inf")


def faults_of(
    rows: list[int], ages_s: list[float] | None = None, seen_filter: bytes = b""
) -> list[tuple[str, str]]:
    ages_s = [0.0] * len(rows) if ages_s is None else ages_s
    return list(
        history_faults(
            np.array(rows, dtype=np.uint32),
            np.array(ages_s, dtype=np.float32),
            seen_filter,
            N_ITEMS,
        )
    )


@pytest.mark.parametrize("market", ["", "SE", "US", "AA", "ZZ"])
def test_two_capitals_and_nothing_are_markets(market: str) -> None:
    assert is_market(market)


@pytest.mark.parametrize("market", ["se", "S", "SWE", "S1", "SE\n", " SE", "ÅX", "**", "Se"])
def test_anything_else_is_no_market(market: str) -> None:
    assert not is_market(market)


@pytest.mark.parametrize("rows", [[], [0], [9], [9, 0, 9]])
def test_rows_of_the_bundle_are_taken(rows: list[int]) -> None:
    assert list(row_faults("f", np.array(rows, dtype=np.uint32), N_ITEMS, limit=3)) == []


def test_a_row_beyond_the_bundle_is_named_with_the_limit() -> None:
    faults = list(row_faults("f", np.array([3, 10], dtype=np.uint32), N_ITEMS, limit=3))

    assert faults == [("f", "holds row 10; the bundle's rows are below 10")]


def test_too_many_rows_are_counted_with_the_limit() -> None:
    faults = list(row_faults("f", np.zeros(4, dtype=np.uint32), N_ITEMS, limit=3))

    assert faults == [("f", "has 4 entries; at most 3 are allowed")]


def test_no_row_belongs_to_an_empty_bundle() -> None:
    faults = list(row_faults("f", np.zeros(1, dtype=np.uint32), 0, limit=3))

    assert faults == [("f", "holds row 0; the bundle's rows are below 0")]


def test_a_full_history_is_taken() -> None:
    assert faults_of([1] * MAX_HISTORY_PLAYS, seen_filter=bytes(MAX_BYTES)) == []


def test_an_absent_history_is_taken() -> None:
    assert faults_of([]) == []


@pytest.mark.parametrize("age_s", [NAN, INFINITY, -INFINITY, -0.5])
def test_an_age_that_is_none_is_refused(age_s: float) -> None:
    assert faults_of([1, 2], [0.0, age_s]) == [
        ("history.ages_s", "holds a value that is negative or not finite")
    ]


@pytest.mark.parametrize("ages_s", [[], [1.0], [1.0, 2.0, 3.0]])
def test_ages_that_are_not_one_a_row_are_refused(ages_s: list[float]) -> None:
    ((field, fault),) = faults_of([1, 2], ages_s)

    assert field == "history.ages_s"
    assert fault == f"has {len(ages_s)} entries; one a row, 2, are needed"


def test_a_bad_filter_is_refused() -> None:
    ((field, fault),) = faults_of([], seen_filter=bytes(9))

    assert field == "history.seen_filter"
    assert "9 bytes" in fault


def test_every_fault_is_said() -> None:
    fields = [field for field, _ in faults_of([99] * 201, [NAN], bytes(9))]

    assert fields == [
        "history.rows",
        "history.rows",
        "history.ages_s",
        "history.ages_s",
        "history.seen_filter",
    ]
