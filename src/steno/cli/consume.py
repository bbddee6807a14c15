"""``steno consume``: the reference consumer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steno.cli.common import run_async

if TYPE_CHECKING:
    from steno.adapters.consumer.server import Summary

TOKEN_VARIABLE = "STENO_CONSUME_TOKEN"  # noqa: S105 - the variable's name


def consume(
    listen: Annotated[
        str,
        typer.Option(help="Address to serve: host:port or unix:/path; port 0 takes a free one."),
    ] = "127.0.0.1:50051",
    out: Annotated[
        str, typer.Option(help="File of JSON lines, appended to; '-' is standard output.")
    ] = "-",
    tls_cert: Annotated[
        Path | None, typer.Option(help="PEM certificate chain; the server then speaks TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="Clients must show a certificate signed by this bundle.")
    ] = None,
    plaintext: Annotated[
        bool, typer.Option("--plaintext", help="Listen beyond this machine without TLS.")
    ] = False,
    delay_ms: Annotated[
        float, typer.Option(min=0, help="Fault switch: wait this long before each ack.")
    ] = 0.0,
    fail_every: Annotated[
        int, typer.Option(min=0, help="Fault switch: answer UNAVAILABLE to each Nth record.")
    ] = 0,
    reject_every: Annotated[
        int, typer.Option(min=0, help="Fault switch: refuse each Nth record for good.")
    ] = 0,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the totals as JSON at the end.")
    ] = False,
) -> None:
    """Receive records over gRPC and write them as JSON lines.

    Serves steno.v1.RecordStream, transcript.v1.TranscriptStream and the standard health
    service. A record is acknowledged after its line is on disk; a repeat is dropped, also after
    a restart, for the file is read back. To standard output nothing is read back, and --json goes
    to standard error. STENO_CONSUME_TOKEN asks callers for that bearer token. Ends with
    SIGTERM or SIGINT, after what is in flight; a second signal ends it at once.

    Example: steno consume --out sentences.jsonl --json

    Exit codes: 0 ended on request, 1 the file failed, 2 wrong option or address in use.
    """
    # gRPC's C library writes lines of its own to standard error unless told before its import.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from steno.adapters.consumer.server import Consumer, ConsumerSettings
    from steno.core.secret import Secret
    from steno.errors import ConfigError, StenoError

    try:
        consumer = Consumer(
            ConsumerSettings(
                listen=listen,
                out=None if out == "-" else Path(out),
                cert_file=tls_cert,
                key_file=tls_key,
                client_ca_file=client_ca,
                plaintext=plaintext,
                token=Secret(os.environ.get(TOKEN_VARIABLE, "")),
                delay_ms=delay_ms,
                fail_every=fail_every,
                reject_every=reject_every,
            )
        )
        summary = run_async(lambda stop: consumer.run(stop, on_listening=_listening))
    except StenoError as error:
        print(f"steno consume: {error}", file=sys.stderr)
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
    _tell(summary, as_json=json_output, to_stdout=out != "-")


def _listening(address: str) -> None:
    print(f"steno consume: listening on {address}", file=sys.stderr, flush=True)


def _tell(summary: Summary, *, as_json: bool, to_stdout: bool) -> None:
    import msgspec

    if as_json:
        line = msgspec.json.encode(summary).decode()
        print(line, file=sys.stdout if to_stdout else sys.stderr, flush=True)
        return
    print(
        f"steno consume: {summary.received} received, {summary.stored} stored, "
        f"{summary.repeated} repeated, {summary.rejected} rejected",
        file=sys.stderr,
    )
