"""Both ends joined in memory: whatever crosses, positions agree and the session ends."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.fuzz_examples import examples
from steno.wire.audiohook import (
    AudioDiscarded,
    AudioResumed,
    ClientState,
    CloseAsked,
    CloseReason,
    DisconnectReason,
    Flow,
    ResultsCame,
    State,
)
from wire.audiohook.pair import UTTERANCES, Pair, final


def test_a_call_runs_from_open_to_closed() -> None:
    """Open, pings, audio, a result, close: nobody breaks a rule."""
    pair = Pair()
    pair.carry()
    for _ in range(20):
        pair.client.send_audio(bytes(3200), pair.now)
        pair.carry()
        pair.wait(0.2)
    pair.server.send_entities([final(0)], pair.now)
    pair.client.close(CloseReason.END, pair.now)
    pair.carry()
    pair.server.send_entities([final(1)], pair.now)
    pair.server.closed(pair.now)
    pair.carry()
    assert pair.client.violations == []
    assert (pair.client.state, pair.server.state) == (ClientState.OVER, State.CLOSED)
    results = [one for one in pair.client_events if isinstance(one, ResultsCame)]
    assert [one.transcripts[0].id for one in results] == list(UTTERANCES[:2])
    assert pair.server.position == pair.client.position == 20 * 1600
    assert pair.server.rtt_us is not None


def test_a_paused_start_and_discard_to_keep_the_clocks_together() -> None:
    """Both begin as ``opened`` says."""
    pair = Pair(start_paused=True, discard_to=12_000)
    pair.carry()
    assert not pair.client.send_audio(bytes(3200), 0.0)
    pair.wait(1.5)
    pair.server.resume(pair.now)
    pair.carry()
    for _ in range(10):
        assert pair.client.send_audio(bytes(3200), pair.now)
        pair.carry()
    assert pair.client.violations == []
    assert pair.server.flow is Flow.RUNNING
    assert pair.server.position == pair.client.position == 16_000
    assert pair.server.received_samples == 4000
    assert pair.spans[0][0] == 12_000


def test_both_ends_stay_up_by_pings_alone() -> None:
    """An hour of pause costs nobody the session."""
    pair = Pair()
    pair.carry()
    pair.wait(1.5)
    pair.server.pause(pair.now)
    pair.carry()
    pair.wait(3600.0)
    assert pair.client.violations == []
    assert pair.server.state is State.OPEN


def test_many_results_stay_within_the_platforms_rate() -> None:
    """Two hundred finals and as many partials: no 429."""
    pair = Pair()
    pair.carry()
    pair.wait(1.5)
    for number in range(200):
        pair.server.send_entities([final(number, is_final=False)], pair.now)
        pair.server.send_entities([final(number)], pair.now)
        pair.carry()
        pair.wait(0.05)
    pair.wait(20.0)
    assert pair.client.violations == []
    results = [one for one in pair.client_events if isinstance(one, ResultsCame)]
    finals = [t.id for one in results for t in one.transcripts if t.is_final]
    assert finals == list(UTTERANCES[:200])


deeds = st.one_of(
    st.tuples(st.just("audio"), st.integers(1, 1600)),
    st.tuples(st.just("skip"), st.integers(1, 8000)),
    st.tuples(st.sampled_from(("hold", "release", "pause", "resume", "updated")), st.just(0)),
    st.tuples(st.just("result"), st.integers(0, 9)),
    st.tuples(st.just("update"), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 60)),
    st.tuples(st.sampled_from(("to server", "to client")), st.integers(1, 4)),
)


@settings(max_examples=examples(200))
@given(
    st.lists(deeds, max_size=60),
    st.sampled_from(("client", "server")),
    st.booleans(),
    st.sampled_from((None, 900)),
)
def test_whatever_crosses_positions_agree_and_the_session_ends(
    story: list[tuple[str, Any]], who: str, start_paused: bool, discard_to: int | None
) -> None:
    """Messages are delivered late and in pieces, in order on each way; nobody breaks a rule."""
    pair = Pair(start_paused=start_paused, discard_to=discard_to)
    pair.carry()
    for deed, value in story:
        client, server = pair.client, pair.server
        if deed == "audio":
            client.send_audio(bytes(2 * value), pair.now)
        elif deed == "skip":
            client.skip(value, pair.now)
        elif deed == "update":
            client.update("es-ES", pair.now)
        elif deed == "result":
            server.send_entities([final(value)], pair.now)
        elif deed == "wait":
            pair.carry()
            pair.wait(value / 10)
        elif deed == "to server":
            pair.carry_to_server(value)
        elif deed == "to client":
            pair.carry_to_client(value)
        elif deed in ("hold", "release"):
            getattr(client, deed)(pair.now)
        else:
            getattr(server, deed)(pair.now)
        assert server.position == server.received_samples + server.gap_samples
        assert client.position == client.sent_samples + client.skipped_samples
        assert server.position <= client.position
    pair.carry()
    if not pair.client.is_paused:
        # What was left out in a pause, or on the way to discardTo, is told by then or counts on.
        pending = pair.client.position - pair.server.position
        assert pending == 0 or (discard_to is not None and pair.client.position < discard_to)
    assert pair.server.received_samples == sum(frames for _, frames in pair.spans)
    jumps = [
        one.to_samples - one.from_samples
        for one in pair.server_events
        if isinstance(one, AudioDiscarded | AudioResumed)
    ]
    assert sum(jumps) == pair.server.gap_samples
    starts = [start for start, _ in pair.spans]
    assert starts == sorted(starts)
    if who == "client":
        pair.client.close(CloseReason.END, pair.now)
    else:
        pair.server.disconnect(DisconnectReason.COMPLETED, "done", pair.now)
    pair.carry()
    assert any(isinstance(one, CloseAsked) for one in pair.server_events)
    pair.server.closed(pair.now)
    pair.carry()
    assert pair.client.violations == []
    assert (pair.client.state, pair.server.state) == (ClientState.OVER, State.CLOSED)
