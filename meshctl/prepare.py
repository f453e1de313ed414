"""Fills a fresh DynamoDB with what a bundle knows."""

from pathlib import Path

from meshkit.bundles import Bundle, open_store, readable
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX, bulk_client
from pipeline.history_load import LOAD_THREADS, HistoryLoad, load_histories
from pipeline.trending_counts import bucket_counts
from pipeline.trending_load import fill_store
from services.candidates.adapters.dynamodb_trending_store import DynamodbTrendingStore
from services.candidates.adapters.trending_tables import TrendingTables, create_trending_tables
from services.gateway.adapters.dynamodb_history_writer import DynamodbHistoryWriter
from services.gateway.adapters.history_table import HistoryTable, create_history_table
from signals.bundle import GenreNames, Histories, ItemKeys, ItemTexts, TrendCounts
from signals.bundle_facts import BundleFacts


def prepare_dynamodb(
    endpoint: str, *, bundles: Path, version: str, with_histories: bool = False
) -> None:
    """Create the tables at `endpoint`; load the trending counts of a bundle, and its histories.

    Raises BundleError, TrendingStoreError and DynamodbError.
    """
    bundle = open_store(bundles).open(version)
    client = bulk_client(endpoint)
    create_trending_tables(client, TrendingTables(DEFAULT_TABLE_PREFIX))
    create_history_table(client, HistoryTable(DEFAULT_TABLE_PREFIX))
    load_bundle_trends(bundle, endpoint)
    if with_histories:
        load_bundle_histories(bundle, endpoint, HistoryTable(DEFAULT_TABLE_PREFIX))


def load_bundle_trends(bundle: Bundle, endpoint: str) -> None:
    """Load the trending counts of a bundle. Raises BundleError and TrendingStoreError."""
    with readable(bundle):
        facts = BundleFacts.from_json(bundle.manifest.facts)
        names = GenreNames.open(bundle.path).names()
        texts = ItemTexts.open(bundle.path)
        counts = bucket_counts(TrendCounts.open(bundle.path), texts, names)
    # The bundle's clock stands still: DynamoDB's TTL would take its rows for long expired.
    tables = TrendingTables(DEFAULT_TABLE_PREFIX)
    store = DynamodbTrendingStore.connect(endpoint, tables, expires=False)
    fill_store(store, counts, now_s=facts.as_of_s)


def load_bundle_histories(
    bundle: Bundle, endpoint: str | None, table: HistoryTable, *, shows_progress: bool = False
) -> HistoryLoad:
    """Load the histories of a bundle into a table. Raises BundleError and DynamodbError."""
    with readable(bundle):
        histories, items = Histories.open(bundle.path), ItemKeys.open(bundle.path)
    writer = DynamodbHistoryWriter.connect(endpoint, table, connections=LOAD_THREADS)
    return load_histories(histories, items, writer, shows_progress=shows_progress)
