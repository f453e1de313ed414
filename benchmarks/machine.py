"""What a figure was measured on, and processor time to the nanosecond."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

NS_PER_S = 1e9


def machine_facts() -> dict[str, object]:
    """Return what a reader must know to compare figures."""
    cpus = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": cpus[0] if cpus else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in ("grpcio", "lightgbm", "numpy", "opentelemetry-sdk")},
        "load_1min": round(os.getloadavg()[0], 2),
    }


def cpu_s(pids: Iterable[int]) -> float:
    """Return the processor time that all threads of these processes have had, in seconds."""
    return sum(_cpu_ns(task) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()) / (
        NS_PER_S
    )


def _cpu_ns(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):  # the thread has ended
        return 0
