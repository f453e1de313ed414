"""Where the microseconds go: every process is measured, and its parts with it."""

import asyncio

import pytest

from benchmarks.stages import GATEWAY, OWN, RANKER, Rig, measure, own_us, table
from meshkit.bundles import Bundle, readable


@pytest.fixture(scope="module")
def rig(small_bundle: Bundle) -> Rig:
    with readable(small_bundle):
        return Rig(small_bundle)


def test_every_process_is_measured_whole_and_in_parts(rig: Rig) -> None:
    figures = asyncio.run(measure(rig, passes=3))

    own = {each.process: each.us for each in figures if each.piece == OWN}
    assert list(own) == [GATEWAY, *rig.mesh.tables.facts.sources, RANKER]
    assert own_us(figures) == pytest.approx(sum(own.values()))
    for process in own:
        parts = [each for each in figures if each.process == process and each.piece != OWN]
        assert sum(each.share for each in parts) == pytest.approx(1.0)
    work = {each.piece for each in figures if each.is_work}
    assert work == {"read the history", "retrieve", "features", "score"}
    assert len(table(figures).splitlines()) == len(figures) + 3


def test_what_is_measured_answers_as_the_mesh_does(rig: Rig) -> None:
    answer = asyncio.run(rig.answer())

    assert not answer.is_degraded
    assert [source.source for source in answer.sources] == list(rig.mesh.tables.facts.sources)
    assert answer.ranker.scores is not None
