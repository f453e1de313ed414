"""Fault points: where a test has the publisher killed, as a lost machine would be.

`RECMESH_PUBLISH_FAULT=<step>` makes the process send itself SIGKILL when it reaches that step.
"""

import os
import signal

from meshkit.bundles.errors import BundleError

VARIABLE = "RECMESH_PUBLISH_FAULT"
STEPS = (
    "staged",  # an empty staging directory
    "written",  # all files, no manifest
    "described",  # all files and the manifest, not synced
    "verified",  # synced and read back, in its staging directory
    "sending",  # S3 alone: one file has been uploaded
    "sent",  # S3 alone: all but the manifest have been uploaded
    "installed",  # the version is there, the pointer not moved
    "pointing",  # the new pointer is written beside the old one; S3: about to be sent
    "pointed",  # the pointer has moved
)
UPLOAD_STEPS = frozenset({"sending", "sent"})
"""Steps that a directory does not pass."""


def check_fault() -> None:
    """Raise BundleError for a fault that would never come: a misspelt step."""
    step = os.environ.get(VARIABLE)
    if step and step not in STEPS:
        raise BundleError(f"{VARIABLE}={step!r} is no step; there are {', '.join(STEPS)}")


def reached(step: str) -> None:
    """Kill this process when the environment asks for it at `step`."""
    if os.environ.get(VARIABLE) == step:
        os.kill(os.getpid(), signal.SIGKILL)
