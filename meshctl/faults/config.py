"""Settings of a fault proxy."""

from dataclasses import dataclass
from pathlib import Path

from meshctl.faults.fault import FaultLevel
from meshkit.addresses import ALLOWED, parse_address, split_address
from meshkit.config import setting


def parse_upstream(text: str) -> str:
    """Read an address that can be called. Raises ValueError."""
    _, port = split_address(text)
    if port == 0:
        raise ValueError("has no port that can be called")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultProxyConfig:
    """Read once from RECMESH_* variables, named after the fields in upper case."""

    upstream: str = setting(parse=parse_upstream, allowed="host:port of the server relayed to")
    """The server behind the proxy."""
    listen: str = setting(default="127.0.0.1:0", parse=parse_address, allowed=ALLOWED)
    """Where the proxy listens; port 0: any."""
    address_file: Path | None = None
    """Gets the bound `host:port` once the proxy listens and could reach the server."""
    fault_level: FaultLevel = FaultLevel.BYTES
    """What the proxy understands of what it relays, and so which faults it can inject."""
    fault_file: Path | None = None
    """Control file, see `meshctl.faults.order`; a missing file means no fault."""
