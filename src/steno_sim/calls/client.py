"""The platform's end of an AudioHook session, sans-I/O, and strict about the server's end.

It says what the platform's client says, when it says it, and checks every message of the server
against ``rules.RULES``. Where the platform would give up (wrong sequence, wrong medium, missing
pong) it does the same: client ``error`` with its code, then ``close`` with reason ``error``.

States, and what a server may send in each::

    NEW       nothing was said yet        disconnect
    OPENING   open was sent, 5 s          opened disconnect
    OPEN      audio flows, or is paused   pong event pause resume updated reconnect disconnect
    CLOSING   close was sent, 10 s        the same, and closed
    CLOSED    closed came, or never will  nothing

Within OPEN two pauses are kept apart: the server's (``pause``/``resume``) and the platform's own
(``pause_self``/``resume_self``, a secure pause). Audio flows when neither holds.

``position`` is in samples from ``opened``. It is also the place in the sound being played: what
is discarded, or passes during a pause when ``clock_runs``, is skipped in both.

Source: AudioHook protocol reference, version 2; timers as in the vendor's reference client.
"""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from steno_sim.calls.audio import RATE_HZ, SAMPLE_BYTES, Format
from steno_sim.calls.entities import LANGUAGE, check_transcript, seconds
from steno_sim.calls.rules import Violation

NULL_ID = str(uuid.UUID(int=0))
MAX_CHARS = 65_535
RATE_PER_S, RATE_BURST = 5.0, 25.0
_LOG_LINES = 5000
_VIOLATIONS = 200


class State(StrEnum):
    """Where the session is."""

    NEW = "new"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


_IN_CALL = frozenset({"pong", "event", "pause", "resume", "updated", "reconnect", "disconnect"})
LEGAL: dict[State, frozenset[str]] = {
    State.NEW: frozenset({"disconnect"}),
    State.OPENING: frozenset({"opened", "disconnect"}),
    State.OPEN: _IN_CALL,
    State.CLOSING: _IN_CALL | {"closed"},
    State.CLOSED: frozenset(),
}
TYPES = _IN_CALL | {"opened", "closed"}


@dataclass(frozen=True, slots=True)
class Timers:
    """How long the client waits, in seconds."""

    opened_s: float = 5.0
    closed_s: float = 10.0
    first_ping_s: float = 1.0
    ping_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Offer:
    """One medium the platform offers."""

    channels: tuple[str, ...] = ("external", "internal")
    form: Format = "PCMU"
    rate_hz: int = RATE_HZ

    def message(self) -> dict[str, Any]:
        """Give it as it stands in ``open``."""
        return {
            "type": "audio",
            "format": self.form,
            "channels": list(self.channels),
            "rate": self.rate_hz,
        }

    @property
    def group_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return len(self.channels) * SAMPLE_BYTES[self.form]


USUAL_OFFERS = (Offer(), Offer(("external",)), Offer(("internal",)))


@dataclass(frozen=True, slots=True)
class Opening:
    """What ``open`` says, and what the session is."""

    organisation: str
    session: str
    conversation: str
    participant: str
    ani: str = "tel:+15550100"
    ani_name: str = ""
    dnis: str = "tel:+15550199"
    offers: tuple[Offer, ...] = USUAL_OFFERS
    language: str | None = "en-US"
    ask_languages: bool = False
    continued: tuple[tuple[str, int, int], ...] = ()
    custom: dict[str, Any] | None = None

    @property
    def is_probe(self) -> bool:
        """True for a connection probe: the null conversation."""
        return self.conversation == NULL_ID

    def parameters(self) -> dict[str, Any]:
        """Give the parameters of ``open``."""
        probe = self.is_probe
        found: dict[str, Any] = {
            "organizationId": self.organisation,
            "conversationId": self.conversation,
            "participant": {
                "id": NULL_ID if probe else self.participant,
                "ani": "" if probe else self.ani,
                "aniName": "" if probe else self.ani_name,
                "dnis": "" if probe else self.dnis,
            },
            "media": [offer.message() for offer in self.offers],
        }
        if self.language is not None:
            found["language"] = self.language
        if self.ask_languages:
            found["supportedLanguages"] = True
        if self.continued:
            names = ("id", "serverseq", "clientseq")
            found["continuedSessions"] = [
                dict(zip(names, each, strict=True)) for each in self.continued
            ]
        if self.custom is not None:
            found["customConfig"] = self.custom
        return found


class Entity(msgspec.Struct, frozen=True):
    """A result as it came: when, and how much audio had been sent by then."""

    at_ms: int
    position_ms: int
    data: dict[str, Any]

    @property
    def text(self) -> str:
        """The transcript of the best alternative."""
        try:
            return str(self.data["alternatives"][0]["interpretations"][0]["transcript"])
        except (KeyError, IndexError, TypeError):
            return ""

    @property
    def is_final(self) -> bool:
        """True for a final."""
        return self.data.get("isFinal") is True

    @property
    def channel(self) -> int:
        """Index of the channel; -1 when it has none."""
        found = self.data.get("channelId")
        return found if type(found) is int else -1


def duration(samples: int) -> str:
    """Give a duration string of a number of samples at 8 kHz."""
    return f"PT{samples / RATE_HZ:.6f}".rstrip("0").rstrip(".") + "S"


class Client:
    """One session; see the module's text.

    Attributes:
        selected: The offer the server took; None before ``opened`` or when it wants no audio.
        violations: Findings, in order, at most 200.
        entities: ``transcript`` entities, in order.
        disconnected: Reason of the server's ``disconnect``, or "".
        failed: True once the client gave up by itself (``error`` and ``close``).
        tolerant: Set by faults that make a ``disconnect`` the server's right.
        updates: ``update`` messages said and not yet answered.
    """

    def __init__(
        self,
        opening: Opening,
        *,
        now: float,
        timers: Timers | None = None,
        samples_per_s: float = RATE_HZ,
        clock_runs: bool = False,
        keep_log: bool = True,
    ) -> None:
        """Begin; ``samples_per_s`` is the pace of the clock while paused, if it runs."""
        self.opening = opening
        self.state = State.NEW
        self.selected: Offer | None = None
        self.position = 0
        self.start_paused = False
        self.violations: list[Violation] = []
        self.entities: list[Entity] = []
        self.log: list[dict[str, Any]] = []
        self.rtts_ms: list[float] = []
        self.languages: list[str] | None = None
        self.disconnected = ""
        self.closing_reason = ""
        self.reconnect_asked = False
        self.failed = False
        self.tolerant = False
        self.opened_ms: float | None = None
        self.closed_ms: float | None = None
        self.seq = 0
        self.server_seq = 0
        self.frames = 0
        self.audio_bytes = 0
        self._timers = timers or Timers()
        self._samples_per_s = samples_per_s if clock_runs else 0.0
        self._log_on = keep_log
        self._began = now
        self._out: deque[str] = deque()
        self._opened_by: float | None = None
        self._closed_by: float | None = None
        self._open_sent = self._close_sent = now
        self._ping_due: float | None = None
        self._ping_seq = 0
        self._ping_at: float | None = None
        self._quiet = False
        self._seen_clientseq = 0
        self.updates = 0
        self._blameless = False
        self._tokens, self._tokens_at = RATE_BURST, now
        self._finals: set[str] = set()
        self._server_pause = self._own_pause = False
        self._paused_at = now

    # What the driver asks for.

    def open(self, *, now: float) -> None:
        """Say ``open``."""
        self.state = State.OPENING
        self._open_sent = now
        self._opened_by = now + self._timers.opened_s
        self.say("open", self.opening.parameters(), now=now)

    def close(self, reason: str = "end", *, now: float) -> None:
        """Say ``close``; no audio follows. Does nothing once said."""
        if self.state in (State.CLOSING, State.CLOSED):
            return
        self.state = State.CLOSING
        self.closing_reason = reason
        self._close_sent = now
        self._opened_by = self._ping_due = None
        self._closed_by = now + self._timers.closed_s
        self._quiet = False
        self.say("close", {"reason": reason}, now=now)

    def pause_self(self, *, now: float) -> None:
        """Pause on the platform's side (a secure pause)."""
        if self.state is State.OPEN and not self._own_pause:
            if not self._server_pause:
                self._paused_at = now
            self._own_pause = True
            self.say("paused", {}, now=now)

    def resume_self(self, *, now: float) -> None:
        """End the platform's pause; audio flows again unless the server's pause holds."""
        if self.state is State.OPEN and self._own_pause:
            self._own_pause = False
            self._resumed(now)

    def discard(self, samples: int, *, now: float) -> None:
        """Drop so many samples and say so."""
        start = self.position
        self.position += samples
        self._say_discarded(start, samples, now)

    def discard_nothing(self, samples: int, *, now: float) -> None:
        """Say ``discarded`` although the audio goes on where it stood."""
        self._blameless = True
        self._say_discarded(self.position, samples, now)

    def update(self, language: str, *, now: float) -> None:
        """Say that the language changed."""
        self.updates += 1
        self.say("update", {"language": language}, now=now)

    def complain(self, code: int, text: str, *, now: float, retry_after: str = "") -> None:
        """Say ``error``; the session goes on."""
        self._blameless = True
        parameters: dict[str, Any] = {"code": code, "message": text}
        if retry_after:
            parameters["retryAfter"] = retry_after
        self.say("error", parameters, now=now)

    def say(self, kind: str, parameters: dict[str, Any], *, now: float) -> None:
        """Queue a message with the next ``seq``."""
        self.say_raw(self.build(kind, parameters), now=now)

    def build(self, kind: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Give a message with the next ``seq``, which it uses up."""
        self.seq += 1
        return {
            "version": "2",
            "id": self.opening.session,
            "type": kind,
            "seq": self.seq,
            "serverseq": self.server_seq,
            "position": duration(self.position),
            "parameters": parameters,
        }

    def say_raw(self, message: dict[str, Any] | str, *, now: float) -> None:
        """Queue a message, or any text at all, as it is."""
        text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
        self._out.append(text)
        shown: Any = message
        if isinstance(message, str):
            shown = {"text": message[:80]}
        self._note("client", shown, now)

    def to_send(self) -> list[str]:
        """Give the queued texts, oldest first, and forget them."""
        found = list(self._out)
        self._out.clear()
        return found

    # Audio.

    @property
    def may_send_audio(self) -> bool:
        """True while audio flows: open, a medium selected, nobody paused."""
        return self.state is State.OPEN and self.selected is not None and not self.paused

    @property
    def paused(self) -> bool:
        """True while either side's pause holds."""
        return self._server_pause or self._own_pause

    @property
    def own_pause(self) -> bool:
        """True while the platform's own pause holds."""
        return self._own_pause

    def audio_sent(self, samples: int, size: int, *, now: float) -> None:
        """Count one binary frame."""
        self.position += samples
        self.frames += 1
        self.audio_bytes += size
        if self._log_on:
            if self.log and "frames" in self.log[-1]:
                self.log[-1]["frames"] += 1
                self.log[-1]["bytes"] += size
            elif len(self.log) < _LOG_LINES:
                at = self._ms(now)
                self.log.append({"at_ms": at, "from": "client", "frames": 1, "bytes": size})

    # What the server sent.

    def receive_text(self, data: str | bytes, *, now: float) -> None:
        """Take a text message of the server: check it, and answer it."""
        if self.state is State.CLOSED:
            if not self.failed:
                self.found("closed.after", "a message", now)
            return
        self._spend(now)
        if len(data) > MAX_CHARS:
            self._give_up("message.size", 413, f"{len(data)} characters", now)
            return
        try:
            message = msgspec.json.decode(data)
        except msgspec.DecodeError:
            message = None
        if not isinstance(message, dict):
            self._give_up("message.json", 400, "no JSON object", now)
            return
        self._note("server", message, now)
        if self._envelope(message, now):
            self._dispatch(str(message["type"]), message["parameters"], message["clientseq"], now)

    def receive_binary(self, size: int, *, now: float) -> None:
        """Take a binary frame of the server: none is expected."""
        self._give_up("binary.unexpected", 415, f"{size} bytes", now)

    def socket_ended(self, code: int, *, now: float) -> None:
        """Take the end of the socket that the client did not end."""
        if self.state is not State.CLOSED and not self.failed and not self.tolerant:
            self.found("socket.ended", f"{self.state}, code {code}", now)
        self.state = State.CLOSED

    # Time.

    def next_deadline(self) -> float | None:
        """Give when ``on_deadline`` is due next, or None."""
        due = [d for d in (self._opened_by, self._closed_by, self._ping_due) if d is not None]
        return min(due) if due else None

    def on_deadline(self, now: float) -> None:
        """Do what has fallen due."""
        if self._opened_by is not None and now >= self._opened_by:
            self._opened_by = None
            self._give_up("opened.late", 408, f"{now - self._open_sent:.1f} s", now)
        if self._ping_due is not None and now >= self._ping_due:
            if self._ping_at is not None:
                self._give_up("pong.late", 408, f"{now - self._ping_at:.1f} s", now)
            else:
                self._ping(now)
        if self._closed_by is not None and now >= self._closed_by:
            self._closed_by = None
            if self.opened_ms is not None:
                self.found("closed.late", f"{now - self._close_sent:.1f} s", now)
            self.state = State.CLOSED

    # Checks.

    def found(self, rule: str, detail: str, now: float) -> None:
        """Note that a rule was broken."""
        if len(self.violations) < _VIOLATIONS:
            self.violations.append(Violation(rule, self._ms(now), detail))

    def _envelope(self, message: dict[str, Any], now: float) -> bool:
        """Check the fields every message has; False when the client gave up."""
        if message.get("version") != "2":
            return self._give_up("message.version", 400, "", now)
        if message.get("id") != self.opening.session:
            return self._give_up("message.id", 400, "", now)
        seq, heard = message.get("seq"), message.get("clientseq")
        if type(seq) is not int or seq != self.server_seq + 1:
            return self._give_up("message.seq", 400, f"{seq!r:.12} after {self.server_seq}", now)
        self.server_seq = seq
        if type(heard) is not int or not self._seen_clientseq <= heard <= self.seq:
            return self._give_up("message.clientseq", 400, f"{heard!r:.12} of {self.seq}", now)
        self._seen_clientseq = heard
        if not isinstance(message.get("parameters"), dict):
            return self._give_up("message.parameters", 400, "no object", now)
        kind = message.get("type")
        if not isinstance(kind, str) or kind not in TYPES:
            return self._give_up("message.type", 400, "", now)
        if kind not in LEGAL[self.state] and not self._crossed(kind):
            rules = {"opened": "opened.again", "closed": "closed.unasked"}
            detail = f"{kind} while {self.state}"
            return self._give_up(rules.get(kind, "message.unexpected"), 409, detail, now)
        return True

    def _crossed(self, kind: str) -> bool:
        """Tell whether this may have met our own ``close`` on its way."""
        return kind == "opened" and self.state is State.CLOSING and self.opened_ms is None

    def _dispatch(self, kind: str, given: dict[str, Any], clientseq: int, now: float) -> None:
        if self._quiet and kind not in ("pong", "updated", "disconnect"):
            self.found("opened.quiet", kind, now)
        match kind:
            case "opened":
                self._opened(given, now)
            case "pong":
                self._pong(clientseq, now)
            case "event":
                self._event(given.get("entities"), now)
            case "pause":
                self._pause(now)
            case "resume":
                self._resume(now)
            case "updated":
                self.updates -= 1
                if self.updates < 0:
                    self.found("updated.unasked", "", now)
            case "reconnect":
                self.reconnect_asked = True
            case "disconnect":
                self._disconnect(given.get("reason"), now)
            case "closed":
                self.state = State.CLOSED
                self.closed_ms = (now - self._close_sent) * 1000
                self._closed_by = None

    def _opened(self, given: dict[str, Any], now: float) -> None:
        self.opened_ms = (now - self._open_sent) * 1000
        self._opened_by = None
        if self.state is State.CLOSING:
            return
        self.state = State.OPEN
        self._quiet = True
        self._ping_due = now + self._timers.first_ping_s
        if not self._select(given.get("media"), now) or not self._listed(given, now):
            return
        start, target = given.get("startPaused", False), given.get("discardTo")
        if type(start) is not bool or (target is not None and seconds(target) is None):
            self._give_up("message.parameters", 400, "opened", now)
            return
        self.start_paused = self._server_pause = start
        self._paused_at = now
        if target is not None and self.selected is not None:
            samples = round((seconds(target) or 0.0) * RATE_HZ)
            if samples:
                self.discard(samples, now=now)

    def _select(self, media: object, now: float) -> bool:
        if not isinstance(media, list) or len(media) > 1:
            return self._give_up("opened.media", 400, "not one item", now)
        if media:
            offers = {msgspec.json.encode(o.message()): o for o in self.opening.offers}
            for offer in offers.values():
                if media[0] == offer.message():
                    self.selected = offer
                    return True
            return self._give_up("opened.media", 400, "not as offered", now)
        return True

    def _listed(self, given: dict[str, Any], now: float) -> bool:
        listed = given.get("supportedLanguages")
        if listed is None:
            if self.opening.ask_languages:
                return self._give_up("opened.languages", 400, "none listed", now)
            return True
        good = isinstance(listed, list) and all(
            isinstance(code, str) and LANGUAGE.match(code) for code in listed
        )
        if not good:
            return self._give_up("opened.languages", 400, "form", now)
        self.languages = list(listed)
        return True

    def _pong(self, clientseq: int, now: float) -> None:
        if self._ping_at is None:
            self._give_up("pong.unasked", 409, "", now)
            return
        if clientseq != self._ping_seq:
            self._give_up("pong.clientseq", 400, f"{clientseq} for {self._ping_seq}", now)
            return
        first = not self.rtts_ms
        self.rtts_ms.append((now - self._ping_at) * 1000)
        self._ping_at = None
        self._quiet = False
        if first and self.state is State.OPEN:
            self._ping(now)

    def _ping(self, now: float) -> None:
        rtt = {"rtt": f"PT{self.rtts_ms[-1] / 1000:.6f}S"} if self.rtts_ms else {}
        self.say("ping", rtt, now=now)
        self._ping_seq, self._ping_at = self.seq, now
        self._ping_due = now + self._timers.ping_s

    def _event(self, entities: object, now: float) -> None:
        if not isinstance(entities, list) or not entities:
            self.found("event.entities", "none", now)
            return
        if self.opening.is_probe:
            self.found("event.probe", "", now)
        for entity in entities:
            if not isinstance(entity, dict) or not isinstance(entity.get("type"), str):
                self.found("event.entities", "type", now)
                continue
            if entity["type"] != "transcript":
                continue
            self._transcript(entity.get("data"), now)

    def _transcript(self, data: object, now: float) -> None:
        check_transcript(
            data,
            channels=len(self.selected.channels) if self.selected else 0,
            sent_s=self.position / RATE_HZ,
            report=lambda rule, detail: self.found(rule, detail, now),
        )
        if not isinstance(data, dict):
            return
        entity = Entity(self._ms(now), self.position * 1000 // RATE_HZ, data)
        self.entities.append(entity)
        if entity.is_final:
            name = str(data.get("id"))
            if name in self._finals:
                self.found("entity.repeated", "", now)
            self._finals.add(name)

    def _pause(self, now: float) -> None:
        if self.state is not State.OPEN:
            return
        if not self.paused:
            self._paused_at = now
        self._server_pause = True
        self.say("paused", {}, now=now)

    def _resume(self, now: float) -> None:
        if self.state is State.OPEN and self._server_pause:
            self._server_pause = False
            self._resumed(now)

    def _resumed(self, now: float) -> None:
        """Say that audio goes on, or that it does not because the other pause holds."""
        if self.paused:
            self.say("paused", {}, now=now)
            return
        start = self.position
        gone = int((now - self._paused_at) * self._samples_per_s)
        self.position += gone
        parameters = {"start": duration(start), "discarded": duration(gone)}
        self.say("resumed", parameters, now=now)

    def _say_discarded(self, start: int, samples: int, now: float) -> None:
        parameters = {"start": duration(start), "discarded": duration(samples)}
        self.say("discarded", parameters, now=now)

    def _disconnect(self, reason: object, now: float) -> None:
        if reason not in ("completed", "unauthorized", "error"):
            self.found("disconnect.reason", "", now)
        self.disconnected = str(reason)[:20]
        if self._blameless and not self.tolerant and reason == "error":
            self.found("disconnect.blameless", "", now)
        self.close("disconnect", now=now)

    def _spend(self, now: float) -> None:
        """Count a message against the rate; over it, complain as the platform does."""
        since = (now - self._tokens_at) * RATE_PER_S
        self._tokens = min(RATE_BURST, self._tokens + since) - 1
        self._tokens_at = now
        if self._tokens < 0:
            self._tokens = 0.0
            self.found("message.rate", "", now)
            self.complain(429, "too many messages", now=now, retry_after="PT3S")

    def _give_up(self, rule: str, code: int, detail: str, now: float) -> bool:
        """Note a violation after which the platform ends the session; always False."""
        self.found(rule, detail, now)
        if not self.failed:
            self.failed = True
            if self.state is State.CLOSING:
                self.say("error", {"code": code, "message": rule}, now=now)
            else:
                self.complain(code, rule, now=now)
                self.close("error", now=now)
        return False

    def _note(self, side: str, message: Any, now: float) -> None:
        if self._log_on and len(self.log) < _LOG_LINES:
            self.log.append({"at_ms": self._ms(now), "from": side, "message": message})

    def _ms(self, now: float) -> int:
        return round((now - self._began) * 1000)
