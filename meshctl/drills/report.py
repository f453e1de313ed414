"""What the drills found: a table for people, JSON for programs, and whether all promises held."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from meshctl.json_file import write_json

About = Literal["state", "time"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise, and what a drill measured of it.

    A promise about "time" (latency, memory, processor) is shown by a small drill but does
    not decide it: in so few requests, on a shared machine, one stall is the result.
    """

    drill: str
    done: str
    """What was done to the mesh."""
    promise: str
    measured: str
    is_held: bool
    about: About = "state"


def is_failure(finding: Finding, *, is_small: bool) -> bool:
    """Tell whether a finding makes the drill fail."""
    return not finding.is_held and not (is_small and finding.about == "time")


def print_findings(console: Console, findings: Sequence[Finding], *, is_small: bool) -> None:
    """Print a table, a promise a row."""
    table = Table(title="drills, small" if is_small else "drills", title_justify="left")
    for name in ("drill", "what was done", "promise", "measured"):
        table.add_column(name, overflow="fold")
    table.add_column("held", no_wrap=True)
    before = ""
    for finding in findings:
        if before and finding.drill != before:
            table.add_section()
        shown = finding.drill if finding.drill != before else ""
        before = finding.drill
        verdict = _verdict(finding, is_small=is_small)
        texts = (shown, finding.done, finding.promise, finding.measured)
        table.add_row(*map(Text, texts), verdict)
    console.print(table)


def write_findings(path: Path, findings: Sequence[Finding], *, is_small: bool) -> None:
    """Write all findings to `path` as one JSON object."""
    rows = [
        {**asdict(finding), "is_failure": is_failure(finding, is_small=is_small)}
        for finding in findings
    ]
    write_json(path, {"is_small": is_small, "findings": rows})


def _verdict(finding: Finding, *, is_small: bool) -> Text:
    if finding.is_held:
        return Text("held", style="green")
    if is_failure(finding, is_small=is_small):
        return Text("NOT HELD", style="bold red")
    return Text("not held (small)", style="yellow")
