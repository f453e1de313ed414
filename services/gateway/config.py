"""Settings of a gateway process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meshkit.addresses import parse_address
from meshkit.channels import check_target
from meshkit.config import setting
from meshkit.dynamodb import DEFAULT_CONNECT_TIMEOUT_S, DEFAULT_TABLE_PREFIX
from meshkit.held_server import BundleSettings
from meshkit.server import ServerSettings
from services.gateway.domain.failures import HISTORY, call_policy
from signals.limits import MAX_SOURCES

DEFAULT_CANDIDATES_PER_SOURCE = 200  # 90 % of recall@500 on MovieLens-1M at 40 % of the cost
DEFAULT_RANKED = 500  # what the ranker scores in a few ms
DEFAULT_HISTORY_CACHE_S = 30.0
"""New plays count that much later at most; a listener asks for several slates a minute."""
DEFAULT_HISTORY_CACHE_USERS = 4096
"""Some 8 KB each, 80 KB at most."""
DEFAULT_HISTORY_READ_TIMEOUT_S = 0.1
"""DynamoDB answers a GetItem in under 10 ms; what takes longer only holds a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySettings:
    """Where histories are read, and how long for. All but the first are of `dynamodb` only."""

    history: Literal["bundle", "dynamodb"] = "bundle"
    """The bundle's own, as old as its log, or those in DynamoDB."""
    dynamodb_endpoint: str | None = None
    """URL of DynamoDB; unset: AWS's own."""
    table_prefix: str = DEFAULT_TABLE_PREFIX
    """First part of the table's name."""
    history_timeout_s: float = setting(
        default=call_policy(HISTORY).timeout_s, at_least=0.001, at_most=5
    )
    """Longest time that a request waits for its history, seconds; a fifth of its budget at most."""
    history_connect_timeout_s: float = setting(
        default=DEFAULT_CONNECT_TIMEOUT_S, at_least=0.01, at_most=60
    )
    """Seconds that a read waits for its connection, whoever still waits for it."""
    history_read_timeout_s: float = setting(
        default=DEFAULT_HISTORY_READ_TIMEOUT_S, at_least=0.01, at_most=60
    )
    """Seconds that it waits for more of the answer."""
    history_threads: int = setting(default=4, at_least=1, at_most=64)
    """Reads at a time."""
    history_waiting: int = setting(default=16, at_least=0, at_most=1024)
    """Reads that wait for a thread; beyond that history is SHED."""
    history_cache_users: int = setting(
        default=DEFAULT_HISTORY_CACHE_USERS, at_least=1, at_most=1_000_000
    )
    """Users whose histories are remembered."""
    history_cache_s: float = setting(default=DEFAULT_HISTORY_CACHE_S, at_least=0, at_most=3600)
    """Seconds that each is."""


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
    history: HistorySettings
    stock: BundleSettings
    server: ServerSettings
