"""In which order processes that wait for each other can start, and should stop."""

from collections.abc import Sequence

from meshctl.child_process import ProcessSpec


def require_startable(specs: Sequence[ProcessSpec]) -> None:
    """Raise ValueError when two have one name, or some would wait for ever."""
    names = {spec.name for spec in specs}
    if len(names) != len(specs):
        raise ValueError("two processes have the same name")
    startable: set[str] = set()
    while len(startable) < len(specs):
        more = {spec.name for spec in specs if startable >= set(spec.waits_for)} - startable
        if not more:
            raise ValueError(f"these wait for ever: {', '.join(sorted(names - startable))}")
        startable |= more


def stop_waves(specs: Sequence[ProcessSpec]) -> list[list[str]]:
    """Return names in the order of ending: each wave after those that wait for it."""
    waves: list[list[str]] = []
    left = list(specs)
    while left:
        needed = {name for spec in left for name in spec.waits_for}
        waves.append([spec.name for spec in left if spec.name not in needed])
        left = [spec for spec in left if spec.name in needed]
    return waves
