"""Serve one candidate source: `python -m services.candidates`."""

import os

from meshkit.bundles import BundleError
from meshkit.config import explained_exit, read_environment
from services.candidates.config import CandidatesConfig
from services.candidates.wiring import serve

if __name__ == "__main__":
    with explained_exit(BundleError):
        serve(read_environment(CandidatesConfig, os.environ))
