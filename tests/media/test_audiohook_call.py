"""AudioHook through the whole service, called as the platform's client calls."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets

from media.rig import Caller, Rig, serving, until
from steno.core.audio import MediaFormat
from steno.core.records import Kind
from steno.wire.audiohook import (
    Accepted,
    Asked,
    Channel,
    CloseReason,
    DisconnectAsked,
    MediaItem,
    OpenParameters,
    Participant,
    from_samples,
    probe_parameters,
)
from steno.wire.audiohook import messages as m

CONVERSATION = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d01"
OTHER_CONVERSATION = "7d2c9a10-51b3-4b0e-8a44-0f6e2b7c9d02"
CUSTOMER = "3c6d1b22-9e4f-4a5b-8d70-1f2e3d4c5b6a"
ORGANIZATION = "d7934305-0972-4844-938e-9060eef73d05"
BOTH = MediaItem("audio", m.MediaFormat.PCMU, (Channel.EXTERNAL, Channel.INTERNAL), 8000)
FRAME = bytes(range(200)) * 16  # 200 ms of two channels


def asked(language: str | None = None) -> OpenParameters:
    return OpenParameters(
        organization_id=ORGANIZATION,
        conversation_id=CONVERSATION,
        participant=Participant(id=CUSTOMER, ani="", ani_name="", dnis=""),
        media=(BOTH,),
        language=language,
    )


async def opened(rig: Rig, parameters: OpenParameters | None = None) -> Caller:
    caller = await rig.audiohook(parameters or asked())
    await until(lambda: caller.of(Accepted))
    await caller.ping()
    return caller


async def close(caller: Caller) -> None:
    caller.session.close(CloseReason.END, time.monotonic())
    await caller.flush()
    await until(lambda: caller.is_over)


async def test_stored_sentences_go_back_as_entities_with_their_word_times(tmp_path: Path) -> None:
    """The customer is channel 0; what redaction removed, Genesys does not see either."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig)
        for _ in range(5):
            await caller.play(FRAME)
        customer, agent = rig.recogniser.of(CUSTOMER), rig.recogniser.of("internal")
        await until(lambda: len(agent.audio) == 8000)
        assert customer.audio == FRAME[0::2] * 5
        assert agent.audio == FRAME[1::2] * 5
        customer.say("Call me on 415 555 0142 please.", number=4, start=800, end=6800)
        await until(lambda: caller.transcripts)
        (entity,) = caller.transcripts
        assert rig.texts() == ["Call me on [REDACTED] please."]
        assert (entity.text, entity.channel, entity.is_final) == (rig.texts()[0], 0, True)
        values = [token.value for token in entity.tokens]
        assert values == ["Call", "me", "on", "[REDACTED]", "please."]
        starts = [token.offset_us for token in entity.tokens]
        assert starts == sorted(set(starts))
        assert starts[0] == 100_000
        await close(caller)
        assert caller.violations == []


async def test_the_last_words_come_before_closed(tmp_path: Path) -> None:
    """``close`` ends the audio; results that are still to come are flushed first."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        agent = rig.recogniser.of("internal")
        agent.ends_at_once = False
        caller.session.close(CloseReason.END, time.monotonic())
        await caller.flush()
        await until(lambda: agent.finished)
        agent.say("Goodbye then.", end=1600)
        agent.end()
        await until(lambda: caller.is_over)
        assert [one.text for one in caller.transcripts] == ["Goodbye then."]
        assert caller.violations == []


async def test_closed_does_not_wait_for_a_recogniser_that_says_nothing(tmp_path: Path) -> None:
    """The caller gives up after ten seconds: ``closed`` comes in time, with what there is.

    What is recognised later is stored all the same.
    """
    async with serving(tmp_path, close_wait_s=0.1) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        agent = rig.recogniser.of("internal")
        agent.ends_at_once = False
        await close(caller)
        assert caller.violations == []
        agent.say("Late but not lost.", end=1600)
        agent.end()
        await until(lambda: rig.service.calls == 0)
        assert rig.texts() == ["Late but not lost."]


async def test_a_probe_costs_no_recogniser_and_leaves_no_record(tmp_path: Path) -> None:
    """It is answered with a medium and the languages, and nothing else happens."""
    async with serving(tmp_path) as rig:
        caller = await rig.audiohook(probe_parameters(ORGANIZATION, [BOTH]))
        await until(lambda: caller.is_over)
        (accepted,) = caller.of(Accepted)
        assert accepted.parameters.supported_languages == ("en-US", "es-ES")
        assert (rig.recogniser.streams, rig.records) == ([], [])
        assert caller.violations == []


async def test_a_pause_of_the_platform_is_recorded_as_one(tmp_path: Path) -> None:
    """Nothing is heard meanwhile, and the clock goes on where the caller says."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        now = time.monotonic()
        caller.session.hold(now)
        caller.session.skip(16000, now)
        caller.session.release(now)
        await caller.flush()
        await caller.play(FRAME)
        agent = rig.recogniser.of("internal")
        await until(lambda: len(agent.audio) == 3200)
        assert agent.chunks[-1].start_samples == 17600
        await until(lambda: ("paused", 1600, 17600) in rig.gaps())
        await close(caller)
        assert caller.violations == []


async def test_discarded_audio_is_a_gap_of_each_channel(tmp_path: Path) -> None:
    """The caller's overload is on record with its place on the clock."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        caller.session.skip(4000, time.monotonic())
        await caller.play(FRAME)
        await until(lambda: rig.gaps().count(("discarded", 1600, 5600)) == 2)
        assert rig.recogniser.of("internal").chunks[-1].start_samples == 5600
        await close(caller)


async def test_an_update_changes_the_tag_of_the_audio_behind_it(tmp_path: Path) -> None:
    """The platform's word is obeyed at once and recorded."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig, asked("en-us"))
        await caller.play(FRAME)
        caller.session.update("es-es", time.monotonic())
        await caller.flush()
        await caller.play(FRAME)
        agent = rig.recogniser.of("internal")
        await until(lambda: len(agent.chunks) == 2)
        assert [chunk.language for chunk in agent.chunks] == ["en-US", "es-ES"]
        await until(lambda: rig.payloads(Kind.LANGUAGE_CHANGED))
        assert rig.payloads(Kind.LANGUAGE_CHANGED)[0]["language"] == "es-ES"
        await close(caller)
        assert caller.violations == []


async def test_a_language_nobody_recognises_is_paused_until_another_is_spoken(
    tmp_path: Path,
) -> None:
    """Listening without results would be billed for nothing."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig, asked("fi-FI"))
        await until(lambda: Asked("pause") in caller.events)
        caller.session.update("es-ES", time.monotonic())
        await caller.flush()
        await until(lambda: Asked("resume") in caller.events)
        await close(caller)


async def test_partials_are_shown_when_wanted_unless_they_may_hold_a_secret(tmp_path: Path) -> None:
    """A number half spoken is not shown; the final comes redacted, with the partial's id."""
    async with serving(tmp_path, partials=True) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        agent = rig.recogniser.of("internal")
        agent.say("good morning", final=False, utterance="a")
        await until(lambda: caller.transcripts)
        agent.say("good morning my number is four one five", final=False, utterance="a")
        agent.say("Good morning everybody.", final=True, utterance="a")
        await until(lambda: any(one.is_final for one in caller.transcripts))
        partial, *others = caller.transcripts
        assert (partial.text, partial.is_final) == ("good morning", False)
        assert [one.text for one in others] == ["Good morning everybody."]
        assert others[0].id == partial.id
        await close(caller)
        assert caller.violations == []


async def test_a_slow_recogniser_makes_the_caller_pause_before_audio_is_lost(
    tmp_path: Path,
) -> None:
    """Above the pressure limit we ask for a pause, and to go on when there is room."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        stream = rig.recogniser.of("internal")
        stream.pressure = 0.95
        await until(lambda: Asked("pause") in caller.events)
        stream.pressure = 0.0
        await until(lambda: Asked("resume") in caller.events)
        await close(caller)


async def test_a_socket_that_drops_is_an_interruption_on_record(tmp_path: Path) -> None:
    """What was heard is flushed; that nobody said goodbye is a gap."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        await until(lambda: rig.recogniser.streams)
        rig.recogniser.of(CUSTOMER).say("Are you still there?", end=1600)
        caller.socket.transport.abort()
        await until(lambda: rig.service.calls == 0)
        assert rig.texts() == ["Are you still there?"]
        assert ("disconnect", 1600, 1600) in rig.gaps()


async def test_one_bad_session_touches_no_other(tmp_path: Path) -> None:
    """A broken rule ends its session with ``disconnect``; the other one goes on."""
    async with serving(tmp_path) as rig:
        good, bad = await opened(rig), await opened(rig)
        await bad.socket.send('{"version":"2","id":"x","type":"ping","seq":99}')
        await until(lambda: bad.of(DisconnectAsked))
        await until(lambda: bad.is_over)
        await good.play(FRAME)
        await close(good)
        assert good.violations == []


@pytest.mark.parametrize("changes", [{"X-API-KEY": "unknown"}, {"Audiohook-Session-Id": "1"}])
async def test_an_upgrade_without_its_key_or_ids_is_refused(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    """401, whatever was wrong."""
    async with serving(tmp_path) as rig:
        with pytest.raises(websockets.InvalidStatus) as caught:
            await rig.audiohook(asked(), **changes)
        assert caught.value.response.status_code == 401


async def test_at_the_end_callers_are_asked_to_go(tmp_path: Path) -> None:
    """``disconnect``, the caller's ``close``, the last results, ``closed``."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        await until(lambda: rig.recogniser.streams)
        rig.recogniser.of(CUSTOMER).say("One moment.", end=1600)
        await rig.service.close()
        await until(lambda: caller.is_over)
        assert caller.of(DisconnectAsked)
        assert rig.texts() == ["One moment."]
        assert caller.violations == []


async def test_without_a_recogniser_calls_are_answered_and_recorded(tmp_path: Path) -> None:
    """``--engine none``: protocol, gaps and the recording alone."""
    written: list[tuple[int, int, bytes]] = []

    class Recording:
        def write(self, channel: int, start_samples: int, audio: bytes) -> None:
            written.append((channel, start_samples, audio))

        def paused(self, at_samples: int) -> None:
            written.append((-1, at_samples, b""))

        def resumed(self, at_samples: int) -> None:
            written.append((-2, at_samples, b""))

        def close(self) -> None:
            written.append((-3, 0, b""))

    def start(conversation: str, media: MediaFormat) -> Any:
        assert (conversation, media.channels) == (CONVERSATION, ("external", "internal"))
        return Recording()

    async with serving(tmp_path, recognises=False, start_recording=start) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        caller.session.hold(time.monotonic())
        caller.session.release(time.monotonic())
        await caller.flush()
        await asyncio.sleep(0)
        await close(caller)
        assert written == [
            (0, 0, FRAME[0::2]),
            (1, 0, FRAME[1::2]),
            (-1, 1600, b""),
            (-2, 1600, b""),
            (-3, 0, b""),
        ]
        assert from_samples(1600, 8000) == "PT0.2S"


async def test_what_nobody_recognised_in_time_is_a_gap(tmp_path: Path) -> None:
    """The words are lost, and the record says which part of the call they belong to."""
    async with serving(tmp_path, close_wait_s=0.05, shutdown_s=0.1) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        await caller.play(FRAME)
        agent = rig.recogniser.of("internal")
        agent.ends_at_once = False
        agent.say("Only the beginning.", end=1600)
        await close(caller)
        await until(lambda: ("shed", 1600, 3200) in rig.gaps())
        assert agent.aborted


async def test_a_pause_that_lasts_to_the_end_is_recorded(tmp_path: Path) -> None:
    """A call that ends while it is paused has a gap up to its end."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        caller.session.hold(time.monotonic())
        await caller.flush()
        await close(caller)
        await until(lambda: "paused" in [gap[0] for gap in rig.gaps()])


async def test_a_session_that_continues_a_lost_one_closes_its_gap(tmp_path: Path) -> None:
    """The time between the two is on record."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig)
        await caller.play(FRAME)
        await until(lambda: rig.recogniser.streams)
        caller.socket.transport.abort()
        await until(lambda: rig.service.calls == 0)
        before = [gap for gap in rig.payloads(Kind.GAP) if gap["cause"] == "disconnect"]
        continued = m.ContinuedSession(caller.session_id, 1, 1)
        again = await opened(rig, msgspec.structs.replace(asked(), continued_sessions=(continued,)))
        await until(
            lambda: len([g for g in rig.payloads(Kind.GAP) if g["cause"] == "disconnect"]) == 2
        )
        lost = [gap for gap in rig.payloads(Kind.GAP) if gap["cause"] == "disconnect"][-1]
        assert lost["from_us"] == before[0]["to_us"]
        assert lost["to_us"] > lost["from_us"]
        await close(again)


async def test_a_sentence_too_long_for_a_message_costs_no_other_call_its_own(
    tmp_path: Path,
) -> None:
    """Both are stored in one transaction: one call's trouble stays with it, and is counted."""
    async with serving(tmp_path) as rig:
        caller = await opened(rig)
        other = await opened(
            rig, msgspec.structs.replace(asked(), conversation_id=OTHER_CONVERSATION)
        )
        await until(lambda: len(rig.recogniser.streams) == 4)
        long, short = rig.recogniser.streams[0], rig.recogniser.streams[2]
        assert short.spec.conversation == OTHER_CONVERSATION
        long.say("word " * 20_000, number=1, words=False)
        short.say("Good morning.", number=1)
        await close(caller)
        await until(lambda: other.transcripts)
        assert [one.text for one in other.transcripts] == ["Good morning."]
        assert "steno_media_results_dropped_total 1" in rig.telemetry.exposition().decode()
