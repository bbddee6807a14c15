"""Building the recogniser of the settings: a service over gRPC, or an engine in this process."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from steno.adapters.speech.engines.choosing import EngineName
from steno.config import Config
from steno.ports import Telemetry
from steno.ports.speech import Recogniser


@dataclass(frozen=True, slots=True)
class Listening:
    """A recogniser, and what the capability needs to know of it.

    Attributes:
        recogniser: None: nothing is recognised (``--engine none``).
        flush: Sends what streams have pending.
        replay_share: Of the memory for unanswered audio in use, 0..1.
        trouble: Why nothing can be recognised now; empty when it can, as far as is known.
    """

    recogniser: Recogniser | None = None
    flush: Callable[[], None] | None = None
    replay_share: Callable[[], float] | None = None
    trouble: Callable[[], str] = str


async def open_recogniser(
    config: Config, telemetry: Telemetry, *, piece_s: float | None = None
) -> Listening:
    """Build what the settings name; an engine in this process wins over a service.

    Args:
        piece_s: Longest message to a service, as far as audio waits; its own default if None.

    Raises:
        ConfigError: A file or address cannot be used.
        SpeechError: The engine or its model cannot be used.
    """
    engine = config.speech.engine
    if engine == "none":
        return Listening()
    if engine == "":
        return _service(config, telemetry, piece_s)
    return await _local(config, engine, telemetry)


def _service(config: Config, telemetry: Telemetry, piece_s: float | None) -> Listening:
    from steno.adapters.grpc_channel import GrpcSettings
    from steno.adapters.speech.grpc_client import GrpcRecogniser, SpeechServiceSettings
    from steno.wire.speech_stream import Limits

    speech, media = config.speech, config.media
    # It gives up a little earlier than the calls do, and tells what was not answered.
    limits = Limits(buffer_s=media.replay_s, finish_s=max(0.5, media.shutdown_s - 2.0))
    recogniser = GrpcRecogniser(
        SpeechServiceSettings(
            grpc=GrpcSettings(
                target=speech.address,
                tls={"auto": None, "on": True, "off": False}[speech.tls],
                ca_file=speech.ca_file,
                cert_file=speech.cert_file,
                key_file=speech.key_file,
                server_name=speech.server_name,
                token=speech.token,
            ),
            service=speech.service,
            limits=limits if piece_s is None else msgspec.structs.replace(limits, merge_s=piece_s),
            budget_bytes=media.replay_mb << 20,
        ),
        telemetry=telemetry,
        clock=time.monotonic,
        draw=random.random,
    )
    budget = recogniser.budget
    return Listening(
        recogniser,
        recogniser.flush,
        lambda: budget.waiting / budget.limit,
        lambda: "speech service away" if recogniser.is_away else "",
    )


async def _local(config: Config, engine: EngineName, telemetry: Telemetry) -> Listening:
    """Load the engine off the loop: a large model takes seconds."""
    from steno.adapters.speech.engines.choosing import choose_engine
    from steno.adapters.speech.local import LocalRecogniser

    speech = config.speech
    loaded = await asyncio.to_thread(
        choose_engine,
        engine,
        model=speech.model,
        grammar=speech.grammar,
        workers=speech.workers,
    )
    recogniser = LocalRecogniser(
        loaded, telemetry=telemetry, workers=speech.workers, buffer_s=config.media.replay_s
    )
    return Listening(recogniser)
