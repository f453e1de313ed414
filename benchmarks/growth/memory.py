"""What a process holds in memory, and what of it nobody else holds."""

from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
_KIB = 1 << 10


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in bytes."""

    rss: int
    """Resident, shared pages counted in full."""
    uss: int
    """Unique: resident pages that no other process maps."""
    anonymous: int
    """Resident pages without a file behind them: the process's own data."""


def memory_of(pid: int) -> Memory:
    """Return the memory of a process. Raises OSError when there is none of that id."""
    return parse_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text())


def parse_rollup(text: str) -> Memory:
    """Read the text of a `smaps_rollup`."""
    sizes = {}
    for line in text.splitlines()[1:]:
        name, _, value = line.partition(":")
        sizes[name] = int(value.split()[0]) * _KIB
    return Memory(
        rss=sizes["Rss"],
        uss=sizes["Private_Clean"] + sizes["Private_Dirty"],
        anonymous=sizes["Anonymous"],
    )
