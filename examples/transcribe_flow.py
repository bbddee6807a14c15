"""A recording becomes a transcript: the whole way of a job, with nothing but this checkout.

A simulated service transcribes one recording for ``steno transcribe``, which is told what to do
by the tutorial's own variables. The transcript goes to standard output, a signed webhook to a
receiver on this machine, an entry into the audit log. What the recording says is known, so the
end is compared with the beginning, by code that shares nothing with the product.

    python examples/transcribe_flow.py          # exit code 1 if anything is missing
    python examples/transcribe_flow.py --language de-DE
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.recordings.results import Truth, TruthTurn
from steno_sim.recordings.settings import JobSettings
from steno_sim.recordings.talk import recording_id
from steno_sim.score import masks_match, plain
from steno_sim.server import Simulator
from steno_sim.webhooks.receiver import Delivery, WebhookReceiver

JOBS = JobSettings(clock=20.0, words=(240, 260))  # twenty of the service's seconds in one of ours
LINE = re.compile(r"\[(\d\d):(\d\d):(\d\d)\] (\S+): (.*)")
AUDIT_KEYS = {
    "timestamp", "recording_id", "transcript_id", "status", "metrics", "webhook_status",
}  # fmt: skip
LIMIT_S = 60.0


class Checks:
    """Says of each thing whether it is as it must be, and remembers if any is not."""

    def __init__(self) -> None:
        self.missing = 0

    def __call__(self, is_so: bool, what: str) -> None:
        """Say what is so, or that it is not."""
        self.missing += not is_so
        say(f"{'ok  ' if is_so else 'MISSING'}  {what}")


def say(text: str) -> None:
    """Write a line for people."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


async def steno(env: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run a command to its end; its exit code and what it wrote."""
    say(" ".join(["steno", *arguments]))
    command = str(Path(sys.executable).with_name("steno"))
    process = await asyncio.create_subprocess_exec(
        command,
        *arguments,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(), err.decode()


# --- comparing, with nothing of the product ---------------------------------------------------


def signed_with(secret: str, delivery: Delivery) -> bool:
    """Verify a webhook as Standard Webhooks has it: HMAC-SHA256 over id, time and body."""
    headers = dict(delivery.headers)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + delivery.body
    wanted = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    given = headers["webhook-signature"].split()
    return any(hmac.compare_digest(wanted, each) for each in given)


def says(text: str, said: TruthTurn) -> bool:
    """Tell whether a text is what was said, masks in the place of secrets."""
    hidden = sum(len(plain(secret.text).split()) for secret in said.secrets)
    # Words that lead from one part of a number to the next may go with them ("y después").
    return masks_match(text, plain(said.text), hidden + 1 if hidden else 0)


def same_second(one: str, other: str) -> bool:
    """Tell whether two RFC 3339 times are the same to the millisecond."""
    return one[:23].rstrip("Z") == other[:23].rstrip("Z")


def check_turns(check: Checks, speakers: list[dict[str, Any]], truth: Truth) -> None:
    """Compare the turns of a webhook with what was said."""
    check(len(speakers) == len(truth.turns), f"{len(speakers)} of {len(truth.turns)} turns")
    pairs = list(zip(speakers, truth.turns, strict=False))
    check(all(says(one["text"], said) for one, said in pairs), "each with its words")
    check(all(one["speaker_id"] == said.speaker for one, said in pairs), "each by its speaker")
    check(
        all(
            same_second(one["start_time"], said.start) and same_second(one["end_time"], said.end)
            for one, said in pairs
        ),
        "each at its time",
    )
    check(
        all(abs(one["avg_confidence"] - said.confidence) < 0.0001 for one, said in pairs),
        "each with a confidence of its own",
    )


def check_metrics(check: Checks, metrics: dict[str, Any], truth: Truth) -> None:
    """Compare the tutorial's three figures."""
    estimate = round(1 - (truth.confidence or 0.0), 4)
    check(metrics["total_words"] == truth.words, f"{truth.words} words")
    check(abs(metrics["word_error_rate"] - estimate) < 0.00011, f"an estimate of {estimate}")
    check(0 < metrics["latency_seconds"] < LIMIT_S, "a latency")


def check_text(check: Checks, text: str, truth: Truth) -> None:
    """Compare the transcript that was printed."""
    lines = [LINE.fullmatch(line) for line in text.splitlines()]
    is_whole = len(lines) == len(truth.turns) and all(
        line is not None and line[4] == said.speaker and says(line[5], said)
        for line, said in zip(lines, truth.turns, strict=False)
    )
    check(is_whole, "the printed transcript has a line for each turn")


def leaks(truth: Truth, *texts: str) -> list[str]:
    """Return the planted secrets that are in any of the texts."""
    return [secret.kind for secret in truth.secrets for text in texts if secret.text in text]


# --- the story ---------------------------------------------------------------------------------


async def story(folder: Path, language: str, check: Checks) -> None:
    """Transcribe one recording and look at everything that came of it."""
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    recording = recording_id(JOBS.seed, 3)
    async with WebhookReceiver(secret=secret) as receiver, Simulator("quiet", jobs=JOBS) as sim:
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        env |= {
            # The tutorial's variables …
            "GENESYS_CLIENT_ID": DEFAULT_CLIENT_ID,
            "GENESYS_CLIENT_SECRET": DEFAULT_CLIENT_SECRET,
            "GENESYS_ENV": sim.host,
            "RECORDING_ID": recording,
            "WEBHOOK_URL": receiver.url,
            # … and what a receiver on this machine needs besides.
            "STENO_TRANSCRIBE_WEBHOOK_ALLOW": "127.0.0.1",
            "STENO_TRANSCRIBE_WEBHOOK_SECRET": secret,
            "STENO_STATE_DIR": str(folder / "state"),
        }
        quiet = ("--language", language, "--log-level", "error")
        code, text, told = await steno(env, "transcribe", *quiet)
        truth = sim.jobs.truth(recording, language)
        say(told.rstrip())
        check(code == 0, f"it ended with exit code {code}")
        check_text(check, text, truth)
        check(len(receiver.accepted) == 1, "one webhook was delivered")
        if receiver.deliveries:
            delivery = receiver.deliveries[0]
            check_webhook(check, delivery, secret, truth)
            await check_audit(check, env, folder / "state", delivery, truth)
        again, repeated, _ = await steno(env, "transcribe", *quiet)
        accepted = sim.jobs.stats()["accepted"]
        check(again == 0 and not repeated and accepted == 1, "asked again, nothing is done again")
        check(len(receiver.accepted) == 1 and receiver.count == 1, "and nobody is told again")
        files = [path.read_bytes() for path in (folder / "state").glob("*.jsonl")]
        bodies = [each.body.decode() for each in receiver.deliveries]
        found = leaks(truth, text, told, *bodies, *(each.decode() for each in files))
        check(bool(truth.secrets) and not found, f"none of {len(truth.secrets)} secrets is shown")
    sys.stdout.write(text)


def check_webhook(check: Checks, delivery: Delivery, secret: str, truth: Truth) -> None:
    """Verify the webhook, compare it, and print it as the tutorial prints a result."""
    payload = json.loads(delivery.body)
    headers = dict(delivery.headers)
    check(signed_with(secret, delivery), "its signature is right")
    check(headers.get("x-transcript-id") == payload["transcript_id"], "it names its transcript")
    check(payload["status"] == "completed", "it tells of a completed job")
    check_metrics(check, payload["metrics"], truth)
    check_turns(check, payload["speakers"], truth)
    metrics = payload["metrics"]
    say(
        f"Processing complete. Latency: {metrics['latency_seconds']:.2f}s, "
        f"WER: {metrics['word_error_rate']:.4f} (an estimate), Words: {metrics['total_words']}"
    )
    for turn in payload["speakers"]:
        say(f"Speaker {turn['speaker_id']}: {turn['text']} (Conf: {turn['avg_confidence']:.2f})")


async def check_audit(
    check: Checks, env: dict[str, str], state: Path, delivery: Delivery, truth: Truth
) -> None:
    """Read the audit log, have it verified, and have a changed copy found out."""
    log = state / "transcription_audit.jsonl"
    payload = json.loads(delivery.body)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    ended = [entry for entry in entries if entry.get("event") == "job_ended"]
    check(len(ended) == 1 and set(ended[0]) >= AUDIT_KEYS, "the audit log has its entry")
    if ended:
        entry = ended[0]
        check(entry["recording_id"] == truth.recording, "of this recording")
        check(entry["metrics"] == payload["metrics"], "with the same metrics")
        check(entry["webhook_status"] == "delivered", "and the webhook's status")
    code, told, _ = await steno(env, "audit", "verify")
    say(told.rstrip())
    check(code == 0, "the audit log is whole")
    changed = state.parent / "transcription_audit.jsonl"
    changed.write_text(log.read_text().replace('"status":"completed"', '"status":"cancelled"'))
    key = state / "transcription_audit.jsonl.pub"
    code, told, _ = await steno(env, "audit", "verify", str(changed), "--key", str(key))
    say(told.rstrip())
    check(code == 1, "one word changed in a copy is found out")


def main() -> int:
    """Run it all; 0 when everything is as it was planted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--language", choices=JOBS.languages, default="en-US")
    language: str = parser.parse_args().language
    check = Checks()
    with tempfile.TemporaryDirectory(prefix="steno-example-") as folder:
        asyncio.run(story(Path(folder), language, check))
    return int(check.missing > 0)


if __name__ == "__main__":
    sys.exit(main())
