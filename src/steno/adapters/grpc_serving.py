"""How a gRPC service of ours listens: address, TLS, bearer token, and the server's options."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health, health_pb2_grpc  # type: ignore[import-untyped]  # no types

from steno.core.secret import Secret
from steno.errors import ConfigError


class ListenSettings(Protocol):
    """Where a service listens, and how it is protected there."""

    @property
    def listen(self) -> str:
        """``host:port`` or ``unix:/path``; port 0 takes a free one."""

    @property
    def cert_file(self) -> Path | None:
        """PEM certificate chain: the server speaks TLS."""

    @property
    def key_file(self) -> Path | None:
        """PEM key of the certificate."""

    @property
    def client_ca_file(self) -> Path | None:
        """Clients must show a certificate signed by one of these."""

    @property
    def plaintext(self) -> bool:
        """Listen beyond this machine without TLS, on explicit wish."""


def check_listening(settings: ListenSettings) -> None:
    """Refuse settings that cannot work, or that leave the service open by accident.

    Raises:
        ConfigError: Half of a certificate and key, client certificates without TLS, or an
            address beyond this machine without TLS and without the wish for it.
    """
    if (settings.cert_file is None) != (settings.key_file is None):
        raise ConfigError("TLS needs both a certificate and its key", setting="cert, key")
    if settings.client_ca_file is not None and settings.cert_file is None:
        raise ConfigError("client certificates need TLS", setting="client_ca")
    if settings.cert_file is None and not settings.plaintext and not _is_local(settings.listen):
        raise ConfigError(
            "listening beyond this machine without TLS is refused",
            setting="listen",
            fix="Give --tls-cert and --tls-key, or say --plaintext.",
        )


def make_server(
    # Any: the messages' types are settled where a method is made
    services: Mapping[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]],
    health_servicer: health.aio.HealthServicer,
    *,
    max_message_bytes: int,
    max_streams: int,
) -> grpc.aio.Server:
    """Return a server of these services and of health, neither bound nor started.

    Args:
        services: Methods by their name, by the full name of the service.
        max_message_bytes: Limit of one message received.
        max_streams: Calls at once on one connection; those beyond wait at the caller's.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_concurrent_streams", max_streams),
            # Two servers on one port would share its connections unnoticed.
            ("grpc.so_reuseport", 0),
            # Callers look after half-open connections with pings; let them.
            ("grpc.http2.min_ping_interval_without_data_ms", 5000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
        ],
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(service, dict(methods))
            for service, methods in services.items()
        )
    )
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    return server


def bind(server: grpc.aio.Server, settings: ListenSettings, *, refusal: str) -> str:
    """Take the address, and return it with its port filled in; certificates are read now.

    Args:
        refusal: Fixed words of the error.

    Raises:
        ConfigError: The address or a certificate cannot be used.
    """
    try:
        if settings.cert_file is None or settings.key_file is None:
            port = server.add_insecure_port(settings.listen)
        else:
            ca_file = settings.client_ca_file
            credentials = grpc.ssl_server_credentials(
                [(settings.key_file.read_bytes(), settings.cert_file.read_bytes())],
                root_certificates=None if ca_file is None else ca_file.read_bytes(),
                require_client_auth=ca_file is not None,
            )
            port = server.add_secure_port(settings.listen, credentials)
    except (RuntimeError, OSError, ValueError) as exc:
        raise ConfigError(
            refusal,
            setting="listen",
            fix="Is the port taken, or a certificate file unreadable?",
            error_class=type(exc).__name__,
        ) from exc
    if settings.listen.startswith("unix"):
        return settings.listen
    return f"{settings.listen.rpartition(':')[0]}:{port}"


def is_authorised(metadata: Mapping[str, Any], token: Secret) -> bool:  # Any: str or bytes
    """Tell whether a call carries the bearer token; an empty one is asked of nobody."""
    if not token:
        return True
    given = str(metadata.get("authorization", ""))
    return hmac.compare_digest(given.encode(), f"Bearer {token.reveal()}".encode())


def _is_local(listen: str) -> bool:
    if listen.startswith("unix"):
        return True
    host = listen.rpartition(":")[0].strip("[]").lower()
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
