"""One participant's or channel's audio: heard, sent to the recogniser, turned into fragments.

A lane counts samples: position 0 is the first one after the call was opened, and gaps are counted
in. Everything works on runs of audio (some 100 ms), never on single frames.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import msgspec

from steno.core.audio import SAMPLE_BYTES, Encoding, decode
from steno.core.transcript import Fragment, RawText, Role
from steno.media.language import LanguageChanged, LanguageChoice, LanguageEvent, SpeechWindow
from steno.ports import FeedEvent, LanguageHeard, Missing
from steno.ports.speech import (
    AudioChunk,
    AudioShed,
    Hypothesis,
    LanguageGuess,
    Recogniser,
    Samples,
    SpeechEvent,
    SpeechStream,
    StreamSpec,
    StreamState,
    VoiceActivity,
)

MAX_UTTERANCES = 64
"""Finals whose word times are kept until their sentences are stored."""


MAX_ANCHORS = 32
AHEAD_S = 2.0


class LaneTools(Protocol):
    """What lanes need from the service that owns them."""

    recogniser: Recogniser | None

    def now(self) -> float:
        """Return monotonic seconds."""

    def now_us(self) -> int:
        """Return UTC microseconds."""

    def accept(self, event: FeedEvent) -> None:
        """Hand what was said, or is missing, to the spine."""

    def make_voice(self, rate_hz: int) -> VoiceActivity | None:
        """Return a voice activity detector of one lane; None where it cannot work."""

    def identify(self, lane: Lane, speech: Samples) -> None:
        """Ask for the language of some speech; the answer comes to ``lane.guessed``."""

    def read(self, lane: Lane, text: RawText) -> None:
        """Ask for the language of recognised words; the answer comes to ``lane.guessed``."""

    def forget(self, lane: Lane) -> None:
        """Ask no more for a lane that is over."""

    @property
    def listens(self) -> bool:
        """Whether ``identify`` leads anywhere."""

    @property
    def reads(self) -> bool:
        """Whether ``read`` leads anywhere."""


class LaneOwner(Protocol):
    """The call that a lane belongs to."""

    def on_hypothesis(self, lane: Lane, heard: Hypothesis) -> None:
        """Take note of what the recogniser has said of a lane."""

    def on_language(self, lane: Lane, event: LanguageEvent) -> None:
        """Take note that a lane's language is another one, or none that is configured."""

    def on_lane_over(self, lane: Lane) -> None:
        """Everything that will come of a lane has come."""


class LaneSpec(msgspec.Struct, frozen=True):
    """Who a lane is.

    Attributes:
        name: Lane of the records: participant id, or ``internal``.
        encoding: What ``format`` means; ``format`` itself passes on unchanged.
        channel: Index among the call's channels.
    """

    conversation: str
    name: str
    encoding: Encoding
    format: str
    rate_hz: int
    channel: int = 0
    role: Role = Role.UNKNOWN


class LaneTotals(msgspec.Struct):
    """What went through a lane; samples."""

    audio: int = 0
    speech: int = 0
    missing: int = 0
    shed: int = 0
    hypotheses: int = 0


class Lane:
    """Audio of one participant on its way to words."""

    __slots__ = (
        "_anchors",
        "_answered",
        "_away",
        "_bytes",
        "_choice",
        "_last_end_us",
        "_opened_s",
        "_prefix",
        "_rate",
        "_record",
        "_stream",
        "_tools",
        "_unheard",
        "_unheard_samples",
        "_utterances",
        "_voice",
        "_window",
        "over",
        "owner",
        "position",
        "spec",
        "totals",
    )

    def __init__(
        self,
        spec: LaneSpec,
        choice: LanguageChoice,
        tools: LaneTools,
        owner: LaneOwner,
        *,
        record: Callable[[int, bytes], None] | None = None,
    ) -> None:
        self.spec = spec
        self.owner = owner
        self.position = 0
        self.totals = LaneTotals()
        self.over = False
        self._tools = tools
        self._choice = choice
        self._rate = spec.rate_hz
        self._bytes = SAMPLE_BYTES[spec.encoding]
        # Wall clock of a position: that of the last anchor before it. A pause sets a new one.
        self._anchors = [(0, tools.now_us())]
        # Ids of utterances must not come again, whatever number the caller begins with.
        self._prefix = f"{self._anchors[0][1]:x}"
        self._record = record
        self._voice = tools.make_voice(spec.rate_hz)
        self._unheard: list[bytes] = []
        self._unheard_samples = 0
        self._window: SpeechWindow | None = None
        if self._voice is not None and tools.listens:
            self._window = SpeechWindow(spec.rate_hz, self._voice.frame_samples)
        self._utterances: OrderedDict[str, Hypothesis] = OrderedDict()
        self._last_end_us = 0
        self._opened_s = tools.now()
        self._away = False
        self._answered = 0  # up to here, the recogniser has said what it heard
        self._stream: SpeechStream | None = None
        if tools.recogniser is not None:
            stream = StreamSpec(
                conversation=spec.conversation,
                participant=spec.name,
                format=spec.format,
                rate_hz=spec.rate_hz,
                channel=spec.channel,
                language=choice.language,
            )
            self._stream = tools.recogniser.open(stream, self)

    # -- audio ----------------------------------------------------------------------------

    def audio(self, audio: bytes, sequence: int) -> None:
        """Take the next audio, whole samples; ``sequence`` is the number of its last frame."""
        start = self.position
        count = len(audio) // self._bytes
        self.position = start + count
        self.totals.audio += count
        if self._voice is not None:
            # Nobody waits for this: done a second at a time it costs a third.
            self._unheard.append(audio)
            self._unheard_samples += count
            if self._unheard_samples >= self._rate:
                self._listen()
        if self._stream is not None:
            self._stream.send(AudioChunk(audio, sequence, self._choice.language, start))
        if self._record is not None:
            self._record(start, audio)

    def skip(self, samples: int, *, cause: str, detail: str = "") -> None:
        """Count in samples that did not come, and record them as missing."""
        if samples <= 0:
            return
        start = self.position
        self.position = start + samples
        self.totals.missing += samples
        self._missing(cause, start, self.position, detail=detail)

    def _missing(self, cause: str, start: int, end: int, *, detail: str = "") -> None:
        if end <= start:
            return
        self._tools.accept(
            Missing(
                self.spec.conversation,
                self.spec.name,
                cause,
                self.time_us(start),
                self.time_us(end),
                self._tools.now_us(),
                start,
                end,
                detail,
            )
        )

    def resume(self, position: int, now_us: int) -> None:
        """Go on after a pause at a position of the caller's clock, which is now."""
        self.position = max(self.position, position)
        self._anchors.append((self.position, now_us))
        del self._anchors[1:-MAX_ANCHORS]

    def finish(self) -> None:
        """End of audio; the owner hears when the last result is there."""
        if self._unheard:
            self._listen()
        if self._stream is None:
            self._end()
        else:
            self._stream.finish()

    def abort(self) -> None:
        """Wait for nothing any more; what the recogniser has not answered for is missing."""
        if not self.over and self._stream is not None:
            self.totals.shed += self.position - self._answered
            self._missing("shed", self._answered, self.position, detail="not answered in time")
        self.over = True
        self._tools.forget(self)
        if self._stream is not None:
            self._stream.abort()

    @property
    def pressure(self) -> float:
        """How full the buffer towards the recogniser is, 0..1."""
        return 0.0 if self._stream is None else self._stream.pressure

    @property
    def is_ahead(self) -> bool:
        """Whether more audio came than time has passed, and the recogniser is there to wait for."""
        elapsed_s = self._tools.now() - self._opened_s
        return not self._away and self.position > (elapsed_s + AHEAD_S) * self._rate

    def time_us(self, samples: int) -> int:
        """Return the wall-clock time of a position, UTC microseconds."""
        at, origin_us = self._anchors[-1]
        if samples < at:
            at, origin_us = next(one for one in reversed(self._anchors) if one[0] <= samples)
        return origin_us + (samples - at) * 1_000_000 // self._rate

    # -- language -------------------------------------------------------------------------

    @property
    def language(self) -> str:
        """Best tag so far."""
        return self._choice.language

    def declared(self, language: str) -> None:
        """The platform says which language is spoken."""
        self._changed(self._choice.declared(language))

    def guessed(self, guess: LanguageGuess) -> None:
        """An identifier has answered."""
        self._changed(self._choice.guess(guess, now=self._tools.now()))

    def _listen(self) -> None:
        assert self._voice is not None
        unheard, self._unheard, self._unheard_samples = self._unheard, [], 0
        samples = decode(b"".join(unheard), self.spec.encoding)
        flags = self._voice.feed(samples)
        speech = flags.count(1) * self._voice.frame_samples
        self.totals.speech += speech
        if self._window is None or self._choice.is_settled:
            return
        heard_ms = self._window.add(samples, flags)
        wanted_ms = self._choice.add_speech(heard_ms) if heard_ms else 0
        if wanted_ms:
            self._tools.identify(self, self._window.newest(wanted_ms))

    def _changed(self, event: LanguageEvent | None) -> None:
        if event is None:
            return
        if isinstance(event, LanguageChanged):
            if self._window is not None:
                self._window.clear()
            self._tools.accept(
                LanguageHeard(
                    self.spec.conversation,
                    self.spec.name,
                    event.previous,
                    event.language,
                    event.confidence,
                    self._choice.speech_ms // 1000,
                    self._tools.now_us(),
                )
            )
        self.owner.on_language(self, event)

    # -- results --------------------------------------------------------------------------

    def on_speech(self, event: SpeechEvent) -> None:
        """Take what the recogniser says."""
        if isinstance(event, Hypothesis):
            if event.is_final and event.end_samples > self._answered:
                self._answered = event.end_samples
            if event.text:
                self._heard(event)
        elif isinstance(event, AudioShed):
            self._shed(event)
        elif event.state is StreamState.OVER:
            self._end()
        else:
            self._away = event.state is StreamState.AWAY

    def _heard(self, heard: Hypothesis) -> None:
        self.totals.hypotheses += 1
        if heard.is_final:
            self._final(heard)
        self.owner.on_hypothesis(self, heard)

    def _final(self, heard: Hypothesis) -> None:
        tools, spec = self._tools, self.spec
        utterance = self.utterance_name(heard)
        self._utterances[utterance] = heard
        if len(self._utterances) > MAX_UTTERANCES:
            self._utterances.popitem(last=False)
        ended_us = self.time_us(heard.end_samples)
        # Times of a lane grow: the order of what was said is the order it was heard in.
        self._last_end_us = ended_us = max(ended_us, self._last_end_us + 1)
        tools.accept(
            Fragment(
                spec.conversation,
                spec.name,
                heard.text,
                heard.confidence,
                True,
                heard.language or self._choice.language,
                ended_us,
                utterance,
                self.time_us(heard.start_samples),
                ended_us,
                spec.role,
                tools.now(),
            )
        )
        if tools.reads and not self._choice.is_settled:
            words = self._choice.add_text(heard.text)
            if words is not None:
                tools.read(self, words)

    def utterance_name(self, heard: Hypothesis) -> str:
        """Return the name that a hypothesis' utterance has in the records."""
        return f"{self._prefix}.{heard.utterance}"

    def utterance(self, name: str) -> Hypothesis | None:
        """Return the final that a stored sentence came from; it is kept for a while."""
        return self._utterances.get(name)

    def _shed(self, event: AudioShed) -> None:
        self.totals.shed += event.to_samples - event.from_samples
        self._answered = max(self._answered, event.to_samples)
        self._missing("shed", event.from_samples, event.to_samples)

    def _end(self) -> None:
        if not self.over:
            self.over = True
            self._tools.forget(self)
            self.owner.on_lane_over(self)
