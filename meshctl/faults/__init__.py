"""Faults injected between real processes: a proxy, and the control file that drives it.

`python -m meshctl.faults` is the proxy, see `meshctl.faults.config` for its settings. A driver
sets faults with `FaultControl` and reads what the proxy saw.
"""

from meshctl.faults.control import FaultControl, FaultControlError
from meshctl.faults.counts import Counts
from meshctl.faults.fault import NO_FAULT, Fault, FaultKind, FaultLevel

__all__ = [
    "NO_FAULT",
    "Counts",
    "Fault",
    "FaultControl",
    "FaultControlError",
    "FaultKind",
    "FaultLevel",
]
