"""The benchmark's peers, as processes: what is compared must give the same answers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.peers.slates import Slate, difference
from benchmarks.peers.variants import VARIANTS, Variant, running
from benchmarks.throughput import Served, check
from meshctl.drills.world import World
from meshkit.bundles import Bundle
from tests.small_bundle import USER_IDS

UNTRACED = {"OTEL_TRACES_SAMPLER": "always_off"}


def slates_of(variant: Variant, bundle: Bundle, folder: Path) -> tuple[Slate, ...]:
    """What a variant gives each user, once all of it is there."""
    world = World(bundle.path.parent, bundle.version, ())
    folder.mkdir()
    with running(variant, world, folder / "state", user_ids=USER_IDS, trace_env=UNTRACED) as target:
        slates = check([Served(variant, target)], USER_IDS, folder)
    assert None not in slates
    return tuple(slate for slate in slates if slate is not None)


@pytest.mark.timeout(240)
def test_every_variant_gives_every_user_the_slates_of_the_mesh(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    # Some fifteen processes mostly wait while they start; a thread must outlive what it starts.
    with ThreadPoolExecutor(len(VARIANTS)) as threads:
        given = [
            threads.submit(slates_of, variant, small_bundle, tmp_path / str(number))
            for number, variant in enumerate(VARIANTS)
        ]
        mesh, *peers = (one.result() for one in given)

    assert len({slate.item_ids for slate in mesh}) > 1
    for peer in peers:
        assert [difference(*pair) for pair in zip(mesh, peer, strict=True)] == [""] * len(mesh)
