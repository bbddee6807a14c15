"""``steno doctor audiohook``: call an AudioHook server as the platform would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steno.cli.common import (
    ConfigOption,
    ExitCode,
    JsonOption,
    LogLevelOption,
    Output,
    StateDirOption,
    load_settings,
    run_async,
)
from steno.cli.doctor_media import secrets_of

if TYPE_CHECKING:
    from steno.adapters.doctor import AudioHookTarget


def audiohook(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="As typed into the integration: wss://host/path.")
    ],
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="API key. Default: the first of media.audiohook_keys, with its secret.",
            show_default=False,
        ),
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the client secret (base64); without one nothing is signed.",
            show_default=False,
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="PEM bundle trusted besides the system's.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Call an AudioHook server from outside as Genesys Cloud does, and tell each step with times.

    First the connection probe; then a second of silence with pings, under the probe's ids so that
    nothing is stored; then, where a secret is given, an unsigned upgrade, which must be refused.
    Any server can be called. Exit codes: 0 all well, 1 the server broke a rule, 2 usage, 3 it
    refused key or signature, 4 it could not be reached.

    Example: steno doctor audiohook wss://stt.example.org/audiohook --api-key K --secret-file S
    """
    from steno.adapters.doctor import check_audiohook, exit_code_of
    from steno.adapters.platform_http import trusted_tls

    out = Output(json=json)
    settings = load_settings(config, state_dir=state_dir, log_level=log_level)
    target = _target(url, secrets_of(settings), api_key, secret_file)
    tls = trusted_tls(ca_file or settings.platform.ca_file)
    findings = run_async(lambda stop: check_audiohook(target, tls=tls))
    for finding in findings:
        mark = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}[finding.verdict]
        out.line(f"{mark}  {finding.check}: {finding.what}")
        if finding.fix:
            out.line(f"      → {finding.fix}")
    code = exit_code_of(findings)
    if json:
        out.result({"ok": code == ExitCode.DONE, "exit_code": code, "checks": findings})
    raise typer.Exit(code)


def _target(
    url: str, keys: dict[str, str], api_key: str | None, secret_file: Path | None
) -> AudioHookTarget:
    from steno.adapters.doctor import AudioHookTarget
    from steno.config import read_secret
    from steno.wire.audiohook.signature import decode_secret

    key = api_key if api_key is not None else next(iter(keys), "")
    text = (
        keys.get(key, "")
        if secret_file is None
        else read_secret(secret_file, setting="--secret-file").reveal()
    )
    return AudioHookTarget(url, key, decode_secret(text))
