"""A child on probation that does what its first argument says."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from meshkit.probation import on_probation


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _refuse() -> None:
    _say("checking annoy.index")
    sys.exit("annoy.index: is broken")


def _crash() -> None:
    _say("checking annoy.index")
    os.kill(os.getpid(), signal.Signals[sys.argv[2]])


def _sleep() -> None:
    _say("checking annoy.index")
    time.sleep(60)


def _spin() -> None:
    _say("checking annoy.index")
    while True:
        pass


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    _sleep()


def _talk() -> None:
    while True:
        _say("x" * 10_000)


def _die_and_leave_a_child() -> None:
    """Be killed while a child of our own is on probation."""
    file = Path(sys.argv[2])

    def kill_self() -> None:
        while not file.exists() or not file.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill_self).start()
    on_probation("tests.probation_child", ["tell pid and sleep", str(file)], time_limit_s=6)


def _tell_pid_and_sleep() -> None:
    Path(sys.argv[2]).write_text(str(os.getpid()))
    time.sleep(60)


def _compare() -> None:
    assert sys.argv[2:] == ["a b", "--c", ""]
    assert subprocess.run(["true"], check=True).returncode == 0  # noqa: S607 - a check may start programs


ACTIONS: Mapping[str, Callable[[], object]] = {
    "end well": lambda: None,
    "compare": _compare,
    "refuse": _refuse,
    "refuse silently": lambda: sys.exit(3),
    "crash": _crash,
    "read address 0": lambda: ctypes.string_at(0),
    "sleep": _sleep,
    "spin": _spin,
    "ignore signals": _ignore_signals,
    "fill memory": lambda: bytearray(1 << 30),
    "talk": _talk,
    "colour": lambda: sys.exit("\x1b[31mred\x1b[0m"),
    "die and leave a child": _die_and_leave_a_child,
    "tell pid and sleep": _tell_pid_and_sleep,
}

if __name__ == "__main__":
    ACTIONS[sys.argv[1]]()
