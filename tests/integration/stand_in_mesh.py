"""`meshctl up` with stand-in servers: python -m tests.integration.stand_in_mesh STATE_DIRECTORY."""

import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from meshctl.child_process import ProcessSpec
from meshctl.foreground import supervise
from meshctl.local_mesh import LocalMesh, MeshFacts
from meshctl.mesh_member import MeshError

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
            is_essential=True,
        ),
    )


def main(state_directory: Path) -> int:
    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    child_file = str(state_directory / "grandchild")
    faults = {"leaf-a": {"STAND_IN_FAULT": "parent", "STAND_IN_CHILD_FILE": child_file}}
    mesh = LocalMesh(
        specs(faults), state_directory=state_directory, facts=MeshFacts("bundles"), say=say
    )
    try:
        return supervise(mesh, console=Console(stderr=True))
    except MeshError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
