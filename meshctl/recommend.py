"""`meshctl recommend`: one slate to look at, or one for each of many users."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress

from meshctl.recommend_many import (
    Outcome,
    Slate,
    UserList,
    ask_for_all,
    users_from,
    write_slates,
)
from meshctl.run_file import STATE_DIRECTORY, RunFileError, read_run
from meshctl.traced_answer import print_answer, print_json
from meshctl.traces.places import store_from
from meshctl.traces.show import show_waterfall
from meshctl.traces.store import TraceStore, TraceStoreError
from meshctl.traces.trace_name import RecordedCall, TraceName, recorded_call
from recmesh_client import AsyncRecommendationClient, Recommendation, RecommendError

MAX_COUNT = 200  # the contract's limit of a page
READY_TIMEOUT_S = 5.0
# The gateway keeps to its surface's budget whatever we allow; this only ends a call that hangs,
# so that a busy machine does not lose an answer that is on its way.
CALL_TIMEOUT_S = 10.0

UserArgument = Annotated[
    str | None, typer.Argument(help='The user, as the log names them; "" is anonymous.')
]
AnonymousOption = Annotated[bool, typer.Option("--anonymous", help="Ask without a user.")]
UsersOption = Annotated[
    Path | None, typer.Option(help="Ask for many: a file of one user id a line, or - for stdin.")
]
CountOption = Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="Items wanted.")]
SeedItemOption = Annotated[
    list[str] | None, typer.Option(help="An item just played; repeat it, newest last.")
]
ExcludeItemOption = Annotated[
    list[str] | None, typer.Option(help="An item not to answer; may be repeated.")
]
MarketOption = Annotated[str, typer.Option(help="ISO 3166-1 alpha-2, such as SE.")]
SurfaceOption = Annotated[
    str | None, typer.Option(help='"home" or "batch"; batch is the default with --users.')
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        help="A gateway's HOST:PORT; by default all of the mesh that runs in this directory."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TraceOption = Annotated[
    bool,
    typer.Option("--trace", help="Show the answer's trace too; see `meshctl trace --help`."),
]
JsonlOption = Annotated[
    Path | None,
    typer.Option(help="With --users: the file to write, one object a line in the users' order."),
]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for, and of whom; the same for every user."""

    targets: tuple[str, ...]
    count: int
    surface: str
    market: str
    seed_item_ids: tuple[str, ...]
    exclude_item_ids: tuple[str, ...]


def recommend(  # noqa: PLR0913  one argument for each option of the command
    user: UserArgument = None,
    *,
    anonymous: AnonymousOption = False,
    users: UsersOption = None,
    count: CountOption = 20,
    seed_item: SeedItemOption = None,
    exclude_item: ExcludeItemOption = None,
    market: MarketOption = "",
    surface: SurfaceOption = None,
    address: AddressOption = None,
    as_json: JsonOption = False,
    jsonl: JsonlOption = None,
    trace: TraceOption = False,
) -> None:
    """Ask the mesh what to recommend to a user, or to every user of a file.

    A single call asks to be traced: `meshctl trace RECOMMENDATION_ID` shows it later.
    With --users, a call that the mesh sheds is made again after the time that it
    asks for, several times, and any other that fails once more. Users whose calls
    still fail are left out of the file, counted, and make the exit status 1.
    """
    _check_who(user, is_anonymous=anonymous, users=users)
    _check_output(users, jsonl, as_json=as_json, is_traced=trace)
    wanted = Wanted(
        targets=_targets(address),
        count=count,
        surface=surface or ("home" if users is None else "batch"),
        market=market,
        seed_item_ids=tuple(seed_item or ()),
        exclude_item_ids=tuple(exclude_item or ()),
    )
    try:
        if users is not None and jsonl is not None:
            _recommend_to_many(_read_users(users), wanted, jsonl)
        else:
            _recommend_to_one(user or "", wanted, as_json=as_json, is_traced=trace)
    except (RecommendError, TraceStoreError) as exc:
        _exit_with(str(exc))


def _check_who(user: str | None, *, is_anonymous: bool, users: Path | None) -> None:
    if sum((user is not None, is_anonymous, users is not None)) != 1:
        raise typer.BadParameter("name one of USER, --anonymous and --users FILE")


def _check_output(
    users: Path | None, jsonl: Path | None, *, as_json: bool, is_traced: bool
) -> None:
    if (users is None) != (jsonl is None):
        raise typer.BadParameter("--users FILE and --jsonl OUT belong together")
    if jsonl is None:
        return
    if as_json:
        raise typer.BadParameter("--json is for one user; --users writes JSON Lines to --jsonl")
    if is_traced:
        raise typer.BadParameter("--trace is for one user")
    if not jsonl.parent.is_dir():
        raise typer.BadParameter(f"--jsonl: there is no directory {jsonl.parent}")
    if jsonl.exists() and not jsonl.is_file():
        raise typer.BadParameter(f"--jsonl: {jsonl} is not a regular file")


def _recommend_to_one(user_id: str, wanted: Wanted, *, as_json: bool, is_traced: bool) -> None:
    store = _trace_store() if is_traced else None
    call = recorded_call()
    try:
        recommendation = asyncio.run(_ask_for_one(user_id, wanted, call))
    except RecommendError as exc:
        _say(f"error: {exc}")
        if store is not None:
            show_waterfall(Console(stderr=True), store, TraceName(call.trace_id))
        raise typer.Exit(1) from exc
    if as_json:
        print_json(recommendation, store)
    else:
        print_answer(f"user {user_id}" if user_id else "an anonymous user", recommendation, store)


def _trace_store() -> TraceStore:
    try:
        return store_from(os.environ)
    except ValueError as exc:
        raise typer.BadParameter(f"--trace: {exc}") from exc


def _recommend_to_many(listed: UserList, wanted: Wanted, out: Path) -> None:
    if listed.blank_lines or listed.repeated_lines:
        _say(
            f"asking for {len(listed.user_ids)} users; left out {listed.blank_lines} blank lines"
            f" and {listed.repeated_lines} that repeat a user"
        )
    outcomes = asyncio.run(_ask_for_many(listed.user_ids, wanted))
    slates = {user_id: slate for user_id, slate in outcomes.items() if isinstance(slate, Slate)}
    if slates:
        _write_or_exit(out, slates)
    _exit_on_failures(outcomes, out)


def _read_users(path: Path) -> UserList:
    try:
        if str(path) == "-":
            return users_from(sys.stdin.buffer.read(), "stdin")
        return users_from(path.read_bytes(), str(path))
    except OSError as exc:
        raise typer.BadParameter(f"--users: cannot read {path}: {exc.strerror}") from exc
    except ValueError as exc:
        raise typer.BadParameter(f"--users: {exc}") from exc


def _write_or_exit(out: Path, slates: Mapping[str, Slate]) -> None:
    try:
        write_slates(out, slates)
    except OSError as exc:
        _exit_with(f"cannot write {out}: {exc.strerror}")
    degraded = sum(slate.degraded for slate in slates.values())
    _say(f"wrote {out}: {len(slates)} users, {degraded} of them with a degraded answer")


def _exit_on_failures(outcomes: Mapping[str, Outcome], out: Path) -> None:
    failures = {u: error for u, error in outcomes.items() if isinstance(error, RecommendError)}
    if not failures:
        return
    user_id, error = next(iter(failures.items()))
    left_out = "was not written" if len(failures) == len(outcomes) else "is without them"
    _exit_with(
        f"{len(failures)} of {len(outcomes)} users got no answer, {out} {left_out};"
        f" the first is {user_id!r}: {error}"
    )


async def _ask_for_one(user_id: str, wanted: Wanted, call: RecordedCall) -> Recommendation:
    async with _client(wanted) as client:
        await client.wait_until_ready(READY_TIMEOUT_S)
        return await _ask(client, user_id, wanted, call.metadata)


async def _ask_for_many(user_ids: Sequence[str], wanted: Wanted) -> Mapping[str, Outcome]:
    async with _client(wanted) as client:
        await client.wait_until_ready(READY_TIMEOUT_S)
        with Progress(console=Console(stderr=True)) as progress:
            return await ask_for_all(
                user_ids, lambda user_id: _ask(client, user_id, wanted), progress=progress
            )


def _client(wanted: Wanted) -> AsyncRecommendationClient:
    try:
        return AsyncRecommendationClient(wanted.targets, default_timeout_s=CALL_TIMEOUT_S)
    except ValueError as exc:
        raise typer.BadParameter(f"--address: {exc}") from exc


async def _ask(
    client: AsyncRecommendationClient,
    user_id: str,
    wanted: Wanted,
    metadata: Sequence[tuple[str, str]] = (),
) -> Recommendation:
    return await client.recommend(
        user_id,
        page_size=wanted.count,
        surface=wanted.surface,
        market=wanted.market,
        seed_item_ids=wanted.seed_item_ids,
        exclude_item_ids=wanted.exclude_item_ids,
        metadata=metadata,
    )


def _targets(address: str | None) -> tuple[str, ...]:
    if address is not None:
        return (address,)
    path = STATE_DIRECTORY / "run.json"
    try:
        addresses = read_run(path).gateway_addresses()
    except FileNotFoundError:
        _exit_with(
            f"no mesh runs in this directory: there is no {path}; start one with `meshctl up`,"
            " or name a gateway with --address HOST:PORT"
        )
    except RunFileError as exc:
        _exit_with(str(exc))
    if not addresses:
        _exit_with(f"the mesh of {path} has no gateway that serves; see `meshctl status`")
    return addresses


def _say(message: str) -> None:
    typer.echo(message, err=True)


def _exit_with(message: str) -> NoReturn:
    _say(f"error: {message}")
    raise typer.Exit(1)
