"""Serve the gateway: `python -m services.gateway`."""

import os

from meshkit.bundles import BundleError
from meshkit.config import explained_exit, read_environment
from services.gateway.config import GatewayConfig
from services.gateway.wiring import serve

if __name__ == "__main__":
    with explained_exit(BundleError):
        serve(read_environment(GatewayConfig, os.environ))
