"""`python -m tests.compiled_kernels`: has every service compile its kernels, one after the other.

Numba keeps them beside the code. In a fresh clone the processes of a mesh, which start together,
would each compile the same ones, and tests would wait for that.
"""

import tempfile
from pathlib import Path

from services.ranker.domain.features import SOURCES
from tests.integration.service_process import service
from tests.small_bundle import publish_small_bundle

NOWHERE = "127.0.0.1:9"


def main() -> None:
    """Start each service on the tiny bundle until it serves: it is warm then."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        publish_small_bundle(directory / "bundles")
        common = {
            "RECMESH_BUNDLES": str(directory / "bundles"),
            "RECMESH_CLOCK": "bundle",
            "RECMESH_VERDICTS": str(directory / "verdicts"),
        }
        for name, settings in _services():
            own = Path(tempfile.mkdtemp(dir=directory))
            with service(own, name, **common, **settings):
                pass


def _services() -> list[tuple[str, dict[str, str]]]:
    leaves = {"RECMESH_SOURCES": f"ann={NOWHERE}", "RECMESH_RANKER": NOWHERE}
    # Trending compiles nothing of its own, and wants a DynamoDB.
    sources = [source for source in SOURCES if source != "trending"]
    return [
        ("ranker", {}),
        *(("candidates", {"RECMESH_SOURCE": source}) for source in sources),
        ("gateway", leaves),
    ]


if __name__ == "__main__":
    main()
