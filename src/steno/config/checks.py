"""Rules between settings, and what a command cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from steno.config.settings import (
    AnyDestination,
    Config,
    Family,
    GrpcDestination,
    JsonlDestination,
    ObjectsDestination,
    Source,
    WebhookDestination,
)
from steno.core.addresses import split_address
from steno.core.hosts import is_loopback, real_hosts, tutorial_hosts
from steno.errors import ConfigError, ConfigProblems

OBJECT_SCHEMES = ("s3", "gs", "az", "file")


def check(config: Config) -> list[ConfigError]:
    """Return what does not fit together; an empty list is a sound configuration."""
    return [*_platform(config), *_live(config), *_observability(config), *_destinations(config)]


def require_live(config: Config) -> None:
    """Make sure that ``steno live`` has what it needs to connect.

    Raises:
        ConfigError: A credential is missing, or there is nothing to follow.
    """
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
    live = config.live
    if live.source is Source.NOTIFICATIONS and not (
        live.conversations or live.queues or live.users
    ):
        problems.append(
            ConfigError(
                "nothing to follow",
                setting="live.queues",
                fix="Name conversations, queues or users.",
            )
        )
    if problems:
        raise problems[0] if len(problems) == 1 else ConfigProblems(problems)


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
