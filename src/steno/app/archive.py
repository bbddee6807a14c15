"""Building ``archive``: where transcripts come from and go to, and what is made of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

import msgspec

from steno.adapters.archive_store import Archive as ArchivePlace
from steno.adapters.exports.targets import ReaderGone, Target, require_target, target_of
from steno.adapters.private_file import PrivateFile
from steno.app.archive_extras import ExtraOptions, Maker, Making, name_of, table_of
from steno.app.archive_place import place_of
from steno.app.redactor import make_redactor
from steno.archive.criteria import Criteria
from steno.archive.listing import Listing
from steno.archive.passage import Observer, Passage, PassageSettings, Passed
from steno.archive.redacted import SegmentRedaction
from steno.archive.service import (
    Extra,
    Outcome,
    Result,
    Work,
    require_same,
    run_blocking,
    summary_bytes,
)
from steno.config import Config
from steno.core.ids import is_id
from steno.errors import ConfigError, StorageError
from steno.ports import Telemetry
from steno.ports.archive import Archived, FoundTranscript, NewItem, WriteOutcome
from steno.wire.stored_transcripts import TranscriptParser

BLOCK_BYTES: Final = 256 << 10
"""Of a local file that is read at once."""


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """What one run is told beside the settings.

    Attributes:
        archives: Transcripts are archived; else they are only listed and summed up.
        out: Where segments are listed; ``-`` for standard output, empty for nowhere.
        criteria: What of them.
        kept_filtered: The criteria hold for archive and summary, too.
        original: The archived object is the source's own bytes.
        analyses: Summaries have the analysis with them.
        strict: A segment that cannot be read fails its transcript.
        keep_truncated: What is complete of a truncated file is kept.
        again: What is archived already is fetched and compared.
        extras: Further outputs: pictures, peaks, a page.
        on_result: Told of each transcript.
        on_bytes: Told of bytes received.
    """

    archives: bool = True
    out: str = ""
    criteria: Criteria = field(default_factory=Criteria)
    kept_filtered: bool = False
    original: bool = False
    analyses: bool = False
    strict: bool = False
    keep_truncated: bool = False
    again: bool = False
    extras: ExtraOptions = field(default_factory=ExtraOptions)
    on_result: Callable[[Result], None] = lambda result: None
    on_bytes: Callable[[int], None] = lambda received: None


def require_options(config: Config, options: ArchiveOptions) -> None:
    """Find out before the work what cannot go together.

    Raises:
        ConfigError: Two options exclude one another, or nothing can be listed there.
    """
    if options.original and (config.archive.redact or options.kept_filtered):
        raise ConfigError(
            "the source's own bytes are neither redacted nor filtered",
            setting="--original",
            fix="Leave --original out, or --redact and --archive-filtered.",
        )
    if options.original and options.keep_truncated:
        raise ConfigError(
            "a truncated file is not archived as it came",
            setting="--original",
            fix="Leave --original or --keep-truncated out.",
        )
    if options.extras.parquet and not options.archives:
        raise ConfigError(
            "a table is archived, or not made",
            setting="--parquet",
            fix="Leave --parquet or --no-archive out.",
        )
    if options.kept_filtered and not options.criteria.restricts:
        raise ConfigError(
            "nothing says what is kept",
            setting="--archive-filtered",
            fix="Add --role, --participant, --interaction, --after, --before or --min-confidence.",
        )
    start, end = options.criteria.from_s, options.criteria.to_s
    for setting, time_s in (("--after", start), ("--before", end)):
        if time_s is not None and not math.isfinite(time_s):
            raise ConfigError("a time is a number of seconds", setting=setting)
    if start is not None and end is not None and end <= start:
        raise ConfigError("the time ends before it begins", setting="--before")
    if options.out:
        require_target(options.out)


class Shop:
    """Sets up what transcripts go through (``archive.service.Workshop``)."""

    def __init__(self, config: Config, options: ArchiveOptions, place: ArchivePlace | None) -> None:
        self._config = config
        self._options = options
        self._place = place
        self._redactor = make_redactor(config) if config.archive.redact else None
        self._maker = Maker(options.extras) if options.extras.is_drawn else None
        self._listings = _Listings(options.out) if options.out else None

    @property
    def lists(self) -> bool:
        """Whether transcripts that are archived already are read again."""
        return bool(
            self._listings is not None or self._maker is not None or self._options.extras.parquet
        )

    @property
    def analyses(self) -> bool:
        """Whether summaries have the analysis with them."""
        return self._options.analyses

    @property
    def made_with(self) -> str:
        """What shapes the archived content, in fixed words."""
        options = self._options
        words = ["original" if options.original else "document"]
        if self._redactor is not None:
            words.append("redacted")
        if options.kept_filtered and options.criteria.restricts:
            words.append(f"filtered-{options.criteria.digest}")
        if options.keep_truncated:  # what is whole later must not be taken for known
            words.append("as-far-as-complete")
        return " ".join(words)

    def item(self, found: FoundTranscript) -> NewItem:
        """Return what a transcript is archived as."""
        if self._place is None:
            raise ConfigError("nothing is archived", setting="--to")
        return self._place.item(
            found.conversation,
            communication=found.communication,
            made_with=self.made_with,
            at_us=time.time_ns() // 1000,
        )

    def begin(
        self, found: FoundTranscript, payload: Callable[[bytes], object] | None, *, again: bool
    ) -> Work:
        """Set up one transcript's pass."""
        options = self._options
        redaction = None
        if self._redactor is not None and not again:
            redaction = SegmentRedaction(self._redactor)
        observers: list[Observer] = []
        extras: list[Extra] = []
        listing = None
        making: Making | None = None
        if self._maker is not None:
            making, observers, extras = self._maker.begin(found)
        if self._listings is not None:
            listed = self._listings.begin(found)
            extras.append(listed)
            listing = Listing(
                listed.write,
                conversation=found.conversation,
                communication=found.communication,
                criteria=options.criteria,
                rate=self._config.archive.sample_rate,
                energies=making.sound.energies if making and making.sound else None,
            )
        tables = options.extras.parquet
        if tables and self._place is not None:
            table = table_of(self._place, found, self.made_with)
            observers += [table] if table is not None else []
            extras += [table] if table is not None else []
        kept = options.criteria if options.kept_filtered and not again else None
        return Work(
            Passage(
                TranscriptParser(raw=payload is not None and not options.original),
                conversation=found.conversation,
                payload=payload,
                as_it_came=options.original,
                listing=listing,
                redaction=redaction,
                observers=observers,
                spool=PrivateFile,
                settings=PassageSettings(
                    strict=options.strict,
                    keep_truncated=options.keep_truncated,
                    kept=kept,
                    roles_early=tables,
                ),
            ),
            extras,
            redaction,
            making.outside if making is not None else lambda: None,
        )

    def tell(self, result: Result) -> None:
        """Take a result onto the page of all and pass it on."""
        if self._maker is not None:
            self._maker.tell(result)
        self._options.on_result(result)

    def close(self) -> None:
        """Show listings that are one file of all transcripts.

        Raises:
            StorageError: They cannot be written.
        """
        if self._listings is not None:
            self._listings.close()
        if self._maker is not None:
            self._maker.close()

    def give_up(self) -> None:
        """Forget what was not shown; harmless after ``close``."""
        if self._listings is not None:
            self._listings.give_up()


# --- listings --------------------------------------------------------------------------------


class _Listings:
    """Where transcripts are listed: a file each, one for all, or standard output.

    Each is gathered in a private file and shown when its transcript is whole.
    """

    def __init__(self, out: str) -> None:
        self._target: Target = target_of(out, None)
        self._lock = threading.Lock()
        one_file = not self._target.is_per_conversation and not self._target.is_shown_at_once
        self._all = PrivateFile() if one_file else None

    def begin(self, found: FoundTranscript) -> _Listed:
        """Begin a transcript's listing."""
        return _Listed(self, found)

    def show(self, found: FoundTranscript, file: PrivateFile) -> None:
        """Put a transcript's listing in its place."""
        with self._lock:
            try:
                if self._all is None:
                    self._target.write(name_of(found), file.pieces())
                    return
                for piece in file.pieces():
                    self._all.write(piece)
            except ReaderGone:
                raise StorageError("nobody reads standard output any more") from None

    def close(self) -> None:
        """Write the one file of all."""
        if self._all is not None:
            self._target.write("", self._all.pieces())
        self.give_up()

    def give_up(self) -> None:
        """Forget it; harmless after ``close``."""
        if self._all is not None:
            self._all.close()
            self._all = None


class _Listed:
    """One transcript's listing."""

    def __init__(self, listings: _Listings, found: FoundTranscript) -> None:
        self._listings = listings
        self._found = found
        self._file = PrivateFile()

    def write(self, lines: bytes) -> None:
        """Add lines."""
        self._file.write(lines)

    def commit(self, passed: Passed) -> None:
        """Show it."""
        del passed
        self._listings.show(self._found, self._file)
        self._file.close()

    def abort(self) -> None:
        """Forget it."""
        self._file.close()


# --- one local file --------------------------------------------------------------------------


def archive_file(
    config: Config,
    file: str,
    options: ArchiveOptions,
    *,
    conversation: str = "",
    stdin: IO[bytes] | None = None,
    telemetry: Telemetry | None = None,
) -> Result:
    """Pass one local transcript, without platform, event loop or state directory.

    Args:
        file: Path; ``-`` reads ``stdin``.
        conversation: Its id where the file does not name it, or not early enough to be archived
            from standard input; without either, the file's name without its ending.

    Raises:
        ConfigError: It cannot be read, or nothing names its conversation.
        RemoteProtocolError: It is no transcript; ``offset`` says where.
        PreconditionFailed: Another content is archived under its key.
        StorageError: Something cannot be written.
    """
    require_options(config, options)
    with ExitStack() as stack:
        source = _opened(file, stdin, stack)
        first = _read(source)
        found = FoundTranscript(conversation or _named(first, source, file))
        place = place_of(config, telemetry) if options.archives else None
        shop = Shop(config, options, place)
        stack.callback(shop.give_up)
        item = shop.item(found) if place is not None else None
        writer = None
        undo = stack.enter_context(ExitStack())
        if place is not None and item is not None:
            writer = place.writer(item)
            undo.callback(writer.abort)
        work = shop.begin(found, writer.write if writer is not None else None, again=False)
        stack.callback(work.give_up)
        passed = run_blocking(work, _blocks(first, source, options.on_bytes))
        require_same(passed, found)
        undo.pop_all()
        summary = summary_bytes(
            passed,
            found.conversation,
            analyses=options.analyses,
            archived_at=rfc3339_now() if writer is not None else "",
            storage_location=place.url_of(item.key) if place is not None and item else "",
        )
        outcome = Outcome.PASSED
        if writer is not None:
            archived: Archived = writer.finish(summary)
            written = archived.outcome is WriteOutcome.WRITTEN
            outcome = Outcome.WRITTEN if written else Outcome.SAME
            summary = bytes(archived.manifest.summary) or summary
        work.commit(passed)
        entities, withheld = work.redacted()
        result = Result(
            found.conversation,
            outcome,
            summary=msgspec.Raw(summary),
            bad=passed.fields.bad,
            bad_segments=passed.bad,
            entities=entities,
            withheld=withheld,
            truncated_at=passed.truncated_at,
            outside_audio=work.outside(),
        )
        shop.tell(result)
        shop.close()
        return result


def rfc3339_now() -> str:
    """Return the time as the document writes it: whole seconds, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _opened(file: str, stdin: IO[bytes] | None, stack: ExitStack) -> IO[bytes]:
    if file == "-":
        if stdin is None:
            raise ConfigError("there is no standard input", setting="--file")
        return stdin
    try:
        # Unbuffered: blocks are large, and a copy of each would be made otherwise.
        return stack.enter_context(open(file, "rb", buffering=0))
    except OSError as exc:
        raise ConfigError(
            "the file cannot be read", setting="--file", cause=type(exc).__name__
        ) from None


def _named(first: bytes, source: IO[bytes], file: str) -> str:
    """Return the conversation a file is of.

    One that names it behind its segments is read twice; standard input cannot be.
    """
    parser = TranscriptParser(raw=False)
    parser.feed(first)
    if file != "-" and not parser.conversation and source.seekable():
        while not parser.conversation and (block := _read(source)):
            parser.feed(block)
        source.seek(len(first))
    if parser.conversation:
        return str(parser.conversation)
    stem = Path(file).name.split(".")[0] if file != "-" else ""
    if not is_id(stem):
        raise ConfigError(
            "nothing names the conversation of this transcript",
            setting="--conversation",
            fix="Name it: --conversation ID.",
        )
    return stem


def _blocks(first: bytes, source: IO[bytes], on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    block = first
    while block:
        on_bytes(len(block))
        yield block
        block = _read(source)


def _read(source: IO[bytes]) -> bytes:
    try:
        return source.read(BLOCK_BYTES)
    except OSError as exc:
        raise StorageError("the file cannot be read", cause=type(exc).__name__) from None
