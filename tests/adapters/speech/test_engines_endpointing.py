"""Utterances out of a lane's audio: what is decoded, what is not, and where it is cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.speech.spoken import FRAME, LOUD, RATE_HZ, CountingEngine, call, loud, silence
from steno.adapters.speech.engines.endpointing import (
    HARD_MAX_S,
    PRE_ROLL_MS,
    SOFT_MAX_S,
    EndpointedStream,
    voiced_frames,
)
from steno.adapters.speech.engines.port import EngineHypothesis
from steno.core.audio import Samples

PRE_ROLL = PRE_ROLL_MS * RATE_HZ // 1000


def hear(
    stream: EndpointedStream, audio: Samples, sizes: tuple[int, ...] = (800,)
) -> list[EngineHypothesis]:
    """Feed audio in portions of the sizes, over and over."""
    heard: list[EngineHypothesis] = []
    at = place = 0
    while at < len(audio):
        size = sizes[place % len(sizes)]
        heard += stream.feed(audio[at : at + size])
        at += size
        place += 1
    return heard


def finals(heard: list[EngineHypothesis]) -> list[EngineHypothesis]:
    return [one for one in heard if one.is_final]


def test_silence_is_never_decoded() -> None:
    """An engine that gets no silence can invent no words for it."""
    engine = CountingEngine()
    stream = engine.open(RATE_HZ, "en-US")
    assert hear(stream, silence(5)) == []
    assert list(stream.finish()) == []
    assert engine.utterances == []


def test_an_utterance_has_its_pre_roll_and_little_of_the_silence_behind() -> None:
    """Soft first sounds come before what the detector calls voice."""
    engine = CountingEngine()
    audio = call(silence(1.2), loud(0.9), silence(2))
    (final,) = finals(hear(engine.open(RATE_HZ, "en-US"), audio))
    start, end = 9600, 9600 + 7200
    assert final.start_samples == start - PRE_ROLL
    assert end <= final.end_samples <= end + PRE_ROLL
    decoded = engine.utterances[0]
    assert np.array_equal(decoded, audio[final.start_samples : final.end_samples])


def test_positions_count_from_where_the_stream_began() -> None:
    """A stream that is resumed begins in the middle of the call."""
    engine = CountingEngine()
    stream = engine.open(RATE_HZ, "en-US", at_samples=800_000, first_utterance=7)
    (final,) = finals(hear(stream, call(silence(1.2), loud(0.9), silence(2))))
    assert final.start_samples == 800_000 + 9600 - PRE_ROLL
    assert final.utterance == 7
    assert stream.position_samples == 800_000 + int(4.1 * RATE_HZ)


@given(sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=6))
def test_finals_do_not_depend_on_how_audio_is_cut(sizes: list[int]) -> None:
    """Portions are the network's doing."""
    audio = call(
        silence(0.5), loud(0.6), silence(1), loud(1.5), silence(0.3), loud(0.4), silence(1)
    )
    whole = finals(hear(CountingEngine().open(RATE_HZ, "en-US"), audio, (len(audio),)))
    cut = finals(hear(CountingEngine().open(RATE_HZ, "en-US"), audio, tuple(sizes)))
    assert cut == whole
    assert len(whole) == 2


def test_partials_come_twice_a_second_and_belong_to_the_final() -> None:
    """A partial is replaced by the next hypothesis of its utterance."""
    heard = hear(CountingEngine().open(RATE_HZ, "en-US"), call(loud(3), silence(1)))
    partials = [one for one in heard if not one.is_final]
    assert 4 <= len(partials) <= 7
    assert {one.utterance for one in heard} == {0}
    assert heard[-1].is_final
    assert all(b.end_samples - a.end_samples >= RATE_HZ // 2 for a, b in pairwise(partials))


def test_a_long_utterance_is_cut_where_it_is_quiet() -> None:
    """From 15 s on the first soft moment will do: a stop between two syllables."""
    soft = np.full(3 * FRAME, 300, np.int16)
    audio = call(loud(17.0 - 17.0 % 0.03), soft, loud(2), silence(1))
    first, second = finals(hear(CountingEngine().open(RATE_HZ, "en-US"), audio))
    assert SOFT_MAX_S < 16.9 < first.end_samples / RATE_HZ < 17.1
    assert second.start_samples == first.end_samples


def test_a_loud_moment_is_no_place_to_cut() -> None:
    """Speech without any pause is cut at 20 s, and goes on in the next utterance."""
    first, second = finals(
        hear(CountingEngine().open(RATE_HZ, "en-US"), call(loud(23), silence(1)))
    )
    assert first.end_samples - first.start_samples == HARD_MAX_S * RATE_HZ
    assert second.start_samples == first.end_samples


def test_what_is_acknowledged_has_been_returned() -> None:
    """``through`` never passes the beginning of speech that is still to be returned."""
    stream = CountingEngine().open(RATE_HZ, "en-US")
    audio = call(silence(1), loud(2), silence(2), loud(1), silence(0.2))
    returned, through = 0, 0
    for at in range(0, len(audio), 800):
        for one in finals(list(stream.feed(audio[at : at + 800]))):
            returned = one.end_samples
        assert stream.through_samples >= through
        through = stream.through_samples
        voiced = np.flatnonzero(audio[returned:through] > 0)
        assert not len(voiced)
    assert through < len(audio) - RATE_HZ  # the last utterance is open
    (last,) = stream.finish()
    assert last.is_final
    assert stream.through_samples == len(audio)


def test_silence_is_acknowledged_as_it_passes() -> None:
    """Or a quiet caller would fill the buffer of whoever waits for it."""
    stream = CountingEngine().open(RATE_HZ, "en-US")
    hear(stream, silence(10))
    assert stream.through_samples > 9.4 * RATE_HZ


def test_missing_audio_ends_the_utterance_and_moves_the_clock() -> None:
    """Words on both sides of a gap are not joined, and keep their places."""
    stream = CountingEngine().open(RATE_HZ, "en-US")
    hear(stream, call(silence(1), loud(1)), (700,))
    (first,) = finals(list(stream.skip(40_001)))
    assert first.end_samples <= 16_000 + FRAME
    assert stream.position_samples == 16_000 + 40_001
    (second,) = finals(hear(stream, call(loud(1), silence(1))))
    assert second.start_samples >= 56_001 - 1
    assert second.utterance == 1


def test_a_frame_lost_within_speech_does_not_part_it() -> None:
    """20 ms are filled with silence."""
    stream = CountingEngine().open(RATE_HZ, "en-US")
    hear(stream, loud(1))
    stream.skip(160)
    (final,) = finals(hear(stream, call(loud(1), silence(1))))
    assert final.end_samples - final.start_samples >= 2 * RATE_HZ


def test_another_language_begins_with_an_utterance_of_its_own() -> None:
    """The running one is finished first; the same language again changes nothing."""
    engine = CountingEngine("en", "es")
    stream = engine.open(RATE_HZ, "en-US")
    hear(stream, loud(1))
    assert list(stream.set_language("EN-us")) == []
    (first,) = stream.set_language("es-ES")
    assert (first.is_final, first.language) == (True, "en-US")
    (second,) = finals(hear(stream, call(loud(1), silence(1))))
    assert second.language == "es-ES"
    assert engine.closed_decoders == 1


@pytest.mark.parametrize("piece", [0, 3])
def test_a_failure_costs_one_utterance(piece: int) -> None:
    """Whatever an engine's library raises: the next utterance gets a new decoder."""
    engine = CountingEngine()
    engine.fails_on = [False] * piece + [True]
    stream = engine.open(RATE_HZ, "en-US")
    heard = hear(stream, call(loud(2), silence(1), loud(1), silence(1)))
    (final,) = finals(heard)
    assert final.utterance == 1
    ((start, end),) = stream.lost
    assert (start, end // RATE_HZ) == (0, 2)
    assert stream.through_samples > end


def test_a_partial_that_came_to_nothing_is_taken_back() -> None:
    """An empty final replaces it."""
    engine = CountingEngine()
    engine.is_fickle = True
    partial, final = hear(engine.open(RATE_HZ, "en-US"), call(loud(0.7), silence(1)))
    assert (partial.is_final, final.is_final) == (False, True)
    assert (final.text, final.utterance) == ("", partial.utterance)


def test_a_burst_of_noise_is_not_believed() -> None:
    """Loud enough for a detector, but without a pitch anywhere: no partial, no final."""
    engine = CountingEngine()
    hiss = np.random.default_rng(1).normal(0, 2 * LOUD, 2 * RATE_HZ).clip(-32768, 32767)
    stream = engine.open(RATE_HZ, "en-US")
    assert hear(stream, call(silence(1), hiss.astype(np.int16), silence(1))) == []
    assert stream.lost == []
    (final,) = finals(hear(stream, call(loud(1), silence(1))))
    assert final.utterance == 1


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100])
@pytest.mark.parametrize("pitch_hz", [80, 120, 220, 350])
def test_vowels_have_a_pitch_and_noise_has_none(rate_hz: int, pitch_hz: int) -> None:
    """Pulses of a voice through a resonance, at any rate a call may have."""
    frame = rate_hz * 30 // 1000
    time = np.arange(20 * frame) / rate_hz
    vowel = sum(np.sin(2 * np.pi * k * pitch_hz * time) / k for k in range(1, 8))
    noise = np.random.default_rng(2).normal(0, 1, len(time))
    assert voiced_frames((3000 * vowel + 300 * noise).astype(np.float32), frame, rate_hz) >= 18
    assert voiced_frames((3000 * noise).astype(np.float32), frame, rate_hz) <= 1
    assert voiced_frames(np.zeros(20 * frame, np.float32), frame, rate_hz) == 0
