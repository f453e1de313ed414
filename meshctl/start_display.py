"""Shows how far each process has come while the mesh starts."""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from meshctl.mesh_member import ProcessState

_QUIET_S = 2.0


class StartDisplay:
    """A line for each process, from 2 s after the start until the end of its block.

    Off a terminal it prints one line when a process serves.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started_s = time.monotonic()
        self._told: set[str] = set()
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            TextColumn("{task.fields[stage]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def show(self, states: Sequence[ProcessState]) -> None:
        """Take note of the present states."""
        if not self._console.is_terminal:
            self._tell(states)
        elif time.monotonic() - self._started_s > _QUIET_S:
            self._draw(states)

    def _tell(self, states: Sequence[ProcessState]) -> None:
        for state in states:
            if state.stage == "SERVING" and state.name not in self._told:
                self._told.add(state.name)
                self._console.print(f"{state.name} {state.address} SERVING", highlight=False)

    def _draw(self, states: Sequence[ProcessState]) -> None:
        self._progress.start()
        for state in states:
            if state.name not in self._tasks:
                self._tasks[state.name] = self._progress.add_task(state.name, total=1, stage="")
            is_done = int(state.stage == "SERVING")
            self._progress.update(self._tasks[state.name], completed=is_done, stage=state.stage)
