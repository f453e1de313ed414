"""Clients of DynamoDB with bounded waiting, and what their errors mean to a trending store."""

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError

from services.candidates.config import DEFAULT_CONNECT_TIMEOUT_S, DEFAULT_READ_TIMEOUT_S
from services.candidates.domain.trending import (
    TrendingStoreError,
    TrendingStoreMisconfiguredError,
    TrendingStoreThrottledError,
    TrendingStoreUnavailableError,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

BULK_CONNECT_TIMEOUT_S = 2.0
"""As below; a listener on a busy machine may be slow to take a connection."""
BULK_READ_TIMEOUT_S = 10.0
"""For loading and rolling up, which nobody waits for: a batch carries up to 6 MB."""
TOTAL_ATTEMPTS = 2
"""The first one included; a snapshot's age covers for what still fails."""

_LOCAL_REGION = "us-east-1"
_LOCAL_CREDENTIAL = "local"

_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "ThrottledException",
    }
)
_MISCONFIGURED = frozenset(
    {
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "UnrecognizedClientException",
    }
)


def dynamodb_client(
    endpoint: str | None,
    *,
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
    read_timeout_s: float = DEFAULT_READ_TIMEOUT_S,
    connections: int = 4,
) -> "DynamoDBClient":
    """Return a client whose calls end within `TOTAL_ATTEMPTS` times the timeouts and a short pause.

    `endpoint` is a URL; None is DynamoDB itself, in the region of the environment. An endpoint on
    loopback needs no AWS account: what the environment does not say is made up. Raises
    TrendingStoreMisconfiguredError when the region is missing or the URL is none.
    """
    config = Config(
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": TOTAL_ATTEMPTS, "mode": "standard"},
        max_pool_connections=connections,
    )
    is_local = endpoint is not None and _is_loopback(endpoint)
    try:
        session = _local_session() if is_local else boto3.Session()
        return session.client("dynamodb", endpoint_url=endpoint, config=config)
    except NoRegionError as exc:
        raise TrendingStoreMisconfiguredError(
            "no AWS region: set AWS_DEFAULT_REGION, or RECMESH_DYNAMODB_ENDPOINT to a local engine"
        ) from exc
    except (BotoCoreError, ValueError) as exc:
        raise TrendingStoreMisconfiguredError(f"DynamoDB client: {exc}") from exc


def bulk_client(endpoint: str | None, *, connections: int = 1) -> "DynamoDBClient":
    """Return a client for what nobody waits for: creating tables, loading, rolling up.

    `endpoint` and what is raised are as for `dynamodb_client`.
    """
    return dynamodb_client(
        endpoint,
        connect_timeout_s=BULK_CONNECT_TIMEOUT_S,
        read_timeout_s=BULK_READ_TIMEOUT_S,
        connections=connections,
    )


@contextmanager
def translated_errors(action: str) -> Iterator[None]:
    """Raise boto3's errors as those of the port; `action` says in them what was being done."""
    try:
        yield
    except ClientError as exc:
        raise _from_answer(action, exc) from exc
    except (NoCredentialsError, PartialCredentialsError) as exc:
        raise TrendingStoreMisconfiguredError(
            f"{action}: no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or give this machine a role"
        ) from exc
    except (BotoConnectionError, HTTPClientError) as exc:
        raise TrendingStoreUnavailableError(f"{action}: {exc}") from exc
    except BotoCoreError as exc:
        raise TrendingStoreError(f"{action}: {exc}") from exc


def _from_answer(action: str, exc: ClientError) -> TrendingStoreError:
    code = exc.response.get("Error", {}).get("Code", "")
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "ResourceNotFoundException":
        return TrendingStoreMisconfiguredError(
            f"{action}: the trending tables do not exist; `meshctl dynamodb create` makes them"
        )
    if code in _MISCONFIGURED:
        return TrendingStoreMisconfiguredError(f"{action}: {exc}")
    if code in _THROTTLED:
        return TrendingStoreThrottledError(f"{action}: {exc}")
    if status >= 500:  # noqa: PLR2004 - HTTP's own boundary of a server's fault
        return TrendingStoreUnavailableError(f"{action}: {exc}")
    return TrendingStoreError(f"{action}: {exc}")


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _local_session() -> boto3.Session:
    # Never the credentials of a profile: a local engine has no use for them.
    return boto3.Session(
        aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", _LOCAL_CREDENTIAL),
        aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", _LOCAL_CREDENTIAL),
        aws_session_token=os.environ.get("AWS_SESSION_TOKEN"),
        region_name=os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION", _LOCAL_REGION),
    )
