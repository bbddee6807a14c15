"""``steno live`` and ``steno run``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from steno.cli.common import (
    ConfigOption,
    JsonOption,
    LogLevelOption,
    Output,
    StateDirOption,
    load_settings,
    make_telemetry,
    run_async,
)

if TYPE_CHECKING:
    import asyncio

    from steno.config import Config


def live(
    source: Annotated[
        Literal["transcript-stream", "notifications"] | None,
        typer.Option(help="Where live transcripts come from.", show_default=False),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Platform host: name, https://name, or ws://host:port on loopback.",
            show_default=False,
        ),
    ] = None,
    backup_host: Annotated[
        str | None, typer.Option(help="Host of the backup region.", show_default=False)
    ] = None,
    conversation: Annotated[
        list[str] | None,
        typer.Option(help="Conversation to follow; repeat for more. None: all.", metavar="ID"),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(help="Notifications: follow the calls of this queue.", metavar="ID"),
    ] = None,
    user: Annotated[
        list[str] | None,
        typer.Option(help="Notifications: follow the calls of this user.", metavar="ID"),
    ] = None,
    grpc: Annotated[
        str | None,
        typer.Option(help="gRPC consumer to deliver to.", metavar="HOST:PORT", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to append JSON lines to; - is standard output.", show_default=False
        ),
    ] = None,
    sockets: Annotated[
        int | None, typer.Option(help="Sockets side by side.", show_default=False)
    ] = None,
    window_s: Annotated[
        float | None,
        typer.Option(help="Seconds after which an open sentence is closed.", show_default=False),
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
    """Follow live transcripts and deliver clean, redacted sentences, until SIGTERM or Ctrl-C.

    Example: OAUTH_CLIENT_ID=… OAUTH_CLIENT_SECRET=… steno live --host myorg.example.com
    --backup-host myorg-dr.example.com --grpc 127.0.0.1:50051

    Without a destination, sentences go to standard output as JSON lines. With --json a summary
    follows at the end on standard output (when no sentences go there).
    """
    overrides: dict[str, object] = {
        "live.source": source,
        "platform.host": host,
        "platform.backup_host": backup_host,
        "live.conversations": tuple(conversation) if conversation else None,
        "live.queues": tuple(queue) if queue else None,
        "live.users": tuple(user) if user else None,
        "live.sockets": sockets,
        "live.window_s": window_s,
        "observability.listen": health,
        "delivery.destinations": destinations_of_options(grpc, out),
    }
    settings = load_settings(config, state_dir=state_dir, log_level=log_level, overrides=overrides)
    follow(settings, Output(json=json), ("live",))


def run(
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Run everything the configuration enables, in one process, until SIGTERM or Ctrl-C.

    Example: steno run --config /etc/steno/steno.toml
    """
    settings = load_settings(config, state_dir=state_dir, log_level=log_level)
    follow(settings, Output(json=json), settings.features)


def destinations_of_options(
    grpc: str | None, out: Path | None
) -> tuple[dict[str, object], ...] | None:
    """Return the destinations that options name; None when they name none."""
    destinations: list[dict[str, object]] = []
    if grpc is not None:
        destinations.append({"type": "grpc", "name": "grpc", "address": grpc})
    if out is not None:
        destinations.append({"type": "jsonl", "name": "jsonl", "path": str(out)})
    return tuple(destinations) or None


def follow(settings: Config, out: Output, features: Collection[str]) -> None:
    """Run capabilities until a signal ends them; the totals follow under ``--json``."""
    from steno.config import require_diarisation, require_live, require_media

    if "live" in features:
        require_live(settings)
    if "diarisation" in features:
        require_diarisation(settings)
    if "media" in features:
        require_media(settings)
    summary = run_async(lambda stop: _followed(settings, out, features, stop))
    if out.json:
        out.result(summary)


async def _followed(
    settings: Config, out: Output, features: Collection[str], stop: asyncio.Event
) -> dict[str, Any]:  # Any: facts of several types
    from steno.app.capability import RunOptions
    from steno.app.gateway import run_gateway

    export_now = None
    if collects := "diarisation" in features:
        from steno.cli.diarise_export import export_signal, written

        export_now = export_signal()
    summary = await run_gateway(
        settings,
        stop=stop,
        telemetry=make_telemetry(settings),
        features=features,
        options=RunOptions(
            on_listening=lambda address: out.note(f"listening on {address}"),
            export_now=export_now,
        ),
    )
    if collects and settings.diarisation.out:
        from steno.app.exports import is_appended, request_of

        request = request_of(settings)
        followed = settings.diarisation.follow and is_appended(request)
        facts, _ = await written(settings, out, request, stop, followed=followed)
        summary["diarisation"]["export"] = facts
    return summary
