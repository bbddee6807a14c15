"""What is made of transcripts beside archive and listing: pictures, peaks, a page of all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from steno.adapters.exports.targets import require_target, target_of
from steno.archive.align import Seconds
from steno.archive.passage import Observer, Passed
from steno.core.stored import Segment
from steno.core.transcript import Role
from steno.errors import ConfigError, StorageError
from steno.ports.archive import FoundTranscript, NewItem

if TYPE_CHECKING:
    from steno.adapters.archive_store import Archive as ArchivePlace
    from steno.archive.page import Gathered
    from steno.archive.service import Extra, Result
    from steno.archive.sound import Outside, Sound
    from steno.archive.strip import Strip

AUDIO_RATE: Final = 8000
"""Samples per second that audio is measured at, whatever its own."""
PICTURES: Final = (".svg", ".png")
_ID: Final = "{conversation}"


@dataclass(frozen=True, slots=True)
class ExtraOptions:
    """Where further outputs go; empty for nowhere. ``{conversation}`` stands for the id.

    Attributes:
        audio: File of the conversation's audio.
        picture: ``….svg`` or ``….png``.
        peaks: JSON of the audio's peaks.
        report: One HTML page of all.
        parquet: Segments are archived as a table, too.
    """

    audio: str = ""
    picture: str = ""
    peaks: str = ""
    report: str = ""
    parquet: bool = False

    @property
    def is_drawn(self) -> bool:
        """Each transcript is watched to be drawn or measured."""
        return bool(self.audio or self.picture or self.peaks or self.report)


def require_extras(options: ExtraOptions, *, several: bool) -> None:
    """Find out before the work what cannot be made.

    Raises:
        ConfigError: A name is not usable, or one would be written over by the next.
    """
    if options.picture and Path(options.picture).suffix not in PICTURES:
        raise ConfigError(
            "a picture is SVG or PNG", setting="--picture", fix="End its name in .svg or .png."
        )
    if options.peaks and not options.audio:
        raise ConfigError("peaks are those of audio", setting="--peaks", fix="Add --audio FILE.")
    names = {"--audio": options.audio, "--picture": options.picture, "--peaks": options.peaks}
    for setting, name in names.items():
        if several and name and _ID not in name:
            raise ConfigError(
                "one name for several conversations",
                setting=setting,
                fix="Write {conversation} where the id shall be.",
            )
    if options.audio and _ID not in options.audio and not Path(options.audio).is_file():
        raise ConfigError("there is no such file", setting="--audio", fix="Name another.")
    for name in (options.picture, options.peaks, options.report):
        if name:
            require_target(name)


def name_of(found: FoundTranscript) -> str:
    """Return what stands for ``{conversation}``: also the communication, where there is one."""
    if found.communication:
        return f"{found.conversation}.{found.communication}"
    return found.conversation


def read_sound(path: str) -> Sound:
    """Measure an audio file. Blocks.

    Raises:
        UnsupportedAudio, StorageError: It cannot be read.
    """
    from steno.adapters.audio_files import open_audio
    from steno.archive.sound import Sound

    sound = Sound(AUDIO_RATE)
    with open_audio(Path(path), rate_hz=AUDIO_RATE) as audio:
        while (block := audio.read()) is not None:
            sound.feed(block)
    return sound


class Making:
    """What is made of one transcript: it watches the pass and writes at its end."""

    def __init__(self, maker: Maker, found: FoundTranscript, sound: Sound | None) -> None:
        from steno.archive.sound import Fit
        from steno.archive.strip import Strip

        self._maker = maker
        self._found = found
        self.sound = sound
        self.strip: Strip = Strip()
        self._fit = Fit(sound.seconds) if sound is not None else None

    def outside(self) -> Outside | None:
        """Return which segments do not lie in the audio; None without audio."""
        return self._fit.outside if self._fit is not None else None

    def add(
        self, segments: Sequence[Segment], starts: Seconds, ends: Seconds, roles: Mapping[str, Role]
    ) -> None:
        """Watch a batch."""
        self.strip.add(segments, starts, ends, roles)
        if self._fit is not None:
            self._fit.take(starts, ends)

    def finish(self, roles: Mapping[str, Role]) -> None:
        """No more comes."""
        self.strip.finish(roles)

    def commit(self, passed: Passed) -> None:
        """Write the files of this transcript. Blocks."""
        self._maker.write(self._found, self, passed)

    def abort(self) -> None:
        """Nothing was written."""


class TableMaking:
    """One transcript's segments as a table beside it in the archive."""

    def __init__(self, place: ArchivePlace, found: FoundTranscript, item: NewItem) -> None:
        from steno.adapters.archive_store import ParquetTable

        self._place = place
        self._found = found
        self._item = item
        self._table = ParquetTable(found.conversation, found.communication)
        self._count = 0

    def add(
        self, segments: Sequence[Segment], starts: Seconds, ends: Seconds, roles: Mapping[str, Role]
    ) -> None:
        """Add a batch; the pass gives roles with it."""
        from steno.adapters.archive_store import Rows

        self._table.add(
            Rows(
                self._count,
                starts.tolist(),
                ends.tolist(),
                [segment.speaker_id for segment in segments],
                [roles.get(segment.speaker_id, Role.UNKNOWN).value for segment in segments],
                [segment.text for segment in segments],
                [segment.confidence for segment in segments],
            )
        )
        self._count += len(segments)

    def finish(self, roles: Mapping[str, Role]) -> None:
        """No more comes."""

    def commit(self, passed: Passed) -> None:
        """Archive the table. Blocks."""
        from steno.archive.service import summary_bytes

        summary = summary_bytes(passed, self._found.conversation, analyses=False)
        self._table.finish(self._place.writer(self._item), summary)

    def abort(self) -> None:
        """Give it up."""
        self._table.abort()


def table_of(place: ArchivePlace, found: FoundTranscript, made_with: str) -> TableMaking | None:
    """Begin the table of a transcript; None where it is archived already. Blocks."""
    item = place.parquet_item(
        found.conversation,
        communication=found.communication,
        made_with=made_with,
        at_us=time.time_ns() // 1000,
    )
    held = place.manifest(item.key, conversation=found.conversation)
    if held is not None and held.state == "complete" and held.made_with == made_with:
        return None
    return TableMaking(place, found, item)


class Maker:
    """Makes further outputs of transcripts.

    Attributes:
        gathered: What the page will show; None without a page.
    """

    def __init__(self, options: ExtraOptions) -> None:
        self._options = options
        self.gathered: Gathered | None = None
        self._written: dict[str, FoundTranscript] = {}  # by names without an id: one each
        self._waiting: dict[tuple[str, str], tuple[Making, Passed]] = {}
        if options.report:
            from steno.archive.page import Gathered

            self.gathered = Gathered()

    def begin(self, found: FoundTranscript) -> tuple[Making, list[Observer], list[Extra]]:
        """Begin a transcript. Blocks: its audio is read here.

        Raises:
            UnsupportedAudio, StorageError: The audio cannot be read.
        """
        audio = self._options.audio.replace(_ID, found.conversation)
        making = Making(self, found, read_sound(audio) if audio else None)
        return making, [making], [making]

    def write(self, found: FoundTranscript, making: Making, passed: Passed) -> None:
        """Write a transcript's own files.

        Raises:
            StorageError: They cannot be written, or would be over those of another transcript.
        """
        from steno.archive.picture import png, svg

        picture, peaks = self._options.picture, self._options.peaks
        if picture.endswith(".png"):
            self._put(picture, found, iter((png(making.strip, making.sound),)))
        elif picture:
            title = f"Who speaks when in {found.conversation}"
            pieces = svg(making.strip, making.sound, title=title)
            self._put(picture, found, (piece.encode() for piece in pieces))
        if peaks and making.sound is not None:
            self._put(peaks, found, iter((making.sound.peaks_json(),)))
        if self.gathered is not None:
            self._waiting[found.conversation, found.communication] = making, passed

    def _put(self, where: str, found: FoundTranscript, pieces: Iterator[bytes]) -> None:
        if _ID not in where and self._written.setdefault(where, found) != found:
            raise StorageError(
                "the conversation has several transcripts, and one name is given for all",
                fix="Write {conversation} in the names of pictures and peaks.",
            )
        target_of(where, None).write(name_of(found), pieces)

    def tell(self, result: Result) -> None:
        """Take a result onto the page, once its transcript is passed."""
        if self.gathered is None:
            return
        key = result.conversation, result.communication
        making, passed = self._waiting.pop(key, (None, None))
        if making is None or passed is None or not result.summary:
            return
        import msgspec

        from steno.archive.page import Shown
        from steno.archive.summary import TranscriptSummary

        self.gathered.add(
            Shown(
                msgspec.json.decode(bytes(result.summary), type=TranscriptSummary),
                passed.summing.analysis(passed.roles),
                result.outcome.value,
                result.communication,
                making.strip,
                making.sound,
                making.outside(),
            )
        )

    def close(self) -> None:
        """Write the page of all. Blocks."""
        if self.gathered is not None:
            from steno.archive.page import page

            made_us = time.time_ns() // 1000
            pieces = (piece.encode() for piece in page(self.gathered, made_us=made_us))
            target_of(self._options.report, None).write("", pieces)
