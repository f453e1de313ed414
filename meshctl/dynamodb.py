"""`meshctl dynamodb`: the tables that the mesh keeps in DynamoDB."""

from typing import Annotated

import typer
from rich.console import Console

from services.candidates.adapters.dynamodb_client import BULK_READ_TIMEOUT_S, dynamodb_client
from services.candidates.adapters.trending_tables import (
    DEFAULT_TABLE_PREFIX,
    TrendingTables,
    create_trending_tables,
)
from services.candidates.domain.trending import TrendingStoreError

app = typer.Typer(no_args_is_help=True, help="Tables in DynamoDB.")

ENDPOINT_VARIABLE = "RECMESH_DYNAMODB_ENDPOINT"
PREFIX_VARIABLE = "RECMESH_TABLE_PREFIX"

Endpoint = Annotated[
    str | None,
    typer.Option(
        envvar=ENDPOINT_VARIABLE,
        help="URL of a DynamoDB engine. Left out: DynamoDB itself, in the region of the "
        "environment. One on loopback needs no AWS account.",
    ),
]
Prefix = Annotated[
    str, typer.Option(envvar=PREFIX_VARIABLE, help="What the names of the tables begin with.")
]


@app.callback()
def _group() -> None:
    """Tables in DynamoDB."""


@app.command()
def create(endpoint: Endpoint = None, prefix: Prefix = DEFAULT_TABLE_PREFIX) -> None:
    """Create the tables that do not exist yet, billed by request."""
    tables = TrendingTables(prefix)
    try:
        client = dynamodb_client(endpoint or None, read_timeout_s=BULK_READ_TIMEOUT_S)
        created = create_trending_tables(client, tables)
    except TrendingStoreError as exc:
        Console(stderr=True).print(
            str(exc), style="red", markup=False, highlight=False, soft_wrap=True
        )
        raise typer.Exit(1) from exc
    for table in (tables.counts, tables.top):
        typer.echo(f"{table}: {'created' if table in created else 'exists'}")
