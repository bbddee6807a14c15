"""Building the engines of transcription jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from steno.adapters.platform_http import RecordingJobsApi
from steno.adapters.state_dir import StateDir
from steno.app.platform import Platform
from steno.config import Config
from steno.errors import ConfigError
from steno.ports import Telemetry
from steno.recordings.calls import ApiOf, JobApi


async def engine_of(
    config: Config,
    platform: Platform,
    state: StateDir,
    stack: AsyncExitStack,
    *,
    telemetry: Telemetry,
    turn: Callable[[], Awaitable[None]],
) -> ApiOf:
    """Return what gives the calls of each engine; ``stack`` closes them.

    Args:
        turn: Waits for a turn; for calls of the platform beyond the one of a job's step.

    Raises:
        ConfigError, SpeechError: The engine of the settings cannot be built.
    """
    http = platform.primary.http
    found: dict[str, JobApi] = {
        "service": RecordingJobsApi(http, limit_s=config.platform.request_timeout_s)
    }

    def of(name: str) -> JobApi:
        if name not in found:
            raise ConfigError("jobs of another engine are waiting", setting="transcribe.engine")
        return found[name]

    return of
