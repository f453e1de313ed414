"""What takes long to build and is only read: built once for all workers of a test run."""

import fcntl
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

DIRECTORY = "RECMESH_TESTS_BUILT"
"""Names a directory that several runs share, as the passes of `make test` do; nobody changes what
they test meanwhile. Unset, the workers of one run share one of its own."""
WORKER = "PYTEST_XDIST_WORKER"


def shared_directory(own: Path, environment: Mapping[str, str]) -> Path:
    """Return where to build; `own` is this worker's temporary directory, below the run's."""
    if environment.get(DIRECTORY):
        return Path(environment[DIRECTORY])
    return own.parent if WORKER in environment else own


def built_once(directory: Path, build: Callable[[Path], object]) -> Path:
    """Return `directory` as `build` filled it, in this process or in another: change nothing there.

    Who asks meanwhile waits. After a build that failed the next to ask begins anew.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    is_built = directory.with_name(f"{directory.name}.built")
    with directory.with_name(f"{directory.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_built.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            build(directory)
            is_built.touch()
    return directory
