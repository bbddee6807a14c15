"""The client's end: what it says, and what it holds against a server."""

from __future__ import annotations

import json

import pytest

from steno.errors import LocalProtocolError
from steno.wire.audiohook import (
    Accepted,
    Asked,
    ClientSession,
    ClientState,
    CloseReason,
    DisconnectAsked,
    DisconnectReason,
    OpenParameters,
    Participant,
    Ponged,
    ResultsCame,
    SessionOver,
    Violated,
    probe_parameters,
)
from wire.audiohook.pair import (
    CONVERSATION,
    OFFERS,
    ORGANIZATION,
    SESSION,
    Json,
    final,
    types,
)

STEREO_ITEM = {
    "type": "audio",
    "format": "PCMU",
    "channels": ["external", "internal"],
    "rate": 8000,
}
PARAMETERS = OpenParameters(
    ORGANIZATION, CONVERSATION, Participant(CONVERSATION, "", "", ""), OFFERS
)


class Server:
    """Says what it is told to, with the right numbers unless others are given."""

    def __init__(self, client: ClientSession) -> None:
        self.client = client
        self.seq = 0
        self.heard: list[Json] = []

    def says(
        self, kind: str, parameters: Json | None = None, *, now: float = 0.0, **others: object
    ) -> None:
        self.hear()
        self.seq += 1
        message = {
            "version": "2",
            "id": SESSION,
            "type": kind,
            "seq": self.seq,
            "clientseq": self.heard[-1]["seq"] if self.heard else 0,
            "parameters": parameters or {},
            **others,
        }
        self.client.receive_text(json.dumps(message).encode(), now)

    def hear(self) -> list[Json]:
        new = [json.loads(one.data) for one in self.client.to_send() if one.is_text]
        self.heard += new
        return new


def opening(parameters: OpenParameters = PARAMETERS) -> Server:
    client = ClientSession(SESSION, parameters, now=0.0)
    client.start(0.0)
    return Server(client)


def opened(*, ping: bool = True) -> Server:
    server = opening()
    server.says("opened", {"media": [STEREO_ITEM]})
    if ping:
        server.client.on_deadline(1.0)
        server.says("pong", now=1.0)
        server.says("pong", now=1.0)
    server.client.events()
    server.hear()
    return server


def test_a_session_opens_pings_and_closes() -> None:
    """Ping after a second, again with the round trip at once, then every five seconds."""
    server = opening()
    client = server.client
    server.says("opened", {"media": [STEREO_ITEM]})
    assert [type(one) for one in client.events()] == [Accepted]
    assert client.next_deadline() == 1.0
    client.on_deadline(1.0)
    server.says("pong", now=1.25)
    assert client.events() == [Ponged(250_000)]
    assert server.hear()[0]["parameters"] == {"rtt": "PT0.25S"}
    server.says("pong", now=1.3)
    assert client.next_deadline() == 6.25
    client.close(CloseReason.END, 2.0)
    server.says("closed", now=2.0)
    assert client.events()[-1] == SessionOver(clean=True)
    assert types(server.heard) == ["open", "ping", "ping", "close"]
    assert client.violations == []
    with pytest.raises(LocalProtocolError):
        client.start(0.0)


def test_a_probe_closes_as_soon_as_it_is_accepted() -> None:
    """It has a null conversation and wants the languages."""
    server = opening(probe_parameters(ORGANIZATION, OFFERS))
    server.says("opened", {"media": [], "supportedLanguages": ["en-US"]})
    assert types(server.hear()) == ["close"]
    server.says("closed")
    assert server.client.violations == []


@pytest.mark.parametrize(
    ("kind", "parameters", "others", "code"),
    [
        ("opened", {"media": [STEREO_ITEM, STEREO_ITEM]}, {}, 400),
        ("opened", {"media": [{**STEREO_ITEM, "channels": ["internal", "external"]}]}, {}, 400),
        ("opened", {"media": [{**STEREO_ITEM, "format": "L16"}]}, {}, 400),
        ("opened", {"media": [], "discardTo": "PT99999999999S"}, {}, 400),
        ("opened", {"media": [STEREO_ITEM]}, {"seq": 2}, 400),
        ("opened", {"media": [STEREO_ITEM]}, {"clientseq": 2}, 400),
        ("opened", {"media": [STEREO_ITEM]}, {"id": ORGANIZATION}, 400),
        ("opened", {}, {}, 400),
        ("event", {"entities": []}, {}, 409),
        ("pong", {}, {}, 409),
        ("reconnecting", {}, {}, 400),
    ],
)
def test_a_wrong_answer_to_open_ends_the_session(
    kind: str, parameters: Json, others: Json, code: int
) -> None:
    """The client tells the error and closes."""
    server = opening()
    server.says(kind, parameters, **others)
    assert [one.code for one in server.client.violations] == [code]
    heard = server.hear()
    assert types(heard) == ["error", "close"]
    assert heard[0]["parameters"]["code"] == code
    assert heard[1]["parameters"] == {"reason": "error"}


def test_a_pong_is_compared_with_its_ping() -> None:
    """Its number has to be the ping's, and there has to be one."""
    server = opened(ping=False)
    server.client.on_deadline(1.0)
    server.client.update("es-ES", 1.0)
    server.says("pong", now=1.0)
    assert server.client.violations[0].code == 400
    other = opened(ping=False)
    other.says("pong", now=0.5)
    assert other.client.violations[0].code == 409


def test_missing_answers_are_timed_out() -> None:
    """``opened`` in five seconds, a pong before the next ping, ``closed`` in ten."""
    server = opening()
    server.client.on_deadline(5.0)
    assert [one.code for one in server.client.violations] == [408]
    server.client.on_deadline(15.0)
    assert server.client.events()[-1] == SessionOver(clean=False)
    silent = opened(ping=False)
    silent.client.on_deadline(1.0)
    silent.client.on_deadline(6.0)
    assert silent.client.violations[0].cause == "no pong in time"
    assert silent.client.state is ClientState.CLOSING


def test_what_comes_between_opened_and_the_first_pong_is_noted() -> None:
    """Only a pong may; the session goes on."""
    server = opened(ping=False)
    server.says("pause")
    assert [one.code for one in server.client.violations] == [409]
    assert server.client.state is ClientState.OPEN


def test_results_are_read_and_looked_at() -> None:
    """Transcripts of a streamed channel, with tokens and times."""
    server = opened()
    good = json.loads(bytes(final(0).encoded))
    server.says("event", {"entities": [good]})
    (came,) = server.client.events()
    assert isinstance(came, ResultsCame)
    assert came.transcripts[0].text == "good morning"
    assert server.client.violations == []
    bad = json.loads(json.dumps(good))
    bad["data"]["channelId"] = 1
    del bad["data"]["offset"]
    shown = bad["data"]["alternatives"][0]["interpretations"][0]
    shown["tokens"][1]["offset"] = shown["tokens"][0]["offset"]
    server.says("event", {"entities": [bad]})
    server.says("event", {"entities": []})
    server.says("event", {"entities": [{"type": "transcript", "data": {}}]})
    del shown["tokens"]
    server.says("event", {"entities": [bad]})
    assert [one.cause for one in server.client.violations] == [
        "final transcript without offset and duration",
        "tokens share an offset",
        "event without entities",
        "a transcript entity is malformed",
        "final transcript without offset and duration",
        "transcript without tokens",
    ]


def test_a_transcript_of_a_channel_that_is_not_streamed_is_noted() -> None:
    """The index counts the channels agreed on."""
    server = opening()
    server.says("opened", {"media": [{**STEREO_ITEM, "channels": ["external"]}]})
    entity = json.loads(bytes(final(0).encoded))
    entity["data"]["channelId"] = 1
    server.says("event", {"entities": [entity]})
    assert "channel" in server.client.violations[-1].cause


def test_too_many_messages_are_answered_with_429() -> None:
    """Five a second and bursts of 25, with a little tolerance."""
    server = opened()
    for _ in range(40):
        server.says("updated", now=2.0)
    codes = [one.code for one in server.client.violations]
    assert set(codes) == {429}
    assert 10 <= len(codes) <= 20
    assert server.hear()[0]["parameters"]["retryAfter"] == "PT3S"


def test_binary_messages_of_a_listening_server_are_an_error() -> None:
    """It has nothing to play."""
    server = opened()
    server.client.receive_binary(b"ab", 2.0)
    assert server.client.violations == [Violated(415, "binary message from the server")]


def test_pauses_are_obeyed_and_told() -> None:
    """A request is answered each time; audio stands still; the clock may not."""
    server = opened()
    client = server.client
    assert client.send_audio(bytes(320), 1.0)
    client.to_send()
    server.says("pause")
    assert not client.send_audio(bytes(320), 1.0)
    client.skip(8000, 1.0)
    server.says("pause")
    server.says("resume")
    server.says("resume")
    server.hear()
    heard = server.heard[-4:]
    assert types(heard) == ["paused", "paused", "resumed", "resumed"]
    assert heard[2]["parameters"] == {"start": "PT0.02S", "discarded": "PT1S"}
    assert heard[2]["position"] == "PT1.02S"
    assert heard[3]["parameters"] == {"start": "PT1.02S", "discarded": "PT0S"}


def test_a_pause_of_its_own_outlasts_the_servers_wish() -> None:
    """While card numbers are said, ``resume`` is answered with ``paused``."""
    server = opened()
    client = server.client
    client.hold(1.0)
    server.says("resume")
    assert client.is_paused
    server.says("pause")
    client.release(2.0)
    assert client.is_paused
    server.says("resume")
    assert not client.is_paused
    assert types(server.hear()) == ["resumed"]
    assert types(server.heard[-4:]) == ["paused", "paused", "paused", "resumed"]


def test_audio_before_discard_to_is_dropped_and_told_once() -> None:
    """The clock goes on, and the rest of the frame is sent."""
    server = opening()
    client = server.client
    server.says("opened", {"media": [STEREO_ITEM], "discardTo": "PT0.05S"})
    for _ in range(4):
        client.send_audio(bytes(320), 1.0)
    frames = client.to_send()
    assert [len(one.data) for one in frames if not one.is_text] == [160, 320]
    (told,) = [json.loads(one.data) for one in frames if one.is_text]
    assert told["parameters"] == {"start": "PT0S", "discarded": "PT0.05S"}
    assert (client.position, client.sent_samples, client.skipped_samples) == (640, 240, 400)


def test_disconnect_is_answered_with_close() -> None:
    """Legal at any time; ``closed`` follows."""
    server = opened()
    server.says("disconnect", {"reason": "completed", "info": "private"})
    (asked,) = server.client.events()
    assert isinstance(asked, DisconnectAsked)
    assert asked.reason is DisconnectReason.COMPLETED
    assert "private" not in repr(asked)
    assert server.hear()[-1]["parameters"] == {"reason": "disconnect"}
    server.says("closed")
    assert server.client.events() == [SessionOver(clean=True)]
    server.says("updated")
    assert server.client.violations[-1].cause == "message after closed"


def test_requests_are_told() -> None:
    """What the server asks for is an event."""
    server = opened()
    for kind in ("pause", "resume", "updated", "reconnect"):
        server.says(kind)
    assert server.client.events() == [
        Asked(one) for one in ("pause", "resume", "updated", "reconnect")
    ]


def test_a_server_that_goes_first_is_noted() -> None:
    """Only the client closes the socket."""
    server = opened()
    server.client.receive_end(2.0)
    assert server.client.violations[0].code == 500
    assert server.client.events()[-1] == SessionOver(clean=False)
    early = opened()
    early.says("closed")
    assert early.client.violations[0].cause == "closed without close"
