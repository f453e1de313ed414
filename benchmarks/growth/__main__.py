"""`make bench-growth`, or `python -m benchmarks.growth`: catalogues, candidates, callers.

For each size of catalogue a bundle is made and served, one after the other: what making it took,
how large it is, how long its processes start, what they hold and what a request costs. On the
middle size candidates and callers grow.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks.growth import report
from benchmarks.growth.bundles import Grown, bytes_by_group, grow, train_model
from benchmarks.growth.found import Load, Size
from benchmarks.growth.mesh import (
    COST_REQUESTS,
    Running,
    Subject,
    ask,
    memories,
    ranker_costs,
    retrieval_costs,
    running_mesh,
)
from benchmarks.growth.retrieval import retrieve
from benchmarks.machine import machine_facts
from services.candidates.adapters.annoy_index import SEARCH_PER_ITEM

SIZES = (10_000, 100_000, 1_000_000)
CALLERS_SIZE = 100_000
"""The catalogue on which candidates and callers grow, if it is among the sizes."""
CANDIDATES = (100, 200, 500, 1_000, 2_000)
CALLERS = (1, 8, 32, 128)
REQUESTS = 1_500
LIMIT = 100
DEPTH = 2 * LIMIT * SEARCH_PER_ITEM
"""What `ann` searches for a list of 100."""


def measure_size(grown: Grown, directory: Path, callers: Sequence[int]) -> tuple[Size, Load | None]:
    """Return what a bundle costs; with `callers`, what more of them and of candidates do."""
    items = int(grown.bundle.manifest.facts["items"])
    scratch = directory / f"index-{items}"
    scratch.mkdir()
    _say(f"{items:,} items: retrieval")
    retrieval = retrieve(grown.bundle, scratch, depth=DEPTH)
    _say(f"{items:,} items: the mesh")
    with running_mesh(Subject.of(grown.store, grown.bundle), directory / f"mesh-{items}") as mesh:
        memory = memories(mesh)
        request = ask(mesh, callers=1, requests=COST_REQUESTS)
        load = measure_load(mesh, items, callers) if callers else None
    sizes = bytes_by_group(grown.bundle.manifest.files)
    return Size(items, grown.seconds, sizes, retrieval, mesh.start_s, memory, request), load


def measure_load(mesh: Running, items: int, callers: Sequence[int]) -> Load:
    """Return what more candidates and more callers cost."""
    return Load(
        items,
        ranker_costs(mesh, CANDIDATES),
        retrieval_costs(mesh, CANDIDATES),
        [ask(mesh, callers=each, requests=REQUESTS) for each in callers],
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print tables and targets, and write JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--load-size", type=int, default=CALLERS_SIZE)
    parser.add_argument("--directory", type=Path, help="where bundles are made, 4 GB")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    machine = machine_facts()
    sizes, loads = [], []
    with tempfile.TemporaryDirectory(prefix="recmesh-", dir=arguments.directory) as made:
        directory = Path(made)
        _say("the ranker")
        model_text = train_model()
        for items in arguments.sizes:
            _say(f"{items:,} items: the bundle")
            grown = grow(items, model_text, directory)
            callers = CALLERS if items == arguments.load_size else ()
            size, load = measure_size(grown, directory, callers)
            sizes.append(size)
            loads.extend([load] if load else [])
    report.show(Console(), sizes, loads)
    if arguments.json:
        found = {
            "machine": machine,
            "targets": [asdict(target) for target in report.targets(sizes)],
            "sizes": [asdict(size) for size in sizes],
            "loads": [asdict(load) for load in loads],
        }
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
