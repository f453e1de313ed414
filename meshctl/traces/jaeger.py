"""Traces in Jaeger: its query API over HTTP, version 3 (OTLP/JSON) or the older one."""

import http.client
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

from meshctl.traces import jaeger_json, otlp_json
from meshctl.traces.loose_json import Object, member, parsed
from meshctl.traces.span import ANSWER, Span
from meshctl.traces.store import TraceStoreError

JAEGER = "RECMESH_JAEGER"
WAIT_S = 15.0  # a collector that samples by whole traces holds each of them for seconds

_TIMEOUT_S = 5.0
_MAX_BYTES = 256 << 20
_NOT_FOUND = 404
_GATEWAY = "gateway"
_LOOK_BACK = timedelta(hours=1)
_LAST = 20  # Jaeger does not promise to list the newest first


class Jaeger:
    """One Jaeger, by the URL of its query port. Raises ValueError when that is none."""

    def __init__(self, url: str, wait_s: float = WAIT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no URL of Jaeger, such as http://127.0.0.1:16686")
        self.wait_s = wait_s
        self._url = url.rstrip("/")

    @property
    def advice(self) -> str:
        """What to check when a trace is not here."""
        return (
            f"Jaeger at {self._url} does not have it: do the mesh's processes and its collector"
            " run, was the request kept (sampled, slow, degraded or failed), and is it recent"
            " enough for Jaeger's storage?"
        )

    def spans(self, trace_id: str) -> Sequence[Span]:
        """Return what Jaeger has of a trace now."""
        answer = self._get(f"/api/v3/traces/{trace_id}", {})
        if answer is None:
            answer = self._get(f"/api/traces/{trace_id}", {})
        return [span for span in _spans_of(answer) if span.trace_id == trace_id]

    def last_answer(self) -> Span | None:
        """Return the span of the newest answer of the last hour, by its end."""
        now = datetime.now(UTC)
        answer = self._get("/api/v3/traces", _search(now - _LOOK_BACK, now))
        if answer is None:
            answer = self._get("/api/traces", _older_search(now - _LOOK_BACK, now))
        answers = (span for span in _spans_of(answer) if span.is_answer)
        return max(answers, key=lambda span: span.end_ns, default=None)

    def faults(self) -> Sequence[str]:
        """Nothing is read in part."""
        return ()

    def _get(self, path: str, query: Mapping[str, str]) -> object | None:
        """Return the JSON at a path, None where this Jaeger has nothing. Raises TraceStoreError."""
        url = f"{self._url}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            # The scheme was checked: no file is read.
            with urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310
                content: bytes = response.read(_MAX_BYTES)
                is_json = response.headers.get_content_type() != "text/html"
        except HTTPError as exc:
            with exc:
                if exc.code == _NOT_FOUND:
                    return None
                raise TraceStoreError(f"{url} answers {exc.code} {exc.reason}") from exc
        except (URLError, OSError, http.client.HTTPException) as exc:
            reason = exc.reason if isinstance(exc, URLError) else exc
            raise TraceStoreError(
                f"Jaeger at {self._url} cannot be reached: {reason}; --jaeger takes the URL of its"
                " query port, http://127.0.0.1:16686 by default"
            ) from exc
        # It answers a path that it does not know with its page.
        return self._parsed(url, content) if is_json else None

    def _parsed(self, url: str, content: bytes) -> object:
        try:
            return parsed(content)
        except ValueError as exc:
            raise TraceStoreError(f"{url} does not answer JSON; is this Jaeger?") from exc


def _spans_of(answer: object) -> Iterator[Span]:
    if not isinstance(answer, dict):
        return
    if "data" in answer:
        yield from jaeger_json.spans_of(answer)
    else:
        yield from otlp_json.spans_of(_request_of(answer))


def _request_of(answer: Object) -> Object:
    # Versions differ in whether there is a wrapper.
    return member(answer, "result") if "result" in answer else answer


def _search(since: datetime, until: datetime) -> dict[str, str]:
    # Jaeger 2.19 renamed its parameters; each version ignores what it does not know.
    return {
        "query.serviceName": _GATEWAY,
        "query.service_name": _GATEWAY,
        "query.operationName": ANSWER,
        "query.operation_name": ANSWER,
        "query.startTimeMin": _rfc3339(since),
        "query.start_time_min": _rfc3339(since),
        "query.startTimeMax": _rfc3339(until),
        "query.start_time_max": _rfc3339(until),
        "query.searchDepth": str(_LAST),
        "query.num_traces": str(_LAST),
    }


def _older_search(since: datetime, until: datetime) -> dict[str, str]:
    return {
        "service": _GATEWAY,
        "operation": ANSWER,
        "start": str(int(since.timestamp() * 1e6)),
        "end": str(int(until.timestamp() * 1e6)),
        "limit": str(_LAST),
    }


def _rfc3339(when: datetime) -> str:
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")
