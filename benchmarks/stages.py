"""Where each microsecond of a request goes: `python -m benchmarks.stages --bundles DIR`.

How this works. All parts of the mesh run in this one process and thread, over a real bundle and a
real user, without the wires: what gRPC would carry is serialised, handed over and parsed. In
every pass each part of a request is done once, one after the other: a part that is done over and
over finds the processor's caches full of itself, and seems to take half of what it takes in a
request. The least processor time of all passes counts, which a busy machine disturbs little. A
process's own work is its whole, measured from the bytes of the request to the bytes of the
response, without `work`: retrieval, features, scoring and the read of the history. `rest` is what
of a whole no part accounts for, such as the turns of the event loop; gRPC itself comes on top.
"""

import argparse
import asyncio
import inspect
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import thread_time_ns
from typing import Any, TypeAlias

import grpc
import numpy as np
from recmesh.candidates.v1 import candidates_pb2
from recmesh.gateway.v1 import gateway_pb2
from recmesh.ranker.v1 import ranker_pb2

from benchmarks.machine import machine_facts
from meshkit.admission import Admission
from meshkit.bundles import Bundle, open_store, readable
from meshkit.call_log import CallLog
from meshkit.clock import FixedClock
from meshkit.deadlines import Budget
from meshkit.interceptors import AioServerInterceptor, SyncServerInterceptor
from meshkit.served_call import CallGate
from meshkit.shelf import Shelf
from pipeline.offline_mesh import NO_ROWS, OfflineMesh
from services.candidates import servicer as candidates_servicer
from services.candidates.servicer import CandidateServicer, HeldSource
from services.gateway import servicer as gateway_servicer
from services.gateway.adapters.grpc_ranker_client import GrpcRankerClient
from services.gateway.adapters.grpc_source_client import GrpcSourceClient
from services.gateway.adapters.recording_trail import RecordingTrail
from services.gateway.domain.filters import filter_candidates
from services.gateway.domain.history import Plays, compose_history
from services.gateway.domain.ladder import tier_of
from services.gateway.domain.merge import merge
from services.gateway.domain.pins import Edition, Pins
from services.gateway.domain.recommend import Limits, Recommender, ServedBundle, reorder
from services.gateway.domain.rerank import fill, select
from services.gateway.domain.values import Answer
from services.gateway.domain.waiting import results_within
from services.gateway.servicer import RecommendationServicer
from services.ranker import servicer as ranker_servicer
from services.ranker.adapters.scoring_model import open_model
from services.ranker.domain.features import assemble, feature_names
from services.ranker.servicer import HeldModel, RankerServicer
from signals.bundle_facts import BundleFacts

GATEWAY, RANKER = "gateway", "ranker"
PAGE_SIZE = 20
LEFT_S = 0.2
"""What every caller has left."""
COMPILING_S = 100.0
DEFAULT_PASSES = 500
NS_PER_US = 1e3

Work: TypeAlias = Callable[[], object]
Handle: TypeAlias = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of a request in one process, and how to do it once."""

    process: str
    name: str
    do: Work
    """Or a coroutine function."""
    is_work: bool = False
    """Retrieval, features, scoring or the read of the history."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What one part took."""

    process: str
    piece: str
    us: float
    """Least processor time, once a request."""
    share: float
    """Of what the process does itself; 0 for `work`, which that is not."""
    is_work: bool


class Call:
    """The context of a call that a server was given: what both kinds of server ask of it."""

    def __init__(self) -> None:
        self._metadata = (("traceparent", f"00-{'1' * 32}-{'2' * 16}-00"),)

    def time_remaining(self) -> float:
        """Return the seconds that the caller has left."""
        return LEFT_S

    def peer(self) -> str:
        """Return who calls."""
        return "ipv4:127.0.0.1:1"

    def code(self) -> None:
        """Return no code: the handler set none."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a traced caller sends."""
        return self._metadata

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return none: the handler set none."""
        return ()


@dataclass(frozen=True, slots=True)
class Details:
    """Which method is called."""

    method: str
    invocation_metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Handed:
    """A response that is there as soon as it is awaited."""

    response: Any

    def __await__(self) -> Generator[None, None, Any]:
        """Return the response."""
        return self.response
        yield  # makes it a generator, which has nothing to wait for


class Loopback:
    """A channel to a leaf in this process: asks it once, and repeats its answer ever after."""

    def __init__(self, handle: Callable[[bytes], bytes]) -> None:
        self._handle = handle
        self.request = b""
        self.response: bytes | None = None

    def unary_unary(
        self,
        _method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_options: object,
    ) -> Callable[..., Handed]:
        """Return what calls the method."""

        def call(request: Any, **_options: object) -> Handed:
            self.request = request_serializer(request)
            if self.response is None:
                self.response = self._handle(self.request)
            return Handed(response_deserializer(self.response))

        return call


class FixedHistory:
    """Knows one user's plays."""

    def __init__(self, plays: Plays) -> None:
        self._plays = plays

    async def plays(self, _user_id: str, *, timeout_s: float) -> Plays:
        """Return them."""
        del timeout_s
        return self._plays


class NoSwitches:
    """Nothing is switched off."""

    def disabled_sources(self) -> frozenset[str]:
        """Return none."""
        return frozenset()


class Leaf:
    """A sync server's interceptor and servicer, and the channel to them."""

    def __init__(self, behaviour: Handle, request: Any, response: Any) -> None:
        self.handler: Any = grpc.unary_unary_rpc_method_handler(
            behaviour, request.FromString, response.SerializeToString
        )
        self._interceptor = SyncServerInterceptor(CallGate())
        self.channel = Loopback(self.handle)

    def handle(self, request: bytes) -> bytes:
        """Serve one call."""
        return self.serve(self.handler, request)

    def serve(self, handler: Any, request: bytes) -> bytes:
        """Serve one call with any handler, as gRPC does: it asks the interceptor each time."""
        details: Any = Details("/leaf/Call")
        around: Any = self._interceptor.intercept_service(lambda _: handler, details)
        response: bytes = around.unary_unary(request, Call())
        return response


class Rig:
    """Every part of the mesh over one bundle, and one request that went through all of them."""

    def __init__(self, bundle: Bundle) -> None:
        facts = BundleFacts.from_json(bundle.manifest.facts)
        self.version = bundle.version
        self.mesh = OfflineMesh.open(bundle.path, facts)
        self.model = open_model(bundle.path, feature_names())
        self.limits = Limits()
        self.user_key = _usual_user(self.mesh)
        self.plays = Plays(*self.mesh.tables.histories.of(self.user_key))
        self.leaves = {name: self._source_leaf(name) for name in self.mesh.sources}
        self.leaves[RANKER] = self._ranker_leaf()
        self.recommender = self._recommender(facts)
        self.admission = Admission()
        pins = Pins()
        pins.move(Edition(self.recommender, self.mesh.tables.texts))
        log = CallLog(None, GATEWAY)
        servicer = RecommendationServicer(pins, self.admission, log, lambda _: None)
        self.handler: Any = grpc.unary_unary_rpc_method_handler(
            servicer.Recommend,
            gateway_pb2.RecommendRequest.FromString,
            gateway_pb2.RecommendResponse.SerializeToString,
        )
        self._interceptor = AioServerInterceptor(CallGate(), admission=self.admission)
        self.request = gateway_pb2.RecommendRequest(user_id="somebody", page_size=PAGE_SIZE)

    async def serve(self, handler: Any, request: bytes) -> bytes:
        """Serve one call of the gateway, as gRPC does: it asks the interceptor each time."""

        async def found(_details: object) -> Any:
            return handler

        details: Any = Details("/gateway/Call")
        around: Any = await self._interceptor.intercept_service(found, details)
        response: bytes = await around.unary_unary(request, Call())
        return response

    async def answer(self) -> Answer:
        """Return the answer of one request, which has time to have kernels compiled."""
        ask = gateway_servicer.read_ask(self.request)
        return await self.recommender.recommend(ask, Budget.start(COMPILING_S, None))

    def _source_leaf(self, name: str) -> Leaf:
        shelf = Shelf[HeldSource]()
        n_items = self.mesh.tables.facts.items
        shelf.put(self.version, HeldSource(self.mesh.sources[name], n_items, ExitStack()))
        servicer = CandidateServicer(shelf, CallLog(None, name))
        return Leaf(
            servicer.Generate, candidates_pb2.GenerateRequest, candidates_pb2.GenerateResponse
        )

    def _ranker_leaf(self) -> Leaf:
        shelf = Shelf[HeldModel]()
        shelf.put(self.version, HeldModel(self.mesh.item_tables(), self.model))
        servicer = RankerServicer(shelf, CallLog(None, RANKER), lambda _rows, _seconds: None)
        return Leaf(servicer.Rank, ranker_pb2.RankRequest, ranker_pb2.RankResponse)

    def _recommender(self, facts: BundleFacts) -> Recommender:
        channels: Mapping[str, Any] = {name: leaf.channel for name, leaf in self.leaves.items()}
        return Recommender(
            bundle=ServedBundle(self.version, self.mesh.rules, self.mesh.tables.popularity.rows),
            history=FixedHistory(self.plays),
            sources={
                name: GrpcSourceClient(name, channels[name], self.version, facts.items)
                for name in self.mesh.sources
            },
            ranker=GrpcRankerClient(channels[RANKER], self.version),
            switches=NoSwitches(),
            clock=FixedClock(facts.as_of_s),
            limits=self.limits,
            trail=RecordingTrail(),
        )


def _usual_user(mesh: OfflineMesh) -> int:
    """Return the key of a user with as many plays as half of them have."""
    histories = mesh.tables.histories
    by_plays = np.argsort(np.diff(histories.offsets.astype(np.int64)), kind="stable")
    return int(histories.user_keys[by_plays[len(by_plays) // 2]])


def gateway_pieces(
    rig: Rig, answer: Answer, response: gateway_pb2.RecommendResponse
) -> list[Piece]:
    """Return the parts of the gateway's work, in the order of a request."""
    mesh, rules, recommender = rig.mesh, rig.mesh.rules, rig.recommender
    tables, subject = mesh.tables, answer.subject
    encoded = rig.request.SerializeToString()
    merged = merge(answer.sources)
    allowed, _ = filter_candidates(merged, subject, rules)
    candidates = allowed.head(rig.limits.ranked)
    popular = tables.popularity.rows
    selected = select(answer.ranked, PAGE_SIZE, rules)
    empty: Any = grpc.unary_unary_rpc_method_handler(_echo_later)

    def ask_source(name: str) -> Work:
        client = recommender.sources[name]
        limit = rig.limits.candidates_per_source
        return lambda: client.generate(subject, limit=limit, timeout_s=LEFT_S)

    def piece(name: str, do: Work, *, is_work: bool = False) -> Piece:
        return Piece(GATEWAY, name, do, is_work)

    return [
        piece("interceptor, recording, admission", lambda: rig.serve(empty, b"")),
        piece("parse the request", lambda: gateway_pb2.RecommendRequest.FromString(encoded)),
        piece("read_ask", lambda: gateway_servicer.read_ask(rig.request)),
        piece("read the history", lambda: tables.histories.of(rig.user_key), is_work=True),
        piece(
            "compose_history",
            lambda: compose_history(rig.plays, NO_ROWS, rules.keys.keys, tables.facts.as_of_s),
        ),
        piece("wait for 3 sources", lambda: results_within([_none() for _ in range(3)], LEFT_S)),
        *(piece(f"call {name}", ask_source(name)) for name in recommender.sources),
        piece("merge", lambda: merge(answer.sources)),
        piece("filter", lambda: filter_candidates(merged, subject, rules)),
        piece("head", lambda: allowed.head(rig.limits.ranked)),
        piece(
            "call the ranker",
            lambda: recommender.ranker.rank(candidates, subject, timeout_s=LEFT_S),
        ),
        piece("reorder", lambda: reorder(candidates, answer.ranker.scores)),
        piece("select", lambda: select(answer.ranked, PAGE_SIZE, rules)),
        piece("fill", lambda: fill(answer.ranked, selected, PAGE_SIZE, subject, rules, popular)),
        piece("tier_of", lambda: tier_of(answer.slate, answer.ranked, answer.sources, subject)),
        piece("note_answer", lambda: gateway_servicer.note_answer(answer)),
        piece("write_answer", lambda: gateway_servicer.write_answer(answer, tables.texts)),
        piece("encode the response", response.SerializeToString),
    ]


def source_pieces(rig: Rig, name: str) -> list[Piece]:
    """Return the parts of one source's work."""
    leaf, source = rig.leaves[name], rig.mesh.sources[name]
    n_items = rig.mesh.tables.facts.items
    request = candidates_pb2.GenerateRequest.FromString(leaf.channel.request)
    query = candidates_servicer.read_query(request, n_items)
    candidates = source.generate(query)
    response = candidates_servicer.write_response(candidates, rig.version)
    return [
        *_received(leaf, name),
        Piece(name, "read_query", lambda: candidates_servicer.read_query(request, n_items)),
        Piece(name, "retrieve", lambda: source.generate(query), is_work=True),
        Piece(
            name,
            "write_response",
            lambda: candidates_servicer.write_response(candidates, rig.version),
        ),
        Piece(name, "encode the response", response.SerializeToString),
    ]


def ranker_pieces(rig: Rig) -> list[Piece]:
    """Return the parts of the ranker's work."""
    leaf, tables = rig.leaves[RANKER], rig.mesh.item_tables()
    request = ranker_pb2.RankRequest.FromString(leaf.channel.request)
    query = ranker_servicer.read_query(request, tables.n_items)
    features = assemble(query, tables)
    response = ranker_pb2.RankResponse.FromString(leaf.channel.response or b"")
    return [
        *_received(leaf, RANKER),
        Piece(RANKER, "read_query", lambda: ranker_servicer.read_query(request, tables.n_items)),
        Piece(RANKER, "features", lambda: assemble(query, tables), is_work=True),
        Piece(RANKER, "score", lambda: rig.model.score(features), is_work=True),
        Piece(RANKER, "encode the response", response.SerializeToString),
    ]


def _received(leaf: Leaf, name: str) -> list[Piece]:
    """Return what every leaf does before it looks at a request."""
    empty: Any = grpc.unary_unary_rpc_method_handler(_echo)
    request, parse = leaf.channel.request, leaf.handler.request_deserializer
    return [
        Piece(name, "interceptor, recording", lambda: leaf.serve(empty, b"")),
        Piece(name, "parse the request", lambda: parse(request) if parse else request),
    ]


def wholes(rig: Rig) -> list[Piece]:
    """Return a whole request of every process, from bytes to bytes."""
    encoded = rig.request.SerializeToString()

    def of_leaf(leaf: Leaf) -> Work:
        return lambda: leaf.handle(leaf.channel.request)

    return [
        Piece(GATEWAY, "whole", lambda: rig.serve(rig.handler, encoded)),
        *(Piece(name, "whole", of_leaf(leaf)) for name, leaf in rig.leaves.items()),
    ]


def _echo(request: bytes, _context: object) -> bytes:
    return request


async def _echo_later(request: bytes, _context: object) -> bytes:
    return request


async def _none() -> None:
    return None


async def least_us(pieces: Sequence[Piece], passes: int) -> list[float]:
    """Return the least processor time of doing each once, all of them in turn in every pass."""
    timed = [nothing, *(piece.do for piece in pieces)]
    least_ns = [float("inf")] * len(timed)
    for _ in range(passes):
        for place, do in enumerate(timed):
            began_ns = thread_time_ns()
            result: Any = do()
            if inspect.iscoroutine(result):
                await result
            least_ns[place] = min(least_ns[place], thread_time_ns() - began_ns)
    # What it takes to look at the clock is no part of anything.
    return [(took_ns - least_ns[0]) / NS_PER_US for took_ns in least_ns[1:]]


def nothing() -> None:
    """Do nothing."""


async def measure(rig: Rig, passes: int) -> list[Figure]:
    """Return what every part took, processes in the order of a request."""
    answer = await rig.answer()
    response = gateway_servicer.write_answer(answer, rig.mesh.tables.texts)
    pieces = gateway_pieces(rig, answer, response)
    for name in rig.mesh.sources:
        pieces += source_pieces(rig, name)
    pieces += ranker_pieces(rig)
    figures: list[Figure] = []
    for whole in wholes(rig):
        parts = [each for each in pieces if each.process == whole.process]
        whole_us, *parts_us = await least_us([whole, *parts], passes)
        figures += _figures(whole.process, whole_us, list(zip(parts, parts_us, strict=True)))
    return figures


def _figures(
    process: str, whole_us: float, parts: Sequence[tuple[Piece, float]]
) -> Iterator[Figure]:
    """Yield the parts, the rest, and what the process does itself."""
    # The rig answers with the history at hand.
    within = [(piece, us) for piece, us in parts if piece.process != GATEWAY or not piece.is_work]
    work_us = sum(us for piece, us in within if piece.is_work)
    own_us = whole_us - work_us
    for piece, us in parts:
        share = 0.0 if piece.is_work else us / own_us
        yield Figure(process, piece.name, us, share, piece.is_work)
    rest_us = whole_us - sum(us for _, us in within)
    yield Figure(process, "rest", rest_us, rest_us / own_us, is_work=False)
    yield Figure(process, OWN, own_us, 1.0, is_work=False)


OWN = "all but work"


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = ["| process | piece | µs | share of its own |", "|---|---|---:|---:|"]
    for each in figures:
        share = "work" if each.is_work else f"{each.share:.1%}"
        lines.append(f"| {each.process} | {each.piece} | {each.us:.1f} | {share} |")
    lines.append(f"| all | {OWN} | {own_us(figures):.1f} | |")
    return "\n".join(lines)


def own_us(figures: Sequence[Figure]) -> float:
    """Return what all processes do themselves, microseconds of one request."""
    return sum(each.us for each in figures if each.piece == OWN)


def main() -> None:
    """Measure, print a table, and write it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, required=True)
    parser.add_argument("--passes", type=int, default=DEFAULT_PASSES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    store = open_store(arguments.bundles)
    bundle = store.open(store.current())
    with readable(bundle):
        rig = Rig(bundle)
    figures = asyncio.run(measure(rig, arguments.passes))
    print(f"bundle {rig.version}, {len(rig.plays.rows)} plays, page of {PAGE_SIZE}\n")
    print(table(figures))
    if arguments.json is not None:
        written = {
            "machine": machine_facts(),
            "bundle": rig.version,
            "plays": len(rig.plays.rows),
            "own_us": own_us(figures),
            "pieces": [asdict(each) for each in figures],
        }
        arguments.json.write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
