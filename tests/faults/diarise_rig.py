"""``steno diarise`` as an operator runs it, for tests that break what is around it.

The simulator plays inside the test; the collector is a process of its own. A *call* scenario is
held against the simulator's truth by its own score; a *load* of marked fragments, which does not
end by itself, against a ``FinalWitness``: it notes when each final was written to a socket, and
``judge_segments`` tells what has become of it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from faults.gateway_oracle import (
    CANARIES,
    MARK,
    TEXTS,
    WINDOW_US,
    Gap,
    _owned,
    _same_words,
    gaps_of,
    read_lines,
    searched,
)
from faults.gateway_rig import Service, bare_environment
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.region import RegionSettings
from steno_sim.scenario import Call, Scenario, Turn
from steno_sim.script import LoadScript, Piece
from steno_sim.segments_score import SegmentsScore, score_export
from steno_sim.server import Simulator
from steno_sim.world import World

Source = Literal["event-socket", "notifications"]

QUICK = {
    "STENO_DIARISATION_SETTLE_S": "0.5",
    "STENO_DIARISATION_BACKOFF_FIRST_S": "0.2",
    "STENO_DIARISATION_JITTER_S": "0.05",
    "STENO_LIVE_BACKOFF_FIRST_S": "0.2",
}
"""Settings that only make the tests shorter."""

DIARISE = (sys.executable, "-m", "steno.cli", "diarise")
SAID = (
    "parcel was", "customer care", "Claims department", "delivery address", "la instalación",
    "domiciliar", "never said",
)  # fmt: skip
"""Words of the packaged calls and of malformed frames."""

Final = tuple[int, int]
"""Conversation and utterance, by their numbers."""


def talk(*turns: tuple[Literal["agent", "customer"], str], calls: int = 1) -> Scenario:
    """Give short calls of these turns."""
    said = [Turn(who=who, say=text) for who, text in turns]
    return Scenario(title="talk", conversations=[Call(turns=said) for _ in range(calls)])


class Collector(Service):
    """``steno diarise``.

    Args:
        folder: Where its files go, the state directory among them.
        sim: The platform.
        source: Where its events come from.
        out: Its export; a name in ``folder``, or ``-``.
        settings: ``STENO_…`` variables.
        options: Further options.
        follows_queues: At notifications, hear of calls by their queues.
        secret: The OAuth client's secret.
        command: What to run in place of ``steno diarise``.
    """

    def __init__(
        self,
        folder: Path,
        sim: Simulator,
        *,
        source: Source = "event-socket",
        out: str = "segments.json",
        settings: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        follows_queues: bool = True,
        secret: str = DEFAULT_CLIENT_SECRET,
        command: Sequence[str] = DIARISE,
    ) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.database = self.state / "steno.db"
        self.records = folder / "records.jsonl"
        self.export = folder / out if out != "-" else folder / "collector.out"
        queues = {plan.queue for plan in sim.world.script.plans}
        arguments = [*command, "--source", source, "--health", "127.0.0.1:0"]
        if source == "notifications" and follows_queues:
            arguments += [f"--queue={queue}" for queue in sorted(queues)]
        arguments += ["--out", str(self.export) if out != "-" else "-"]
        arguments += ["--records", str(self.records), *options]
        env = {
            **bare_environment(folder),
            "GENESYS_ENV": sim.host,
            "GENESYS_CLIENT_ID": DEFAULT_CLIENT_ID,
            "GENESYS_CLIENT_SECRET": secret,
            "STENO_STATE_DIR": str(self.state),
            "STENO_STORE_BALLAST_MB": "0",
            **QUICK,
            **(settings or {}),
        }
        super().__init__(arguments, env=env, log=folder / "collector.log")

    async def connected(self, *, count: int = 1, limit_s: float = 20.0) -> None:
        """Wait until it follows its source, for the n-th time since its start."""
        await self.event("live.connected", count=count, limit_s=limit_s)

    async def interrupted(self) -> int:
        """Press Ctrl-C, and give its exit code."""
        self.signal(signal.SIGINT)
        return await self.ended(limit_s=15)

    def lines(self) -> int:
        """Give how many records it has handed over."""
        return self.records.read_bytes().count(b"\n") if self.records.exists() else 0

    def keys(self) -> set[str]:
        """Give the keys of the segments that it has handed over."""
        if not self.records.exists():
            return set()
        return {line.key for line in read_lines(self.records) if line.kind == "segment"}

    def gaps(self) -> list[Gap]:
        """Give the gap records' newest revisions."""
        return gaps_of(read_lines(self.records)) if self.records.exists() else []

    async def run(self, *arguments: str) -> tuple[int, bytes, str]:
        """Run another ``steno`` command on the same state; its code and both its outputs."""
        process = await asyncio.create_subprocess_exec(
            *DIARISE[:3],
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.env,
        )
        out, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, out, said.decode()

    async def exported(self, wanted: str, *options: str) -> bytes:
        """Give what ``steno diarise export`` writes to standard output now."""
        code, out, said = await self.run("diarise", "export", "--format", wanted, *options)
        assert code == 0, said
        return out


class Collecting:
    """Simulator and collector of one test, with what they left behind."""

    def __init__(
        self,
        folder: Path,
        sim: Simulator,
        collector: Collector,
        source: Source,
        witness: FinalWitness | None,
    ) -> None:
        self.folder = folder
        self.sim = sim
        self.collector = collector
        self.source = source
        self._witness = witness

    @property
    def witness(self) -> FinalWitness:
        """What was written to sockets of a load."""
        assert self._witness is not None
        return self._witness

    async def stopped(self) -> SegmentVerdict:
        """End a load and the collector in good order, and judge what was stored."""
        await self.sim.world.stop()
        if not self.collector.running:
            self.collector.start()
            await self.collector.connected()
        assert await self.collector.interrupted() in (0, 5), self.collector.said()[-2000:]
        return await self.verdict()

    async def verdict(self) -> SegmentVerdict:
        """Judge what is stored of a load; the collector should have ended."""
        lines = await self.collector.exported("jsonl", "--min-confidence", "0")
        collector = self.collector
        verdict = judge_segments(self.witness, lines, collector.gaps(), collector.kills_us)
        verdict.leaks = self.leaks()
        return verdict

    async def heard(self, more: int, *, limit_s: float = 20.0) -> None:
        """Wait until so many more records were handed over."""
        goal = self.collector.lines() + more
        end = time.monotonic() + limit_s
        while self.collector.lines() < goal:
            assert self.collector.running, self.collector.said()[-2000:]
            assert time.monotonic() < end, f"waited {limit_s:g} s in vain for {more} records"
            await asyncio.sleep(0.02)

    async def settled(self, *, limit_s: float = 15.0) -> None:
        """Wait until no more records come: everything said is stored and handed over."""
        end, before = time.monotonic() + limit_s, -1
        while self.collector.lines() != before:
            assert time.monotonic() < end, "records come and come"
            before = self.collector.lines()
            await asyncio.sleep(1.0)  # twice as long as a segment waits

    def score(self, export: bytes | None = None) -> SegmentsScore:
        """Hold an export in the document's shape against the simulator's truth."""
        family: Literal["event", "topic"] = "event" if self.source == "event-socket" else "topic"
        given = self.collector.export.read_bytes() if export is None else export
        return score_export(self.sim.truth(), given, family=family)

    def files(self) -> Iterator[Path]:
        """Give every file that was written."""
        return (path for path in self.folder.rglob("*") if path.is_file())

    def leaks(self, *pages: str) -> list[str]:
        """Give where planted data, tokens, or words in logs stand that must stand nowhere."""
        spoken = self._witness is None
        secrets = {secret.text for secret in self.sim.truth().secrets()} if spoken else set()
        return searched(
            self.files(),
            pages,
            canaries=[*CANARIES, *secrets],
            tokens=[*self.sim.tokens._tokens, DEFAULT_CLIENT_SECRET],
            text=(*TEXTS, *SAID),
        )


@asynccontextmanager
async def collecting(
    folder: Path,
    scenario: Scenario | str = "diarisation",
    *,
    source: Source = "event-socket",
    speed: float = 1.0,
    conversations: int = 0,
    start: bool = True,
    region: RegionSettings | None = None,
    simulator: Mapping[str, Any] | None = None,
    **collector: Any,
) -> AsyncIterator[Collecting]:
    """Give a running collector behind a simulator; ends both.

    While nobody listens to an event socket, the simulator's clock stands still. Notifications are
    subscribed when a call has begun already, so there it goes on.

    Args:
        speed: Multiple of real time; 0 is flat out.
        start: Start the collector, and wait until it is connected.
        region: Behaviour of the platform.
        simulator: Further options of ``Simulator``.
        **collector: Options of ``Collector``.
    """
    world = World(
        scenario,
        speed=speed,
        conversations=conversations,
        hold=source == "event-socket",
        wait_for_sockets=1,
    )
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(
            Simulator(world=world, settings=region, **(simulator or {}))
        )
        witness = FinalWitness(world) if isinstance(world.script, LoadScript) else None
        await stack.enter_async_context(world)
        process = Collector(folder, sim, source=source, **collector)
        stack.callback(process.end)
        if start:
            process.start()
            await process.connected()
        yield Collecting(folder, sim, process, source, witness)


# --- loads -----------------------------------------------------------------------------------


class FinalWitness:
    """Knows when each final of a load was first written to an event socket, UTC microseconds."""

    def __init__(self, world: World) -> None:
        script = world.script
        assert isinstance(script, LoadScript)
        self.script = script
        self.sent: dict[Final, int] = {}
        self._pieces: dict[Final, Piece] = {}
        self._record = world.ledger.record
        world.ledger.record = self._note  # type: ignore[method-assign]  # watched, not replaced

    def _note(self, piece: Piece, *, stream: bool, topic: bool, event: bool = False) -> None:
        self._record(piece, stream=stream, topic=topic, event=event)
        if event and piece.final:
            final = (piece.conversation, piece.utterance)
            self.sent.setdefault(final, time.time_ns() // 1000)
            self._pieces.setdefault(final, piece)

    def said(self, final: Final) -> Piece:
        """Give the fragment that ended an utterance."""
        return self._pieces[final]

    def final_of(self, conversation: int, fragment: int) -> Final:
        """Give the utterance that a mark is in."""
        return conversation, self.script._place(conversation, fragment)


@dataclass
class SegmentVerdict:
    """What was found; every list but ``in_gap`` and ``in_window`` must be empty.

    Attributes:
        sent, found: Finals written to a socket; finals in the export.
        in_window: Missing, written shortly before a kill.
        in_gap: Missing, within an interval that a gap record owns up to.
        unexplained: Missing without excuse.
        twice: Exported more than once.
        damaged: Text, speaker or times differ from what was said.
        invented: Exported and never written to a socket.
        leaks: Personal data, tokens or text where they must not be.
    """

    sent: int = 0
    found: int = 0
    in_window: list[Final] = field(default_factory=list)
    in_gap: list[Final] = field(default_factory=list)
    unexplained: list[Final] = field(default_factory=list)
    twice: list[Final] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    invented: list[Final] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    def kept(self) -> None:
        """Fail unless every promise was kept."""
        assert not self.broken, self.broken

    @property
    def broken(self) -> dict[str, list[Any]]:
        """Broken promises by name, with examples; empty when all were kept."""
        names = ("unexplained", "twice", "damaged", "invented", "leaks")
        return {name: getattr(self, name)[:3] for name in names if getattr(self, name)}


def judge_segments(
    witness: FinalWitness, lines: bytes, gaps: Sequence[Gap] = (), kills_us: Sequence[int] = ()
) -> SegmentVerdict:
    """Hold an export (JSON lines, every confidence) against what was written to sockets."""
    verdict = SegmentVerdict(sent=len(witness.sent))
    found: set[Final] = set()
    for line in lines.splitlines():
        segment = json.loads(line)
        final = _final_of(witness, segment)
        if final in found:
            verdict.twice.append(final)
        found.add(final)
        if final not in witness.sent:
            verdict.invented.append(final)
        else:
            verdict.damaged += _damage(witness, final, segment)
    verdict.found = len(found)
    for final, at_us in witness.sent.items():
        if final in found:
            continue
        if any(0 <= kill - at_us <= WINDOW_US for kill in kills_us):
            verdict.in_window.append(final)
        elif any(_owned(gap, at_us, kills_us) for gap in gaps):
            verdict.in_gap.append(final)
        else:
            verdict.unexplained.append(final)
    return verdict


def _final_of(witness: FinalWitness, segment: dict[str, Any]) -> Final:
    match = MARK.search(segment["text"])
    assert match is not None, "a segment without its mark"
    return witness.final_of(int(match[1]), int(match[2]))


def _damage(witness: FinalWitness, final: Final, segment: dict[str, Any]) -> list[str]:
    piece = witness.said(final)
    plan = witness.script.plans[final[0]]
    same = (
        segment["conversation_id"] == plan.id
        and segment["speaker"] == piece.speaker
        and abs(segment["start_seconds"] - piece.begin_us / 1e6) < 0.002
        and abs(segment["end_seconds"] - piece.until_us / 1e6) < 0.002
        and _same_words(witness.script.whole(piece), segment["text"])
    )
    return [] if same else [f"c{final[0]}u{final[1]}"]
