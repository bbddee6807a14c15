"""``steno-sim webhooks``: receive webhooks, check them, and answer as told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from steno_sim.webhooks.receiver import WebhookReceiver

EXAMPLE = """Receive webhooks, check their signatures, and answer by a script.

Example: each message gets 503 twice, then 200; one in ten messages is struck so.

\b
    WEBHOOK_SECRET=whsec_… steno-sim webhooks --listen 127.0.0.1:9090 \\
        --secret-env WEBHOOK_SECRET --out deliveries.jsonl --fail 503*2,200 --share 0.1

Steps of the script: a status (429:5 adds Retry-After: 5), redirect:URL, timeout[:SECONDS],
huge[:BYTES], headers[:BYTES], drip[:SECONDS], reset, garbage; *N repeats one, and the
last stays for ever. It serves until SIGINT or SIGTERM.
"""


class _Usage(Exception):
    """An option is wrong; the message never holds a secret."""


def webhooks(
    listen: Annotated[str, typer.Option(help="Address and port; port 0 takes a free one.")] = (
        "127.0.0.1:9090"
    ),
    out: Annotated[
        Path | None, typer.Option(help="File that gets a line of JSON for each delivery.")
    ] = None,
    fail: Annotated[str, typer.Option(help="Script of answers, as above.")] = "200",
    share: Annotated[
        float, typer.Option(min=0, max=1, help="Part of the messages the script is for.")
    ] = 1.0,
    secret_env: Annotated[str, typer.Option(help="Variable with the secrets (whsec_…).")] = "",
    secret_file: Annotated[
        Path | None, typer.Option(help="File with the secrets (whsec_…).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON line at the end.")
    ] = False,
) -> None:
    """Receive webhooks; see the command's own help."""
    from steno_sim.webhooks.receiver import WebhookReceiver

    try:
        address, port = _address(listen)
        receiver = WebhookReceiver(
            secret=_secret(secret_env, secret_file),
            script=fail,
            share=share,
            listen=address,
            port=port,
            out=out,
        )
        counts = asyncio.run(_serve(receiver))
    except (_Usage, ValueError) as error:
        typer.echo(f"steno-sim: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"steno-sim: {error.strerror or error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(json.dumps(counts) if as_json else _sentence(counts), err=not as_json)


async def _serve(receiver: WebhookReceiver) -> dict[str, Any]:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with receiver:
        typer.echo(f"steno-sim: webhooks are received at {receiver.url}", err=True)
        await stop.wait()
        return receiver.stats()


def _sentence(counts: dict[str, Any]) -> str:
    return (
        f"steno-sim: {counts['deliveries']} deliveries of {counts['messages']} messages, "
        f"{counts['accepted']} accepted"
    )


def _secret(variable: str, file: Path | None) -> str:
    if variable and file is not None:
        raise _Usage("--secret-env and --secret-file exclude each other")
    if file is not None:
        return file.read_text()
    if variable and not os.environ.get(variable):
        raise _Usage(f"the variable {variable} is not set")
    return os.environ.get(variable, "") if variable else ""


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise _Usage("--listen takes address:port")
    return host.strip("[]") or "127.0.0.1", int(port)
