"""A stored transcript brought home: the document's whole story, with nothing but this checkout.

A simulated organisation has conversations whose transcripts lie in its store, behind links that
end soon. ``steno archive`` is called with the document's environment names: it asks for the
transcript, follows the link, aligns the agent's turns at 48 kHz, archives it and prints the
summary. What is archived and listed is compared with what the simulator stored, by code that
shares nothing with the product.

    python examples/archive_flow.py                            # into a folder; exit code 1 if wrong
    python examples/archive_flow.py --to s3://bucket --endpoint http://127.0.0.1:9000
    python examples/archive_flow.py --redact --size 5MB
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import uuid
from pathlib import Path

from steno_sim.archive.library import Truth
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.archive_score import ArchiveScore, score_listing, score_payload
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.server import Simulator

SUMMARY = [
    "interaction_id",
    "total_duration_seconds",
    "total_turns",
    "agent_turns",
    "customer_turns",
    "avg_confidence",
    "archived_at",
    "storage_location",
]
LINK_S = 2.0
LIMIT_S = 60.0


class Checks:
    """Tells what is as it should be, and counts what is not."""

    def __init__(self) -> None:
        self.missing = 0

    def __call__(self, holds: bool, what: str) -> None:
        """Tell one."""
        self.missing += not holds
        say(f"{'ok     ' if holds else 'MISSING'}  {what}")

    def score(self, score: ArchiveScore, what: str) -> None:
        """Tell how much is right."""
        self(score.perfect, f"{what}: {score.right} of {score.expected} turns")
        for line in score.details[:10]:
            say(f"         {line}")


async def steno(env: dict[str, str], *arguments: str) -> tuple[int, bytes]:
    """Run a command; return its exit code and what it printed."""
    say(" ".join(["steno", *arguments]))
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("steno")),
        *arguments,
        env=env,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(LIMIT_S):
        printed, _ = await process.communicate()
    return process.returncode or 0, printed


async def story(folder: Path, given: argparse.Namespace, check: Checks) -> None:
    """Archive one conversation, look at it, and archive it again."""
    settings = ArchiveSettings(
        size=given.size, inline_bytes=0, url_ttl_s=LINK_S, redirects=1, queued_s=(1, 1)
    )
    async with Simulator("quiet", archive=settings) as sim:
        conversation = str(uuid.uuid4())
        truths: list[Truth] = sim.archive.truth(conversation)
        if not truths[0].turns:
            check(False, f"{truths[0].count} turns are more than are compared here; --size 15MB")
            return
        env = os.environ | {
            "GENESYS_ENV": sim.host,
            "GENESYS_CLIENT_ID": DEFAULT_CLIENT_ID,
            "GENESYS_CLIENT_SECRET": DEFAULT_CLIENT_SECRET,
            "GENESYS_CONVERSATION_ID": conversation,
            "STENO_STATE_DIR": str(folder / "state"),
            "STENO_ARCHIVE_POLL_S": "0.5",
        }
        where = ["--to", given.to or str(folder / "archive"), "--log-level", "error"]
        if given.endpoint:
            where += ["--endpoint", given.endpoint]
        how = ["--redact"] if given.redact else []
        listing = folder / "agent.jsonl"
        picture = folder / "picture.svg"
        made = ["--role", "agent", "--out", str(listing), "--picture", str(picture)]
        code, printed = await steno(env, "archive", *where, *how, *made)
        check(code == 0, f"it ended with exit code {code}")
        if code:
            return
        sys.stdout.write(printed.decode())
        summary = json.loads(printed)
        check(list(summary) == SUMMARY, "the summary has the document's keys")
        check(summary["interaction_id"] == conversation, "of this conversation")
        check_counts(check, summary, truths[0])
        lines = listing.read_bytes()
        listed = score_listing(truths, lines, redacted=given.redact, only=["agent"])
        check.score(listed, "the agent's turns are listed at 48 kHz")
        check(picture.read_text().startswith("<svg"), "and drawn")
        at = [one for one in where if one not in ("--log-level", "error")]
        code, data = await steno(env, "archived", "get", conversation, *at)
        check(code == 0, "the archive gives it back")
        check.score(score_payload(truths, data, redacted=given.redact), "with everything")
        code, _ = await steno(env, "archived", "verify", "--all", *at)
        check(code == 0, "and finds it undamaged")
        code, again = await steno(env, "archive", *where, *how)
        check(code == 0 and json.loads(again) == summary, "a second run changes nothing")


def check_counts(check: Checks, summary: dict[str, object], truth: Truth) -> None:
    """Count the turns ourselves."""
    roles = {person["id"]: person["role"] for person in truth.participants}
    said = [roles.get(turn.speaker, "unknown") for turn in truth.turns]
    check(summary["total_turns"] == truth.count, f"{truth.count} turns")
    check(summary["agent_turns"] == said.count("agent"), f"{said.count('agent')} of an agent")
    check(
        summary["customer_turns"] == said.count("customer"),
        f"{said.count('customer')} of a customer",
    )


def say(text: str) -> None:
    """Write a line for people."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> int:
    """Run it all; 0 when everything is as it was stored."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--to", default="", help="an address in place of a folder")
    parser.add_argument("--endpoint", default="", help="of an S3-compatible service")
    parser.add_argument("--size", default="1MB", help="of the transcript")
    parser.add_argument("--redact", action="store_true", help="archive it redacted")
    check = Checks()
    with tempfile.TemporaryDirectory(prefix="steno-example-") as folder:
        asyncio.run(story(Path(folder), parser.parse_args(), check))
    return int(check.missing > 0)


if __name__ == "__main__":
    sys.exit(main())
