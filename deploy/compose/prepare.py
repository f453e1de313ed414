"""Make a fresh stack ready to serve: `python -m deploy.compose.prepare`.

Trains on the synthetic world and publishes, unless a bundle is there; then creates the tables and
loads the bundle's trending counts and histories, which DynamoDB Local forgets at every stop. Doing
it again changes nothing.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from meshctl.data import synthesise
from meshctl.demo import WORLD
from meshctl.prepare import prepare_dynamodb
from meshctl.train import DEFAULT_SEED, train_with_progress
from meshkit.bundles import BundleError, open_store
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX, DynamodbError
from services.candidates.adapters.dynamodb_client import BULK_READ_TIMEOUT_S, dynamodb_client
from services.candidates.adapters.trending_tables import TrendingTables, create_trending_tables
from services.candidates.domain.trending import TrendingStoreError

LOG = Path("/tmp/log")  # noqa: S108  the container's own, gone with it
DYNAMODB_WAIT_S = 60.0
DYNAMODB_POLL_S = 0.5


def main() -> None:
    """Do what is missing and say so."""
    bundles, endpoint = Path(os.environ["RECMESH_BUNDLES"]), os.environ["RECMESH_DYNAMODB_ENDPOINT"]
    version = published(bundles) or train(bundles)
    wait_for(lambda: create_tables(endpoint))
    prepare_dynamodb(endpoint, bundles=bundles, version=version, with_histories=True)
    print(f"ready: bundle {version}, its trending counts and histories at {endpoint}")


def published(bundles: Path) -> str | None:
    """Return the version that is current already; None when there is none."""
    store = open_store(bundles)
    return store.current() if store.versions() else None


def train(bundles: Path) -> str:
    """Train on a world made for it, and return the version published."""
    synthesise(WORLD, LOG, replace=True)
    trained = train_with_progress(
        LOG, bundles, holdout="none", seed=DEFAULT_SEED, console=Console(stderr=True)
    )
    return trained.bundle.version


def create_tables(endpoint: str) -> None:
    """Create the tables that are missing; raises TrendingStoreError."""
    client = dynamodb_client(endpoint, read_timeout_s=BULK_READ_TIMEOUT_S)
    create_trending_tables(client, TrendingTables(DEFAULT_TABLE_PREFIX))


def wait_for(action: Callable[[], None]) -> None:
    """Do `action` until it succeeds; an engine that listens may not answer yet."""
    deadline_s = time.monotonic() + DYNAMODB_WAIT_S
    while True:
        try:
            return action()
        except TrendingStoreError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(DYNAMODB_POLL_S)


if __name__ == "__main__":
    try:
        main()
    except (BundleError, DynamodbError, TrendingStoreError) as error:
        sys.exit(f"error: {error}")
