"""The server's end: legal moves, numbers, pauses, positions, pace, deadlines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.fuzz_examples import examples
from steno.errors import LocalProtocolError
from steno.wire.audiohook import (
    AudioDiscarded,
    AudioPaused,
    AudioResumed,
    ClientErrored,
    CloseAsked,
    CloseReason,
    DisconnectReason,
    Drifted,
    Ended,
    Flow,
    LanguageUpdated,
    MediaItem,
    OpenAsked,
    ProtocolBroken,
    ResultsDropped,
    ServerSession,
    State,
    choose_media,
    is_uuid,
)
from steno.wire.audiohook.messages import NULL_UUID, Channel, MediaFormat
from wire.audiohook.pair import (
    EXTERNAL,
    INTERNAL,
    OFFERS,
    ORGANIZATION,
    SESSION,
    STEREO,
    final,
    flowing,
    message,
    open_message,
    preparing,
    running,
    sent,
    types,
    vectors,
)

L16 = MediaItem("audio", MediaFormat.L16, (Channel.INTERNAL, Channel.EXTERNAL), 8000)


def broken(session: ServerSession) -> str:
    """Return the cause of the break, having looked that it was told as the protocol wants."""
    causes = [one.cause for one in session.events() if isinstance(one, ProtocolBroken)]
    out = sent(session)
    assert types(out)[-1] == "disconnect"
    assert out[-1]["parameters"] == {"reason": "error", "info": causes[0]}
    assert session.state is State.DISCONNECTING
    return causes[0]


# --- open and opened ---


def test_open_is_told_and_answered() -> None:
    """``opened`` carries one offered item unchanged, the id, and numbers from 1."""
    session = preparing()
    session.receive_text(open_message(), 0.0)
    (event,) = session.events()
    assert isinstance(event, OpenAsked)
    assert event.parameters.language == "en-US"
    assert not event.parameters.is_probe
    assert session.accept(choose_media(event.parameters.media), now=0.0)
    assert sent(session) == [
        {
            "version": "2",
            "id": SESSION,
            "type": "opened",
            "seq": 1,
            "clientseq": 1,
            "parameters": {"media": [vectors("client")[0]["parameters"]["media"][0]]},
        }
    ]


@pytest.mark.parametrize(
    ("offers", "chosen"),
    [
        (OFFERS, STEREO),
        ((INTERNAL, STEREO), STEREO),
        ((INTERNAL, EXTERNAL), INTERNAL),
        ((EXTERNAL, L16, STEREO), L16),
        ((), None),
    ],
)
def test_two_channels_are_preferred_in_the_order_offered(
    offers: tuple[MediaItem, ...], chosen: MediaItem | None
) -> None:
    """The first of two channels, else the first, else none."""
    assert choose_media(offers) is chosen


def test_formats_we_cannot_use_are_not_chosen() -> None:
    """Only formats that were named are taken."""
    assert choose_media((L16, EXTERNAL), formats=(MediaFormat.PCMU,)) is EXTERNAL


def test_a_medium_that_was_not_offered_is_our_mistake() -> None:
    """The client would end the session: it is not sent."""
    session = preparing()
    session.receive_text(open_message(), 0.0)
    with pytest.raises(LocalProtocolError):
        session.accept(L16, now=0.0)


@pytest.mark.parametrize("asked", [True, False])
def test_languages_are_listed_when_asked_for(asked: bool) -> None:
    """The list is there when it was asked for, of codes of the protocol's form alone."""
    session = preparing()
    session.receive_text(open_message(supportedLanguages=asked), 0.0)
    session.accept(None, now=0.0, supported_languages=("en-US", "es-419", "fr"))
    parameters = sent(session)[0]["parameters"]
    assert parameters == (
        {"media": [], "supportedLanguages": ["en-US"]} if asked else {"media": []}
    )


def test_a_probe_is_known_and_closed_without_a_word() -> None:
    """A null conversation is a probe; its ``close`` gets ``closed``."""
    session = preparing()
    probe = vectors("client")[1]
    session.receive_text(json.dumps(probe).encode(), 0.0)
    (event,) = session.events()
    assert isinstance(event, OpenAsked)
    assert event.parameters.is_probe
    assert event.parameters.conversation_id == NULL_UUID
    session.accept(STEREO, now=0.0)
    session.receive_text(message("close", 2, {"reason": "end"}, serverseq=1), 0.1)
    assert session.events() == [CloseAsked(CloseReason.END)]
    session.closed(0.1)
    assert types(sent(session)) == ["opened", "closed"]


def test_continued_sessions_are_told() -> None:
    """What the new session continues can be joined to it."""
    session = preparing()
    session.receive_text(json.dumps(vectors("client")[2]).encode(), 0.0)
    (event,) = session.events()
    assert isinstance(event, OpenAsked)
    assert event.parameters.continued_sessions is not None
    assert event.parameters.continued_sessions[0].serverseq == 7
    assert event.parameters.custom_config == {"tenant": "blue", "depth": {"a": [1, 2]}}


def test_where_to_begin_is_told_in_opened() -> None:
    """``startPaused`` and ``discardTo`` go out as the protocol writes them."""
    session = preparing()
    session.receive_text(open_message(), 0.0)
    session.accept(EXTERNAL, now=0.0, start_paused=True, discard_to=20_000)
    parameters = sent(session)[0]["parameters"]
    assert parameters["startPaused"] is True
    assert parameters["discardTo"] == "PT2.5S"
    assert session.flow is Flow.PAUSED


# --- broken rules ---


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (message("ping", 1), "message not expected now"),
        (message("close", 1, {"reason": "end"}), "message not expected now"),
        (message("open", 1), "invalid message fields"),
        (open_message(organizationId=SESSION), "open of another organization than the headers"),
        (
            open_message().replace(SESSION.encode(), ORGANIZATION.encode()),
            "message of another session",
        ),
        (open_message().replace(b'"seq": 1', b'"seq": 2'), "seq is not the next"),
        (open_message().replace(b'"serverseq": 0', b'"serverseq": 1'), "serverseq is ahead of us"),
        (b"{", "message is not JSON"),
    ],
)
def test_a_first_message_against_the_rules_is_refused(data: bytes, cause: str) -> None:
    """The first message is ``open``, of the session and organization of the headers."""
    session = preparing()
    session.receive_text(data, 0.0)
    assert broken(session) == cause


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (open_message().replace(b'"seq": 1', b'"seq": 2'), "message not expected now"),
        (message("ping", 1), "seq is not the next"),
        (message("ping", 3), "seq is not the next"),
        (message("ping", 2, serverseq=2), "serverseq is ahead of us"),
        (message("pong", 2), "unknown message type"),
        (message("resumed", 2, {"start": "PT0S"}), "invalid message fields"),
        (
            message("resumed", 2, {"start": "PT9999999999S", "discarded": "PT0S"}),
            "a duration is longer than any call",
        ),
        (b'{"type":"ping","version":"2"}', "message without parameters"),
    ],
)
def test_a_later_message_against_the_rules_ends_the_session(data: bytes, cause: str) -> None:
    """Numbers, types and parameters are checked in every message."""
    session = running()
    session.receive_text(data, 0.0)
    assert broken(session) == cause


def test_audio_before_opened_ends_the_session() -> None:
    """Audio comes after ``opened`` and not before."""
    early = preparing()
    assert early.receive_audio(b"ab", 0.0) is None
    assert broken(early) == "audio before opened"
    session = preparing()
    session.receive_text(open_message(), 0.0)
    session.events()
    session.receive_audio(b"ab", 0.0)
    assert broken(session) == "audio before opened"


def test_audio_that_is_no_whole_number_of_samples_ends_the_session() -> None:
    """A frame holds whole groups of all channels."""
    session = running()
    assert session.receive_audio(b"abc", 0.0) is None
    assert broken(session) == "audio of no whole number of samples"
    assert session.position == 0


def test_audio_nobody_agreed_on_ends_the_session() -> None:
    """Empty ``media`` means no audio."""
    session = preparing()
    session.receive_text(open_message(), 0.0)
    session.accept(None, now=0.0)
    session.events(), session.to_send()
    session.receive_audio(b"ab", 0.0)
    assert broken(session) == "audio not agreed on"


def test_after_a_broken_rule_only_the_end_is_heard() -> None:
    """The session drains: pings and ``close`` are answered, whatever their numbers."""
    session = running()
    session.receive_text(b"{", 0.0)
    broken(session)
    for data in (b"{", message("update", 77, {"language": "es-ES"}), message("ping", 9)):
        session.receive_text(data, 0.1)
    assert session.receive_audio(b"ab", 0.1) is None
    (pong,) = sent(session)
    assert (pong["type"], pong["clientseq"]) == ("pong", 77)
    assert session.events() == []
    session.receive_text(message("close", 78, {"reason": "disconnect"}), 0.2)
    assert session.events() == [CloseAsked(CloseReason.DISCONNECT)]
    session.closed(0.2)
    (closed,) = sent(session)
    assert (closed["type"], closed["clientseq"]) == ("closed", 78)


def test_a_client_error_ends_nothing() -> None:
    """After ``error`` the session answers on, and ``close`` gets ``closed``."""
    session = running()
    session.receive_text(message("error", 2, {"code": 400, "message": "x"}), 0.0)
    session.receive_text(message("ping", 3), 0.0)
    session.receive_text(message("close", 4, {"reason": "error"}), 0.0)
    assert session.events() == [ClientErrored(400), CloseAsked(CloseReason.ERROR)]
    session.closed(0.0)
    assert types(sent(session)) == ["pong", "closed"]


def test_an_unneeded_discarded_ends_nothing() -> None:
    """A loss that is none is told with equal positions; ``close`` gets ``closed``."""
    session = running()
    session.receive_audio(bytes(3200), 0.0)
    discarded = message("discarded", 2, {"start": "PT0.2S", "discarded": "PT1S"}, position="PT0.2S")
    session.receive_text(discarded, 0.0)
    session.receive_text(message("close", 3, {"reason": "end"}, position="PT0.2S"), 0.0)
    session.closed(0.0)
    assert session.events() == [AudioDiscarded(1600, 1600), CloseAsked(CloseReason.END)]
    assert types(sent(session)) == ["closed"]


def test_messages_of_voice_bots_are_taken_without_effect() -> None:
    """``dtmf`` and playback messages count, and mean nothing here."""
    session = running()
    session.receive_text(message("dtmf", 2, {"digit": "5"}), 0.0)
    session.receive_text(message("playback_started", 3), 0.0)
    session.receive_text(message("playback_completed", 4), 0.0)
    session.receive_text(message("ping", 5), 0.0)
    assert session.events() == []
    assert sent(session)[0]["clientseq"] == 5


# --- pings and what waits for them ---


def test_each_pong_carries_its_pings_number() -> None:
    """The answer is written in the step that reads the ping."""
    session = running()
    session.receive_text(message("ping", 2), 0.0)
    session.receive_text(message("update", 3, {"language": "es-ES"}), 0.0)
    session.receive_text(message("ping", 4, {"rtt": "PT0.031S"}), 0.0)
    out = sent(session)
    assert [(one["type"], one["seq"], one["clientseq"]) for one in out] == [
        ("pong", 2, 2),
        ("pong", 3, 4),
    ]
    assert session.rtt_us == 31_000


def test_nothing_goes_out_between_opened_and_the_first_pong() -> None:
    """Results and commands wait for the first ping, and follow its pong at once."""
    session = running()
    session.send_entities([final(0)], 0.1)
    session.pause(0.1)
    session.updated(0.1)
    assert session.to_send() == []
    session.receive_text(message("ping", 2), 1.0)
    assert types(sent(session)) == ["pong", "pause", "updated", "event"]


def test_what_waits_for_a_ping_goes_out_when_the_end_comes_first() -> None:
    """A client that closes without a ping gets its results."""
    session = running()
    session.send_entities([final(0)], 0.1)
    session.pause(0.1)
    session.receive_text(message("close", 2, {"reason": "end"}), 0.2)
    session.closed(0.2)
    assert types(sent(session)) == ["event", "closed"]


def test_a_client_that_never_pings_gets_results_after_a_while() -> None:
    """Waiting for a ping has a limit."""
    session = running(hold_s=5.0)
    session.send_entities([final(0)], 0.1)
    assert session.next_deadline() == 5.0
    session.on_deadline(5.0)
    assert types(sent(session)) == ["event"]


def test_a_newer_wish_replaces_one_that_waits() -> None:
    """Pause and resume before the first pong: the last one goes out alone."""
    session = running()
    session.pause(0.1)
    session.resume(0.1)
    session.receive_text(message("ping", 2), 1.0)
    assert types(sent(session)) == ["pong", "resume"]


# --- audio, pauses, positions ---


def test_audio_is_taken_with_its_place() -> None:
    """Positions count samples of a channel, however the audio is cut."""
    session = running()
    assert session.receive_audio(bytes(320), 0.0) == (0, 160)
    assert session.receive_audio(bytes(3200), 0.0) == (160, 1600)
    assert session.receive_audio(b"", 0.0) is None
    assert session.position == session.received_samples == 1760
    assert session.events() == []


def test_sixteen_bit_samples_are_counted_as_such() -> None:
    """Two channels of L16 make four bytes a frame."""
    session = preparing()
    item = {"type": "audio", "format": "L16", "channels": ["internal", "external"], "rate": 8000}
    session.receive_text(open_message(media=[item]), 0.0)
    session.accept(L16, now=0.0)
    assert session.receive_audio(bytes(640), 0.0) == (0, 160)


def test_audio_on_its_way_when_we_pause_is_taken() -> None:
    """Between our ``pause`` and ``paused`` audio is normal; after it, it breaks a rule."""
    session = flowing()
    session.pause(0.0)
    assert session.flow is Flow.PAUSING
    assert session.receive_audio(bytes(320), 0.0) == (0, 160)
    session.receive_text(message("paused", 3, position="PT0.02S"), 0.1)
    assert session.events() == [AudioPaused(160, asked=True)]
    session.to_send()
    assert session.receive_audio(bytes(320), 0.2) is None
    assert broken(session) == "audio while paused"


def test_a_pause_of_the_platform_lasts_until_it_says_resumed() -> None:
    """We did not ask for it, and our ``resume`` does not end it."""
    session = flowing()
    session.receive_text(message("paused", 3), 0.0)
    assert session.events() == [AudioPaused(0, asked=False)]
    session.resume(0.0)
    session.receive_text(message("paused", 4), 0.0)
    assert session.events() == [AudioPaused(0, asked=False)]
    assert session.flow is Flow.HELD
    resumed = message("resumed", 5, {"start": "PT0S", "discarded": "PT2S"}, position="PT2S")
    session.receive_text(resumed, 0.0)
    assert session.events() == [AudioResumed(0, 16_000)]
    assert session.receive_audio(bytes(2), 0.0) == (16_000, 1)


FLOW_STEPS = [
    (["pause", "paused", "resume", "resumed"], Flow.RUNNING),
    (["pause", "resume", "paused", "resumed"], Flow.RUNNING),
    (["pause", "resume", "paused"], Flow.HELD),
    (["paused", "pause", "resumed"], Flow.PAUSING),
    (["paused", "pause", "resumed", "paused"], Flow.PAUSED),
    (["pause", "paused", "paused"], Flow.PAUSED),
    (["pause", "paused", "resume"], Flow.HELD),
    (["pause", "pause"], Flow.PAUSING),
    (["resume", "resumed"], Flow.RUNNING),
    (["paused", "paused", "resumed"], Flow.RUNNING),
    (["pause", "resumed"], Flow.PAUSING),
]


@pytest.mark.parametrize(("steps", "flow"), FLOW_STEPS)
def test_what_we_asked_and_what_the_client_said_decide_together(
    steps: list[str], flow: Flow
) -> None:
    """Requests and answers may cross; audio flows when the client says so."""
    session = flowing()
    seq = 2
    for step in steps:
        if step in ("pause", "resume"):
            (session.pause if step == "pause" else session.resume)(0.0)
            assert types(sent(session)) == [step]
            continue
        seq += 1
        span = {"start": "PT0S", "discarded": "PT0S"} if step == "resumed" else {}
        session.receive_text(message(step, seq, span), 0.0)
    assert session.flow is flow


@pytest.mark.parametrize(
    ("start", "discarded", "position", "after"),
    [
        ("PT1S", "PT2S", "PT3S", 24_000),  # a real gap
        ("PT1S", "PT2S", "PT1S", 8000),  # told without a jump: the clock stands
        ("PT1S", "PT0S", "PT1S", 8000),
        ("PT1S", "PT2S", "PT9S", 24_000),  # never further than what was told
        ("PT0S", "PT0.5S", "PT0.5S", 8000),  # never back
        ("PT5S", "PT1S", "PT0S", 8000),
    ],
)
@pytest.mark.parametrize("kind", ["discarded", "resumed"])
def test_a_gap_moves_the_clock_by_the_rule(
    kind: str, start: str, discarded: str, position: str, after: int
) -> None:
    """``min(start + discarded, position of the message)``, and never back."""
    session = flowing()
    session.receive_audio(bytes(16_000), 0.0)
    span = {"start": start, "discarded": discarded}
    session.receive_text(message(kind, 3, span, position=position), 0.0)
    assert session.position == after == session.received_samples + session.gap_samples
    happened = session.events()[0]
    assert isinstance(happened, AudioDiscarded | AudioResumed)
    assert (happened.from_samples, happened.to_samples) == (8000, after)


def test_a_clock_that_comes_apart_is_told_once() -> None:
    """More than 250 ms is told, less is not, and it is told anew after they agreed."""
    session = flowing()
    for seq, position in enumerate(("PT0.25S", "PT0.3S", "PT0.4S", "PT0S", "PT0.3S"), start=3):
        session.receive_text(message("ping", seq, position=position), 0.0)
    assert session.events() == [Drifted(300), Drifted(300)]


def test_a_new_language_is_told_with_its_place() -> None:
    """``update`` names the language from here on."""
    session = flowing()
    session.receive_audio(bytes(320), 0.0)
    session.receive_text(message("update", 3, {"language": "es-ES"}, position="PT0.02S"), 0.0)
    assert session.events() == [LanguageUpdated("es-ES", 160)]
    session.updated(0.0)
    assert types(sent(session)) == ["updated"]


# --- results and pace ---


def test_one_result_makes_one_event() -> None:
    """A transcript goes out alone, in order, with the client's last number."""
    session = flowing()
    assert session.send_entities([final(0), final(1)], 0.0) == 2
    out = sent(session)
    assert types(out) == ["event", "event"]
    assert all(len(one["parameters"]["entities"]) == 1 for one in out)
    assert all(one["clientseq"] == 2 for one in out)


def test_finals_that_pile_up_share_events() -> None:
    """At most 25 messages at once and five a second; a pile is sent in fewer."""
    session = flowing()
    for number in range(60):
        session.send_entities([final(number)], 0.0)
    first = sent(session)
    assert 20 <= len(first) <= 25
    now, later = 0.0, []
    while (deadline := session.next_deadline()) is not None and deadline < 10:
        now = deadline
        session.on_deadline(now)
        later += sent(session)
    entities = [e for one in first + later for e in one["parameters"]["entities"]]
    assert [one["data"]["id"] for one in entities] == [
        json.loads(bytes(final(number).encoded))["data"]["id"] for number in range(60)
    ]
    assert len(later) <= 8
    assert now < 2.0


def test_the_newest_partial_of_an_utterance_wins() -> None:
    """Partials go out twice a second, and the final takes the place of its partial."""
    session = flowing()
    texts = []
    for step in range(100):
        now = step * 0.1
        session.send_entities([final(0, f"word {step}", is_final=False)], now)
        session.on_deadline(now)
        texts += [
            one["parameters"]["entities"][0]["data"]["alternatives"][0]["interpretations"][0][
                "transcript"
            ]
            for one in sent(session)
        ]
    assert len(texts) <= 21
    assert texts[1] in ("word 5", "word 6")
    session.send_entities([final(0, "all words")], 10.0)
    session.on_deadline(20.0)
    assert len(sent(session)) == 1


def test_results_that_find_no_room_are_counted() -> None:
    """The queue is bounded: what is refused is told and counted, the rest goes on."""
    session = running(finals=3)
    assert session.send_entities([final(number) for number in range(5)], 0.0) == 3
    assert session.events() == [ResultsDropped(2)]
    assert session.dropped_results == 2


def test_results_outside_an_open_session_are_dropped() -> None:
    """``event`` is legal after ``opened`` and before ``closed`` alone."""
    session = preparing()
    assert session.send_entities([final(0)], 0.0) == 0
    over = flowing()
    over.receive_text(message("close", 3, {"reason": "end"}), 0.0)
    assert over.send_entities([final(0)], 0.0) == 1
    over.closed(0.0)
    assert over.send_entities([final(1)], 0.0) == 0
    assert types(sent(over)) == ["event", "closed"]


def test_results_that_come_after_disconnect_go_out_before_closed() -> None:
    """``event`` is not legal between ``disconnect`` and ``close``; nothing is lost by that."""
    session = flowing()
    session.disconnect(DisconnectReason.COMPLETED, "done", 0.0)
    assert session.send_entities([final(0)], 0.1) == 1
    session.on_deadline(0.2)
    assert types(sent(session)) == ["disconnect"]
    session.receive_text(message("close", 3, {"reason": "disconnect"}), 0.3)
    session.closed(0.4)
    assert types(sent(session)) == ["event", "closed"]


def test_prompt_messages_do_not_wait_for_the_pace() -> None:
    """A full rate holds up results, but neither ``pong`` nor the end."""
    session = flowing()
    for number in range(60):
        session.send_entities([final(number)], 0.0)
    session.to_send()
    session.receive_text(message("ping", 3), 0.0)
    assert types(sent(session)) == ["pong"]
    session.disconnect(DisconnectReason.COMPLETED, "done", 0.0)
    assert types(sent(session)) == ["disconnect"]
    session.receive_text(message("close", 4, {"reason": "disconnect"}), 0.0)
    session.closed(0.0)
    out = sent(session)
    assert types(out)[-1] == "closed"
    assert len(out) < 10


def test_a_client_that_is_overrun_is_left_alone() -> None:
    """``error`` 429 stops what can wait for as long as it says."""
    session = flowing()
    session.receive_text(
        message("error", 3, {"code": 429, "message": "", "retryAfter": "PT4S"}), 1.0
    )
    session.send_entities([final(0)], 1.0)
    assert session.to_send() == []
    assert session.next_deadline() == pytest.approx(5.0)
    session.on_deadline(5.0)
    assert types(sent(session)) == ["event"]


# --- ends ---


def test_an_open_that_does_not_come_is_not_waited_for() -> None:
    """Five seconds, then ``disconnect``, ten more, then the socket is given up."""
    session = preparing()
    assert session.next_deadline() == 5.0
    session.on_deadline(4.9)
    assert session.state is State.PREPARING
    session.on_deadline(5.0)
    assert broken(session) == "no open in time"
    assert session.next_deadline() == 15.0
    session.on_deadline(15.0)
    assert session.events() == [Ended(clean=False, give_up=True)]
    assert session.next_deadline() is None


def test_an_open_that_nobody_accepts_is_refused_in_time() -> None:
    """The client waits five seconds for ``opened``."""
    session = preparing()
    session.receive_text(open_message(), 1.0)
    session.events()
    session.on_deadline(5.5)
    assert broken(session) == "open not answered in time"
    assert session.accept(STEREO, now=5.6) is False


def test_a_silent_client_is_given_up() -> None:
    """Neither ping nor audio for 30 s: it is taken for dead. Audio alone keeps it alive."""
    session = flowing()
    session.receive_audio(bytes(2), 20.0)
    session.on_deadline(49.0)
    assert session.state is State.OPEN
    session.on_deadline(50.0)
    assert broken(session) == "no ping or audio in time"


def test_close_is_answered_in_time_whatever_the_recogniser_does() -> None:
    """The client waits ten seconds for ``closed``: after seven it is sent."""
    session = flowing()
    session.receive_text(message("close", 3, {"reason": "end"}), 1.0)
    assert session.next_deadline() == 8.0
    session.on_deadline(8.0)
    assert types(sent(session)) == ["closed"]
    session.closed(8.1)
    assert session.to_send() == []
    session.on_deadline(18.0)
    assert session.events() == [CloseAsked(CloseReason.END), Ended(clean=True, give_up=True)]


def test_close_before_opened_is_answered_at_once() -> None:
    """There is nothing to flush."""
    session = preparing()
    session.receive_text(open_message(), 0.0)
    session.receive_text(message("close", 2, {"reason": "error"}), 0.1)
    assert types(sent(session)) == ["closed"]


@pytest.mark.parametrize("closed", [True, False])
def test_an_end_without_closed_is_not_clean(closed: bool) -> None:
    """A socket that goes by itself is an abnormal end; after ``closed`` it is the right one."""
    session = flowing()
    if closed:
        session.receive_text(message("close", 3, {"reason": "end"}), 0.0)
        session.closed(0.0)
    session.events()
    session.receive_end(1.0)
    session.receive_end(1.0)
    assert session.events() == [Ended(clean=closed, give_up=False)]


def test_disconnect_is_said_once() -> None:
    """Our end begins once; an own ``close`` of the client comes before it."""
    session = flowing()
    assert session.disconnect(DisconnectReason.UNAUTHORIZED, "no", 0.0)
    assert not session.disconnect(DisconnectReason.ERROR, "no", 0.0)
    assert sent(session)[0]["parameters"] == {"reason": "unauthorized", "info": "no"}
    closing = flowing()
    closing.receive_text(message("close", 3, {"reason": "end"}), 0.0)
    assert not closing.disconnect(DisconnectReason.COMPLETED, "", 0.0)


def test_reconnect_is_asked_for_with_its_reason() -> None:
    """A server that goes away asks its clients to move."""
    session = flowing()
    assert session.reconnect("maintenance", 0.0)
    assert sent(session)[0]["parameters"] == {"info": "maintenance"}


def test_commands_out_of_their_state_are_our_mistake_or_too_late() -> None:
    """A bug of ours is raised, a race is not."""
    session = preparing()
    assert not session.pause(0.0)
    assert not session.reconnect("", 0.0)
    assert not session.updated(0.0)
    with pytest.raises(LocalProtocolError):
        session.accept(None, now=0.0)
    with pytest.raises(LocalProtocolError):
        session.closed(0.0)


# --- any input in any state ---

KINDS = [one["type"] for one in vectors("client")]
COMMANDS = ("pause", "resume", "updated", "reconnect", "disconnect", "closed", "accept", "wait")
steps = st.one_of(
    st.tuples(st.just("text"), st.sampled_from(vectors("client")), st.integers(0, 3)),
    st.tuples(st.just("raw"), st.binary(max_size=40), st.just(1)),
    st.tuples(st.just("audio"), st.integers(0, 400), st.just(1)),
    st.tuples(st.sampled_from(COMMANDS), st.floats(0.0, 12.0), st.just(1)),
    st.tuples(st.just("result"), st.integers(0, 5), st.booleans()),
)


@settings(max_examples=examples(300))
@given(st.lists(steps, max_size=30))
def test_any_input_in_any_state_gives_a_legal_state(story: list[tuple[str, Any, Any]]) -> None:
    """Whatever happens: numbers grow by one, positions never go back and add up, nothing
    follows ``closed``, and the session ends by itself.
    """
    session = preparing()
    now, seq, before, last_seq = 0.0, 0, 0, 0
    closed = False
    for kind, value, extra in story:
        if kind == "text":
            data = {**value, "seq": seq + (extra or 1) if extra < 2 else seq + 1, "serverseq": 0}
            seq = data["seq"]
            session.receive_text(json.dumps(data).encode(), now)
        elif kind == "raw":
            session.receive_text(value, now)
        elif kind == "audio":
            span = session.receive_audio(bytes(value), now)
            assert span is None or span == (before, value // 2) or session.media is not STEREO
        elif kind == "result":
            session.send_entities([final(value, is_final=extra)], now)
        elif kind == "wait":
            now += value
            session.on_deadline(now)
        elif kind == "disconnect":
            session.disconnect(DisconnectReason.COMPLETED, "", now)
        elif kind == "reconnect":
            session.reconnect("", now)
        elif kind == "accept":
            if session.state is State.OPENING and session.open is not None:
                session.accept(choose_media(session.open.media), now=now)
        elif kind == "closed":
            if session.state is State.CLOSING:
                session.closed(now)
        else:
            getattr(session, kind)(now)
        assert session.position >= before
        assert session.position == session.received_samples + session.gap_samples
        before = session.position
        for one in sent(session):
            assert not closed
            assert one["seq"] == last_seq + 1
            assert is_uuid(one["id"])
            last_seq = one["seq"]
            closed = one["type"] == "closed"
    for _ in range(5):
        now += 40.0
        session.on_deadline(now)
    assert session.state is State.OVER
    assert isinstance(session.events()[-1], Ended)
