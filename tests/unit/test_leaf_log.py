"""What the gateway logs of its leaves."""

import logging

import pytest

from services.gateway.adapters.leaf_log import ANSWERS, LeafLog


def test_a_failing_leaf_is_logged_once_and_so_is_its_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = LeafLog("source ann")

    with caplog.at_level(logging.INFO):
        for state in (ANSWERS, "UNAVAILABLE", "UNAVAILABLE", "DEADLINE_EXCEEDED", ANSWERS, ANSWERS):
            log.note(state)

    assert [record.getMessage() for record in caplog.records] == [
        "source ann: UNAVAILABLE (was: answers)",
        "source ann: DEADLINE_EXCEEDED (was: UNAVAILABLE)",
        "source ann: answers (was: DEADLINE_EXCEEDED)",
    ]
