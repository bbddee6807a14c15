"""The transcripts there are: whose, in which state, what they say, and the files they lie in.

Conversations that the simulator played live have transcripts of what was said; any other id has
one that is made up from the seed and the id.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec

from steno_sim import people
from steno_sim.archive import played
from steno_sim.archive.bodies import Body
from steno_sim.archive.layouts import PlatformIds, Style, document, platform
from steno_sim.archive.said import ROUND_TURNS, StoredTurn, Talk, make_talk
from steno_sim.archive.settings import LANGUAGES, ArchiveSettings
from steno_sim.pieces import Plan, stable_id
from steno_sim.recordings.service import is_uuid
from steno_sim.recordings.talk import draw
from steno_sim.wire import milli_stamp
from steno_sim.world import World

Shape = Literal["document", "platform"]
State = Literal["queued", "processing", "completed", "failed"]
Fate = Literal[
    "completed",
    "failed",
    "never",
    "empty",
    "legacy",
    "missing",
    "forbidden",
    "truncated_file",
    "bad",
]
_FATES: tuple[Fate, ...] = (
    "failed",
    "never",
    "empty",
    "legacy",
    "missing",
    "forbidden",
    "truncated_file",
    "bad",
)
_KEPT = 8
_MAX_ASKED = 100_000
_TURN_MS = 4_000
_LONG_TURN_MS = 10_000
_LEG_GAP_MS = 500


class Stored(msgspec.Struct, frozen=True):
    """One conversation, and the transcripts it has.

    Attributes:
        plan: Of a conversation that was played here.
        communications: Ids of the customer's calls.
        parts: Recordings of each call.
        begins_ms, ends_ms: Epoch ms; the end of one that is made up is a guess.
    """

    id: str
    fate: Fate
    communications: list[str]
    parts: int
    begins_ms: int
    ends_ms: int
    plan: Plan | None = None
    chat: bool = False


class File(msgspec.Struct, frozen=True):
    """A file of transcripts: the document of a conversation, or one of the platform's.

    ``version`` is 0 unless files change.
    """

    conversation: str
    shape: Shape
    leg: int = 0
    part: int = 0
    version: int = 0


class Truth(msgspec.Struct, frozen=True):
    """What one file says: what an archive is held against.

    Attributes:
        fate: ``completed``, or how the conversation goes wrong.
        turns: In the order of the file; those of its transcripts one after the other. Empty
            where ``count`` is more than was asked for.
        count: Turns of the file, bad ones included.
    """

    conversation: str
    shape: Shape
    fate: Fate
    live: bool
    communication: str
    part: int
    count: int
    size: int
    participants: list[dict[str, str]]
    turns: list[StoredTurn]


class Made(msgspec.Struct, frozen=True):
    """A file as it can be read, and what is in it."""

    body: Body
    talks: list[Talk]
    counts: list[int]


class Library:
    """Finds conversations and makes their files.

    Args:
        world: Whose conversations were played.
        settings: What the others say.
    """

    def __init__(self, world: World, settings: ArchiveSettings) -> None:
        self._world = world
        self._settings = settings
        self._numbers: dict[str, int] | None = None
        self._script = world.script
        self._made: OrderedDict[File, Made] = OrderedDict()
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._style = Style(
            settings.order,
            settings.pretty,
            settings.ascii,
            settings.extra,
            settings.words,
            settings.analytics,
            settings.ids,
        )

    # --- conversations ----------------------------------------------------------------

    def ids(self) -> list[str]:
        """Give the made-up conversations that can be found, in the order of their beginning."""
        return list(self._index())

    def find(self, conversation: str) -> Stored | None:
        """Give a conversation; None for one that nobody knows."""
        plan = self._world.by_id.get(conversation)
        if plan is not None:
            return self._played(plan)
        if conversation not in self._index() and (
            self._settings.only_known or not is_uuid(conversation)
        ):
            return None
        return self._made_up(conversation)

    def entity(self, conversation: str) -> dict[str, Any] | None:
        """Give a conversation as the platform's API tells it; None for one that nobody knows."""
        if conversation in self._world.by_id:
            return self._world.conversation(conversation)
        found = self.find(conversation)
        return None if found is None else _entity(found)

    def state(self, found: Stored, now: float) -> State:
        """Give how far a conversation's transcript is; asking for the first time begins it.

        Args:
            found: The conversation.
            now: Monotonic seconds.
        """
        settings = self._settings
        if found.fate == "never":
            return "processing"
        if found.plan is not None:
            ended = self._world.ended_at.get(found.plan.number)
            if ended is None:
                return "queued"
            if now < ended + settings.ready_s / settings.clock:
                return "processing"
        else:
            dice = draw(settings.seed, found.id, "delays")
            queued = dice.uniform(*settings.queued_s) / settings.clock
            work = dice.uniform(*settings.processing_s) / settings.clock
            since = now - self._first_asked(found.id, now)
            if since < queued:
                return "queued"
            if since < queued + work:
                return "processing"
        return "failed" if found.fate == "failed" else "completed"

    def _first_asked(self, conversation: str, now: float) -> float:
        first = self._asked.setdefault(conversation, now)
        if len(self._asked) > _MAX_ASKED:
            self._asked.popitem(last=False)
        return first

    def _index(self) -> dict[str, int]:
        """List conversations at the first question, so that an idle simulator starts at once."""
        if self._numbers is None:
            settings = self._settings
            named = range(settings.conversations)
            self._numbers = {stable_id("stored", settings.seed, n): n for n in named}
        return self._numbers

    def _played(self, plan: Plan) -> Stored:
        begins_ms, ends_ms = played.bounds(self._world, plan)
        fate = self._fate(plan.id)
        return Stored(plan.id, fate, list(plan.communications), 1, begins_ms, ends_ms, plan)

    def _made_up(self, conversation: str) -> Stored:
        settings = self._settings
        dice = draw(settings.seed, conversation, "shape")
        legs, parts = dice.randint(*settings.legs), dice.randint(*settings.parts)
        day = datetime.combine(settings.first_date, datetime.min.time(), UTC)
        span_ms, number = settings.days * 86_400_000, self._index().get(conversation)
        part = dice.random() if number is None else number / settings.conversations
        begins_ms = round(day.timestamp() * 1000 + part * span_ms)
        lasts_ms = sum(
            self._turns(conversation, leg, 0) * _TURN_MS + _LEG_GAP_MS for leg in range(legs)
        )
        return Stored(
            conversation,
            self._fate(conversation),
            [stable_id("communication", conversation, leg) for leg in range(legs)],
            parts,
            begins_ms,
            begins_ms + lasts_ms,
            chat=dice.random() < settings.chats,
        )

    def _fate(self, conversation: str) -> Fate:
        at = draw(self._settings.seed, conversation, "fate").random()
        for fate in _FATES:
            at -= getattr(self._settings, fate)
            if at < 0:
                return fate
        return "completed"

    def _turns(self, conversation: str, leg: int, part: int) -> int:
        """Give how many turns a made-up file has, where its size does not decide."""
        dice = draw(self._settings.seed, f"{conversation}/{leg}/{part}", "count")
        return dice.randint(*self._settings.turns)

    # --- files ------------------------------------------------------------------------

    def make(self, found: Stored, file: File) -> Made:
        """Give a file of a conversation that is completed."""
        if self._script is not self._world.script:
            # Another run may say something else under the same ids.
            self._script = self._world.script
            self._made.clear()
        kept = self._made.get(file)
        if kept is not None:
            self._made.move_to_end(file)
            return kept
        made = self._live(found.plan, file) if found.plan else self._invented(found, file)
        if found.fate == "truncated_file":
            size = made.body.size
            made = msgspec.structs.replace(made, body=made.body.cut(size - size // 3))
        self._made[file] = made
        if len(self._made) > _KEPT:
            self._made.popitem(last=False)
        return made

    def truth(self, found: Stored, file: File, *, most: int = 100_000) -> Truth:
        """Tell what a file says."""
        made = self.make(found, file)
        count = sum(made.counts)
        turns: list[StoredTurn] = []
        if count <= most:
            for talk, each in zip(made.talks, made.counts, strict=True):
                turns += talk.told(each)
        return Truth(
            conversation=found.id,
            shape=file.shape,
            fate=found.fate,
            live=found.plan is not None,
            communication="" if file.shape == "document" else found.communications[file.leg],
            part=file.part,
            count=count,
            size=made.body.size,
            participants=[
                {"id": p.id, "name": p.name, "role": p.role} for p in made.talks[0].parties
            ],
            turns=turns,
        )

    def _live(self, plan: Plan, file: File) -> Made:
        talk = played.talk(self._world, plan, None if file.shape == "document" else file.leg)
        count = len(talk.turns)
        if self._fate(plan.id) == "empty":
            talk, count = msgspec.structs.replace(talk, turns=[]), 0
        begins_ms, _ = played.bounds(self._world, plan)
        return self._written(file, [talk], [count], plan.communications, begins_ms, plan.queue)

    def _invented(self, found: Stored, file: File) -> Made:
        settings = self._settings
        dice = draw(settings.seed, f"{found.id}/{file.leg}/{file.part}", "runs")
        runs = 1 if file.shape == "document" else dice.randint(*settings.runs)
        first = self._language(found.id)
        size = settings.size_bytes if found.fate != "empty" else 0
        legs = len(found.communications)
        starts_ms = found.begins_ms + file.leg * ((found.ends_ms - found.begins_ms) // legs)
        talks, counts = [], []
        for run in range(runs):
            # The document is that of the first call's first recording.
            count = 0 if found.fate == "empty" else self._turns(found.id, file.leg, file.part)
            counts.append(count)
            talks.append(
                _talk(
                    settings,
                    found.id,
                    f"{file.leg}/{file.part}/{run}" + "/later" * file.version,
                    LANGUAGES[(first + run) % len(LANGUAGES)],
                    _round(file.shape, size) if size else count,
                    starts_ms,
                    file.part * self._part_ms(),
                    found.fate == "bad",
                )
            )
        counts = [] if size else counts
        queue = stable_id("queue", found.id)
        return self._written(
            file, talks, counts, found.communications, found.begins_ms, queue, size
        )

    def _written(
        self,
        file: File,
        talks: list[Talk],
        counts: list[int],
        communications: list[str],
        begins_ms: int,
        queue: str,
        size: int = 0,
    ) -> Made:
        if file.shape == "document":
            count = counts[0] if counts else 0
            body, made = document(talks[0], file.conversation, self._style, count=count, size=size)
            return Made(body, talks, [made])
        ids = PlatformIds(
            file.conversation, communications[file.leg], queue, begins_ms, talks[0].starts_ms
        )
        body, found = platform(talks, ids, self._style, counts=counts, size=size)
        return Made(body, talks, found)

    def _part_ms(self) -> int:
        """Give how long after the one before a recording of the same call begins."""
        turns = self._settings.turns[1]
        return turns * _LONG_TURN_MS if not self._settings.size_bytes else 3_600_000

    def _language(self, conversation: str) -> int:
        settings = self._settings
        if settings.language != "mixed":
            return LANGUAGES.index(settings.language)
        return draw(settings.seed, conversation, "language").randrange(len(LANGUAGES))


def _round(shape: Shape, size: int) -> int:
    """Give the turns of a round: about all of a small file, else as many as are made at most."""
    return min(ROUND_TURNS, 1 + size // (150 if shape == "document" else 1000))


@lru_cache(maxsize=16)
def _talk(
    settings: ArchiveSettings,
    conversation: str,
    file: str,
    language: str,
    count: int,
    starts_ms: int,
    after_ms: int,
    bad: bool,
) -> Talk:
    return make_talk(
        settings.seed,
        conversation,
        file,
        language=language,
        count=count,
        starts_ms=starts_ms,
        after_ms=after_ms,
        secrets=settings.secrets,
        unknown=settings.unknown,
        sparse=settings.sparse,
        bad=bad,
    )


def _entity(found: Stored) -> dict[str, Any]:
    """Give a made-up conversation that is over."""
    customer = stable_id("participant", found.id, "customer")
    lasts_us = (found.ends_ms - found.begins_ms) * 1000
    cast = people.Cast(customer, stable_id("queue", found.id), found.communications)
    if found.chat:
        cast = people.Cast(customer, stable_id("queue", found.id), [stable_id("chat", found.id)])
    cast.begin(0)
    agent = stable_id("participant", found.id, "agent")
    cast.answer(agent, stable_id("user", found.id), "Agent One", min(1_000_000, lasts_us))
    each_us = lasts_us // len(found.communications)
    for number in range(2, len(found.communications) + 1 if not found.chat else 2):
        cast.redial(number, ended_us=each_us * (number - 1), begun_us=each_us * (number - 1))
    cast.end(lasts_us)

    def clock(at_us: int) -> str:
        return milli_stamp(found.begins_ms * 1000 + at_us)

    told = people.entity(found.id, cast.people, lasts_us, clock)
    if found.chat:
        for person in told["participants"]:
            person["chats"] = person.pop("calls")
    return told | {
        "startTime": clock(0),
        "endTime": clock(lasts_us),
        "divisions": [],
        "recordingState": "none",
        "securePause": False,
        "selfUri": f"/api/v2/conversations/{found.id}",
    }
