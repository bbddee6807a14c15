"""A live run with gaps, repaired from the simulator's stored transcripts, and judged."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec

from faults.gateway_oracle import CANARIES, MARK, TEXTS, Mark, searched
from faults.gateway_rig import GATEWAY, QUICK, Service, bare_environment, until
from steno.adapters.store_sqlite.crash import VARIABLE
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.scenario import Load, Scenario
from steno_sim.script import LoadScript
from steno_sim.server import Simulator
from steno_sim.world import World

Family = Literal["tutorial", "genesys-cloud"]
FAMILIES: tuple[Family, ...] = ("tutorial", "genesys-cloud")


class Told(msgspec.Struct, frozen=True):
    """A delivered record."""

    kind: str
    conversation: str
    key: str
    revision: int
    origin: str
    payload: dict[str, Any]
    seq: int
    prev_seq: int


def calls(*, conversations: int = 4, fragments: int = 140, rate: float = 120.0) -> Scenario:
    """Give a load that ends by itself."""
    return Scenario(
        title="load",
        load=Load(
            conversations=conversations,
            fragments=fragments,
            rate=rate,
            final_every=4,
            pii_every=5,
            switch_every=0,
        ),
    )


@dataclass
class Restored:
    """What live delivery and repairs came to, held against what was said.

    Attributes:
        lost: Marks of a conversation's transcript that were delivered neither way.
        needless: Utterances filled in although every word of them had been delivered live.
        repeated: (key, revision) twice.
        uneven: Conversations whose reconciliation does not add up, or is not whole.
        unordered: Conversations with a hole in their order.
        leaks: Planted personal data or tokens anywhere; words in logs.
    """

    gaps: int = 0
    live: int = 0
    filled: int = 0
    heard_live: int = 0
    lost: list[Mark] = field(default_factory=list)
    needless: list[str] = field(default_factory=list)
    repeated: list[tuple[str, int]] = field(default_factory=list)
    uneven: list[str] = field(default_factory=list)
    unordered: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    def kept(self) -> None:
        """Fail unless every promise was kept."""
        names = ("lost", "needless", "repeated", "uneven", "unordered", "leaks")
        broken = {name: found[:3] for name in names if (found := getattr(self, name))}
        assert not broken, broken


class Repairing:
    """Simulator and gateway of one test, with what they left behind."""

    def __init__(
        self, folder: Path, sim: Simulator, family: Family, settings: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.sim = sim
        self.family = family
        self.state = folder / "state"
        self.file = folder / "records.jsonl"
        script = sim.world.script
        assert isinstance(script, LoadScript)
        self.script = script
        is_real = family == "genesys-cloud"
        destination = {"type": "jsonl", "name": "jsonl", "path": str(self.file)}
        env = {
            **bare_environment(folder),
            "STENO_PLATFORM_HOST": sim.host if is_real else sim.ws_url,
            "STENO_PLATFORM_FAMILY": family,
            "OAUTH_CLIENT_ID": DEFAULT_CLIENT_ID,
            "OAUTH_CLIENT_SECRET": DEFAULT_CLIENT_SECRET,
            "STENO_STATE_DIR": str(self.state),
            "STENO_STORE_BALLAST_MB": "0",
            "STENO_OBSERVABILITY_LISTEN": "127.0.0.1:0",
            "STENO_OBSERVABILITY_LOG_LEVEL": "info",
            "STENO_ARCHIVE_POLL_S": "0.05",
            "STENO_ARCHIVE_POLL_LIMIT_S": "0.5",
            "STENO_ARCHIVE_PER_MINUTE": "60000",
            "STENO_DELIVERY_DESTINATIONS": json.dumps([destination]),
            **QUICK,
            **settings,
        }
        if is_real:
            queues = sorted({plan.queue for plan in script.plans})
            env["STENO_LIVE_QUEUES"] = ",".join(queues)
        self.live = Service([*GATEWAY], env=env, log=folder / "live.log")
        self.log = folder / "repair.log"

    async def follow(self) -> None:
        """Start live delivery, and wait until it is connected."""
        self.live.start()
        await self.live.event("live.connected")

    async def heard_for(self, seconds: float, more: int) -> None:
        """Wait until so many more sentences have been delivered, but no longer."""
        goal, end = self.sentences() + more, time.monotonic() + seconds
        while self.sentences() < goal and not self.is_over() and time.monotonic() < end:
            await asyncio.sleep(0.02)

    async def heard(self, more: int) -> None:
        """Wait until so many more sentences have been delivered, or everything was said."""
        goal = self.sentences() + more
        await until(lambda: self.sentences() >= goal or self.is_over(), f"{more} more sentences")

    def is_over(self) -> bool:
        """Tell whether every conversation has ended."""
        return len(self.sim.world.ended_at) == len(self.script.plans)

    def sentences(self) -> int:
        """Give how many sentences have been delivered."""
        return self.file.read_bytes().count(b'"kind":"sentence"') if self.file.exists() else 0

    async def ended(self) -> None:
        """Wait until every conversation has ended and its transcript is ready."""
        await until(self.is_over, "the conversations' end")

    async def repair(
        self, *options: str, crash_at: str = ""
    ) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
        """Run ``steno repair``; give its exit code, its totals and its lines.

        Args:
            crash_at: Step of the store at which it is killed.
        """
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "steno.cli", "repair", "--json", *options),
                env={**self.live.env, **({VARIABLE: crash_at} if crash_at else {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        lines = [json.loads(line) for line in out.splitlines()]
        totals = lines.pop()["totals"] if lines and "totals" in lines[-1] else {}
        assert process.returncode is not None
        return process.returncode, totals, lines

    def told(self) -> list[Told]:
        """Give the delivered records."""
        decode = msgspec.json.Decoder(Told).decode
        return [decode(line) for line in self.file.read_bytes().splitlines()]

    def restored(self, *, pages: Sequence[str] = ()) -> Restored:
        """Judge what was delivered."""
        found, told = Restored(), self.told()
        seen = Counter((one.key, one.revision) for one in told)
        found.repeated = [name for name, count in seen.items() if count > 1]
        last: dict[str, int] = {}
        for one in told:
            if one.prev_seq != last.get(one.conversation, 0):
                found.unordered.append(one.conversation)
            last[one.conversation] = one.seq
        newest = {one.key: one for one in sorted(told, key=lambda one: one.revision)}
        found.gaps = sum(one.kind == "gap" for one in newest.values())
        sentences = [one for one in newest.values() if one.kind == "sentence"]
        live: set[Mark] = set()
        filled: set[Mark] = set()
        for one in sentences:
            (live if one.origin == "live" else filled).update(marks(one.payload["text"]))
        found.heard_live = len(live)
        found.live = sum(one.origin == "live" for one in sentences)
        found.filled = sum(one.origin == "backfill" for one in sentences)
        for plan in self.script.plans:
            spoken = {(plan.number, n) for n in range(self.script.spec.fragments)}
            found.lost += sorted(spoken - live - filled - self._stood_in(sentences))
        for one in sentences:
            if one.origin == "backfill" and marks(one.payload["text"]) <= live:
                found.needless.append(one.payload["text"][:40])
        self._reconciled(found, newest.values())
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        tokens = [*self.sim.tokens._tokens, DEFAULT_CLIENT_SECRET]
        found.leaks = searched(files, pages, canaries=CANARIES, tokens=tokens, text=TEXTS)
        return found

    def _stood_in(self, sentences: list[Told]) -> set[Mark]:
        """Give the marks in whose place another stands, with the very words of theirs.

        A load repeats its words with other marks. What a kill left of one utterance can go on
        as another with the same words: then one word of forty is another, and none was lost.
        """
        found: set[Mark] = set()
        for one in sentences:
            for had, following in pairwise(MARK.finditer(one.payload["text"])):
                number, place = int(following[1]), int(following[2]) - 1
                said = self.script._words(number, place).partition(" ")[2]
                text = one.payload["text"][had.end() : following.start()].strip()
                if int(had[2]) != place and said == text:
                    found.add((number, place))
        return found

    def _reconciled(self, found: Restored, newest: Any) -> None:
        counted = {one.conversation: one.payload for one in newest if one.kind == "reconciled"}
        filled = Counter(
            one.conversation
            for one in newest
            if one.kind == "sentence" and one.origin == "backfill"
        )
        for plan in self.script.plans:
            expected = len(self.script.utterances(plan.number))
            counts = counted.get(plan.id)
            if (
                counts is None
                or counts["expected"] != expected
                or counts["delivered_live"] + counts["backfilled"] != expected
                or counts["backfilled"] != filled[plan.id]
                or counts["missing"]
                or counts["ratio"] != 1.0
            ):
                found.uneven.append(f"{plan.id}: {expected} {filled[plan.id]} {counts}")


def marks(text: str) -> set[Mark]:
    """Give the marks in a text."""
    return {(int(match[1]), int(match[2])) for match in MARK.finditer(text)}


@asynccontextmanager
async def repairing(
    folder: Path,
    family: Family,
    scenario: Scenario | None = None,
    *,
    archive: ArchiveSettings | None = None,
    settings: Mapping[str, str] | None = None,
    follow: bool = True,
) -> AsyncIterator[Repairing]:
    """Give a running ``steno live`` of a family; ends everything."""
    world = World(scenario or calls(), wait_for_sockets=1 if follow else 0)
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(
            Simulator(world=world, name="primary", archive=archive or ArchiveSettings(ready_s=0.1))
        )
        await stack.enter_async_context(world)
        one = Repairing(folder, sim, family, settings or {})
        stack.callback(one.live.end)
        if follow:
            await one.follow()
        yield one
