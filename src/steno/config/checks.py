"""Rules between settings, and what a command cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from steno.config.destinations import (
    AnyDestination,
    GrpcDestination,
    JsonlDestination,
    ObjectsDestination,
    WebhookDestination,
)
from steno.config.settings import Config, Family, SegmentSource, Source
from steno.core.addresses import split_address
from steno.core.hosts import is_loopback, real_hosts, tutorial_hosts
from steno.errors import ConfigError, ConfigProblems

OBJECT_SCHEMES = ("s3", "gs", "az", "file")


def check(config: Config) -> list[ConfigError]:
    """Return what does not fit together; an empty list is a sound configuration."""
    return [
        *_platform(config),
        *_live(config),
        *_diarisation(config),
        *_media(config),
        *_speech(config),
        *_transcribe(config),
        *_archive(config),
        *_observability(config),
        *_destinations(config),
    ]


def require_live(config: Config) -> None:
    """Make sure that ``steno live`` has what it needs to connect.

    Raises:
        ConfigError: A credential is missing, or there is nothing to follow.
    """
    live = config.live
    follows = bool(live.conversations or live.queues or live.users)
    notified = live.source is Source.NOTIFICATIONS
    _require_source(config, "live", nothing=notified and not follows)


def require_diarisation(config: Config) -> None:
    """Make sure that ``steno diarise`` has what it needs to connect.

    Raises:
        ConfigError: A credential is missing, or there is nothing to follow.
    """
    wanted = config.diarisation
    follows = bool(wanted.conversations or wanted.queues or wanted.users)
    notified = wanted.source is SegmentSource.NOTIFICATIONS
    _require_source(config, "diarisation", nothing=notified and not follows)


def require_transcribe(config: Config) -> None:
    """Make sure that ``steno transcribe`` has what it needs to connect.

    Raises:
        ConfigError: A credential is missing.
    """
    _require_source(config, "transcribe", nothing=False)


def require_archive(config: Config) -> None:
    """Make sure that ``steno archive`` has what it needs to connect.

    Raises:
        ConfigError: A credential is missing.
    """
    _require_source(config, "archive", nothing=False)


def _require_source(config: Config, section: str, *, nothing: bool) -> None:
    problems: list[ConfigError] = []
    platform = config.platform
    if not platform.client_id and not platform.jwt_config:
        problems.append(
            ConfigError(
                "no OAuth client",
                setting="platform.client_id",
                fix="Set STENO_PLATFORM_CLIENT_ID (or OAUTH_CLIENT_ID, GENESYS_CLIENT_ID).",
            )
        )
    if not (platform.client_secret or platform.private_key or platform.jwt_config):
        problems.append(
            ConfigError(
                "no credentials",
                setting="platform.client_secret",
                fix="Set STENO_PLATFORM_CLIENT_SECRET, or platform.client_secret_file.",
            )
        )
    if nothing:
        problems.append(
            ConfigError(
                "nothing to follow",
                setting=f"{section}.queues",
                fix="Name conversations, queues or users.",
            )
        )
    if problems:
        raise problems[0] if len(problems) == 1 else ConfigProblems(problems)


def require_media(config: Config) -> None:
    """Make sure that ``steno media`` knows who may call and what recognises.

    Raises:
        ConfigError: Nobody could connect, or nothing would come of it.
    """
    problems: list[ConfigError] = []
    media, speech = config.media, config.speech
    opens = (
        media.audiohook_keys,
        media.bearer_tokens,
        media.bearer_jwks_url,
        media.bearer_check_url,
    )
    if not any(opens):
        problems.append(
            ConfigError(
                "nobody could connect: no AudioHook key and no bearer token",
                setting="media.audiohook_keys",
                fix="Set STENO_MEDIA_AUDIOHOOK_KEYS (JSON) or STENO_MEDIA_BEARER_TOKENS.",
            )
        )
    if not speech.address and not speech.engine:
        problems.append(
            ConfigError(
                "no recogniser",
                setting="speech.address",
                fix="Give --stt HOST:PORT, or --engine NAME (none: without recognition).",
            )
        )
    if problems:
        raise problems[0] if len(problems) == 1 else ConfigProblems(problems)


def _media(config: Config) -> Iterator[ConfigError]:
    media = config.media
    listen = partial(split_address, media.listen, setting="media.listen")
    yield from _tried(config, "media.listen", listen)
    if (media.tls_cert is None) != (media.tls_key is None):
        yield _wrong(config, "media.tls_cert", "certificate and key go together", "Give both.")
    if media.audiohook_path == media.json_path:
        yield _wrong(config, "media.json_path", "both forms have one path", "Change one.")
    if media.coalesce_max_ms < media.coalesce_ms:
        yield _wrong(
            config, "media.coalesce_max_ms", "less than coalesce_ms", "Give at least as much."
        )
    if not media.languages:
        yield _wrong(config, "media.languages", "no language", 'Name at least one, as ["en-US"].')
    for key in ("bearer_jwks_url", "bearer_check_url"):
        value = getattr(media, key)
        if value and not _is_web_address(value):
            yield _wrong(
                config, f"media.{key}", "not an https address", "http is for loopback only."
            )
    if media.audiohook_keys:
        yield from _audiohook_keys(config)


def _audiohook_keys(config: Config) -> Iterator[ConfigError]:
    from steno.wire.audiohook.signature import Keyring  # most commands have no keys

    try:
        Keyring.parse(config.media.audiohook_keys)
    except ConfigError as error:
        yield error


def _speech(config: Config) -> Iterator[ConfigError]:
    speech = config.speech
    if (speech.cert_file is None) != (speech.key_file is None):
        yield _wrong(config, "speech.cert_file", "certificate and key go together", "Give both.")
    if not speech.address:
        return
    listen = partial(split_address, speech.address, setting="speech.address")
    problems = list(_tried(config, "speech.address", listen))
    yield from problems
    if problems:
        return
    host, _ = split_address(speech.address, setting="speech.address")
    plain = speech.tls == "off" or (speech.tls == "auto" and is_loopback(host))
    if speech.tls == "off" and not is_loopback(host):
        yield _wrong(config, "speech.tls", "plain text is for loopback only", "Leave tls at auto.")
    if speech.token and plain:
        yield _wrong(config, "speech.token", "a token is sent over TLS only", "Set tls to on.")


def _is_web_address(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "http":
        return is_loopback(parts.hostname or "")
    return parts.scheme == "https" and bool(parts.hostname)


def _tried(config: Config, setting: str, parse: Callable[..., object]) -> Iterator[ConfigError]:
    try:
        parse(origin=config.origins.get(setting, "default"))
    except ConfigError as error:
        yield error


def _platform(config: Config) -> Iterator[ConfigError]:
    platform = config.platform
    hosts = real_hosts if platform.family is Family.GENESYS_CLOUD else tutorial_hosts
    for key in ("host", "backup_host", "environment"):
        setting, value = f"platform.{key}", str(getattr(platform, key))
        if value:
            yield from _tried(config, setting, partial(hosts, value, setting=setting))
    if platform.proxy and urlsplit(platform.proxy).scheme not in {"http", "https"}:
        yield _wrong(config, "platform.proxy", "not a proxy", "Write http://host:port.")


def _live(config: Config) -> Iterator[ConfigError]:
    if not config.features:
        yield _wrong(config, "features", "nothing is enabled", 'Name a capability, as ["live"].')
    real = config.platform.family is Family.GENESYS_CLOUD
    if real and config.live.source is Source.TRANSCRIPT_STREAM:
        yield _wrong(
            config,
            "live.source",
            "the real platform has no transcript stream",
            "Use notifications.",
        )


def _diarisation(config: Config) -> Iterator[ConfigError]:
    wanted = config.diarisation
    real = config.platform.family is Family.GENESYS_CLOUD
    if real and wanted.source is SegmentSource.EVENT_SOCKET:
        yield _wrong(
            config,
            "diarisation.source",
            "the real platform has no event socket",
            "Use notifications.",
        )
    socket = wanted.source is SegmentSource.EVENT_SOCKET
    for setting in ("queues", "users"):
        if socket and getattr(wanted, setting):
            yield _wrong(
                config,
                f"diarisation.{setting}",
                "the event socket gives every conversation, whosever it is",
                "Name conversations, or use notifications.",
            )
    if wanted.backoff_max_s < wanted.backoff_first_s:
        yield _wrong(
            config, "diarisation.backoff_max_s", "less than backoff_first_s", "Give at least that."
        )
    if wanted.subscribe and not wanted.events:
        yield _wrong(config, "diarisation.events", "no event type", "Name one, or set subscribe.")


def _transcribe(config: Config) -> Iterator[ConfigError]:
    wanted = config.transcribe
    for first, most in (("poll_first_s", "poll_max_s"), ("retry_first_s", "retry_max_s")):
        if getattr(wanted, first) > getattr(wanted, most):
            yield ConfigError(
                "the first wait is longer than the longest",
                setting=f"transcribe.{first}",
                fix=f"Raise transcribe.{most}.",
            )
    yield from _networks("transcribe.webhook_allow", wanted.webhook_allow)


def _archive(config: Config) -> Iterator[ConfigError]:
    yield from _networks("archive.link_allow", config.archive.link_allow)


def _networks(setting: str, entries: tuple[str, ...]) -> Iterator[ConfigError]:
    for entry in entries:
        try:
            ip_network(entry, strict=False)
        except ValueError:
            yield ConfigError(
                "an allow-list entry is not a network",
                setting=setting,
                fix="Write an address or a network such as 10.0.0.0/8.",
            )


def _observability(config: Config) -> Iterator[ConfigError]:
    setting, listen = "observability.listen", config.observability.listen
    if listen:
        yield from _tried(config, setting, partial(split_address, listen, setting=setting))


def _destinations(config: Config) -> Iterator[ConfigError]:
    for index, one in enumerate(config.delivery.destinations):
        setting = f"delivery.destinations[{index}]"
        for key, summary, fix in _faults(one):
            yield ConfigError(
                summary,
                setting=f"{setting}.{key}",
                origin=config.origins.get("delivery.destinations", ""),
                fix=fix,
            )


def _faults(one: AnyDestination) -> Iterator[tuple[str, str, str]]:
    match one:
        case GrpcDestination():
            yield from _grpc_faults(one)
        case JsonlDestination(path=path):
            if path == Path():
                yield "path", "no path", "Name a file, or - for standard output."
        case ObjectsDestination(url=url):
            if urlsplit(url).scheme not in OBJECT_SCHEMES:
                yield "url", "not an object store", f"One of {', '.join(OBJECT_SCHEMES)}."
        case WebhookDestination():
            yield from _webhook_faults(one)


def _grpc_faults(one: GrpcDestination) -> Iterator[tuple[str, str, str]]:
    try:
        host, _ = split_address(one.address, setting="address")
    except ConfigError:
        yield "address", "not an address", "Write host:port."
        return
    plain = one.tls == "off" or (one.tls == "auto" and is_loopback(host))
    if one.tls == "off" and not is_loopback(host):
        yield "tls", "plain text is for loopback only", "Leave tls at auto."
    if (one.cert_file is None) != (one.key_file is None):
        yield "cert_file", "certificate and key go together", "Give both or neither."
    if one.token and plain:
        yield "token", "a token is sent over TLS only", "Set tls to on."


def _webhook_faults(one: WebhookDestination) -> Iterator[tuple[str, str, str]]:
    parts = urlsplit(one.url)
    if parts.username or parts.password:
        yield "url", "no user or password in an address", "Requests are signed instead."
    plain_ok = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if parts.scheme != "https" and not plain_ok:
        yield "url", "not https", "Plain http is for loopback only."
    if not one.secret:
        yield "secret", "no signing secret", "Set secret_file, or the variable named for it."


def _wrong(config: Config, setting: str, summary: str, fix: str) -> ConfigError:
    origin = config.origins.get(setting, "default")
    return ConfigError(summary, setting=setting, origin=origin, fix=fix)
