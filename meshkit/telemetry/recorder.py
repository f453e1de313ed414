"""Which traces a process exports: those that are sampled, and some that turned out to matter."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler
from opentelemetry.trace import NonRecordingSpan, SpanKind

from meshkit.telemetry import leaf_notes, semconv
from meshkit.telemetry.leaf_notes import Origin
from meshkit.telemetry.recording import UNRECORDED, Mode, Recording
from meshkit.telemetry.spans import spans_of
from meshkit.telemetry.trace_context import parent_of

DEFAULT_SLOW_SHARE = 0.5  # half the time gone is half the way to a late answer
DEFAULT_KEPT_PER_S = 10.0  # an outage shows in a few traces; all of them would feed it

SAMPLED = "sampled"
FAILED = "failed"
DEGRADED = "degraded"
SLOW = "slow"

_ATTEMPTS = "grpc-previous-rpc-attempts"

_log = logging.getLogger(__name__)

_NO_PARENT = Context()
_mode = lru_cache(Mode)
_new_trace_id = RandomIdGenerator().generate_trace_id


class KeepBudget:
    """Tokens that are paid for keeping a trace that is not sampled; safe between threads."""

    def __init__(self, per_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._most = max(per_s, 1.0) if per_s else 0.0
        self._tokens = self._most
        self._monotonic = monotonic
        self._renewed_s = monotonic()
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Pay for one trace; False when nothing is left."""
        with self._lock:
            now_s = self._monotonic()
            earned = (now_s - self._renewed_s) * self._per_s
            self._tokens = min(self._tokens + earned, self._most)
            self._renewed_s = now_s
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


@dataclass(frozen=True, slots=True)
class KeepRules:
    """Which unsampled traces are kept."""

    budget: KeepBudget
    slow_share: float = DEFAULT_SLOW_SHARE
    """Share of the time that a call had; one that took longer is slow."""

    def reason(self, recording: Recording) -> str | None:
        """Return why a finished trace is kept; None: it is not."""
        reason = FAILED if recording.own.is_error else recording.reason
        if reason is None and self._is_slow(recording):
            reason = SLOW
        return reason if reason is not None and self.budget.spend() else None

    def _is_slow(self, recording: Recording) -> bool:
        limit_s = recording.limit_s
        return limit_s is not None and recording.duration_s > limit_s * self.slow_share


class Recorder:
    """Begins the recordings of one process, and exports those that are kept.

    Without a `processor` nothing is recorded beyond ids. With `keeps_served`, calls that are
    served are kept for what they turn out to be; without, only if sampled, and the notes of a call
    in an unsampled trace return to its caller.
    """

    def __init__(
        self,
        resource: Resource | None = None,
        sampler: Sampler = DEFAULT_ON,
        processor: SpanProcessor | None = None,
        rules: KeepRules | None = None,
        *,
        keeps_served: bool = False,
    ) -> None:
        self._resource = Resource.get_empty() if resource is None else resource
        names = self._resource.attributes
        self._origin = Origin(
            str(names.get(SERVICE_NAME, "")), str(names.get(SERVICE_INSTANCE_ID, ""))
        )
        self._sampler = sampler
        self._processor = processor
        self._rules = rules or KeepRules(KeepBudget(DEFAULT_KEPT_PER_S))
        self._keeps_served = keeps_served

    def served(
        self,
        method: str,
        metadata: Iterable[tuple[str, str | bytes]] | None,
        limit_s: float | None = None,
    ) -> Recording:
        """Begin the recording of a call that a server was given `limit_s` for."""
        texts = {key: value for key, value in metadata or () if isinstance(value, str)}
        recording = self._begin(method, SpanKind.SERVER, texts, keeps=self._keeps_served)
        recording.limit_s = limit_s
        attributes = recording.own.attributes
        attributes[semconv.RPC_SYSTEM] = semconv.GRPC
        attributes[semconv.RPC_METHOD] = method
        if texts.get(_ATTEMPTS, "").isdecimal():
            attributes[semconv.PREVIOUS_ATTEMPTS] = int(texts[_ATTEMPTS])
        return recording

    def own(self, name: str) -> Recording:
        """Begin a trace of something that this process does by itself."""
        return self._begin(name, SpanKind.INTERNAL, {}, keeps=True)

    def silent(self) -> Recording:
        """Begin what is recorded nowhere, neither here nor by those that it calls."""
        return Recording("", SpanKind.INTERNAL, _new_trace_id(), None, UNRECORDED, self._export)

    def notes_for_caller(self, recording: Recording) -> bytes | None:
        """Return the notes of a call for a caller who decides whether they matter, as of now."""
        if not recording.mode.returns_notes:
            return None
        try:
            return leaf_notes.write(recording, self._origin)
        except (TypeError, ValueError):  # what was noted must never cost the answer
            _log.exception("notes are not returned")
            return None

    def _begin(
        self,
        name: str,
        kind: SpanKind,
        carrier: dict[str, str],
        *,
        keeps: bool,
    ) -> Recording:
        parent = parent_of(carrier)
        if parent is None:
            context, trace_id = _NO_PARENT, _new_trace_id()
        else:
            context = trace.set_span_in_context(NonRecordingSpan(parent), _NO_PARENT)
            trace_id = parent.trace_id
        decision = self._sampler.should_sample(context, trace_id, name, kind).decision
        is_sampled = decision is Decision.RECORD_AND_SAMPLE
        is_recording = self._processor is not None and (
            is_sampled or keeps or parent is not None  # who is in no trace has no use for notes
        )
        mode = _mode(is_sampled, is_recording, is_recording and not is_sampled and not keeps)
        return Recording(name, kind, trace_id, parent, mode, self._export)

    def _export(self, recording: Recording) -> None:
        """Hand the spans of a finished recording on, if it is kept."""
        if self._processor is None or not recording.mode.is_recording:
            return
        reason = self._reason(recording)
        if reason is None:
            return
        try:
            for span in list(spans_of(recording, self._resource, reason)):  # all or none
                self._processor.on_end(span)
        except Exception:  # noqa: BLE001  what was noted must never cost the answer
            _log.exception("a trace is not exported")

    def _reason(self, recording: Recording) -> str | None:
        if recording.mode.is_sampled:
            return SAMPLED
        if recording.mode.returns_notes:
            return None  # the caller decides
        return self._rules.reason(recording)
