"""Where the traces of local meshes are, and keeping them from growing with every run."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from meshctl.run_file import STATE_DIRECTORY
from meshctl.traces.files import EXPORT_DELAY, SDK_DELAY_MS, TraceFiles, wait_s_from
from meshctl.traces.jaeger import JAEGER, Jaeger
from meshctl.traces.store import TraceStore

TRACE_DIRECTORY = "RECMESH_TRACE_DIR"
"""Where processes write traces, when they do not send them to a collector."""
COLLECTORS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
LOCAL_EXPORT_DELAY_MS = 250
"""How long processes of a local mesh collect spans: who has just asked wants to see the trace."""
DEMO_DIRECTORY = STATE_DIRECTORY / "demo"

MAX_OLD_BYTES = 64 * 1024 * 1024
MAX_OLD_FILES = 60
"""Of earlier runs: some ten of them, so that yesterday's id can still be looked up."""

_PID = re.compile(r"-(\d+)\.jsonl(\.1)?$")


def traces_of(state_directory: Path) -> Path:
    """Return where a mesh with this state directory writes its traces."""
    return state_directory / "traces"


def trace_directory_for(state_directory: Path, environ: Mapping[str, str]) -> Path | None:
    """Return where a mesh is to write its traces, None when the caller has decided that."""
    if TRACE_DIRECTORY in environ or any(environ.get(each) for each in COLLECTORS):
        return None
    return traces_of(state_directory).absolute()


def trace_settings(directory: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return what makes a service write traces to a directory, nothing for None."""
    if directory is None:
        return {}
    delay_ms = environ.get(EXPORT_DELAY) or str(LOCAL_EXPORT_DELAY_MS)
    return {TRACE_DIRECTORY: str(directory.absolute()), EXPORT_DELAY: delay_ms}


def store_from(
    environ: Mapping[str, str], *, jaeger: str = "", directory: Path | None = None
) -> TraceStore:
    """Return the store that is named, by argument or else by the environment, or local files.

    Raises ValueError when Jaeger's URL is none.
    """
    delay_ms = environ.get(EXPORT_DELAY, "")
    if jaeger:
        return Jaeger(jaeger)
    if directory is not None:
        return TraceFiles((directory,), wait_s_from(delay_ms or SDK_DELAY_MS))
    if environ.get(JAEGER):
        return Jaeger(environ[JAEGER])
    if environ.get(TRACE_DIRECTORY):
        return TraceFiles((Path(environ[TRACE_DIRECTORY]),), wait_s_from(delay_ms or SDK_DELAY_MS))
    local = (traces_of(STATE_DIRECTORY), traces_of(DEMO_DIRECTORY))
    return TraceFiles(local, wait_s_from(delay_ms))


def remove_old_traces(
    directory: Path, max_bytes: int = MAX_OLD_BYTES, max_files: int = MAX_OLD_FILES
) -> None:
    """Remove the oldest files of processes that have ended, until both limits hold."""
    ended = [path for path in directory.glob("*.jsonl*") if _has_ended(path)]
    newest_first = sorted(
        ((path.stat(), path) for path in ended), key=lambda each: -each[0].st_mtime
    )
    total_bytes = 0
    for place, (status, path) in enumerate(newest_first):
        total_bytes += status.st_size
        if place >= max_files or total_bytes > max_bytes:
            path.unlink(missing_ok=True)


def _has_ended(path: Path) -> bool:
    named = _PID.search(path.name)
    if named is None:
        return False  # none of ours
    try:
        os.kill(int(named[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
