"""Settings of the gateway: read whole, or refused by the variable's name."""

from collections.abc import Mapping

import pytest

from meshkit.config import ConfigError, read_environment
from services.gateway.config import GatewayConfig, SourceAddresses

GIVEN = {
    "RECMESH_SOURCES": "ann=127.0.0.1:1",
    "RECMESH_RANKER": "127.0.0.1:9",
    "RECMESH_BUNDLES": "/bundles",
}


def read(changes: Mapping[str, str] | None = None) -> GatewayConfig:
    return read_environment(GatewayConfig, {**GIVEN, **(changes or {})})


def test_sources_keep_their_order_and_all_their_addresses() -> None:
    config = read({"RECMESH_SOURCES": "trending=10.0.0.1:1, ann=10.0.0.2:2;10.0.0.3:3"})

    assert config.sources == (
        SourceAddresses("trending", ("10.0.0.1:1",)),
        SourceAddresses("ann", ("10.0.0.2:2", "10.0.0.3:3")),
    )


def test_the_ranker_may_have_several_addresses() -> None:
    assert read({"RECMESH_RANKER": "10.0.0.1:1; 10.0.0.2:2"}).ranker == ("10.0.0.1:1", "10.0.0.2:2")


def test_without_more_words_the_current_bundle_is_served_by_the_wall_clock() -> None:
    config = read()

    assert config.stock.bundles == "/bundles"
    assert config.stock.bundle_version is None
    assert config.clock == "wall"
    assert config.control_file is None


def test_histories_are_the_bundles_unless_dynamodb_is_named() -> None:
    given = {"RECMESH_HISTORY": "dynamodb", "RECMESH_DYNAMODB_ENDPOINT": "http://127.0.0.1:1"}

    assert read().history.history == "bundle"
    assert read(given).history.history == "dynamodb"
    assert read(given).history.dynamodb_endpoint == "http://127.0.0.1:1"
    assert read(given).history.table_prefix == "recmesh"


@pytest.mark.parametrize("variable", sorted(GIVEN))
def test_a_variable_that_is_required_is_named_when_it_is_missing(variable: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable} is not set"):
        read({variable: ""})


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("RECMESH_SOURCES", "127.0.0.1:1", "is not name=host:port"),
        ("RECMESH_SOURCES", "=127.0.0.1:1", "is not name=host:port"),
        ("RECMESH_SOURCES", "ann=127.0.0.1:1,", "is not name=host:port"),
        ("RECMESH_SOURCES", "ann=", "is not host:port"),
        ("RECMESH_SOURCES", "ann=127.0.0.1", "is not host:port"),
        ("RECMESH_SOURCES", "ann=127.0.0.1:70000", "has no port from 0 to 65535"),
        ("RECMESH_SOURCES", "ann=127.0.0.1:1;", "is not host:port"),
        ("RECMESH_SOURCES", "ann=127.0.0.1:1,ann=127.0.0.1:2", "names a source twice"),
        ("RECMESH_RANKER", "nowhere", "is not host:port"),
        ("RECMESH_HISTORY", "postgres", "allowed: bundle, dynamodb"),
        ("RECMESH_HISTORY_TIMEOUT_S", "0", "less than 0.001"),
        ("RECMESH_HISTORY_THREADS", "0", "less than 1"),
        ("RECMESH_HISTORY_CACHE_USERS", "x", "not a whole number"),
        ("RECMESH_RANKER", "127.0.0.1:1,127.0.0.1:2", "needs its IPv6 host in brackets"),
        ("RECMESH_CLOCK", "sundial", "not one of the choices"),
        ("RECMESH_CANDIDATES_PER_SOURCE", "0", "less than 1"),
        ("RECMESH_CANDIDATES_PER_SOURCE", "2001", "more than 2000"),
        ("RECMESH_RANKED", "many", "not a whole number"),
        ("RECMESH_RANKED", "2001", "more than 2000"),
    ],
)
def test_a_bad_value_is_refused_by_variable_value_and_fault(
    variable: str, value: str, fault: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read({variable: value})

    message = str(refused.value)
    assert message.startswith(f"{variable}={value!r}: ")
    assert fault in message
    assert "; allowed: " in message


@pytest.mark.parametrize(
    "sources", ["ann=127.0.0.1:0", "ann=leaf-a:1;leaf-b:1", "ann=127.0.0.1:1;[::1]:1"]
)
def test_addresses_that_no_channel_can_use_are_refused_at_start(sources: str) -> None:
    with pytest.raises(ConfigError, match="RECMESH_SOURCES"):
        read({"RECMESH_SOURCES": sources})


def test_more_sources_than_the_ranker_takes_are_refused_at_start() -> None:
    sources = ",".join(f"s{n}=127.0.0.1:{n + 1}" for n in range(17))

    with pytest.raises(ConfigError, match="at most 16"):
        read({"RECMESH_SOURCES": sources})
