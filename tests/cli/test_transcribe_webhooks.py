"""``steno transcribe`` as a process against the simulator: webhooks, kills, forms."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook  # type: ignore[import-untyped,unused-ignore]

from recordings.job_server import PLANTED, JobServer
from recordings.transcribe_command import LIMIT_S, Command, until
from steno.adapters.job_store import JobReader
from steno.ports.jobs import Job
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.recordings.settings import JobSettings
from steno_sim.recordings.talk import recording_id
from steno_sim.server import Simulator
from steno_sim.webhooks.receiver import WebhookReceiver

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
QUICK = JobSettings(recordings=50, clock=500.0, words=(20, 30))
KILL = "import os, signal\ndef die():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
PLACES = {
    "record.after": KILL
    + "from steno.adapters.job_store import SqliteJobStore as Store\n"
    + "usual = Store.move\n"
    + "async def move(self, job, **more):\n"
    + "    if job.has_ended: die()\n"
    + "    return await usual(self, job, **more)\n"
    + "Store.move = move\n",
    "entry.before": KILL
    + "from steno.adapters.audit_log import AuditLog\n"
    + "async def append(self, entry): die()\n"
    + "AuditLog.append = append\n",
    "entry.after": KILL
    + "from steno.adapters.job_store import SqliteJobStore as Store\n"
    + "async def settle(self, job_id): die()\n"
    + "Store.settle = settle\n",
}
"""Code that ends the process between two things that are stored."""


@asynccontextmanager
async def world(
    folder: Path, *, script: str = "200", secret: str = SECRET
) -> AsyncIterator[tuple[Command, WebhookReceiver]]:
    """Give the command, a service that transcribes, and a receiver."""
    async with Simulator("quiet", jobs=QUICK) as sim, WebhookReceiver(script=script) as receiver:
        command = Command(folder, sim.url)
        command.env |= {
            "GENESYS_CLIENT_ID": DEFAULT_CLIENT_ID,
            "GENESYS_CLIENT_SECRET": DEFAULT_CLIENT_SECRET,
            "WEBHOOK_URL": receiver.url,
            "STENO_TRANSCRIBE_WEBHOOK_ALLOW": "127.0.0.1",
            "STENO_TRANSCRIBE_WEBHOOK_SECRET": secret,
            "STENO_TRANSCRIBE_SETTLE_S": "1",
        }
        yield command, receiver


def ids(count: int) -> list[str]:
    return [recording_id(QUICK.seed, number) for number in range(count)]


async def test_webhooks_of_a_batch_arrive_signed(tmp_path: Path) -> None:
    """One for each job, accepted by the public library; each entry says that it was delivered."""
    async with world(tmp_path) as (command, receiver):
        code, out, err = await command.run("transcribe", *ids(5), "--json")
    assert code == 0, err
    assert msgspec.json.decode(out)["webhooks_waiting"] == 0
    bodies = [Webhook(SECRET).verify(one.body, dict(one.headers)) for one in receiver.deliveries]
    entries = command.entries()
    assert {body["transcript_id"] for body in bodies} == {each.transcript_id for each in entries}
    assert [(each.event, each.webhook_status) for each in entries] == [
        ("job_ended", "delivered")
    ] * 5
    assert "webhook.secret" not in err


async def test_without_a_secret_one_is_made_and_told(tmp_path: Path) -> None:
    """Where it is, not what it is; receivers can verify with it."""
    async with world(tmp_path, secret="") as (command, receiver):
        code, _, err = await command.run("transcribe", *ids(1))
    made = tmp_path / "state" / "webhook.secret"
    assert (code, str(made) in err) == (0, True)
    secret = made.read_text().strip()
    assert secret not in err
    (delivery,) = receiver.deliveries
    Webhook(secret).verify(delivery.body, dict(delivery.headers))


@pytest.mark.parametrize("place", PLACES)
async def test_a_kill_leaves_one_entry_of_the_end_and_the_webhook(
    tmp_path: Path, place: str
) -> None:
    """Wherever it comes; what is sent twice has one id."""
    async with world(tmp_path) as (command, receiver):
        code, _, _ = await command.run("transcribe", *ids(1), before=PLACES[place])
        assert code == -9
        code, _, err = await command.run("transcribe", *ids(1))
        assert code == 0, err
    assert [(each.event, each.webhook_status) for each in command.entries()] == [
        ("job_ended", "delivered")
    ]
    assert len({each.message_id for each in receiver.deliveries}) == 1
    code, out, _ = await command.run("audit", "verify")
    assert (code, out.startswith("sound: 1 entries")) == (0, True)


async def test_what_a_command_leaves_is_delivered_by_the_outbox(tmp_path: Path) -> None:
    """With the attempts it had; the log gets the further entry."""
    async with world(tmp_path, script="500,200") as (command, receiver):
        command.env["STENO_DELIVERY_DRAIN_S"] = "0"
        code, out, err = await command.run("transcribe", *ids(1), "--json")
        assert (code, msgspec.json.decode(out)["webhooks_waiting"]) == (0, 1)
        assert "steno outbox deliver" in err
        code, out, _ = await command.run(
            "outbox", "list", "--json", "--destination", "job-webhooks"
        )
        assert msgspec.json.decode(out)["counts"]["job-webhooks"]["retry"] == 1
        code, _, err = await command.run("outbox", "deliver", "--drain-s", "15")
        assert code == 0, err
        assert len({each.message_id for each in receiver.deliveries}) == 1
    assert [(each.event, each.webhook_attempt) for each in command.entries()] == [
        ("job_ended", 1),
        ("webhook_settled", 2),
    ]


async def test_every_form_from_one_file_and_a_log_elsewhere(tmp_path: Path) -> None:
    """CSV says which form; `steno audit` finds the log by the setting, or by its file."""
    forms = {"text": "[00:", "srt": "1\n00:00:", "vtt": "WEBVTT", "json": "{"}
    names = dict(zip(forms, ids(4), strict=True))
    file = tmp_path / "batch.csv"
    file.write_text(
        "recordingId,format,webhook\n"
        + "".join(f"{name},{form},\n" for form, name in names.items())
    )
    async with world(tmp_path) as (command, receiver):
        del command.env["WEBHOOK_URL"]
        code, _, err = await command.run(
            *("transcribe", "--file", str(file), "--out", f"{tmp_path}/{{recording}}.out")
        )
        assert code == 0, err
        assert not receiver.deliveries
        log = tmp_path / "elsewhere.jsonl"
        command.env["STENO_TRANSCRIBE_AUDIT_LOG"] = str(log)
        code, _, _ = await command.run("audit", "verify")
        assert code == 5  # there is none yet
        code, _, err = await command.run("transcribe", ids(5)[4], "--format", "vtt")
        assert code == 0, err
        for arguments in ((), (str(log),)):
            code, out, _ = await command.run("audit", "verify", *arguments)
            assert (code, "sound: 1 entries" in out) == (0, True), out
    for form, name in names.items():
        assert (tmp_path / f"{name}.out").read_text().startswith(forms[form])
    assert {each.webhook_status for each in command.entries()} == {"skipped"}
    assert {each.request.format for each in command.entries()} == set(forms)


async def test_redaction_is_left_out_only_on_demand(tmp_path: Path) -> None:
    """Only then does a planted number get into the transcript and to the webhook."""
    said = [
        {"text": text, "confidence": 0.9, "startTimestamp": f"2024-01-15T10:30:0{at}Z",
         "endTimestamp": f"2024-01-15T10:30:0{at + 1}Z", "speaker": "customer"}
        for at, text in enumerate(["card", *PLANTED.split()])
    ]  # fmt: skip
    server = JobServer(answer=lambda _: {"status": "completed", "result": {"words": said}})
    async with server.running(), WebhookReceiver() as receiver:
        command = Command(tmp_path, server.url)
        command.env["WEBHOOK_URL"] = receiver.url
        command.env["STENO_TRANSCRIBE_WEBHOOK_ALLOW"] = "127.0.0.1"
        for name, more in (("usual", ()), ("open", ("--no-redact", "--again", "all"))):
            out = str(tmp_path / f"{name}.txt")
            code, _, err = await command.run("transcribe", ids(1)[0], "--out", out, *more)
            assert code == 0, err
    assert "4111" not in (tmp_path / "usual.txt").read_text()
    assert PLANTED in (tmp_path / "open.txt").read_text()
    assert [PLANTED.encode() in each.body for each in receiver.deliveries] == [False, True]


async def test_jobs_are_paused_and_resumed_beside_their_owner(tmp_path: Path) -> None:
    """While the owner waits for them."""
    slow = msgspec.structs.replace(QUICK, clock=1.0, queued_s=(60, 60))
    async with Simulator("quiet", jobs=slow) as sim:
        command = Command(tmp_path, sim.url)
        command.env["GENESYS_CLIENT_ID"] = DEFAULT_CLIENT_ID
        command.env["GENESYS_CLIENT_SECRET"] = DEFAULT_CLIENT_SECRET
        owner = await command.start("transcribe", *ids(2), "--batch", "b")
        try:
            await until(lambda: _states(command)["submitted"] == 2)
            for word, paused in (("pause", 2), ("resume", 0)):
                code, _, err = await command.run("jobs", word, "--batch", "b")
                assert code == 0, err
                await until(partial(_are_paused, command, paused))
            await command.run("jobs", "cancel", "--batch", "b")
            await asyncio.wait_for(owner.communicate(), LIMIT_S)
        finally:
            if owner.returncode is None:
                owner.kill()
                await owner.communicate()
    assert owner.returncode == 1


def _states(command: Command) -> Counter[str]:
    """Count the jobs by state, and those that are paused."""
    path = command.folder / "state/jobs.db"
    if not path.exists():
        return Counter()
    with JobReader(path) as reader:
        jobs = [listed.job for listed in reader.page()]
    return Counter(job.state.value for job in jobs) + Counter(paused=sum(map(_is_paused, jobs)))


def _is_paused(job: Job) -> bool:
    return job.paused_us > 0


def _are_paused(command: Command, count: int) -> bool:
    return _states(command)["paused"] == count
