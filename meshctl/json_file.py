"""Small JSON files that other processes read while we write them."""

import json
from pathlib import Path

from meshctl.text_file import write_text


def write_json(path: Path, value: object) -> None:
    """Replace `path` with `value` in one step, making its directory if need be."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json_object(path: Path) -> dict[str, object]:
    """Return the object in `path`.

    Raises FileNotFoundError without the file, and ValueError naming the file
    when it holds anything but one JSON object.
    """
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise ValueError(f"{path} is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        fault = f"{path} must hold a JSON object, not {type(value).__name__}"
        raise ValueError(fault)  # noqa: TRY004 - the file's fault, not our caller's
    return value
