"""The parts of a drill: records, stalls, vitals, the table, and the command around them."""

import json
import os
import random
import threading
from collections import Counter
from io import StringIO
from itertools import islice
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from meshctl.app import command_line
from meshctl.drills.child import DrillError, Heartbeats, running_load
from meshctl.drills.heartbeat import Stalls
from meshctl.drills.load import DECK, LoadPlan, kinds
from meshctl.drills.mesh import pin, with_dynamodb_proxy
from meshctl.drills.records import RecordFile, SourceRecord, from_line, to_line
from meshctl.drills.report import Finding, is_failure, print_findings, write_findings
from meshctl.drills.verdicts import percentile
from meshctl.drills.vitals import Vitals, cpu_between, growth_bytes, theil_sen, vitals_of
from meshctl.standard_mesh import DYNAMODB_ENDPOINT, MeshSettings, standard_specs
from tests.unit.drill_records import STARTED_S, answered

HELD = Finding("a", "done", "promise", "measured", is_held=True)
LATE = Finding("a", "done", "promise", "measured", is_held=False, about="time")
WRONG = Finding("b", "done", "promise", "measured", is_held=False)


def test_a_record_survives_its_line() -> None:
    sources = {"trending": SourceRecord("STALE", 0.004, 12.5, hedged=True)}
    record = answered(1.0, sources=sources, degraded=True, quality=0.5, outcome="OK", kind="short")

    assert from_line(to_line(record)) == record


def test_a_record_file_is_read_along_without_half_lines(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    file = RecordFile(path)
    lines = [to_line(answered(float(n))) for n in range(3)]

    seen = [len(file.records())]
    path.write_text(f"{lines[0]}\n{lines[1][:20]}")
    seen.append(len(file.records()))
    path.write_text(f"{lines[0]}\n{lines[1]}\n{lines[2]}\n")
    seen.append(len(file.records()))

    assert seen == [0, 1, 3]
    assert file.records()[2] == from_line(lines[2])


@pytest.mark.parametrize("seed", range(3))
def test_each_deck_of_requests_holds_the_shares_that_are_meant_to_fail(seed: int) -> None:
    plan = LoadPlan(targets=(), slates=(), records="", short_share=0.10, cancelled_share=0.05)
    drawn = kinds(plan, random.Random(seed))  # noqa: S311 - no secret

    decks = [list(islice(drawn, DECK)) for _ in range(3)]

    assert all(Counter(deck) == {"short": 10, "cancelled": 5, "plain": 85} for deck in decks)
    assert decks[0] != decks[1]


def test_a_stall_counts_for_the_requests_that_it_overlaps() -> None:
    stalls = Stalls.of([(STARTED_S + 2.0, STARTED_S + 2.1), (STARTED_S + 1.0, STARTED_S + 1.1)])

    overlapped = [
        began_s
        for began_s in (0.8, 0.95, 1.05, 1.2, 1.95, 2.2)
        if stalls.overlap(answered(began_s, latency_s=0.1))
    ]

    assert overlapped == [0.95, 1.05, 1.95]


def test_stalls_of_several_cores_are_counted_once() -> None:
    stalls = Stalls.of([(1.0, 2.0), (1.5, 3.0), (5.0, 6.0)])

    assert stalls.intervals == ((1.0, 3.0), (5.0, 6.0))
    assert stalls.total_s() == 3.0


def test_heartbeats_run_on_their_cores_and_end(tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))

    with Heartbeats(tmp_path, [[core]]) as heartbeats:
        stalls = heartbeats.stalls()

    assert (tmp_path / "stalls-0").exists()
    assert stalls.total_s() >= 0


def test_a_slope_is_robust_against_a_quarter_of_wild_points() -> None:
    draw = random.Random(1)  # noqa: S311 - the same points every time
    points = [(float(x), 3.0 * x + draw.uniform(-1, 1)) for x in range(200)]
    wild = [(x, y if x % 4 else 1e6) for x, y in points]

    assert theil_sen(points) == pytest.approx(3.0, rel=0.01)
    assert theil_sen(wild) == pytest.approx(3.0, rel=0.1)
    assert theil_sen([(1.0, 2.0), (1.0, 5.0)]) == 0.0


def test_a_slope_of_many_points_is_the_same_every_time() -> None:
    points = [(float(x), 2.0 * x) for x in range(2_000)]

    assert theil_sen(points) == theil_sen(points) == pytest.approx(2.0)


def test_growth_is_from_the_first_note_to_the_highest() -> None:
    notes = [Vitals(float(n), rss, 2.0 * n) for n, rss in enumerate((100, 90, 150, 120))]

    assert growth_bytes(notes) == 50
    assert growth_bytes([]) == 0
    assert cpu_between(notes, 0.9, 3.2) == 4.0


def test_our_own_vitals_can_be_read() -> None:
    vitals = vitals_of(os.getpid())

    assert vitals is not None
    assert vitals.rss_bytes > 1_000_000
    assert vitals.cpu_s > 0


def test_pinning_holds_for_every_thread() -> None:
    cores = os.sched_getaffinity(0)
    one, is_over = {min(cores)}, threading.Event()
    thread = threading.Thread(target=is_over.wait)
    thread.start()
    try:
        pin([os.getpid()], sorted(one))
        pinned = {frozenset(os.sched_getaffinity(thread.native_id or 0)), frozenset(one)}
    finally:
        pin([os.getpid()], sorted(cores))
        is_over.set()
        thread.join()

    assert pinned == {frozenset(one)}


def test_percentiles_of_few_values() -> None:
    assert percentile([], 99) == 0.0
    assert percentile([5.0], 99) == 5.0
    assert percentile([float(n) for n in range(101)], 99) == 99.0


def test_a_small_drill_fails_on_states_only() -> None:
    assert not is_failure(HELD, is_small=False)
    assert is_failure(LATE, is_small=False)
    assert not is_failure(LATE, is_small=True)
    assert is_failure(WRONG, is_small=True)


def test_the_table_says_what_was_not_held() -> None:
    console = Console(record=True, width=100, file=StringIO())

    print_findings(console, [HELD, LATE, WRONG], is_small=True)

    text = console.export_text()
    assert "not held (small)" in text
    assert text.count("NOT HELD") == 1


def test_json_says_what_fails(tmp_path: Path) -> None:
    write_findings(tmp_path / "found.json", [HELD, LATE, WRONG], is_small=False)

    found = json.loads((tmp_path / "found.json").read_text())
    assert [each["is_failure"] for each in found["findings"]] == [False, True, True]
    assert found["findings"][1]["about"] == "time"


def test_a_load_without_a_mesh_says_so(tmp_path: Path) -> None:
    plan = LoadPlan(targets=(), slates=(("a",),), records=str(tmp_path / "r"), per_s=1.0)

    with pytest.raises(DrillError, match="did not connect"), running_load(plan):
        pass


def test_only_trending_reaches_dynamodb_through_the_fault_proxy(tmp_path: Path) -> None:
    settings = MeshSettings(bundles=tmp_path, prepare_dynamodb=lambda _: None, port=0)
    before = {spec.name: spec for spec in standard_specs(settings)}

    proxied = {spec.name: spec for spec in with_dynamodb_proxy(tuple(before.values()), tmp_path)}

    changed = {name for name in before if proxied[name] != before[name]}
    assert changed == {"candidates-trending"}
    assert proxied["candidates-trending"].waits_for == ("fault-dynamodb",)
    assert proxied["candidates-trending"].env[DYNAMODB_ENDPOINT] == "http://{fault-dynamodb}"
    assert proxied["fault-dynamodb"].env["RECMESH_UPSTREAM"] == "{dynamodb}"


def test_a_plan_survives_its_file() -> None:
    plan = LoadPlan(
        targets=("127.0.0.1:1",), slates=(("a", "b"), ("c",)), records="r", callers=3, cores=(0,)
    )

    assert LoadPlan.from_json(plan.to_json()) == plan


def test_drills_can_be_listed_and_a_wrong_name_is_refused() -> None:
    listed = CliRunner().invoke(command_line(["drill"]), ["drill", "--list"])
    refused = CliRunner().invoke(command_line(["drill"]), ["drill", "--only", "leaf-fault"])

    assert listed.exit_code == 0
    assert len(listed.stdout.splitlines()) == 8
    assert refused.exit_code == 2
    assert "leaf-faults" in refused.stderr
