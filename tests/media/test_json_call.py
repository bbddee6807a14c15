"""The JSON form through the whole service: envelopes in, chunks and records out."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
import websockets

from media.rig import SILENCE, Rig, envelope, serving, until
from steno.core.records import Kind


def opened(rig: Rig, count: int) -> bool:
    return len(rig.recogniser.streams) == count


async def test_words_of_a_call_become_redacted_records(tmp_path: Path) -> None:
    """What the recogniser says takes the way of live transcripts: redaction, then the store."""
    async with serving(tmp_path) as rig:
        call = await rig.json()
        assert call.subprotocol == "media-api"
        for number in range(10):
            await call.send(envelope(number, audio=bytes([number]) * 160))
        await until(lambda: rig.recogniser.streams)
        stream = rig.recogniser.of("p1")
        await until(lambda: len(stream.audio) == 1600)
        assert stream.audio == b"".join(bytes([n]) * 160 for n in range(10))
        assert stream.chunks[-1].sequence_number == 9
        assert (stream.spec.conversation, stream.spec.format) == ("c1", "PCMU")
        stream.say("My number is 415 555 0142.", number=9, words=False)
        stream.say("Thank you.", number=10, words=False)
        await call.close()
        await until(lambda: len(rig.texts()) == 2)
        assert rig.texts() == ["My number is [REDACTED].", "Thank you."]
        assert stream.finished


async def test_frames_that_never_came_are_a_gap_with_its_samples(tmp_path: Path) -> None:
    """Two frames of 20 ms are missing: the clock goes on, and a record says what is not there."""
    async with serving(tmp_path) as rig:
        call = await rig.json()
        for number in (0, 1, 4):
            await call.send(envelope(number))
        await until(lambda: rig.recogniser.streams and rig.recogniser.of("p1").chunks)
        await until(lambda: rig.recogniser.of("p1").chunks[-1].sequence_number == 4)
        assert rig.recogniser.of("p1").chunks[-1].start_samples == 640
        await until(lambda: ("sequence", 320, 640) in rig.gaps())


async def test_what_cannot_be_read_is_quarantined_and_the_call_lives(tmp_path: Path) -> None:
    """Each bad message costs itself alone."""
    async with serving(tmp_path) as rig:
        call = await rig.json()
        await call.send("no json")
        await call.send(envelope(0, audio=SILENCE).replace("/////", "/!///", 1))
        await call.send(b"binary")
        await call.send(envelope(0))
        await until(lambda: rig.recogniser.streams and rig.recogniser.of("p1").chunks)
        assert rig.recogniser.of("p1").audio == SILENCE
        await until(lambda: [g[0] for g in rig.gaps()].count("quarantine") == 2)


async def test_each_participant_has_a_stream_of_its_own(tmp_path: Path) -> None:
    """A socket that carries several is taken apart."""
    async with serving(tmp_path) as rig:
        call = await rig.json()
        for number in range(3):
            await call.send(envelope(number, participant="agent", audio=b"a" * 160))
            await call.send(envelope(number, participant="customer", audio=b"c" * 160))
        await until(lambda: len(rig.recogniser.streams) == 2)
        await until(lambda: len(rig.recogniser.of("customer").audio) == 480)
        assert rig.recogniser.of("agent").audio == b"a" * 480


async def test_a_caller_that_comes_back_goes_on_where_it_was(tmp_path: Path) -> None:
    """The stream, its numbers and its clock are kept; the time between is a gap."""
    async with serving(tmp_path) as rig:
        call = await rig.json()
        for number in range(3):
            await call.send(envelope(number))
        await until(lambda: rig.recogniser.streams and len(rig.recogniser.of("p1").audio) == 480)
        call.transport.abort()
        await until(lambda: rig.service.calls == 0)
        again = await rig.json()
        await again.send(envelope(13))
        stream = rig.recogniser.of("p1")
        await until(lambda: len(stream.audio) == 640)
        assert len(rig.recogniser.streams) == 1
        assert stream.chunks[-1].start_samples == 13 * 160
        await until(lambda: ("disconnect", 480, 13 * 160) in rig.gaps())
        assert not stream.finished


async def test_a_caller_that_comes_back_before_its_loss_is_noticed_takes_over(
    tmp_path: Path,
) -> None:
    """The older connection is dead, whatever TCP thinks: the lane moves to the new one."""
    async with serving(tmp_path) as rig:
        old = await rig.json()
        await old.send(envelope(0))
        await until(lambda: rig.recogniser.streams)
        new = await rig.json()
        await new.send(envelope(1))
        await until(lambda: len(rig.recogniser.of("p1").audio) == 320)
        await old.wait_closed()
        assert len(rig.recogniser.streams) == 1


async def test_two_participants_of_a_conversation_may_call_separately(tmp_path: Path) -> None:
    """Each has a connection of its own, and losing one leaves the other alone."""
    async with serving(tmp_path) as rig:
        agent, customer = await rig.json(), await rig.json()
        await agent.send(envelope(0, participant="agent"))
        await customer.send(envelope(0, participant="customer"))
        await until(lambda: len(rig.recogniser.streams) == 2)
        agent.transport.abort()
        await until(lambda: rig.service.calls == 1)
        await customer.send(envelope(1, participant="customer"))
        await until(lambda: len(rig.recogniser.of("customer").audio) == 320)
        again = await rig.json()
        await again.send(envelope(1, participant="agent"))
        await until(lambda: len(rig.recogniser.of("agent").audio) == 320)
        assert len(rig.recogniser.streams) == 2


async def test_participants_that_shared_a_lost_connection_may_come_back_apart(
    tmp_path: Path,
) -> None:
    """Each new connection takes over what it brings, and none pushes the other out."""
    async with serving(tmp_path) as rig:
        both = await rig.json()
        for participant in ("agent", "customer"):
            await both.send(envelope(0, participant=participant))
        await until(lambda: len(rig.recogniser.streams) == 2)
        both.transport.abort()
        await until(lambda: rig.service.calls == 0)
        agent, customer = await rig.json(), await rig.json()
        await agent.send(envelope(1, participant="agent"))
        await until(lambda: len(rig.recogniser.of("agent").audio) == 320)
        await customer.send(envelope(1, participant="customer"))
        await until(lambda: len(rig.recogniser.of("customer").audio) == 320)
        await agent.send(envelope(2, participant="agent"))
        await until(lambda: len(rig.recogniser.of("agent").audio) == 480)
        assert (rig.service.calls, len(rig.recogniser.streams)) == (2, 2)


async def test_what_lost_calls_leave_behind_is_bounded(tmp_path: Path) -> None:
    """No more is held than there may be calls: the one lost first is given up, with its gap."""
    async with serving(tmp_path, max_calls=2) as rig:
        for number in range(3):
            call = await rig.json()
            await call.send(envelope(0, conversation=f"c{number}", participant=f"p{number}"))
            await until(partial(opened, rig, number + 1))
            call.transport.abort()
            await until(lambda: rig.service.calls == 0)
        await until(lambda: rig.recogniser.of("p0").finished)
        await until(lambda: "disconnect" in [gap[0] for gap in rig.gaps()])
        again = await rig.json()
        await again.send(envelope(1, conversation="c1", participant="p1"))
        await until(lambda: len(rig.recogniser.of("p1").audio) == 320)
        assert [stream.finished for stream in rig.recogniser.streams] == [True, False, False]


async def test_every_message_that_is_skipped_is_counted(tmp_path: Path) -> None:
    """However many came at once: only the quarantine keeps a few of each batch."""
    async with serving(tmp_path, coalesce_ms=200.0) as rig:
        call = await rig.json()
        for _ in range(100):
            await call.send("no json")
        await call.send(envelope(0))
        await until(lambda: rig.recogniser.streams)
        page = rig.telemetry.exposition().decode()
        assert 'steno_media_skipped_total{reason="invalid-json"} 100' in page


async def test_a_caller_that_does_not_come_back_is_flushed(tmp_path: Path) -> None:
    """After the time to reconnect the stream is half-closed and the rest is a gap."""
    async with serving(tmp_path, reconnect_s=0.05) as rig:
        call = await rig.json()
        await call.send(envelope(0))
        await until(lambda: rig.recogniser.streams)
        call.transport.abort()
        await until(lambda: rig.recogniser.of("p1").finished)
        await until(lambda: "disconnect" in [gap[0] for gap in rig.gaps()])


async def test_another_numbering_begins_another_stream(tmp_path: Path) -> None:
    """The speech service tells audio by its number: numbers never come twice in a stream."""
    async with serving(tmp_path) as rig:
        call = await rig.json()
        for number in (5000, 5001):
            await call.send(envelope(number))
        await until(lambda: rig.recogniser.streams)
        await call.send(envelope(0, format="PCMA"))
        await until(lambda: len(rig.recogniser.streams) == 2)
        first, second = rig.recogniser.streams
        assert (first.finished, second.spec.format) == (True, "PCMA")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": "Basic x"}, 401)],
)
async def test_without_a_good_token_nothing_opens(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    """The refusal is an HTTP status at the upgrade."""
    async with serving(tmp_path) as rig:
        with pytest.raises(websockets.InvalidStatus) as caught:
            await rig.json(additional_headers=headers)
        assert caught.value.response.status_code == status


async def test_beyond_the_limit_new_calls_are_refused_and_open_ones_go_on(tmp_path: Path) -> None:
    """503 with a time to come back; the running call notices nothing."""
    async with serving(tmp_path, max_calls=1) as rig:
        call = await rig.json()
        await call.send(envelope(0))
        await until(lambda: rig.recogniser.streams)
        with pytest.raises(websockets.InvalidStatus) as caught:
            await rig.json()
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["Retry-After"]
        await call.send(envelope(1))
        await until(lambda: len(rig.recogniser.of("p1").audio) == 320)


async def test_at_the_end_calls_are_closed_and_their_results_awaited(tmp_path: Path) -> None:
    """SIGTERM: 1001 to the caller, the stream half-closed, its last words stored."""
    async with serving(tmp_path) as rig:
        call = await rig.json()
        await call.send(envelope(0))
        await until(lambda: rig.recogniser.streams)
        stream = rig.recogniser.of("p1")
        stream.ends_at_once = False
        closing = asyncio.create_task(rig.service.close())
        await until(lambda: stream.finished)
        assert call.close_code == 1001
        stream.say("Last words.", words=False)
        stream.end()
        await closing
        assert rig.texts() == ["Last words."]


async def test_at_the_end_results_of_lost_callers_are_awaited_too(tmp_path: Path) -> None:
    """Nobody can come back any more: what the recogniser still says of them is stored."""
    async with serving(tmp_path) as rig:
        call = await rig.json()
        await call.send(envelope(0))
        await until(lambda: rig.recogniser.streams)
        stream = rig.recogniser.of("p1")
        stream.ends_at_once = False
        call.transport.abort()
        await until(lambda: rig.service.calls == 0)
        closing = asyncio.create_task(rig.service.close())
        await until(lambda: stream.finished)
        assert not closing.done()
        stream.say("Last words.", words=False)
        stream.end()
        await closing
        assert rig.texts() == ["Last words."]


async def test_a_caller_that_does_not_answer_is_cut_off_at_the_end(tmp_path: Path) -> None:
    """Time is up before its socket is gone: the call ends like any other, without an error."""
    async with serving(tmp_path, shutdown_s=0.1) as rig:
        call = await rig.json()
        await call.send(envelope(0))
        await until(lambda: rig.recogniser.streams)
        call.transport.pause_reading()
        await rig.service.close()
        await rig.running
        assert rig.service.calls == 0
        assert rig.recogniser.of("p1").finished
        call.transport.abort()


async def test_an_idle_call_is_closed_and_its_end_recorded(tmp_path: Path) -> None:
    """A caller that sends nothing for too long is not waited for."""
    async with serving(tmp_path, idle_s=0.1, reconnect_s=0.05) as rig:
        call = await rig.json()
        await call.send(envelope(0))
        await call.wait_closed()
        assert call.close_code == 1001
        await until(lambda: "disconnect" in [gap[0] for gap in rig.gaps()])
        assert rig.payloads(Kind.SENTENCE) == []


async def test_an_unanswered_end_is_a_gap_and_not_silence(tmp_path: Path) -> None:
    """The speech service never came back: what it had not heard is on record."""
    async with serving(tmp_path, shutdown_s=0.1) as rig:
        call = await rig.json()
        for number in range(4):
            await call.send(envelope(number))
        await until(lambda: rig.recogniser.streams and len(rig.recogniser.of("p1").audio) == 640)
        rig.recogniser.of("p1").ends_at_once = False
        await call.close()
        await until(lambda: ("shed", 0, 640) in rig.gaps())
