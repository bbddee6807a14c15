"""One lane's stream to a speech service, over as many calls as it takes.

The machine decides what is sent next, what an answer acknowledges, what is given up, when a
call is opened again, and when the stream is over. It sees no bytes of the network: the adapter
encodes what ``next_audio`` returns and tells what it decoded.

    state      how it is left
    WAITING    opened() → OPENING; finish() with nothing held → OVER
    OPENING    confirmed() or an answer or ``settle_s`` without an end → OPEN; broke() → WAITING
    OPEN       broke(), peer_ended() before our half-close → WAITING; after it → OVER
    OVER       never

Audio may be written from OPENING on. ``UP`` is told once a call is OPEN, ``AWAY`` once for each
cause of an outage, ``OVER`` last of all.

Resume. What is written stays in the replay buffer until it is acknowledged. A new call begins
behind the last acknowledged number. A full buffer lets go of its oldest audio: silently if it
was written on the call that is running (it was handed over; a service that never acknowledges
must not look as if it lost audio), else as ``AudioShed``, joined into one event while it goes
on. When a call breaks and audio before it had been let go, that audio is out of reach and is
told as ``AudioShed`` too: it may have been heard, but nobody can say so.

Answers. A result of the document's contract acknowledges its number. One at or below the last
acknowledged number is a repeat and is dropped, with one exception: the same call may give more
text for the number just acknowledged. With ``steno.v1``, finals after a resume may reach back
into a chunk whose first half was in the final before; words that end before what was heard are
taken out. An utterance that was open at the break keeps its name: the first new utterance of
the next call covers the same audio and takes it over.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, StrEnum
from typing import Final

import msgspec

from steno.core.replay import Budget, Replay, Span, join
from steno.core.timing import Backoff
from steno.core.transcript import RawText
from steno.errors import RemoteProtocolError
from steno.ports.speech import (
    AudioChunk,
    AudioShed,
    Hypothesis,
    SpeechEvent,
    SpeechWord,
    StreamChanged,
    StreamSpec,
    StreamState,
)

MAX_OPEN_UTTERANCES: Final = 32
LONG_CALL_S: Final = 10.0
"""A call that lasted so long was a good one, though nothing may have come from it."""
SAMPLE_BYTES: Final = {"PCMU": 1, "PCMA": 1, "L16": 2}


class State(StrEnum):
    """Where the stream is; see the module."""

    WAITING = "waiting"
    OPENING = "opening"
    OPEN = "open"
    OVER = "over"


# Looking a member up in its class takes longer than most of what is done for a chunk.
_WAITING: Final = State.WAITING
_OPENING: Final = State.OPENING
_OPEN: Final = State.OPEN
_OVER: Final = State.OVER


class Pace(Enum):
    """How soon a call is tried again after it broke."""

    SOON = "soon"
    BUSY = "busy"  # the service has too much to do: a longer first delay
    SLOWLY = "slowly"  # it refuses us; only an operator can change that


class Move(Enum):
    """What the adapter has to do when a deadline has passed."""

    NOTHING = "nothing"
    OPEN = "open"
    BREAK = "break"  # end the call and tell ``broke`` with ``TimedOut``
    OVER = "over"  # end the call, if any; the stream is over


class Limits(msgspec.Struct, frozen=True):
    """Times in seconds.

    Attributes:
        buffer_s: Audio kept for one stream.
        finish_s: From ``finish`` to the end, whatever the service does.
        settle_s: A call that has lasted so long is up, though nothing has come from it.
        stall_s: Audio waits and none could be written for so long: the call is broken.
        merge_s: Audio that waits is joined into messages of at most this length.
        shed_report_s: While audio is given up, it is told so often.
        first_s, cap_s: Shortest and longest delay before a call is opened again.
        busy_first_s: Shortest delay when the service said it is busy.
        refused_s: Delay when it refused us.
    """

    buffer_s: float = 30.0
    finish_s: float = 30.0
    settle_s: float = 1.0
    stall_s: float = 15.0
    merge_s: float = 1.0
    shed_report_s: float = 5.0
    first_s: float = 0.1
    cap_s: float = 5.0
    busy_first_s: float = 1.0
    refused_s: float = 30.0


class SpeechStreamMachine:
    """See the module.

    Args:
        budget: Shared by all streams of the process.
    """

    def __init__(self, spec: StreamSpec, *, limits: Limits, budget: Budget) -> None:
        self.spec = spec
        self._limits = limits
        sample_bytes = SAMPLE_BYTES[spec.format]
        self._buffer_bytes = max(1, int(limits.buffer_s * spec.rate_hz) * sample_bytes)
        self._merge_bytes = int(limits.merge_s * spec.rate_hz) * sample_bytes
        self._replay: Replay[AudioChunk] = Replay(sample_bytes=sample_bytes, budget=budget)
        self.state = _WAITING
        self._events: list[SpeechEvent] = []
        self._soon = Backoff(limits.first_s, limits.cap_s)
        self._busy = Backoff(limits.busy_first_s, max(limits.cap_s, limits.busy_first_s))
        self._retry_at = 0.0
        self._opened_at = 0.0
        self._finish_at: float | None = None
        self._stalled_at: float | None = None
        self._end_sent = False
        self._told: tuple[StreamState, str] | None = None
        self._shed: Span | None = None
        self._shed_since = 0.0
        self._calls = 0
        self.has_answered = False
        """Something came from the service on the present call, or the last one."""
        self._acked_on_this_call = False
        self._last_text = ""
        self._last_span = Span(0, 0, 0, 0)
        self._extra = 0
        self._utterances = 0
        self._open_names: dict[str, str] = {}
        self._inherited: deque[str] = deque()
        self._heard_to = 0
        self.resent = 0
        """Chunks written again."""
        self.repeats = 0
        """Answers dropped as repeats."""
        self.shed_bytes = 0
        """Audio told as shed."""

    # --- audio -------------------------------------------------------------------------------

    @property
    def held_bytes(self) -> int:
        """Audio kept."""
        return self._replay.held_bytes

    @property
    def has_audio(self) -> bool:
        """Something waits to be written."""
        return self._replay.next_waiting is not None

    @property
    def is_finishing(self) -> bool:
        """No audio follows."""
        return self._finish_at is not None

    @property
    def is_writable(self) -> bool:
        """A call is there to write to."""
        return self.state is _OPENING or self.state is _OPEN

    @property
    def wants_end(self) -> bool:
        """All audio is written and no more comes: half-close, then say ``end_sent``."""
        return (
            self._finish_at is not None
            and not self._end_sent
            and self.is_writable
            and self._replay.next_waiting is None
        )

    @property
    def pressure(self) -> float:
        """Share of the buffer that waits, 0..1. What was written does not count: it can go."""
        return min(1.0, self._replay.waiting_bytes / self._buffer_bytes)

    @property
    def is_fresh(self) -> bool:
        """It waits for its first call, and has not been told of an outage."""
        return self.state is _WAITING and self._told is None

    @property
    def resume_from(self) -> int | None:
        """Lowest number that a new call may carry; None at the beginning."""
        replay = self._replay
        if replay.sent_through is None:
            return None
        waiting = replay.next_waiting
        if replay.acked_through is not None:
            return replay.acked_through + 1
        return waiting.sequence_number if waiting is not None else replay.sent_through + 1

    def push(self, chunk: AudioChunk, *, now: float) -> None:
        """Take audio in; may give up the oldest. Ignored after ``finish``."""
        if self._finish_at is not None or self.state is _OVER or not chunk.audio:
            return
        replay = self._replay
        replay.push(chunk)
        while replay.held_bytes > self._buffer_bytes and self.give_up_oldest(now=now):
            pass

    @property
    def may_write_through(self) -> bool:
        """A chunk that comes now need not wait: nothing waits, and the call is up and well."""
        return (
            self.state is _OPEN
            and not self._replay.waiting_bytes
            and self._finish_at is None
            and self._shed is None
            and self._stalled_at is None
        )

    def wrote_through(self, chunk: AudioChunk) -> None:
        """Take in a chunk that has just been written; only while ``may_write_through``.

        It is what ``push`` and ``next_audio`` would come to, without the way through the queue.
        """
        replay = self._replay
        replay.push_written(chunk)
        while replay.held_bytes > self._buffer_bytes:
            replay.let_go()

    def give_up_oldest(self, *, now: float) -> bool:
        """Let go of the oldest chunk, by the rule of the module; False when nothing is held."""
        if self._replay.let_go():
            return True
        if self._replay.next_waiting is None:
            return False
        self._tell_shed(self._replay.shed(), now=now)
        return True

    def next_audio(self) -> AudioChunk | None:
        """Return what to write next, counted as written; None when nothing waits.

        When several chunks wait they come joined, as long as language and position run on.
        """
        replay = self._replay
        if replay.next_waiting is None or not self.is_writable:
            return None
        self._stalled_at = None
        if self._shed is not None:
            self._report_shed()  # what was given up lies in front of what goes out now
        sent = replay.sent_through
        first = replay.take()
        if sent is not None and first.sequence_number <= sent:
            self.resent += 1
        if replay.next_waiting is None:
            return first
        return self._joined(first, sent)

    def _joined(self, first: AudioChunk, sent: int | None) -> AudioChunk:
        replay = self._replay
        parts = [first.audio]
        size = len(first.audio)
        last = first
        while (following := replay.next_waiting) is not None:
            size += len(following.audio)
            end = last.start_samples + len(last.audio) // replay.sample_bytes
            if (
                size > self._merge_bytes
                or following.language != first.language
                or following.start_samples != end
            ):
                break
            last = replay.take()
            parts.append(last.audio)
            if sent is not None and last.sequence_number <= sent:
                self.resent += 1
        if last is first:
            return first
        audio = b"".join(parts)
        return AudioChunk(audio, last.sequence_number, first.language, first.start_samples)

    def blocked(self, *, now: float) -> None:
        """Audio waits and the call has no room for it."""
        if self._stalled_at is None:
            self._stalled_at = now

    def finish(self, *, now: float) -> None:
        """No audio follows."""
        if self._finish_at is not None or self.state is _OVER:
            return
        self._finish_at = now + self._limits.finish_s
        if self.state is _WAITING and not self._replay.has_unanswered:
            self._over("")

    def end_sent(self) -> None:
        """The call was half-closed."""
        self._end_sent = True

    # --- calls -------------------------------------------------------------------------------

    def opened(self, *, now: float) -> None:
        """A call was opened; writing begins behind what is acknowledged."""
        if self.state is not _WAITING:
            raise ValueError("a call is open already")
        self._calls += 1
        self.has_answered = self._acked_on_this_call = False
        self._end_sent = False
        self._stalled_at = None
        self._opened_at = now
        self.state = _OPENING
        self._report_shed()

    def confirmed(self) -> None:
        """The service has taken the call: something came back."""
        self.has_answered = True
        self._is_up()

    def _is_up(self) -> None:
        if self.state is _OPENING:
            self.state = _OPEN
            self._tell(StreamState.UP, "")

    def is_unproven(self, now: float) -> bool:
        """Whether an end of the call is a refusal: nothing came from it, and it is young.

        A loaded service refuses late, when ``settle_s`` is over and the call is ``OPEN``.
        """
        if self.state is _OPEN:
            return not self.has_answered and now - self._opened_at < LONG_CALL_S
        return self.state is _OPENING

    def broke(
        self,
        cause: str,
        *,
        now: float,
        draw: float,
        pace: Pace = Pace.SOON,
        retry_after_s: float | None = None,
    ) -> None:
        """The call is gone, or could not be opened: it is tried again later.

        Args:
            cause: An error class of ours.
            draw: Uniform in [0, 1).
            retry_after_s: The service's wish; a lower bound.
        """
        if self.state is _OVER:
            return
        self.state = _WAITING
        lost = self._replay.rewind()
        if lost is not None:
            self._tell_shed(lost, now=now)
        self._inherited.extend(self._open_names.values())
        self._open_names.clear()
        if pace is Pace.SLOWLY:
            delay_s = self._limits.refused_s * (1.0 + 0.1 * draw)
        else:
            if now - self._opened_at >= LONG_CALL_S:
                self._soon.reset()
                self._busy.reset()
            backoff = self._soon if pace is Pace.SOON else self._busy
            # The first of decorrelated delays is the same for all who broke together.
            delay_s = backoff.next_delay(draw) + draw * self._limits.first_s
        if retry_after_s is not None:
            delay_s = max(delay_s, retry_after_s * (1.0 + 0.1 * draw))
        self._retry_at = now + delay_s
        if self._finish_at is not None and not self._replay.has_unanswered:
            self._over("")
        else:
            self._tell(StreamState.AWAY, cause)

    def peer_ended(self, *, now: float, draw: float) -> None:
        """The service ended the call with OK: the end after a half-close, a break before it."""
        if self._end_sent and self.is_writable:
            self._over("")
        else:
            self.broke("StreamEnded", now=now, draw=draw)

    def postpone(self, until: float) -> None:
        """Do not open a call before this time."""
        self._retry_at = max(self._retry_at, until)

    def hasten(self, at: float) -> None:
        """The service is known to be back: open a call at this time rather than later."""
        self._retry_at = min(self._retry_at, at)

    def give_up(self, *, now: float) -> None:
        """End though not everything was answered for: what waits was never heard."""
        if self.state is _OVER:
            return
        while self._replay.next_waiting is not None:
            self._tell_shed(self._replay.shed(), now=now)
        self._over("TimedOut")

    def abort(self) -> None:
        """Let go of everything; no event follows."""
        self.state = _OVER
        self._replay.clear()
        self._events.clear()

    def _over(self, cause: str) -> None:
        for name in (*self._inherited, *self._open_names.values()):
            # What was heard in part and never finished is taken back.
            self._events.append(Hypothesis(-1, RawText(""), True, name))
        self._inherited.clear()
        self._open_names.clear()
        self._report_shed()
        self._replay.clear()
        self.state = _OVER
        self._tell(StreamState.OVER, cause)

    # --- answers -----------------------------------------------------------------------------

    def on_result(self, number: int, text: str, language_confidence: float | None) -> None:
        """Take a result of the document's contract in.

        Raises:
            RemoteProtocolError: It answers for audio that was never sent.
        """
        self._answered(number)
        replay = self._replay
        acked = replay.acked_through
        span = replay.acknowledge(number) if acked is None or number > acked else None
        if span is None and acked is not None and number <= acked:
            is_more = self._acked_on_this_call and number == acked
            if not is_more or not text or text == self._last_text:
                self.repeats += 1
                return
            self._extra += 1
            name = f"s{number}.{self._extra}"
        else:
            self._extra = 0
            self._acked_on_this_call = True
            name = f"s{number}"
        if span is None:
            span = self._last_span
        self._last_span, self._last_text = span, text
        self._events.append(
            Hypothesis(
                number,
                RawText(text),
                True,
                name,
                language_confidence=language_confidence,
                start_samples=span.from_samples,
                end_samples=span.to_samples,
            )
        )

    def on_hypothesis(self, heard: Hypothesis) -> None:
        """Take a hypothesis of ``steno.v1`` in; ``through`` is -1 where it acknowledges nothing.

        Raises:
            RemoteProtocolError: It answers for audio that was never sent.
        """
        through = heard.through if heard.is_final else -1
        if through >= 0:
            self._answered(through)
            acked = self._replay.acked_through
            if acked is not None and through <= acked:
                through = -1
            else:
                self._last_span = self._replay.acknowledge(through) or self._last_span
        else:
            self._progress()
        if heard.is_final and self._calls > 1 and heard.text:
            heard = self._without_repeats(heard)
        name = self._name_of(heard.utterance, is_final=heard.is_final)
        start, end = heard.start_samples, heard.end_samples
        if end <= start:
            start, end = self._last_span.from_samples, self._last_span.to_samples
        if heard.is_final and heard.text:
            self._heard_to = max(self._heard_to, end)
        self._events.append(
            msgspec.structs.replace(
                heard, through=through, utterance=name, start_samples=start, end_samples=end
            )
        )

    def on_acknowledged(self, through: int) -> None:
        """Take an acknowledgement without text in; passed on as an empty final.

        Raises:
            RemoteProtocolError: It answers for audio that was never sent.
        """
        self._answered(through)
        acked = self._replay.acked_through
        if acked is not None and through <= acked:
            return
        span = self._replay.acknowledge(through) or self._last_span
        self._last_span = span
        self._events.append(
            Hypothesis(
                through,
                RawText(""),
                True,
                f"a{through}",
                start_samples=span.from_samples,
                end_samples=span.to_samples,
            )
        )

    def _answered(self, through: int) -> None:
        sent = self._replay.sent_through
        if sent is None or through > sent:
            raise RemoteProtocolError("an answer goes beyond the audio that was sent")
        self._progress()

    def _progress(self) -> None:
        self._soon.reset()
        self._busy.reset()
        self.has_answered = True
        if self.state is _OPENING:
            self._is_up()

    def _without_repeats(self, heard: Hypothesis) -> Hypothesis:
        """Take out what a final before the break has said already."""
        if not heard.words:
            is_repeat = heard.start_samples < heard.end_samples <= self._heard_to
            if not is_repeat:
                return heard
            self.repeats += 1
            return msgspec.structs.replace(heard, text=RawText(""))
        words = tuple(word for word in heard.words if not self._is_heard(word))
        if len(words) == len(heard.words):
            return heard
        self.repeats += 1
        if not words:
            return msgspec.structs.replace(heard, text=RawText(""), words=())
        return msgspec.structs.replace(
            heard,
            text=RawText(" ".join(word.text for word in words)),
            words=words,
            start_samples=words[0].start_samples,
        )

    def _is_heard(self, word: SpeechWord) -> bool:
        return word.start_samples + word.end_samples <= 2 * self._heard_to  # by its middle

    def _name_of(self, theirs: str, *, is_final: bool) -> str:
        name = self._open_names.pop(theirs, None)
        if name is None:
            if self._inherited:
                name = self._inherited.popleft()
            else:
                self._utterances += 1
                name = f"u{self._utterances}"
        if not is_final:
            if len(self._open_names) >= MAX_OPEN_UTTERANCES:
                oldest = next(iter(self._open_names))
                self._events.append(Hypothesis(-1, RawText(""), True, self._open_names.pop(oldest)))
            self._open_names[theirs] = name
        return name

    # --- deadlines and events ----------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """``events`` would return something."""
        return bool(self._events)

    @property
    def needs_watch(self) -> bool:
        """``next_deadline`` may say something."""
        return (
            self.state is not _OPEN
            or self._stalled_at is not None
            or self._finish_at is not None
            or self._shed is not None
        )

    def next_deadline(self) -> float | None:
        """Return when ``on_deadline`` has something to do; None: not before something happens."""
        if self.state is _OVER or not self.needs_watch:
            return None
        times: list[float] = []
        if self.state is _WAITING:
            times.append(self._retry_at)
        elif self.state is _OPENING:
            times.append(self._opened_at + self._limits.settle_s)
        if self._stalled_at is not None and self.is_writable:
            times.append(self._stalled_at + self._limits.stall_s)
        if self._finish_at is not None:
            times.append(self._finish_at)
        if self._shed is not None:
            times.append(self._shed_since + self._limits.shed_report_s)
        return min(times, default=None)

    def on_deadline(self, now: float) -> Move:
        """Do what is due and return what is left to the adapter."""
        if self.state is _OVER:
            return Move.NOTHING
        if self._finish_at is not None and now >= self._finish_at:
            self.give_up(now=now)
            return Move.OVER
        if self._shed is not None and now >= self._shed_since + self._limits.shed_report_s:
            self._report_shed()
        if self.state is _WAITING:
            return Move.OPEN if now >= self._retry_at else Move.NOTHING
        if self._stalled_at is not None and now >= self._stalled_at + self._limits.stall_s:
            return Move.BREAK
        if self.state is _OPENING and now >= self._opened_at + self._limits.settle_s:
            self._is_up()
        return Move.NOTHING

    def events(self) -> list[SpeechEvent]:
        """Return what happened since the last call, oldest first."""
        happened, self._events = self._events, []
        return happened

    def _tell(self, state: StreamState, cause: str) -> None:
        if self._told != (state, cause):
            self._told = (state, cause)
            self._events.append(StreamChanged(state, cause))

    def _tell_shed(self, span: Span, *, now: float) -> None:
        self.shed_bytes += (span.to_samples - span.from_samples) * self._replay.sample_bytes
        shed = self._shed
        if shed is not None and shed.to_sequence + 1 == span.from_sequence:
            self._shed = join(shed, span)
        else:
            self._report_shed()
            self._shed, self._shed_since = span, now

    def _report_shed(self) -> None:
        shed, self._shed = self._shed, None
        if shed is not None:
            self._events.append(
                AudioShed(shed.from_samples, shed.to_samples, shed.from_sequence, shed.to_sequence)
            )
