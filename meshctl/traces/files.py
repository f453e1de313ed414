"""Traces in local files: what `meshctl up` keeps when no collector is set."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from meshctl.traces.otlp_json import spans_from
from meshctl.traces.span import ANSWER, Span
from meshctl.traces.store import TraceStoreError

EXPORT_DELAY = "OTEL_BSP_SCHEDULE_DELAY"
SDK_DELAY_MS = "5000"
"""How long OpenTelemetry's SDK collects spans where nothing is set."""
WAIT_S = 3.0  # on top of that: on busy cores everything is late

_SUFFIXES = (".jsonl", ".jsonl.1")
_ANSWER = ANSWER.encode()
_DELAY_DIGITS = 9
_LONGEST_DELAY_S = 60.0
_TAIL_BYTES = 1 << 20


class TraceFiles:
    """The OTLP/JSON files of some directories: of several processes, of earlier runs, rotated.

    A file that is asked for the same trace again is read from where it ended
    before, so that waiting for a trace costs little.
    """

    def __init__(self, directories: Sequence[Path], wait_s: float = WAIT_S) -> None:
        self.wait_s = wait_s
        self._directories = directories
        self._read_bytes: dict[tuple[str, int, int], int] = {}
        self._found: dict[str, list[Span]] = {}
        self._faults: dict[str, str] = {}

    @property
    def advice(self) -> str:
        """What to check when a trace is not here."""
        if not any(each.is_dir() for each in self._directories):
            named = " and no ".join(map(str, self._directories))
            return (
                f"no mesh has run here: there is no {named}; start one with `meshctl up`, name"
                " another directory with --directory, or Jaeger with --jaeger URL"
            )
        return (
            "is it of a mesh that ran in this directory (--directory names another), and was its"
            " caller's context sampled? A trace that went to a collector is in Jaeger: --jaeger URL"
        )

    def spans(self, trace_id: str) -> Sequence[Span]:
        """Return what the files hold of a trace now."""
        found = self._found.setdefault(trace_id, [])
        for path in self._paths():
            for line in self._new_lines(trace_id, path):
                # Parsing everything would take seconds; ids of a trace are hard to meet by chance.
                if trace_id.encode() in line.lower():
                    found += [s for s in self._spans(path, line) if s.trace_id == trace_id]
        return found

    def last_answer(self) -> Span | None:
        """Return the span of the newest answer, by its end."""
        newest = (self._last_answer_of(path) for path in self._paths())
        return max(filter(None, newest), key=lambda span: span.end_ns, default=None)

    def faults(self) -> Sequence[str]:
        """Return what could not be read, a line a file."""
        return tuple(self._faults.values())

    def _paths(self) -> list[Path]:
        try:
            # A mesh makes its directory when it has something to write.
            directories = [each for each in self._directories if each.is_dir()]
            paths = [path for each in directories for path in each.iterdir() if _is_ours(path)]
        except OSError as exc:
            raise TraceStoreError(f"cannot read {exc.filename}: {exc.strerror}") from exc
        return sorted(paths)

    def _new_lines(self, trace_id: str, path: Path) -> Iterator[bytes]:
        """Yield the lines of a file that were not there when it was asked for this trace before."""
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                # Not its name: a file that is full gets another one.
                key = (trace_id, status.st_dev, status.st_ino)
                file.seek(self._read_bytes.get(key, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # it is being written
                    self._read_bytes[key] = self._read_bytes.get(key, 0) + len(line)
                    yield line
        except FileNotFoundError:
            return  # it was rotated away just now
        except OSError as exc:
            self._faults[str(path)] = f"cannot read {path}: {exc.strerror}"

    def _last_answer_of(self, path: Path) -> Span | None:
        for line in self._lines_from_the_end(path):
            if _ANSWER in line:
                answers = [span for span in self._spans(path, line) if span.is_answer]
                if answers:
                    return max(answers, key=lambda span: span.end_ns)
        return None

    def _lines_from_the_end(self, path: Path) -> Iterator[bytes]:
        """Yield the whole lines of a file, the last one first."""
        try:
            with path.open("rb") as file:
                position, rest, is_whole = file.seek(0, os.SEEK_END), b"", False
                while position:
                    step = min(_TAIL_BYTES, position)
                    position = file.seek(position - step)
                    rest, *lines = (file.read(step) + rest).split(b"\n")
                    # What is behind the last line's end is empty, or a line that is being written.
                    yield from reversed(lines if is_whole else lines[:-1])
                    is_whole = is_whole or bool(lines)
                yield from (rest,) if is_whole else ()
        except FileNotFoundError:
            return
        except OSError as exc:
            self._faults[str(path)] = f"cannot read {path}: {exc.strerror}"

    def _spans(self, path: Path, line: bytes) -> list[Span]:
        try:
            return spans_from(line)
        except ValueError:
            # The last line of a process that was killed, say.
            self._faults[str(path)] = f"{path} has a line that is no JSON; it was left out"
            return []


def _is_ours(path: Path) -> bool:
    return path.name.endswith(_SUFFIXES)


def wait_s_from(delay_ms: str) -> float:
    """Return how long files may lag behind, given the setting of the processes' exporter."""
    is_usable = delay_ms.isascii() and delay_ms.isdigit()
    delay_s = int(delay_ms[:_DELAY_DIGITS]) / 1e3 if is_usable else 0.0
    return WAIT_S + min(delay_s, _LONGEST_DELAY_S)
