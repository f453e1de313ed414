"""Facts of a bundle: what goes into a manifest comes out again."""

import json

import pytest

from signals.bundle_facts import BundleFacts
from tests.small_bundle import small_tables


def test_facts_survive_json() -> None:
    facts = small_tables().facts

    assert BundleFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_facts_of_a_newer_publisher_are_read() -> None:
    facts = small_tables().facts

    assert BundleFacts.from_json({**facts.to_json(), "libraries": {}}) == facts


def test_every_missing_fact_is_named() -> None:
    facts = small_tables().facts.to_json()
    del facts["order"], facts["dimension"]

    with pytest.raises(ValueError, match="lacks the facts order, dimension"):
        BundleFacts.from_json(facts)
