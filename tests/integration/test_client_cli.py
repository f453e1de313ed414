"""`meshctl recommend` against a real gRPC server."""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import typer
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import (
    RetryInfo,
)
from recmesh.common.v1 import common_pb2
from recmesh.gateway.v1 import gateway_pb2 as pb
from rich.progress import Progress
from typer.testing import CliRunner, Result

from meshctl.process_identity import ProcessIdentity, identify
from meshctl.recommend import recommend
from meshctl.recommend_many import CALLS_WHEN_SHED, CONCURRENT_CALLS, ask_for_all, pause_s
from meshctl.run_file import Run, RunFile, RunningProcess
from recmesh_client import Recommendation
from recmesh_client.wire import recommendation_from
from tests.integration.scripted_gateway import ScriptedGateway, Step, fail

Code = grpc.StatusCode
ENDED_PID = 2**22 + 1  # beyond what Linux gives out
RESPONSE = pb.RecommendResponse(
    recommendation_id="r1",
    bundle_version="v7",
    items=[pb.Item(item_id="t1", score=0.5, title="Song", artist="Band")],
    coverage=pb.Coverage(
        sources=[
            pb.SourceCoverage(
                source="ann", status=common_pb2.SOURCE_STATUS_OK, latency=Duration(nanos=2_000_000)
            )
        ],
        ranked_by=pb.RANKED_BY_MODEL,
    ),
)


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with ScriptedGateway(slate_of_user).serving() as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def slate_of_user(request: pb.RecommendRequest, _: grpc.ServicerContext) -> pb.RecommendResponse:
    """Answer with items named after the user; those of "cold-..." are degraded."""
    response = pb.RecommendResponse()
    response.CopyFrom(RESPONSE)
    response.items[0].item_id = f"for-{request.user_id}"
    response.coverage.degraded = request.user_id.startswith("cold")
    return response


def failing_for(users: set[str], failure: Step) -> Step:
    return lambda request, context: (failure if request.user_id in users else slate_of_user)(
        request, context
    )


def run(*arguments: str, stdin: bytes = b"") -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("recommend")(recommend)
    return CliRunner().invoke(app, [*arguments], input=stdin, catch_exceptions=False)


def run_for(gateway: ScriptedGateway, users: str, *arguments: str) -> Result:
    Path("users.txt").write_text(users, encoding="utf-8")
    addressed = ("--address", gateway.address)
    return run("--users", "users.txt", "--jsonl", "out.jsonl", *addressed, *arguments)


def written() -> list[dict[str, object]]:
    lines = Path("out.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


# One user


def test_a_slate_is_printed_as_a_table(gateway: ScriptedGateway) -> None:
    result = run("ada", "--address", gateway.address)

    assert result.exit_code == 0
    assert "Recommended to user ada" in result.stdout
    assert "Song" in result.stdout
    assert "ranked by the model" in result.stdout


def test_every_option_reaches_the_gateway(gateway: ScriptedGateway) -> None:
    result = run(
        *("ada", "--count", "5", "--seed-item", "s1", "--seed-item", "s2", "--exclude-item", "x1"),
        *("--market", "SE", "--surface", "batch", "--address", gateway.address),
    )

    assert result.exit_code == 0
    assert gateway.requests == [
        pb.RecommendRequest(
            user_id="ada",
            page_size=5,
            surface="batch",
            market="SE",
            seed_item_ids=["s1", "s2"],
            exclude_item_ids=["x1"],
        )
    ]


@pytest.mark.parametrize("who", ["", "--anonymous"])
def test_an_empty_user_and_the_option_are_anonymous(gateway: ScriptedGateway, who: str) -> None:
    result = run(who, "--address", gateway.address)

    assert "Recommended to an anonymous user" in result.stdout
    assert gateway.requests[0].user_id == ""
    assert gateway.requests[0].surface == "home"


def test_json_holds_the_whole_answer(gateway: ScriptedGateway) -> None:
    result = run("ada", "--json", "--address", gateway.address)

    answer = json.loads(result.stdout)
    assert answer["bundle_version"] == "v7"
    assert answer["items"][0]["item_id"] == "for-ada"
    assert answer["coverage"]["sources"][0]["status"] == "OK"
    assert answer["coverage"]["ranked_by"] == "MODEL"


def test_a_refused_request_is_one_line_and_exit_status_1(gateway: ScriptedGateway) -> None:
    gateway.default = fail(Code.INVALID_ARGUMENT, "market 'se' is not upper case")

    result = run("ada", "--market", "se", "--address", gateway.address)

    assert result.exit_code == 1
    assert result.stderr == "error: INVALID_ARGUMENT: market 'se' is not upper case\n"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ((), "name one of USER, --anonymous and --users"),
        (("ada", "--anonymous"), "name one of USER, --anonymous and --users"),
        (("--users", "users.txt"), "--users FILE and --jsonl OUT belong together"),
        (("ada", "--jsonl", "out.jsonl"), "--users FILE and --jsonl OUT belong together"),
        (("--users", "f", "--jsonl", "o", "--json"), "--json is for one user"),
        (("--users", "f", "--jsonl", "no/o"), "there is no directory no"),
        (("--users", "f", "--jsonl", "/dev/null"), "is not a regular file"),
        (("--users", "f", "--jsonl", "o", "--address", "a:1"), "cannot read f: No such file"),
        (("ada", "--count", "0"), "Invalid value for '--count'"),
        (("ada", "--count", "201"), "less than or equal to 200"),
        (("ada", "--address", ""), "need at least one gateway address"),
    ],
)
def test_a_command_that_makes_no_sense_says_why(arguments: tuple[str, ...], fault: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert fault in " ".join(result.stderr.replace("│", "").split())


# Which gateway


@pytest.fixture
def running(working_directory: Path) -> Iterator[Callable[[str, ProcessIdentity], None]]:
    """Writes the run file that `meshctl up` would."""
    file = RunFile(working_directory / ".recmesh")
    file.claim()

    def write(address: str, identity: ProcessIdentity) -> None:
        pid, started = identity.pid, identity.started
        processes = (
            RunningProcess("ranker", "127.0.0.1:1", pid, started, "grpc"),
            RunningProcess("gateway", address, pid, started, "grpc"),
        )
        file.write(Run("2025-01-01T00:00:00Z", "bundles", "bundle", "", identity, processes))

    yield write
    file.release()


def test_the_mesh_of_this_directory_is_asked_by_default(
    gateway: ScriptedGateway, running: Callable[[str, ProcessIdentity], None]
) -> None:
    running(gateway.address, identify(os.getpid()))

    assert run("ada").exit_code == 0
    assert len(gateway.requests) == 1


def test_all_gateways_of_the_mesh_are_asked_when_there_are_several(
    gateway: ScriptedGateway, working_directory: Path
) -> None:
    identity = identify(os.getpid())
    here = (identity.pid, identity.started, "grpc")
    file = RunFile(working_directory / ".recmesh")
    file.claim()
    processes = (
        RunningProcess("gateway-1", "127.0.0.1:1", ENDED_PID, "ended", "grpc"),
        RunningProcess("gateway-2", gateway.address, *here),
    )
    file.write(Run("2025-01-01T00:00:00Z", "bundles", "bundle", "", identity, processes))

    assert run("ada").exit_code == 0
    assert len(gateway.requests) == 1
    file.release()


def test_without_a_mesh_or_an_address_the_message_names_both() -> None:
    result = run("ada")

    assert result.exit_code == 1
    assert "there is no .recmesh/run.json" in result.stderr
    assert "meshctl up" in result.stderr
    assert "--address" in result.stderr


@pytest.mark.parametrize(
    ("address", "pid"), [("", os.getpid()), ("127.0.0.1:1", ENDED_PID)], ids=["starting", "ended"]
)
def test_a_mesh_whose_gateway_does_not_serve_is_named(
    running: Callable[[str, ProcessIdentity], None], address: str, pid: int
) -> None:
    running(address, identify(pid))

    result = run("ada")

    assert result.exit_code == 1
    assert ".recmesh/run.json has no gateway that serves" in result.stderr


def test_a_run_file_of_something_else_is_named(working_directory: Path) -> None:
    (working_directory / ".recmesh").mkdir()
    (working_directory / ".recmesh" / "run.json").write_text("[]")

    result = run("ada")

    assert result.exit_code == 1
    assert ".recmesh/run.json must hold a JSON object" in result.stderr


# Many users


def test_many_users_are_answered_in_the_order_of_the_file(gateway: ScriptedGateway) -> None:
    users = [f"{'cold' if n % 10 == 0 else 'user'}-{n}" for n in range(100)]

    result = run_for(gateway, "\n".join(users) + "\n", "--count", "7")

    assert result.exit_code == 0
    assert written() == [
        {"user_id": user, "item_ids": [f"for-{user}"], "degraded": user.startswith("cold")}
        for user in users
    ]
    assert "100 users, 10 of them with a degraded answer" in result.stderr
    assert {(r.surface, r.page_size) for r in gateway.requests} == {("batch", 7)}


def test_as_many_calls_as_allowed_are_made_at_once_and_no_more() -> None:
    in_flight: list[str] = []
    seen: list[int] = []

    async def ask(user_id: str) -> Recommendation:
        in_flight.append(user_id)
        seen.append(len(in_flight))
        await asyncio.sleep(0)  # every other worker has its turn
        in_flight.remove(user_id)
        return recommendation_from(RESPONSE)

    users = [f"user-{n}" for n in range(100)]
    asyncio.run(ask_for_all(users, ask, progress=Progress(disable=True)))

    assert max(seen) == CONCURRENT_CALLS


def test_many_users_are_asked_for_at_once_over_one_client(gateway: ScriptedGateway) -> None:
    several = threading.Barrier(CONCURRENT_CALLS)

    def meet(request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
        several.wait(timeout=20.0)
        return slate_of_user(request, context)

    gateway.default = meet
    users = [f"user-{n}" for n in range(2 * CONCURRENT_CALLS)]

    assert run_for(gateway, "\n".join(users)).exit_code == 0


def test_blank_and_repeated_lines_are_left_out_and_said(gateway: ScriptedGateway) -> None:
    result = run_for(gateway, "\ufeffben\r\nada\r\n\r\n  \r\nben\r\nzoe \r\nben")

    assert [line["user_id"] for line in written()] == ["ben", "ada", "zoe "]
    assert "3 users; left out 2 blank lines and 2 that repeat a user" in result.stderr
    assert len(gateway.requests) == 3


def test_users_come_from_stdin(gateway: ScriptedGateway) -> None:
    arguments = ("--users", "-", "--jsonl", "out.jsonl", "--address", gateway.address)

    assert run(*arguments, stdin="zoë\n李\n".encode()).exit_code == 0
    assert [line["user_id"] for line in written()] == ["zoë", "李"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"", "names no user"), (b"\n \n", "names no user"), (b"a\nb\n\xff\n", "line 3: not UTF-8")],
)
def test_a_file_without_usable_users_is_refused(content: bytes, fault: str) -> None:
    arguments = ("--users", "-", "--jsonl", "out.jsonl", "--address", "127.0.0.1:1")

    result = run(*arguments, stdin=content)

    assert result.exit_code == 2
    assert fault in " ".join(result.stderr.replace("│", "").split())
    assert not Path("out.jsonl").exists()


def test_a_call_that_fails_once_is_made_again(gateway: ScriptedGateway) -> None:
    gateway.script.append(fail(Code.INTERNAL, "hiccup"))
    gateway.script.append(
        fail(Code.RESOURCE_EXHAUSTED, "full", RetryInfo(retry_delay=Duration(nanos=1)))
    )

    result = run_for(gateway, "ada\nben\nzoe\n")

    assert result.exit_code == 0
    assert [line["user_id"] for line in written()] == ["ada", "ben", "zoe"]
    assert len(gateway.requests) == 5


def test_a_call_that_is_shed_is_made_again_and_again(gateway: ScriptedGateway) -> None:
    shed = fail(Code.RESOURCE_EXHAUSTED, "full", RetryInfo(retry_delay=Duration(nanos=1)))
    gateway.script.extend([shed] * (CALLS_WHEN_SHED - 1))

    result = run_for(gateway, "ada\n")

    assert result.exit_code == 0
    assert [line["user_id"] for line in written()] == ["ada"]
    assert len(gateway.requests) == CALLS_WHEN_SHED


def test_a_service_that_sheds_for_ever_is_given_up(gateway: ScriptedGateway) -> None:
    shed = fail(Code.RESOURCE_EXHAUSTED, "full", RetryInfo(retry_delay=Duration(nanos=1)))
    gateway.default = failing_for({"ben"}, shed)

    result = run_for(gateway, "ada\nben\n")

    assert result.exit_code == 1
    assert "the first is 'ben': RESOURCE_EXHAUSTED: full" in result.stderr
    assert [r.user_id for r in gateway.requests].count("ben") == 2 * CALLS_WHEN_SHED


@pytest.mark.parametrize(
    ("retry_after_s", "call", "least_s"),
    [(0.2, 0, 0.2), (0.2, 2, 0.8), (None, 1, 0.2), (0.0, 0, 0.1), (3600.0, 0, 5.0), (1.0, 6, 5.0)],
)
def test_pauses_are_at_least_what_the_service_asks_for_up_to_a_limit(
    retry_after_s: float | None, call: int, least_s: float
) -> None:
    pauses = [pause_s(retry_after_s, call) for _ in range(200)]

    assert all(least_s <= pause <= 1.5 * least_s for pause in pauses)
    assert len(set(pauses)) > 1


def test_all_pauses_together_outlast_a_restart() -> None:
    assert sum(pause_s(None, call) for call in range(CALLS_WHEN_SHED - 1)) > 5.0


def test_users_whose_calls_keep_failing_are_counted_and_left_out(gateway: ScriptedGateway) -> None:
    gateway.default = failing_for({"ben", "zoe"}, fail(Code.INTERNAL, "broken"))

    result = run_for(gateway, "ada\nben\ncyd\nzoe\n")

    assert result.exit_code == 1
    assert [line["user_id"] for line in written()] == ["ada", "cyd"]
    assert "2 of 4 users got no answer, out.jsonl is without them" in result.stderr
    assert "the first is 'ben': INTERNAL: broken" in result.stderr
    assert sorted(r.user_id for r in gateway.requests) == ["ada", "ben", "ben", "cyd", "zoe", "zoe"]


def test_a_refused_request_is_not_made_again(gateway: ScriptedGateway) -> None:
    gateway.default = failing_for({"ben"}, fail(Code.INVALID_ARGUMENT, "user_id: too long"))

    result = run_for(gateway, "ada\nben\n")

    assert result.exit_code == 1
    assert len(gateway.requests) == 2


def test_when_every_call_fails_the_file_stays_as_it_was(gateway: ScriptedGateway) -> None:
    gateway.default = fail(Code.INTERNAL, "broken")
    Path("out.jsonl").write_text("before")

    result = run_for(gateway, "ada\nben\n")

    assert result.exit_code == 1
    assert "2 of 2 users got no answer, out.jsonl was not written" in result.stderr
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["out.jsonl", "users.txt"]
    assert Path("out.jsonl").read_text() == "before"
