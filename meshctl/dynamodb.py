"""`meshctl dynamodb`: the tables that the mesh keeps in DynamoDB."""

from typing import Annotated

import typer
from rich.console import Console

from meshctl.standard_mesh import DYNAMODB_ENDPOINT, TABLE_PREFIX
from meshkit.dynamodb import DEFAULT_TABLE_PREFIX, DynamodbError
from services.candidates.adapters.dynamodb_client import bulk_client
from services.candidates.adapters.trending_tables import TrendingTables, create_trending_tables
from services.candidates.domain.trending import TrendingStoreError
from services.gateway.adapters.history_table import HistoryTable, create_history_table

app = typer.Typer(no_args_is_help=True, help="Tables in DynamoDB.")

Endpoint = Annotated[
    str | None,
    typer.Option(
        envvar=DYNAMODB_ENDPOINT,
        help="URL of a DynamoDB engine. Left out: DynamoDB itself, in the region of the "
        "environment. One on loopback needs no AWS account.",
    ),
]
Prefix = Annotated[
    str, typer.Option(envvar=TABLE_PREFIX, help="What the names of the tables begin with.")
]


@app.callback()
def _group() -> None:
    """Tables in DynamoDB."""


@app.command()
def create(endpoint: Endpoint = None, prefix: Prefix = DEFAULT_TABLE_PREFIX) -> None:
    """Create the tables that do not exist yet, billed by request."""
    tables, histories = TrendingTables(prefix), HistoryTable(prefix)
    try:
        client = bulk_client(endpoint or None)
        created = create_trending_tables(client, tables)
        if create_history_table(client, histories):
            created.append(histories.name)
    except (TrendingStoreError, DynamodbError) as exc:
        Console(stderr=True).print(
            str(exc), style="red", markup=False, highlight=False, soft_wrap=True
        )
        raise typer.Exit(1) from exc
    for table in (tables.counts, tables.top, histories.name):
        typer.echo(f"{table}: {'created' if table in created else 'exists'}")
