"""Clients of DynamoDB with bounded waiting, and what their errors mean.

DynamodbError                   any answer that is not one
|-- DynamodbUnavailableError    no answer in time, or none at all
|-- DynamodbThrottledError      asked to slow down, beyond our retries
`-- DynamodbMisconfiguredError  credentials, a region or a permission are missing
`-- DynamodbTableMissingError
"""

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

from meshkit.errors import DependencyError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DEFAULT_TABLE_PREFIX = "recmesh"
"""What the names of the mesh's tables begin with."""
DEFAULT_CONNECT_TIMEOUT_S = 0.2
"""boto3's default is 60 s; DynamoDB in the same region connects in a few ms."""
DEFAULT_READ_TIMEOUT_S = 0.3
"""A query of one segment answers in about 10 ms; boto3's default is 60 s."""
BULK_CONNECT_TIMEOUT_S = 2.0
"""As above; a listener on a busy machine may be slow to take a connection."""
BULK_READ_TIMEOUT_S = 10.0
"""For loading, which nobody waits for: a batch carries up to 6 MB."""
TOTAL_ATTEMPTS = 2
"""The first one included."""

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


class DynamodbError(DependencyError):
    """DynamoDB could not do what was asked."""


class DynamodbUnavailableError(DynamodbError):
    """It did not answer in time, or not at all."""


class DynamodbThrottledError(DynamodbError):
    """It asked to slow down, beyond our retries."""


class DynamodbMisconfiguredError(DynamodbError):
    """Credentials, a region or a permission are missing; retrying does not help."""


class DynamodbTableMissingError(DynamodbMisconfiguredError):
    """A table does not exist."""


def dynamodb_client(
    endpoint: str | None,
    *,
    connect_timeout_s: float = DEFAULT_CONNECT_TIMEOUT_S,
    read_timeout_s: float = DEFAULT_READ_TIMEOUT_S,
    connections: int = 4,
    attempts: int = TOTAL_ATTEMPTS,
) -> "DynamoDBClient":
    """Return a client whose calls end within `attempts` times the timeouts and a short pause.

    `endpoint` is a URL; None is DynamoDB itself, in the region of the environment. An endpoint on
    loopback needs no AWS account: what the environment does not say is made up. Raises
    DynamodbMisconfiguredError when the region is missing or the URL is none.
    """
    config = Config(
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        max_pool_connections=connections,
    )
    is_local = endpoint is not None and _is_loopback(endpoint)
    try:
        session = _local_session() if is_local else boto3.Session()
        return session.client("dynamodb", endpoint_url=endpoint, config=config)
    except NoRegionError as exc:
        raise DynamodbMisconfiguredError(
            "no AWS region: set AWS_DEFAULT_REGION, or RECMESH_DYNAMODB_ENDPOINT to a local engine"
        ) from exc
    except (BotoCoreError, ValueError) as exc:
        raise DynamodbMisconfiguredError(f"DynamoDB client: {exc}") from exc


def bulk_client(endpoint: str | None, *, connections: int = 1) -> "DynamoDBClient":
    """Return a client for what nobody waits for: creating tables and loading them.

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
    """Raise boto3's errors as our own; `action` says in them what was being done."""
    try:
        yield
    except ClientError as exc:
        raise _from_answer(action, exc) from exc
    except (NoCredentialsError, PartialCredentialsError) as exc:
        raise DynamodbMisconfiguredError(
            f"{action}: no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or give this machine a role"
        ) from exc
    except (BotoConnectionError, HTTPClientError) as exc:
        raise DynamodbUnavailableError(f"{action}: {exc}") from exc
    except BotoCoreError as exc:
        raise DynamodbError(f"{action}: {exc}") from exc


def _from_answer(action: str, exc: ClientError) -> DynamodbError:
    code = exc.response.get("Error", {}).get("Code", "")
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code == "ResourceNotFoundException":
        return DynamodbTableMissingError(
            f"{action}: the table does not exist; `meshctl dynamodb create` makes it"
        )
    if code in _MISCONFIGURED:
        return DynamodbMisconfiguredError(f"{action}: {exc}")
    if code in _THROTTLED:
        return DynamodbThrottledError(f"{action}: {exc}")
    if status >= 500:  # noqa: PLR2004 - HTTP's own boundary of a server's fault
        return DynamodbUnavailableError(f"{action}: {exc}")
    return DynamodbError(f"{action}: {exc}")


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
