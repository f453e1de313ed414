"""The asynchronous client against a real gRPC server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import (
    error_details_pb2 as details,
)
from recmesh.common.v1 import common_pb2
from recmesh.gateway.v1 import gateway_pb2 as pb

from recmesh_client import (
    AsyncRecommendationClient,
    Coverage,
    DeadlineExceeded,
    FieldViolation,
    HistoryCoverage,
    InvalidRequest,
    Overloaded,
    Provenance,
    RankedBy,
    Recommendation,
    RecommendedItem,
    RecommendError,
    ServerFault,
    SourceCoverage,
    SourceStatus,
    Tier,
    Unavailable,
)
from recmesh_client.channel import grpc_target
from tests.integration.scripted_gateway import ScriptedGateway, answer, echo, fail

T = TypeVar("T")
Code = grpc.StatusCode
PATIENCE_S = 20.0


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with ScriptedGateway(echo("v1")).serving() as gateway:
        yield gateway


def run(
    gateway: ScriptedGateway,
    use: Callable[[AsyncRecommendationClient], Awaitable[T]],
    *,
    default_timeout_s: float | None = PATIENCE_S,
) -> T:
    async def main() -> T:
        async with AsyncRecommendationClient(
            gateway.address, default_timeout_s=default_timeout_s
        ) as client:
            await client.wait_until_ready(PATIENCE_S)
            return await use(client)

    return asyncio.run(main())


# What goes out and what comes back


def test_an_answer_comes_back_as_frozen_typed_values(gateway: ScriptedGateway) -> None:
    gateway.default = answer(
        pb.RecommendResponse(
            recommendation_id="r1",
            bundle_version="v7",
            items=[
                pb.Item(
                    item_id="t1",
                    score=0.5,
                    sources=[pb.Provenance(source="similar", rank=3, score=2.0)],
                    title="Song",
                    artist="Band",
                )
            ],
            coverage=pb.Coverage(
                sources=[
                    pb.SourceCoverage(
                        source="trending",
                        status=common_pb2.SOURCE_STATUS_STALE,
                        latency=Duration(nanos=4_500_000),
                        candidates=9,
                        data_age=Duration(seconds=61),
                        hedged=True,
                    ),
                    pb.SourceCoverage(source="ann", status=common_pb2.SOURCE_STATUS_DISABLED),
                ],
                ranked_by=pb.RANKED_BY_MODEL,
                ranker_latency=Duration(nanos=7_000_000),
                degraded=True,
                filled_from_popularity=1,
                ignored_item_ids=2,
                tier=common_pb2.TIER_TRENDING_MARKET,
                quality=0.5,
            ),
        )
    )

    recommendation = run(gateway, lambda client: client.recommend("u1"))

    assert recommendation == Recommendation(
        recommendation_id="r1",
        bundle_version="v7",
        items=(RecommendedItem("t1", 0.5, (Provenance("similar", 3, 2.0),), "Song", "Band"),),
        coverage=Coverage(
            sources=(
                SourceCoverage("trending", SourceStatus.STALE, 0.0045, 9, 61.0, hedged=True),
                SourceCoverage("ann", SourceStatus.DISABLED, None, 0, None),
            ),
            ranked_by=RankedBy.MODEL,
            ranker_latency_s=0.007,
            degraded=True,
            filled_from_popularity=1,
            ignored_item_ids=2,
            tier=Tier.TRENDING_MARKET,
            quality=0.5,
        ),
    )
    assert hash(recommendation)


def test_what_came_of_the_history_comes_back_too(gateway: ScriptedGateway) -> None:
    history = pb.HistoryCoverage(
        status=common_pb2.SOURCE_STATUS_TIMEOUT, latency=Duration(nanos=20_000_000)
    )
    gateway.default = answer(pb.RecommendResponse(coverage=pb.Coverage(history=history)))

    recommendation = run(gateway, lambda client: client.recommend())

    assert recommendation.coverage.history == HistoryCoverage(SourceStatus.TIMEOUT, 0.02)


def test_a_gateway_older_than_stored_histories_says_nothing_of_them(
    gateway: ScriptedGateway,
) -> None:
    gateway.default = answer(pb.RecommendResponse(coverage=pb.Coverage()))

    recommendation = run(gateway, lambda client: client.recommend())

    assert recommendation.coverage.history == HistoryCoverage(SourceStatus.UNSPECIFIED, None)


def test_the_enums_hold_every_value_of_the_contract() -> None:
    def short_names(enum: object, prefix: str) -> dict[str, int]:
        return {name.removeprefix(prefix): number for name, number in enum.items()}  # type: ignore[attr-defined]  # EnumTypeWrapper

    assert {s.name: s.value for s in SourceStatus} == short_names(
        common_pb2.SourceStatus, "SOURCE_STATUS_"
    )
    assert {r.name: r.value for r in RankedBy} == short_names(pb.RankedBy, "RANKED_BY_")
    assert {t.name: t.value for t in Tier} == short_names(common_pb2.Tier, "TIER_")


def test_a_status_newer_than_the_client_reads_as_unspecified(gateway: ScriptedGateway) -> None:
    newer = pb.SourceCoverage(source="ann", status=99)  # type: ignore[arg-type]  # not in our enum yet
    gateway.default = answer(pb.RecommendResponse(coverage=pb.Coverage(sources=[newer])))

    recommendation = run(gateway, lambda client: client.recommend())

    assert recommendation.coverage.sources[0].status is SourceStatus.UNSPECIFIED


def test_a_gateway_that_says_no_tier_and_no_quality_is_older_than_both(
    gateway: ScriptedGateway,
) -> None:
    gateway.default = answer(pb.RecommendResponse(coverage=pb.Coverage()))

    coverage = run(gateway, lambda client: client.recommend()).coverage

    assert (coverage.tier, coverage.quality) == (Tier.UNSPECIFIED, None)


def test_a_request_carries_every_argument_and_the_metadata(gateway: ScriptedGateway) -> None:
    run(
        gateway,
        lambda client: client.recommend(
            "u1",
            page_size=7,
            surface="batch",
            market="SE",
            seed_item_ids=["a", "b"],
            exclude_item_ids=("c",),
            metadata=[("traceparent", "00-1-2-01")],
        ),
    )

    assert gateway.requests == [
        pb.RecommendRequest(
            user_id="u1",
            page_size=7,
            surface="batch",
            market="SE",
            seed_item_ids=["a", "b"],
            exclude_item_ids=["c"],
        )
    ]
    assert gateway.metadata[0]["traceparent"] == "00-1-2-01"


# What a call can fail with


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (Code.INVALID_ARGUMENT, InvalidRequest),
        (Code.RESOURCE_EXHAUSTED, Overloaded),
        (Code.DEADLINE_EXCEEDED, DeadlineExceeded),
        (Code.CANCELLED, Unavailable),
        (Code.INTERNAL, ServerFault),
        (Code.UNKNOWN, ServerFault),
        (Code.UNIMPLEMENTED, ServerFault),
        (Code.UNAUTHENTICATED, ServerFault),
    ],
)
def test_every_status_but_unavailable_maps_to_its_error_at_the_first_attempt(
    gateway: ScriptedGateway, code: grpc.StatusCode, error: type[RecommendError]
) -> None:
    gateway.default = fail(code, "because")

    with pytest.raises(error, match="because") as caught:
        run(gateway, lambda client: client.recommend())

    assert caught.type is error
    assert caught.value.code is code
    assert len(gateway.requests) == 1


def test_an_invalid_request_names_every_field_at_fault(gateway: ScriptedGateway) -> None:
    gateway.default = fail(
        Code.INVALID_ARGUMENT,
        "2 fields",
        details.BadRequest(
            field_violations=[
                {"field": "page_size", "description": "is 201, at most 200"},
                {"field": "market", "description": "is 'se', need upper case"},
            ]
        ),
    )

    with pytest.raises(InvalidRequest, match="page_size: is 201, at most 200; market:") as caught:
        run(gateway, lambda client: client.recommend(page_size=201, market="se"))

    assert caught.value.violations == (
        FieldViolation("page_size", "is 201, at most 200"),
        FieldViolation("market", "is 'se', need upper case"),
    )


@pytest.mark.parametrize(
    ("retry_info", "retry_after_s"),
    [((), None), ((details.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000)),), 1.5)],
)
def test_an_overloaded_service_says_how_long_to_wait_if_it_knows(
    gateway: ScriptedGateway,
    retry_info: tuple[details.RetryInfo, ...],
    retry_after_s: float | None,
) -> None:
    gateway.default = fail(Code.RESOURCE_EXHAUSTED, "full", *retry_info)

    with pytest.raises(Overloaded) as caught:
        run(gateway, lambda client: client.recommend())

    assert caught.value.retry_after_s == retry_after_s


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"page_size": 2**31}, "page_size"),
        ({"user_id": "\ud800"}, "user_id"),
        ({"seed_item_ids": ["a", "\ud800"]}, "seed_item_ids"),
    ],
)
def test_a_value_that_no_message_can_carry_is_refused_before_any_call(
    gateway: ScriptedGateway, arguments: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        run(gateway, lambda client: client.recommend(**arguments))  # type: ignore[arg-type]  # mixed on purpose

    assert [violation.field for violation in caught.value.violations] == [field]
    assert gateway.requests == []


def test_a_string_is_not_taken_for_a_sequence_of_item_ids(gateway: ScriptedGateway) -> None:
    with pytest.raises(TypeError, match="seed_item_ids: need a sequence"):
        run(gateway, lambda client: client.recommend(seed_item_ids="track-1"))


# Deadlines


def test_a_late_answer_is_a_deadline_exceeded(gateway: ScriptedGateway) -> None:
    gateway.default = gateway.hang

    with pytest.raises(DeadlineExceeded):
        run(gateway, lambda client: client.recommend(timeout_s=0.05))


@pytest.mark.parametrize("surface", ["", "home", "no-such-surface"])
def test_home_waits_its_budget_and_a_margin(gateway: ScriptedGateway, surface: str) -> None:
    gateway.default = gateway.hang

    with pytest.raises(DeadlineExceeded):
        run(gateway, lambda client: client.recommend(surface=surface), default_timeout_s=None)

    # the wire rounds a timeout up, by 1 % or so
    assert all(remaining_s <= 0.250 for remaining_s in gateway.remaining_s)


def test_batch_waits_longer_than_home(gateway: ScriptedGateway) -> None:
    run(gateway, lambda client: client.recommend(surface="batch"), default_timeout_s=None)

    assert 1.0 < gateway.remaining_s[0] < 6.0


def test_a_timeout_of_the_call_wins_over_the_clients(gateway: ScriptedGateway) -> None:
    run(gateway, lambda client: client.recommend(timeout_s=100.0), default_timeout_s=50.0)
    run(gateway, lambda client: client.recommend(), default_timeout_s=50.0)

    assert 60.0 < gateway.remaining_s[0] < 110.0
    assert 25.0 < gateway.remaining_s[1] < 60.0


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("inf"), float("nan")])
def test_an_unusable_timeout_is_refused(gateway: ScriptedGateway, timeout_s: float) -> None:
    with pytest.raises(ValueError, match="timeout_s: must be a finite number of seconds above 0"):
        run(gateway, lambda client: client.recommend(timeout_s=timeout_s))


# Retries


def test_unavailable_is_retried_once(gateway: ScriptedGateway) -> None:
    gateway.script.append(fail(Code.UNAVAILABLE, "starting"))

    recommendation = run(gateway, lambda client: client.recommend())

    assert recommendation.bundle_version == "v1"
    assert len(gateway.requests) == 2


def test_unavailable_twice_is_an_error(gateway: ScriptedGateway) -> None:
    gateway.script.extend([fail(Code.UNAVAILABLE, "starting")] * 2)

    with pytest.raises(Unavailable, match="starting"):
        run(gateway, lambda client: client.recommend())

    assert len(gateway.requests) == 2


def test_an_outage_is_not_answered_with_twice_the_load(gateway: ScriptedGateway) -> None:
    gateway.default = fail(Code.UNAVAILABLE, "down")

    async def ask_again_and_again(client: AsyncRecommendationClient) -> None:
        for _ in range(40):
            with pytest.raises(Unavailable):
                await client.recommend()

    run(gateway, ask_again_and_again)

    assert 40 < len(gateway.requests) < 50


# Life of a client


def test_a_closed_client_is_unavailable_and_closes_again(gateway: ScriptedGateway) -> None:
    async def close_first(client: AsyncRecommendationClient) -> None:
        await client.close()
        await client.recommend()

    with pytest.raises(Unavailable, match="is closed"):
        run(gateway, close_first)


def test_closing_fails_the_calls_in_flight(gateway: ScriptedGateway) -> None:
    gateway.default = gateway.hang

    async def close_in_flight(client: AsyncRecommendationClient) -> None:
        call = asyncio.ensure_future(client.recommend())
        await _eventually(lambda: bool(gateway.requests))
        await client.close()
        await call

    with pytest.raises(Unavailable, match="closed during the call"):
        run(gateway, close_in_flight)


def test_a_cancelled_task_stays_cancelled(gateway: ScriptedGateway) -> None:
    gateway.default = gateway.hang

    async def cancel_in_flight(client: AsyncRecommendationClient) -> None:
        call = asyncio.ensure_future(client.recommend())
        await _eventually(lambda: bool(gateway.requests))
        call.cancel()
        await call

    with pytest.raises(asyncio.CancelledError):
        run(gateway, cancel_in_flight)


def test_a_task_that_is_cancelled_while_the_client_closes_stays_cancelled(
    gateway: ScriptedGateway,
) -> None:
    gateway.default = gateway.hang

    async def cancel_and_close(client: AsyncRecommendationClient) -> None:
        call = asyncio.ensure_future(client.recommend())
        await _eventually(lambda: bool(gateway.requests))
        call.cancel()
        await client.close()
        await call

    with pytest.raises(asyncio.CancelledError):
        run(gateway, cancel_and_close)


def test_waiting_for_a_gateway_that_is_not_there_is_unavailable() -> None:
    async def main() -> None:
        async with AsyncRecommendationClient("127.0.0.1:1") as client:
            await client.wait_until_ready(0.1)

    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 was ready within 0\.1 s"):
        asyncio.run(main())


def test_a_call_to_a_gateway_that_is_not_there_is_unavailable() -> None:
    async def main() -> None:
        async with AsyncRecommendationClient("127.0.0.1:1") as client:
            await client.recommend(timeout_s=PATIENCE_S)

    with pytest.raises(Unavailable, match="UNAVAILABLE"):
        asyncio.run(main())


async def _eventually(claim: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not claim():
            await asyncio.sleep(0.005)


# Several gateways


def test_calls_go_round_the_gateways_that_serve() -> None:
    with (
        ScriptedGateway(echo("a")).serving() as a,
        ScriptedGateway(echo("b")).serving() as b,
        ScriptedGateway(echo("c")).serving() as c,
    ):
        c.set_serving(False)

        async def main() -> None:
            targets = [gateway.address for gateway in (a, b, c)]
            async with AsyncRecommendationClient(targets, default_timeout_s=PATIENCE_S) as client:
                await client.wait_until_ready(PATIENCE_S)
                async with asyncio.timeout(PATIENCE_S):
                    while not (a.requests and b.requests):
                        await client.recommend()

        asyncio.run(main())

        assert c.requests == []


def test_a_gateway_that_stops_serving_gets_no_more_calls(gateway: ScriptedGateway) -> None:
    with ScriptedGateway(echo("b")).serving() as other:

        async def main() -> None:
            targets = [gateway.address, other.address]
            async with AsyncRecommendationClient(targets, default_timeout_s=PATIENCE_S) as client:
                async with asyncio.timeout(PATIENCE_S):
                    while not (gateway.requests and other.requests):
                        await client.recommend()
                gateway.set_serving(False)
                async with asyncio.timeout(PATIENCE_S):
                    answers = ["v1"]
                    while "v1" in answers:
                        answers = [(await client.recommend()).bundle_version for _ in range(8)]

        asyncio.run(main())


@pytest.mark.parametrize(
    ("targets", "target"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("dns:///gateway.internal:8080", "dns:///gateway.internal:8080"),
        (["10.0.0.1:1"], "10.0.0.1:1"),
        (["10.0.0.1:1", "10.0.0.2:2"], "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (["[::1]:1", "[fe80::2]:2"], "ipv6:[::1]:1,[fe80::2]:2"),
    ],
)
def test_addresses_become_one_grpc_target(targets: str | list[str], target: str) -> None:
    assert grpc_target(targets) == target


@pytest.mark.parametrize(
    ("targets", "fault"),
    [
        ("", "need at least one gateway address"),
        ([], "need at least one gateway address"),
        (["10.0.0.1:1", ""], "none empty"),
        (["10.0.0.1:1", "[::1]:2"], "need all IPv4 or all IPv6"),
        (["10.0.0.1:1", "gateway:2"], "'gateway:2' is not IP:PORT"),
        (["10.0.0.1:1", "10.0.0.2"], "'10.0.0.2' is not IP:PORT"),
        (["[::1]:1", "::1:2"], "'::1:2' is not IP:PORT"),
    ],
)
def test_an_unusable_address_is_named(targets: str | list[str], fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace("[", r"\[")):
        grpc_target(targets)
