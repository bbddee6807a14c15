"""``steno media``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from steno.cli.common import (
    ConfigOption,
    JsonOption,
    LogLevelOption,
    Output,
    StateDirOption,
    load_settings,
)


def media(
    listen: Annotated[
        str | None,
        typer.Option(help="Address to serve on.", metavar="HOST:PORT", show_default=False),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM certificate chain.", show_default=False)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="Its private key.", show_default=False)
    ] = None,
    stt: Annotated[
        str | None,
        typer.Option(
            help="Speech-to-text service (gRPC).", metavar="HOST:PORT", show_default=False
        ),
    ] = None,
    engine: Annotated[
        Literal["none", "pocketsphinx", "whisper", "sherpa", "vosk"] | None,
        typer.Option(
            help="Recogniser in this process; none: protocol, gaps and recording only.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The engine's model: folder or file.", show_default=False)
    ] = None,
    grammar: Annotated[
        str | None,
        typer.Option(
            help="pocketsphinx: file of a grammar or language model, or: digits, orders.",
            show_default=False,
        ),
    ] = None,
    audiohook_keys: Annotated[
        Path | None,
        typer.Option(
            help="File with the JSON object of AudioHook API key to client secret (base64).",
            show_default=False,
        ),
    ] = None,
    identifier: Annotated[
        Literal["declared", "text", "whisper", "none"] | None,
        typer.Option(help="How the language is identified.", show_default=False),
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Folder for WAV recordings of the calls.", show_default=False),
    ] = None,
    grpc: Annotated[
        str | None,
        typer.Option(
            help="gRPC consumer of the sentences.", metavar="HOST:PORT", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to append JSON lines to; - is standard output.", show_default=False
        ),
    ] = None,
    health: Annotated[
        str | None,
        typer.Option(
            help="Address of health and metrics; empty for none.",
            metavar="HOST:PORT",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Serve live call audio, AudioHook at /audiohook and the JSON form at /media-api.

    Example: STENO_MEDIA_AUDIOHOOK_KEYS_FILE=keys.json steno media --listen 127.0.0.1:8080
    --stt 127.0.0.1:50061 --out calls.jsonl

    Callers prove who they are: AudioHook by its API key and signature, the JSON form by a bearer
    token (STENO_MEDIA_BEARER_TOKENS, or a JWKS or check address in the settings). Without a
    destination, sentences go to standard output as JSON lines.
    """
    from steno.cli.live import destinations_of_options, follow

    overrides: dict[str, object] = {
        "media.listen": listen,
        "media.tls_cert": tls_cert,
        "media.tls_key": tls_key,
        "media.identifier": identifier,
        "media.recordings": record,
        "speech.address": stt,
        "speech.engine": engine,
        "speech.model": model,
        "speech.grammar": grammar,
        "observability.listen": health,
        "delivery.destinations": destinations_of_options(grpc, out),
    }
    if stt is not None and engine is None:
        overrides["speech.engine"] = ""
    if audiohook_keys is not None:
        from steno.config import read_secret

        overrides["media.audiohook_keys"] = read_secret(
            audiohook_keys, setting="--audiohook-keys", origin="option"
        )
    settings = load_settings(config, state_dir=state_dir, log_level=log_level, overrides=overrides)
    follow(settings, Output(json=json), ("media",))
