"""What of a call is on the disk: all that was stored, and nothing that must not be there."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from faults.gateway_oracle import searched
from faults.gateway_rig import until
from faults.media_rig import (
    KEY,
    SECRET,
    TOKEN,
    AudioHookCall,
    JsonCall,
    Media,
    SpeechService,
    all_written,
    hearing,
    sound,
    tones,
    written,
)
from steno.adapters.store_sqlite import OutboxReader
from steno_sim.calls.audio import Sound, encode, read_wav

BEFORE, AFTER = "please wait for the pause.", "thank you, that was it."
SECRET_DIGITS = "4916 2087 3591"
"""Digits are heard nowhere else in these calls, so that their sound is found wherever it is."""


def stretch(text: str) -> Sound:
    """Give a stretch in which the customer speaks and the agent is silent."""
    return sound(text, "")


def sounds_of(stretch: Sound) -> list[bytes]:
    """Give pieces of the loud parts of a stretch, as any file that has it would hold them."""
    loud = np.flatnonzero(np.abs(stretch.samples[0].astype(np.int32)) > 3000)
    pieces = []
    for at in loud[:: max(1, len(loud) // 40)]:
        part = Sound(stretch.samples[:, at : at + 64])
        for one in (part, part.picked((0,))):
            pieces += [encode(one, "PCMU"), encode(one, "L16")]
    return [piece for piece in pieces if len(set(piece)) > 8]


def found_in(folder: Path, pieces: list[bytes]) -> list[str]:
    """Give the files in which one of the pieces stands."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [p.name for p in files if any(piece in p.read_bytes() for piece in pieces)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("end", ["closed", "killed"])
async def test_a_secure_pause_leaves_no_audio_on_the_disk(tmp_path: Path, end: str) -> None:
    """Not even of a caller that goes on sending while it is paused; what surrounds it is there."""
    calls = tmp_path / "calls"
    calls.mkdir(mode=0o700)
    service, media = SpeechService(tmp_path).start(), None
    try:
        media = Media(tmp_path, service.address, options=("--record", str(calls))).start()
        await service.listening()
        await media.serving()
        call = AudioHookCall(media)
        async with call.opened():
            await call.audio(stretch(BEFORE))
            paused_at = call.position_s
            await call.say("paused", {})
            await call.audio(stretch(SECRET_DIGITS))
            if end == "killed":
                media.kill()
            nothing = {"start": f"PT{paused_at:.4f}S", "discarded": "PT0S"}
            await call.say("resumed", nothing)
            await call.audio(stretch(AFTER))
        if end == "closed":
            assert await media.stop(limit_s=40) == 0
        assert found_in(calls, sounds_of(stretch(BEFORE)))  # the search finds what is there
        assert found_in(tmp_path, sounds_of(stretch(SECRET_DIGITS))) == []
        assert "4916" not in "".join(written(media.file).texts.values())
    finally:
        service.end()
        if media is not None:
            media.end()


@pytest.mark.timeout(60)
async def test_what_was_said_around_a_pause_is_recorded_and_transcribed(tmp_path: Path) -> None:
    """By the rules: nothing is sent while it is paused."""
    calls = tmp_path / "calls"
    calls.mkdir(mode=0o700)
    service, media = SpeechService(tmp_path).start(), None
    try:
        media = Media(tmp_path, service.address, options=("--record", str(calls))).start()
        await service.listening()
        await media.serving()
        call = AudioHookCall(media)
        async with call.opened():
            await call.audio(stretch(BEFORE))
            paused_at = call.position_s
            await call.say("paused", {})
            await asyncio.sleep(0.2)
            call.position_s += 5.0
            await call.say("resumed", {"start": f"PT{paused_at:.4f}S", "discarded": "PT5S"})
            await call.audio(stretch(AFTER))
        assert "closed" in call.types
        assert await media.stop(limit_s=40) == 0
        assert sorted(written(media.file).texts.values()) == [f"{BEFORE} {AFTER}"]
        (path,) = calls.glob("*.wav")
        ear = hearing.Ear()
        customer = read_wav(path).samples[0]
        first = ear.hear(customer, 0)
        assert " ".join(one.text for one in (first, ear.finish()) if one and one.text) == (
            f"{BEFORE} {AFTER}"
        )
    finally:
        service.end()
        if media is not None:
            media.end()


CANARIES = ("4111-1111-1111-1111", "1111-1111", "415-555-0142", "555-0142", "nora.lind")
PLANTED = (
    "my card is 4111-1111-1111-1111. you can call me on 415-555-0142. "
    "or write to nora.lind@example.com."
)


@pytest.mark.timeout(60)
async def test_planted_numbers_stand_nowhere(tmp_path: Path) -> None:
    """Spoken in both forms, at debug level: in no log, page, record, database or file name."""
    service, media = SpeechService(tmp_path).start(), None
    try:
        media = Media(tmp_path, service.address, options=("--log-level", "debug")).start()
        await service.listening()
        await media.serving()
        hook = AudioHookCall(media)
        spoken = JsonCall(media, "conv-0", PLANTED, speed=4.0)

        async def play_hook() -> None:
            async with hook.opened():
                await hook.audio(sound(PLANTED, PLANTED))

        async with asyncio.TaskGroup() as group:
            group.create_task(spoken.play())
            group.create_task(play_hook())
        file = media.file
        await until(lambda: len(written(file).texts) == 3, "three lanes")
        address = (await media.event("health.listening"))["address"]
        pages = [
            await asyncio.to_thread(_page, f"http://{address}/{name}")
            for name in ("metrics", "readyz", "healthz")
        ]
        assert await media.stop(limit_s=40) == 0
        found = written(file)
        assert all(text.count("[REDACTED]") == 3 for text in found.texts.values()), found.texts
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        leaks = searched(
            files,
            pages,
            canaries=CANARIES,
            tokens=(TOKEN, SECRET, KEY),
            text=("my card is", "write to"),
        )
        assert leaks == []
        assert not any(canary in path.name for path in files for canary in CANARIES)
    finally:
        service.end()
        if media is not None:
            media.end()


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


@pytest.mark.timeout(90)
async def test_nothing_stored_is_lost_when_the_gateway_is_killed_in_mid_call(
    tmp_path: Path,
) -> None:
    """What the store had is delivered after the restart, once; callers that come back go on."""
    service, media = SpeechService(tmp_path).start(), None
    try:
        media = Media(tmp_path, service.address).start()
        await service.listening()
        await media.serving()
        text = " ".join(f"sentence {tones.ALPHABET[n]} is said." for n in range(8))
        calls = [JsonCall(media, f"conv-{n}", text, speed=4.0) for n in range(5)]
        playing = asyncio.gather(*(call.play() for call in calls), return_exceptions=True)
        file = media.file
        await until(lambda: len(written(file).texts) == 5, "a sentence of each call")
        media.kill()
        await playing
        assert all(0 < call.sent < call.frames for call in calls)
        with OutboxReader(media.database) as reader:
            stored = {record.key for record in reader.records(limit=10_000)}
        assert stored
        media.start()
        await media.serving()
        await asyncio.gather(*(call.play() for call in calls))
        found = await all_written(file, calls, limit_s=3.0)
        assert await media.stop(limit_s=40) == 0
        with OutboxReader(media.database) as reader:
            records = list(reader.records(limit=10_000))
        assert stored <= {record.key for record in records}
        delivered = file.read_text()
        assert all(record.key in delivered for record in records)
        for call in calls:  # what was in flight is gone; nothing else is, and nothing is doubled
            said, got = call.text.split(". "), found.texts[call.lane]
            assert got.startswith(said[0])
            assert got.endswith(said[-1])
            assert all(got.count(one) <= 1 for one in said)
    finally:
        service.end()
        if media is not None:
            media.end()
