"""Webhooks of transcription jobs, from the request to the receiver and to the audit log."""

from __future__ import annotations

import asyncio
import base64
import stat
import uuid
from pathlib import Path

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook  # type: ignore[import-untyped,unused-ignore]

from recordings.job_server import PLANTED, WORDS, JobServer
from steno.adapters.audit_log import AuditLog
from steno.adapters.job_store import JobReader
from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite import OutboxReader, erase, writing
from steno.app.job_webhooks import webhook_secret
from steno.app.recordings import Outcome, TranscribeOptions, transcribe
from steno.config import Config, load
from steno.core.audit_chain import AuditEntry, EntryLine, decode_line
from steno.core.secret import Secret
from steno.errors import ConfigError, StorageError
from steno.observability import LogTelemetry
from steno.ports.jobs import Job, TranscriptionRequest
from steno.recordings.requests import RequestRules, read_requests
from steno_sim.webhooks.receiver import WebhookReceiver

OLD = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NEW = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
QUICK: dict[str, object] = {
    "transcribe.per_minute": 60_000.0,
    "transcribe.poll_first_s": 0.01,
    "transcribe.poll_max_s": 0.02,
    "transcribe.retry_first_s": 0.01,
    "transcribe.retry_max_s": 0.02,
    "transcribe.settle_s": 1.0,
    "transcribe.webhook_secret": Secret(f"{NEW} {OLD}"),
    "transcribe.webhook_allow": ("127.0.0.1",),
    "delivery.drain_s": 5.0,
    "observability.listen": "",
}
SCHEDULE_S = (0.0, 0.05, 0.05)


class Run:
    """A state directory, a service, and a receiver of webhooks."""

    def __init__(self, folder: Path, server: JobServer, url: str) -> None:
        self.folder = folder
        self.server = server
        self.url = url
        self.state = StateDir(folder / "state")
        self.stop = asyncio.Event()

    def config(self, **settings: object) -> Config:
        overrides = {
            **QUICK,
            "platform.host": self.server.url,
            "platform.client_id": "id",
            "platform.client_secret": Secret("secret"),
            "state_dir": self.state.root,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        return load(None, {"HOME": str(self.folder)}, overrides)

    async def go(
        self, ids: list[str], *, schedule_s: tuple[float, ...] = SCHEDULE_S, **settings: object
    ) -> Outcome:
        lines = read_requests(
            [f"{one}\n".encode() for one in ids],
            RequestRules(allow=["127.0.0.0/8"]),
            TranscriptionRequest("", webhook=self.url),
        )
        return await transcribe(
            self.config(**settings),
            lines,
            stop=self.stop,
            telemetry=LogTelemetry(level="error"),
            options=TranscribeOptions(webhook_schedule_s=schedule_s),
        )

    def entries(self, log: Path | None = None) -> list[EntryLine]:
        lines = map(decode_line, (log or self.state.audit_log).read_bytes().splitlines())
        return [line for line in lines if isinstance(line, EntryLine)]

    def told(self) -> list[tuple[str, int, str]]:
        return [(each.event, each.webhook_attempt, each.webhook_status) for each in self.entries()]

    def jobs(self) -> list[Job]:
        with JobReader(self.state.jobs) as reader:
            return [listed.job for listed in reader.page(limit=10_000)]


def some_ids(count: int) -> list[str]:
    return [f"a{str(uuid.uuid4())[1:]}" for _ in range(count)]


async def test_a_webhook_is_signed_and_has_the_documents_body(tmp_path: Path) -> None:
    """The public library accepts it with the new secret and with the one before."""
    async with JobServer().running() as server, WebhookReceiver() as receiver:
        run = Run(tmp_path, server, receiver.url)
        outcome = await run.go(some_ids(1))
    (delivery,) = receiver.deliveries
    headers = dict(delivery.headers)
    for secret in (NEW, OLD):
        body = Webhook(secret).verify(delivery.body, headers)
    assert list(body) == ["transcript_id", "status", "metrics", "speakers", "processed_at"]
    assert list(body["metrics"]) == ["latency_seconds", "word_error_rate", "total_words"]
    (job,) = run.jobs()
    assert headers["x-transcript-id"] == body["transcript_id"] == job.transcript_id
    assert (body["status"], body["metrics"]["total_words"]) == ("completed", len(WORDS))
    assert list(body["speakers"][0]) == [
        *("speaker_id", "text", "start_time", "end_time", "avg_confidence"),
    ]
    assert PLANTED not in delivery.body.decode()
    assert run.told() == [("job_ended", 1, "delivered")]
    (entry,) = run.entries()
    assert entry.request.webhook_host == "127.0.0.1"
    assert (outcome.webhooks_waiting, outcome.drained) == (0, True)


async def test_a_failed_job_is_told_to_its_webhook_too(tmp_path: Path) -> None:
    """With its status, and nothing that was said."""
    server = JobServer(answer=lambda _: {"status": "failed", "error": "audio.unreadable"})
    async with server.running(), WebhookReceiver() as receiver:
        run = Run(tmp_path, server, receiver.url)
        await run.go(some_ids(1))
    (delivery,) = receiver.deliveries
    body = msgspec.json.decode(delivery.body)
    assert (body["status"], body["speakers"]) == ("failed", [])
    assert run.told() == [("job_ended", 1, "delivered")]


async def test_attempts_after_the_first_are_further_entries(tmp_path: Path) -> None:
    """The entry of the end tells the first; retries keep their id; the last one settles."""
    async with JobServer().running() as server, WebhookReceiver(script="500,503,200") as receiver:
        run = Run(tmp_path, server, receiver.url)
        outcome = await run.go(some_ids(1))
    assert outcome.webhooks_waiting == 0
    assert run.told() == [
        ("job_ended", 1, "failed: PeerUnavailable"),
        ("webhook_attempted", 2, "failed: PeerUnavailable"),
        ("webhook_settled", 3, "delivered"),
    ]
    assert len({each.message_id for each in receiver.deliveries}) == 1
    first, *_, last = run.entries()
    assert (first.metrics, first.transcript_id) == (last.metrics, last.transcript_id)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("redirect:http://127.0.0.1:9/", "failed: RedirectRefused"),
        ("400", "failed: ReceiverRefused"),
        ("garbage", "failed: RemoteProtocolError"),
    ],
)
async def test_an_answer_that_is_no_success_is_a_class_of_ours(
    tmp_path: Path, script: str, status: str
) -> None:
    """Redirects are not followed; nothing of the peer's words is in the log."""
    async with JobServer().running() as server, WebhookReceiver(script=script) as receiver:
        run = Run(tmp_path, server, receiver.url)
        await run.go(some_ids(1), schedule_s=(0.0,))
    assert len(receiver.deliveries) == 1
    assert run.told() == [("job_ended", 1, status)]


async def test_a_private_address_is_refused_when_it_is_connected_to(tmp_path: Path) -> None:
    """Also for a job that was taken while it was allowed."""
    async with JobServer().running() as server, WebhookReceiver() as receiver:
        run = Run(tmp_path, server, receiver.url)
        await run.go(some_ids(1), transcribe__webhook_allow=())
    assert not receiver.deliveries
    assert run.told() == [("job_ended", 1, "failed: AddressForbidden")]


async def test_no_webhook_is_skipped(tmp_path: Path) -> None:
    """And leaves nothing waiting."""
    async with JobServer().running() as server:
        run = Run(tmp_path, server, "")
        outcome = await run.go(some_ids(3))
    assert run.told() == [("job_ended", 0, "skipped")] * 3
    assert (outcome.drained, outcome.webhooks_waiting) == (True, 0)


async def test_a_webhook_that_waits_for_hours_does_not_hold_up_the_command(tmp_path: Path) -> None:
    """It is counted, and sent by a later run with the attempts it had."""
    async with JobServer().running() as server, WebhookReceiver(script="500*2,200") as receiver:
        run = Run(tmp_path, server, receiver.url)
        began = asyncio.get_running_loop().time()
        outcome = await run.go(some_ids(2), schedule_s=(0.0, 3600.0), delivery__drain_s=60.0)
        assert asyncio.get_running_loop().time() - began < 10.0
        assert (outcome.webhooks_waiting, outcome.drained) == (2, False)
        with OutboxReader(run.state.database) as reader:
            assert reader.counts()["job-webhooks"].retry == 2
    assert run.told() == [("job_ended", 1, "failed: PeerUnavailable")] * 2


async def test_an_erased_recording_is_not_sent_any_more(tmp_path: Path) -> None:
    """Its webhook went with its record; those of others are sent."""
    first, second = some_ids(2)
    async with JobServer().running() as server, WebhookReceiver(script="500,200") as receiver:
        run = Run(tmp_path, server, receiver.url)
        await run.go([first, second], schedule_s=(0.0, 3600.0, 3600.0))
        with writing(run.state.database) as db:
            assert erase(db, first, at_us=1).undelivered == 1
            db.execute("UPDATE pending SET next_at_us=0")  # hours later
        outcome = await run.go([])
    assert outcome.webhooks_waiting == 0
    assert sorted(receiver.attempts.values()) == [1, 2]
    last = run.entries()[-1]
    assert (last.event, last.recording_id) == ("webhook_settled", second)


async def test_a_kill_before_the_entry_leaves_one_entry_and_the_webhook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent and not written down is sent again with its id, and entered once."""
    usual = AuditLog.append

    async def fails(self: AuditLog, entry: AuditEntry) -> int:
        raise StorageError("the disk failed")

    (name,) = some_ids(1)
    async with JobServer().running() as server, WebhookReceiver() as receiver:
        run = Run(tmp_path, server, receiver.url)
        monkeypatch.setattr(AuditLog, "append", fails)
        with pytest.raises(StorageError):
            await run.go([name])
        assert len(receiver.deliveries) == 1
        monkeypatch.setattr(AuditLog, "append", usual)
        await run.go([name])
        assert run.told() == [("job_ended", 1, "delivered")]
        await run.go([name])
    assert run.told() == [("job_ended", 1, "delivered")]
    first, second = receiver.deliveries
    assert first.message_id == second.message_id
    assert server.submissions_of(name) == 1


def test_a_secret_is_made_once_and_is_ours_alone(tmp_path: Path) -> None:
    """Where the settings give none; it is usable, and the same at the next start."""
    config = load(None, {"HOME": str(tmp_path)}, {"state_dir": tmp_path})
    state = StateDir(tmp_path)
    made = webhook_secret(config, state)
    assert made == webhook_secret(config, state)
    assert stat.S_IMODE(state.webhook_secret.stat().st_mode) == 0o600
    Webhook(made.reveal())
    state.webhook_secret.write_text("")
    assert webhook_secret(config, state) != made


def test_a_secret_that_signs_nothing_is_refused_by_its_setting(tmp_path: Path) -> None:
    """Without its value."""
    overrides = {"state_dir": tmp_path, "transcribe.webhook_secret": Secret("short")}
    config = load(None, {"HOME": str(tmp_path)}, overrides)
    with pytest.raises(ConfigError) as caught:
        webhook_secret(config, StateDir(tmp_path))
    assert "transcribe.webhook_secret" in str(caught.value)
    assert "short" not in str(caught.value)


async def test_the_audit_log_lies_where_the_setting_says(tmp_path: Path) -> None:
    """And not in the state directory."""
    log = tmp_path / "elsewhere" / "audit.jsonl"
    log.parent.mkdir()
    async with JobServer().running() as server:
        run = Run(tmp_path, server, "")
        await run.go(some_ids(1), transcribe__audit_log=log)
    assert len(run.entries(log)) == 1
    assert not run.state.audit_log.exists()
