"""A local mesh in the foreground: from its start to Ctrl-C."""

import sys
from collections.abc import Sequence

from rich.console import Console

from meshctl.local_mesh import LocalMesh, StartInterruptedError
from meshctl.mesh_member import ProcessState
from meshctl.run_file import is_gateway
from meshctl.start_display import StartDisplay
from meshctl.stop_signals import StopSignals


def supervise(mesh: LocalMesh, *, console: Console) -> None:
    """Start `mesh`, say where its gateways are, and watch it until a stop signal.

    Raises MeshError when it does not start.
    """
    with StopSignals() as signals, mesh:
        try:
            with StartDisplay(console) as display:
                mesh.start(is_stopping=lambda: signals.is_requested, show=display.show)
        except StartInterruptedError:
            return
        _greet([state for state in mesh.states() if is_gateway(state.name)])
        mesh.wait(is_stopping=lambda: signals.is_requested)
        console.print("stopping the mesh", highlight=False)


def _greet(gateways: Sequence[ProcessState]) -> None:
    method = "recmesh.gateway.v1.RecommendationService/Recommend"
    first = gateways[0].address
    lines = (
        *(f"{gateway.name} {gateway.address} SERVING" for gateway in gateways),
        "",
        "  ask it:  meshctl recommend USER",
        f'           grpcurl -plaintext -d \'{{"user_id": "USER"}}\' {first} {method}',
        "  see it:  meshctl status, meshctl trace --last",
        "  stop it: Ctrl-C",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
