"""The benchmark's peers, as processes: what is compared must give the same answers."""

from pathlib import Path

import pytest

from benchmarks.peers.slates import Slate, difference
from benchmarks.peers.variants import VARIANTS, running
from benchmarks.throughput import Served, check
from meshctl.drills.world import World
from meshkit.bundles import Bundle
from tests.small_bundle import USER_IDS

UNTRACED = {"OTEL_TRACES_SAMPLER": "always_off"}


@pytest.mark.timeout(120)
def test_every_variant_gives_every_user_the_slates_of_the_mesh(
    small_bundle: Bundle, tmp_path: Path
) -> None:
    world = World(small_bundle.path.parent, small_bundle.version, ())
    slates: dict[str, tuple[Slate, ...]] = {}

    for variant in VARIANTS:
        place = tmp_path / variant.name.replace(" ", "-")
        with running(variant, world, place, user_ids=USER_IDS, trace_env=UNTRACED) as target:
            slates[variant.name] = check([Served(variant, target)], USER_IDS, tmp_path)

    mesh, *peers = slates.values()
    assert len({slate.item_ids for slate in mesh}) > 1
    for peer in peers:
        assert [difference(*pair) for pair in zip(mesh, peer, strict=True)] == [""] * len(mesh)
