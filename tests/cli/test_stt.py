"""``steno stt`` as an operator runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from steno._proto import transcription_pb2 as document

STREAM = "/transcription.TranscriptionService/StreamAudio"
VECTORS = Path(__file__).parents[1] / "vectors" / "speech"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "steno.cli", "stt", *arguments]


def environment(state: Path, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STENO_")}
    return {**kept, "STENO_STATE_DIR": str(state), **variables}


@contextmanager
def running(
    state: Path, *arguments: str, **variables: str
) -> Iterator[tuple[dict[str, Any], subprocess.Popen[str]]]:
    """Start the service on a free port; gives what it said when it listened."""
    with subprocess.Popen(
        command("--listen", "127.0.0.1:0", "--json", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(state, **variables),
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline()), process
        finally:
            if process.poll() is None:
                process.kill()


def failed(state: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(state, **variables),
        check=False,
    )


def spoken(name: str) -> list[document.AudioChunk]:
    data = (VECTORS / f"{name}.wav").read_bytes()
    audio = data[data.index(b"data") + 8 :] + b"\xff" * 12_000
    return [
        document.AudioChunk(
            conversation_id="c",
            participant_id="p",
            audio_data=audio[at : at + 800],
            sequence_number=number,
            sample_rate=8000,
            audio_format="PCMU",
        )
        for number, at in enumerate(range(0, len(audio), 800))
    ]


def transcribed(address: str, name: str, **options: Any) -> list[str]:
    """Return the texts the service gives for a vector."""
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(
            STREAM,
            request_serializer=document.AudioChunk.SerializeToString,
            response_deserializer=document.TranscriptResult.FromString,
        )
        return [one.text for one in call(iter(spoken(name)), timeout=20, **options) if one.text]


def test_speech_is_recognised_and_the_end_is_clean(tmp_path: Path) -> None:
    """A line when it listens, words for audio, totals and 0 at SIGTERM."""
    with running(tmp_path, "--grammar", "digits") as (first, process):
        assert first["engine"] == "pocketsphinx"
        assert transcribed(first["listening"], "number") == ["four one five five five"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    totals = json.loads(out)
    assert (totals["streams"], totals["finals"], totals["lost"]) == (1, 1, 0)
    assert "four" not in err


def test_settings_and_token_come_from_the_environment(tmp_path: Path) -> None:
    """As for every command; a caller without the token is refused."""
    variables = {"STENO_SPEECH_GRAMMAR": "digits", "STENO_SPEECH_TOKEN": "speech-token"}
    with running(tmp_path, **variables) as (first, process):
        with pytest.raises(grpc.RpcError) as caught:
            transcribed(first["listening"], "number")
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        metadata = (("authorization", "Bearer speech-token"),)
        texts = transcribed(first["listening"], "number", metadata=metadata)
        assert texts == ["four one five five five"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--grammar", "nowhere.gram"), "grammar's file is missing"),
        (("--engine", "vosk"), "vosk model is missing"),
        (("--engine", "whisper"), "whisper model is not set"),
        (("--listen", "0.0.0.0:0"), "without TLS is refused"),
        (("--engine", "psychic"), "psychic"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    """Exit code 2, no traceback."""
    done = failed(tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_help_has_an_example_and_needs_no_engine(tmp_path: Path) -> None:
    """It answers without importing one."""
    done = failed(tmp_path, "--help")
    assert done.returncode == 0
    assert "Example: steno stt" in done.stdout
