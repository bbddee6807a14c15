"""The reference consumer: stored before acknowledged, each record once, whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from conformance.sink_certificates import Authority
from conformance.sink_rules import Recorder, gap, keys, retried, sentence
from steno._proto import steno_v1_pb2, transcript_v1_pb2
from steno.adapters.consumer.lines import LinesFile
from steno.adapters.consumer.server import Consumer, ConsumerSettings
from steno.adapters.grpc_channel import GrpcSettings, check_target, is_local
from steno.adapters.sinks.grpc import DELIVER, PUSH, GrpcSink
from steno.core.secret import Secret
from steno.errors import ConfigError, SinkUnavailable
from steno.ports import Ack, Reject


@asynccontextmanager
async def consuming(out: Path, **settings: Any) -> AsyncIterator[tuple[str, Consumer]]:
    """Run a consumer on a free port; gives its address."""
    consumer = Consumer(ConsumerSettings(listen="127.0.0.1:0", out=out, **settings))
    stop, listening = asyncio.Event(), asyncio.Event()
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(consumer.run(stop, on_listening=address.set_result))
    try:
        address.add_done_callback(lambda _: listening.set())
        running.add_done_callback(lambda _: listening.set())
        await listening.wait()
        if running.done():
            await running
        yield await address, consumer
    finally:
        stop.set()
        await running


@asynccontextmanager
async def sending(target: str, **settings: Any) -> AsyncIterator[GrpcSink]:
    sink = GrpcSink(GrpcSettings(target=target, **settings), telemetry=Recorder())
    try:
        yield sink
    finally:
        await sink.close()


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The consumer's file."""
    return tmp_path / "out.jsonl"


@pytest.mark.parametrize("service", ["steno.v1", "transcript.v1"])
async def test_repeats_are_dropped_and_counted(out: Path, service: str) -> None:
    """The same records again are acknowledged again and written once; a revision is another."""
    records = [sentence("alpha", 1), sentence("beta", 1), sentence("alpha", 1, revision=1)]
    async with consuming(out) as (target, consumer), sending(target, service=service) as sink:
        for _ in range(3):
            assert await sink.deliver(records) == [Ack()] * 3
        summary = consumer.summary
    assert (summary.received, summary.stored, summary.repeated) == (9, 3, 6)
    found = {(line["key"], line["revision"]) for line in lines_of(out)}
    assert found == {(record.key, record.revision) for record in records}
    assert len(lines_of(out)) == 3


async def test_a_line_has_all_of_the_record(out: Path) -> None:
    """Through the stream every field arrives in the file; other kinds too."""
    records = [sentence("alpha", 2, revision=1), gap("alpha", 3)]
    async with consuming(out) as (target, _), sending(target) as sink:
        await sink.deliver(records)
    for line, record in zip(lines_of(out), records, strict=True):
        assert line.pop("at") == "2024-01-15T10:30:00.123456Z"
        assert line.pop("payload") == json.loads(record.payload)
        for name, value in line.items():
            assert value == getattr(record, name), name
        assert len(line) == 11


async def test_repeats_are_known_after_a_restart(out: Path) -> None:
    """The file is the index: what is in it is not written again."""
    records = [sentence("alpha", number) for number in (1, 2, 3)]
    async with consuming(out) as (target, _), sending(target) as sink:
        await sink.deliver(records[:2])
    async with consuming(out) as (target, consumer), sending(target) as sink:
        assert await sink.deliver(records) == [Ack()] * 3
        assert consumer.summary.repeated == 2
    assert [line["key"] for line in lines_of(out)] == keys(records)
    assert out.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [1, 50])
async def test_unfinished_last_line_comes_again(out: Path, cut: int) -> None:
    """What a crash left without its line break does not count as stored."""
    records = [sentence("alpha", number) for number in (1, 2)]
    async with consuming(out) as (target, _), sending(target) as sink:
        await sink.deliver(records)
    os.truncate(out, out.stat().st_size - cut)
    async with consuming(out) as (target, _), sending(target) as sink:
        await sink.deliver(records)
    assert [line["key"] for line in lines_of(out)] == keys(records)


async def test_damaged_lines_are_counted_and_left(out: Path) -> None:
    """A line that is not ours does not stop the consumer."""
    out.write_bytes(b"not json\n")
    async with consuming(out) as (target, consumer), sending(target) as sink:
        await sink.deliver([sentence("alpha", 1)])
        assert consumer.summary.damaged_lines == 1
    assert out.read_bytes().startswith(b"not json\n")


async def test_forgets_the_oldest_beyond_its_index(out: Path) -> None:
    """Memory is bounded: beyond the index a very old repeat is stored again."""
    async with consuming(out, index_size=2) as (target, consumer), sending(target) as sink:
        for number in (1, 2, 3, 3, 1):
            await sink.deliver([sentence("alpha", number)])
        assert (consumer.summary.stored, consumer.summary.repeated) == (4, 1)


async def test_sentences_without_a_key_are_kept(out: Path) -> None:
    """A sender that knows the document only sends no key: stored each time, and counted."""
    message = transcript_v1_pb2.TranscriptMessage(conversation_id="alpha", sanitized_text="x")
    async with consuming(out) as (target, consumer), grpc.aio.insecure_channel(target) as channel:
        push: grpc.aio.UnaryUnaryMultiCallable[bytes, transcript_v1_pb2.AckResponse]
        push = channel.unary_unary(
            PUSH, response_deserializer=transcript_v1_pb2.AckResponse.FromString
        )
        for header in ((), (("steno-key", "x" * 300 + ".0.1"),), (("steno-key", "k.one.two"),)):
            assert (await push(message.SerializeToString(), metadata=header)).success
        assert (consumer.summary.stored, consumer.summary.without_key) == (3, 3)


async def test_hole_in_the_batch_numbers_ends_the_stream(out: Path) -> None:
    """A sender that breaks the contract is told so, and nothing of the batch is stored."""
    async with consuming(out) as (target, _), grpc.aio.insecure_channel(target) as channel:
        stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(DELIVER)
        call = stream()
        await call.write(steno_v1_pb2.RecordBatch(batch=2).SerializeToString())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_payload_that_is_not_json_is_refused(out: Path) -> None:
    """It would tear the file's line apart: a rejection, and its neighbours are stored."""
    batch = steno_v1_pb2.RecordBatch(batch=1)
    batch.records.add(key="a", payload=b"{}\n{}")
    batch.records.add(key="b", payload=b'{\n"text": 1}')
    async with consuming(out) as (target, _), grpc.aio.insecure_channel(target) as channel:
        stream: grpc.aio.StreamStreamMultiCallable[bytes, steno_v1_pb2.BatchAck]
        stream = channel.stream_stream(
            DELIVER, response_deserializer=steno_v1_pb2.BatchAck.FromString
        )
        call = stream()
        await call.write(batch.SerializeToString())
        ack = await call.read()
        await call.done_writing()
    assert isinstance(ack, steno_v1_pb2.BatchAck)
    assert ack.acked_through == 1
    assert [rejection.index for rejection in ack.rejections] == [0]
    assert [line["key"] for line in lines_of(out)] == ["b"]


# --- faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["steno.v1", "transcript.v1"])
async def test_fault_switches(out: Path, service: str) -> None:
    """Every third is refused by UNAVAILABLE and comes again; every fifth is rejected for good."""
    rejected = 0
    faults = {"fail_every": 3, "reject_every": 5, "delay_ms": 1.0}
    async with (
        consuming(out, **faults) as (target, consumer),
        sending(target, service=service) as sink,
    ):
        for number in range(1, 31):
            (outcome,) = await retried(sink, [sentence("alpha", number)])
            rejected += outcome == Reject("ConsumerRefused")
        summary = consumer.summary
    assert rejected == summary.rejected > 0
    assert summary.failed > 0
    assert summary.stored == len(lines_of(out)) == 30 - rejected
    assert summary.received == summary.stored + summary.rejected + summary.failed


@pytest.fixture
def file_limit() -> Iterator[None]:
    """Let writes beyond the file size limit fail instead of ending the process."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("service", ["steno.v1", "transcript.v1"])
async def test_full_disk_acknowledges_nothing(out: Path, service: str, file_limit: None) -> None:
    """While nothing can be written nothing is acknowledged; afterwards the same records are."""
    records = [sentence("alpha", number) for number in range(1, 6)]
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    async with consuming(out) as (target, _), sending(target, service=service) as sink:
        await sink.deliver(records[:1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (out.stat().st_size + 50, hard))
        with pytest.raises(SinkUnavailable) as caught:
            await sink.deliver(records[1:])
        assert caught.value.fields["cause"] == "RateLimited"
        assert len(lines_of(out)) == 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
        assert await retried(sink, records[1:]) == [Ack()] * 4
    assert [line["key"] for line in lines_of(out)] == keys(records)


async def test_killed_between_store_and_ack(out: Path) -> None:
    """Killed when the line is on disk and the ack is not out: the repeat is recognised."""
    records = [sentence("alpha", number) for number in (1, 2, 3)]
    process, target = await _start(out, "--delay-ms", "60000")
    async with sending(target, deadline_s=30.0) as sink:
        delivery = asyncio.create_task(sink.deliver(records))
        async with asyncio.timeout(20):
            while not out.exists() or out.read_bytes().count(b"\n") < 3:
                await asyncio.sleep(0.01)
        process.kill()
        with pytest.raises(SinkUnavailable):
            await delivery
        await process.wait()
    process, target = await _start(out, "--json")
    async with sending(target) as sink:
        assert await sink.deliver(records) == [Ack()] * 3
    process.send_signal(signal.SIGTERM)
    summary, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(summary)["repeated"] == 3
    assert [line["key"] for line in lines_of(out)] == keys(records)


async def test_stopping_acknowledges_what_is_stored(out: Path) -> None:
    """SIGTERM with batches on their way: each is acknowledged and stored, or neither."""
    process, target = await _start(out, "--delay-ms", "20", "--json")
    async with sending(target) as sink:
        deliveries = [
            asyncio.create_task(sink.deliver([sentence(f"c{lane}", n) for n in range(1, 6)]))
            for lane in range(12)
        ]
        await asyncio.wait(deliveries, return_when=asyncio.FIRST_COMPLETED)
        process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*deliveries, return_exceptions=True)
    summary, _ = await process.communicate()
    assert process.returncode == 0
    acked = sum(len(answer) for answer in answers if isinstance(answer, list))
    assert acked > 0
    assert acked <= json.loads(summary)["stored"] == len(lines_of(out))


async def test_a_second_signal_ends_it_at_once(out: Path) -> None:
    """Whatever is still being waited for; what was acknowledged is in the file."""
    process, target = await _start(out, "--delay-ms", "60000")
    async with sending(target, service="transcript.v1") as sink:
        delivery = asyncio.create_task(sink.deliver([sentence("alpha", 1)]))
        async with asyncio.timeout(20):
            while not out.exists() or not out.stat().st_size:
                await asyncio.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            # The first must have been seen: two of the same kind at once would be one.
            await asyncio.sleep(0.2)
            assert process.returncode is None
            process.send_signal(signal.SIGTERM)
            await process.communicate()
        await asyncio.gather(delivery, return_exceptions=True)
    assert process.returncode == 130


async def _start(out: Path, *options: str) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import typer; from steno.cli.consume import consume; typer.run(consume)",
        "--listen", "127.0.0.1:0", "--out", str(out), *options,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(30):
        line = (await process.stderr.readline()).decode()
    assert "listening on" in line, line
    return process, line.split()[-1]


# --- who may come in -------------------------------------------------------------------------


@pytest.fixture
def authority() -> Iterator[Authority]:
    """A certificate authority of this test's own."""
    made = Authority()
    yield made
    made.close()


async def test_tls_is_verified(out: Path, authority: Authority) -> None:
    """With the right authority records pass; with another, or another name, none does."""
    pair = authority.server("127.0.0.1")
    stranger = Authority()
    tls = {"cert_file": pair.certificate, "key_file": pair.key}
    async with consuming(out, **tls) as (target, _):
        async with sending(target, tls=True, ca_file=authority.certificate) as sink:
            assert await sink.deliver([sentence("alpha", 1)]) == [Ack()]
            assert (await sink.probe()).serving is True
        refused: list[dict[str, Any]] = [
            {"tls": True, "ca_file": stranger.certificate},
            {"tls": True, "ca_file": authority.certificate, "server_name": "other.example"},
            {"tls": False},
        ]
        for settings in refused:
            async with sending(target, deadline_s=3.0, **settings) as sink:
                with pytest.raises(SinkUnavailable):
                    await sink.deliver([sentence("alpha", 2)])
    stranger.close()
    assert len(lines_of(out)) == 1


async def test_mutual_tls(out: Path, authority: Authority) -> None:
    """Without a client certificate of the authority nobody gets in."""
    pair, client = authority.server("127.0.0.1"), authority.client("gateway")
    tls = {"cert_file": pair.certificate, "key_file": pair.key}
    async with consuming(out, client_ca_file=authority.certificate, **tls) as (target, _):
        mine = {"cert_file": client.certificate, "key_file": client.key}
        ours = {"tls": True, "ca_file": authority.certificate}
        async with sending(target, **ours, **mine) as sink:
            assert await sink.deliver([sentence("alpha", 1)]) == [Ack()]
        async with sending(target, deadline_s=3.0, **ours) as sink:
            with pytest.raises(SinkUnavailable):
                await sink.deliver([sentence("alpha", 2)])


async def test_replaced_certificates_are_used_with_the_next_connection(
    out: Path, authority: Authority, tmp_path: Path
) -> None:
    """A CA file that is replaced takes effect without a restart of the sender."""
    stranger = Authority()
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(stranger.certificate.read_bytes())
    pair = authority.server("127.0.0.1")
    tls = {"cert_file": pair.certificate, "key_file": pair.key}
    async with (
        consuming(out, **tls) as (target, _),
        sending(target, tls=True, ca_file=ca_file, deadline_s=3.0) as sink,
    ):
        with pytest.raises(SinkUnavailable):
            await sink.deliver([sentence("alpha", 1)])
        ca_file.unlink()
        ca_file.write_bytes(authority.certificate.read_bytes())
        assert await retried(sink, [sentence("alpha", 1)]) == [Ack()]
    stranger.close()


async def test_token_is_asked_for(out: Path, tmp_path: Path) -> None:
    """A wrong token is about us: unavailable, told once, and never a dead letter."""
    token_file = tmp_path / "token"
    token_file.write_text("right\n")
    async with consuming(out, token=Secret("right")) as (target, _):
        for service in ("steno.v1", "transcript.v1"):
            telemetry = Recorder()
            settings = GrpcSettings(target=target, service=service, token=Secret("wrong"))
            sink = GrpcSink(settings, telemetry=telemetry)
            for _ in range(2):
                with pytest.raises(SinkUnavailable) as caught:
                    await sink.deliver([sentence("alpha", 1)])
                assert caught.value.fields["cause"] == "AuthError"
                assert "wrong" not in f"{caught.value}{telemetry.told}{settings}"
            assert telemetry.events.count("sink.credentials_refused") == 1
            await sink.close()
            async with sending(target, service=service, token_file=token_file) as good:
                assert await good.deliver([sentence("alpha", 1)]) == [Ack()]


@pytest.mark.parametrize("service", ["steno.v1", "transcript.v1"])
async def test_replaced_token_is_read_after_a_refusal(
    out: Path, tmp_path: Path, service: str
) -> None:
    """A token file that is replaced takes effect without a restart or a new connection."""
    token_file = tmp_path / "token"
    token_file.write_text("old")
    async with (
        consuming(out, token=Secret("new")) as (target, _),
        sending(target, service=service, token_file=token_file) as sink,
    ):
        with pytest.raises(SinkUnavailable):
            await sink.deliver([sentence("alpha", 1)])
        token_file.unlink()
        token_file.write_text("new")
        assert await retried(sink, [sentence("alpha", 1)]) == [Ack()]


def test_settings_that_are_refused(tmp_path: Path) -> None:
    """Beyond this machine: TLS or an explicit wish; tokens never in plain text."""
    for listen in ("0.0.0.0:50051", "[::]:50051", "192.0.2.1:1", "example.org:1"):
        with pytest.raises(ConfigError):
            ConsumerSettings(listen=listen)
        ConsumerSettings(listen=listen, plaintext=True)
    with pytest.raises(ConfigError):
        ConsumerSettings(cert_file=tmp_path / "only.pem")
    with pytest.raises(ConfigError):
        GrpcSettings(target="consumer.example:1", tls=False, token=Secret("x"))
    with pytest.raises(ConfigError):
        GrpcSettings(cert_file=tmp_path / "only.pem")
    assert GrpcSettings(target="consumer.example:1").uses_tls
    assert not GrpcSettings(target="127.0.0.1:1").uses_tls


@pytest.mark.parametrize(
    "target",
    ["", "host", "host:", "host:0", "host:99999", "user@host:1", "host:1/path", "ho st:1",
     "host:1\n", "[::1%eth0]:1", "xds:///host:1", "https://host:1"],
)  # fmt: skip
def test_targets_that_are_refused(target: str) -> None:
    """Only forms that gRPC takes the way they look."""
    with pytest.raises(ConfigError):
        check_target(target)


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.8.8.8:1", True),
        ("localhost:1", True),
        ("LOCALHOST.:1", True),
        ("[::1]:1", True),
        ("dns:///localhost:1", True),
        ("unix:/run/steno.sock", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:2", False),
        ("localhost.example:1", False),
        ("127.0.0.1.example:1", False),
        ("10.0.0.1:1", False),
        ("[::]:1", False),
        ("dns:///consumer.example:1", False),
    ],
)
def test_what_is_on_this_machine(target: str, local: bool) -> None:
    """Plain text is the default for targets that cannot be elsewhere."""
    check_target(target)
    assert is_local(target) is local


async def test_taken_port_and_taken_file(out: Path) -> None:
    """Both are configuration errors: no port is shared, no file is written by two."""
    async with consuming(out) as (target, _):
        with pytest.raises(ConfigError):
            async with consuming(out):
                pass
        consumer = Consumer(ConsumerSettings(listen=target, out=out.with_name("b.jsonl")))
        with pytest.raises(ConfigError):
            await consumer.run(asyncio.Event(), on_listening=lambda _: None)


def test_symbolic_link_is_refused(out: Path, tmp_path: Path) -> None:
    """The output is a file of its own."""
    from steno.errors import StorageError

    out.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        LinesFile(out).open()


def test_wrong_options_end_with_2(out: Path) -> None:
    """The command says what is wrong in one line and exits with 2."""
    done = subprocess.run(
        [sys.executable, "-c",
         "import typer; from steno.cli.consume import consume; typer.run(consume)",
         "--listen", "0.0.0.0:0", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "plaintext" in done.stderr
    assert "Traceback" not in done.stderr
