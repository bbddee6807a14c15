"""Sinks built from the settings of a destination: what is configured is what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from conformance.sink_certificates import Authority
from conformance.sink_rules import Recorder, retried, sentence
from steno.adapters.consumer.server import Consumer, ConsumerSettings
from steno.app.sinks import destinations_of, make_sink
from steno.config import AnyDestination, JsonlDestination, load
from steno.core.records import Kind
from steno.core.secret import Secret
from steno.errors import SinkUnavailable
from steno.ports import Ack, BatchShape

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def destination(folder: Path, table: str) -> AnyDestination:
    """Return the one destination that a settings file names."""
    path = folder / "steno.toml"
    path.write_text(f"[[delivery.destinations]]\n{table}")
    (one,) = destinations_of(load(path, {"HOME": str(folder)}), ("live",))
    return one


async def test_json_lines_are_written_beside_the_settings_and_rotated(tmp_path: Path) -> None:
    """A relative path is relative to the file of settings; a full file is put aside."""
    table = 'type = "jsonl"\npath = "out.jsonl"\nmax_mb = 0.001\n'
    sink = make_sink(destination(tmp_path, table), Recorder())
    for number in range(1, 4):
        assert await sink.deliver([sentence("alpha", number)]) == [Ack()]
    await sink.close()
    assert len(list(tmp_path.glob("out*.jsonl"))) > 1


def test_standard_output_is_no_file_beside_the_settings(tmp_path: Path) -> None:
    """The dash keeps its meaning in a file of settings."""
    one = destination(tmp_path, 'type = "jsonl"\npath = "-"\n')
    assert isinstance(one, JsonlDestination)
    assert str(one.path) == "-"


async def test_a_webhook_takes_as_many_records_as_configured(tmp_path: Path) -> None:
    """``max_records`` reaches the sink, which then sends batches."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    table = (
        'type = "webhook"\nurl = "https://example.com/"\nsecret_file = "secret"\nmax_records = 7\n'
    )
    sink = make_sink(destination(tmp_path, table), Recorder())
    assert sink.shape == BatchShape(7, True, 8)
    await sink.close()


@asynccontextmanager
async def far_away(address: str, delay_s: float) -> AsyncIterator[str]:
    """Give an address from which everything comes to the real one so much later."""
    host, _, port = address.rpartition(":")
    pipes: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await asyncio.sleep(delay_s)
                writer.write(data)
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection(host, int(port))
        for ends in ((reader, to_there), (there, writer)):
            pipes.add(asyncio.create_task(pipe(*ends)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for task in pipes:
        task.cancel()
    await asyncio.gather(*pipes, return_exceptions=True)


async def test_a_consumer_far_away_is_reached_over_tls_at_the_first_try(tmp_path: Path) -> None:
    """A handshake takes round trips, each as long as the way: it is not cut off."""
    authority = Authority()
    pair = authority.server("127.0.0.1")
    consumer = Consumer(
        ConsumerSettings(
            listen="127.0.0.1:0",
            out=tmp_path / "out.jsonl",
            cert_file=pair.certificate,
            key_file=pair.key,
        )
    )
    stop = asyncio.Event()
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(consumer.run(stop, on_listening=address.set_result))
        async with far_away(await address, 0.1) as far:
            table = (
                f'type = "grpc"\naddress = "{far}"\ntls = "on"\nca_file = "{authority.certificate}"'
            )
            sink = make_sink(destination(tmp_path, table), Recorder())
            assert await sink.deliver([sentence("alpha", 1)]) == [Ack()]
            await sink.close()
        stop.set()
    authority.close()


async def test_a_replaced_token_file_takes_effect_without_a_restart(tmp_path: Path) -> None:
    """The file named in the settings is read again once the consumer has refused its token."""
    authority = Authority()
    pair = authority.server("127.0.0.1")
    token = tmp_path / "token"
    token.write_text("old")
    token.chmod(0o600)
    consumer = Consumer(
        ConsumerSettings(
            listen="127.0.0.1:0",
            out=tmp_path / "out.jsonl",
            cert_file=pair.certificate,
            key_file=pair.key,
            token=Secret("new"),
        )
    )
    stop = asyncio.Event()
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(consumer.run(stop, on_listening=address.set_result))
        table = (
            f'type = "grpc"\naddress = "{await address}"\ntls = "on"\n'
            f'ca_file = "{authority.certificate}"\ntoken_file = "token"\n'
        )
        sink = make_sink(destination(tmp_path, table), Recorder())
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver([sentence("alpha", 1)])
        assert caught.value.fields["cause"] == "AuthError"
        token.unlink()
        token.write_text("new")
        token.chmod(0o600)
        assert await retried(sink, [sentence("alpha", 1)]) == [Ack()]
        await sink.close()
        stop.set()
    authority.close()


def test_without_destinations_sentences_go_to_standard_output_and_segments_nowhere(
    tmp_path: Path,
) -> None:
    """What diarisation writes to standard output is its export; its segments stay in the store."""
    config = load(None, {"HOME": str(tmp_path)})
    assert [one.name for one in destinations_of(config, ("live", "diarisation"))] == ["stdout"]
    assert destinations_of(config, ("diarisation",)) == ()


def test_an_audit_of_segments_must_be_asked_for(tmp_path: Path) -> None:
    """A destination that names no kinds gets every kind but that one."""
    usual = make_sink(JsonlDestination(path=tmp_path / "all.jsonl"), Recorder())
    asked = make_sink(
        JsonlDestination(path=tmp_path / "audit.jsonl", kinds=("segment_audit",)), Recorder()
    )
    assert usual.kinds == frozenset(Kind) - {Kind.SEGMENT_AUDIT}
    assert asked.kinds == {Kind.SEGMENT_AUDIT}
