"""``steno stt``: a speech-to-text service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from steno.cli.common import (
    ConfigOption,
    JsonOption,
    LogLevelOption,
    Output,
    load_settings,
    make_telemetry,
    run_async,
)

if TYPE_CHECKING:
    import asyncio

    from steno.adapters.speech.engines.choosing import EngineName
    from steno.adapters.speech.server import SpeechServerSettings, SpeechTotals
    from steno.config import Config


def stt(
    listen: Annotated[
        str,
        typer.Option(
            help="Address to serve: host:port or unix:/path; port 0 takes a free one.",
            metavar="HOST:PORT",
        ),
    ] = "127.0.0.1:50061",
    engine: Annotated[
        Literal["pocketsphinx", "whisper", "sherpa", "vosk"] | None,
        typer.Option(help="Recogniser; pocketsphinx when none is set.", show_default=False),
    ] = None,
    grammar: Annotated[
        str | None,
        typer.Option(
            help="pocketsphinx: digits, orders, a JSGF grammar or a language model.",
            metavar="FILE|NAME",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The engine's model: a folder; whisper: or a name.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Streams recognised side by side; 0: the number of processors.",
            show_default=False,
        ),
    ] = None,
    max_streams: Annotated[
        int | None,
        typer.Option(min=1, help="More streams get RESOURCE_EXHAUSTED.", show_default=False),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="PEM certificate chain; the service then speaks TLS."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="Clients must show a certificate signed by this bundle.")
    ] = None,
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="Listen beyond this machine without TLS.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    log_level: LogLevelOption = None,
) -> None:
    """Serve speech-to-text over gRPC with a recogniser in this process.

    Serves transcription.TranscriptionService, steno.v1.SpeechRecognition and the standard health
    service. pocketsphinx needs no download and hears well what a grammar allows; free speech wants
    whisper, sherpa or vosk, each an extra with a model of its own. What is not given comes from
    the section speech of the settings. STENO_SPEECH_TOKEN asks callers for
    that bearer token. Ends with SIGTERM or SIGINT, after a pause in what is being said; a second
    signal ends it at once.

    Example: steno stt --engine pocketsphinx --grammar digits

    Exit codes: 0 ended on request, 1 the engine failed, 2 wrong option, model or grammar.
    """
    # gRPC's C library writes lines of its own to standard error unless told before its import.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from steno.adapters.speech.server import SpeechServerSettings

    settings = load_settings(
        config,
        log_level=log_level,
        overrides={
            "speech.engine": engine,
            "speech.model": model,
            "speech.grammar": grammar,
            "speech.workers": workers,
            "speech.max_streams": max_streams,
        },
    )
    serving = SpeechServerSettings(
        listen=listen,
        cert_file=tls_cert,
        key_file=tls_key,
        client_ca_file=client_ca,
        plaintext=plaintext,
        token=settings.speech.token,
        max_streams=settings.speech.max_streams,
    )
    out = Output(json=json)
    totals = run_async(lambda stop: _serve(settings, serving, out, stop))
    _tell(totals, out)


async def _serve(
    settings: Config,
    serving: SpeechServerSettings,
    out: Output,
    stop: asyncio.Event,
) -> SpeechTotals:
    import asyncio

    from steno.adapters.speech.engines.choosing import choose_engine
    from steno.adapters.speech.local import LocalRecogniser
    from steno.adapters.speech.server import BUFFER_S, SpeechServer

    speech = settings.speech
    telemetry = make_telemetry(settings)
    name: EngineName = "pocketsphinx"
    if speech.engine != "" and speech.engine != "none":
        name = speech.engine
    engine = await asyncio.to_thread(
        choose_engine,
        name,
        model=speech.model,
        grammar=speech.grammar,
        workers=speech.workers,
    )
    recogniser = LocalRecogniser(
        engine, telemetry=telemetry, workers=speech.workers, buffer_s=BUFFER_S
    )
    server = SpeechServer(serving, recogniser, telemetry)
    return await server.run(stop, on_listening=lambda address: _listening(address, name, out))


def _listening(address: str, engine: str, out: Output) -> None:
    if out.json:
        out.result({"listening": address, "engine": engine})
    else:
        print(f"steno stt: {engine} listening on {address}", file=sys.stderr, flush=True)


def _tell(totals: SpeechTotals, out: Output) -> None:
    if out.json:
        out.result(totals)
        return
    print(
        f"steno stt: {totals.streams} streams, {totals.audio_s:.0f} s of audio, "
        f"{totals.finals} utterances, {totals.lost} stretches lost, {totals.refused} refused",
        file=sys.stderr,
    )
