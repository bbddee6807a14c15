"""Where finished records may go: the kinds of ``[[delivery.destinations]]``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from steno.config.base import NO_SECRET, Section, doc
from steno.core.secret import Secret

KindName = Literal[
    "sentence",
    "segment",
    "job",
    "archive",
    "gap",
    "language_changed",
    "reconciled",
    "segment_audit",
]


class Destination(Section, frozen=True, tag_field="type"):
    """What every destination has."""

    name: Annotated[
        str,
        doc(
            "Name in the store, logs and metrics; the type when not given. Renaming makes a new "
            "destination."
        ),
    ] = ""
    kinds: Annotated[
        tuple[KindName, ...],
        doc(
            "Kinds of record it receives; empty means all it can carry except `segment_audit`, "
            "which must be asked for."
        ),
    ] = ()
    deadline_s: Annotated[float, doc("Limit of one delivery.", unit="s", gt=0)] = 10.0
    retry_first_s: Annotated[
        float, doc("First wait before a delivery is tried again.", unit="s", gt=0)
    ] = 0.2
    retry_max_s: Annotated[float, doc("Longest wait between tries.", unit="s", gt=0)] = 30.0
    max_attempts: Annotated[
        int,
        doc(
            "Refusals of one record before it is a dead letter; an unavailable consumer does not "
            "count. 0 never gives up.",
            ge=0,
        ),
    ] = 20


class GrpcDestination(Destination, frozen=True, tag="grpc"):
    """A gRPC consumer: `steno.v1` where it offers it, else `transcript.v1`."""

    address: Annotated[str, doc("Consumer, `host:port`.")] = "127.0.0.1:50051"
    tls: Annotated[
        Literal["auto", "on", "off"],
        doc("`auto`: TLS except on loopback. `off` beyond loopback is refused."),
    ] = "auto"
    ca_file: Annotated[Path | None, doc("PEM bundle that signs the consumer's certificate.")] = None
    cert_file: Annotated[Path | None, doc("Our certificate, for mutual TLS.")] = None
    key_file: Annotated[Path | None, doc("Its private key; readable by us alone.")] = None
    server_name: Annotated[
        str, doc("Name expected in the consumer's certificate, if not its host.")
    ] = ""
    token: Annotated[
        Secret,
        doc(
            "Bearer token sent with each call; only over TLS. A file is read again with each new "
            "connection, so a token can be replaced."
        ),
    ] = NO_SECRET
    service: Annotated[
        Literal["auto", "steno.v1", "transcript.v1"],
        doc("Service to use; `auto` tries `steno.v1` first."),
    ] = "auto"
    keepalive_s: Annotated[
        float, doc("HTTP/2 ping interval, to notice a half-open connection.", unit="s", gt=0)
    ] = 20.0


class JsonlDestination(Destination, frozen=True, tag="jsonl"):
    """JSON lines into a file or to standard output."""

    path: Annotated[Path, doc("File, appended to; `-` is standard output.")] = Path("-")
    max_mb: Annotated[
        float,
        doc(
            "A file of this size is put aside under a name with the time in it, and a new one is "
            "begun; 0 never.",
            unit="MB",
            ge=0,
        ),
    ] = 0.0
    daily: Annotated[bool, doc("A new file is begun with each UTC day, the old one put aside.")] = (
        False
    )


class ObjectsDestination(Destination, frozen=True, tag="objects"):
    """Objects in S3, GCS, Azure or a folder; credentials from the provider's own variables."""

    url: Annotated[str, doc("`s3://bucket/prefix`, `gs://…`, `az://…` or `file:///folder`.")] = ""
    endpoint: Annotated[str, doc("S3-compatible service's address, if not AWS.")] = ""
    region: Annotated[str, doc("S3 region, if the environment does not say.")] = ""


class WebhookDestination(Destination, frozen=True, tag="webhook"):
    """Signed HTTP requests (Standard Webhooks)."""

    url: Annotated[str, doc("Endpoint; https, or http on loopback.")] = ""
    secret: Annotated[
        Secret, doc("Signing secret (`whsec_…`); during a rotation several, separated by spaces.")
    ] = NO_SECRET
    max_records: Annotated[
        int,
        doc(
            'More than 1 sends `{"records": […]}` with up to so many records of a conversation in '
            "place of one record.",
            ge=1,
            le=500,
        ),
    ] = 1
    allow_private: Annotated[
        bool,
        doc(
            "Permit addresses of private networks and loopback; off guards against requests "
            "forged into our own network."
        ),
    ] = False


AnyDestination = GrpcDestination | JsonlDestination | ObjectsDestination | WebhookDestination

DESTINATIONS: dict[str, type[Destination]] = {
    "grpc": GrpcDestination,
    "jsonl": JsonlDestination,
    "objects": ObjectsDestination,
    "webhook": WebhookDestination,
}
