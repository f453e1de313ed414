"""Whether a port of the loopback interface can be listened on."""

import os
import socket

MAX_PORT = 65_535


def port_fault(port: int) -> str | None:
    """Say why nothing can listen on 127.0.0.1:`port`, or None when something can; 0 always can."""
    if not 0 <= port <= MAX_PORT:
        return f"port {port} does not exist: ports are 0 to {MAX_PORT}"
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of an earlier run in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            return f"port {port} cannot be used: {os.strerror(exc.errno or 0).lower()}"
    return None
