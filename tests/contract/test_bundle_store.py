"""What every bundle store does: the one in a directory and the one in S3."""

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from meshkit.bundles import BundleError, BundleStore, DirectoryStore, Pointer, open_store
from meshkit.bundles.bundle_cache import KEPT_BUNDLES, UNUSED_AFTER_S, BundleCache
from meshkit.bundles.s3_client import s3_client
from meshkit.bundles.s3_store import S3Store
from tests.contract.bundle_stores import (
    FACTS,
    NOW,
    PART_BYTES,
    DirectoryPlace,
    Place,
    S3Place,
    publish,
    store_at,
    write_files,
)

HOUR = timedelta(hours=1)


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        return DirectoryPlace(tmp_path / "bundles")
    return S3Place.make(s3_client(request.getfixturevalue("s3_endpoint")))


@pytest.fixture
def store(place: Place, tmp_path: Path) -> BundleStore:
    return store_at(place, tmp_path / "cache")


@pytest.fixture
def elsewhere(place: Place, tmp_path: Path) -> BundleStore:
    """The same store from a machine that has nothing of it yet."""
    return store_at(place, tmp_path / "other-cache")


def publish_three(store: BundleStore) -> list[str]:
    return [publish(store, bytes([n]), now=NOW + n * HOUR).version for n in range(3)]


def test_what_was_published_opens_anywhere(store: BundleStore, elsewhere: BundleStore) -> None:
    files = {"a.npy": b"some content", "empty.npy": b"", "report.json": b"{}"}
    published = store.publish(write_files(files), FACTS, now=NOW)

    for opened in (store.open(), elsewhere.open(published.version)):
        assert opened.manifest == published.manifest
        assert opened.manifest.facts == FACTS
        assert {path.name for path in opened.path.iterdir()} == {*files, "manifest.json"}
        assert {name: (opened.path / name).read_bytes() for name in files} == files


def test_a_file_of_several_parts_arrives_whole(store: BundleStore, elsewhere: BundleStore) -> None:
    content = bytes(range(256)) * (2 * PART_BYTES // 256 + 1)

    publish(store, content)

    assert (elsewhere.open().path / "a.npy").read_bytes() == content


def test_an_empty_store_serves_nothing_and_says_what_fills_it(store: BundleStore) -> None:
    assert store.versions() == []
    for read in (store.open, store.current, store.pointer, store.rollback):
        with pytest.raises(BundleError, match="no published bundle; `meshctl train`"):
            read()


def test_each_publication_becomes_current_and_names_its_parent(store: BundleStore) -> None:
    first = publish(store)
    assert store.pointer() == Pointer(first.version, replaced=None)

    second = publish(store, b"2", now=NOW + HOUR)

    assert store.pointer() == Pointer(second.version, replaced=first.version)
    assert (first.manifest.parent, second.manifest.parent) == (None, first.version)
    assert store.versions() == [first.version, second.version]


def test_a_bundle_may_be_published_without_being_served(store: BundleStore) -> None:
    served = publish(store)

    waiting = publish(store, b"2", now=NOW + HOUR, promote=False)

    assert store.pointer() == Pointer(served.version, replaced=None)
    assert store.open(waiting.version).manifest == waiting.manifest
    assert waiting.manifest.parent == served.version


def test_equal_content_published_in_one_second_gets_versions_of_its_own(store: BundleStore) -> None:
    first, again, third = (publish(store) for _ in range(3))

    assert len({first.version, again.version, third.version}) == 3
    assert first.manifest.content_sha256 == again.manifest.content_sha256
    assert len(store.versions()) == 3


def test_promoting_moves_the_pointer_and_remembers_what_it_replaced(store: BundleStore) -> None:
    first, second, third = publish_three(store)

    store.promote(first, expected=third)

    assert store.pointer() == Pointer(first, replaced=third)
    assert store.open().version == first
    assert second in store.versions()


def test_promoting_the_current_version_changes_nothing(store: BundleStore) -> None:
    _, second, third = publish_three(store)

    store.promote(third)

    assert store.pointer() == Pointer(third, replaced=second)


def test_a_promotion_that_expected_another_version_is_refused(store: BundleStore) -> None:
    first, second, third = publish_three(store)

    with pytest.raises(BundleError, match=f"pointer has moved to {third}"):
        store.promote(first, expected=second)

    assert store.current() == third


@pytest.mark.parametrize("version", ["20200101T000000Z-0", "../here", ".claim", "a/b", ""])
def test_what_was_never_published_is_neither_opened_nor_promoted(
    store: BundleStore, version: str
) -> None:
    published = publish(store)

    for use in (store.open, store.promote):
        with pytest.raises(BundleError, match="version"):
            use(version)

    assert store.current() == published.version


def test_rolling_back_serves_what_was_replaced_and_again_goes_forward(store: BundleStore) -> None:
    _, second, third = publish_three(store)

    assert store.rollback() == second
    assert store.pointer() == Pointer(second, replaced=third)
    assert store.rollback() == third
    assert store.pointer() == Pointer(third, replaced=second)


def test_a_first_version_cannot_be_rolled_back(store: BundleStore) -> None:
    published = publish(store)

    with pytest.raises(BundleError, match=f"{published.version} replaced nothing"):
        store.rollback()

    assert store.current() == published.version


def test_gc_keeps_the_newest_the_served_and_the_protected(store: BundleStore, place: Place) -> None:
    versions = [publish(store, bytes([n]), now=NOW + n * HOUR).version for n in range(7)]
    store.promote(versions[1])  # replaces 6
    store.promote(versions[2])  # replaces 1

    deleted = store.gc(keep=1, protect=[versions[4]])

    kept = [versions[n] for n in (1, 2, 4, 6)]
    assert deleted == [versions[n] for n in (0, 3, 5)]
    assert store.versions() == kept
    assert {name.partition("/")[0] for name in place.names()} == {*kept, "CURRENT"}
    assert [store.open(version).version for version in kept] == kept
    assert store.gc(keep=1, protect=[versions[4]]) == []


def test_gc_keeps_one_version_at_least(store: BundleStore) -> None:
    publish(store)

    with pytest.raises(BundleError, match="keep is 0; at least 1"):
        store.gc(keep=0)


def test_a_failed_publication_leaves_the_store_as_it_was(store: BundleStore, place: Place) -> None:
    publish(store)
    before = place.names()

    def write(directory: Path) -> None:
        (directory / "half.npy").write_bytes(b"half")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        store.publish(write, FACTS, now=NOW + HOUR)

    assert place.names() == before


def make_directory(directory: Path) -> None:
    (directory / "sub").mkdir()


def make_link(directory: Path) -> None:
    (directory / "link").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("write", "fault"),
    [
        (make_directory, "sub is no regular file"),
        (make_link, "link is no regular file"),
        (write_files({"manifest.json": b"{}"}), r"manifest\.json cannot be in a bundle"),
        (write_files({".hidden": b""}), r"\.hidden cannot be in a bundle"),
    ],
)
def test_only_plain_files_can_be_published(
    store: BundleStore, place: Place, write: Callable[[Path], None], fault: str
) -> None:
    with pytest.raises(BundleError, match=fault):
        store.publish(write, FACTS, now=NOW)

    assert place.names() == []


def test_a_misspelt_fault_point_is_refused(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECMESH_PUBLISH_FAULT", "wirtten")

    with pytest.raises(BundleError, match="'wirtten' is no step; there are staged, written"):
        publish(store)


@pytest.mark.parametrize(
    ("content", "fault"),
    [(b"12", "has 2 bytes; the manifest says 1"), (b"2", "is not what was published"), (None, "")],
)
def test_a_damaged_file_is_refused_and_named(
    store: BundleStore, elsewhere: BundleStore, place: Place, content: bytes | None, fault: str
) -> None:
    version = publish(store).version
    if content is None:
        place.delete(f"{version}/a.npy")
    else:
        place.put(f"{version}/a.npy", content)

    with pytest.raises(BundleError, match=rf"{version}.*a\.npy .*{fault or 'is missing'}"):
        elsewhere.open()


def test_a_manifest_of_another_version_is_refused(
    store: BundleStore, elsewhere: BundleStore, place: Place
) -> None:
    one, other = publish(store), publish(store, b"2", now=NOW + HOUR)
    place.put(f"{other.version}/manifest.json", (one.path / "manifest.json").read_bytes())

    with pytest.raises(BundleError, match=f"says it is version '{one.version}'"):
        elsewhere.open(other.version)


@pytest.mark.parametrize(
    "pointer",
    [b"", b"\n", b"../outside", b".hidden", b"a/b", b"nul\x00", b"\xff\xfe\x00", b"a\nb\nc\n"],
)
def test_a_pointer_without_a_version_is_refused_and_named(
    store: BundleStore, place: Place, pointer: bytes
) -> None:
    publish(store)
    place.put("CURRENT", pointer)

    for use in (store.open, store.pointer, store.rollback):
        with pytest.raises(BundleError, match="CURRENT does not hold a version"):
            use()


def test_a_pointer_of_one_line_has_replaced_nothing(store: BundleStore, place: Place) -> None:
    version = publish(store).version

    place.put("CURRENT", f"{version}\n".encode())

    assert store.pointer() == Pointer(version, replaced=None)


# --- the directory alone ----------------------------------------------------------------------


def test_of_promotions_at_once_with_one_expectation_one_wins(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "bundles")
    start = publish(store)
    versions = [publish(store, bytes([n]), promote=False).version for n in range(8)]

    def promote(version: str) -> bool:
        try:
            store.promote(version, expected=start.version)
        except BundleError:
            return False
        return True

    with ThreadPoolExecutor(len(versions)) as pool:
        has_won = list(pool.map(promote, versions))

    assert sum(has_won) == 1
    assert store.pointer() == Pointer(versions[has_won.index(True)], replaced=start.version)


# --- the cache of the S3 store --------------------------------------------------------------------


@pytest.fixture
def bucket(s3_endpoint: str) -> S3Place:
    return S3Place.make(s3_client(s3_endpoint))


def test_what_is_in_the_cache_is_not_downloaded_again(bucket: S3Place, tmp_path: Path) -> None:
    store = store_at(bucket, tmp_path / "cache")
    version = publish(store).version

    bucket.delete(f"{version}/a.npy")

    assert (store.open().path / "a.npy").read_bytes() == b"1"


def test_versions_with_equal_files_share_them_on_disk(bucket: S3Place, tmp_path: Path) -> None:
    store = store_at(bucket, tmp_path / "cache")
    one, other = publish(store), publish(store, now=NOW + HOUR)

    assert (one.path / "a.npy").samefile(other.path / "a.npy")
    assert one.path != other.path


def test_a_damaged_cache_is_mended_and_what_was_mapped_stays(
    bucket: S3Place, tmp_path: Path
) -> None:
    store = store_at(bucket, tmp_path / "cache")
    bundle = publish(store)
    file = bundle.path / "a.npy"
    file.chmod(0o644)
    file.write_bytes(b"2")
    (bundle.path / "stray").write_bytes(b"")
    with file.open("rb") as held:
        mended = store.open()

        assert held.read() == b"2"
    assert (mended.path / "a.npy").read_bytes() == b"1"
    assert not (mended.path / "stray").exists()


def test_a_cache_that_somebody_emptied_is_filled_again(bucket: S3Place, tmp_path: Path) -> None:
    store = store_at(bucket, tmp_path / "cache")
    publish(store)
    shutil.rmtree(tmp_path / "cache" / "files")

    assert (store.open().path / "a.npy").read_bytes() == b"1"


def test_several_readers_fill_one_cache_at_once(bucket: S3Place, tmp_path: Path) -> None:
    published = publish(store_at(bucket, tmp_path / "cache"), b"content" * 100_000)
    readers = [store_at(bucket, tmp_path / "shared") for _ in range(8)]

    with ThreadPoolExecutor(len(readers)) as pool:
        opened = list(pool.map(lambda reader: reader.open(), readers))

    assert {bundle.path for bundle in opened} == {opened[0].path}
    assert opened[0].manifest == published.manifest
    assert not list((tmp_path / "shared").glob(".staging-*"))


def test_the_cache_forgets_what_was_not_opened_lately(bucket: S3Place, tmp_path: Path) -> None:
    store = store_at(bucket, tmp_path / "cache")
    bundles = [publish(store, bytes([n]), now=NOW + n * HOUR) for n in range(KEPT_BUNDLES + 2)]
    assert all(bundle.path.exists() for bundle in bundles)
    then_s = time.time() - UNUSED_AFTER_S - 60
    for age, bundle in enumerate(reversed(bundles)):
        os.utime(bundle.path, (then_s - age, then_s - age))

    store.open(bundles[0].version)

    left = [bundle.path.exists() for bundle in bundles]
    assert left == [True, False, False, *[True] * (KEPT_BUNDLES - 1)]
    assert (store.open(bundles[1].version).path / "a.npy").read_bytes() == b"\x01"


def test_a_cache_that_others_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("RECMESH_BUNDLE_CACHE", str(tmp_path / "open"))

    with pytest.raises(BundleError, match="no other can write; RECMESH_BUNDLE_CACHE names another"):
        BundleCache.from_environment()


# --- S3 alone -------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_path", [False, True])
def test_a_store_opens_by_its_url(
    s3_endpoint: str,
    bucket: S3Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    as_path: bool,
) -> None:
    monkeypatch.setenv("RECMESH_S3_ENDPOINT", s3_endpoint)
    monkeypatch.setenv("RECMESH_BUNDLE_CACHE", str(tmp_path / "cache"))
    url = f"s3://{bucket.bucket}/here"
    published = publish(store_at(bucket, tmp_path / "cache"))

    store = open_store(Path(url) if as_path else url)

    assert isinstance(store, S3Store)
    assert store.location == url
    assert store.open() == published


def before_the_next_write(store: BundleStore, act: Callable[[], object]) -> None:
    """Have `act` run once, when the store's client is about to send its next object."""
    assert isinstance(store, S3Store)
    pending = [act]

    def run(**_: object) -> None:
        if pending:
            pending.pop()()

    store.client.meta.events.register("before-send.s3.PutObject", run)


@pytest.mark.parametrize("move", ["promote", "rollback", "promote the first"])
def test_a_pointer_that_moves_after_it_was_read_stays_where_the_other_put_it(
    bucket: S3Place, s3_endpoint: str, tmp_path: Path, move: str
) -> None:
    store = store_at(bucket, tmp_path / "cache")
    other = store_at(replace(bucket, client=s3_client(s3_endpoint)), tmp_path / "cache")
    is_first = move == "promote the first"
    first, second, third = (
        publish(store, bytes([n]), now=NOW + n * HOUR, promote=n < 2 and not is_first).version
        for n in range(3)
    )
    winner = first if is_first else third

    before_the_next_write(store, lambda: other.promote(winner))
    with pytest.raises(BundleError, match=f"pointer has moved to {winner} meanwhile"):
        store.rollback() if move == "rollback" else store.promote(second if is_first else first)

    assert store.pointer() == Pointer(winner, replaced=None if is_first else second)


def test_a_write_whose_answer_was_lost_counts_as_done(
    bucket: S3Place, s3_endpoint: str, tmp_path: Path
) -> None:
    store = store_at(bucket, tmp_path / "cache")
    other = store_at(replace(bucket, client=s3_client(s3_endpoint)), tmp_path / "cache")
    first, second = publish(store), publish(store, b"2", now=NOW + HOUR, promote=False)

    before_the_next_write(store, lambda: other.promote(second.version))
    store.promote(second.version)  # finds the pointer as it would have written it

    assert store.pointer() == Pointer(second.version, replaced=first.version)


def test_an_upload_without_manifest_is_no_version(bucket: S3Place, tmp_path: Path) -> None:
    store = store_at(bucket, tmp_path / "cache")
    published = publish(store)
    bucket.put("20990101T000000Z-0/a.npy", b"half")

    assert store.versions() == [published.version]
    with pytest.raises(BundleError, match="is '20990101T000000Z-0' a published version"):
        store.open("20990101T000000Z-0")


@pytest.mark.parametrize("sweeps", ["publish", "gc"])
def test_abandoned_uploads_are_swept_and_others_left(
    bucket: S3Place, tmp_path: Path, sweeps: str
) -> None:
    store = store_at(bucket, tmp_path / "cache")
    assert isinstance(store, S3Store)
    publish(store)
    bucket.put("20990101T000000Z-0/.claim", b"")
    bucket.put("20990101T000000Z-0/a.npy", b"half")
    key = "here/20990101T000000Z-0/b.npy"
    bucket.client.create_multipart_upload(Bucket=bucket.bucket, Key=key)
    impatient = replace(store, abandoned_after=timedelta(seconds=-5))

    def sweep(store: BundleStore) -> None:
        store.gc(keep=9) if sweeps == "gc" else publish(store)

    sweep(store)
    assert "20990101T000000Z-0/a.npy" in bucket.names()
    # Parts of files are gone already: the server says of every upload that it began in 2010.
    versions = store.versions()

    sweep(impatient)
    assert not [name for name in bucket.names() if name.startswith("2099")]
    assert "Uploads" not in bucket.client.list_multipart_uploads(Bucket=bucket.bucket)
    assert set(versions) <= set(store.versions())


def test_a_missing_bucket_and_a_silent_server_are_named(bucket: S3Place, tmp_path: Path) -> None:
    missing = S3Store(bucket.client, "no-such-bucket", "", BundleCache(tmp_path))
    silent = S3Store(s3_client("http://127.0.0.1:9"), "bundles", "", BundleCache(tmp_path))

    with pytest.raises(BundleError, match=r"s3://no-such-bucket: reading CURRENT: .*NoSuchBucket"):
        missing.current()
    with pytest.raises(BundleError, match="s3://bundles: reading CURRENT: Could not connect"):
        silent.current()


def test_the_manifest_in_the_bucket_is_the_bundles(bucket: S3Place, tmp_path: Path) -> None:
    bundle = publish(store_at(bucket, tmp_path / "cache"))

    key = f"here/{bundle.version}/manifest.json"
    stored = bucket.client.get_object(Bucket=bucket.bucket, Key=key)["Body"].read()

    assert stored == (bundle.path / "manifest.json").read_bytes()
    assert json.loads(stored)["version"] == bundle.version
