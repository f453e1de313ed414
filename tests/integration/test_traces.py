"""The spans of an answer, as a collector receives them from the processes that worked on it."""

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from recmesh.gateway.v1 import gateway_pb2 as pb
from recmesh.gateway.v1 import gateway_pb2_grpc

from meshkit.bundles import Bundle
from tests.integration.meshkit_children import DEADLINE_S, ROOT, Child, free_port, wait_until
from tests.integration.service_process import service
from tests.integration.span_collector import SpanCollector, collecting, tree_of
from tests.small_bundle import ITEM_IDS

CALLER_SPAN = "b7ad6b7169203331"
SAMPLED, UNSAMPLED = "01", "00"
LEAVES = ("ann", "similar", "trending", "ranker")
CALLER_LIMIT_S = 3.0
TRIES = 3
QUICK_BATCHES = {"OTEL_BSP_SCHEDULE_DELAY": "20"}


@dataclass(frozen=True, slots=True)
class Mesh:
    """Gateways over the same leaves, and the collector that all of them send their spans to."""

    collector: SpanCollector
    gateway: grpc.Channel
    hasty_gateway: grpc.Channel
    """Calls a slow leaf a second time; the others do not."""
    lame_gateway: grpc.Channel
    """Neither `trending` nor the ranker can be reached from here."""
    faults: Path

    def ask(
        self, flags: str, *, gateway: grpc.Channel | None = None, **options: Any
    ) -> tuple[str, Any]:
        """Begin a request; return its trace id and the call."""
        trace_id = secrets.token_hex(16)
        stub = gateway_pb2_grpc.RecommendationServiceStub(gateway or self.gateway)
        request = pb.RecommendRequest(
            seed_item_ids=[ITEM_IDS[0]], surface="batch", page_size=6, **options
        )
        metadata = (("traceparent", f"00-{trace_id}-{CALLER_SPAN}-{flags}"),)
        return trace_id, stub.Recommend.future(request, timeout=CALLER_LIMIT_S, metadata=metadata)

    def answered(self, flags: str, **options: Any) -> str:
        """Make a request; return its trace id."""
        trace_id, call = self.ask(flags, **options)
        answer = call.result()
        assert answer.recommendation_id.startswith(f"{trace_id}-")
        return trace_id

    def break_leaf(self, leaf: str, fault: str) -> None:
        (self.faults / leaf).write_text(fault)

    def mend(self) -> None:
        for fault in self.faults.iterdir():
            fault.unlink()

    def tree(self, trace_id: str) -> str:
        return tree_of(self.collector.trace(trace_id), CALLER_SPAN)

    def expect(self, trace_id: str, expected: str) -> None:
        """Wait for the trace to look so; it must still do so when all exporters had their time."""
        self._looks(trace_id, expected)
        assert self.tree(trace_id) == expected

    def expected(self, ask: Callable[[], str], expected: str) -> str:
        """Ask, by a function that returns the trace id, and wait for the trace to look so.

        It has three tries: a machine that stands still for a second makes any leaf late.
        """
        for _ in range(TRIES):
            trace_id = ask()
            if self._looks(trace_id, expected):
                break
            self.mend()
        assert self.tree(trace_id) == expected
        return trace_id

    def _looks(self, trace_id: str, expected: str) -> bool:
        ends_s = time.monotonic() + DEADLINE_S
        while self.tree(trace_id) != expected and time.monotonic() < ends_s:
            time.sleep(0.02)
        return self.tree(trace_id) == expected


@contextmanager
def leaf(directory: Path, name: str, kind: str, settings: dict[str, str]) -> Iterator[Child]:
    """Run a leaf until the block ends."""
    address_file, errors = directory / f"{name}.address", directory / f"{name}.errors"
    told = {
        "RECMESH_ADDRESS_FILE": str(address_file),
        "FAULT_FILE": str(directory / "faults" / kind),
        **settings,
    }
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.faulty_leaf", kind],
            cwd=ROOT,
            env={**os.environ, **told},
            stderr=stderr,
        )
    try:
        yield Child(name, process, address_file, errors)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def whole_mesh(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    directory = tmp_path_factory.mktemp("traces")
    (directory / "faults").mkdir()
    with ExitStack() as running:
        collector, endpoint = running.enter_context(collecting())
        common = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint,
            "RECMESH_BUNDLES": str(small_bundle.path.parent),
            "RECMESH_VERIFIER": "none",
            **QUICK_BATCHES,
        }
        workers = {
            name: running.enter_context(leaf(directory, name, name.rstrip("2"), common))
            for name in (*LEAVES, "ann2")
        }
        for worker in workers.values():
            worker.wait_until_serving()
        at = {name: worker.address for name, worker in workers.items()}
        nobody = f"127.0.0.1:{free_port()}"
        near = f"ann={at['ann']};{at['ann2']},similar={at['similar']}"
        whole = {
            "RECMESH_SOURCES": f"{near},trending={at['trending']}",
            "RECMESH_RANKER": at["ranker"],
        }
        patient = {"RECMESH_HEDGING": "false"}
        lame = {
            "RECMESH_SOURCES": f"{near},trending={nobody}",
            "RECMESH_RANKER": nobody,
            "RECMESH_KEPT_PER_S": "2",
        }
        yield Mesh(
            collector,
            _gateway(running, directory / "whole", {**common, **whole, **patient}),
            _gateway(running, directory / "hasty", {**common, **whole}),
            _gateway(running, directory / "lame", {**common, **lame, **patient}),
            directory / "faults",
        )


def _gateway(running: ExitStack, directory: Path, settings: dict[str, str]) -> grpc.Channel:
    directory.mkdir()
    settings = {"RECMESH_CLOCK": "bundle", **settings}
    gateway = running.enter_context(service(directory, "gateway", **settings))
    return running.enter_context(grpc.insecure_channel(gateway.address))


@pytest.fixture
def mesh(whole_mesh: Mesh) -> Iterator[Mesh]:
    """The mesh, with every leaf at its best."""
    whole_mesh.mend()
    yield whole_mesh
    whole_mesh.mend()


# What a part of the tree looks like. A `*` marks what only its own process knows of: in a trace
# that is not sampled it is missing, since the caller never heard of it.

RETRIEVED = "OK\n  candidates-{0} Generate OK\n    candidates-{0} retrieve"
SCORED = "OK\n  ranker Rank OK\n    ranker features\n    ranker score"
UNREACHED = "UNAVAILABLE ERROR"


def calls(leaf: str, outcome: str = RETRIEVED, again: str = "") -> list[str]:
    """Return the lines of one call to a leaf."""
    return f"gateway -> {leaf} {again}{outcome.format(leaf)}".splitlines()


def tree(
    *,
    ann: str = RETRIEVED,
    similar: str = RETRIEVED,
    trending: str = RETRIEVED,
    ranker: str = SCORED,
    second_ann: str | None = None,
    code: str = "OK",
) -> str:
    """Return the whole tree of an answer."""
    fan_out = [
        *calls("ann", ann),
        *([] if second_ann is None else calls("ann", second_ann, "again ")),
        *calls("similar", similar),
        *calls("trending", trending),
    ]
    lines = [
        f"gateway Recommend {code}",
        "  gateway look_up",
        "  gateway fan_out",
        *(f"    {line}" for line in fan_out),
        *(f"  gateway {stage}" for stage in ("merge", "filter.seen", "filter.excluded")),
        "  gateway filter.rights",
        "  gateway rank",
        *(f"    {line}" for line in calls("ranker", ranker)),
        "  gateway re_rank",
    ]
    return "\n".join(lines)


def as_seen(expected: str, flags: str) -> str:
    """Return what a collector sees of a trace with these flags."""
    if flags == SAMPLED:
        return expected.replace("*", "")
    return "\n".join(line for line in expected.splitlines() if not line.endswith("*"))


def failed(code: str, *, is_server_fault: bool) -> str:
    """Return a source's part of a call that it refused or failed."""
    return f"{code} ERROR\n  candidates-{{0}} Generate {code}{' ERROR' * is_server_fault}"


BROKEN = failed("INTERNAL", is_server_fault=True)
LATE = (
    "DEADLINE_EXCEEDED ERROR\n  candidates-{0} Generate DEADLINE_EXCEEDED ERROR*\n"
    "    candidates-{0} retrieve*"
)
RETRIED = (
    "OK\n  candidates-{0} Generate UNAVAILABLE ERROR*\n  candidates-{0} Generate OK retried\n"
    "    candidates-{0} retrieve"
)
DOWN = (
    "UNAVAILABLE ERROR\n  candidates-{0} Generate UNAVAILABLE ERROR*\n"
    "  candidates-{0} Generate UNAVAILABLE ERROR retried"
)

# Every one of these answers is degraded, so that it is kept where it is not sampled.
MATRIX: dict[str, tuple[dict[str, str], str]] = {
    "abort": (
        {"ann": "abort"},
        tree(ann=failed("INVALID_ARGUMENT", is_server_fault=False)),
    ),
    "exception": ({"similar": "exception"}, tree(similar=BROKEN)),
    "shed": (
        {"trending": "shed"},
        tree(trending=failed("RESOURCE_EXHAUSTED", is_server_fault=False)),
    ),
    "deadline": ({"ann": "slower once"}, tree(ann=LATE)),
    "retry": (
        {"similar": "unavailable once", "trending": "exception"},
        tree(similar=RETRIED, trending=BROKEN),
    ),
    "unavailable": ({"trending": "unavailable"}, tree(trending=DOWN)),
    "ranker fails": (
        {"ranker": "exception"},
        tree(ranker="INTERNAL ERROR\n  ranker Rank INTERNAL ERROR\n    ranker features"),
    ),
}


@pytest.mark.parametrize("flags", [SAMPLED, UNSAMPLED], ids=["sampled", "unsampled"])
@pytest.mark.parametrize("case", MATRIX)
def test_every_outcome_is_one_trace_of_all_processes(mesh: Mesh, case: str, flags: str) -> None:
    faults, expected = MATRIX[case]

    def ask() -> str:
        for name, fault in faults.items():
            mesh.break_leaf(name, fault)
        return mesh.answered(flags)

    mesh.expected(ask, as_seen(expected, flags))


def test_a_whole_sampled_answer_is_one_trace_of_five_processes(mesh: Mesh) -> None:
    trace_id = mesh.expected(partial(mesh.answered, SAMPLED), tree())

    spans = mesh.collector.trace(trace_id)
    assert len({each.instance for each in spans}) == 5
    assert {each.attributes.get("recmesh.kept") for each in spans} == {"sampled", None}


def test_a_whole_quick_answer_that_is_not_sampled_exports_nothing(mesh: Mesh) -> None:
    def kept() -> list[str]:
        unsampled = [mesh.answered(UNSAMPLED) for _ in range(5)]
        mesh.expected(partial(mesh.answered, SAMPLED), tree())  # exporters keep the order
        return [one for one in map(mesh.tree, unsampled) if one]

    # On a machine that stands still an answer may be neither whole nor quick.
    assert any(kept() == [] for _ in range(TRIES))


def test_a_slow_answer_is_kept_though_nothing_failed(mesh: Mesh) -> None:
    def ask() -> str:
        mesh.break_leaf("ann", "slow once")
        mesh.break_leaf("ranker", "slower once")
        return mesh.answered(UNSAMPLED)

    trace_id = mesh.expected(ask, tree())

    (root, *_) = mesh.collector.trace(trace_id)
    assert root.attributes["recmesh.kept"] == "slow"


@pytest.mark.parametrize("case", ["exception", "abort", "ranker fails"])
def test_a_trace_from_notes_says_what_a_sampled_one_does(mesh: Mesh, case: str) -> None:
    faults, expected = MATRIX[case]

    def ask(flags: str) -> str:
        for name, fault in faults.items():
            mesh.break_leaf(name, fault)
        return mesh.answered(flags)

    traces = [mesh.expected(partial(ask, flags), expected) for flags in (SAMPLED, UNSAMPLED)]

    sampled, unsampled = (
        sorted(repr(each.facts) for each in mesh.collector.trace(trace_id)) for trace_id in traces
    )
    assert sampled == unsampled


@pytest.mark.parametrize("flags", [SAMPLED, UNSAMPLED], ids=["sampled", "unsampled"])
def test_a_caller_that_hangs_up_leaves_a_whole_trace(mesh: Mesh, flags: str) -> None:
    def ask() -> str:
        mesh.break_leaf("ann", "slower once")
        trace_id, call = mesh.ask(flags)
        wait_until(lambda: not (mesh.faults / "ann").exists())
        call.cancel()
        return trace_id

    mesh.expected(ask, as_seen(tree(ann=LATE, code="CANCELLED"), flags))


@pytest.mark.parametrize("flags", [SAMPLED, UNSAMPLED], ids=["sampled", "unsampled"])
def test_a_call_that_is_made_twice_has_two_spans(mesh: Mesh, flags: str) -> None:
    def attempt() -> str:
        for _ in range(40):  # from which it learns what is slow, and saves up
            mesh.answered(UNSAMPLED, gateway=mesh.hasty_gateway)
        mesh.break_leaf("ann", "slow once")
        mesh.break_leaf("trending", "exception")
        trace_id = mesh.answered(flags, gateway=mesh.hasty_gateway)
        mesh.mend()
        wait_until(lambda: "Recommend" in mesh.tree(trace_id))
        return trace_id

    traces = (attempt() for _ in range(5))  # what it saved up may have gone for a slow machine
    trace_id = next(each for each in traces if "again" in mesh.tree(each))

    mesh.expect(trace_id, tree(second_ann=RETRIEVED, trending=BROKEN))


@pytest.mark.parametrize("flags", [SAMPLED, UNSAMPLED], ids=["sampled", "unsampled"])
def test_what_cannot_be_reached_is_a_failed_call_without_children(mesh: Mesh, flags: str) -> None:
    def is_kept() -> bool:
        traces.append(mesh.answered(flags, gateway=mesh.lame_gateway))
        time.sleep(0.3)  # no more are kept
        return mesh.tree(traces[-1]) != ""

    traces: list[str] = []
    wait_until(is_kept)

    mesh.expect(traces[-1], tree(trending=UNREACHED, ranker=UNREACHED))


def test_an_outage_keeps_no_more_traces_than_its_budget(mesh: Mesh) -> None:
    started_s = time.monotonic()
    traces = [mesh.answered(UNSAMPLED, gateway=mesh.lame_gateway) for _ in range(40)]
    took_s = time.monotonic() - started_s
    mesh.expected(
        partial(mesh.answered, SAMPLED, gateway=mesh.lame_gateway),
        tree(trending=UNREACHED, ranker=UNREACHED),
    )

    kept = [each for each in traces if mesh.tree(each)]

    assert 1 <= len(kept) <= 3 + 2 * took_s


@pytest.mark.parametrize("flags", [SAMPLED, UNSAMPLED], ids=["sampled", "unsampled"])
def test_a_refused_request_is_no_error_and_is_kept_only_if_sampled(mesh: Mesh, flags: str) -> None:
    trace_id, call = mesh.ask(flags, market="nowhere")
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    mesh.expected(partial(mesh.answered, SAMPLED), tree())
    expected = "gateway Recommend INVALID_ARGUMENT" if flags == SAMPLED else ""
    assert mesh.tree(trace_id) == expected


def test_no_text_of_a_user_an_item_or_a_leafs_error_is_in_a_trace_from_notes(mesh: Mesh) -> None:
    def ask() -> str:
        mesh.break_leaf("ann", "exception")
        return mesh.answered(UNSAMPLED, user_id="somebody")

    trace_id = mesh.expected(ask, as_seen(tree(ann=BROKEN), UNSAMPLED))
    sent = " ".join(str(each.span) for each in mesh.collector.trace(trace_id))
    assert not re.search(f"secret|somebody|{ITEM_IDS[0]}", sent)
