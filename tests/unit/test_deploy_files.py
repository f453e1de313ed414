"""What docker-compose.yml, the Dockerfile and the manifests promise."""

import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # it publishes no types

from meshkit.config import read_environment
from meshkit.server import DEFAULT_DRAIN_S, DEFAULT_SETTLE_S, LEAVE_S
from services.candidates.config import CandidatesConfig
from services.gateway.config import GatewayConfig
from services.ranker.config import RankerConfig

ROOT = Path(__file__).parents[2]
STACK: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Mapping[str, Any] = STACK["services"]
SERVERS = {
    "candidates-ann": CandidatesConfig,
    "candidates-similar": CandidatesConfig,
    "candidates-trending": CandidatesConfig,
    "ranker": RankerConfig,
    "gateway": GatewayConfig,
}
CORE = {*SERVERS, "dynamodb", "init"}
MANIFESTS = {
    (document["kind"], document["metadata"]["name"]): document
    for path in (ROOT / "deploy" / "k8s").glob("*.yaml")
    if path.stem != "kustomization"
    for document in yaml.safe_load_all(path.read_text())
}
IMAGE_ENVIRONMENT = {"RECMESH_LISTEN": "0.0.0.0:8080", "RECMESH_BUNDLES": "/bundles"}
STOP_S = DEFAULT_SETTLE_S + DEFAULT_DRAIN_S + LEAVE_S

subset_lock = runpy.run_path(str(ROOT / "deploy" / "images" / "subset_lock.py"))


def test_the_core_profile_is_the_mesh_with_dynamodb_and_init() -> None:
    assert {name for name, each in SERVICES.items() if each["profiles"] == ["core"]} == CORE


def test_plain_up_starts_every_profile_and_core_env_only_the_core() -> None:
    profiles = {profile for each in SERVICES.values() for profile in each["profiles"]}

    assert set(env_file(".env")["COMPOSE_PROFILES"].split(",")) == profiles
    assert env_file("deploy/compose/core.env")["COMPOSE_PROFILES"] == "core"


def test_the_core_alone_exports_nothing_and_the_whole_stack_to_the_collector() -> None:
    assert env_file("deploy/compose/core.env")["RECMESH_OTLP_ENDPOINT"] == ""
    assert env_file(".env")["RECMESH_OTLP_ENDPOINT"] == "http://collector:4317"
    for name in SERVERS:
        endpoint = SERVICES[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert endpoint == "${RECMESH_OTLP_ENDPOINT:-}", name


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_sandboxed_and_bounded(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
    assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory", "pids"}
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), "an image is pinned by version"
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_starts_with_the_settings_it_is_given(name: str) -> None:
    settings = {**IMAGE_ENVIRONMENT, **SERVICES[name]["environment"]}

    read_environment(SERVERS[name], settings)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_gets_longer_to_stop_than_it_takes(name: str) -> None:
    grace = SERVICES[name]["stop_grace_period"]
    pod = MANIFESTS["Deployment", name]["spec"]["template"]["spec"]
    settle_s = float(environment_of(name).get("RECMESH_SETTLE_S", DEFAULT_SETTLE_S))

    assert float(grace.removesuffix("s")) > STOP_S
    assert pod["terminationGracePeriodSeconds"] > settle_s + DEFAULT_DRAIN_S + LEAVE_S


@pytest.mark.parametrize("name", SERVERS)
def test_a_pod_starts_with_the_settings_it_is_given(name: str) -> None:
    shared = MANIFESTS["ConfigMap", "recmesh"]["data"]

    read_environment(SERVERS[name], {**IMAGE_ENVIRONMENT, **shared, **environment_of(name)})


@pytest.mark.parametrize("name", SERVERS)
def test_a_deployment_has_all_that_keeps_it_up(name: str) -> None:
    template = MANIFESTS["Deployment", name]["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]

    assert ("ServiceAccount", template["spec"]["serviceAccountName"]) in MANIFESTS
    for kind in ("Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"):
        assert (kind, name) in MANIFESTS
    assert MANIFESTS["Service", name]["spec"]["clusterIP"] == "None"
    for selector in (
        MANIFESTS["Deployment", name]["spec"]["selector"]["matchLabels"],
        MANIFESTS["Service", name]["spec"]["selector"],
        MANIFESTS["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"] == {"port": 8080}


def test_the_gateways_addresses_are_services_that_exist() -> None:
    environment = environment_of("gateway")
    addresses = re.findall(
        r"([\w-]+)\.recmesh\.svc\.cluster\.local:8080",
        environment["RECMESH_SOURCES"] + environment["RECMESH_RANKER"],
    )
    in_compose = SERVICES["gateway"]["environment"]
    names = re.findall(r"([\w-]+):8080", in_compose["RECMESH_SOURCES"])

    leaves = set(SERVERS) - {"gateway"}
    assert set(addresses) == leaves
    assert {*names, in_compose["RECMESH_RANKER"].removesuffix(":8080")} == leaves


def test_kustomization_lists_every_manifest() -> None:
    directory = ROOT / "deploy" / "k8s"
    listed = yaml.safe_load((directory / "kustomization.yaml").read_text())["resources"]

    assert set(listed) == {path.name for path in directory.glob("*.yaml")} - {"kustomization.yaml"}


def test_images_have_one_version_everywhere() -> None:
    ours = [each["image"] for each in SERVICES.values() if each["image"].startswith("recmesh/")]
    pods = [
        document["spec"]["template"]["spec"]["containers"][0]["image"]
        for (kind, _), document in MANIFESTS.items()
        if kind == "Deployment"
    ]

    assert {image.partition(":")[2] for image in (*ours, *pods)} == {"0.1.0"}


def test_the_lock_of_an_image_is_closed_over_its_dependencies() -> None:
    pins = subset_lock["read_pins"]((ROOT / "requirements" / "all.lock").read_text())
    roots = subset_lock["run_time_dependencies"]((ROOT / "pyproject.toml").read_text())

    without_grpc = subset_lock["subset"](pins, roots, roots - {"grpcio-status"}, set())

    names = {pin.name for pin in subset_lock["read_pins"](without_grpc)}
    assert {"grpcio-status", "grpcio", "protobuf", "googleapis-common-protos"} <= names
    assert names.isdisjoint({"numpy", "boto3", "pytest", "moto"})
    assert without_grpc.count("--hash=sha256:") > len(names)


def test_a_name_that_is_no_dependency_cannot_be_left_out_of_an_image() -> None:
    with pytest.raises(ValueError, match="lightbgm"):
        subset_lock["subset"]([], {"lightgbm"}, {"lightbgm"}, set())


def env_file(path: str) -> dict[str, str]:
    lines = (ROOT / path).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def environment_of(deployment: str) -> dict[str, str]:
    (container,) = MANIFESTS["Deployment", deployment]["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container.get("env", ())}
