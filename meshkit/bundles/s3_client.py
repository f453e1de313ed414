"""A client of S3 with bounded waiting, and what its errors mean to a bundle store."""

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from meshkit.bundles.errors import BundleError

ENDPOINT = "RECMESH_S3_ENDPOINT"
"""URL of an S3 of one's own; unset: AWS's, in the region of the environment."""
CONNECT_TIMEOUT_S = 1.0
"""boto3's default is 60 s; S3 in the same region connects in some 10 ms."""
READ_TIMEOUT_S = 10.0
"""Between two blocks of a download, or until an upload is acknowledged."""
TOTAL_ATTEMPTS = 2
"""The first one included; whoever waits for a bundle asks again."""
CONNECTIONS = 8

_LOCAL_REGION = "us-east-1"
_LOCAL_CREDENTIAL = "local"
_PRECONDITION = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})


def s3_client(endpoint: str | None) -> Any:  # boto3 types its clients with extra stubs only
    """Return a client whose calls end within `TOTAL_ATTEMPTS` times the timeouts and a short pause.

    `endpoint` is a URL; None is S3 itself. One on loopback needs no AWS account: what the
    environment does not say is made up. Raises BundleError for settings that make no client.
    """
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": TOTAL_ATTEMPTS, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        # Engines of one's own have no DNS name for every bucket.
        s3={"addressing_style": "path"} if endpoint else None,
    )
    try:
        session = _local_session() if endpoint and _is_loopback(endpoint) else boto3.Session()
        return session.client("s3", endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as exc:
        raise BundleError(f"S3 client: {exc}") from exc


@contextmanager
def translated_errors(action: str) -> Iterator[None]:
    """Raise boto3's errors as BundleError; `action` says in it what was being done."""
    try:
        yield
    except NoCredentialsError as exc:
        raise BundleError(
            f"{action}: no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE, or give this machine a role"
        ) from exc
    except (BotoCoreError, Boto3Error, ClientError) as exc:
        raise BundleError(f"{action}: {exc}") from exc


def lost_condition(exc: ClientError) -> bool:
    """Say whether a conditional write found something else than it asked for."""
    return _code_of(exc) in _PRECONDITION


def is_missing(exc: ClientError) -> bool:
    """Say whether the key of a call does not exist; a missing bucket is another matter."""
    return _code_of(exc) in _MISSING


def _code_of(exc: ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code", ""))


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
