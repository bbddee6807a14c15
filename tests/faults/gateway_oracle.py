"""What must be true after any fault: sent, stored and received held against each other.

``Witness`` notes when the simulator wrote each marked fragment of a load to a socket. ``judge``
then reads the gateway's store and the consumer's file and counts what broke a promise. It knows
the record forms and nothing of the code that made them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from steno.adapters.store_sqlite import OutboxReader
from steno_sim.script import LoadScript, Piece
from steno_sim.world import World

MARK = re.compile(r"\bc(\d+)f(\d+)\b")
MASK = r"\[REDACTED\]"
CANARIES = ("415-555-0142", "4155550142", "555-0142", "nora.lind", "nora.lind@example.com")
"""What a load plants."""
TEXTS = ("parcel was", "tracking page", "your new delivery", "el paquete")
"""Words of a load's transcript."""

WINDOW_US = 250_000
"""A fragment that came so shortly before a kill may not have been committed: 50 ms until an
open window is journalled, and its fsync, on a busy machine."""

DYING_US = 1_000_000
"""So long after a kill the simulator may still write to the dead socket."""
FOREVER_US = 1 << 62

Mark = tuple[int, int]


class Gap(msgspec.Struct, frozen=True):
    """A gap record: an interval, UTC microseconds, in which something may have been missed."""

    conversation: str
    cause: str
    from_us: int
    to_us: int


class Line(msgspec.Struct, frozen=True):
    """A line of the consumer's file, as far as the promises go."""

    kind: str
    conversation: str
    lane: str
    key: str
    revision: int
    payload: dict[str, object]
    seq: int = 0
    prev_seq: int = 0


class Witness:
    """Knows when each mark was first written to a socket, UTC microseconds."""

    def __init__(self, world: World) -> None:
        script = world.script
        assert isinstance(script, LoadScript)
        self.script = script
        self.sent: dict[Mark, int] = {}
        self._record = world.ledger.record
        world.ledger.record = self._note  # type: ignore[method-assign]  # watched, not replaced

    def _note(self, piece: Piece, *, stream: bool, topic: bool, event: bool = False) -> None:
        self._record(piece, stream=stream, topic=topic, event=event)
        if stream:
            self.sent.setdefault((piece.conversation, piece.key), time.time_ns() // 1000)

    def text(self, mark: Mark) -> str:
        """Give the words of a mark, the mark itself included."""
        return self.script._words(*mark)


@dataclass
class Verdict:
    """What was found; every list but ``in_gap`` and ``in_window`` must be empty.

    Attributes:
        sent, heard: Marks written to a socket; marks in the consumer's file.
        in_window: Missing, written within ``WINDOW_US`` before a kill.
        in_gap: Missing, but within an interval that a gap record owns up to.
        unexplained: Missing without excuse.
        undelivered: (key, revision) stored and not in the file.
        repeated: (key, revision) twice in the file.
        twice: Marks in two sentences.
        reordered: Places where a conversation's order is broken, or a record is missing in it.
        misattributed: Marks in a sentence of another conversation or participant.
        damaged: Marks whose words differ from what was said.
        leaks: Planted personal data, tokens or transcript text where they must not be.
    """

    sent: int = 0
    heard: int = 0
    stored: int = 0
    gaps: int = 0
    in_gap: list[Mark] = field(default_factory=list)
    in_window: list[Mark] = field(default_factory=list)
    unexplained: list[Mark] = field(default_factory=list)
    undelivered: list[tuple[str, int]] = field(default_factory=list)
    repeated: list[tuple[str, int]] = field(default_factory=list)
    twice: list[Mark] = field(default_factory=list)
    reordered: list[str] = field(default_factory=list)
    misattributed: list[Mark] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)

    @property
    def broken(self) -> dict[str, int]:
        """Broken promises by name; empty when all were kept."""
        names = (
            "unexplained", "undelivered", "repeated", "twice",
            "reordered", "misattributed", "damaged", "leaks",
        )  # fmt: skip
        return {name: len(found) for name in names if (found := getattr(self, name))}

    def first(self) -> str:
        """Give an example of each broken promise, for a failing test's message."""
        return ", ".join(f"{name}: {getattr(self, name)[:3]}" for name in self.broken)

    def kept(self) -> None:
        """Fail unless every promise was kept."""
        assert not self.broken, f"{self.broken} ({self.first()})"


def judge(
    witness: Witness,
    *,
    database: Path,
    lines: Path,
    kills_us: Sequence[int] = (),
) -> Verdict:
    """Hold sent, stored and received against each other; both processes should have ended."""
    verdict = Verdict(sent=len(witness.sent))
    received = read_lines(lines)
    _delivered_all(verdict, database, received)
    _in_order(verdict, received)
    heard = _marks(verdict, witness, received)
    verdict.heard = len(heard)
    gaps = gaps_of(received)
    verdict.gaps = len(gaps)
    for mark, at_us in witness.sent.items():
        if mark in heard:
            continue
        if any(0 <= kill - at_us <= WINDOW_US for kill in kills_us):
            verdict.in_window.append(mark)
        elif any(_owned(gap, at_us, kills_us) for gap in gaps):
            verdict.in_gap.append(mark)
        else:
            verdict.unexplained.append(mark)
    return verdict


def _owned(gap: Gap, at_us: int, kills_us: Sequence[int]) -> bool:
    """Tell whether a gap record excuses the loss of what was written at a moment.

    A gap of a process that was killed begins when that was last known to be alive, up to a
    second early: to lose what came well before the kill is not excused by it.
    """
    if not gap.from_us <= at_us <= gap.to_us:
        return False
    return gap.cause != "process_down" or any(0 <= at_us - kill <= DYING_US for kill in kills_us)


def read_lines(path: Path) -> list[Line]:
    """Give the consumer's lines in order of arrival."""
    decode = msgspec.json.Decoder(Line).decode
    return [decode(line) for line in path.read_bytes().splitlines()]


def newest(lines: Iterable[Line]) -> list[Line]:
    """Give the newest revision of each record, in the order in which they first came."""
    found: dict[str, Line] = {}
    for line in lines:
        known = found.get(line.key)
        if known is None or line.revision > known.revision:
            found[line.key] = line
    return list(found.values())


def gaps_of(lines: Iterable[Line]) -> list[Gap]:
    """Give the gap records' newest revisions; an open one has no end."""
    found = []
    for line in newest(lines):
        if line.kind == "gap":
            start, end = line.payload["from_us"], line.payload.get("to_us", 0)
            assert isinstance(start, int)
            assert isinstance(end, int)
            cause = str(line.payload["cause"])
            found.append(Gap(line.conversation, cause, start, end or FOREVER_US))
    return found


def _delivered_all(verdict: Verdict, database: Path, received: Sequence[Line]) -> None:
    with OutboxReader(database) as reader:
        stored = {(r.key, r.revision) for r in reader.records(limit=10**7)}
    verdict.stored = len(stored)
    seen: set[tuple[str, int]] = set()
    for line in received:
        name = (line.key, line.revision)
        if name in seen:
            verdict.repeated.append(name)
        seen.add(name)
    verdict.undelivered = sorted(stored - seen)


def _in_order(verdict: Verdict, received: Sequence[Line]) -> None:
    last: dict[str, int] = {}
    for line in received:
        before = last.get(line.conversation, 0)
        if line.prev_seq != before or line.seq <= before:
            verdict.reordered.append(f"{line.conversation}: {before} before {line.seq}")
        last[line.conversation] = line.seq


def _marks(verdict: Verdict, witness: Witness, received: Sequence[Line]) -> set[Mark]:
    heard: set[Mark] = set()
    last: dict[tuple[str, str], int] = {}
    for line in newest(received):
        if line.kind != "sentence":
            continue
        text = str(line.payload["text"])
        found = list(MARK.finditer(text))
        for place, match in enumerate(found):
            mark = (int(match[1]), int(match[2]))
            if mark in heard:
                verdict.twice.append(mark)
            heard.add(mark)
            _check_owner(verdict, witness, line, mark)
            lane = (line.conversation, line.lane)
            if mark[1] < last.get(lane, -1):
                verdict.reordered.append(f"c{mark[0]}f{mark[1]} late in {line.lane}")
            last[lane] = mark[1]
            end = found[place + 1].start() if place + 1 < len(found) else len(text)
            if not _same_words(witness.text(mark), text[match.start() : end]):
                verdict.damaged.append(text[match.start() : end])
    return heard


def _check_owner(verdict: Verdict, witness: Witness, line: Line, mark: Mark) -> None:
    plan = witness.script.plans[mark[0]]
    place = witness.script._place(*mark)
    who = plan.agent_participant if place % 2 else plan.customer_participant
    if line.conversation != plan.id or line.payload["participant"] != who:
        verdict.misattributed.append(mark)


def _same_words(said: str, heard: str) -> bool:
    pattern = re.escape(said.rstrip("."))
    for secret in ("415-555-0142", "nora.lind@example.com"):
        pattern = pattern.replace(re.escape(secret), MASK)
    return re.fullmatch(pattern, heard.strip().rstrip(".")) is not None


def searched(
    files: Iterable[Path], pages: Iterable[str], *, canaries: Iterable[str], tokens: Iterable[str],
    text: Iterable[str] = (),
) -> list[str]:  # fmt: skip
    """Give where planted data stands that must stand nowhere.

    Args:
        files: Everything that was written.
        pages: Metrics and health as served.
        canaries: Personal data: in no file and on no page.
        tokens: Access tokens and secrets: likewise.
        text: Words of the transcript: in no log and on no page.
    """
    found = []
    hidden = [word.encode() for word in (*canaries, *tokens)]
    words = [word.encode() for word in text]
    for path in files:
        data = path.read_bytes()
        wanted = hidden + words if path.suffix in (".log", ".out") else hidden
        found += [f"{path.name}: {word.decode()[:24]}" for word in wanted if word in data]
    for page in pages:
        data = page.encode()
        found += [f"page: {word.decode()[:24]}" for word in hidden + words if word in data]
    return found
