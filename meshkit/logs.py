"""Logs: one line a record on standard error, readable or JSON, with the trace id when there is one.

RECMESH_LOG_FORMAT   text (the default) or json
RECMESH_LOG_LEVEL    debug, info (the default), warning or error
"""

import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from opentelemetry import trace

from meshkit.config import read_environment, setting


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least severe record that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How this process logs."""

    log_format: LogFormat = setting(default=LogFormat.TEXT)
    log_level: LogLevel = setting(default=LogLevel.INFO)


def setup_logs(service_name: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send every log record of the process to standard error, replacing what was set up before.

    Raises `ConfigError` when a variable holds none of its choices.
    """
    settings = read_environment(LogSettings, environ)
    formatter = _JsonLine if settings.log_format is LogFormat.JSON else _TextLine
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(service_name))
    logging.basicConfig(handlers=[handler], level=settings.log_level.upper(), force=True)


class _Line(logging.Formatter):
    """What both forms share: the parts of a record."""

    def __init__(self, service_name: str) -> None:
        super().__init__()
        self._service_name = service_name

    def parts(self, record: logging.LogRecord) -> dict[str, str]:
        parts = {
            "time": _utc(record.created),
            "level": record.levelname,
            "service": self._service_name,
            "logger": record.name,
            "message": record.getMessage(),
        }
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            parts["trace_id"] = trace.format_trace_id(span.trace_id)
        if record.exc_info:
            parts["exception"] = self.formatException(record.exc_info)
        return parts


class _JsonLine(_Line):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.parts(record), ensure_ascii=False)


class _TextLine(_Line):
    def format(self, record: logging.LogRecord) -> str:
        parts = self.parts(record)
        line = "{time} {level} {service} {logger}: {message}".format(**parts)
        if "trace_id" in parts:
            line += f" trace_id={parts['trace_id']}"
        if "exception" in parts:
            line += f" exception={parts['exception']}"
        # A caller's text with a line break in it must not look like a record of its own.
        return line.replace("\r", "\\r").replace("\n", "\\n")


def _utc(created_s: float) -> str:
    return datetime.fromtimestamp(created_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
