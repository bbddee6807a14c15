"""The world: one script, one clock, and the regions that its conversations are heard in.

Playback walks the script's pieces in time and gives each to whoever listens: on the
transcript stream to one socket (conversations stay on a socket while it lives), on
notification topics to every subscribed channel, on event sockets to every subscribed one.
Several regions may share a world; what is said is then heard wherever the gateway is
connected at that moment.

There is no replay: what falls due while nobody is connected is missed and counted, unless
``hold`` is set, which stops the clock until somebody listens.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steno_sim import people, wire
from steno_sim.faults import Fault
from steno_sim.ledger import Ledger, Truth
from steno_sim.load_script import LoadScript
from steno_sim.pieces import Piece, Plan, Version, What
from steno_sim.region import Region
from steno_sim.scenario import Scenario
from steno_sim.scenario import load as load_scenario
from steno_sim.script import build
from steno_sim.sockets import Socket

_TOLD = (What.STARTED, What.ANSWERED, What.CHANGED, What.ENDED)
_BATCH = 64  # pieces sent before other tasks get their turn, when flat out


class World:
    """Plays one scenario into its regions.

    Args:
        scenario: A scenario, a packaged name, or a file.
        speed: Multiple of real time; 0 sends as fast as the peers read.
        seed: Overrides the scenario's.
        conversations: Overrides the number of conversations (0: as written).
        hold: Stop the clock while nobody listens, in place of missing what falls due.
        wait_for_sockets: Begin once so many sockets are connected.

    Raises:
        ScenarioError: The scenario cannot be read.
    """

    def __init__(
        self,
        scenario: Scenario | str | Path = "demo",
        *,
        speed: float = 1.0,
        seed: int | None = None,
        conversations: int = 0,
        hold: bool = False,
        wait_for_sockets: int = 0,
    ) -> None:
        self.regions: list[Region] = []
        self.speed = speed
        self.hold = hold
        self.wait_for_sockets = wait_for_sockets
        self._changed = asyncio.Event()
        self._player: asyncio.Task[None] | None = None
        self._seed: int | None = None
        self._count = 0
        self.prepare(scenario, seed=seed, conversations=conversations)

    def prepare(
        self, scenario: Scenario | str | Path, *, seed: int | None = None, conversations: int = 0
    ) -> None:
        """Load a scenario in place of the one before; nothing may be playing."""
        if not isinstance(scenario, Scenario):
            scenario = load_scenario(scenario)
        self.scenario = scenario
        self._seed, self._count = seed, conversations
        self.script = build(scenario, seed=seed, conversations=conversations)
        self.ledger = Ledger(self.script)
        self.languages: dict[str, str] = {}
        self.by_id = {plan.id: plan for plan in self.script.plans}
        self._places: dict[int, int] = {}  # scenario time of a conversation's last notice
        self._zeros: dict[tuple[int, int], int] = {}  # wall clock of a conversation's legs
        self.ended_at: dict[int, float] = {}  # when conversations ended, monotonic seconds
        self._said_us: dict[int, array[int]] = {}  # flat out: when finals were sent, by key
        self._joining: dict[int, list[Piece]] = {}
        self._sticky: dict[int, Socket] = {}
        self._begun = asyncio.Event()
        self._finished = asyncio.Event()
        self._start_s = 0.0
        self._start_us = 0
        self._held_s = 0.0
        self._last_us = 0
        script = self.script
        flat = isinstance(script, LoadScript) and (not self.speed or not script.spec.rate)
        self._stamp_now = flat

    async def __aenter__(self) -> Self:
        self.play()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def attach(self, region: Region) -> None:
        """Let conversations be heard in a region."""
        self.regions.append(region)
        region.changed = self._audience_changed
        if self._begun.is_set():
            self._arm(region)

    def detach(self, region: Region) -> None:
        """Take a region out."""
        self.regions = [r for r in self.regions if r is not region]
        self._audience_changed()

    # --- playing ----------------------------------------------------------------------

    def play(self) -> None:
        """Begin to play, once; returns at once."""
        if self._player is None:
            self._player = asyncio.get_running_loop().create_task(self._play())

    async def restart(
        self,
        scenario: Scenario | str | Path | None = None,
        *,
        seed: int | None = None,
        conversations: int = 0,
        speed: float | None = None,
    ) -> None:
        """Stop what plays and begin anew, with the same scenario or another.

        Without a scenario, seed and number of conversations stay too, unless given.
        """
        if scenario is None:
            seed = self._seed if seed is None else seed
            conversations = conversations or self._count
        elif not isinstance(scenario, Scenario):
            scenario = load_scenario(scenario)  # a faulty one must not stop what plays
        await self.stop()
        if speed is not None:
            self.speed = speed
        self.prepare(scenario or self.scenario, seed=seed, conversations=conversations)
        self.play()

    async def stop(self) -> None:
        """Stop playing; what has not fallen due never will."""
        player, self._player = self._player, None
        if player is None:
            return
        player.cancel()
        try:
            await player
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise

    async def begun(self) -> None:
        """Wait until the first piece is about to be sent."""
        await self._begun.wait()

    async def finished(self) -> None:
        """Wait until every piece has been sent or missed; raise what playback raised."""
        waiter = asyncio.get_running_loop().create_task(self._finished.wait())
        tasks = {waiter} if self._player is None else {waiter, self._player}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()
        if self._player is not None and self._player.done() and not self._player.cancelled():
            self._player.result()

    async def _play(self) -> None:
        while self._audience() < self.wait_for_sockets:
            await self._wait_for_change()
        loop = asyncio.get_running_loop()
        self._start_s = loop.time()
        self._start_us = time.time_ns() // 1000
        self._held_s = 0.0
        self._begun.set()
        for region in self.regions:
            self._arm(region)
        burst = 0
        for piece in self.script.pieces():
            burst += 1
            if self.speed:
                due = self._start_s + self._held_s + piece.due_us / 1e6 / self.speed
                wait = due - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                    burst = 0
            if burst >= _BATCH:
                await asyncio.sleep(0)
                burst = 0
            if self.hold:
                await self._hold(piece)
            await self._give(piece)
        for number in list(self._joining):
            await self._send_events(self.script.plans[number], [])
        for region in self.regions:
            for socket in region.sockets():
                await socket.flush()
        self._finished.set()

    def _arm(self, region: Region) -> None:
        for fault in self.scenario.faults:
            if fault.region in ("", region.name):
                region.inject(fault)

    async def _hold(self, piece: Piece) -> None:
        loop = asyncio.get_running_loop()
        if self._heard(piece):
            return
        since = loop.time()
        while not self._heard(piece):
            await self._wait_for_change()
        self._held_s += loop.time() - since

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        # Token ends and healed sockets change the audience without an event of their own.
        try:
            async with asyncio.timeout(0.05):
                await self._changed.wait()
        except TimeoutError:
            return

    def _audience_changed(self) -> None:
        self._changed.set()

    def _audience(self) -> int:
        return sum(r.audience() for r in self.regions if r.up)

    def _heard(self, piece: Piece) -> bool:
        """Tell whether somebody would hear a piece now."""
        now = asyncio.get_running_loop().time()
        plan = self.script.plans[piece.conversation]
        if self._stream_socket(plan, healthy=True) is not None:
            return True
        if any(s.healthy for r in self.regions if r.up for s in r.event_listeners(plan.id)):
            return True
        topics = [wire.transcription_topic(plan.id)]
        if piece.what in _TOLD:
            topics += wire.conversation_topics(plan, plan.agents)
        return any(r.up and r.listening(t, now=now) for r in self.regions for t in topics)

    # --- giving -----------------------------------------------------------------------

    async def _give(self, piece: Piece) -> None:
        plan = self.script.plans[piece.conversation]
        if piece.what is What.FRAGMENT:
            await self._give_fragment(piece, plan)
            return
        at_us = self._wall(piece.stamp_us)
        if piece.what in (What.SESSION, What.SESSION_ENDED):
            start_us = self._zero(plan, piece.leg, at_us)
            await self._publish(
                wire.transcription_topic(plan.id),
                lambda: wire.session_event(piece, plan, at_us=at_us, start_us=start_us),
            )
            return
        if piece.what is What.STARTED:
            self._zeros[plan.number, 0] = at_us
        self._places[plan.number] = piece.due_us
        await self._tell_people(plan, piece.due_us)
        if piece.what is What.ENDED:
            self.ended_at[plan.number] = asyncio.get_running_loop().time()
            await self._send_events(plan, [])
            socket = self._sticky.pop(plan.number, None)
            if socket is not None:
                socket.assigned -= 1
                await socket.flush()

    async def _tell_people(self, plan: Plan, at_us: int) -> None:
        """Announce who takes part by now on the topics of the queue and of the agents."""
        everybody = self.script.people(plan.number)
        entity = people.entity(plan.id, everybody, at_us, self._clock(plan))
        users = list(dict.fromkeys(p.user for p in people.present(everybody, at_us) if p.user))
        # A conversation that waits is told to its first agent, who is about to get it.
        for topic in wire.conversation_topics(plan, users or [plan.agent]):
            await self._publish(topic, lambda topic=topic: wire.envelope(topic, entity))

    async def _give_fragment(self, piece: Piece, plan: Plan) -> None:
        at_us = self._wall(piece.stamp_us)
        if self._stamp_now and piece.final:
            self._keep_time(plan, piece.key, at_us)
        stream = False
        socket = None if piece.correction else self._stream_socket(plan)
        if socket is not None:
            participant, language = self.script.voice(piece)
            if self.scenario.reflect_config:
                language = self.languages.get(plan.id, language)
            data = wire.stream_message(piece, plan, participant, language, at_us=at_us)
            stream = await socket.region.send_speech(socket, data, final=piece.final)
        topic = wire.transcription_topic(plan.id)
        heard = False
        if any(r.channels.has_topic(topic) for r in self.regions) and self._tells(piece):
            heard = await self._publish(
                topic, lambda: self._transcript_event(piece, plan, at_us), final=piece.final
            )
        self.ledger.record(piece, stream=stream, topic=heard)
        if any(r.events for r in self.regions):
            await self._give_event(piece, plan)

    async def _give_event(self, piece: Piece, plan: Plan) -> None:
        """Send a fragment to the event sockets, or let it wait for the next one."""
        if piece.joined and not self._joining.get(plan.number):
            self._joining[plan.number] = [piece]
        else:
            await self._send_events(plan, [piece])

    async def _send_events(self, plan: Plan, pieces: list[Piece]) -> None:
        pieces = [*self._joining.pop(plan.number, []), *pieces]
        if not pieces:
            return
        final = any(piece.final for piece in pieces)
        reached = False
        for region in self.regions:
            if region.up and region.events:
                data = wire.update_event(self.script, plan, pieces, region.settings.event_form)
                reached = await region.send_event(plan.id, data, final=final) or reached
        if reached:
            for piece in pieces:
                self.ledger.record(piece, stream=False, topic=False, event=True)

    def _tells(self, piece: Piece) -> bool:
        return piece.final or self.scenario.partials_on_topic

    def _transcript_event(self, piece: Piece, plan: Plan, at_us: int) -> bytes:
        begun_us = self._wall(plan.start_us)
        start_us = self._zero(plan, piece.leg, begun_us)
        begin_us = min(at_us, self._wall(piece.utterance_us))
        until_us = at_us
        if not self._stamp_now:
            # Own time of the conversation, whatever delayed the message.
            begin_us = self._zeros.get((plan.number, 0), begun_us) + self.pressed(piece.begin_us)
            until_us = begin_us + self.pressed(piece.until_us - piece.begin_us)
        return wire.transcript_event(
            piece,
            plan,
            self.script.utterance(piece),
            self.script.whole(piece),
            at_us=at_us,
            start_us=start_us,
            # Rounded so that start and offset together are off by one millisecond at most.
            offset_ms=max(0, begin_us // 1000 - start_us // 1000),
            duration_ms=max(1, until_us // 1000 - begin_us // 1000),
        )

    def _keep_time(self, plan: Plan, key: int, at_us: int) -> None:
        kept = self._said_us.get(plan.number)
        if kept is None:
            kept = self._said_us[plan.number] = array("q", bytes(8 * plan.fragments))
        kept[key] = at_us

    def begun_us(self, plan: Plan) -> int:
        """Give when a conversation began, UTC microseconds; 0 before."""
        return self._zeros.get((plan.number, 0), 0)

    def said_at(self, plan: Plan, leg: int, final: Version) -> tuple[int, int, int]:
        """Give the moments of a final as the topic tells them, UTC microseconds.

        Returns:
            Start of its communication, and of the speech, and its end.
        """
        begun_us = self._zeros.get((plan.number, 0), self._start_us)
        start_us = self._zeros.get((plan.number, leg), begun_us)
        if self._stamp_now:
            kept = self._said_us.get(plan.number)
            at_us = (kept[final.key] if kept is not None else 0) or start_us
            return start_us, at_us, at_us
        begin_us, until_us = round(final.start_s * 1e6), round(final.end_s * 1e6)
        begin = begun_us + self.pressed(begin_us)
        return start_us, begin, begin + self.pressed(until_us - begin_us)

    def _zero(self, plan: Plan, leg: int, at_us: int) -> int:
        """Give the wall clock of a communication's start; the first to ask decides it."""
        return self._zeros.setdefault((plan.number, leg), at_us)

    async def _publish(self, topic: str, make: Any, *, final: bool = True) -> bool:
        listening = [r for r in self.regions if r.up and r.channels.has_topic(topic)]
        if not listening:
            return False
        data: bytes = make()
        now = asyncio.get_running_loop().time()
        reached = False
        for region in listening:
            reached = await region.publish(topic, data, now=now, final=final) or reached
        return reached

    def _stream_socket(self, plan: Plan, *, healthy: bool = False) -> Socket | None:
        """Give the stream socket that a conversation's fragments go to, or None.

        A conversation stays on its socket. A half-open socket keeps it too, and swallows
        it, unless a healthy one is there to take over.
        """
        socket = self._sticky.get(plan.number)
        if socket is not None and socket.healthy:
            return socket
        found = [
            s for r in self.regions if r.up for s in r.streams if not s.closing and s.wants(plan.id)
        ]
        best = [s for s in found if s.healthy] or ([] if healthy else found)
        # One that asked for this conversation by name goes before one that takes all.
        best = [s for s in best if s.conversations] or best
        if not best:
            return None
        chosen = min(best, key=lambda s: s.assigned)
        if chosen.healthy:
            if socket is not None:
                socket.assigned -= 1
            chosen.assigned += 1
            self._sticky[plan.number] = chosen
        return chosen

    def _wall(self, at_us: int) -> int:
        """Give UTC microseconds of a moment of the scenario."""
        if self._stamp_now:
            self._last_us = max(self._last_us + 1, time.time_ns() // 1000)
            return self._last_us
        return self._start_us + round(self._held_s * 1e6) + self.pressed(at_us)

    def pressed(self, us: int) -> int:
        """Give how long a time of the scenario takes when played."""
        # Flat out, moments are pressed together so that none lies in the future.
        return round(us / self.speed) if self.speed else us // 1000

    def _clock(self, plan: Plan) -> Callable[[int], str]:
        """Give how moments of a conversation are written."""
        zero_us = self._zeros[plan.number, 0]
        return lambda at_us: wire.milli_stamp(zero_us + self.pressed(at_us - plan.start_us))

    # --- what happened ----------------------------------------------------------------

    def inject(self, fault: Fault) -> None:
        """Let a fault happen in the regions it names."""
        for region in self.regions:
            if fault.region in ("", region.name):
                region.inject(fault)

    def conversation(self, conversation_id: str) -> dict[str, Any] | None:
        """Give a conversation as the REST API tells it; None before it starts."""
        plan = self.by_id.get(conversation_id)
        if plan is None or plan.number not in self._places:
            return None
        everybody, at_us = self.script.people(plan.number), self._places[plan.number]
        clock = self._clock(plan)
        told = people.entity(plan.id, everybody, at_us, clock)
        told["startTime"] = clock(plan.start_us)
        ends = [p.left_us for p in everybody]
        if people.NEVER not in ends and max(ends) <= at_us:
            told["endTime"] = clock(max(ends))
        told |= {
            "divisions": [],
            "recordingState": "none",
            "securePause": False,
            "selfUri": f"/api/v2/conversations/{plan.id}",
        }
        return told

    def truth(self, conversation: str = "") -> Truth:
        """Give what was said and who heard it."""
        started = {number: at_us for (number, leg), at_us in self._zeros.items() if leg == 0}
        return self.ledger.truth(conversation, speed=self.speed, started=started)

    def stats(self, *, conversations: bool = False) -> dict[str, Any]:
        """Give the counts of this run and of each region."""
        ledger = self.ledger
        found: dict[str, Any] = {
            "scenario": self.script.title,
            "begun": self._begun.is_set(),
            "finished": self._finished.is_set(),
            "conversations": len(self.script.plans),
            "fragments": sum(p.fragments for p in self.script.plans),
            "due": ledger.due,
            "delivered": ledger.delivered,
            "missed": ledger.missed,
            "messages": ledger.messages,
            "regions": {r.name: r.stats() for r in self.regions},
        }
        if conversations:
            found["by_conversation"] = ledger.counts()
        return found
