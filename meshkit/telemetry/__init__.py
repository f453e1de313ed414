"""Telemetry of a process: its traces and metrics, exported only when asked."""

from meshkit.telemetry.process import TraceIds, current_ids, process_recorder, setup, shutdown

__all__ = ["TraceIds", "current_ids", "process_recorder", "setup", "shutdown"]
