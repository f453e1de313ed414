"""The manifest: its reader and its JSON Schema say the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # has no types

from meshkit.bundles import Bundle, BundleError
from meshkit.bundles import manifest as manifest_module
from meshkit.bundles.manifest import manifest_text, parse_manifest

SCHEMA_FILE = Path(manifest_module.__file__).with_name("manifest.schema.json")
SCHEMA = Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
HASH = "0" * 64
GOOD: dict[str, Any] = {
    "format_version": 1,
    "version": "20260504T123000Z-0123456789ab",
    "created_at": "2026-05-04T12:30:00+00:00",
    "content_sha256": HASH,
    "parent": None,
    "files": {"a.npy": {"size": 0, "sha256": HASH}},
    "facts": {},
}


def parse(fields: object) -> object:
    return parse_manifest(json.dumps(fields).encode(), "manifest.json")


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def with_file(name: str, **entry: object) -> dict[str, Any]:
    return {**GOOD, "files": {name: {"size": 1, "sha256": HASH, **entry}}}


def test_what_training_publishes_fits_the_schema(small_bundle: Bundle) -> None:
    content = (small_bundle.path / "manifest.json").read_bytes()

    SCHEMA.validate(json.loads(content))
    manifest = parse_manifest(content, "manifest.json")

    assert manifest == small_bundle.manifest
    assert manifest_text(manifest).encode() == content


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"parent": "20260504T123000Z-0"},
        {"files": {}},
        {"facts": {"anything": [1, None]}},
        {"created_at": "2026-05-04T12:30:00Z"},
    ],
)
def test_good_manifests_are_good_to_both(changes: dict[str, Any]) -> None:
    SCHEMA.validate({**GOOD, **changes})
    parse({**GOOD, **changes})


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        *((without(name), "it lacks") for name in GOOD if name != "format_version"),
        (without("format_version"), "it lacks"),
        ({**GOOD, "more": 1}, "unknown fields"),
        ([GOOD], "holds no object"),
        ({**GOOD, "format_version": 2}, "has format 2; this program reads 1"),
        ({**GOOD, "format_version": True}, "format_version"),
        ({**GOOD, "format_version": "1"}, "format_version"),
        ({**GOOD, "version": "../x"}, "version"),
        ({**GOOD, "version": None}, "version"),
        ({**GOOD, "created_at": "yesterday"}, "created_at"),
        ({**GOOD, "created_at": "2026-05-04T12:30:00"}, "created_at"),
        ({**GOOD, "created_at": 3}, "created_at"),
        ({**GOOD, "content_sha256": "A" * 64}, "content_sha256"),
        ({**GOOD, "parent": ""}, "parent"),
        ({**GOOD, "parent": 1}, "parent"),
        ({**GOOD, "files": ["a.npy"]}, "files"),
        ({**GOOD, "facts": []}, "facts"),
        ({**GOOD, "files": {"a.npy": 1}}, "size and sha256"),
        ({**GOOD, "files": {"a.npy": {"size": 1}}}, "size and sha256"),
        (with_file("a.npy", mode=1), "size and sha256"),
        (with_file("a.npy", size=-1), "size must be"),
        (with_file("a.npy", size="1"), "size must be"),
        (with_file("a.npy", size=True), "size must be"),
        (with_file("a.npy", sha256=HASH[1:]), "sha256 must be"),
        (with_file("../a.npy"), "not a plain file name"),
        (with_file("a/b"), "not a plain file name"),
        (with_file(".hidden"), "not a plain file name"),
        (with_file(""), "not a plain file name"),
        (with_file("x" * 129), "not a plain file name"),
        (with_file("manifest.json"), "not a plain file name"),
    ],
)
def test_bad_manifests_are_bad_to_both(fields: object, fault: str) -> None:
    assert not SCHEMA.is_valid(fields)
    with pytest.raises(BundleError, match=rf"manifest\.json .*{fault}"):
        parse(fields)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * (manifest_module.MAX_MANIFEST_BYTES + 1),
        json.dumps({**GOOD, "facts": {"x": float("nan")}}).encode(),
    ],
)
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json is not a manifest"):
        parse_manifest(content, "manifest.json")


def test_a_name_ends_where_its_line_does() -> None:
    # `$` of JSON Schema says so too, but not as Python's regular expressions read it.
    with pytest.raises(BundleError, match="version must be a plain name"):
        parse({**GOOD, "version": "x\n"})
