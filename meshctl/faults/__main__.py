"""Relay with faults: `python -m meshctl.faults`."""

import os

from meshctl.faults.config import FaultProxyConfig
from meshctl.faults.proxy import serve
from meshkit.config import explained_exit, read_environment
from meshkit.logs import setup_logs

if __name__ == "__main__":
    with explained_exit():
        setup_logs("recmesh-faults")
        serve(read_environment(FaultProxyConfig, os.environ))
