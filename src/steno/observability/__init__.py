"""Logs, metrics and health: what an operator may know, and nothing a caller said."""

from steno.observability.health import Health, serve_health, watch_loop
from steno.observability.telemetry import LogTelemetry, TelemetryRefused

__all__ = ["Health", "LogTelemetry", "TelemetryRefused", "serve_health", "watch_loop"]
