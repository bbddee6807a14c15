"""Recordings of calls: whole WAV files, the call's clock, pauses that leave no trace."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.fuzz_examples import examples
from conformance.stream_server import MemoryTelemetry
from steno.adapters.call_recorder import (
    FLUSH_S,
    CallRecorder,
    CallRecording,
    erase_recordings,
    recording_name,
    wav_header,
)
from steno.core.audio import SILENCE, Encoding, MediaFormat, decode
from steno.errors import ConfigError

RATE = 8000
MONO = MediaFormat(Encoding.PCMU, RATE, ("external",))
STEREO = MediaFormat(Encoding.PCMU, RATE, ("external", "internal"))
QUIET = SILENCE[Encoding.PCMU]
TESTS = Path(__file__).parents[1]
CHILD = Path(__file__).with_name("recorder_killed.py")
CANARY = b"\x13\x37\x5a\xa5\x01\x73"


class Wav(NamedTuple):
    """A file as an independent reader of ours sees it."""

    tag: int
    channels: int
    rate_hz: int
    bits: int
    data: bytes
    fact: int | None


def read_wav(path: Path) -> Wav:
    """Read a WAV file chunk by chunk; every size must be right."""
    raw = path.read_bytes()
    riff, size, form = struct.unpack_from("<4sI4s", raw)
    assert (riff, form) == (b"RIFF", b"WAVE")
    assert size + 8 == len(raw)
    chunks: dict[bytes, bytes] = {}
    at = 12
    while at < len(raw):
        name, length = struct.unpack_from("<4sI", raw, at)
        chunks[name] = raw[at + 8 : at + 8 + length]
        assert len(chunks[name]) == length
        at += 8 + length + (length & 1)
    assert at == len(raw)
    tag, channels, rate_hz, byte_rate, align, bits = struct.unpack_from("<HHIIHH", chunks[b"fmt "])
    assert byte_rate == rate_hz * align
    assert align == channels * bits // 8
    fact = struct.unpack("<I", chunks[b"fact"])[0] if b"fact" in chunks else None
    return Wav(tag, channels, rate_hz, bits, chunks[b"data"], fact)


def heard(path: Path) -> np.ndarray[Any, np.dtype[np.int16]]:  # Any: numpy's shape
    """Decode a file with FFmpeg's libraries; shape (samples, channels)."""
    av = pytest.importorskip("av")
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
        channels = container.streams.audio[0].channels
    return np.concatenate([part.reshape(-1) for part in parts]).reshape(-1, channels)


def only(folder: Path) -> Path:
    [path] = folder.glob("*.wav")
    return path


@pytest.fixture
def telemetry() -> MemoryTelemetry:
    return MemoryTelemetry()


@pytest.fixture
async def recorder(tmp_path: Path, telemetry: MemoryTelemetry) -> AsyncIterator[CallRecorder]:
    made = CallRecorder(tmp_path / "calls", telemetry)
    yield made
    await made.close()
    assert telemetry.events == []


def started(recorder: CallRecorder, media: MediaFormat = MONO, call: str = "c") -> CallRecording:
    recording = recorder.start(call, media)
    assert recording is not None
    return recording


async def finished(recorder: CallRecorder, folder: Path) -> bytes:
    """Return the samples of the only file."""
    await recorder.close()
    return read_wav(only(folder / "calls")).data


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "tag", "bits"),
    [(Encoding.PCMU, 7, 8), (Encoding.PCMA, 6, 8), (Encoding.L16, 1, 16)],
)
@pytest.mark.parametrize("channels", [1, 2])
async def test_file_is_what_came_in_its_own_encoding(
    tmp_path: Path, recorder: CallRecorder, encoding: Encoding, tag: int, bits: int, channels: int
) -> None:
    """Samples are stored unchanged and interleaved; an independent decoder hears them."""
    media = MediaFormat(encoding, 16000, ("external", "internal")[:channels])
    recording = started(recorder, media)
    sounds = [os.urandom(20_001 * media.sample_bytes) for _ in range(channels)]
    step = 333 * media.sample_bytes
    for at in range(0, len(sounds[0]), step):
        for channel, sound in enumerate(sounds):
            recording.write(channel, at // media.sample_bytes, sound[at : at + step])
    await recorder.close()
    path = only(tmp_path / "calls")
    found = read_wav(path)
    assert (found.tag, found.channels, found.rate_hz, found.bits) == (tag, channels, 16000, bits)
    assert found.fact == (None if encoding is Encoding.L16 else 20_001)
    linear = decode(found.data, encoding).reshape(-1, channels)
    for channel, sound in enumerate(sounds):
        assert linear[:, channel].tolist() == decode(sound, encoding).tolist()
    assert np.array_equal(heard(path), linear)
    if encoding is Encoding.L16:
        with wave.open(str(path)) as reader:
            assert reader.getnframes() == 20_001
            assert reader.readframes(20_001) == found.data


async def test_names_tell_nothing_and_nobody_else_may_read(
    tmp_path: Path, recorder: CallRecorder
) -> None:
    """Names are hashes, a conversation's second recording has the next number, modes are ours."""
    for _ in range(2):
        recording = started(recorder, call="0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22")
        recording.write(0, 0, b"\x11" * 160)
        recording.close()
    await recorder.close()
    name = recording_name("0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22")
    files = sorted((tmp_path / "calls").iterdir())
    assert [path.name for path in files] == [
        f"{name}-{number}.{kind}" for number in (0, 1) for kind in ("json", "wav")
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "calls").stat().st_mode) == 0o700
    assert "0b9d7a44" not in name


async def test_call_without_audio_leaves_no_file(tmp_path: Path, recorder: CallRecorder) -> None:
    """A file is made when there is something to put into it."""
    started(recorder).close()
    await recorder.close()
    assert list((tmp_path / "calls").iterdir()) == []
    assert recorder.start("c", MONO) is None


async def test_recording_erased_in_mid_call_leaves_nothing(
    tmp_path: Path, recorder: CallRecorder
) -> None:
    """Neither the file nor its peaks come back when the call ends."""
    recording = started(recorder)
    recording.write(0, 0, bytes(16_000))
    folder = tmp_path / "calls"
    async with asyncio.timeout(5):
        while not list(folder.iterdir()):
            await asyncio.sleep(0.01)
    only(folder).unlink()
    recording.write(0, 16_000, bytes(16_000))
    await recorder.close()
    assert list(folder.iterdir()) == []


async def test_erased_conversation_is_recorded_no_more(
    tmp_path: Path, recorder: CallRecorder
) -> None:
    """Neither the call that goes on, nor the next one, nor one without a file so far."""
    folder = tmp_path / "calls"
    under_way, unwritten = (started(recorder, call="conversation-1") for _ in range(2))
    under_way.write(0, 0, CANARY * 4000)
    async with asyncio.timeout(5):
        while not list(folder.iterdir()):
            await asyncio.sleep(0.01)
    with only(folder).open("rb") as still_open:
        assert erase_recordings(folder, "conversation-1") == 1
        under_way.write(0, 24_000, CANARY * 4000)
        unwritten.write(0, 0, CANARY * 4000)
        async with asyncio.timeout(5):
            while not (under_way.failed and unwritten.failed):
                await asyncio.sleep(0.01)
        assert CANARY not in still_open.read()
    started(recorder, call="conversation-1").write(0, 0, CANARY * 4000)
    await recorder.close()
    (mark,) = folder.iterdir()
    assert (mark.suffix, mark.read_bytes()) == (".erased", b"")
    assert "conversation-1" not in mark.name


async def test_peaks_lie_beside_the_recording(tmp_path: Path, recorder: CallRecorder) -> None:
    """The JSON file has the peaks of each channel by name, buckets of a twentieth of a second."""
    recording = started(recorder, STEREO)
    recording.write(0, 0, b"\x80" * 400 + b"\x00" * 400)  # the loudest there is, up and down
    recording.write(1, 0, QUIET * 800)
    await recorder.close()
    peaks = json.loads(only(tmp_path / "calls").with_suffix(".json").read_text())
    assert (peaks["rate_hz"], peaks["bucket_samples"], peaks["samples"]) == (8000, 400, 800)
    assert peaks["channels"] == [
        {"name": "external", "min": [32124, -32124], "max": [32124, -32124]},
        {"name": "internal", "min": [0, 0], "max": [0, 0]},
    ]


@pytest.mark.parametrize("media", [MONO, STEREO, MediaFormat(Encoding.L16, RATE, ("external",))])
def test_header_says_what_follows(media: MediaFormat) -> None:
    """An odd number of bytes is padded; the sizes count it where RIFF wants it."""
    for size in (0, media.frame_bytes, 7 * media.frame_bytes):
        header = wav_header(media, size)
        assert struct.unpack_from("<I", header, 4)[0] + 8 == len(header) + size + size % 2
        assert struct.unpack_from("<I", header, len(header) - 4)[0] == size


async def test_folder_that_cannot_be_made_is_a_setting_that_is_wrong(tmp_path: Path) -> None:
    """It is told at the start, not with the first call."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as wrong:
        CallRecorder(tmp_path / "file" / "calls", MemoryTelemetry())
    assert wrong.value.setting == "media.recordings"


# --- the clock -------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [1, 500, 7999, 8001, 40_000])
async def test_gap_becomes_silence(tmp_path: Path, recorder: CallRecorder, gap: int) -> None:
    """Short or long, missing audio is as long in the file as it was in the call."""
    recording = started(recorder)
    recording.write(0, 0, b"\x11" * 160)
    recording.write(0, 160 + gap, b"\x22" * 160)
    assert await finished(recorder, tmp_path) == b"\x11" * 160 + QUIET * gap + b"\x22" * 160


async def test_gap_beyond_the_limit_is_shortened_and_written_down(tmp_path: Path) -> None:
    """A file does not grow by hours of nothing; the peaks file says where it was cut."""
    recorder = CallRecorder(tmp_path / "calls", MemoryTelemetry(), max_gap_s=2.0)
    recording = started(recorder)
    recording.write(0, 0, b"\x11" * 160)
    recording.write(0, 10_000_000, b"\x22" * 160)
    data = await finished(recorder, tmp_path)
    assert data == b"\x11" * 160 + QUIET * 16_000 + b"\x22" * 160
    peaks = json.loads(only(tmp_path / "calls").with_suffix(".json").read_text())
    assert peaks["cuts"] == [{"at_samples": 16_160, "stream_samples": 10_000_000}]


async def test_overlap_is_written_once(tmp_path: Path, recorder: CallRecorder) -> None:
    """Audio that was written before is left out."""
    recording = started(recorder)
    recording.write(0, 0, b"\x11" * 9000)
    await asyncio.sleep(0.05)
    recording.write(0, 8900, b"\x22" * 200)
    recording.write(0, 0, b"\x33" * 100)
    assert await finished(recorder, tmp_path) == b"\x11" * 9000 + b"\x22" * 100


async def test_channel_that_falls_silent_holds_up_nothing(
    tmp_path: Path, recorder: CallRecorder
) -> None:
    """A channel without audio is silent; the other one is recorded, in bounded memory."""
    recording = started(recorder, STEREO)
    for n in range(200):
        recording.write(0, 800 * n, b"\x11" * 800)
        assert sum(map(len, recording._buffers)) <= 6 * 8000
    data = await finished(recorder, tmp_path)
    assert data == (b"\x11" + QUIET) * 160_000


# --- pauses ----------------------------------------------------------------------------------


async def test_nothing_of_a_pause_is_ever_written(
    tmp_path: Path, recorder: CallRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary in the paused interval reaches no write call, let alone a file."""
    written = bytearray()
    real = os.pwrite

    def seen(fd: int, data: bytes, offset: int) -> int:
        written.extend(data)
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", seen)
    recording = started(recorder, MONO)
    recording.write(0, 0, b"\x11" * 12_000)
    recording.paused(12_000)
    for n in range(20):
        recording.write(0, 12_000 + 6000 * n, CANARY * 1000)
        await asyncio.sleep(0.002)
    recording.resumed(132_000)
    recording.write(0, 132_000, b"\x22" * 12_000)
    data = await finished(recorder, tmp_path)
    assert data == b"\x11" * 12_000 + QUIET * 120_000 + b"\x22" * 12_000
    assert CANARY[:3] not in written
    assert b"\x22" * 100 in written  # the search would have found something
    peaks = json.loads(only(tmp_path / "calls").with_suffix(".json").read_text())
    assert peaks["paused"] == [[12_000, 132_000]]
    assert max(peaks["channels"][0]["max"][31:329]) == 0


async def test_pause_in_the_middle_of_audio_cuts_it(tmp_path: Path, recorder: CallRecorder) -> None:
    """What lies before the pause and behind it is written, whatever message it came in."""
    recording = started(recorder, STEREO)
    for channel in (0, 1):
        recording.write(channel, 0, b"\x11" * 600)
    recording.paused(1000)
    for channel in (0, 1):
        recording.write(channel, 600, b"\x11" * 400 + CANARY * 100)
    recording.resumed(2000)
    for channel in (0, 1):
        recording.write(channel, 1600, CANARY[:4] * 100 + b"\x22" * 300)
    data = await finished(recorder, tmp_path)
    assert data == b"\x11" * 2000 + QUIET * 2000 + b"\x22" * 600


class Watched(CallRecorder):
    """Notes what is handed over to the thread."""

    handed_over = b""

    def queue(self, recording: CallRecording, block: Any) -> None:  # Any: a value of its own
        self.handed_over += block.data
        super().queue(recording, block)


async def test_pause_told_late_takes_back_what_waits(tmp_path: Path) -> None:
    """Audio that waits in memory for the next portion is cut before it goes anywhere."""
    recorder = Watched(tmp_path / "calls", MemoryTelemetry())
    recording = started(recorder)
    recording.write(0, 0, b"\x11" * 4000)
    recording.write(0, 4000, CANARY * 500)  # 7000 samples in memory
    recording.paused(4000)
    recording.resumed(7000)
    recording.write(0, 7000, b"\x22" * 100)
    data = await finished(recorder, tmp_path)
    assert data == b"\x11" * 4000 + QUIET * 3000 + b"\x22" * 100
    assert CANARY[:3] not in recorder.handed_over


async def test_pause_told_late_takes_back_what_is_queued(
    tmp_path: Path, recorder: CallRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk is slow, audio that was handed to the thread is cut as well."""
    written = bytearray()
    real = os.pwrite
    goes_on = threading.Event()

    def slow(fd: int, data: bytes, offset: int) -> int:
        goes_on.wait(10)
        written.extend(data)
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", slow)
    started(recorder, call="another").write(0, 0, b"\x33" * 8000)
    recording = started(recorder)
    recording.write(0, 0, b"\x11" * 4000 + CANARY * 5000)
    assert recording._pending
    recording.paused(4000)
    goes_on.set()
    recording.resumed(40_000)
    recording.write(0, 40_000, b"\x22" * 100)
    await recorder.close()
    data = read_wav(tmp_path / "calls" / f"{recording.name}-0.wav").data
    assert data == b"\x11" * 4000 + QUIET * 36_000 + b"\x22" * 100
    assert CANARY[:3] not in written


async def test_pause_told_too_late_erases_what_was_written(
    tmp_path: Path, recorder: CallRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even what has reached the file is overwritten and cut off; the call's audio stays."""
    recording = started(recorder)
    recording.write(0, 0, b"\x11" * 4000 + CANARY * 5000)
    while not (files := list((tmp_path / "calls").iterdir())) or files[0].stat().st_size < 34_000:
        await asyncio.sleep(0.01)
    assert CANARY in files[0].read_bytes()
    cut: list[bytes] = []
    real = os.ftruncate

    def seen(fd: int, length: int) -> None:
        cut.append(files[0].read_bytes()[length:])
        real(fd, length)

    monkeypatch.setattr(os, "ftruncate", seen)
    recording.paused(4000)
    recording.resumed(40_000)
    recording.write(0, 40_000, b"\x22" * 100)
    data = await finished(recorder, tmp_path)
    assert data == b"\x11" * 4000 + QUIET * 36_000 + b"\x22" * 100
    assert cut[0] == QUIET * 30_000  # the disk's blocks, too, have forgotten it


async def test_clock_that_stood_still_leaves_no_silence(
    tmp_path: Path, recorder: CallRecorder
) -> None:
    """Where the pause took no time of the stream, audio goes on where it stopped."""
    recording = started(recorder)
    recording.write(0, 0, b"\x11" * 100)
    recording.paused(100)
    recording.write(0, 100, CANARY)
    recording.resumed(100)
    recording.write(0, 100, b"\x22" * 100)
    assert await finished(recorder, tmp_path) == b"\x11" * 100 + b"\x22" * 100


async def test_repeated_pause_and_stray_resume_mean_nothing(
    tmp_path: Path, recorder: CallRecorder
) -> None:
    """A second pause does not end the first, and a resume without a pause takes nothing back."""
    recording = started(recorder)
    recording.resumed(50)
    recording.write(0, 0, b"\x11" * 100)
    recording.paused(100)
    recording.paused(150)
    recording.write(0, 100, CANARY * 10)
    recording.resumed(200)
    recording.resumed(300)
    recording.write(0, 200, b"\x22" * 200)
    assert await finished(recorder, tmp_path) == b"\x11" * 100 + QUIET * 100 + b"\x22" * 200


async def test_call_that_ends_paused_ends_there(tmp_path: Path, recorder: CallRecorder) -> None:
    """What comes after a pause that never ends is never written."""
    recording = started(recorder)
    recording.write(0, 0, b"\x11" * 100)
    recording.paused(100)
    recording.write(0, 100, CANARY * 4000)
    recording.close()
    recording.write(0, 30_000, CANARY)
    assert await finished(recorder, tmp_path) == b"\x11" * 100
    peaks = json.loads(only(tmp_path / "calls").with_suffix(".json").read_text())
    assert peaks["paused"] == [[100, -1]]


STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 12_000)),
    st.tuples(st.just("skip"), st.integers(1, 12_000)),
    st.tuples(st.just("pause"), st.integers(0, 9000)),
    st.tuples(st.just("resume"), st.integers(0, 9000)),
    st.tuples(st.just("rest"), st.just(0)),
)


@settings(max_examples=examples(60))
@given(steps=st.lists(STEPS, max_size=14))
async def test_file_is_the_call_without_its_pauses(steps: list[tuple[str, int]]) -> None:
    """Whatever is written, skipped, paused (late, too) and resumed: the file is the call's audio
    at its place, and silence where it was paused or missing.
    """
    model = bytearray()  # the file as it should be
    at, paused_from, resumed_at = 0, -1, 0
    with tempfile.TemporaryDirectory() as folder:
        telemetry = MemoryTelemetry()
        recorder = CallRecorder(Path(folder), telemetry)
        recording = started(recorder)
        for number, (step, size) in enumerate(steps):
            if step == "write":
                sound = bytes([number + 1]) * size
                recording.write(0, at, sound)
                if paused_from < 0:
                    model += QUIET * (at - len(model)) + sound
                at += size
            elif step == "skip":
                at += size
            elif step == "pause" and paused_from < 0:
                paused_from = max(resumed_at, at - size)
                recording.paused(paused_from)
                del model[paused_from:]
            elif step == "resume" and paused_from >= 0:
                at = resumed_at = max(
                    at - size, paused_from
                )  # the caller's clock may have stood still
                recording.resumed(at)
                paused_from = -1
            elif step == "rest":
                await asyncio.sleep(0.002)
        await recorder.close()
        assert telemetry.events == []
        files = [read_wav(path).data for path in Path(folder).glob("*.wav")]
        # Silence at the end may be missing: what came after it was taken back.
        assert b"".join(files).rstrip(QUIET) == bytes(model).rstrip(QUIET)
        assert len(files) <= 1


# --- trouble ---------------------------------------------------------------------------------


def child(folder: Path, mode: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent / 'src'}"}
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(folder), mode], stdout=subprocess.PIPE, env=environment
    )


def test_killed_process_leaves_files_that_can_be_read(tmp_path: Path) -> None:
    """SIGKILL while it writes: the sizes are right to a block, and every sample is the call's."""
    with child(tmp_path, "kill") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    raw = only(tmp_path).read_bytes()
    offset = len(wav_header(STEREO, 0))
    [said] = struct.unpack_from("<I", raw, offset - 4)
    # A block may have been written whose size was not: it is not heard, and nothing breaks.
    assert 0 <= len(raw) - offset - said <= 4 * FLUSH_S * RATE * STEREO.frame_bytes
    assert raw.startswith(wav_header(STEREO, said))
    sound = heard(only(tmp_path))
    assert len(sound) >= 160_100 - 4 * FLUSH_S * RATE
    assert sound.tolist() == [decode(b"\x11\x22", Encoding.PCMU).tolist()] * len(sound)


def test_full_disk_ends_recordings_with_one_warning(tmp_path: Path) -> None:
    """The calls go on; what was written before is whole."""
    with child(tmp_path, "full") as process:
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out) == [{"cause": "full", "error": "OSError", "count": 1}]
    files = list(tmp_path.glob("*.wav"))
    assert len(files) == 3
    for path in files:
        assert len(read_wav(path).data) >= 2 * RATE
        assert set(read_wav(path).data) == {0x11}


async def test_folder_that_is_gone_ends_recordings_with_one_warning(tmp_path: Path) -> None:
    """Somebody removed it: told once, and nothing is raised into the call."""
    telemetry = MemoryTelemetry()
    recorder = CallRecorder(tmp_path / "calls", telemetry)
    shutil.rmtree(tmp_path / "calls")
    calls = [started(recorder, call=f"c{n}") for n in range(3)]
    for call in calls:
        call.write(0, 0, b"\x11" * 9000)
    await recorder.close()
    await asyncio.sleep(0)
    assert telemetry.named("media.recording_stopped") == [
        {"cause": "disk", "error": "FileNotFoundError", "count": 1}
    ]
    assert all(call.failed for call in calls)


async def test_slow_disk_costs_audio_and_not_memory(tmp_path: Path) -> None:
    """What does not fit into the queue is silence in the file, and a warning."""
    telemetry = MemoryTelemetry()
    recorder = CallRecorder(tmp_path / "calls", telemetry, max_queued_bytes=10_000)
    recording = started(recorder)
    recording.write(0, 0, b"\x11" * 8000)
    while not list((tmp_path / "calls").glob("*.wav")):
        await asyncio.sleep(0.005)
    recording.write(0, 8000, b"\x22" * 20_000)
    recording.write(0, 28_000, b"\x33" * 8000)
    data = await finished(recorder, tmp_path)
    assert data == b"\x11" * 8000 + QUIET * 20_000 + b"\x33" * 8000
    assert [event["cause"] for event in telemetry.named("media.recording_behind")] == ["behind"]


async def test_recordings_have_nothing_in_common(tmp_path: Path, recorder: CallRecorder) -> None:
    """Many calls at once: each file has its own call's audio."""
    calls = [started(recorder, call=f"call {n}") for n in range(50)]
    for at in range(0, 16_000, 1600):
        for n, call in enumerate(calls):
            call.write(0, at, bytes([n + 1]) * 1600)
    await recorder.close()
    for n in range(50):
        path = tmp_path / "calls" / f"{recording_name(f'call {n}')}-0.wav"
        assert read_wav(path).data == bytes([n + 1]) * 16_000
