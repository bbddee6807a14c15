"""The speech service is killed under calls: audio is kept, resent, and no word comes twice."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from faults.media_rig import FRAME_MS, JsonCall, Media, SpeechService, all_written, heard


def spoken(call: int, sentences: int) -> str:
    """Give a call's text: each sentence has a mark of its own."""
    return " ".join(f"c{call}f{number} the parcel was sent." for number in range(sentences))


async def kill_service(service: SpeechService, kills: int, draw: random.Random) -> None:
    """Kill it so many times; it is away for up to a third of a second and its own start."""
    for _ in range(kills):
        await asyncio.sleep(draw.uniform(0.1, 0.9))
        service.kill()
        await asyncio.sleep(draw.uniform(0.0, 0.3))
        service.start()
        await service.listening()


async def killed(folder: Path, *, kills: int, calls: int, sentences: int, speed: float) -> None:
    """Play calls, kill the service under them, and compare what was said with what came out."""
    service, media = SpeechService(folder).start(), None
    try:
        media = Media(folder, service.address).start()
        await service.listening()
        await media.serving()
        played = [
            JsonCall(media, f"conv-{number}", spoken(number, sentences), speed=speed)
            for number in range(calls)
        ]
        async with asyncio.TaskGroup() as group:
            playing = [group.create_task(call.play()) for call in played]
            killing = group.create_task(kill_service(service, kills, random.Random(kills)))
            await killing
            assert not all(task.done() for task in playing), "the calls were over too soon"
        found = await all_written(media.file, played)
        given = heard(service)
        assert await media.stop(limit_s=40) == 0
        shed_ms = sum(
            (gap["to_samples"] - gap["from_samples"]) / 8
            for gap in found.gaps
            if "to_samples" in gap
        )
        total = sum(call.frames for call in played)
        lost = total - sum(len(given[call.lane].frames) for call in played)
        again = sum(given[call.lane].repeated for call in played)
        print(  # noqa: T201  # the figures, shown by -s
            f"{kills} kills under {calls} calls: {total * FRAME_MS / 1000:.0f} s of audio, "
            f"{lost} frames lost, {shed_ms:.0f} ms shed, {again / total:.1%} sent again, "
            f"{len(found.gaps)} gaps, {found.repeats} records repeated"
        )
        assert found.texts == {call.lane: call.text for call in played}
        assert lost == 0
        assert found.gaps == []
        assert found.repeats == 0
        assert sum(one.altered for one in given.values()) == 0
    finally:
        service.end()
        if media is not None:
            media.end()


@pytest.mark.timeout(110)
async def test_no_audio_and_no_word_is_lost_or_doubled_when_the_service_dies(
    tmp_path: Path,
) -> None:
    """3 kills under 10 calls; every frame reaches it in the end, and the text is exact."""
    await killed(tmp_path, kills=3, calls=10, sentences=7, speed=2.0)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_fifty_kills_under_fifty_calls(tmp_path: Path) -> None:
    """The full count."""
    await killed(tmp_path, kills=50, calls=50, sentences=40, speed=1.0)


@pytest.mark.timeout(60)
async def test_what_the_buffer_cannot_hold_is_a_gap(tmp_path: Path) -> None:
    """Away for longer than `media.replay_s`: the oldest audio is given up, and it is said so."""
    service, media = SpeechService(tmp_path).start(), None
    try:
        settings = {"STENO_MEDIA_REPLAY_S": "1"}
        media = Media(tmp_path, service.address, settings=settings).start()
        await service.listening()
        await media.serving()
        call = JsonCall(media, "conv-0", spoken(0, 8), speed=2.0)
        async with asyncio.TaskGroup() as group:
            group.create_task(call.play())
            await asyncio.sleep(2.0)
            service.kill()
            await asyncio.sleep(2.5)
            service.start()
        await service.listening()
        found = await all_written(media.file, [call], limit_s=3.0)
        assert await media.stop(limit_s=40) == 0
        (missing,) = (
            sorted(set(range(call.frames)) - one.frames) for one in heard(service).values()
        )
        assert missing, "the service was not away for long enough"
        shed = [gap for gap in found.gaps if gap["cause"] == "shed"]
        told: set[int] = set()
        for gap in shed:
            told |= set(range(gap["from_samples"] // 160, gap["to_samples"] // 160))
        assert set(missing) <= told
        # What stands outside of the gap is whole: the first sentences, and the last ones.
        said = call.text.split(". ")
        text = found.texts[call.lane]
        assert text.startswith(said[0])
        assert text.endswith(said[-1])
    finally:
        service.end()
        if media is not None:
            media.end()
