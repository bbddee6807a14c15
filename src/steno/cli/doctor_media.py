"""The part of ``steno doctor`` that looks at what ``steno media`` needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steno.adapters.doctor import Finding
    from steno.config import Config
    from steno.wire.http import HttpExchange


def wants_media(config: Config) -> bool:
    """Tell whether the media capability is enabled, or somebody has begun to set it up."""
    return "media" in config.features or any(
        setting.startswith(("media.", "speech.")) for setting in config.origins
    )


def secrets_of(config: Config) -> dict[str, str]:
    """Return the AudioHook keys with their secrets as text; they were checked with the settings."""
    import msgspec

    return msgspec.json.decode(config.media.audiohook_keys.reveal() or "{}", type=dict[str, str])


async def examine_media(
    config: Config, tell: Callable[[Finding], None], http: HttpExchange
) -> None:
    """Tell what is found about the server, who may connect, and recognition, in this order."""
    from datetime import UTC, datetime

    from steno.adapters.doctor import (
        check_audiohook_keys,
        check_bearer,
        check_certificate,
        check_listen,
        check_recordings,
    )
    from steno.wire.audiohook.signature import decode_secret

    _settings(config, tell)
    media = config.media
    keys = {key: decode_secret(text) for key, text in secrets_of(config).items()}
    has_tls = media.tls_cert is not None and media.tls_key is not None
    for finding in check_listen(
        media.listen, has_tls=has_tls, behind_proxy=bool(media.behind_proxy)
    ):
        tell(finding)
    if media.tls_cert is not None and media.tls_key is not None:
        for finding in check_certificate(media.tls_cert, media.tls_key, now=datetime.now(UTC)):
            tell(finding)
    for finding in check_audiohook_keys(keys):
        tell(finding)
    for finding in await check_bearer(
        media.bearer_tokens,
        jwks_url=media.bearer_jwks_url,
        check_url=media.bearer_check_url,
        http=http,
    ):
        tell(finding)
    if media.recordings is not None:
        tell(check_recordings(media.recordings))
    await _recognition(config, tell)


async def _recognition(config: Config, tell: Callable[[Finding], None]) -> None:
    from steno.adapters.doctor import GrpcPeer, check_engine, check_speech
    from steno.core.addresses import split_address
    from steno.core.hosts import is_loopback

    media, speech = config.media, config.speech
    if speech.address and not speech.engine:
        name, _ = split_address(speech.address, setting="speech.address")
        peer = GrpcPeer(
            "speech",
            speech.address,
            tls=speech.tls == "on" or (speech.tls == "auto" and not is_loopback(name)),
            ca_file=speech.ca_file,
            cert_file=speech.cert_file,
            key_file=speech.key_file,
            server_name=speech.server_name,
        )
        tell(await check_speech(peer))
    elif speech.engine and speech.engine != "none":
        named = speech.engine == "whisper"
        tell(check_engine("speech.engine", speech.engine, speech.model, may_be_named=named))
    if media.identifier in ("whisper", "text"):
        tell(
            check_engine(
                "media.identifier", media.identifier, media.identifier_model, may_be_named=True
            )
        )
    if media.voice_activity == "silero":
        model = str(media.silero_model or "")
        tell(check_engine("media.voice_activity", "silero", model, may_be_named=False))


def _settings(config: Config, tell: Callable[[Finding], None]) -> None:
    """Tell what ``steno media`` would not start without."""
    from steno.adapters.doctor import Area, Finding, Verdict
    from steno.config import require_media
    from steno.errors import ConfigError, ConfigProblems

    try:
        require_media(config)
    except ConfigError as error:
        problems = error.problems if isinstance(error, ConfigProblems) else (error,)
        for one in problems:
            what = f"{one.summary} ({one.setting})"
            tell(Finding("media settings", Verdict.FAIL, what, one.fix, Area.CONFIG))
    else:
        what = f"sound; {config.media.audiohook_path} and {config.media.json_path}"
        tell(Finding("media settings", Verdict.OK, what, area=Area.CONFIG))
