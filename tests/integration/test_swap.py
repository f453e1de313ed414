"""Real leaf processes that follow a store's pointer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from recmesh.common.v1 import status_pb2, status_pb2_grpc
from recmesh.ranker.v1 import ranker_pb2, ranker_pb2_grpc

from meshkit.bundles import POINTER, Bundle, BundleStore, open_store
from tests.integration.meshkit_children import DEADLINE_S, Child, free_port, wait_until
from tests.integration.service_process import service, started_service
from tests.small_bundle import AS_OF_S, publish_small_bundle

HOLD_S = 60.0
SHORT_HOLD_S = 4.0
"""For who waits for its end: longer than a machine stands still."""
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """A store of its own with two bundles of the same content, the older one current."""
    older = publish_small_bundle(tmp_path / "bundles")
    store = open_store(tmp_path / "bundles")
    again(store, older, hours=1)
    store.promote(older.version)
    return store


def again(store: BundleStore, bundle: Bundle, *, hours: int) -> Bundle:
    """Publish the files of `bundle` once more, some hours after it, and make that current."""

    def write(directory: Path) -> None:
        for name in bundle.manifest.files:
            (directory / name).write_bytes((bundle.path / name).read_bytes())

    now = datetime.fromtimestamp(AS_OF_S, UTC) + timedelta(hours=hours)
    return store.publish(write, bundle.manifest.facts, now=now)


class Leaf:
    """A running ranker, and what it says of versions."""

    def __init__(self, child: Child, channel: grpc.Channel) -> None:
        self._child = child
        self._status = status_pb2_grpc.StatusServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)
        self._ranker = ranker_pb2_grpc.RankerServiceStub(channel)

    def describe(self) -> status_pb2.DescribeResponse:
        return self._status.Describe(status_pb2.DescribeRequest(), timeout=DEADLINE_S)

    def serves(self, version: str) -> bool:
        return self.describe().current_version == version

    def held(self) -> list[str]:
        return self._in_state(status_pb2.VERSION_STATE_HELD)

    def refused(self) -> list[str]:
        return self._in_state(status_pb2.VERSION_STATE_REFUSED)

    def reason(self) -> str:
        return " ".join(each.reason for each in self.describe().versions)

    def health(self, name: str) -> int:
        request = health_pb2.HealthCheckRequest(service=name)
        return int(self._health.Check(request, timeout=DEADLINE_S).status)

    def rank(self, version: str) -> ranker_pb2.RankResponse:
        request = ranker_pb2.RankRequest(bundle_version=version, rows=[1, 2, 3])
        return self._ranker.Rank(request, timeout=DEADLINE_S)

    def maps(self, version: str) -> bool:
        return version in Path(f"/proc/{self._child.process.pid}/maps").read_text()

    def _in_state(self, state: int) -> list[str]:
        return [each.version for each in self.describe().versions if each.state == state]


def settings_for(store: BundleStore, hold_s: float = HOLD_S) -> dict[str, str]:
    return {
        "RECMESH_BUNDLES": store.location,
        "RECMESH_POLL_S": "0.05",
        "RECMESH_HOLD_S": str(hold_s),
    }


@contextmanager
def ranker(store: BundleStore, directory: Path, hold_s: float = HOLD_S) -> Iterator[Leaf]:
    with (
        service(directory, "ranker", **settings_for(store, hold_s)) as child,
        grpc.insecure_channel(child.address) as channel,
    ):
        yield Leaf(child, channel)


def test_a_promoted_version_is_served_beside_the_old_one_which_leaves_after_its_time(
    store: BundleStore, tmp_path: Path
) -> None:
    old, new = store.versions()
    with ranker(store, tmp_path, SHORT_HOLD_S) as leaf:
        assert (leaf.held(), leaf.health(old)) == ([old], SERVING)
        assert leaf.maps(old)

        store.promote(new)
        wait_until(lambda: leaf.describe().current_version == new)
        assert leaf.health(new) == SERVING
        assert {leaf.rank(version).bundle_version for version in (old, new)} == {old, new}

        wait_until(lambda: leaf.held() == [new])
        wait_until(lambda: not leaf.maps(old))
        assert leaf.maps(new)
        assert leaf.health(old) == NOT_SERVING
        with pytest.raises(grpc.RpcError) as refused:
            leaf.rank(old)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_version_whose_health_is_asked_for_stays(store: BundleStore, tmp_path: Path) -> None:
    old, new = store.versions()
    with ranker(store, tmp_path, SHORT_HOLD_S) as leaf:
        store.promote(new)
        wait_until(lambda: leaf.describe().current_version == new)

        stays_until_s = time.monotonic() + 1.5 * SHORT_HOLD_S
        while time.monotonic() < stays_until_s:
            assert leaf.health(old) == SERVING
            time.sleep(SHORT_HOLD_S / 20)  # who asks without a pause takes a core from others

        assert leaf.held() == [old, new]


def test_a_rollback_is_followed(store: BundleStore, tmp_path: Path) -> None:
    old, new = store.versions()
    with ranker(store, tmp_path) as leaf:
        for version in (new, old, new, old):
            store.promote(version)
            wait_until(partial(leaf.serves, version))

        assert set(leaf.held()) == {old, new}


def test_a_damaged_version_is_refused_with_its_reason_and_the_old_one_serves(
    store: BundleStore, tmp_path: Path
) -> None:
    old, new = store.versions()
    model = store.open(new).path / "ranker.txt"
    with ranker(store, tmp_path) as leaf:
        model.write_bytes(model.read_bytes()[:-1])

        store.promote(new)
        wait_until(lambda: leaf.refused() == [new])

        assert "ranker.txt" in leaf.reason()
        assert leaf.describe().current_version == old
        assert leaf.health("") == leaf.health(old) == SERVING
        assert leaf.rank(old).bundle_version == old


def test_a_process_that_starts_on_a_damaged_version_says_why_and_serves_the_next_good_one(
    store: BundleStore, tmp_path: Path
) -> None:
    old, new = store.versions()
    model = store.open(new).path / "ranker.txt"
    model.write_bytes(model.read_bytes()[:-1])
    store.promote(new)
    with (
        started_service(tmp_path, "ranker", **settings_for(store)) as (child, address),
        grpc.insecure_channel(address) as channel,
    ):
        leaf = Leaf(child, channel)
        grpc.channel_ready_future(channel).result(DEADLINE_S)
        wait_until(lambda: leaf.refused() == [new])
        assert leaf.health("") == NOT_SERVING
        assert leaf.describe().current_version == ""
        assert "ranker.txt" in child.errors.read_text()

        store.promote(old)
        wait_until(lambda: leaf.health("") == SERVING)
        assert leaf.rank(old).bundle_version == old


def test_a_gateway_that_starts_on_a_damaged_version_serves_the_next_good_one(
    store: BundleStore, tmp_path: Path
) -> None:
    old, new = store.versions()
    (store.open(new).path / "manifest.json").write_text("{}")
    (Path(store.location) / POINTER).write_text(new + "\n")
    leaves = {
        "RECMESH_SOURCES": f"ann=127.0.0.1:{free_port()}",
        "RECMESH_RANKER": f"127.0.0.1:{free_port()}",
    }
    with (
        started_service(tmp_path, "gateway", **settings_for(store), **leaves) as (child, address),
        grpc.insecure_channel(address) as channel,
    ):
        gateway = Leaf(child, channel)
        grpc.channel_ready_future(channel).result(DEADLINE_S)
        wait_until(lambda: gateway.refused() == [new])
        assert gateway.health("") == NOT_SERVING
        assert "manifest.json" in gateway.reason()

        store.promote(old)
        wait_until(lambda: gateway.health("") == SERVING)
        assert gateway.serves(old)


def test_a_pinned_process_serves_its_version_whatever_is_promoted(
    store: BundleStore, tmp_path: Path
) -> None:
    old, new = store.versions()
    settings = {**settings_for(store), "RECMESH_BUNDLE_VERSION": old}
    with (
        service(tmp_path, "ranker", **settings) as child,
        grpc.insecure_channel(child.address) as channel,
    ):
        store.promote(new)

        assert Leaf(child, channel).held() == [old]
