"""The bundle store: publishing whole or not at all, and refusing what is not what was published."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meshkit.bundles import Bundle, BundleError, DirectoryStore

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
FILES: Mapping[str, bytes] = {"a.npy": b"some content", "b.txt": b"more"}
FACTS = {"items": 3, "order": "time"}

Break = Callable[[Path], None]
"""Damages one published version, given its directory."""


def write_files(files: Mapping[str, bytes]) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        for name, content in files.items():
            (directory / name).write_bytes(content)

    return write


def publish(
    store: DirectoryStore,
    files: Mapping[str, bytes] = FILES,
    *,
    facts: Mapping[str, Any] = FACTS,
    now: datetime = NOW,
) -> Bundle:
    return store.publish(write_files(files), facts, now=now)


def edit_manifest(**changes: object) -> Break:
    def edit(path: Path) -> None:
        file = path / "manifest.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "bundles")


def test_what_was_published_can_be_opened(store: DirectoryStore) -> None:
    published = publish(store)

    opened = store.open()

    assert opened == published
    assert opened.version.startswith("20260504T123000Z-")
    assert opened.manifest.facts == FACTS
    assert {name: (opened.path / name).read_bytes() for name in opened.manifest.files} == FILES


def test_each_publication_becomes_current_and_names_its_parent(store: DirectoryStore) -> None:
    first = publish(store)
    second = publish(store, {"a.npy": b"other"}, now=NOW + timedelta(hours=1))

    assert store.current() == second.version
    assert (first.manifest.parent, second.manifest.parent) == (None, first.version)
    assert store.open(first.version) == first


def test_equal_content_has_one_hash_and_versions_of_its_own(store: DirectoryStore) -> None:
    first, again = publish(store), publish(store)
    later = publish(store, now=NOW + timedelta(days=1))

    assert first.manifest.content_sha256 == again.manifest.content_sha256
    assert first.manifest.content_sha256 == later.manifest.content_sha256
    assert len({first.version, again.version, later.version}) == 3
    assert [store.open(each.version) for each in (first, again, later)] == [first, again, later]


@pytest.mark.parametrize(
    ("files", "facts"),
    [
        ({**FILES, "a.npy": b"some kontent"}, FACTS),
        ({"a.npy": FILES["b.txt"], "b.txt": FILES["a.npy"]}, FACTS),
        (FILES, {**FACTS, "items": 4}),
    ],
)
def test_other_content_has_another_hash(
    store: DirectoryStore, files: Mapping[str, bytes], facts: Mapping[str, Any]
) -> None:
    one, other = publish(store), publish(store, files, facts=facts)

    assert one.manifest.content_sha256 != other.manifest.content_sha256


def test_a_report_is_verified_but_is_not_content(store: DirectoryStore) -> None:
    one = publish(store, {**FILES, "report.json": b"took 1 s"})
    other = publish(store, {**FILES, "report.json": b"took 2 s"})

    assert one.manifest.content_sha256 == other.manifest.content_sha256
    (other.path / "report.json").write_bytes(b"took 3 s")
    with pytest.raises(BundleError, match=r"report\.json"):
        store.open()


def test_a_reader_always_finds_a_whole_current_bundle(store: DirectoryStore) -> None:
    publish(store)
    done = threading.Event()
    opened: list[str] = []
    failures: list[Exception] = []

    def read() -> None:
        try:
            while not done.is_set():
                opened.append(store.open().version)
        except BundleError as exc:
            failures.append(exc)

    reader = threading.Thread(target=read)
    reader.start()
    versions = [publish(store, {"a.npy": bytes([n])}).version for n in range(40)]
    done.set()
    reader.join()

    assert not failures
    assert store.current() == versions[-1]
    assert len(set(opened)) > 1


@pytest.mark.parametrize("failure", [RuntimeError("disk"), KeyboardInterrupt()])
def test_a_failed_publication_leaves_the_store_as_it_was(
    store: DirectoryStore, failure: BaseException
) -> None:
    before = publish(store)
    listing = sorted(store.root.iterdir())

    def write(directory: Path) -> None:
        (directory / "half.npy").write_bytes(b"half")
        raise failure

    with pytest.raises(type(failure)):
        store.publish(write, FACTS, now=NOW)

    assert sorted(store.root.iterdir()) == listing
    assert store.open() == before


def test_a_killed_publication_leaves_the_current_bundle_in_service(store: DirectoryStore) -> None:
    before = publish(store)
    program = f"""
import os
from datetime import UTC, datetime
from pathlib import Path
from meshkit.bundles import DirectoryStore

def write(directory):
    (directory / "half.npy").write_bytes(b"half")
    os.kill(os.getpid(), 9)

DirectoryStore(Path({str(store.root)!r})).publish(write, {{}}, now=datetime.now(UTC))
"""

    killed = subprocess.run([sys.executable, "-c", program], check=False)

    assert killed.returncode == -9
    assert store.open() == before
    assert publish(store).manifest.parent == before.version


def test_a_place_that_cannot_hold_bundles_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(BundleError, match=str(tmp_path / "file")):
        publish(DirectoryStore(tmp_path / "file"))


def test_an_empty_store_names_the_command_that_fills_it(store: DirectoryStore) -> None:
    with pytest.raises(BundleError, match="meshctl train"):
        store.open()


def flip_a_byte(path: Path) -> None:
    content = bytearray((path / "a.npy").read_bytes())
    content[3] ^= 1
    (path / "a.npy").write_bytes(content)


def truncate(path: Path) -> None:
    (path / "a.npy").write_bytes(FILES["a.npy"][:-1])


def link_elsewhere(path: Path) -> None:
    elsewhere = path.parent / "elsewhere"
    elsewhere.write_bytes(FILES["a.npy"])
    (path / "a.npy").unlink()
    (path / "a.npy").symlink_to(elsewhere)


def put_a_directory_in_its_place(path: Path) -> None:
    (path / "a.npy").unlink()
    (path / "a.npy").mkdir()


def name_a_file_outside(path: Path) -> None:
    outside = path.parent / "outside"
    outside.write_bytes(FILES["a.npy"])
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../outside"] = manifest["files"]["a.npy"]
    (path / "manifest.json").write_text(json.dumps(manifest))


def add_a_file(path: Path) -> None:
    (path / "stray").write_bytes(b"")


def link_the_manifest(path: Path) -> None:
    (path / "manifest.json").rename(path.parent / "elsewhere.json")
    (path / "manifest.json").symlink_to(path.parent / "elsewhere.json")


def link_the_version(path: Path) -> None:
    path.rename(path.parent / "elsewhere")
    path.symlink_to(path.parent / "elsewhere")


def write_manifest(text: bytes) -> Break:
    def write(path: Path) -> None:
        (path / "manifest.json").write_bytes(text)

    return write


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (flip_a_byte, r"a\.npy is not what was published"),
        (truncate, r"a\.npy has 11 bytes; the manifest says 12"),
        (lambda path: (path / "a.npy").unlink(), r"a\.npy is missing"),
        (link_elsewhere, r"a\.npy is missing or not a regular file"),
        (put_a_directory_in_its_place, r"a\.npy is missing or not a regular file"),
        (name_a_file_outside, r"manifest\.json names '\.\./outside'"),
        (edit_manifest(format_version=2), r"manifest\.json has format 2; this program reads 1"),
        (edit_manifest(version="another"), r"manifest\.json says it is version 'another'"),
        (edit_manifest(files=["a.npy"]), r"manifest\.json is not a manifest"),
        (edit_manifest(files={"a.npy": {"size": 12}}), r"manifest\.json is not a manifest"),
        (edit_manifest(facts=None), r"manifest\.json is not a manifest: facts must be an object"),
        (add_a_file, r"stray is not named in manifest\.json"),
        (link_the_manifest, r"manifest\.json is a symbolic link"),
        (link_the_version, r"manifest\.json is a symbolic link or in one"),
        (edit_manifest(unknown=1), r"manifest\.json is not a manifest"),
        (write_manifest(b""), r"manifest\.json is not a manifest"),
        (write_manifest(b"\xff\xfe"), r"manifest\.json is not a manifest"),
        (write_manifest(b"[1]"), r"manifest\.json is not a manifest"),
        (write_manifest(b'{"format_version": 1}'), r"manifest\.json is not a manifest"),
        (lambda path: (path / "manifest.json").unlink(), r"manifest\.json does not exist"),
    ],
)
def test_a_damaged_bundle_is_refused_and_the_file_named(
    store: DirectoryStore, damage: Break, names: str
) -> None:
    damage(publish(store).path)

    with pytest.raises(BundleError, match=names):
        store.open()


@pytest.mark.parametrize(
    "pointer", [b"", b"\n", b"../outside", b".hidden", b"a/b", b"nul\x00", b"\xff\xfe\x00"]
)
def test_a_pointer_without_a_version_is_refused_and_named(
    store: DirectoryStore, pointer: bytes
) -> None:
    publish(store)
    (store.root / "CURRENT").write_bytes(pointer)

    with pytest.raises(BundleError, match="CURRENT"):
        store.open()


def test_a_pointer_to_nothing_is_refused(store: DirectoryStore) -> None:
    publish(store)
    (store.root / "CURRENT").write_text("20200101T000000Z-0\n")

    with pytest.raises(BundleError, match="is '20200101T000000Z-0' a published version"):
        store.open()


@pytest.mark.parametrize("version", ["../bundles", ".staging", "a/b"])
def test_a_version_is_a_plain_name(store: DirectoryStore, version: str) -> None:
    publish(store)

    with pytest.raises(BundleError, match="is not a version"):
        store.open(version)
