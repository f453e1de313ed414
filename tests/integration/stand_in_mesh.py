"""`meshctl up` with stand-in servers: python -m tests.integration.stand_in_mesh STATE_DIRECTORY."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from meshctl.child_process import ProcessSpec
from meshctl.foreground import supervise
from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.mesh_member import MeshError
from meshctl.process_identity import ProcessIdentity

ROOT = Path(__file__).parents[2]
SERVER = ("tests.integration.stand_in_server",)


def specs(faults: Mapping[str, Mapping[str, str]]) -> tuple[ProcessSpec, ...]:
    """Two leaves and a gateway that is told their addresses; `faults` adds to a part's settings."""
    told = {"STAND_IN_TOLD": "{leaf-a} and {leaf-b}"}
    return (
        ProcessSpec("leaf-a", SERVER, faults.get("leaf-a", {})),
        ProcessSpec("leaf-b", SERVER, faults.get("leaf-b", {})),
        ProcessSpec(
            "gateway",
            SERVER,
            {**told, **faults.get("gateway", {})},
            waits_for=("leaf-a", "leaf-b"),
        ),
    )


@contextmanager
def a_supervisor(state_directory: Path) -> Iterator["subprocess.Popen[str]"]:
    """A mesh with a supervisor process of its own, serving."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.stand_in_mesh", str(state_directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        assert first_line.startswith("gateway 127.0.0.1:"), first_line
        assert first_line.endswith(" SERVING\n")
        yield process
    finally:
        process.kill()
        process.communicate()


def eventually(claim: Callable[[], bool], *, within_s: float = 60.0) -> bool:
    """Poll until the claim holds; False when it does not in time."""
    deadline_s = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def none_alive(identities: Iterable[ProcessIdentity]) -> bool:
    """Tell whether all of these processes have ended."""
    return not any(identity.is_alive() for identity in identities)


def main(state_directory: Path) -> int:
    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    child_file = str(state_directory / "grandchild")
    faults = {"leaf-a": {"STAND_IN_FAULT": "parent", "STAND_IN_CHILD_FILE": child_file}}
    mesh = LocalMesh(
        specs(faults), state_directory=state_directory, facts=MeshFacts("bundles"), say=say
    )
    try:
        supervise(mesh, console=Console(stderr=True))
    except MeshError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
