"""``steno doctor signature``: why a captured AudioHook upgrade was refused."""

from __future__ import annotations

import sys
from datetime import datetime
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
)
from steno.cli.doctor_media import secrets_of

if TYPE_CHECKING:
    from steno.config import Config
    from steno.ports.audio_server import UpgradeRequest
    from steno.wire.audiohook.explanation import Explanation

KEY_HEADER = "x-api-key"


def signature(
    request: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            allow_dash=True,
            help="The upgrade request as text: a proxy's log, tcpdump -A, curl -v. Default: "
            "standard input.",
            show_default=False,
        ),
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with the client secret, as typed into the integration. Default: the "
            "secret of the request's key in media.audiohook_keys.",
            show_default=False,
        ),
    ] = None,
    authority: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST[:PORT]", help="Also try this address of the server; repeatable."
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Also try this path; repeatable."),
    ] = None,
    received: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME",
            formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S"],
            help="When it came (UTC): then its age is looked at too.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    state_dir: StateDirOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Explain why a captured AudioHook upgrade verifies or not: which component, and the cause.

    The mistakes that happen are tried until one of them gives the captured signature: a proxy
    that changes host or path, a secret that was not decoded, a method in the target, and others.
    Neither secret nor key is shown. Exit codes: 0 the signature verifies, 1 it does not, 2 the
    text or the settings are wrong.

    Example: steno doctor signature upgrade.txt --secret-file client-secret
    """
    from datetime import UTC

    from steno.adapters.doctor import read_captured
    from steno.adapters.doctor.captured import MAX_BYTES
    from steno.config import read_secret
    from steno.wire.audiohook.explanation import explain
    from steno.wire.audiohook.signature import Rules

    out = Output(json=json)
    settings = load_settings(config, state_dir=state_dir, log_level=log_level)
    if request is None or str(request) == "-":
        captured = read_captured(sys.stdin.buffer.read(MAX_BYTES))
    else:
        captured = read_captured(request.read_bytes()[:MAX_BYTES])
    secret = (
        read_secret(secret_file, setting="--secret-file").reveal()
        if secret_file
        else _configured(settings, captured)
    )
    media = settings.media
    found = (
        _without_secret(captured, is_known=secret is not None)
        if not secret
        else explain(
            captured,
            secret,
            rules=Rules(
                age_s=media.signature_age_s,
                skew_s=media.signature_skew_s,
                authority=media.public_authority,
                path=media.audiohook_public_path,
            ),
            authorities=authority or (),
            paths=path or (),
            utc_s=received.replace(tzinfo=UTC).timestamp() if received else None,
        )
    )
    _show(out, found)
    code = ExitCode.DONE if _is_good(found) else ExitCode.FAILED
    if json:
        out.result({"ok": code is ExitCode.DONE, "exit_code": code, "explanation": found})
    raise typer.Exit(code)


def _configured(settings: Config, captured: UpgradeRequest) -> str | None:
    """Return the secret of the request's key, empty for a key without one, None if unknown."""
    return secrets_of(settings).get(captured.header(KEY_HEADER).strip())


def _without_secret(captured: UpgradeRequest, *, is_known: bool) -> Explanation:
    """Return what is to be said where there is nothing to compute a signature with."""
    from steno.wire.audiohook.explanation import Explanation, Finding

    if not is_known:
        text = "This key is not in media.audiohook_keys; give its secret by --secret-file."
        return Explanation(False, (Finding(KEY_HEADER, False, text),))
    if captured.header("signature") or captured.header("signature-input"):
        text = "It is signed, but the key has no secret in media.audiohook_keys."
        return Explanation(False, (Finding("signature", False, text),))
    text = "Unsigned, and the key has no secret: it is let in."
    return Explanation(True, (Finding("signature", True, text),))


def _is_good(found: Explanation) -> bool:
    """Tell whether a server would let it in: the signature matches, and nothing else is wrong."""
    return found.matches and all(one.ok for one in found.findings)


def _show(out: Output, found: Explanation) -> None:
    for one in found.findings:
        out.line(f"{'ok  ' if one.ok else 'FAIL'}  {one.check}: {one.text}")
    if found.signed_lines:
        out.line("\nsigned there (+), built here (-):")
        for signed, built in zip(found.signed_lines, found.base_lines, strict=True):
            if signed == built:
                out.line(f"    {built}")
            else:
                out.line(f"  - {built}")
                out.line(f"  + {signed}")
    elif found.base_lines and not found.matches:
        out.line("\nbuilt here:")
        for line in found.base_lines:
            out.line(f"    {line}")
