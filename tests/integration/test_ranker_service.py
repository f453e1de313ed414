"""A real ranker process over a tiny bundle."""

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from recmesh.common.v1 import common_pb2
from recmesh.ranker.v1 import ranker_pb2 as pb
from recmesh.ranker.v1 import ranker_pb2_grpc

from meshkit.bundles import Bundle
from services.ranker.adapters.bundle_item_tables import open_item_tables
from services.ranker.adapters.lightgbm_model import LightgbmModel
from services.ranker.domain.features import feature_names
from services.ranker.domain.rank import rank
from services.ranker.domain.values import RankingQuery, SourceColumn
from signals.bundle_facts import BundleFacts
from tests.integration.meshkit_children import DEADLINE_S
from tests.integration.service_process import service, violations
from tests.small_bundle import ITEM_IDS

N_ITEMS = len(ITEM_IDS)
NAN = float("nan")


@pytest.fixture(scope="module")
def stub(
    small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ranker_pb2_grpc.RankerServiceStub]:
    directory = tmp_path_factory.mktemp("ranker")
    bundles = str(small_bundle.path.parent)
    with (
        service(directory, "ranker", RECMESH_BUNDLES=bundles) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        yield ranker_pb2_grpc.RankerServiceStub(channel)


def column(source: str = "ann", ranks: Any = (1, 0, 2), scores: Any = (9.5, 0, 3)) -> Any:
    return pb.SourceColumn(source=source, ranks=ranks, scores=scores)


def history(rows: Any = (4, 5), ages_s: Any = (10, 20), seen_filter: bytes = b"") -> Any:
    return common_pb2.History(rows=rows, ages_s=ages_s, seen_filter=seen_filter)


def request_of(bundle: Bundle, **fields: Any) -> pb.RankRequest:
    usual: dict[str, Any] = {
        "bundle_version": bundle.version,
        "rows": [40, 7, 12],
        "sources": [column()],
        "history": history(),
        "market": "SE",
    }
    return pb.RankRequest(**{**usual, **fields})


def in_process(bundle: Bundle, request: pb.RankRequest) -> list[float]:
    """Score a request with the code that training runs."""
    tables = open_item_tables(bundle.path, BundleFacts.from_json(bundle.manifest.facts))
    query = RankingQuery(
        rows=np.array(request.rows, dtype=np.uint32),
        sources={
            each.source: SourceColumn(
                np.array(each.ranks, dtype=np.uint32), np.array(each.scores, dtype=np.float32)
            )
            for each in request.sources
        },
        history_rows=np.array(request.history.rows, dtype=np.uint32),
        history_ages_s=np.array(request.history.ages_s, dtype=np.float32),
    )
    scores: list[float] = rank(
        query, tables, LightgbmModel.open(bundle.path, feature_names())
    ).tolist()
    return scores


def refusal(stub: ranker_pb2_grpc.RankerServiceStub, request: pb.RankRequest) -> Any:
    with pytest.raises(grpc.RpcError) as refused:
        stub.Rank(request, timeout=DEADLINE_S)
    return refused.value


def test_scores_are_exactly_those_of_the_code_that_trains(
    stub: ranker_pb2_grpc.RankerServiceStub, small_bundle: Bundle
) -> None:
    random = np.random.default_rng(3)
    rows = random.permutation(N_ITEMS)[:50]
    ranks = random.permutation(50)
    request = request_of(
        small_bundle,
        rows=rows,
        sources=[
            column("ann", ranks, np.where(ranks > 0, random.random(50), 0)),
            column("similar", np.zeros(50, dtype=int), np.zeros(50)),
            column("another", ranks, np.ones(50)),
        ],
        history=history(random.integers(0, N_ITEMS, 200), np.sort(random.random(200) * 1e6)),
    )

    response = stub.Rank(request, timeout=DEADLINE_S)

    assert list(response.scores) == in_process(small_bundle, request)
    assert len(set(response.scores)) > 1
    assert response.bundle_version == small_bundle.version


def test_a_request_of_rows_alone_is_scored(
    stub: ranker_pb2_grpc.RankerServiceStub, small_bundle: Bundle
) -> None:
    request = pb.RankRequest(bundle_version=small_bundle.version, rows=range(N_ITEMS))

    response = stub.Rank(request, timeout=DEADLINE_S)

    assert list(response.scores) == in_process(small_bundle, request)
    assert len(response.scores) == N_ITEMS


@pytest.mark.parametrize("version", ["", "another", "x" * 5_000])
def test_another_version_is_refused_saying_which_is_held(
    stub: ranker_pb2_grpc.RankerServiceStub, small_bundle: Bundle, version: str
) -> None:
    error = refusal(stub, request_of(small_bundle, bundle_version=version))

    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert small_bundle.version in error.details()


@pytest.mark.parametrize(
    ("fields", "field", "fault"),
    [
        ({"rows": [], "sources": []}, "rows", "is empty; 1 to 2000"),
        ({"rows": range(2001), "sources": []}, "rows", "at most 2000"),
        ({"rows": [1, 2, 1]}, "rows", "holds a row more than once"),
        ({"rows": [1, 2, N_ITEMS]}, "rows", f"holds row {N_ITEMS}; the bundle's rows are below"),
        ({"rows": [1, 2, 2**32 - 1]}, "rows", f"below {N_ITEMS}"),
        ({"sources": [column(str(n)) for n in range(17)]}, "sources", "at most 16"),
        ({"sources": [column(), column()]}, "sources", "names a source more than once"),
        ({"sources": [column("")]}, "sources[0].source", "is empty"),
        ({"sources": [column(), column("b", ranks=[1, 2])]}, "sources[1]", "needs 3 ranks"),
        ({"sources": [column(scores=[1.0])]}, "sources[0]", "needs 3 ranks"),
        ({"sources": [column(scores=[1, NAN, 2])]}, "sources[0].scores", "not finite"),
        ({"sources": [column(scores=[1, float("inf"), 2])]}, "sources[0].scores", "not finite"),
        ({"history": history([0] * 201, [0] * 201)}, "history.rows", "at most 200"),
        ({"history": history([1, N_ITEMS])}, "history.rows", f"holds row {N_ITEMS}"),
        ({"history": history(ages_s=[1])}, "history.ages_s", "one a row, 2,"),
        ({"history": history(ages_s=[1, -1])}, "history.ages_s", "negative"),
        ({"history": history(ages_s=[1, NAN])}, "history.ages_s", "not finite"),
        ({"history": history(seen_filter=b"123")}, "history.seen_filter", "power of two"),
        (
            {"history": history(seen_filter=bytes(131_072))},
            "history.seen_filter",
            "at most 65536",
        ),
        ({"market": "se"}, "market", "two upper-case letters"),
    ],
)
def test_a_field_outside_its_limit_is_refused_by_name(
    stub: ranker_pb2_grpc.RankerServiceStub,
    small_bundle: Bundle,
    fields: dict[str, Any],
    field: str,
    fault: str,
) -> None:
    error = refusal(stub, request_of(small_bundle, **fields))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in violations(error)
    assert fault in error.details()


def test_a_fault_is_named_by_the_place_in_the_request_though_a_name_is_doubled(
    stub: ranker_pb2_grpc.RankerServiceStub, small_bundle: Bundle
) -> None:
    sources = [column(), column(), column("b", scores=[1, NAN, 2])]

    error = refusal(stub, request_of(small_bundle, sources=sources))

    assert list(violations(error)) == ["sources", "sources[2].scores"]


def test_every_field_at_fault_is_named_at_once(
    stub: ranker_pb2_grpc.RankerServiceStub, small_bundle: Bundle
) -> None:
    error = refusal(stub, request_of(small_bundle, rows=[1, 2, 99], market="?"))

    assert set(violations(error)) == {"rows", "market"}
