"""Reading JSON that somebody else wrote: what is not as expected is left out, never an error."""

import json
from collections.abc import Iterator
from typing import cast

Object = dict[str, object]


def parsed(content: bytes) -> object:
    """Return the JSON value; raises ValueError for anything that is none."""
    try:
        return cast("object", json.loads(content))
    except RecursionError as exc:  # thousands of brackets
        raise ValueError("JSON is nested too deeply") from exc


def objects(container: object, *keys: str) -> Iterator[Object]:
    """Yield the objects of the list under the first of `keys` that there is."""
    if not isinstance(container, dict):
        return
    for key in keys:
        found = container.get(key)
        if isinstance(found, list):
            yield from (each for each in found if isinstance(each, dict))
            return


def member(container: Object, key: str) -> Object:
    """Return the object under `key`, an empty one without."""
    found = container.get(key)
    return found if isinstance(found, dict) else {}


def text(container: Object, key: str) -> str:
    """Return the text under `key`, empty without."""
    found = container.get(key)
    return found if isinstance(found, str) else ""


def hex_id(container: Object, key: str) -> str:
    """Return an id in lower-case hex; empty without, and for one of zeros, which is none."""
    found = text(container, key).lower()
    return found if found.strip("0") else ""


def whole(value: object) -> int:
    """Return a whole number of 64 bits, which OTLP writes as text; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        number = int(value)
    except (ValueError, OverflowError):  # infinity, say, or thousands of digits
        return 0
    return number if -(2**63) <= number < 2**64 else 0
