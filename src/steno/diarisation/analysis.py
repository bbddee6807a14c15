"""Figures of a conversation: who talks how long, in turns, over each other.

One pass over the segments in order of their start. In memory are a few numbers for each speaker
and the stretches that are running; how long the conversation is makes no difference.

Words used here, and nowhere else in another sense:

* A **stretch** of a speaker is a maximal interval covered by the speaker's own segments; segments
  that touch or overlap are one stretch, so it does not matter how a source cuts speech.
* A speaker **begins** where a stretch starts.
* A **turn** is a maximal run of consecutive stretches A1 … An of one speaker in which no pause
  is too long, ``start(A[i+1]) - end(A[i]) <= pause``, and nobody else begins in between,
  strictly after ``start(A[i])`` and strictly before ``start(A[i+1])``.

Intervals are half open, [start, end). A segment without length counts among segments and words
and is otherwise left out. Inside, times are integers in microseconds, and sums are exact: the
order of segments that start together changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from steno.diarisation.views import SegmentView
from steno.errors import IntegrityError

DEFAULT_PAUSE_US: Final = 2_000_000
"""A longer pause ends a turn."""

MIN_INTERRUPTION_US: Final = 200_000
"""Speaking over somebody for less than this is the changing of turns, not an interruption."""

_MICRO: Final = 1_000_000


class SpeakerFigures(msgspec.Struct, frozen=True, gc=False):
    """What one speaker did in a conversation.

    Attributes:
        role, name: Of the earliest segment that tells them.
        segments: Number of segments.
        words: Runs of anything but white space in their texts.
        turns: Number of turns (see the module).
        talk_s: Length of the union of the speaker's segments.
        share: ``talk_s`` over the sum of everybody's; the shares add up to 1. 0 without talk.
        words_per_minute: ``words / (talk_s / 60)``; None without talk.
        longest_monologue_s: Longest turn, from its first start to its last end, pauses included.
        interruptions: Own stretches P = [s, e) that cut somebody off: a stretch [s', e') of
            somebody else has ``s' < s < e' < e`` and ``e' - s >= 0.2``. One stretch that cuts
            off two people counts once.
        interrupted: Pairs of an own stretch and a stretch of somebody else that cuts it off so.
        back_channels: Own stretches that interrupt nobody and lie within somebody else's:
            ``s' < s`` and ``e <= e'``. ("Mhm", "right".) A stretch that begins in the last
            0.2 s of somebody else's and goes on is neither: that is how turns change.
        first_response_s: From the end of the first turn of anybody else to the first time this
            speaker begins at or after it; None when that never happens. Of several who took the
            first turn together it is the one whose label sorts first.
        responses: How often the speaker begins while nobody speaks who began earlier, and those
            whose speech ended last are others.
        mean_response_s: Mean of ``begin - that end`` over the responses; None without any.
        mean_confidence: Mean over the segments weighted by their length; None without length.
    """

    speaker: str
    role: str
    name: str
    segments: int
    words: int
    turns: int
    talk_s: float
    share: float
    words_per_minute: float | None
    longest_monologue_s: float
    interruptions: int
    interrupted: int
    back_channels: int
    first_response_s: float | None
    responses: int
    mean_response_s: float | None
    mean_confidence: float | None


class ConversationFigures(msgspec.Struct, frozen=True, gc=False):
    """What happened in a conversation. Times are seconds on the conversation's own clock.

    ``speech_s + silence_s == duration_s``, and with at most two people speaking at a time
    ``sum of talk_s - overlap_s + silence_s == duration_s``.

    Attributes:
        zero_us: Start of the conversation, UTC microseconds; 0 where nobody knows it.
        start_s: First start; 0 where no segment has a length.
        duration_s: From the first start to the last end.
        speech_s: Time in which anybody speaks.
        silence_s: Time in between in which nobody speaks.
        longest_silence_s, longest_silence_at_s: The longest time nobody spoke, and when it
            began; of several the earliest. ``longest_silence_at_s`` is None without silence.
        overlap_s: Time in which two or more people speak.
        overlap_share: ``overlap_s / speech_s``; 0 without speech.
        mean_confidence: As a speaker's, over all segments.
        speakers: In order of their first start, then of their label.
    """

    conversation: str
    zero_us: int
    start_s: float
    duration_s: float
    speech_s: float
    silence_s: float
    longest_silence_s: float
    longest_silence_at_s: float | None
    overlap_s: float
    overlap_share: float
    segments: int
    words: int
    turns: int
    interruptions: int
    mean_confidence: float | None
    speakers: tuple[SpeakerFigures, ...]


def analyse(
    conversation: str, views: Iterable[SegmentView], *, pause_us: int = DEFAULT_PAUSE_US
) -> ConversationFigures:
    """Return the figures of one conversation.

    Args:
        views: The conversation's segments in order of ``start_us``.
        pause_us: The longest pause within a turn.

    Raises:
        IntegrityError: The segments are not in order of their start.
    """
    sweep = _Sweep(pause_us)
    for view in views:
        sweep.take(view)
    return sweep.figures(conversation)


class _Stretch:
    """A running stretch and those it began over: speakers whose stretch is older and running."""

    __slots__ = ("end_us", "interrupts", "over", "start_us")

    def __init__(self, start_us: int, end_us: int, over: set[str]) -> None:
        self.start_us = start_us
        self.end_us = end_us
        self.over = over
        self.interrupts = False


class _Speaker:
    """Running sums of one speaker."""

    __slots__ = (
        "back_channels",
        "begin_us",
        "confidence",
        "first_response_us",
        "first_turn_end_us",
        "first_us",
        "interrupted",
        "interruptions",
        "longest_us",
        "name",
        "response_us",
        "responses",
        "role",
        "segments",
        "talk_us",
        "turn_end_us",
        "turn_start_us",
        "turns",
        "weight_us",
        "words",
    )

    def __init__(self, first_us: int) -> None:
        self.first_us = first_us
        # With the start of the segment that told it: the earliest counts.
        self.role: tuple[int, str] | None = None
        self.name: tuple[int, str] | None = None
        self.segments = self.words = self.turns = 0
        self.talk_us = self.longest_us = 0
        self.begin_us = self.turn_start_us = self.turn_end_us = self.first_turn_end_us = 0
        self.interruptions = self.interrupted = self.back_channels = 0
        self.first_response_us: int | None = None
        self.responses = self.response_us = 0
        # Confidence in millionths times microseconds: sums of integers have no order.
        self.confidence = self.weight_us = 0

    def count(self, view: SegmentView, length_us: int) -> None:
        """Take in what does not depend on anybody else."""
        self.segments += 1
        self.words += len(view.text.split())
        self.confidence += round(view.confidence * _MICRO) * length_us
        self.weight_us += length_us
        if view.role != "unknown":
            self.role = min(self.role or (view.start_us, view.role), (view.start_us, view.role))
        if view.name:
            self.name = min(self.name or (view.start_us, view.name), (view.start_us, view.name))

    def speak_until(self, end_us: int) -> None:
        """The running stretch, and with it the turn, lasts at least until then."""
        self.turn_end_us = max(self.turn_end_us, end_us)
        self.longest_us = max(self.longest_us, self.turn_end_us - self.turn_start_us)
        if self.turns == 1:
            self.first_turn_end_us = self.turn_end_us

    def begin(self, at_us: int, end_us: int, *, pause_us: int, other_us: int | None) -> None:
        """Start a stretch; a turn too, unless the last one goes on.

        Args:
            other_us: When somebody else last began, before now.
        """
        cut = other_us is not None and other_us > self.begin_us
        if not self.turns or cut or at_us - self.turn_end_us > pause_us:
            self.turns += 1
            self.turn_start_us = at_us
        self.begin_us = at_us
        self.speak_until(end_us)


class _Sweep:
    """Moves along the time; segments that start together are taken in together."""

    def __init__(self, pause_us: int) -> None:
        self._pause_us = pause_us
        self._speakers: dict[str, _Speaker] = {}
        self._running: dict[str, _Stretch] = {}
        self._clock_us = 0
        self._first_us: int | None = None
        self._zero_us = 0
        # Segments that start at one time: the longest of each speaker.
        self._at_us: int | None = None
        self._ends: dict[str, int] = {}
        # Whose speech ended last, and the two people who began last.
        self._last_enders: frozenset[str] = frozenset()
        self._last_end_us = 0
        self._latest: tuple[int, str] | None = None
        self._before: tuple[int, str] | None = None
        # The two people whose first start is earliest: one of them is not oneself.
        self._openers: list[tuple[int, str]] = []
        self._speech_us = self._silence_us = self._overlap_us = 0
        self._longest_silence: tuple[int, int] | None = None

    def take(self, view: SegmentView) -> None:
        """Take in a segment.

        Raises:
            IntegrityError: It starts before the one before it.
        """
        at_us = view.start_us
        if self._at_us is None or at_us > self._at_us:
            self._together()
            self._at_us = at_us
        elif at_us < self._at_us:
            raise IntegrityError("the segments of a conversation are not in order of their start")
        speaker = self._speakers.get(view.speaker)
        if speaker is None:
            speaker = self._speakers[view.speaker] = _Speaker(at_us)
        length_us = max(0, view.end_us - at_us)
        speaker.count(view, length_us)
        if view.zero_us:
            self._zero_us = min(self._zero_us or view.zero_us, view.zero_us)
        if length_us:
            self._ends[view.speaker] = max(self._ends.get(view.speaker, at_us), view.end_us)

    def _together(self) -> None:
        """Let what starts at ``_at_us`` begin or go on."""
        if not self._ends or self._at_us is None:
            return
        at_us, ends = self._at_us, self._ends
        self._ends = {}
        if self._first_us is None:
            self._first_us = self._clock_us = at_us
        self._advance(at_us)
        begins: dict[str, int] = {}
        for name, end_us in ends.items():
            if stretch := self._running.get(name):
                stretch.end_us = max(stretch.end_us, end_us)
                self._speakers[name].speak_until(end_us)
            else:
                begins[name] = end_us
        self._finish(at_us)
        older = set(self._running)
        for name, end_us in begins.items():
            self._respond(name, at_us, older)
            self._speakers[name].begin(
                at_us, end_us, pause_us=self._pause_us, other_us=self._other_us(name)
            )
            self._running[name] = _Stretch(at_us, end_us, set(older))
        self._began(begins, at_us)

    def _respond(self, name: str, at_us: int, older: set[str]) -> None:
        if older or not self._last_enders or name in self._last_enders:
            return
        speaker = self._speakers[name]
        speaker.responses += 1
        speaker.response_us += at_us - self._last_end_us

    def _other_us(self, name: str) -> int | None:
        """When somebody else last began, before what begins now."""
        latest = self._latest if self._latest and self._latest[1] != name else self._before
        return latest[0] if latest else None

    def _began(self, begins: Iterable[str], at_us: int) -> None:
        """Note who began, and who so answered the first turn of somebody else."""
        for name in begins:
            if self._latest and self._latest[1] != name:
                self._before = self._latest
            self._latest = (at_us, name)
            if all(name != opener for _, opener in self._openers):
                self._openers = sorted([*self._openers, (at_us, name)])[:2]
        for name in begins:
            speaker = self._speakers[name]
            opener = next((one for _, one in self._openers if one != name), None)
            if speaker.first_response_us is None and opener is not None:
                end_us = self._speakers[opener].first_turn_end_us
                if end_us <= at_us:
                    speaker.first_response_us = at_us - end_us

    def _advance(self, to_us: int) -> None:
        """Move the clock, ending what ends before ``to_us``; what ends then may yet go on."""
        while self._running:
            end_us = min(stretch.end_us for stretch in self._running.values())
            if end_us >= to_us:
                break
            self._pass(end_us)
            self._finish(end_us)
        self._pass(to_us)

    def _pass(self, to_us: int) -> None:
        """Book the time until ``to_us``, in which nobody begins or ends."""
        passed_us = to_us - self._clock_us
        if self._running:
            self._speech_us += passed_us
            if len(self._running) > 1:
                self._overlap_us += passed_us
        elif passed_us:
            self._silence_us += passed_us
            if self._longest_silence is None or passed_us > self._longest_silence[0]:
                self._longest_silence = (passed_us, self._clock_us)
        self._clock_us = to_us

    def _finish(self, at_us: int) -> None:
        """End every stretch that lasts until now, and decide who interrupted whom by it."""
        ended = {
            name: self._running.pop(name)
            for name in [one for one, stretch in self._running.items() if stretch.end_us == at_us]
        }
        if not ended:
            return
        self._last_enders, self._last_end_us = frozenset(ended), at_us
        for stretch in self._running.values():
            for name in stretch.over & ended.keys():
                stretch.over.discard(name)
                if at_us - stretch.start_us >= MIN_INTERRUPTION_US:
                    stretch.interrupts = True
                    self._speakers[name].interrupted += 1
        for name, stretch in ended.items():
            speaker = self._speakers[name]
            speaker.talk_us += stretch.end_us - stretch.start_us
            if stretch.interrupts:
                speaker.interruptions += 1
            elif stretch.over:
                speaker.back_channels += 1

    def figures(self, conversation: str) -> ConversationFigures:
        """End what is running and add up."""
        self._together()
        if self._running:
            self._advance(max(stretch.end_us for stretch in self._running.values()))
            self._finish(self._clock_us)
        ordered = sorted(self._speakers.items(), key=lambda one: (one[1].first_us, one[0]))
        total_us = sum(one.talk_us for _, one in ordered)
        speakers = tuple(_speaker_figures(name, one, total_us) for name, one in ordered)
        longest = self._longest_silence
        return ConversationFigures(
            conversation=conversation,
            zero_us=self._zero_us,
            start_s=(self._first_us or 0) / _MICRO,
            duration_s=(self._speech_us + self._silence_us) / _MICRO,
            speech_s=self._speech_us / _MICRO,
            silence_s=self._silence_us / _MICRO,
            longest_silence_s=longest[0] / _MICRO if longest else 0.0,
            longest_silence_at_s=longest[1] / _MICRO if longest else None,
            overlap_s=self._overlap_us / _MICRO,
            overlap_share=self._overlap_us / self._speech_us if self._speech_us else 0.0,
            segments=sum(one.segments for one in speakers),
            words=sum(one.words for one in speakers),
            turns=sum(one.turns for one in speakers),
            interruptions=sum(one.interruptions for one in speakers),
            mean_confidence=_mean_confidence(self._speakers.values()),
            speakers=speakers,
        )


def _speaker_figures(name: str, sums: _Speaker, total_us: int) -> SpeakerFigures:
    first_us = sums.first_response_us
    return SpeakerFigures(
        speaker=name,
        role=sums.role[1] if sums.role else "unknown",
        name=sums.name[1] if sums.name else "",
        segments=sums.segments,
        words=sums.words,
        turns=sums.turns,
        talk_s=sums.talk_us / _MICRO,
        share=sums.talk_us / total_us if total_us else 0.0,
        words_per_minute=sums.words * 60 * _MICRO / sums.talk_us if sums.talk_us else None,
        longest_monologue_s=sums.longest_us / _MICRO,
        interruptions=sums.interruptions,
        interrupted=sums.interrupted,
        back_channels=sums.back_channels,
        first_response_s=None if first_us is None else first_us / _MICRO,
        responses=sums.responses,
        mean_response_s=sums.response_us / sums.responses / _MICRO if sums.responses else None,
        mean_confidence=_mean_confidence([sums]),
    )


def _mean_confidence(speakers: Iterable[_Speaker]) -> float | None:
    weighted = weight = 0
    for one in speakers:
        weighted += one.confidence
        weight += one.weight_us
    return weighted / weight / _MICRO if weight else None
