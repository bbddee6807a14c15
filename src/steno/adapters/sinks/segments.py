"""The continuous export: segments appended to a file, or to one for each conversation.

A record is acknowledged after the fsync of its piece. After a restart the file's tail tells what
is there already, so that a record tried again is not written twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from steno.adapters.path_template import PathTemplate
from steno.adapters.sinks.appending import STDOUT, AppendedFile, AppendedStdout
from steno.core.records import Kind, Record
from steno.errors import ConfigError, IntegrityError, SinkUnavailable, StorageError
from steno.ports import Ack, BatchShape, Outcome, Reject

OPEN_FILES: Final = 64
REMEMBERED: Final = 8192
"""Pieces known to be written, over all files: more than can be in flight."""
REMEMBERED_FILES: Final = 10_000

_ACK: Final = Ack()
_T = TypeVar("_T")


class PieceForm(Protocol):
    """How records are appended to a file (``diarisation.exports.FollowForm``)."""

    @property
    def holds_many(self) -> bool:
        """One file may hold several conversations."""

    @property
    def header(self) -> bytes:
        """What a file begins with."""

    @property
    def end(self) -> bytes:
        """Bytes that end every piece and the header, and occur nowhere else."""

    @property
    def piece(self) -> Callable[[Record], bytes | None]:
        """From a record to its piece; None leaves it out; raises ``IntegrityError``."""

    @property
    def name(self) -> Callable[[bytes], str]:
        """From a piece to the name of its record: ``key.revision``; empty if not ours."""

    @property
    def said(self) -> Callable[[bytes], bytes] | None:
        """From a piece to what has to differ for a further revision to be appended."""


class _Piece(msgspec.Struct, frozen=True, gc=False):
    path: str
    name: str
    data: bytes


class SegmentLinesSink:
    """Appends segments to files.

    Args:
        path: A file, or ``-`` for standard output; ``{conversation}`` in it makes a file for
            each conversation. Files are made with mode 0600.
        form: Its format.
        one_conversation: No other conversation will come, so that any form fits in one file.

    Raises:
        ConfigError: The path cannot hold the form.
    """

    def __init__(
        self,
        path: str,
        *,
        form: PieceForm,
        name: str = "export",
        one_conversation: bool = False,
        open_files: int = OPEN_FILES,
    ) -> None:
        self._template = PathTemplate(path)
        if not (form.holds_many or one_conversation or self._template.is_per_conversation):
            raise ConfigError(
                "subtitles hold one conversation, and several may come",
                setting="out",
                fix="Put {conversation} into the path, or choose one conversation.",
            )
        self._form = form
        self._name = name
        self._written = _Written(form, self._template, open_files)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segments-sink")
        self._closed = False

    @property
    def name(self) -> str:
        """Destination name."""
        return self._name

    @property
    def kinds(self) -> frozenset[Kind]:
        """Segments."""
        return frozenset({Kind.SEGMENT})

    @property
    def shape(self) -> BatchShape:
        """Large batches into one file; a conversation at a time where each has its own."""
        if self._template.is_per_conversation:
            return BatchShape(512, True, 8)
        return BatchShape(512, False, 2)

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Append the records, and return once they are durable.

        A record that the form leaves out is acknowledged.

        Raises:
            SinkUnavailable: A file cannot be written; it is as it was before.
        """
        if self._closed:
            raise SinkUnavailable(cause="SinkClosed")
        outcomes: list[Outcome] = []
        pieces: list[_Piece] = []
        for record in records:
            try:
                path = self._template.fill(record.conversation)
                data = self._form.piece(record)
            except IntegrityError:
                outcomes.append(Reject("IntegrityError"))
                continue
            outcomes.append(_ACK)
            if data is not None:
                pieces.append(_Piece(path, f"{record.key}.{record.revision}", data))
        try:
            # A write cannot be interrupted: when our caller is cancelled, it still ends whole.
            await asyncio.get_running_loop().run_in_executor(
                self._thread, self._written.append, pieces
            )
        except StorageError as error:
            errno = error.fields.get("errno")
            raise SinkUnavailable(error.summary, cause=error.error_class, errno=errno) from None
        return outcomes

    async def close(self) -> None:
        """Close the files after what is being written."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._written.close)
        self._thread.shutdown()


class _Written:
    """The files, and what is known to be in them; used from one thread."""

    def __init__(self, form: PieceForm, template: PathTemplate, open_files: int) -> None:
        self._form = form
        self._template = template
        self._limit = max(1, open_files)
        self._open: OrderedDict[str, AppendedFile] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._names: OrderedDict[str, None] = OrderedDict()
        self._said: OrderedDict[str, bytes] = OrderedDict()
        self._stdout: AppendedStdout | None = None

    def append(self, pieces: list[_Piece]) -> None:
        """Write what is not there yet, file by file.

        Raises:
            StorageError: A file cannot be written; those before it were.
        """
        by_path: dict[str, list[_Piece]] = {}
        for piece in pieces:
            by_path.setdefault(piece.path, []).append(piece)
        for path, wanted in by_path.items():
            try:
                self._append_to(path, wanted)
            except OSError as exc:
                raise StorageError("the file cannot be written", errno=exc.errno) from exc

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _append_to(self, path: str, wanted: list[_Piece]) -> None:
        if path == STDOUT:
            self._to_stdout(wanted)
            return
        file = self._opened(path)
        fresh = self._fresh(wanted)
        if fresh:
            try:
                file.write(b"".join([piece.data for piece in fresh]))
            except OSError:
                del self._open[path]
                self._sizes.pop(path, None)
                raise
            self._remember(fresh)
        self._sizes[path] = file.size_bytes
        _trim(self._sizes, REMEMBERED_FILES)

    def _to_stdout(self, wanted: list[_Piece]) -> None:
        fresh = self._fresh(wanted)
        data = b"".join([piece.data for piece in fresh])
        if not data:
            return
        is_first = self._stdout is None
        out = self._stdout or AppendedStdout()
        out.write(self._form.header + data if is_first else data)
        self._stdout = out
        self._remember(fresh)

    def _opened(self, path: str) -> AppendedFile:
        file = self._open.get(path)
        if file is not None and file.is_open:
            self._open.move_to_end(path)
            return file
        if file is not None:
            self._open.pop(path).close()
        while len(self._open) >= self._limit:
            self._open.popitem(last=False)[1].close()
        place = Path(path)
        self._template.make_folders(place)
        file = AppendedFile(place, header=self._form.header, end=self._form.end)
        tail = file.open()
        self._open[path] = file
        if self._sizes.get(path) != file.size_bytes:
            self._read_back(tail)
        return file

    def _read_back(self, tail: bytes) -> None:
        end = self._form.end
        found = []
        for piece in tail.split(end)[:-1][-REMEMBERED:]:
            name = self._form.name(piece + end)
            if name:
                found.append(_Piece("", name, piece + end))
        self._remember(found)

    def _fresh(self, wanted: list[_Piece]) -> list[_Piece]:
        fresh: dict[str, _Piece] = {}
        said: dict[str, bytes] = {}
        for piece in wanted:
            if piece.name in self._names or piece.name in fresh:
                continue
            if self._form.said is not None:
                key, digest = _key_of(piece), _digest(self._form.said(piece.data))
                if said.get(key, self._said.get(key)) == digest:
                    continue
                said[key] = digest
            fresh[piece.name] = piece
        return list(fresh.values())

    def _remember(self, pieces: list[_Piece]) -> None:
        for piece in pieces:
            self._names[piece.name] = None
            if self._form.said is not None:
                key = _key_of(piece)
                self._said[key] = _digest(self._form.said(piece.data))
                self._said.move_to_end(key)
        _trim(self._names, REMEMBERED)
        _trim(self._said, REMEMBERED)


def _key_of(piece: _Piece) -> str:
    return piece.name.rpartition(".")[0]


def _digest(said: bytes) -> bytes:
    return blake2b(said, digest_size=16).digest()


def _trim(known: OrderedDict[str, _T], limit: int) -> None:
    while len(known) > limit:
        known.popitem(last=False)
