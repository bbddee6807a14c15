"""The AudioHook caller: what it says to a correct server, and what it finds in wrong ones."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from conformance.call_servers import API_KEY, ENTITIES, SECRET, Hook, Session
from steno_sim.calls.audio import encode, tone
from steno_sim.calls.audiohook import AudioHookCaller
from steno_sim.calls.client import NULL_ID, Timers
from steno_sim.calls.faults import FAULTS, CallFault, End, expected
from steno_sim.calls.plan import Act, CallPlan
from steno_sim.calls.results import CallResult

QUICK = Timers(opened_s=3.0, closed_s=3.0, first_ping_s=0.03, ping_s=3.0)
IMPATIENT = {
    "never_opens": replace(QUICK, opened_s=0.15),
    "never_pongs": replace(QUICK, ping_s=0.1),
    "never_closes": replace(QUICK, closed_s=0.15),
}
"""Little patience for what never comes, and much for everything else."""
SECOND, BRIEF = tone(1000), tone(400)
LIVELY = CallPlan(sound=SECOND, speed=6.0, frame_ms=100, patience_s=0.2)


async def call(
    hook: Hook, plan: CallPlan = LIVELY, *, timers: Timers = QUICK, **changes: Any
) -> CallResult:
    async with hook.running():
        caller = AudioHookCaller(
            hook.url,
            replace(plan, **changes),
            api_key=API_KEY,
            secret=SECRET,
            timers=timers,
        )
        return await caller.run()


def kinds(session: Session) -> list[str]:
    return [message["type"] for message in session.said]


async def test_a_call_says_everything_in_its_order() -> None:
    """Open, two pings at once after another, close; every sample of every channel."""
    hook = Hook()
    result = await call(hook)
    assert result.violations == []
    (session,), (served,) = result.sessions, hook.sessions
    assert (session.end, session.close_code) == (End.COMPLETED, 1000)
    assert kinds(served)[:3] == ["open", "ping", "ping"]
    assert kinds(served)[-1] == "close"
    assert "rtt" not in served.said[1]["parameters"]
    assert served.said[2]["parameters"]["rtt"].startswith("PT")
    assert bytes(served.audio) == encode(SECOND, "PCMU")
    assert (session.position_ms, session.frames) == (1000, 10)
    assert session.opened_ms is not None
    assert len(session.rtts_ms) >= 2
    assert [entity.text for entity in result.entities] == ["yes"]


async def test_the_log_shows_messages_and_counts_audio() -> None:
    """Nothing but JSON values; audio only as frames and bytes."""
    result = await call(Hook())
    log = result.sessions[0].log
    assert log[0]["message"]["type"] == "open"
    assert log[-1]["message"]["type"] == "closed"
    assert sum(line.get("frames", 0) for line in log) == 10
    assert sum(line.get("bytes", 0) for line in log) == 16000


async def test_positions_count_samples() -> None:
    """A message says the position of the next sample."""
    hook = Hook()
    await call(hook, speed=0.0, acts=(Act(500, "update", language="fr-FR"),))
    said = {message["type"]: message["position"] for message in hook.sessions[0].said}
    assert (said["open"], said["update"], said["close"]) == ("PT0S", "PT0.5S", "PT1S")


async def test_a_probe_is_closed_at_once() -> None:
    """Null ids, empty numbers, no audio, languages listed."""
    hook = Hook()
    result = await call(hook, probe=True, ask_languages=True)
    opened = hook.sessions[0].said[0]["parameters"]
    assert result.ok
    assert (opened["conversationId"], opened["participant"]["id"]) == (NULL_ID, NULL_ID)
    assert {opened["participant"][name] for name in ("ani", "aniName", "dnis")} == {""}
    assert result.sessions[0].languages == ["en-US", "fr-FR"]
    assert kinds(hook.sessions[0]) == ["open", "close"]
    assert not hook.sessions[0].audio


async def test_mono_and_l16() -> None:
    """The medium taken decides channels, order and encoding."""
    plan = LIVELY.offered("L16")
    hook = Hook()
    result = await call(hook, replace(plan, offers=plan.offers[2:], speed=0.0))
    assert result.ok
    assert bytes(hook.sessions[0].audio) == encode(SECOND.picked((1,)), "L16")


@pytest.mark.parametrize(("runs", "position"), [(False, 1000), (True, 1000)])
async def test_a_pause_of_the_server_is_obeyed(runs: bool, position: int) -> None:
    """Paused, then resumed with what was discarded; no audio between."""
    hook = Hook(pause_at=8000)
    result = await call(hook, clock_runs=runs, speed=4.0)
    assert result.violations == []
    said = {message["type"]: message for message in hook.sessions[0].said}
    lost = float(said["resumed"]["parameters"]["discarded"][2:-1])
    assert said["paused"]["position"] == said["resumed"]["parameters"]["start"]
    assert (lost > 0) is runs
    assert len(hook.sessions[0].audio) == pytest.approx(16000 - lost * 16000, abs=4)
    assert result.sessions[0].position_ms == position


async def test_a_server_that_pauses_for_good_does_not_hold_the_call() -> None:
    """The call ends by the clock."""
    result = await call(Hook(pause_at=8000, wrong="lively"), speed=3.0)
    assert result.ok
    assert result.sessions[0].position_ms < 1000


async def test_both_pauses_must_end() -> None:
    """A resume during the platform's own pause is answered with paused."""
    hook = Hook(pause_at=8000)
    result = await call(hook, speed=5.0, acts=(Act(500, "pause", for_ms=1000),))
    assert result.ok
    order = [k for k in kinds(hook.sessions[0]) if k in ("paused", "resumed")]
    assert order == ["paused", "paused", "paused", "resumed"]


async def test_opened_may_begin_paused_or_discard() -> None:
    """A start in pause waits for resume; discardTo drops and tells."""
    hook = Hook(wrong="start_paused")
    result = await call(hook)
    assert result.ok
    assert [k for k in kinds(hook.sessions[0]) if k != "ping"] == ["open", "resumed", "close"]
    hook = Hook(wrong="discard_to")
    result = await call(hook, speed=0.0)
    assert result.ok
    told = hook.sessions[0].said[1]
    assert told["parameters"] == {"start": "PT0S", "discarded": "PT0.1S"}
    assert told["position"] == "PT0.1S"
    assert len(hook.sessions[0].audio) == 16000 - 1600


async def test_no_medium_means_no_audio() -> None:
    """The call lasts as long as its sound, and nothing is sent."""
    hook = Hook(wrong="no_media")
    result = await call(hook, speed=10.0)
    assert result.ok
    assert result.sessions[0].frames == 0


@pytest.mark.parametrize("by_server", [True, False])
async def test_a_reconnect_continues_in_a_new_session(by_server: bool) -> None:
    """Close says reconnect; the new open lists the session before with its numbers."""
    hook = Hook(wrong="reconnects" if by_server else "")
    acts = () if by_server else (Act(500, "reconnect"),)
    async with hook.running():
        plan = replace(LIVELY, acts=acts)
        caller = AudioHookCaller(hook.url, plan, api_key=API_KEY, secret=SECRET, timers=QUICK)
        running = asyncio.create_task(caller.run())
        while len(hook.sessions) < 2:
            await asyncio.sleep(0.005)
        hook.wrong = ""
        result = await running
    first, second = hook.sessions[:2]
    assert result.ok
    assert first.said[-1]["parameters"] == {"reason": "reconnect"}
    assert second.said[0]["parameters"]["continuedSessions"] == [
        {
            "id": result.sessions[0].session,
            "serverseq": first.seq,
            "clientseq": first.heard,
        }
    ]
    assert bytes(first.audio + second.audio) == encode(SECOND, "PCMU")


WRONG = {
    "never_opens": "opened.late",
    "early_event": "message.unexpected",
    "no_languages": "opened.languages",
    "language_form": "opened.languages",
    "channel_order": "opened.media",
    "two_media": "opened.media",
    "invented_rate": "opened.media",
    "sequence_from_0": "message.seq",
    "skips_seq": "message.seq",
    "other_id": "message.id",
    "version": "message.version",
    "opened_twice": "opened.again",
    "talks_before_pong": "opened.quiet",
    "not_json": "message.json",
    "huge": "message.size",
    "unknown_type": "message.type",
    "no_parameters": "message.parameters",
    "pong_unasked": "pong.unasked",
    "pong_clientseq": "message.clientseq",
    "old_clientseq": "pong.clientseq",
    "never_pongs": "pong.late",
    "drops": "socket.ended",
    "disconnects": "session.refused",
    "disconnect_reason": "disconnect.reason",
    "closed_unasked": "closed.unasked",
    "binary": "binary.unexpected",
    "no_entities": "event.entities",
    "chatty": "message.rate",
    "updated_unasked": "updated.unasked",
    "never_closes": "closed.late",
    "ends_at_close": "socket.ended",
    "refuses": "upgrade.refused",
    "redirects": "upgrade.refused",
    "unauthorized": "session.refused",
    "final_twice": "entity.repeated",
    "entity_id": "entity.id",
    "channel_name": "entity.channel",
    "channel_boolean": "entity.channel",
    "channel_2": "entity.channel",
    "final_text": "entity.final",
    "minutes": "entity.times",
    "exponent": "entity.times",
    "ahead": "entity.future",
    "no_alternatives": "entity.alternatives",
    "no_confidence": "entity.alternatives",
    "confidence_percent": "entity.alternatives",
    "language": "entity.languages",
    "lexical": "entity.interpretation",
    "no_transcript": "entity.interpretation",
    "no_tokens": "entity.tokens",
    "token_position": "entity.tokens",
    "punctuation": "entity.tokens",
    "same_offsets": "entity.token_offsets",
    "no_type": "event.entities",
}
assert set(ENTITIES) <= set(WRONG)


@pytest.mark.parametrize("wrong", sorted(WRONG))
async def test_a_wrong_server_is_found_out(wrong: str) -> None:
    """By the name of the rule it breaks."""
    timers = IMPATIENT.get(wrong, replace(QUICK, closed_s=0.2))
    sound = SECOND if wrong == "never_pongs" else BRIEF  # the call lasts until the pong is late
    result = await call(
        Hook(wrong=wrong), timers=timers, sound=sound, speed=3.0, ask_languages=True
    )
    assert WRONG[wrong] in [violation.rule for violation in result.violations]


async def test_a_message_after_closed_is_found() -> None:
    """Closed is the last word."""
    hook = Hook(wrong="talks_after_closed")
    result = await call(hook)
    assert "closed.after" in [violation.rule for violation in result.violations]


@pytest.mark.parametrize(
    ("kind", "wrong"), [("error", "offended"), ("discard_nothing", "offended")]
)
async def test_blame_for_nothing_is_found(kind: Any, wrong: str) -> None:
    """A client error, or a needless discarded, must not end the session."""
    act = Act(500, kind, for_ms=100)
    assert (await call(Hook(), acts=(act,))).ok
    result = await call(Hook(wrong=wrong), acts=(act,))
    assert "disconnect.blameless" in [violation.rule for violation in result.violations]


HOOK_FAULTS = [fault for fault, text in FAULTS.items() if text.family != "json"]


@pytest.mark.parametrize("fault", HOOK_FAULTS)
async def test_a_correct_server_meets_every_fault(fault: CallFault) -> None:
    """What must be refused is refused, what must be survived is survived."""
    hook = Hook()
    result = await call(hook, fault=fault)
    assert result.violations == []
    assert result.end in expected(fault, "audiohook")


SIGNING = [f for f in HOOK_FAULTS if FAULTS[f].expected == {End.REFUSED, End.UNAUTHORIZED}]


@pytest.mark.parametrize("fault", SIGNING)
async def test_a_trusting_server_is_found_out(fault: CallFault) -> None:
    """Whoever lets a bad signature in, breaks fault.accepted."""
    result = await call(Hook(wrong="trusting"), fault=fault, speed=0.0)
    assert [violation.rule for violation in result.violations] == ["fault.accepted"]


async def test_a_server_that_does_not_survive_is_found_out() -> None:
    """Ending a call for a needless discarded is fault.fatal too."""
    result = await call(Hook(wrong="offended"), fault=CallFault.NEEDLESS_DISCARD)
    assert "fault.fatal" in [violation.rule for violation in result.violations]


async def test_a_server_that_is_not_there_is_told_apart() -> None:
    """No connection is not a refusal."""
    caller = AudioHookCaller("ws://127.0.0.1:9/audiohook", LIVELY, api_key=API_KEY)
    result = await caller.run()
    assert result.end is End.UNREACHABLE
    assert not result.ok


async def test_dropped_sockets_are_seen_by_the_server() -> None:
    """A drop ends the session without close; the continued one completes."""
    hook = Hook()
    result = await call(hook, fault=CallFault.DROP_AND_CONTINUE)
    assert [session.end for session in result.sessions] == [End.ABANDONED, End.COMPLETED]
    assert hook.sessions[0].lost
    assert "close" not in kinds(hook.sessions[0])
    with contextlib.suppress(IndexError):
        assert hook.sessions[1].said[0]["parameters"]["continuedSessions"]
