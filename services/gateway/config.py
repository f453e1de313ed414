"""Settings of a gateway process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meshkit.addresses import parse_address
from meshkit.channels import check_target
from meshkit.config import setting
from meshkit.held_server import BundleSettings
from meshkit.server import ServerSettings
from signals.limits import MAX_SOURCES

DEFAULT_CANDIDATES_PER_SOURCE = 200  # 90 % of recall@500 on MovieLens-1M at 40 % of the cost
DEFAULT_RANKED = 500  # what the ranker scores in a few ms


@dataclass(frozen=True, slots=True)
class SourceAddresses:
    """Where one source's workers listen."""

    name: str
    addresses: tuple[str, ...]


def parse_addresses(text: str) -> tuple[str, ...]:
    """Read `host:port[;host:port...]` of one channel. Raises ValueError."""
    addresses = tuple(parse_address(part.strip()) for part in text.split(";"))
    check_target(addresses)
    return addresses


def parse_sources(text: str) -> tuple[SourceAddresses, ...]:
    """Read `name=host:port[;host:port...][,name=...]`. Raises ValueError."""
    sources = [_parse_source(part) for part in text.split(",")]
    names = [source.name for source in sources]
    if len(set(names)) != len(names):
        raise ValueError("names a source twice")
    if len(names) > MAX_SOURCES:
        raise ValueError(f"names {len(names)} sources; at most {MAX_SOURCES} are allowed")
    return tuple(sources)


def _parse_source(text: str) -> SourceAddresses:
    name, is_given, addresses = text.strip().partition("=")
    if not name or not is_given:
        raise ValueError(f"{text.strip()!r} is not name=host:port")
    return SourceAddresses(name, parse_addresses(addresses))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Read once from RECMESH_* variables, named after the fields in upper case."""

    sources: tuple[SourceAddresses, ...] = setting(
        parse=parse_sources, allowed="name=host:port[;host:port...], several separated by commas"
    )
    """Every source to ask, in the order that answers list them."""
    ranker: tuple[str, ...] = setting(parse=parse_addresses, allowed="host:port[;host:port...]")
    """The ranker's workers."""
    clock: Literal["wall", "bundle"] = "wall"
    """What now is, for ages: the machine's time, or the end of the bundle's log."""
    control_file: Path | None = None
    """JSON file that switches sources off while the gateway runs; unset: nothing is."""
    candidates_per_source: int = setting(
        default=DEFAULT_CANDIDATES_PER_SOURCE, at_least=1, at_most=2000
    )
    """Candidates that every source is asked for."""
    ranked: int = setting(default=DEFAULT_RANKED, at_least=1, at_most=2000)
    """Candidates that the ranker is asked to score at most."""
    hedging: bool = True
    """Whether slow calls to a leaf with several workers are made a second time."""
    call_log: Path | None = None
    """File to record the versions of answers in; unset: none."""
    stock: BundleSettings
    server: ServerSettings
