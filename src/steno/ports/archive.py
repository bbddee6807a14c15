"""What the archive asks of whoever has stored transcripts, and of the place they are archived in.

Values and protocols only: ``adapters/stored_transcripts`` and ``adapters/archive_store`` fill
them, ``archive`` uses them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from steno.core.stored import StoredShape

# --- where transcripts come from -------------------------------------------------------------


class FoundTranscript(msgspec.Struct, frozen=True, gc=False):
    """A stored transcript that can be downloaded now.

    Attributes:
        communication: The platform's communication id; empty in the document's shape, where a
            conversation has one transcript.
        recording: Recording segment that it belongs to; empty where it is not told.
    """

    conversation: str
    communication: str = ""
    recording: str = ""
    shape: StoredShape = StoredShape.DOCUMENT


class Nothing(StrEnum):
    """Why a conversation has no transcript."""

    MISSING = "missing"
    """The platform knows no transcript of it (404 until the limit)."""
    EMPTY = "empty"
    """There is one, without a segment."""
    LEGACY = "legacy"
    """The platform answers in a form of older days, whose segments cannot be read."""
    IN_WORK = "in_work"
    """Still queued or in work when the time was over."""
    FAILED = "failed"
    """The platform says it failed."""


class NoTranscript(msgspec.Struct, frozen=True, gc=False):
    """A conversation without a transcript, and why."""

    conversation: str
    reason: Nothing


class FetchProgress(Protocol):
    """Told of a download as it goes."""

    def __call__(self, received: int, total: int | None, /) -> None:
        """Bytes received so far, and in all where that is known."""


class TranscriptSource(Protocol):
    """Finds stored transcripts and downloads them.

    Every call may raise ``AuthError`` (naming scope or permission), ``TransportError``,
    ``RemoteProtocolError``; retries, waiting for work to be done and fresh links are inside.
    """

    async def find(self, conversation: str) -> Sequence[FoundTranscript] | NoTranscript:
        """Return a conversation's transcripts, waiting for those still in work up to a limit."""

    def download(
        self, found: FoundTranscript, progress: FetchProgress | None = None
    ) -> AsyncIterator[bytes]:
        """Return a transcript's bytes, decompressed, in order, none twice.

        A link that expires, also in the middle, is replaced and the download goes on by Range
        where the store allows, else from the start with what was given already left out (after
        a check that it is the same file).

        Raises:
            IntegrityError: Length or checksum differ, or the file changed under way.
            ObjectMissing: It is not there any more.
        """


class ConversationFinder(Protocol):
    """Finds conversations of a time range."""

    def conversations(self, from_us: int, to_us: int) -> AsyncIterator[str]:
        """Return ids of conversations with calls that began in the range (UTC us)."""


# --- where they go ---------------------------------------------------------------------------


class NewItem(msgspec.Struct, frozen=True, gc=False):
    """What is about to be archived.

    Attributes:
        key: Object key below the store's prefix, made of ids by the key template.
        made_with: Short fixed words for what shaped the content (``document redacted zstd``), so
            that the same transcript archived otherwise is a difference and not damage.
    """

    key: str
    conversation: str
    communication: str = ""
    content_type: str = "application/json"
    content_encoding: str = ""
    made_with: str = ""


class WriteOutcome(StrEnum):
    """What a finished write was."""

    WRITTEN = "written"
    SAME = "same"
    """The same content was there before."""


class Manifest(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What is kept beside an archived object, as JSON.

    Attributes:
        state: ``claimed`` while somebody writes, then ``complete``.
        size, sha256: Of the object as stored (lower-case hex).
        content_sha256: Of the content before compression; equal to ``sha256`` without.
        archived_at: RFC 3339 UTC.
        claimed_until_us: A claim older than this is abandoned and may be taken over.
        summary: The document's summary and what else was computed, as the run made it.
    """

    version: int
    key: str
    state: str
    conversation: str
    communication: str = ""
    size: int = 0
    sha256: str = ""
    content_sha256: str = ""
    content_type: str = "application/json"
    content_encoding: str = ""
    made_with: str = ""
    archived_at: str = ""
    claimant: str = ""
    claimed_until_us: int = 0
    summary: msgspec.Raw = msgspec.Raw(b"")


class Archived(msgspec.Struct, frozen=True, gc=False):
    """A finished write, verified by reading back."""

    outcome: WriteOutcome
    url: str
    manifest: Manifest


class ArchiveWriter(Protocol):
    """One object being written. Calls block: use it from a worker thread.

    Exactly one of ``finish`` and ``abort`` ends it.
    """

    def write(self, data: bytes) -> None:
        """Add content.

        Raises:
            StorageError, StorageFull, TransportError, AuthError: It cannot be stored.
        """

    def finish(self, summary: bytes) -> Archived:
        """Store it, read it back, complete its manifest.

        Args:
            summary: JSON object that is kept in the manifest. ``archived_at`` and
                ``storage_location`` are put in by the caller beforehand.

        Raises:
            PreconditionFailed: Something else is archived under that key.
            IntegrityError: What was read back is not what was written.
            StorageError, TransportError, AuthError: It could not be stored.
        """

    def abort(self) -> None:
        """Give it up; nothing stays but perhaps a claim that runs out."""


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What a check of an archived object found; ``problem`` is empty for a sound one."""

    key: str
    problem: str = ""
    size: int = 0


class ArchiveStore(Protocol):
    """A place for archived transcripts: written once, never overwritten. Calls block.

    Every call may raise ``StorageError``, ``TransportError`` and ``AuthError``.
    """

    def url_of(self, key: str) -> str:
        """Return an object's address: ``s3://bucket/prefix/key``, ``file:///folder/key``."""

    def writer(self, item: NewItem) -> ArchiveWriter:
        """Begin an object."""

    def manifest(self, key: str, *, conversation: str = "") -> Manifest | None:
        """Return what is kept beside an object; None where nothing is.

        Quick where the conversation is given.
        """

    def manifests(self, *, conversation: str = "", since_us: int = 0) -> Iterator[Manifest]:
        """Return the manifests of all objects, or of one conversation's, in order of keys.

        ``since_us`` leaves out what the store knows to be older.
        """

    def read(self, key: str) -> Iterator[bytes]:
        """Return an object's content, decompressed, in pieces.

        Raises:
            ObjectMissing: It is not there.
            IntegrityError: Its content is not what the manifest says (raised at the end).
        """

    def verify(self, manifest: Manifest) -> Verdict:
        """Compare an object with its manifest."""

    def erase(self, conversation: str) -> int:
        """Delete every object and manifest of a conversation; return how many objects."""
