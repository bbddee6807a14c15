"""Recorded events in bulk: conversations of any number and length, made up line by line.

Made for measuring: nothing is kept, and a line costs about a microsecond. The same seed and
figures give the same bytes. What is blemished follows from a segment's place alone; ``Counts``
tells what a perfect collector is to make of it all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec

from steno_sim import people, wire
from steno_sim.pieces import stable_id
from steno_sim.recorded import BEGIN_US, Source
from steno_sim.wire import EventForm

_TEXTS = (
    "the parcel was meant to come on Tuesday and nobody rang at our door",
    "I looked at the tracking page again but it still says on its way",
    "let me check where the van is right now please stay on the line",
    "your new delivery date has been written down for Thursday morning",
    "is there anything else that I can do for you today",
    "el paquete tenía que llegar el martes y nadie ha llamado a la puerta",
    "un momento que lo consulto ahora mismo con el almacén",
    "yes that would suit me well thank you very much",
)
_SECRET = "you can reach me on 415-555-0142 in the evening"  # noqa: S105  # a planted number
_SPACING_MS = 3000  # from the start of a segment to that of the next of its conversation
_SPOKEN_MS = 2600
_OVERLAP_MS = 900  # every tenth goes on so long into the next
_LATE_STEPS = 2  # a late final comes after so many further segments
_FLUSH_LINES = 4096


class Counts(msgspec.Struct):
    """What a bulk of events holds, and what is to come out of it.

    ``result``, ``unsure`` (in the result, below 0.85), ``low_confidence``, ``no_speaker`` and
    ``never_final`` are verdicts and add up to ``segments``.
    """

    events: int = 0
    conversations: int = 0
    segments: int = 0
    result: int = 0
    unsure: int = 0
    low_confidence: int = 0
    no_speaker: int = 0
    never_final: int = 0
    corrected: int = 0
    repeated: int = 0
    late: int = 0
    secrets: int = 0


class Line(msgspec.Struct):
    """One transcript: its place, and what it says.

    ``text`` is JSON, times are milliseconds of the conversation, ``confidence`` is in
    hundredths, ``speaker`` is below 0 when nobody is named.
    """

    number: int
    step: int
    speaker: int
    text: str
    begin: int
    end: int
    confidence: int
    final: bool


class _Writer(Protocol):
    def opening(self, number: int) -> str: ...

    def line(self, one: Line) -> str: ...

    def closing(self, number: int) -> str: ...


class Bulk:
    """Events of made-up conversations.

    Conversations are in progress ``at_once`` at a time, and end before others begin. Each
    segment has ``partials`` growing partials and a final. About one in 101 names no speaker,
    in 103 is below 0.5, in 21 below 0.85, in 107 never final, in 109 corrected, in 113 late,
    in 127 sent twice; one in 50 holds a telephone number, one in 10 overlaps the next.
    """

    def __init__(
        self,
        conversations: int,
        segments: int,
        *,
        seed: int = 0,
        source: Source = "event-socket",
        form: EventForm = "wrapped",
        partials: int = 1,
        at_once: int = 50,
    ) -> None:
        self.counts = Counts(conversations=conversations)
        self._segments = segments
        self._seed = seed & 0xFFFF
        self._at_once = max(1, at_once)
        texts = [*_TEXTS, _SECRET]
        self._finals = [_json(f"{t[0].upper()}{t[1:]}.") for t in texts]
        self._firsts = [_json(t.rsplit(" ", 1)[0]) for t in texts]
        self._partials = [_growing(t, partials) for t in texts]
        self._writer: _Writer = (
            _EventWriter(self._seed, form)
            if source == "event-socket"
            else _TopicWriter(self._seed, segments, self._at_once)
        )

    def chunks(self) -> Iterator[bytes]:
        """Give the events, some thousands at a time, each with its line end."""
        for first in range(0, self.counts.conversations, self._at_once):
            last = min(first + self._at_once, self.counts.conversations)
            yield from self._group(range(first, last))

    def _group(self, numbers: range) -> Iterator[bytes]:
        writer, late = self._writer, dict[int, list[str]]()
        out = [writer.opening(number) for number in numbers]
        for step in range(self._segments):
            for number in numbers:
                self._segment(number, step, out, late)
            out += late.pop(step, [])
            if len(out) >= _FLUSH_LINES:
                yield self._flush(out)
        for step in sorted(late):
            out += late[step]
        out += [writer.closing(number) for number in numbers]
        yield self._flush(out)

    def _flush(self, out: list[str]) -> bytes:
        data = "".join(out).encode()
        self.counts.events += data.count(b"\n")
        out.clear()
        return data

    def _segment(self, number: int, step: int, out: list[str], late: dict[int, list[str]]) -> None:
        """Write one segment; what comes late waits under the step that it comes after."""
        counts, write = self.counts, self._writer.line
        place = number * 31 + step + self._seed
        begin = step * _SPACING_MS + place % 97
        end = begin + _SPOKEN_MS + place % 89 + (_OVERLAP_MS if place % 10 == 3 else 0)
        secret = place % 50 == 11
        which = len(_TEXTS) if secret else place % len(_TEXTS)
        counts.segments += 1
        counts.secrets += secret
        speaker, confidence, final = self._judge(place, (step + number) % 2)
        line = Line(number, step, speaker, "", begin, end - 400, confidence - 5, False)
        for text in self._partials[which]:
            line.text = text
            out.append(write(line))
        if not final:
            return
        line.final = True
        if place % 109 == 4:
            counts.corrected += 1
            line.text, line.confidence = self._firsts[which], confidence - 3
            out.append(write(line))
        line.text, line.end, line.confidence = self._finals[which], end, confidence
        written = write(line)
        if place % 113 == 5:
            counts.late += 1
            late.setdefault(step + _LATE_STEPS, []).append(written)
            return
        out.append(written)
        if place % 127 == 6:
            counts.repeated += 1
            out.append(written)

    def _judge(self, place: int, speaker: int) -> tuple[int, int, bool]:
        """Give speaker, confidence and whether a final comes; count the verdict."""
        counts = self.counts
        if place % 101 == 0:
            counts.no_speaker += 1
            return -1, 90 + place % 9, True
        if place % 103 == 1:
            counts.low_confidence += 1
            return speaker, 31, True
        if place % 107 == 3:
            counts.never_final += 1
            return speaker, 90 + place % 9, False
        if place % 21 == 2:
            counts.unsure += 1
            return speaker, 70, True
        counts.result += 1
        return speaker, 90 + place % 9, True


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _growing(text: str, count: int) -> list[str]:
    """Give so many partials of a text, each longer than the one before, as JSON."""
    words = text.split()
    return [
        _json(" ".join(words[: max(1, len(words) * n // (count + 1))])) for n in range(1, count + 1)
    ]


class _EventWriter:
    """Lines as on the event socket."""

    def __init__(self, seed: int, form: EventForm) -> None:
        self._seed = seed
        inner = (
            f'{{"eventType":"{wire.SEGMENT_EVENT}","conversationId":"5e900000-{seed:04x}-4000-8000-'
        )
        bare = (inner, "]}\n")
        wrapped = (f'{{"type":"{wire.SEGMENT_EVENT}","data":{inner}', "]}}\n")
        forms = {"bare": (bare, bare), "wrapped": (wrapped, wrapped), "mixed": (wrapped, bare)}
        self._ends = forms[form]

    def opening(self, number: int) -> str:
        return ""

    def closing(self, number: int) -> str:
        return ""

    def line(self, one: Line) -> str:
        head, tail = self._ends[one.step & 1]
        label = f"speaker_{one.speaker}" if one.speaker >= 0 else ""
        return (
            f'{head}{one.number:012x}","transcripts":[{{"speaker":"{label}","text":{one.text},'
            f'"start":{one.begin / 1000},"end":{one.end / 1000},'
            f'"confidence":0.{one.confidence:02d},'
            f'"isFinal":{"true" if one.final else "false"}}}{tail}'
        )


class _TopicWriter:
    """Lines as on a notification channel, without the lists of words."""

    def __init__(self, seed: int, segments: int, at_once: int) -> None:
        self._seed = seed
        self._span_us = (segments + 1) * _SPACING_MS * 1000
        self._at_once = at_once
        self._queue = stable_id("queue", "bulk")
        self._users = [stable_id("user", "bulk", n) for n in range(at_once)]
        # What every line of a conversation in progress has: start, before and after its time.
        self._fixed: dict[int, tuple[int, str, str]] = {}

    def opening(self, number: int) -> str:
        zero_us = BEGIN_US + number // self._at_once * self._span_us
        tail, zero_ms = self._tail(number), zero_us // 1000
        conversation = f"5e900000{tail}"
        before = (
            f'{{"topicName":"{wire.transcription_topic(conversation)}","version":"2",'
            '"eventBody":{"eventTime":"'
        )
        after = (
            f'","organizationId":"{wire.ORGANIZATION_ID}","conversationId":"{conversation}",'
            f'"communicationId":"1e600000{tail}","sessionStartTimeMs":{zero_ms},'
            f'"transcriptionStartTimeMs":{zero_ms},'
        )
        self._fixed[number] = zero_us, before, after
        return self._people(number, 0) + self._status(number, 0, "SESSION_ONGOING")

    def closing(self, number: int) -> str:
        end_us = self._span_us
        last = self._status(number, end_us, "SESSION_ENDED") + self._people(number, end_us)
        del self._fixed[number]
        return last

    def line(self, one: Line) -> str:
        channel = ("UNKNOWN", "EXTERNAL", "INTERNAL")[one.speaker + 1]
        name = f"{one.step:08x}-{self._seed:04x}-4000-9000-{one.number:012x}"
        return self._event(
            one.number,
            one.end,
            f'"transcripts":[{{"utteranceId":"{name}",'
            f'"isFinal":{"true" if one.final else "false"},"channel":"{channel}",'
            '"engineProvider":"GENESYS","engineId":"r2d2","engineName":"r2d2","dialect":"en-US",'
            f'"alternatives":[{{"confidence":0.{one.confidence:02d},"offsetMs":{one.begin},'
            f'"durationMs":{one.end - one.begin},"transcript":{one.text.lower()},'
            f'"decoratedTranscript":{one.text}}}]}}],'
            f'"status":{{"offsetMs":{one.begin},"status":"SESSION_ONGOING"}}',
        )

    def _status(self, number: int, at_us: int, status: str) -> str:
        at_ms = at_us // 1000
        return self._event(number, at_ms, f'"status":{{"offsetMs":{at_ms},"status":"{status}"}}')

    def _event(self, number: int, at_ms: int, body: str) -> str:
        zero_us, before, after = self._fixed[number]
        name = f"{at_ms & 0xFFFFFFFF:08x}-{self._seed:04x}-4000-a000-{number:012x}"
        return (
            f"{before}{wire.milli_stamp(zero_us + at_ms * 1000)}{after}{body}}},"
            f'"metadata":{{"CorrelationId":"{name}"}}}}\n'
        )

    def _tail(self, number: int) -> str:
        return f"-{self._seed:04x}-4000-8000-{number:012x}"

    def _people(self, number: int, at_us: int) -> str:
        zero_us, tail = self._fixed[number][0], self._tail(number)
        cast = people.Cast(f"c0570000{tail}", self._queue, [f"1e600000{tail}"])
        cast.begin(0)
        agent = number % self._at_once
        cast.answer(f"a9e00000{tail}", self._users[agent], f"Agent {agent}", 0)
        cast.end(self._span_us)
        told = people.entity(
            f"5e900000{tail}",
            cast.people,
            at_us,
            lambda us: wire.milli_stamp(zero_us + us),
        )
        topic = f"v2.routing.queues.{self._queue}.conversations"
        name = f"{at_us // 1000 & 0xFFFFFFFF:08x}-{self._seed:04x}-4000-b000-{number:012x}"
        return wire.envelope(topic, told, correlation=name).decode() + "\n"
