"""The speech service is killed under calls: audio is kept, resent, and no word comes twice."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

from faults.media_rig import (
    FRAME_MS,
    Heard,
    JsonCall,
    Lane,
    Media,
    SpeechService,
    Written,
    all_written,
    heard,
)


def spoken(call: int, sentences: int) -> str:
    """Give a call's text: each sentence has a mark of its own."""
    return " ".join(f"c{call}f{number} the parcel was sent." for number in range(sentences))


async def kill_service(
    service: SpeechService, kills: int, up_s: tuple[float, float], draw: random.Random
) -> None:
    """Kill it so many times; it is away for up to a third of a second and its own start."""
    for _ in range(kills):
        await asyncio.sleep(draw.uniform(*up_s))
        service.kill()
        await asyncio.sleep(draw.uniform(0.0, 0.3))
        service.start()
        await service.listening()


class Outcome(NamedTuple):
    """What was said, and what became of it."""

    calls: list[JsonCall]
    heard: dict[Lane, Heard]
    written: Written

    @property
    def missing(self) -> dict[Lane, set[int]]:
        """Frames that no process of the service ever got."""
        return {c.lane: set(range(c.frames)) - self.heard[c.lane].frames for c in self.calls}

    @property
    def told(self) -> dict[Lane, set[int]]:
        """Frames inside the gap records."""
        frames: dict[Lane, set[int]] = defaultdict(set)
        for gap in self.written.gaps:
            covered = range(gap["from_samples"] // 160, gap["to_samples"] // 160)
            frames[gap["conversation"], "customer"] |= set(covered)
        return frames

    def print_figures(self, kills: int) -> None:
        """Print what was lost, shed and sent again; shown by -s."""
        total = sum(call.frames for call in self.calls)
        lost = sum(map(len, self.missing.values()))
        shed = sum(map(len, self.told.values()))
        again = sum(self.heard[call.lane].repeated for call in self.calls)
        print(  # noqa: T201  # the figures
            f"{kills} kills under {len(self.calls)} calls: {total * FRAME_MS / 1000:.0f} s of "
            f"audio, never heard {lost * FRAME_MS / 1000:.2f} s, shed and told "
            f"{shed * FRAME_MS / 1000:.2f} s in {len(self.written.gaps)} gaps, "
            f"{again / total:.1%} sent again, {self.written.repeats} records repeated"
        )


async def killed(
    folder: Path,
    *,
    kills: int,
    calls: int,
    sentences: int,
    speed: float,
    up_s: tuple[float, float],
) -> Outcome:
    """Play calls, kill the service under them, and give what came out."""
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
            await kill_service(service, kills, up_s, random.Random(kills))
            assert not all(task.done() for task in playing), "the calls were over too soon"
        found = await all_written(media.file, played)
        assert await media.stop(limit_s=40) == 0
        outcome = Outcome(played, heard(service), found)
        outcome.print_figures(kills)
        return outcome
    finally:
        service.end()
        if media is not None:
            media.end()


def nothing_is_lost(outcome: Outcome) -> None:
    """Assert that every frame was heard and every word written, once."""
    assert outcome.written.texts == {call.lane: call.text for call in outcome.calls}
    assert not any(outcome.missing.values())
    assert outcome.written.gaps == []
    assert outcome.written.repeats == 0
    assert sum(one.altered for one in outcome.heard.values()) == 0


@pytest.mark.timeout(110)
async def test_no_audio_and_no_word_is_lost_or_doubled_when_the_service_dies(
    tmp_path: Path,
) -> None:
    """3 kills under 10 calls; every frame reaches it in the end, and the text is exact."""
    size = {"kills": 3, "calls": 10, "sentences": 7}
    nothing_is_lost(await killed(tmp_path, **size, speed=2.0, up_s=(0.1, 0.9)))


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_fifty_kills_under_fifty_calls(tmp_path: Path) -> None:
    """The full count; between two kills it has time to hear what was kept."""
    size = {"kills": 50, "calls": 50, "sentences": 80}
    nothing_is_lost(await killed(tmp_path, **size, speed=1.0, up_s=(1.5, 3.0)))


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_service_that_dies_every_second_loses_only_what_is_told(tmp_path: Path) -> None:
    """It never catches up, and the buffer overflows; what is shed is a gap, nothing is doubled."""
    size = {"kills": 50, "calls": 50, "sentences": 40}
    outcome = await killed(tmp_path, **size, speed=1.0, up_s=(0.1, 0.9))
    told = outcome.told
    for lane, frames in outcome.missing.items():
        assert frames <= told[lane]
    for call in outcome.calls:
        said = call.text.split(". ")
        got = outcome.written.texts[call.lane]
        places = [got.find(one) for one in said]
        assert all(got.count(one) <= 1 for one in said)
        assert [at for at in places if at >= 0] == sorted(at for at in places if at >= 0)
        if call.lane not in told:
            assert got == call.text


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
