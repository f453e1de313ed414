"""Settings of a peer's process, in the variables that the mesh's own processes read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.models import ModelKind
from meshkit.addresses import parse_address
from meshkit.bundles import Bundle, open_store
from meshkit.config import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """Read once from RECMESH_* variables, named after the fields in upper case."""

    listen: str = setting(default="127.0.0.1:0", parse=parse_address, allowed="host:port")
    address_file: Path
    """Where the bound `host:port` is written once the process serves."""
    bundles: Path
    bundle_version: str
    source: str = ""
    """Of a naive mesh's source: which."""
    sources: str = ""
    """Of a naive mesh's gateway: `name=host:port[,name=host:port...]`."""
    ranker: str = ""
    """Of a naive mesh's gateway: `host:port`."""
    model: ModelKind = "stock"

    def open_bundle(self) -> Bundle:
        """Return the bundle to serve, verified. Raises BundleError."""
        return open_store(self.bundles).open(self.bundle_version)


@contextmanager
def announced(path: Path, address: str) -> Iterator[None]:
    """Say in the file at `path` where we serve, whole, while the block runs."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(address)
    partial.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
