"""What the local mesh consists of."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from meshctl.child_process import ProcessSpec
from meshctl.mesh_member import MeshError
from meshctl.standard_mesh import MeshSettings, parse_workers, standard_mesh, standard_specs
from services.candidates.config import DEFAULT_TABLE_PREFIX


def settings(*, port: int = 0, dynamodb_endpoint: str | None = None) -> MeshSettings:
    return MeshSettings(
        bundles=Path("bundles"),
        bundle_version="v1",
        prepare_dynamodb=lambda _: None,
        port=port,
        dynamodb_endpoint=dynamodb_endpoint,
    )


def by_name(of: MeshSettings) -> dict[str, ProcessSpec]:
    return {spec.name: spec for spec in standard_specs(of)}


def test_every_part_is_a_process_of_its_own() -> None:
    assert list(by_name(settings())) == [
        "dynamodb",
        "candidates-ann",
        "candidates-similar",
        "candidates-trending",
        "ranker",
        "gateway",
    ]


def test_the_gateway_is_told_where_every_leaf_is() -> None:
    gateway = by_name(settings(port=8080))["gateway"]

    assert gateway.env["RECMESH_SOURCES"] == (
        "ann={candidates-ann},similar={candidates-similar},trending={candidates-trending}"
    )
    assert gateway.env["RECMESH_RANKER"] == "{ranker}"
    assert gateway.env["RECMESH_LISTEN"] == "127.0.0.1:8080"
    assert gateway.is_essential


def test_only_the_trending_source_waits_for_the_embedded_dynamodb() -> None:
    specs = by_name(settings())

    waiting = [name for name, spec in specs.items() if "dynamodb" in spec.waits_for]

    assert waiting == ["candidates-trending"]
    assert specs["candidates-trending"].env["RECMESH_DYNAMODB_ENDPOINT"] == "http://{dynamodb}"


def test_the_embedded_dynamodb_is_read_under_the_prefix_that_its_tables_have() -> None:
    trending = by_name(settings())["candidates-trending"]

    assert trending.env["RECMESH_TABLE_PREFIX"] == DEFAULT_TABLE_PREFIX


def test_an_endpoint_of_the_callers_own_replaces_the_embedded_one_and_its_account() -> None:
    specs = by_name(settings(dynamodb_endpoint="https://example.test"))

    trending = specs["candidates-trending"]

    assert "dynamodb" not in specs
    assert trending.waits_for == ()
    assert trending.env["RECMESH_DYNAMODB_ENDPOINT"] == "https://example.test"
    assert not [key for key in trending.env if key.startswith("AWS_")]


def test_servers_get_absolute_paths() -> None:
    ranker = by_name(settings())["ranker"]

    assert Path(ranker.env["RECMESH_BUNDLES"]).is_absolute()


def test_a_taken_port_is_refused_before_anything_starts() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(MeshError, match=rf"port {port} cannot be used.*--port"):
            standard_mesh(settings(port=port), say=lambda _: None)


def test_several_workers_of_a_leaf_are_processes_that_the_gateway_balances_over() -> None:
    specs = by_name(replace(settings(), workers={"ann": 2, "ranker": 3}))

    gateway = specs["gateway"]
    assert gateway.env["RECMESH_SOURCES"].startswith(
        "ann={candidates-ann-1};{candidates-ann-2},similar={candidates-similar},"
    )
    assert gateway.env["RECMESH_RANKER"] == "{ranker-1};{ranker-2};{ranker-3}"
    assert {"candidates-ann-1", "candidates-ann-2", "ranker-3"} < set(gateway.waits_for)
    assert set(gateway.waits_for) < set(specs)
    assert specs["candidates-ann-2"].env["RECMESH_SOURCE"] == "ann"


def test_processes_follow_the_pointer_unless_a_version_is_named() -> None:
    following = by_name(replace(settings(), bundle_version=None, hold_s=5.0))["ranker"]
    pinned = by_name(settings())["ranker"]

    assert following.env["RECMESH_BUNDLE_VERSION"] == ""
    assert following.env["RECMESH_HOLD_S"] == "5.0"
    assert pinned.env["RECMESH_BUNDLE_VERSION"] == "v1"


def test_workers_are_read_by_leaf() -> None:
    assert parse_workers("") == {}
    assert parse_workers("ranker=2, ann=16") == {"ranker": 2, "ann": 16}


@pytest.mark.parametrize("text", ["gateway=2", "ann", "ann=", "ann=0", "ann=65", "ann=-1", "ann=٢"])
def test_workers_that_cannot_be_are_refused_by_name(text: str) -> None:
    with pytest.raises(MeshError, match=text.partition("=")[0]):
        parse_workers(text)
