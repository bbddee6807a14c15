"""``steno transcribe`` killed at a named place, or with a bug planted.

Usage: transcribe_planted.py BUG PLACE:N transcribe …   (``-`` for no bug, or for no place)

The N-th time that it comes to the place it ends itself by SIGKILL. Places, in the order in which
a job comes to them:

===================  ======================================================================
``submit.before``    the intent is stored, nothing is sent
``submit.after``     the service has the job, and its id is not stored
``file.middle``      half of the transcript is written
``file.after``       the transcript stands in its place, nothing else is stored
``record.after``     the record is durable, the job is not ended
``end.after``        the job is ended, nobody was told
``hook.before``      the same, right before the webhook is called
``hook.after``       the receiver has the webhook, nobody knows
``audit.before``     right before the audit log is told
``audit.after``      the audit log has the entry, and the end is not settled
``settle.after``     everything is done
===================  ======================================================================

Bugs, each of which breaks one promise: ``late-intent`` sends before it stores; ``resubmit`` takes
every doubt for a job that is not there; ``audit-twice`` never looks whether an entry is there;
``audit-lost`` settles ends before anybody is told; ``late-file`` writes files after the end was
stored; ``torn-file`` writes them where they belong; ``other-key`` names records anew at each start;
``no-hook`` calls nobody; ``forged`` signs with another secret; ``no-redaction`` lets the text
through.

No bug but a trial: ``clock-back`` sets the process's wall clock back by an hour at the tenth
submission, ``clock-forward`` forward by a day. A file ``jumped`` in $HOME tells that it happened.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
from yarl import URL

from steno.adapters.audit_log import AuditLog
from steno.adapters.exports.targets import FileTarget
from steno.adapters.job_store import SqliteJobStore
from steno.adapters.platform_http import RecordingJobsApi
from steno.adapters.sinks.posting import Answer, Poster
from steno.adapters.store_sqlite import SqliteStore
from steno.core.audit_chain import AuditEntry
from steno.core.records import Record
from steno.ports import Commit
from steno.ports.jobs import Job, JobState, TranscriptionRequest
from steno.recordings.job import JobMachine
from steno.wire.recording_jobs import JobAnswer

PLACES = (
    *("submit.before", "submit.after", "file.middle", "file.after", "record.after"),
    *("end.after", "hook.before", "hook.after", "audit.before", "audit.after", "settle.after"),
)


class Killer:
    """Ends the process at the n-th visit of a place.

    Args:
        place: ``place:n``, or ``-``.
    """

    def __init__(self, place: str) -> None:
        self._place, _, count = place.partition(":")
        self._left = int(count or 0)
        assert self._place in (*PLACES, "-"), place

    def __call__(self, place: str) -> None:
        """Tell that a place was reached."""
        if place == self._place:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def watch(kill: Killer) -> None:
    """Tell the killer of every place, from the adapters that the service works with."""
    submit, move, settle = RecordingJobsApi.submit, SqliteJobStore.move, SqliteJobStore.settle
    record, append, write = SqliteStore.submit, AuditLog.append, FileTarget.write
    post = Poster.post

    async def submitted(
        self: RecordingJobsApi, request: TranscriptionRequest, *, key: str, limit_s: float
    ) -> JobAnswer:
        kill("submit.before")
        answer = await submit(self, request, key=key, limit_s=limit_s)
        kill("submit.after")
        return answer

    async def moved(
        self: SqliteJobStore, job: Job, *, granted: int = 0, facts: bytes = b""
    ) -> bool:
        is_taken = await move(self, job, granted=granted, facts=facts)
        if job.has_ended:
            kill("end.after")
        return is_taken

    async def settled(self: SqliteJobStore, job_id: str) -> None:
        await settle(self, job_id)
        kill("settle.after")

    def recorded(self: SqliteStore, commit: Commit) -> asyncio.Future[list[Record]]:
        stored = record(self, commit)
        stored.add_done_callback(lambda _: kill("record.after"))
        return stored

    async def appended(self: AuditLog, entry: AuditEntry) -> int:
        kill("audit.before")
        number = await append(self, entry)
        kill("audit.after")
        return number

    async def posted(self: Poster, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        kill("hook.before")
        answer = await post(self, url, headers, body)
        kill("hook.after")
        return answer

    def written(self: FileTarget, conversation: str, chunks: Iterator[bytes]) -> int:
        def halves() -> Iterator[bytes]:
            for chunk in chunks:
                yield chunk[: len(chunk) // 2]
                kill("file.middle")
                yield chunk[len(chunk) // 2 :]

        size = write(self, conversation, halves())
        kill("file.after")
        return size

    RecordingJobsApi.submit = submitted  # type: ignore[method-assign]
    SqliteJobStore.move = moved  # type: ignore[method-assign]
    SqliteJobStore.settle = settled  # type: ignore[method-assign]
    SqliteStore.submit = recorded  # type: ignore[method-assign]
    AuditLog.append = appended  # type: ignore[method-assign]
    Poster.post = posted  # type: ignore[method-assign]
    FileTarget.write = written  # type: ignore[method-assign]


# --- bugs ------------------------------------------------------------------------------------


def late_intent() -> None:
    """Send a submission, and store that it was to be sent when its answer is stored."""
    move = SqliteJobStore.move
    held: dict[str, Job] = {}

    async def moved(
        self: SqliteJobStore, job: Job, *, granted: int = 0, facts: bytes = b""
    ) -> bool:
        if job.state is JobState.SUBMITTING:
            held[job.id] = job
            return True
        if (intent := held.pop(job.id, None)) is not None:
            await move(self, intent)
        return await move(self, job, granted=granted, facts=facts)

    SqliteJobStore.move = moved  # type: ignore[method-assign]


def resubmit() -> None:
    """Take every job in doubt for one that the service does not have."""
    JobMachine.looked = lambda self, job, found, owned, now_us: self._absent(job, now_us)  # type: ignore[method-assign]


def audit_twice() -> None:
    """Never look whether the audit log has an entry already."""
    from steno.app import audit_entries

    audit_entries.entered = lambda *given, **more: set()


def audit_lost() -> None:
    """Note that everybody was told of an end before anybody is."""
    move = SqliteJobStore.move

    async def moved(
        self: SqliteJobStore, job: Job, *, granted: int = 0, facts: bytes = b""
    ) -> bool:
        is_taken = await move(self, job, granted=granted, facts=facts)
        if job.has_ended:
            await self.settle(job.id)
        return is_taken

    SqliteJobStore.move = moved  # type: ignore[method-assign]


def late_file() -> None:
    """Write transcripts a moment after their jobs have ended."""
    write = FileTarget.write

    def written(self: FileTarget, conversation: str, chunks: Iterator[bytes]) -> int:
        data = b"".join(chunks)
        timer = threading.Timer(0.5, write, (self, conversation, iter((data,))))
        timer.daemon = False
        timer.start()
        return len(data)

    FileTarget.write = written  # type: ignore[method-assign]


def other_key() -> None:
    """Give a record another key at each start."""
    submit = SqliteStore.submit

    def submitted(self: SqliteStore, commit: Commit) -> asyncio.Future[list[Record]]:
        named = tuple(
            msgspec.structs.replace(
                draft, key=f"{os.getpid()}.{draft.key}", utterance=f"{os.getpid()}"
            )
            for draft in commit.drafts
        )
        return submit(self, msgspec.structs.replace(commit, drafts=named))

    SqliteStore.submit = submitted  # type: ignore[method-assign]


def torn_file() -> None:
    """Write a transcript piece by piece where it belongs."""
    from steno.adapters.exports import targets

    def written(place: Path, chunks: Iterator[bytes]) -> int:
        size = 0
        with place.open("wb", buffering=0) as file:
            for chunk in chunks:
                size += file.write(chunk)
        return size

    targets._replace = written


def no_hook() -> None:
    """Say that a webhook was taken, and call nobody."""

    async def posted(self: Poster, url: URL, headers: Mapping[str, str], body: bytes) -> Answer:
        return Answer(200)

    Poster.post = posted  # type: ignore[method-assign]


def forged() -> None:
    """Sign with another secret than the one that was agreed."""
    os.environ["STENO_TRANSCRIBE_WEBHOOK_SECRET"] = f"whsec_{'QUJD' * 10}"


def no_redaction() -> None:
    """Let the text through as it was said."""
    sys.argv.append("--no-redact")


def _clock(jump_s: int) -> None:
    """Let the wall clock jump at the tenth submission."""
    submit, count, wall_ns = RecordingJobsApi.submit, 0, time.time_ns
    moved_ns = 0

    async def submitted(
        self: RecordingJobsApi, request: TranscriptionRequest, *, key: str, limit_s: float
    ) -> JobAnswer:
        nonlocal count, moved_ns
        count += 1
        if count == 10:
            moved_ns = jump_s * 1_000_000_000
            (Path.home() / "jumped").touch()
        return await submit(self, request, key=key, limit_s=limit_s)

    RecordingJobsApi.submit = submitted  # type: ignore[method-assign]
    time.time_ns = lambda: wall_ns() + moved_ns
    time.time = lambda: (wall_ns() + moved_ns) / 1e9


BUGS: dict[str, Callable[[], None]] = {
    "-": lambda: None,
    "late-intent": late_intent,
    "resubmit": resubmit,
    "audit-twice": audit_twice,
    "audit-lost": audit_lost,
    "late-file": late_file,
    "torn-file": torn_file,
    "other-key": other_key,
    "no-hook": no_hook,
    "forged": forged,
    "no-redaction": no_redaction,
    "clock-back": lambda: _clock(-3600),
    "clock-forward": lambda: _clock(86_400),
}

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    watch(Killer(sys.argv.pop(1)))
    from steno.cli.main import main

    main()
