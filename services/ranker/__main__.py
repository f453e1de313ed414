"""Serve the ranker: `python -m services.ranker`."""

import os

from meshkit.bundles import BundleError
from meshkit.config import explained_exit, read_environment
from services.ranker.config import RankerConfig
from services.ranker.wiring import serve

if __name__ == "__main__":
    with explained_exit(BundleError):
        serve(read_environment(RankerConfig, os.environ))
