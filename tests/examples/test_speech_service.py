"""The example's speech service: exact text, exact acknowledgements, resume without a seam."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "speech_service"


def module(name: str) -> Any:  # Any: the examples are scripts, outside of the type check
    """Import a file of the example as it imports its siblings."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


tones, hearing, service = module("tones"), module("hearing"), module("service")

TEXT = "please send it to 12 park road. thanks, that's all!"
WORDS = st.lists(
    st.text(alphabet=tones.ALPHABET, min_size=1, max_size=5), min_size=1, max_size=8
).map(" ".join)


def pieces(samples: Any, sizes: list[int]) -> Iterator[Any]:
    """Cut samples into pieces, the sizes over and over."""
    at = turn = 0
    while at < len(samples):
        size = sizes[turn % len(sizes)]
        yield samples[at : at + size]
        at, turn = at + size, turn + 1


def mu_law_and_back(samples: Any) -> Any:
    """Return what is left of samples after the telephone."""
    return service.linear(tones.mu_law(samples), "PCMU")


@settings(max_examples=40, deadline=None)
@given(text=WORDS, sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=9))
def test_words_come_back_exactly_however_the_audio_is_cut(text: str, sizes: list[int]) -> None:
    """Text to tones to mu-law to text."""
    ear, heard = hearing.Ear(), []
    for number, piece in enumerate(pieces(mu_law_and_back(tones.spoken(text)), sizes)):
        heard.append(ear.hear(piece, number))
    heard.append(ear.finish())
    assert " ".join(one.text for one in heard if one and one.text) == text


@settings(max_examples=40, deadline=None)
@given(
    text=WORDS,
    size=st.integers(160, 1700),
    breaks=st.lists(st.integers(0, 60), max_size=6),
)
def test_resuming_behind_the_acknowledged_piece_neither_loses_nor_repeats(
    text: str, size: int, breaks: list[int]
) -> None:
    """A new ear that starts behind the last acknowledgement continues the text."""
    cut = list(pieces(mu_law_and_back(tones.spoken(text)), [size]))
    told, at, acked = [], 0, -1
    ear = hearing.Ear()
    broken = sorted(set(breaks), reverse=True)
    while at < len(cut):
        if broken and at >= broken[-1]:
            broken.pop()
            ear, at = hearing.Ear(), acked + 1
        heard = ear.hear(cut[at], at)
        if heard:
            acked = heard.sequence
            told.append(heard.text)
        at += 1
    told.append(ear.finish().text)
    assert " ".join(filter(None, told)) == text


def test_noise_and_long_sounds_are_no_words() -> None:
    """Something that is not a chord is silence with a sound in it."""
    noise = np.random.default_rng(1).integers(-8000, 8000, 16000).astype(np.int16)
    whistle = (8000 * np.sin(np.arange(16000) * 0.7)).astype(np.int16)
    ear = hearing.Ear()
    ear.hear(noise, 0)
    ear.hear(whistle, 1)
    assert ear.finish() == ("", 1)


def test_the_table_is_the_proto_file(tmp_path: Path) -> None:
    """The messages made at run time are those that the compiler makes of the file."""
    protoc = pytest.importorskip("grpc_tools.protoc")
    from google.protobuf import descriptor_pb2

    out = tmp_path / "set.bin"
    name = "transcription.proto"
    assert protoc.main(["protoc", f"-I{FOLDER}", f"--descriptor_set_out={out}", name]) == 0
    (file,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    for message in file.message_type:
        made = service.contract()[message.name].DESCRIPTOR
        assert [(f.name, f.number, f.type) for f in message.field] == [
            (f.name, f.number, f.type) for f in made.fields
        ]
    assert {message.name for message in file.message_type} == set(service.MESSAGES)


def test_the_example_imports_nothing_of_steno() -> None:
    """It is independent: the contract alone connects the two."""
    for path in FOLDER.glob("*.py"):
        assert "import steno" not in path.read_text()
        assert "from steno" not in path.read_text()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Give the address of the service as a process of its own, and its journal."""
    journal = tmp_path / "heard.jsonl"
    command = [sys.executable, str(FOLDER / "service.py"), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--journal", str(journal)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline().split()[-1]
        yield f"127.0.0.1:{port}", journal
    finally:
        process.terminate()
        assert process.wait(10) == 0
        process.stdout.close()


async def results(address: str, chunks: list[dict[str, Any]]) -> list[Any]:
    """Send chunks on one stream and return all results."""
    types = service.contract()
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(
            "/transcription.TranscriptionService/StreamAudio",
            request_serializer=types["AudioChunk"].SerializeToString,
            response_deserializer=types["TranscriptResult"].FromString,
        )(iter([types["AudioChunk"](**chunk) for chunk in chunks]))
        return [result async for result in call]


def chunks_of(text: str, *, size: int = 800, fmt: str = "PCMU") -> list[dict[str, Any]]:
    """Return a text's audio as chunks of one participant."""
    samples = tones.spoken(text)
    audio = tones.mu_law(samples) if fmt == "PCMU" else samples.astype("<i2").tobytes()
    step = size * service.ENCODING_BYTES[fmt]
    return [
        {
            "conversation_id": "c1",
            "participant_id": "p1",
            "audio_data": audio[at : at + step],
            "language_code": "en-US",
            "sequence_number": number,
            "sample_rate": 8000,
            "audio_format": fmt,
        }
        for number, at in enumerate(range(0, len(audio), step))
    ]


@pytest.mark.parametrize("fmt", ["PCMU", "L16"])
async def test_the_service_answers_with_the_text_and_acknowledges_every_chunk(
    running: tuple[str, Path], fmt: str
) -> None:
    """The last result covers the last chunk; numbers never go back; a confidence is a decimal."""
    address, journal = running
    chunks = chunks_of(TEXT, fmt=fmt)
    answers = await results(address, chunks)
    assert " ".join(one.text for one in answers if one.text) == TEXT
    numbers = [one.sequence_number for one in answers]
    assert numbers == sorted(numbers)
    assert numbers[-1] == len(chunks) - 1
    assert all(0 <= float(one.language_confidence) <= 1 for one in answers)
    noted = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["sequence"] for line in noted] == list(range(len(chunks)))
    assert sum(line["bytes"] for line in noted) == sum(len(c["audio_data"]) for c in chunks)


async def test_a_repeated_chunk_is_heard_once(running: tuple[str, Path]) -> None:
    """What came already, by its number, adds no text."""
    chunks = chunks_of("one two.")
    doubled = [one for chunk in chunks for one in (chunk, chunk)]
    answers = await results(running[0], doubled)
    assert " ".join(one.text for one in answers if one.text) == "one two."


async def test_audio_it_cannot_read_is_refused(running: tuple[str, Path]) -> None:
    """INVALID_ARGUMENT, not a wrong transcript."""
    chunk = {**chunks_of("a")[0], "audio_format": "OPUS"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await results(running[0], [chunk])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_audio_can_be_written_as_a_wav_file(tmp_path: Path) -> None:
    """Format 7, 8 kHz, sizes that add up."""
    target = tmp_path / "call.wav"
    subprocess.run([sys.executable, str(FOLDER / "tones.py"), "hello.", str(target)], check=True)
    data = target.read_bytes()
    assert data[:4] == b"RIFF"
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert data[20:22] == b"\x07\x00"
