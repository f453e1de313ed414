"""Fills a fresh DynamoDB with what a bundle knows."""

from pathlib import Path

from meshkit.bundles import open_store, readable
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX
from pipeline.trending_counts import bucket_counts
from pipeline.trending_load import fill_store
from services.candidates.adapters.dynamodb_client import bulk_client
from services.candidates.adapters.dynamodb_trending_store import DynamodbTrendingStore
from services.candidates.adapters.trending_tables import TrendingTables, create_trending_tables
from signals.bundle import GenreNames, ItemTexts, TrendCounts
from signals.bundle_facts import BundleFacts


def prepare_dynamodb(endpoint: str, *, bundles: Path, version: str) -> None:
    """Create the tables at `endpoint` and load the trending counts of a bundle.

    Raises BundleError and TrendingStoreError.
    """
    bundle = open_store(bundles).open(version)
    with readable(bundle):
        facts = BundleFacts.from_json(bundle.manifest.facts)
        names = GenreNames.open(bundle.path).names()
        texts = ItemTexts.open(bundle.path)
        counts = bucket_counts(TrendCounts.open(bundle.path), texts, names)
    tables = TrendingTables(DEFAULT_TABLE_PREFIX)
    create_trending_tables(bulk_client(endpoint), tables)
    # The bundle's clock stands still: DynamoDB's TTL would take its rows for long expired.
    store = DynamodbTrendingStore.connect(endpoint, tables, expires=False)
    fill_store(store, counts, now_s=facts.as_of_s)
