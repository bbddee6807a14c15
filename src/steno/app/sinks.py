"""Building sinks from the configured destinations; each library is imported only when used."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from steno.config import (
    AnyDestination,
    Config,
    GrpcDestination,
    JsonlDestination,
    ObjectsDestination,
    WebhookDestination,
)
from steno.core.records import Kind
from steno.delivery.outbox import RetryPolicy
from steno.delivery.relay import RelaySettings
from steno.ports import Sink, Telemetry

NEVER = 1_000_000_000
LEASE_SLACK_S = 20.0


def destinations_of(config: Config, features: Collection[str]) -> tuple[AnyDestination, ...]:
    """Return the configured destinations; with none, standard output.

    Diarisation alone needs none: its segments stay in the store, and what is written to standard
    output is the export.
    """
    if config.delivery.destinations or set(features) <= {"diarisation"}:
        return config.delivery.destinations
    return (JsonlDestination(name="stdout"),)


def sinks_of(
    config: Config, features: Collection[str], telemetry: Telemetry
) -> list[tuple[Sink, RelaySettings]]:
    """Build the sinks of the destinations, and of exports that are appended to.

    Raises:
        ConfigError: A destination cannot work.
    """
    found = [
        (make_sink(destination, telemetry), relay_settings(destination))
        for destination in destinations_of(config, features)
    ]
    if "diarisation" in features:
        from steno.app.exports import following_sink

        sink = following_sink(config)
        if sink is not None:
            found.append((sink, relay_settings(JsonlDestination())))
    return found


def relay_settings(destination: AnyDestination) -> RelaySettings:
    """Return how hard a destination is tried."""
    return RelaySettings(
        lease_s=destination.deadline_s + LEASE_SLACK_S,
        stop_s=1.5,
        settle_wait_s=0.02,  # outcomes ride on the next commit anyway
        retry=RetryPolicy(
            first_s=destination.retry_first_s,
            cap_s=destination.retry_max_s,
            max_attempts=destination.max_attempts or NEVER,
        ),
        cap_pause_s=min(15.0, destination.retry_max_s),
    )


USUAL_KINDS = frozenset(Kind) - {Kind.SEGMENT_AUDIT}
"""What a destination gets that names no kinds: what did not enter the result must be asked for."""


def make_sink(destination: AnyDestination, telemetry: Telemetry) -> Sink:
    """Build the sink of a destination.

    Raises:
        ConfigError: An address, file or secret cannot work.
    """
    kinds = frozenset(Kind(kind) for kind in destination.kinds) or USUAL_KINDS
    match destination:
        case GrpcDestination():
            return _grpc(destination, kinds, telemetry)
        case JsonlDestination():
            from steno.adapters.sinks.jsonl import JsonLinesSink

            return JsonLinesSink(
                str(destination.path),
                name=destination.name or "jsonl",
                kinds=kinds,
                max_bytes=int(destination.max_mb * 1_000_000),
                daily=destination.daily,
            )
        case ObjectsDestination():
            from steno.adapters.sinks.objects import ObjectsSettings, ObjectsSink

            return ObjectsSink(
                ObjectsSettings(
                    url=destination.url,
                    endpoint=destination.endpoint,
                    region=destination.region,
                    deadline_s=destination.deadline_s,
                ),
                name=destination.name or "objects",
                kinds=kinds,
            )
        case WebhookDestination():
            from steno.adapters.sinks.webhook import WebhookSettings, WebhookSink
            from steno.adapters.ssrf import rules_for

            return WebhookSink(
                WebhookSettings(
                    url=destination.url,
                    secret=destination.secret,
                    rules=rules_for(allow_private=destination.allow_private),
                    max_records=destination.max_records,
                    deadline_s=destination.deadline_s,
                ),
                telemetry=telemetry,
                name=destination.name or "webhook",
                kinds=kinds,
            )


def _grpc(destination: GrpcDestination, kinds: frozenset[Kind], telemetry: Telemetry) -> Sink:
    # The C core otherwise writes lines of its own, with addresses, to standard error.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from steno.adapters.grpc_channel import GrpcSettings
    from steno.adapters.sinks.grpc import GrpcSink

    return GrpcSink(
        GrpcSettings(
            target=destination.address,
            tls={"auto": None, "on": True, "off": False}[destination.tls],
            ca_file=destination.ca_file,
            cert_file=destination.cert_file,
            key_file=destination.key_file,
            server_name=destination.server_name,
            token=destination.token,
            token_file=Path(destination.token.file) if destination.token.file else None,
            service=destination.service,
            deadline_s=destination.deadline_s,
            keepalive_s=destination.keepalive_s,
        ),
        telemetry=telemetry,
        name=destination.name or "grpc",
        kinds=kinds,
    )
