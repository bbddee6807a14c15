"""What the tests of AudioHook share: vectors, sessions brought into a state, two joined ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steno.wire.audiohook import (
    ClientEvent,
    ClientSession,
    Limits,
    MediaItem,
    OpenAsked,
    OpenParameters,
    Participant,
    ServerEvent,
    ServerSession,
    Transcript,
    build_transcript,
    choose_media,
)
from steno.wire.audiohook.messages import Channel, MediaFormat

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "audiohook"
SESSION = "0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22"
ORGANIZATION = "5f3a2c10-6b1d-4c8e-9a77-0d2e4f6a8b01"
CONVERSATION = "090eaa2f-72fa-480a-83e0-8667ff89c0ec"
UTTERANCES = tuple(f"61f0c2d8-4a7e-4b3d-9c15-8e2f7a6b5d{number:02x}" for number in range(256))
STEREO = MediaItem("audio", MediaFormat.PCMU, (Channel.EXTERNAL, Channel.INTERNAL), 8000)
EXTERNAL = MediaItem("audio", MediaFormat.PCMU, (Channel.EXTERNAL,), 8000)
INTERNAL = MediaItem("audio", MediaFormat.PCMU, (Channel.INTERNAL,), 8000)
OFFERS = (STEREO, EXTERNAL, INTERNAL)

Json = dict[str, Any]  # Any: JSON


def vectors(name: str) -> list[Json]:
    """Return the messages of a vector file."""
    found: list[Json] = json.loads((VECTORS / f"{name}.json").read_text())["messages"]
    return found


def message(kind: str, seq: int, parameters: Json | None = None, **others: object) -> bytes:
    """Return a message of the client."""
    return json.dumps(
        {
            "version": "2",
            "id": SESSION,
            "type": kind,
            "seq": seq,
            "serverseq": 0,
            "position": "PT0S",
            "parameters": parameters or {},
            **others,
        }
    ).encode()


def open_message(**changes: object) -> bytes:
    """Return the usual ``open`` with changed parameters."""
    parameters: Json = vectors("client")[0]["parameters"]
    return message("open", 1, {**parameters, **changes})


def preparing(**limits: Any) -> ServerSession:  # Any: fields of Limits
    """Return a session that expects ``open``."""
    return ServerSession(SESSION, ORGANIZATION, now=0.0, limits=Limits(**limits))


def running(*, start_paused: bool = False, **limits: Any) -> ServerSession:  # Any: as above
    """Return a session that takes stereo audio; ``opened`` has been sent, the client's seq is 1."""
    session = preparing(**limits)
    session.receive_text(open_message(), 0.0)
    session.accept(STEREO, now=0.0, start_paused=start_paused)
    session.events(), session.to_send()
    return session


def flowing(**limits: Any) -> ServerSession:  # Any: as above
    """Return a running session whose first ping is answered; the client's seq is 2."""
    session = running(**limits)
    session.receive_text(message("ping", 2), 0.0)
    session.events(), session.to_send()
    return session


def sent(session: ServerSession) -> list[Json]:
    """Return what a session sends, decoded."""
    return [json.loads(one) for one in session.to_send()]


def types(messages: list[Json]) -> list[str]:
    """Return the types of messages."""
    return [one["type"] for one in messages]


def final(number: int, text: str = "good morning", *, is_final: bool = True) -> Transcript:
    """Return a result of one utterance."""
    return build_transcript(
        id=UTTERANCES[number],
        channel=0,
        is_final=is_final,
        start_samples=800 * number,
        end_samples=800 * number + 700,
        rate_hz=8000,
        text=text,
        language="en-US",
    )


class Pair:
    """Both ends joined in memory; what one sends, the other gets in order, when it is carried."""

    def __init__(self, *, start_paused: bool = False, discard_to: int | None = None) -> None:
        self.now = 0.0
        participant = Participant("883efee8-3d6c-4537-b500-6d7ca4b92fa0", "", "", "")
        self.client = ClientSession(
            SESSION,
            OpenParameters(
                ORGANIZATION, CONVERSATION, participant, OFFERS, supported_languages=True
            ),
            now=0.0,
        )
        self.server = preparing()
        self.to_server: list[tuple[bytes, bool]] = []
        self.to_client: list[bytes] = []
        self.server_events: list[ServerEvent] = []
        self.client_events: list[ClientEvent] = []
        self.spans: list[tuple[int, int]] = []
        self._start_paused = start_paused
        self._discard_to = discard_to
        self.client.start(0.0)

    def carry_to_server(self, most: int = 1000) -> None:
        """Deliver up to ``most`` messages to the server."""
        self.to_server += self.client.to_send()
        for data, is_text in self.to_server[:most]:
            if is_text:
                self.server.receive_text(data, self.now)
            elif (span := self.server.receive_audio(data, self.now)) is not None:
                self.spans.append(span)
            for event in self.server.events():
                self.server_events.append(event)
                if isinstance(event, OpenAsked):
                    self.server.accept(
                        choose_media(event.parameters.media),
                        now=self.now,
                        start_paused=self._start_paused,
                        discard_to=self._discard_to,
                        supported_languages=("en-US", "xx"),
                    )
        del self.to_server[:most]

    def carry_to_client(self, most: int = 1000) -> None:
        """Deliver up to ``most`` messages to the client."""
        self.to_client += self.server.to_send()
        for data in self.to_client[:most]:
            self.client.receive_text(data, self.now)
        del self.to_client[:most]
        self.client_events += self.client.events()

    def carry(self) -> None:
        """Deliver everything until both have nothing to say."""
        while True:
            self.carry_to_server()
            self.carry_to_client()
            self.to_server += self.client.to_send()
            self.to_client += self.server.to_send()
            if not self.to_server and not self.to_client:
                return

    def wait(self, seconds: float) -> None:
        """Let time pass for both ends, deadline after deadline."""
        end = self.now + seconds
        while True:
            due = [one.next_deadline() for one in (self.client, self.server)]
            soonest = min((one for one in due if one is not None), default=end)
            if soonest > end:
                break
            self.now = max(self.now, soonest)
            self.client.on_deadline(self.now)
            self.server.on_deadline(self.now)
            self.carry()
        self.now = end
