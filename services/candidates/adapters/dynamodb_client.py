"""Clients of DynamoDB, and what their errors mean to a trending store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from meshkit import dynamodb
from meshkit.dynamodb import (
    BULK_READ_TIMEOUT_S,
    DEFAULT_CONNECT_TIMEOUT_S,
    DEFAULT_READ_TIMEOUT_S,
    TOTAL_ATTEMPTS,
)
from services.candidates.domain.trending import (
    TrendingStoreError,
    TrendingStoreMisconfiguredError,
    TrendingStoreThrottledError,
    TrendingStoreUnavailableError,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = [
    "BULK_READ_TIMEOUT_S",
    "TOTAL_ATTEMPTS",
    "bulk_client",
    "dynamodb_client",
    "translated_errors",
]


def dynamodb_client(
    endpoint: str | None,
    *,
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
    read_timeout_s: float = DEFAULT_READ_TIMEOUT_S,
    connections: int = 4,
) -> "DynamoDBClient":
    """Return a client as `meshkit.dynamodb` does; raises TrendingStoreMisconfiguredError."""
    with _as_the_ports():
        return dynamodb.dynamodb_client(
            endpoint,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            connections=connections,
        )


def bulk_client(endpoint: str | None, *, connections: int = 1) -> "DynamoDBClient":
    """Return a client for what nobody waits for: creating tables, loading, rolling up.

    Raises TrendingStoreMisconfiguredError.
    """
    with _as_the_ports():
        return dynamodb.bulk_client(endpoint, connections=connections)


@contextmanager
def translated_errors(action: str) -> Iterator[None]:
    """Raise boto3's errors as those of the port; `action` says in them what was being done."""
    with _as_the_ports(), dynamodb.translated_errors(action):
        yield


@contextmanager
def _as_the_ports() -> Iterator[None]:
    try:
        yield
    except dynamodb.DynamodbMisconfiguredError as exc:
        raise TrendingStoreMisconfiguredError(str(exc)) from exc
    except dynamodb.DynamodbThrottledError as exc:
        raise TrendingStoreThrottledError(str(exc)) from exc
    except dynamodb.DynamodbUnavailableError as exc:
        raise TrendingStoreUnavailableError(str(exc)) from exc
    except dynamodb.DynamodbError as exc:
        raise TrendingStoreError(str(exc)) from exc
