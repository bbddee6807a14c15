"""How a consumer is reached: target, TLS, credentials per call, and the channel's options."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import grpc

from steno.core.secret import Secret
from steno.errors import ConfigError

Service = Literal["auto", "steno.v1", "transcript.v1"]
Metadata = tuple[tuple[str, str], ...]

_SCHEMES: Final = ("dns:///", "dns:", "ipv4:", "ipv6:")
_TARGET: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>\d{1,5})")
_UNIX: Final = re.compile(r"unix(-abstract)?:[^\x00-\x20]+")
_ADDRESS_LIST: Final = re.compile(r"(ipv4|ipv6):[0-9A-Fa-f:.,\[\]]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSettings:
    """Everything about one gRPC consumer; refused with ``ConfigError`` when it cannot work.

    Attributes:
        target: ``host:port``, ``[v6]:port``, ``dns:///host:port``, ``ipv4:``/``ipv6:`` lists
            or ``unix:/path``.
        tls: None: TLS except on this machine. False is an explicit wish for plain text.
        ca_file: PEM bundle that signs the consumer's certificate; the system's when None.
        cert_file, key_file: Our certificate and its key, for mutual TLS.
        server_name: Name expected in the consumer's certificate, if not its host.
        token: Bearer token sent with each call. Only over TLS or on this machine.
        token_file: The same, read again whenever a connection is made.
        service: ``auto`` tries ``steno.v1`` first, then the document's service.
        deadline_s: Limit of a unary call, and of the wait for a batch's acknowledgement.
        keepalive_s: HTTP/2 ping interval while a call or stream is open (servers as they come
            punish pings on idle connections); ``keepalive_timeout_s`` later without an answer
            the connection is dead.
        max_message_bytes: Limit of one message in either direction.
    """

    target: str = "127.0.0.1:50051"
    tls: bool | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    token: Secret = field(default_factory=lambda: Secret(""))
    token_file: Path | None = None
    service: Service = "auto"
    deadline_s: float = 10.0
    keepalive_s: float = 20.0
    keepalive_timeout_s: float = 10.0
    max_message_bytes: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        check_target(self.target)
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigError(
                "mutual TLS needs both a certificate and its key", setting="cert_file, key_file"
            )
        if not self.uses_tls and not is_local(self.target) and self.has_token:
            raise ConfigError(
                "a token would cross the network in plain text",
                setting="token",
                fix="Use TLS, or leave the token out.",
            )

    @property
    def uses_tls(self) -> bool:
        """TLS by default; plain text on this machine or on explicit wish."""
        return not is_local(self.target) if self.tls is None else self.tls

    @property
    def has_token(self) -> bool:
        """A bearer token is configured."""
        return bool(self.token) or self.token_file is not None


def check_target(target: str) -> None:
    """Refuse a target that gRPC would misread or that smuggles something in.

    Raises:
        ConfigError: The target is in none of the accepted forms.
    """
    bare = _without_scheme(target)
    match = _TARGET.fullmatch(bare)
    if match is not None and 0 < int(match["port"]) < 65536:
        return
    if _UNIX.fullmatch(target) or _ADDRESS_LIST.fullmatch(target):
        return
    raise ConfigError(
        "the consumer's address is not host:port",
        setting="address",
        fix="Write host:port, [v6 address]:port, dns:///host:port or unix:/path.",
    )


def is_local(target: str) -> bool:
    """Tell whether a target can only be on this machine."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    return all(_is_loopback(part) for part in _without_scheme(target).split(","))


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]").rstrip(".").lower()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_scheme(target: str) -> str:
    for scheme in _SCHEMES:
        if target.startswith(scheme):
            return target.removeprefix(scheme)
    return target


def open_channel(settings: GrpcSettings) -> grpc.aio.Channel:
    """Return a channel that is not connected yet; certificates are read now.

    Raises:
        ConfigError: A certificate or key file cannot be read.
    """
    options = _options(settings)
    if not settings.uses_tls:
        return grpc.aio.insecure_channel(settings.target, options=options)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(settings.ca_file, "ca_file"),
        private_key=_read(settings.key_file, "key_file"),
        certificate_chain=_read(settings.cert_file, "cert_file"),
    )
    return grpc.aio.secure_channel(settings.target, credentials, options=options)


def call_metadata(settings: GrpcSettings) -> Metadata:
    """Return what every call carries; a token file is read now.

    Raises:
        ConfigError: The token file cannot be read, or holds more than a token.
    """
    token = settings.token.reveal()
    if settings.token_file is not None:
        token = (_read(settings.token_file, "token_file") or b"").decode("latin-1").strip()
        if not token.isprintable() or not token.isascii() or " " in token:
            raise ConfigError("the file does not hold a token", setting="token_file")
    return (("authorization", f"Bearer {token}"),) if token else ()


def files_stamp(settings: GrpcSettings) -> tuple[tuple[int, int], ...]:
    """Return what changes when a certificate, key or token file is replaced."""
    stamps = []
    for path in (settings.ca_file, settings.cert_file, settings.key_file, settings.token_file):
        if path is None:
            continue
        try:
            status = path.stat()
        except OSError:
            stamps.append((0, 0))
        else:
            stamps.append((status.st_mtime_ns, status.st_ino))
    return tuple(stamps)


def _read(path: Path | None, setting: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ConfigError(
            "a file cannot be read", setting=setting, error_class=type(exc).__name__
        ) from exc


def _options(settings: GrpcSettings) -> list[tuple[str, int | str]]:
    options: list[tuple[str, int | str]] = [
        ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 0),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        # The relay waits and retries; gRPC's own back-off of up to two minutes would keep a
        # consumer that is back waiting.
        ("grpc.initial_reconnect_backoff_ms", 100),
        # How long one attempt may take; over TLS it is three round trips and a busy peer's work.
        ("grpc.min_reconnect_backoff_ms", 5000),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Retries are the outbox's business, and the filter costs a tenth of each call's CPU.
        ("grpc.enable_retries", 0),
        # Where transcripts go is a setting, not a variable of the environment.
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
        # Sinks to one target must not share a connection that another one closes.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if settings.server_name:
        options.append(("grpc.ssl_target_name_override", settings.server_name))
    return options
