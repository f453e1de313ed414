"""`meshctl bundle`: looks after published bundles."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from meshctl.standard_mesh import DEFAULT_BUNDLES
from meshkit.bundles import Bundle, BundleError, BundleStore, Manifest, Pointer, open_store
from pipeline.bundle_report import judge, report_of
from pipeline.compare_bundles import (
    QUANTILES,
    SAMPLED_USERS,
    Overlap,
    feature_changes,
    slate_overlap,
)
from pipeline.forest_files import FILES as FOREST
from pipeline.slate_overlap import PERSISTENCE
from pipeline.verify_bundle import verify as verify_content

app = typer.Typer(no_args_is_help=True, help="Look after published bundles.")

DEFAULT_KEEP = 5
DEFAULT_SEED = 1
METRICS = {
    "ndcg_10": "NDCG@10",
    "ndcg_20": "NDCG@20",
    "hit_10": "HR@10",
    "recall_20": "recall@20",
    "recall_100": "recall@100",
    "catalogue_coverage": "covered",
}
"""Keys of a report's methods, and what they are called."""

Bundles = Annotated[str, typer.Option(help="The bundle store: a directory, or s3://bucket/prefix.")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="A version of `bundle list`.")]


@app.callback()
def _group() -> None:
    """Look after published bundles."""


@app.command("list")
def list_bundles(bundles: Bundles = str(DEFAULT_BUNDLES)) -> None:
    """List the versions, oldest first."""
    with _explained():
        store = open_store(bundles)
        versions = store.versions()
        pointer = _pointer_if_any(store)
        table = Table()
        for heading in ("version", "", "created", "size", "parent"):
            table.add_column(heading, overflow="fold")  # a version that is cut cannot be copied
        for version in versions:
            table.add_row(version, _mark(version, pointer), *_outline(store, version))
    Console().print(table)


@app.command()
def show(version: Version, bundles: Bundles = str(DEFAULT_BUNDLES)) -> None:
    """Show a bundle's manifest and report, its sizes and hashes verified."""
    with _explained():
        bundle = open_store(bundles).open(version)
        report = report_of(bundle)
    console = Console()
    for name, value in _facts_of(bundle.manifest).items():
        console.print(f"{name:<16} {value}", markup=False, highlight=False, soft_wrap=True)
    files = Table("file", "bytes", "sha256")
    for name, entry in bundle.manifest.files.items():
        files.add_row(name, f"{entry.size:,}", entry.sha256[:16])
    console.print(files)
    console.print(_metrics_table({version: report}))


@app.command()
def verify(version: Version, bundles: Bundles = str(DEFAULT_BUNDLES)) -> None:
    """Verify sizes, hashes, structure and known answers, apart from this process."""
    with _explained():
        _open_sound(open_store(bundles), version)
    typer.echo(f"{version} is sound")


@app.command()
def promote(
    version: Version,
    bundles: Bundles = str(DEFAULT_BUNDLES),
    force: Annotated[
        bool, typer.Option("--force", help="Even if it ranks worse than its parent.")
    ] = False,
) -> None:
    """Verify a bundle and have it served.

    Refused when its NDCG@10 is below its parent's by more than the confidence interval.
    """
    with _explained():
        store = open_store(bundles)
        before = _pointer_if_any(store)
        bundle = _open_sound(store, version)
        judged = judge(store, bundle)
        if not judged.is_allowed and not force:
            raise BundleError(
                f"{version} was not promoted: {judged.reason}; --force promotes it anyway"
            )
        store.promote(version, expected=before.version if before else None)
    typer.echo(judged.reason)
    _say_moved(version, before.version if before else None)


@app.command()
def rollback(bundles: Bundles = str(DEFAULT_BUNDLES)) -> None:
    """Serve again what the current version replaced; a second time goes forward."""
    with _explained():
        store = open_store(bundles)
        before = store.pointer()
        if before.replaced is not None:
            _open_sound(store, before.replaced)
        version = store.rollback()
    _say_moved(version, before.version)


@app.command()
def gc(
    bundles: Bundles = str(DEFAULT_BUNDLES),
    keep: Annotated[int, typer.Option(help="Newest versions to keep.", min=1)] = DEFAULT_KEEP,
) -> None:
    """Delete old versions; never the current one and the one that it replaced."""
    with _explained():
        deleted = open_store(bundles).gc(keep, protect=())
    for version in deleted:
        typer.echo(f"deleted {version}")
    typer.echo(f"{len(deleted)} deleted")


@app.command()
def diff(
    version: Annotated[str, typer.Argument(metavar="A", help="The version served now, say.")],
    other: Annotated[str, typer.Argument(metavar="B", help="The version to promote, say.")],
    bundles: Bundles = str(DEFAULT_BUNDLES),
    users: Annotated[
        int, typer.Option(help="Users whose slates are compared.", min=1)
    ] = SAMPLED_USERS,
    seed: Annotated[int, typer.Option(help="Draws the users.", min=0)] = DEFAULT_SEED,
) -> None:
    """Compare two bundles: reports, features, and the slates of a sample of users."""
    console = Console()
    with _explained():
        store = open_store(bundles)
        one, two = _open_sound(store, version), _open_sound(store, other)
        console.print(_metrics_table({version: report_of(one), other: report_of(two)}))
        _print_features(console, one, two)
        _print_overlap(console, slate_overlap(one, two, seed=seed, sample=users))


def _open_sound(store: BundleStore, version: str) -> Bundle:
    """Return a bundle that passed every check; raises BundleError."""
    bundle = store.open(version)
    verdict = verify_content(bundle.path)
    if not verdict.is_sound:
        raise BundleError(f"{version} is not sound: {verdict.reason}")
    return bundle


def _pointer_if_any(store: BundleStore) -> Pointer | None:
    try:
        return store.pointer()
    except BundleError:
        if store.versions():
            raise
        return None


def _mark(version: str, pointer: Pointer | None) -> str:
    if pointer is None:
        return ""
    return {pointer.replaced: "replaced", pointer.version: "current"}.get(version, "")


def _outline(store: BundleStore, version: str) -> tuple[str, str, str]:
    try:
        manifest = store.manifest(version)
    except BundleError:
        return "cannot be read; `bundle show` says why", "", ""
    size = sum(entry.size for entry in manifest.files.values())
    return manifest.created_at, f"{size / 1e6:.1f} MB", manifest.parent or "-"


def _facts_of(manifest: Manifest) -> dict[str, object]:
    """Return the scalars of a manifest and its facts, and how many features there are."""
    facts = {
        name: len(value) if isinstance(value, list) else value
        for name, value in manifest.facts.items()
        if not isinstance(value, dict)
    }
    libraries = manifest.facts.get("libraries", {})
    return {
        "version": manifest.version,
        "parent": manifest.parent or "-",
        "created_at": manifest.created_at,
        "content_sha256": manifest.content_sha256,
        "scorer": "forest" if any(name in manifest.files for name in FOREST) else "lightgbm",
        **facts,
        "libraries": ", ".join(f"{name} {version}" for name, version in libraries.items()),
    }


def _metrics_table(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return every metric of every method, a version a column."""
    table = Table("method", "metric")
    by_version = {
        version: {method["method"]: method for method in report.get("methods", ())}
        for version, report in reports.items()
    }
    for version, report in reports.items():
        table.add_column(f"{version}\n{report.get('users', 0)} users", justify="right")
    names = dict.fromkeys(name for methods in by_version.values() for name in methods)
    for name in names:
        for key, metric in METRICS.items():
            cells = [_figure(methods.get(name, {}), key) for methods in by_version.values()]
            table.add_row(name if key == "ndcg_10" else "", metric, *cells)
    return table


def _figure(method: Mapping[str, Any], key: str) -> str:
    if key not in method:
        return "-"
    interval = method.get(f"{key}_ci95")
    return f"{method[key]:.4f}" + (f" ±{interval:.4f}" if interval is not None else "")


def _print_features(console: Console, one: Bundle, two: Bundle) -> None:
    changes = feature_changes(one, two)
    for name in changes.added:
        console.print(f"feature added: {name}", highlight=False)
    for name in changes.removed:
        console.print(f"feature removed: {name}", highlight=False)
    if changes.is_reordered:
        console.print("features are in another order")
    if not (changes.added or changes.removed or changes.is_reordered):
        console.print("features are the same")


def _print_overlap(console: Console, overlap: Overlap) -> None:
    console.print(
        f"slates of {overlap.users} users that both know, rank-biased overlap "
        f"(p = {PERSISTENCE:g}; 1 is the same slate, 0 none of it):",
        highlight=False,
        soft_wrap=True,
    )
    quantiles = zip(QUANTILES, overlap.quantiles, strict=True)
    figures = [f"{'worst' if q == 0 else f'worst {q:.0%}'} {value:.3f}" for q, value in quantiles]
    console.print(f"  mean {overlap.mean:.3f}; {', '.join(figures)}", highlight=False)


def _say_moved(version: str, before: str | None) -> None:
    typer.echo(f"serving {version}" + (f", {before} before" if before else ""))


@contextmanager
def _explained() -> Iterator[None]:
    """End with status 1 and the message of a BundleError."""
    try:
        yield
    except BundleError as exc:
        Console(stderr=True).print(f"error: {exc}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from exc
