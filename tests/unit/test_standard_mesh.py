"""What the local mesh consists of."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from meshctl.child_process import ProcessSpec
from meshctl.mesh_member import MeshError
from meshctl.standard_mesh import MeshSettings, parse_workers, standard_mesh, standard_specs
from meshkit.dynamodb import DEFAULT_CONNECT_TIMEOUT_S, DEFAULT_READ_TIMEOUT_S, DEFAULT_TABLE_PREFIX


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


def test_only_reads_of_the_embedded_dynamodb_have_long_timeouts() -> None:
    embedded = by_name(settings())["candidates-trending"]
    own = by_name(settings(dynamodb_endpoint="https://example.test"))["candidates-trending"]

    assert float(embedded.env["RECMESH_DYNAMODB_READ_TIMEOUT_S"]) > DEFAULT_READ_TIMEOUT_S
    assert float(embedded.env["RECMESH_DYNAMODB_CONNECT_TIMEOUT_S"]) > DEFAULT_CONNECT_TIMEOUT_S
    assert not [key for key in own.env if key.endswith("_TIMEOUT_S")]


def test_histories_are_the_bundles_unless_dynamodb_is_asked_for() -> None:
    gateway = by_name(settings())["gateway"]

    assert gateway.env["RECMESH_HISTORY"] == "bundle"
    assert "RECMESH_DYNAMODB_ENDPOINT" not in gateway.env
    assert "dynamodb" not in gateway.waits_for


def test_a_gateway_that_reads_histories_waits_for_the_embedded_dynamodb() -> None:
    gateway = by_name(replace(settings(), history="dynamodb"))["gateway"]

    assert gateway.env["RECMESH_HISTORY"] == "dynamodb"
    assert gateway.env["RECMESH_DYNAMODB_ENDPOINT"] == "http://{dynamodb}"
    assert gateway.env["RECMESH_TABLE_PREFIX"] == DEFAULT_TABLE_PREFIX
    assert "dynamodb" in gateway.waits_for


def test_histories_of_the_callers_own_dynamodb_are_read_as_its_environment_says() -> None:
    own = replace(settings(dynamodb_endpoint="https://example.test"), history="dynamodb")

    gateway = by_name(own)["gateway"]

    assert gateway.env["RECMESH_DYNAMODB_ENDPOINT"] == "https://example.test"
    assert not [key for key in gateway.env if key.endswith("_TIMEOUT_S") or "AWS_" in key]
    assert "dynamodb" not in gateway.waits_for


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
    assert parse_workers("ranker=2, ann=16,gateway=3") == {"ranker": 2, "ann": 16, "gateway": 3}


def test_several_gateways_are_numbered_and_the_first_has_the_port() -> None:
    specs = by_name(replace(settings(port=8080), workers={"gateway": 2}))

    listens = {name: spec.env["RECMESH_LISTEN"] for name, spec in specs.items()}
    assert [name for name in specs if name.startswith("gateway")] == ["gateway-1", "gateway-2"]
    assert listens["gateway-1"] == "127.0.0.1:8080"
    assert listens["gateway-2"] == "127.0.0.1:0"
    assert specs["gateway-2"].env["RECMESH_RANKER"] == "{ranker}"


def test_fault_proxies_stand_between_the_gateways_and_every_leaf_worker(tmp_path: Path) -> None:
    specs = by_name(
        replace(
            settings(), fault_proxies=True, workers={"ranker": 2}, state_directory=tmp_path / "run"
        )
    )

    proxy, gateway = specs["fault-ranker-2"], specs["gateway"]
    assert proxy.argv == ("meshctl.faults",)
    assert proxy.waits_for == ("ranker-2",)
    assert proxy.env == {
        "RECMESH_LISTEN": "127.0.0.1:0",
        "RECMESH_UPSTREAM": "{ranker-2}",
        "RECMESH_FAULT_FILE": str(tmp_path / "run" / "faults" / "ranker-2.json"),
    }
    assert gateway.env["RECMESH_RANKER"] == "{fault-ranker-1};{fault-ranker-2}"
    assert gateway.env["RECMESH_SOURCES"].startswith("ann={fault-candidates-ann},")
    proxies = {name for name in specs if name.startswith("fault-")}
    assert set(gateway.waits_for) == proxies
    assert len(proxies) == 5


def test_no_fault_proxy_runs_unless_asked_for() -> None:
    assert not [name for name in by_name(settings()) if name.startswith("fault-")]


def test_settings_are_added_by_name_and_by_name_without_number() -> None:
    extra = {
        "gateway": {"RECMESH_HEDGING": "false"},
        "ranker": {"RECMESH_POLL_S": "1"},
        "ranker-2": {"RECMESH_POLL_S": "2"},
    }

    specs = by_name(replace(settings(), workers={"ranker": 2}, extra_env=extra))

    assert specs["gateway"].env["RECMESH_HEDGING"] == "false"
    assert specs["gateway"].env["RECMESH_RANKER"] == "{ranker-1};{ranker-2}"
    assert specs["ranker-1"].env["RECMESH_POLL_S"] == "1"
    assert specs["ranker-2"].env["RECMESH_POLL_S"] == "2"
    assert "RECMESH_HEDGING" not in specs["ranker-1"].env


def test_settings_for_a_process_that_there_is_not_are_refused_by_name() -> None:
    with pytest.raises(MeshError, match=r"no process is called candidates-anm$"):
        standard_specs(replace(settings(), extra_env={"candidates-anm": {}, "gateway": {}}))


@pytest.mark.parametrize(
    "text", ["dynamodb=2", "ann", "ann=", "ann=0", "ann=65", "ann=-1", "ann=٢"]
)
def test_workers_that_cannot_be_are_refused_by_name(text: str) -> None:
    with pytest.raises(MeshError, match=text.partition("=")[0]):
        parse_workers(text)


def test_workers_of_a_source_that_is_not_asked_are_refused(tmp_path: Path) -> None:
    settings = MeshSettings(
        bundles=tmp_path, prepare_dynamodb=lambda _: None, workers={"next": 2, "ann": 2}
    )

    with pytest.raises(MeshError, match=r"trained without next$"):
        standard_specs(settings)
