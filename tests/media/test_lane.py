"""A lane's audio: what is listened to, and how closely."""

from __future__ import annotations

import time

import numpy as np
import pytest

from steno.core.audio import Encoding, encode_ulaw
from steno.core.transcript import RawText
from steno.media.lane import STANDS_FOR, Lane, LaneSpec
from steno.media.language import LanguageChoice, LanguageEvent, LanguageSettings
from steno.ports import FeedEvent
from steno.ports.speech import Hypothesis, Recogniser, Samples, VoiceActivity

RATE_HZ = 8000
SILENCE = b"\xff" * RATE_HZ
SOUND = encode_ulaw((np.sin(np.arange(RATE_HZ) / 3) * 8000).astype(np.int16))


class Voice:
    """Takes all it is asked about for speech, and counts it."""

    frame_samples = 240

    def __init__(self) -> None:
        self.asked = 0

    def feed(self, samples: Samples) -> bytes:
        self.asked += len(samples)
        return bytes([1]) * (len(samples) // self.frame_samples)


class Tools:
    """What a lane needs and this test does not look at."""

    recogniser: Recogniser | None = None
    reads = False

    def __init__(self, *, listens: bool) -> None:
        self.voice = Voice()
        self.listens = listens
        self.identified: list[int] = []

    def now(self) -> float:
        return time.monotonic()

    def now_us(self) -> int:
        return 1

    def accept(self, event: FeedEvent) -> None: ...

    def make_voice(self, rate_hz: int) -> VoiceActivity | None:
        return self.voice

    def identify(self, lane: Lane, speech: Samples) -> None:
        self.identified.append(len(speech))

    def read(self, lane: Lane, text: RawText) -> None: ...

    def forget(self, lane: Lane) -> None: ...


class Owner:
    """Hears of the lane."""

    def on_hypothesis(self, lane: Lane, heard: Hypothesis) -> None: ...

    def on_language(self, lane: Lane, event: LanguageEvent) -> None: ...

    def on_lane_over(self, lane: Lane) -> None: ...


def heard(tools: Tools, audio: bytes) -> Lane:
    settings = LanguageSettings(languages=("en-US",), confidence=0.7, fixed=not tools.listens)
    spec = LaneSpec("conversation", "customer", Encoding.PCMU, "PCMU", RATE_HZ)
    lane = Lane(spec, LanguageChoice(settings), tools, Owner())
    for at in range(0, len(audio), 1600):  # 200 ms
        lane.audio(audio[at : at + 1600], at // 1600)
    lane.finish()
    return lane


def test_a_part_of_the_sound_is_judged_when_nobody_waits_for_it() -> None:
    """Each judged second stands for those before it, so the sum is right; silence costs nothing."""
    tools = Tools(listens=False)
    lane = heard(tools, (SOUND * 10 + SILENCE * 5) * 2)
    assert lane.totals.speech / RATE_HZ == pytest.approx(20, abs=0.5)
    assert tools.voice.asked <= (20 / STANDS_FOR + 2) * RATE_HZ


def test_every_second_is_judged_while_the_language_is_looked_for() -> None:
    """An identifier gets whole stretches of speech."""
    tools = Tools(listens=True)
    lane = heard(tools, SOUND * 6 + SILENCE)
    assert tools.voice.asked == 7 * RATE_HZ
    assert lane.totals.speech / RATE_HZ == pytest.approx(7, abs=0.5)  # it takes all for speech
    assert tools.identified


@pytest.mark.parametrize("seconds", [0.2, 1.0, 2.5])
def test_short_calls_are_judged_to_their_end(seconds: float) -> None:
    """What is left over at the end is not lost."""
    tools = Tools(listens=False)
    lane = heard(tools, (SOUND * 3)[: int(seconds * RATE_HZ)])
    assert lane.totals.speech / RATE_HZ == pytest.approx(seconds, abs=0.6)
