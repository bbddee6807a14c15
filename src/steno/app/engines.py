"""Building the engines of transcription jobs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from steno.adapters.platform_http import RecordingJobsApi
from steno.adapters.state_dir import StateDir
from steno.app.platform import Platform, utc_us
from steno.config import Config
from steno.errors import ConfigError
from steno.ports import Telemetry
from steno.recordings.calls import ApiOf, JobApi

if TYPE_CHECKING:
    from steno.recordings.transcript_engine import TranscriptEngine

Turn = Callable[[], Awaitable[None]]

BUFFER_S: Final = 120.0
"""Audio of one stream that may wait for the recogniser: a file is read faster than it is heard."""

FINISH_S: Final = 300.0
"""From the last sample of a recording to the last answer."""

AWAY_S = 60.0
"""So long without the recogniser, and a recording is tried again later."""

PIECE_S: Final = 0.2
"""Longest message to a speech service: short ones end between two sentences more often."""

_CLOSE_S: Final = 2.0


def needs_conversations(config: Config) -> bool:
    """Tell whether requests must name the conversation of each recording."""
    return config.transcribe.engine != "service"


async def engine_of(
    config: Config,
    platform: Platform,
    state: StateDir,
    stack: AsyncExitStack,
    *,
    telemetry: Telemetry,
    turn: Turn,
) -> ApiOf:
    """Return what gives the calls of each engine; ``stack`` closes them.

    The engine of the settings is there, and the platform's own service for jobs that it began.

    Args:
        turn: Waits for a turn; for calls of the platform beyond the one of a job's step.

    Raises:
        ConfigError, SpeechError, StorageError: The engine of the settings cannot be built.
    """
    http, limit_s = platform.primary.http, config.platform.request_timeout_s
    found: dict[str, JobApi] = {"service": RecordingJobsApi(http, limit_s=limit_s)}
    wanted = config.transcribe.engine
    if wanted != "service":
        builder = _Builder(config, platform, state, stack, telemetry, turn)
        found["transcript"] = builder.transcripts()
        if wanted == "audio":
            found["audio"] = await builder.audio()

    def of(name: str) -> JobApi:
        if name not in found:
            raise ConfigError(
                "jobs that an earlier run began are of another engine",
                setting="transcribe.engine",
                fix=f"Run with --engine {name}, or cancel them (steno jobs cancel).",
            )
        return found[name]

    return of


class _Builder:
    """Builds engines on the platform's recordings and transcripts."""

    def __init__(
        self,
        config: Config,
        platform: Platform,
        state: StateDir,
        stack: AsyncExitStack,
        telemetry: Telemetry,
        turn: Turn,
    ) -> None:
        from steno.adapters.platform_audio import Downloads, PlatformAudio
        from steno.adapters.platform_http import map_aiohttp_error, trusted_tls

        self._config = config
        self._stack = stack
        self._telemetry = telemetry
        self._turn = turn
        http = platform.primary.http
        self._platform = PlatformAudio(http, limit_s=config.platform.request_timeout_s)
        tls = trusted_tls(config.platform.ca_file)
        self._downloads = Downloads(
            state.root / "downloads",
            max_bytes=config.transcribe.audio_max_mb << 20,
            map_error=map_aiohttp_error,
            tls=tls,
            proxy=config.platform.proxy or None,
            allow_http=http.host.http_base.startswith("http:"),
            allow=config.archive.link_allow,
        )
        stack.push_async_callback(self._downloads.close)

    def transcripts(self) -> TranscriptEngine:
        """Return the engine of finished transcripts."""
        from steno.recordings.transcript_engine import TranscriptEngine

        return TranscriptEngine(
            self._platform,
            self._downloads,
            telemetry=self._telemetry,
            turn=self._turn,
            utc_us=utc_us,
            wait_s=self._config.transcribe.transcript_wait_s,
        )

    async def audio(self) -> JobApi:
        """Return the engine of recordings.

        Raises:
            ConfigError, SpeechError: There is no recogniser, or it cannot be used.
        """
        from steno.adapters.audio_files import open_audio
        from steno.app.speech import open_recogniser
        from steno.recordings.audio_jobs import HearingSettings
        from steno.recordings.engines import AudioEngine
        from steno.recordings.media_sources import BatchSource, FormatSource, MediaSource
        from steno.recordings.transcript_engine import TranscriptFirst

        wanted, speech = self._config.transcribe, self._config.speech
        if not (speech.address or speech.engine) or speech.engine == "none":
            raise ConfigError(
                "no recogniser",
                setting="speech.address",
                fix="Set speech.address (TRANSCRIPTION_GRPC_ADDR), or speech.engine.",
            )
        listening = await open_recogniser(
            _for_files(self._config), self._telemetry, piece_s=PIECE_S
        )
        recogniser = listening.recogniser
        assert recogniser is not None  # only the engine none has none
        self._stack.push_async_callback(recogniser.close, _CLOSE_S)
        source: MediaSource
        if wanted.audio_source == "batch":
            source = BatchSource(self._platform, turn=self._turn, clock=time.monotonic)
        else:
            source = FormatSource(self._platform, form=wanted.audio_format)
        engine = AudioEngine(
            self._platform,
            source,
            self._downloads,
            recogniser,
            partial(open_audio, rate_hz=wanted.audio_rate_hz),
            telemetry=self._telemetry,
            clock=time.monotonic,
            turn=self._turn,
            concurrency=wanted.audio_concurrency,
            retries=wanted.retries,
            hearing=HearingSettings(speakers=wanted.audio_speakers, away_s=AWAY_S),
        )
        self._stack.push_async_callback(engine.close)
        if not wanted.transcript_first:
            return engine
        return TranscriptFirst(self.transcripts(), engine, turn=self._turn)


def _for_files(config: Config) -> Config:
    """Return the settings by which a recogniser is built that is given files instead of calls."""
    media = msgspec.structs.replace(config.media, replay_s=BUFFER_S, shutdown_s=FINISH_S)
    return msgspec.structs.replace(config, media=media)
