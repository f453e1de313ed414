"""The command line: `meshctl COMMAND`."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import FrameType

import typer

from meshctl.loopback import keep_loopback_off_proxies

COMMANDS: Mapping[str, str] = {
    "demo": "meshctl.demo:demo",
    "data": "meshctl.data:app",
    "train": "meshctl.train:train",
    "tune": "meshctl.tune:tune",
    "evaluate": "meshctl.evaluate:evaluate",
    "bundle": "meshctl.bundle:app",
    "up": "meshctl.up:up",
    "status": "meshctl.status:status",
    "source": "meshctl.source:app",
    "recommend": "meshctl.recommend:recommend",
    "trace": "meshctl.trace:trace",
    "dynamodb": "meshctl.dynamodb:app",
    "trending": "meshctl.trending:app",
    "history": "meshctl.history:app",
    "doctor": "meshctl.doctor:doctor",
    "drill": "meshctl.drill:drill",
}
"""Where each command is: a function, or a typer app with commands of its own."""


def main() -> None:
    """Run the command that the process's arguments ask for."""
    # So that every command cleans up behind itself, as it does at Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    keep_loopback_off_proxies(os.environ)
    # Read when the libraries load. OpenMP's threads spin at every barrier by default, and BLAS's
    # for the smallest matrix: beside one busy process on two cores, training took ten times as
    # long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    command_line(sys.argv[1:])()


def command_line(arguments: Sequence[str]) -> typer.Typer:
    """Return the app for `arguments`.

    Only the command that they name is imported: all of them take seconds,
    DuckDB and LightGBM among them. Without a known name all are there, for
    `--help` and for suggestions.
    """
    app = typer.Typer(
        name="meshctl",
        help="Train, serve and look after a recommendation mesh.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_keep_command_names)
    named = [arguments[0]] if arguments and arguments[0] in COMMANDS else list(COMMANDS)
    for name in named:
        _add(app, name)
    return app


def _keep_command_names() -> None:
    # Without a callback typer takes an app of one command for that command.
    return


def _add(app: typer.Typer, name: str) -> None:
    module, _, attribute = COMMANDS[name].partition(":")
    command = getattr(import_module(module), attribute)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
