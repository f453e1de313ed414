"""Print the part of the lock file that an image installs.

`subset_lock.py --without A,B [--beside X.lock]` keeps what the project's run-time dependencies but
A and B need, by the lock's own "# via" comments, less what X.lock has. So a new dependency is in
every image until it is left out by name, and nothing is installed that the lock does not pin.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==", re.MULTILINE)
_VIA = re.compile(r"^    #(?: via)? +(?!via)(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pin:
    """One entry of the lock: a version with its hashes, and who asked for it."""

    name: str
    text: str
    via: frozenset[str]


def read_pins(lock: str) -> list[Pin]:
    """Return the entries of a lock file, in order; a package may have one for each Python."""
    starts = [match.start() for match in _REQUIREMENT.finditer(lock)]
    ends = [*starts[1:], len(lock)]
    return [_pin(lock[start:end]) for start, end in zip(starts, ends, strict=True)]


def _pin(text: str) -> Pin:
    match = _REQUIREMENT.match(text)
    assert match is not None  # noqa: S101  # the text begins where it matched
    return Pin(match[1], text, frozenset(_VIA.findall(text)))


def needed(roots: Collection[str], pins: Iterable[Pin]) -> set[str]:
    """Return the names of `roots` and of all that they asked for, directly or not."""
    asked_by: Mapping[str, frozenset[str]] = {
        name: frozenset().union(*(pin.via for pin in pins if pin.name == name))
        for name in {pin.name for pin in pins}
    }
    names = set(roots)
    while True:
        more = {name for name, via in asked_by.items() if via & names} - names
        if not more:
            return names
        names |= more


def run_time_dependencies(pyproject: str) -> set[str]:
    """Return the names in `[project] dependencies`."""
    dependencies = tomllib.loads(pyproject)["project"]["dependencies"]
    return {re.split(r"[\[<>=!~; ]", dependency, maxsplit=1)[0] for dependency in dependencies}


def subset(pins: list[Pin], roots: set[str], without: set[str], beside: set[str]) -> str:
    """Return the lock of an image. Raises ValueError for a name that is no dependency."""
    unknown = without - roots
    if unknown:
        raise ValueError(f"--without {', '.join(sorted(unknown))}: not in [project] dependencies")
    names = needed(roots - without, pins) - beside
    return "".join(pin.text for pin in pins if pin.name in names)


def main() -> None:
    """Read the files of the current directory and print the subset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without", type=_names, default=set())
    parser.add_argument("--beside", type=_names, default=set())
    arguments = parser.parse_args()
    pins = read_pins(Path("all.lock").read_text())
    roots = run_time_dependencies(Path("pyproject.toml").read_text())
    there = {pin.name for lock in arguments.beside for pin in read_pins(Path(lock).read_text())}
    sys.stdout.write(subset(pins, roots, arguments.without, there))


def _names(text: str) -> set[str]:
    return set(text.split(","))


if __name__ == "__main__":
    main()
