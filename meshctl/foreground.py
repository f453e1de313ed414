"""A local mesh in the foreground: from its start to Ctrl-C."""

import sys

from rich.console import Console

from meshctl.local_mesh import LocalMesh, StartInterruptedError
from meshctl.start_display import StartDisplay
from meshctl.stop_signals import StopSignals


def supervise(mesh: LocalMesh, *, console: Console) -> int:
    """Start `mesh`, say where its gateway is, watch it until a stop signal; returns an exit status.

    Raises MeshError when it does not start.
    """
    with StopSignals() as signals, mesh:
        try:
            with StartDisplay(console) as display:
                mesh.start(is_stopping=lambda: signals.is_requested, show=display.show)
        except StartInterruptedError:
            return 0
        _greet(mesh.address("gateway"))
        status = mesh.wait(is_stopping=lambda: signals.is_requested)
        console.print("stopping the mesh", highlight=False)
    return status


def _greet(gateway: str) -> None:
    method = "recmesh.gateway.v1.RecommendationService/Recommend"
    lines = (
        f"gateway {gateway} SERVING",
        "",
        "  ask it:  meshctl recommend USER",
        f'           grpcurl -plaintext -d \'{{"user_id": "USER"}}\' {gateway} {method}',
        "  see it:  meshctl status",
        "  stop it: Ctrl-C",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
