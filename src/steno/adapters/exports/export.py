"""Writing an export: what meets the criteria goes to its target, whole or not at all.

Everything here blocks; it is meant for a thread.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from threading import Event
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import msgspec

from steno.adapters.exports.targets import ReaderGone, Target, target_of

if TYPE_CHECKING:
    from steno.adapters.object_store import StoreSettings

_EACH: Final = 1024  # segments between two looks at `stop`
_COPY_BYTES: Final = 1 << 20

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Form(Protocol[T_contra]):
    """A format (``diarisation.exports.TextForm``, ``parquet.ParquetForm``)."""

    @property
    def holds_many(self) -> bool:
        """One file may hold several conversations."""

    @property
    def encode(self) -> Callable[[Iterable[T_contra]], Iterator[bytes]]:
        """From segments, in order, to the pieces of a file, in flat memory."""


class ExportReport(msgspec.Struct, frozen=True):
    """What an export has written.

    Attributes:
        segments: 0 when nothing met the criteria; then nothing was written or replaced.
        bytes: Size of the files, or objects, together.
        paths: Number of files or objects.
        stopped: It was asked to stop: what was being written is gone, what was whole stays.
        cut_short: The reader of standard output went away, which is not an error.
    """

    segments: int = 0
    conversations: int = 0
    bytes: int = 0
    paths: int = 0
    stopped: bool = False
    cut_short: bool = False


def export(
    conversations: Iterable[tuple[str, Iterator[T]]],
    form: Form[T],
    out: str,
    *,
    store: StoreSettings | None = None,
    progress: Callable[[int], None] | None = None,
    stop: Event | None = None,
) -> ExportReport:
    """Write an export and report on it.

    Args:
        conversations: Ids with their segments; each is read to its end before the next.
        form: Format of the files.
        out: A file, ``-`` for standard output, or an address (``s3://bucket/key``, ``gs://``,
            ``az://``, ``file:///path``). ``{conversation}`` in it makes one of each.
        store: Endpoint, region and options of the object store; its ``url`` is not used.
        progress: Told the number of segments so far, now and then, and at the end.
        stop: Ends the work early.

    Raises:
        ConfigError: The target cannot work, or cannot hold what is exported.
        StorageError, AuthError, TransportError: Writing failed; what was there before stays.
        IntegrityError: A stored segment is damaged, or a conversation's id is not acceptable.
    """
    target = target_of(out, store)
    work = _Work(target, progress, stop)
    stopped = cut_short = False
    try:
        if target.is_per_conversation:
            for name, items in conversations:
                work.look()
                work.write(form, [(name, items)], name)
        else:
            work.write(form, conversations, "")
    except _Stopped:
        stopped = True
    except ReaderGone:
        cut_short = True
    return ExportReport(
        work.segments, work.conversations, work.size_bytes, work.paths, stopped, cut_short
    )


class _Stopped(Exception):
    """Unwinds what is being written."""


class _Work:
    """One export's counts, and its way through the segments. What failed counts for nothing."""

    def __init__(
        self, target: Target, progress: Callable[[int], None] | None, stop: Event | None
    ) -> None:
        self._target = target
        self._progress = progress
        self._stop = stop
        self._segments = 0  # of the file that is being written
        self._conversations = 0
        self.segments = 0
        self.conversations = 0
        self.size_bytes = 0
        self.paths = 0

    def write(
        self, form: Form[T], conversations: Iterable[tuple[str, Iterator[T]]], name: str
    ) -> None:
        """Write one file, if there is anything for it."""
        self._segments = self._conversations = 0
        items = self._counted(conversations)
        first = next(items, None)
        if first is None:
            return
        chunks = self._watched(form.encode(chain((first,), items)))
        if self._target.is_shown_at_once and not form.holds_many:
            # That it holds one conversation only is known at the end, and too late then.
            chunks = _spooled(chunks)
        self.size_bytes += self._target.write(name, chunks)
        self.paths += 1
        self.segments += self._segments
        self.conversations += self._conversations
        if self._progress is not None:
            self._progress(self.segments)

    def look(self) -> None:
        """Unwind if we are asked to stop."""
        if self._stop is not None and self._stop.is_set():
            raise _Stopped

    def _counted(self, conversations: Iterable[tuple[str, Iterator[T]]]) -> Iterator[T]:
        for _, items in conversations:
            self.look()
            before = self._segments
            for item in items:
                if self._segments == before:
                    self._conversations += 1
                self._segments += 1
                if not self._segments % _EACH:
                    self.look()
                    if self._progress is not None:
                        self._progress(self.segments + self._segments)
                yield item

    def _watched(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.look()
            yield chunk


def _spooled(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Put the pieces aside, in a file without a name, until all of them are there."""
    with tempfile.TemporaryFile() as aside:
        for chunk in chunks:
            aside.write(chunk)
        aside.seek(0)
        while chunk := aside.read(_COPY_BYTES):
            yield chunk
