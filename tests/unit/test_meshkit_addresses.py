"""Addresses as text."""

import pytest

from meshkit.addresses import parse_address, split_address, with_port


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("[::1]:50051", "::1", 50051),
        ("ranker.internal:65535", "ranker.internal", 65535),
    ],
)
def test_host_and_port_are_told_apart(address: str, host: str, port: int) -> None:
    assert split_address(address) == (host, port)
    assert parse_address(address) == address


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("127.0.0.1", "is not host:port"),
        (":80", "is not host:port"),
        ("", "is not host:port"),
        ("host:", "has no port"),
        ("host:http", "has no port"),
        ("host:65536", "has no port"),
        ("host:-1", "has no port"),
        ("host:٣", "has no port"),
        ("::1:80", "needs its IPv6 host in brackets"),
    ],
)
def test_what_is_no_address_is_refused_with_its_fault(address: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_address(address)


def test_the_picked_port_replaces_the_asked_one() -> None:
    assert with_port("[::1]:0", 4711) == "[::1]:4711"
