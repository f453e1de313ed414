"""Runs a module as a child that does not outlive its parent.

`python -P -m meshctl.child PARENT_PID NICENESS MODULE [ARGUMENT ...]` asks the kernel
for SIGKILL at the parent's end and then becomes `python -P -m MODULE ...`. Linux
only: elsewhere a supervisor that is itself killed with SIGKILL leaves its
children running. The request names the parent's *thread*: whoever starts a
child does so from a thread that lives as long as the supervisor.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the module; never returns."""
    parent_pid, niceness, module, *rest = arguments
    _die_with_parent()
    os.nice(int(niceness))
    # The parent may have gone before the request; nothing would tell us then.
    if os.getppid() != int(parent_pid):
        sys.exit(f"the supervisor (pid {parent_pid}) has gone; {module} is not started")
    # -P keeps a `services/` directory of the caller's from shadowing ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *rest])  # noqa: S606 - no shell wanted


def _die_with_parent() -> None:
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        reason = os.strerror(ctypes.get_errno())
        print(f"PR_SET_PDEATHSIG: {reason}; may outlive its supervisor", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
