"""Recordings of calls: one WAV file for each call, its channels interleaved, and its peaks.

The audio is stored as it came: PCMU and PCMA keep their encoding (format tags 7 and 6), L16 is
PCM. A file is whole after every write, so that a killed process leaves files that players read;
what is lost is at most the last ``FLUSH_S`` and what waited for the disk.

The file's clock is the call's: gaps become silence, up to ``MAX_GAP_S`` each; what a longer one is
short of is written down in the peaks file, which also tells what was paused.

Nothing of a paused interval is written. Audio waits in memory for ``FLUSH_S``, then in the queue;
a pause cuts what waits and everything that arrives while it lasts. Should a pause be announced for
a position that has been written already, that part of the file is overwritten and cut off.

File names are hashes of conversation ids (``recording_name``): a listing of the folder tells
nothing. Of an erased conversation (``erase_recordings``) an empty file stays, by which every
process knows not to record it again; a recording under way ends with its next portion.

A full disk or a folder that is gone ends the recording, with one warning, and not the call.

Threads: ``write``, ``paused``, ``resumed`` and ``close`` are called on the loop and never wait.
One thread does all file work. Between them is ``CallRecording._pending``, guarded by the
recorder's lock.

Source: Microsoft, Multimedia Programming Interface and Data Specifications 1.0 (RIFF WAVE); RFC
2361 (format tags).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import queue
import struct
import threading
import time
from collections import deque
from pathlib import Path

import msgspec
import numpy as np

from steno.core.audio import SILENCE, Encoding, MediaFormat, decode, join_channels
from steno.core.waveform import BUCKETS_PER_S, Peaks
from steno.errors import ConfigError
from steno.ports import Telemetry

FLUSH_S = 1.0
"""Audio is handed to the disk in portions of this length."""
MAX_GAP_S = 300.0
MAX_SKEW_S = 5.0
"""A channel that is further behind the others is silent there."""
MAX_QUEUED_BYTES = 64 << 20
"""Beyond it, what comes is not recorded: silence stands in its place."""
MAX_DATA_BYTES = (1 << 32) - (1 << 16)
WARN_EVERY_S = 60.0
MAX_PAUSES = 256
SILENCE_BLOCK = 1 << 16

_FOREVER = 1 << 62
_TAGS = {Encoding.L16: 1, Encoding.PCMA: 6, Encoding.PCMU: 7}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MAX_NAMES = 10_000


def recording_name(conversation: str) -> str:
    """Return what the names of a conversation's files begin with: ``<name>-<number>.wav``."""
    return hashlib.sha256(conversation.encode()).hexdigest()[:32]


def erase_recordings(folder: Path, conversation: str) -> int:
    """Delete a conversation's recordings and peaks; return how many files.

    What comes of it later is not recorded, by this process or another.

    Raises:
        OSError: A file cannot be made or removed.
    """
    if not folder.is_dir():
        return 0
    name = recording_name(conversation)
    _mark_of(folder, name).touch(mode=0o600)  # first: a file made meanwhile is found below
    files = list(folder.glob(f"{name}-*"))
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def _mark_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.erased"


def wav_header(media: MediaFormat, data_bytes: int) -> bytes:
    """Return what stands before the samples, for so many bytes of them."""
    channels, frame = len(media.channels), media.frame_bytes
    fmt = struct.pack(
        "<HHIIHH",
        _TAGS[media.encoding],
        channels,
        media.rate_hz,
        media.rate_hz * frame,
        frame,
        8 * media.sample_bytes,
    )
    fact = b""
    if media.encoding is not Encoding.L16:  # encodings other than PCM have an extension and a fact
        fmt += b"\0\0"
        fact = b"fact" + struct.pack("<II", 4, data_bytes // frame)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + fact
    padded = data_bytes + (data_bytes & 1)
    riff = b"RIFF" + struct.pack("<I", len(body) + 8 + padded)
    return riff + body + b"data" + struct.pack("<I", data_bytes)


class _Block(msgspec.Struct):
    """Interleaved audio on its way to the file."""

    start: int
    data: bytes


class CallRecording:
    """One call's recording. Made by ``CallRecorder.start``; positions are samples per channel."""

    def __init__(self, recorder: CallRecorder, conversation: str, media: MediaFormat) -> None:
        self.media = media
        self.name = recording_name(conversation)
        self._recorder = recorder
        self._silence = SILENCE[media.encoding]
        self._size = media.sample_bytes
        self._flush_samples = max(1, int(FLUSH_S * media.rate_hz))
        self._skew_samples = int(MAX_SKEW_S * media.rate_hz)
        self._base = 0
        self._buffers = [bytearray() for _ in media.channels]
        self._pauses: list[tuple[int, int]] = []  # in order; an open one lasts for ever
        self._resume_at = 0
        # Guarded by the recorder's lock:
        self._pending: deque[_Block] = deque()
        self._handed_over = 0
        self._erase_from: int | None = None
        self._all_pauses: list[tuple[int, int]] = []
        self._closed = False
        self._scheduled = False
        self.failed = False

    # --- on the loop ---

    def write(self, channel: int, start_samples: int, audio: bytes) -> None:
        """Add audio of one channel; what was written before, or is paused, is left out.

        Args:
            channel: Index into the format's channels.
            start_samples: Position of its first sample.
            audio: Whole samples in the format's encoding.
        """
        if self._closed or self.failed:
            return
        if self._pauses:
            for start, piece in self._unpaused(start_samples, audio):
                self._add(channel, start, piece)
        else:
            self._add(channel, start_samples, audio)

    def _unpaused(self, start: int, audio: bytes) -> list[tuple[int, bytes]]:
        """Return what of the audio lies outside every pause."""
        pieces = []
        end = start + len(audio) // self._size
        at = start
        for paused_from, paused_to in self._pauses:
            if paused_from > at:
                pieces.append((at, min(paused_from, end)))
            at = max(at, paused_to)
            if at >= end:
                break
        else:
            pieces.append((at, end))
        size = self._size
        return [(a, audio[(a - start) * size : (b - start) * size]) for a, b in pieces if a < b]

    def _add(self, channel: int, start: int, audio: bytes) -> None:
        size = self._size
        buffer = self._buffers[channel]
        gap = start - self._base - len(buffer) // size
        if gap > self._flush_samples:
            self._flush(whole=True)
            self._base = start
            buffer = self._buffers[channel]
        elif gap > 0:
            buffer += self._silence * gap
        elif gap < 0:
            audio = audio[-gap * size :]
        buffer += audio
        length = len(buffer) // size
        if length < self._flush_samples:
            return
        shortest = min(map(len, self._buffers)) // size
        if shortest >= self._flush_samples:
            self._flush()
        elif length - shortest > self._skew_samples:
            self._flush(whole=True)

    def _flush(self, *, whole: bool = False) -> None:
        """Hand over what all channels have; with ``whole``, what any of them has."""
        choose = max if whole else min
        length = choose(map(len, self._buffers))
        if not length:
            return
        parts = []
        for place, buffer in enumerate(self._buffers):
            missing = (length - len(buffer)) // self._size
            if missing > 0:
                buffer += self._silence * missing
            parts.append(bytes(buffer[:length]))
            self._buffers[place] = buffer[length:]
        joined = parts[0] if len(parts) == 1 else join_channels(tuple(parts), self.media.encoding)
        start, self._base = self._base, self._base + length // self._size
        self._recorder.queue(self, _Block(start, joined))

    def paused(self, at_samples: int) -> None:
        """Write nothing from here on, until ``resumed``; what is there beyond it is erased."""
        if self._closed or (self._pauses and self._pauses[-1][1] == _FOREVER):
            return
        for buffer in self._buffers:
            del buffer[max(0, at_samples - self._base) * self._size :]
        self._flush(whole=True)
        self._base = min(self._base, at_samples)
        # What all channels have passed is left out as written before.
        self._pauses = [one for one in self._pauses if one[1] > self._base]
        paused_from = self._resume_at = at_samples
        while self._pauses and self._pauses[-1][1] > paused_from:  # told in disorder: take both
            earlier = self._pauses.pop()
            paused_from = min(paused_from, earlier[0])
            self._resume_at = max(self._resume_at, earlier[1])
        if len(self._pauses) >= MAX_PAUSES:
            first, second = self._pauses[:2]
            self._pauses[:2] = [(first[0], second[1])]
        self._pauses.append((paused_from, _FOREVER))
        self._recorder.erase(self, at_samples)

    def resumed(self, at_samples: int) -> None:
        """Write again, from this position on."""
        if not self._pauses or self._pauses[-1][1] != _FOREVER:
            return
        paused_from, _ = self._pauses.pop()
        resumed_at = max(at_samples, self._resume_at)
        if resumed_at > paused_from:
            self._pauses.append((paused_from, resumed_at))
        self._recorder.note_pause(self, (paused_from, resumed_at))

    def close(self) -> None:
        """End the recording; the file is finished behind the caller's back."""
        if self._closed:
            return
        self._flush(whole=True)
        if self._pauses and self._pauses[-1][1] == _FOREVER:
            self._recorder.note_pause(self, (self._pauses[-1][0], -1))
        self._closed = True
        self._recorder.finish(self)


class CallRecorder:
    """Writes the recordings of all calls into one folder, by one thread.

    Args:
        folder: Made when it is missing, for this user only.
        telemetry: Told when a recording ends before its call.
        max_gap_s: A longer gap is shortened to so much silence.
        max_queued_bytes: What may wait for the disk.

    Raises:
        ConfigError: The folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        telemetry: Telemetry,
        *,
        max_gap_s: float = MAX_GAP_S,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
    ) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(
                "the folder for recordings cannot be made",
                setting="media.recordings",
                cause=type(exc).__name__,
            ) from exc
        self._folder = folder
        self._telemetry = telemetry
        self._max_gap_s = max_gap_s
        self._limit = max_queued_bytes
        self._lock = threading.Lock()
        self._queued_bytes = 0
        self._work: queue.SimpleQueue[CallRecording | None] = queue.SimpleQueue()
        self._open: dict[CallRecording, None] = {}
        self._files: dict[CallRecording, _WavFile] = {}  # the thread's own
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._warned: dict[str, tuple[int, float]] = {}
        self._closed = False

    # --- on the loop ---

    def start(self, conversation: str, media: MediaFormat) -> CallRecording | None:
        """Begin a recording; its file is made when there is audio. None after ``close``."""
        if self._closed:
            return None
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            # A daemon: a disk that hangs must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="call-recorder", daemon=True)
            self._thread.start()
        recording = CallRecording(self, conversation, media)
        self._open[recording] = None
        return recording

    async def close(self, timeout_s: float = 5.0) -> None:
        """Finish every recording, at the latest after ``timeout_s``."""
        self._closed = True
        for recording in list(self._open):
            recording.close()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._work.put(None)
            await asyncio.to_thread(thread.join, timeout_s)

    def queue(self, recording: CallRecording, block: _Block) -> None:
        """Let the thread write a block; for ``CallRecording``."""
        with self._lock:
            fits = self._queued_bytes + len(block.data) <= self._limit
            if fits:
                self._queued_bytes += len(block.data)
                recording._pending.append(block)
                frames = len(block.data) // recording.media.frame_bytes
                recording._handed_over = block.start + frames
        if fits:
            self._schedule(recording)
        else:
            self._warn("media.recording_behind", "behind")

    def erase(self, recording: CallRecording, at_samples: int) -> None:
        """Let nothing from a position on be in the file; for ``CallRecording``."""
        frame = recording.media.frame_bytes
        with self._lock:
            for block in recording._pending:
                kept = max(0, at_samples - block.start) * frame
                if kept < len(block.data):
                    self._queued_bytes -= len(block.data) - kept
                    block.data = block.data[:kept]
            late = recording._handed_over > at_samples
            if late:
                recording._handed_over = at_samples
                recording._erase_from = at_samples
        if late:
            self._schedule(recording)

    def note_pause(self, recording: CallRecording, pause: tuple[int, int]) -> None:
        """Remember a pause for the peaks file; for ``CallRecording``."""
        with self._lock:
            if len(recording._all_pauses) < MAX_PAUSES:
                recording._all_pauses.append(pause)

    def finish(self, recording: CallRecording) -> None:
        """Let the thread finish the file; for ``CallRecording``."""
        self._open.pop(recording, None)
        self._schedule(recording)

    def _schedule(self, recording: CallRecording) -> None:
        with self._lock:
            if recording._scheduled:
                return
            recording._scheduled = True
        self._work.put(recording)

    def _warn(self, event: str, cause: str, error: str | None = None) -> None:
        """Warn, once in a while for each cause; ``count`` is how often it has happened."""
        count, warned_at = self._warned.get(cause, (0, -WARN_EVERY_S))
        now = time.monotonic()
        if now - warned_at >= WARN_EVERY_S:
            self._telemetry.warning(event, cause=cause, error=error, count=count + 1)
            warned_at = now
        self._warned[cause] = count + 1, warned_at

    # --- on the thread ---

    def _run(self) -> None:
        while (recording := self._work.get()) is not None:
            try:
                self._serve(recording)
            except Exception as exc:  # noqa: BLE001  # one recording's failure is its own
                self._give_up(recording, exc)
        for file in self._files.values():
            file.close()

    def _serve(self, recording: CallRecording) -> None:
        """Do all that waits for one recording."""
        with self._lock:
            recording._scheduled = False
            closed = recording._closed
            erase_from, recording._erase_from = recording._erase_from, None
        if recording.failed:
            self._drop(recording)
            return
        file = self._files.get(recording)
        if file is not None and file.is_gone:
            file.erase(0)
            raise _Erased if self._folder.is_dir() else FileNotFoundError
        if erase_from is not None and file is not None:
            file.erase(erase_from)
        written = False
        while (block := self._next(recording)) is not None:
            if not block.data:  # a pause took it back
                continue
            if file is None:
                file = self._files[recording] = _WavFile(
                    self._folder, recording.name, recording.media, self._max_gap_s
                )
            file.write(block.start, block.data)
            written = True
        if file is None:
            return
        if written or erase_from is not None:
            file.write_header()
        if closed:
            del self._files[recording]
            file.finish(recording._all_pauses)

    def _next(self, recording: CallRecording) -> _Block | None:
        with self._lock:
            if recording._erase_from is not None or not recording._pending:
                return None  # what is to be erased goes first: it was scheduled
            block = recording._pending.popleft()
            self._queued_bytes -= len(block.data)
            return block

    def _drop(self, recording: CallRecording) -> None:
        with self._lock:
            self._queued_bytes -= sum(len(block.data) for block in recording._pending)
            recording._pending.clear()

    def _give_up(self, recording: CallRecording, exc: Exception) -> None:
        recording.failed = True
        self._drop(recording)
        file = self._files.pop(recording, None)
        if file is not None:
            file.close()
        if isinstance(exc, _Erased):
            return
        if isinstance(exc, _TooLong):
            cause = "size"
        elif isinstance(exc, OSError):
            cause = "full" if exc.errno in _FULL else "disk"
        else:
            cause = "failed"
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(
                    self._warn, "media.recording_stopped", cause, type(exc).__name__
                )


class _Erased(Exception):
    """The conversation was erased: nothing more of it is recorded."""


class _TooLong(Exception):
    """A WAV file cannot be longer than its sizes can say."""


class _WavFile:
    """One file; used by the thread alone. Every method raises OSError as it comes.

    ``_segments`` maps the call's clock to the file's: each gap that was shortened begins one.
    """

    def __init__(self, folder: Path, name: str, media: MediaFormat, max_gap_s: float) -> None:
        self._media = media
        self._frame = media.frame_bytes
        self._max_gap = int(max_gap_s * media.rate_hz)
        self._frames = 0
        self._segments = [(0, 0)]
        bucket = max(1, media.rate_hz // BUCKETS_PER_S)
        self._peaks = [Peaks(bucket) for _ in media.channels]
        self._path, self._fd = _new_file(folder, name)
        self._offset = len(wav_header(media, 0))
        try:
            self.write_header()
        except OSError:
            os.close(self._fd)
            self._path.unlink(missing_ok=True)
            raise

    @property
    def _end(self) -> int:
        """Position on the call's clock that comes next."""
        stream, file = self._segments[-1]
        return stream + self._frames - file

    @property
    def is_gone(self) -> bool:
        """Whether the file was removed from under us."""
        return os.fstat(self._fd).st_nlink == 0

    def write(self, start: int, data: bytes) -> None:
        """Add interleaved audio; before it silence for what is missing."""
        gap = start - self._end
        if gap > 0:
            self._silence(min(gap, self._max_gap))
            if gap > self._max_gap:
                self._segments.append((start, self._frames))
        elif gap < 0:
            data = data[-gap * self._frame :]
        if not data:
            return
        self._append(data)
        samples = decode(data, self._media.encoding)
        channels = len(self._peaks)
        for place, peaks in enumerate(self._peaks):
            peaks.feed(samples[place::channels])

    def _silence(self, frames: int) -> None:
        sample = SILENCE[self._media.encoding]
        unit = sample * len(self._media.channels)
        block = unit * (SILENCE_BLOCK // len(unit))
        left = frames * self._frame
        while left > 0:
            self._append(block[:left])
            left -= len(block)
        for peaks in self._peaks:
            peaks.feed_silence(frames)

    def _append(self, data: bytes) -> None:
        at = self._frames * self._frame
        if at + len(data) > MAX_DATA_BYTES:
            raise _TooLong
        _write_all(self._fd, data, self._offset + at)
        self._frames += len(data) // self._frame

    def erase(self, at_samples: int) -> None:
        """Overwrite and cut off what comes from a position on."""
        while len(self._segments) > 1 and self._segments[-1][0] > at_samples:
            self._segments.pop()
        stream, file = self._segments[-1]
        kept = min(file + max(0, at_samples - stream), self._frames)
        silence = SILENCE[self._media.encoding] * SILENCE_BLOCK
        at, end = kept * self._frame, self._frames * self._frame
        while at < end:
            _write_all(self._fd, silence[: end - at], self._offset + at)
            at += len(silence)
        os.fsync(self._fd)  # or the overwriting might never reach the disk
        self._frames = kept
        os.ftruncate(self._fd, self._offset + kept * self._frame)
        for peaks in self._peaks:
            peaks.cut(kept)

    def write_header(self) -> None:
        """Make the file whole: sizes for what is in it."""
        size = self._frames * self._frame
        if size & 1:  # chunks have even lengths; the next samples overwrite this
            _write_all(self._fd, b"\0", self._offset + size)
        _write_all(self._fd, wav_header(self._media, size), 0)

    def finish(self, pauses: list[tuple[int, int]]) -> None:
        """Close the file and write its peaks beside it."""
        self.close()
        if not self._frames or not self._path.exists():
            return  # erased meanwhile: nothing of the call stays, its peaks neither
        cuts = [
            {"at_samples": file, "stream_samples": stream} for stream, file in self._segments[1:]
        ]
        text = {
            "version": 1,
            "rate_hz": self._media.rate_hz,
            "samples": self._frames,
            "bucket_samples": self._peaks[0].bucket_samples,
            "channels": [
                {"name": name, "min": low.tolist(), "max": high.tolist()}
                for name, (low, high) in zip(
                    self._media.channels,
                    (np.transpose(p.buckets) for p in self._peaks),
                    strict=True,
                )
            ],
            "cuts": cuts,
            "paused": pauses,
        }
        path = self._path.with_suffix(".json")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            _write_all(fd, msgspec.json.encode(text), 0)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the file with the sizes of what is whole in it; one without audio goes."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._offset + self._frames * self._frame)
            self.write_header()
            if not self._frames:
                self._path.unlink()
        os.close(self._fd)


def _new_file(folder: Path, name: str) -> tuple[Path, int]:
    """Make the next file of a conversation; two never share one.

    Raises:
        _Erased: The conversation is not to be recorded.
    """
    if _mark_of(folder, name).exists():
        raise _Erased
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for number in range(_MAX_NAMES):
        path = folder / f"{name}-{number}.wav"
        with contextlib.suppress(FileExistsError):
            return path, os.open(path, flags, 0o600)
    raise OSError(errno.EEXIST, "too many recordings of one conversation")


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
