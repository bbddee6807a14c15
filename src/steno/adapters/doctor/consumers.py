"""Checks of those who receive records: the address answers, and its health service is content."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from steno.adapters.doctor.findings import Area, Finding, Verdict, fail, ok, warn
from steno.adapters.doctor.platform import LIMIT_S, check_reach
from steno.core.hosts import Host

if TYPE_CHECKING:
    import grpc.aio


class GrpcPeer(msgspec.Struct, frozen=True):
    """A gRPC consumer and how to speak with it.

    Attributes:
        name: Name of the destination.
        address: ``host:port``.
        tls: Speak TLS.
        ca_file: Authorities to trust instead of the system's.
        cert_file: Our certificate.
        key_file: Our key.
        server_name: Name expected in the certificate, if not the host.
    """

    name: str
    address: str
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""


async def check_grpc(peer: GrpcPeer, *, limit_s: float = LIMIT_S) -> Finding:
    """Ask the standard health service; a consumer without one is fine when it answers at all."""
    import grpc
    import grpc.aio
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # no types

    check = f"consumer {peer.name} at {peer.address}"
    try:
        channel = _channel(peer)
    except OSError as error:
        what = f"a certificate or key file cannot be read ({type(error).__name__})"
        return fail(check, what, "Check ca_file, cert_file and key_file", Area.CONFIG)
    try:
        async with asyncio.timeout(limit_s + 1):
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=limit_s)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return ok(check, "answers; it has no health service", Area.CONSUMER)
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return ok(check, "answers; its health service does not know the server", Area.CONSUMER)
        what = f"no answer ({error.code().name})"
        fix = "Start it, or check address and TLS; records wait in the store meanwhile"
        return fail(check, what, fix, Area.CONSUMER)
    except TimeoutError:
        return fail(check, "no answer in time", "Start it, or check the address", Area.CONSUMER)
    finally:
        await channel.close()
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ok(check, "serving", Area.CONSUMER)
    return warn(check, "it says that it is not serving", "Look at the consumer", Area.CONSUMER)


async def check_address(name: str, host: Host, *, tls: ssl.SSLContext) -> Finding:
    """Look whether a webhook's host can be reached; nothing is sent."""
    found = await check_reach(host, tls=tls)
    area = Area.CONSUMER if found.verdict is Verdict.FAIL else found.area
    return msgspec.structs.replace(found, check=f"consumer {name} at {host}", area=area)


def _channel(peer: GrpcPeer) -> grpc.aio.Channel:
    import grpc
    import grpc.aio

    if not peer.tls:
        return grpc.aio.insecure_channel(peer.address)
    ca, key, certificate = (
        None if path is None else path.read_bytes()
        for path in (peer.ca_file, peer.key_file, peer.cert_file)
    )
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    options = [("grpc.ssl_target_name_override", peer.server_name)] if peer.server_name else []
    return grpc.aio.secure_channel(peer.address, credentials, options=options)
