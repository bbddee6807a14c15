"""Stored transcripts from a simulated platform to archive, listing, summary and records."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import polars
import pytest

from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite.reader import OutboxReader
from steno.app.archive import ArchiveOptions, Shop, archive_file
from steno.app.archive_conversations import Archiving, Wanted, _Ids, archive_conversations
from steno.app.archive_extras import ExtraOptions
from steno.app.archive_place import place_of
from steno.archive.criteria import Criteria
from steno.archive.service import ArchiveService, Outcome, Result, Surroundings
from steno.config import load
from steno.core.records import ArchivePayload, Kind
from steno.core.secret import Secret
from steno.core.transcript import Role
from steno.errors import AuthError, ConfigError, IntegrityError, RemoteProtocolError
from steno.observability import LogTelemetry
from steno.ports.archive import FetchProgress, FoundTranscript
from steno_sim.archive.settings import ArchiveSettings
from steno_sim.archive_score import score_payload
from steno_sim.server import Simulator

FAMILIES = ("tutorial", "genesys-cloud")


def some(count: int) -> list[str]:
    """Return conversation ids, the same in every run."""
    return [str(uuid.uuid5(uuid.NAMESPACE_DNS, f"call {n}")) for n in range(count)]


class Run:
    """A state directory, an archive folder and a platform."""

    def __init__(self, folder: Path, sim: Simulator | None, family: str = "tutorial") -> None:
        self.folder = folder
        self.sim = sim
        self.family = family
        self.place = folder / "archive"
        self.stop = asyncio.Event()
        self.results: list[Result] = []
        self.client = ("steno-demo", "steno-demo-secret")

    def config(self, **settings: object) -> Any:  # Any: Config
        """Return settings of a run."""
        host = {}
        if self.sim is not None:
            host = {"platform.host": self.sim.url, "platform.family": self.family}
        overrides: dict[str, object] = {
            **host,
            "platform.client_id": self.client[0],
            "platform.client_secret": Secret(self.client[1]),
            "state_dir": self.folder / "state",
            "archive.url": str(self.place),
            "archive.per_minute": 60_000.0,
            "archive.poll_s": 0.02,
            "archive.poll_limit_s": 2.0,
            **{f"archive.{name}": value for name, value in settings.items()},
        }
        return load(None, {"HOME": str(self.folder)}, overrides)

    def options(self, **more: Any) -> ArchiveOptions:  # Any: passed on
        """Return options of a run that remembers what it is told."""
        return ArchiveOptions(on_result=self.results.append, **more)

    async def go(
        self, ids: list[str], options: ArchiveOptions | None = None, **settings: object
    ) -> Archiving:
        """Archive conversations."""
        self.results.clear()
        return await archive_conversations(
            self.config(**settings),
            Wanted(ids),
            options or self.options(),
            stop=self.stop,
            telemetry=LogTelemetry(level="error"),
        )

    def objects(self) -> dict[str, bytes]:
        """Return the archived transcripts by key."""
        root = self.place / "transcripts"
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }

    def records(self) -> list[ArchivePayload]:
        """Return the records of archived transcripts."""
        with OutboxReader(StateDir(self.folder / "state").database) as reader:
            return [
                msgspec.json.decode(record.payload, type=ArchivePayload)
                for record in reader.records()
                if record.kind is Kind.ARCHIVE
            ]


@pytest.mark.parametrize("family", FAMILIES)
async def test_conversations_become_objects_summaries_and_records(
    tmp_path: Path, family: str
) -> None:
    """Of both families: the payload has the document's keys, the summary those of its turns."""
    ids = some(5)
    async with Simulator("quiet", archive=ArchiveSettings(turns=(3, 30))) as sim:
        run = Run(tmp_path, sim, family)
        done = await run.go(ids)
    assert Counter(one.outcome for one in run.results) == {Outcome.WRITTEN: 5}
    assert done.tally.good == 5
    objects = run.objects()
    assert len(objects) == 5
    for result in run.results:
        summary = msgspec.json.decode(bytes(result.summary))
        name = summary["storage_location"].rpartition("transcripts/")[2]
        payload = json.loads(objects[name])
        assert list(payload) == ["transcript", "participants"]
        assert summary["interaction_id"] == result.conversation
        assert summary["total_turns"] == len(payload["transcript"]) > 0
        assert summary["agent_turns"] > 0
        last = max(turn["end_time"] for turn in payload["transcript"])
        assert summary["total_duration_seconds"] == pytest.approx(last)
    assert {payload.summary["interaction_id"] for payload in run.records()} == set(ids)


async def test_a_second_run_fetches_nothing_and_changes_nothing(tmp_path: Path) -> None:
    """What is archived is known; its summary is that of the run that archived it."""
    ids = some(4)
    async with Simulator("quiet", archive=ArchiveSettings(turns=(3, 9))) as sim:
        run = Run(tmp_path, sim)
        await run.go(ids)
        first = {one.conversation: bytes(one.summary) for one in run.results}
        objects = run.objects()
        bytes_before, asked = sim.archive.stats()["bytes"], dict(sim.archive.asked)
        await run.go(ids)
        assert dict(sim.archive.asked) == asked
        assert {one.outcome for one in run.results} == {Outcome.KNOWN}
        assert {one.conversation: bytes(one.summary) for one in run.results} == first
        assert sim.archive.stats()["bytes"] == bytes_before
        await run.go(ids, run.options(again=True))
        assert {one.outcome for one in run.results} == {Outcome.SAME}
        assert {one.conversation: bytes(one.summary) for one in run.results} == first
    assert run.objects() == objects
    assert len(run.records()) == 4


async def test_a_listing_of_what_is_known_is_the_same_as_when_it_was_fetched(
    tmp_path: Path,
) -> None:
    """It is read back from the archive."""
    ids = some(3)
    outs = [tmp_path / "one-{conversation}.jsonl", tmp_path / "two-{conversation}.jsonl"]
    criteria = Criteria(roles=frozenset({Role.AGENT}), min_confidence=0.5)
    async with Simulator("quiet", archive=ArchiveSettings(turns=(5, 20), order="last")) as sim:
        run = Run(tmp_path, sim)
        for out in outs:
            await run.go(ids, run.options(out=str(out), criteria=criteria))
    for name in ids:
        one, two = (Path(str(out).replace("{conversation}", name)).read_bytes() for out in outs)
        assert one == two
        rows = [json.loads(line) for line in one.splitlines()]
        assert {row["role"] for row in rows} == {"agent"}
        assert all(row["segment"]["confidence"] >= 0.5 for row in rows)


async def test_one_listing_of_all_is_shown_when_all_is_done(tmp_path: Path) -> None:
    """Every conversation's lines stand together."""
    ids = some(3)
    async with Simulator("quiet", archive=ArchiveSettings(turns=(5, 9))) as sim:
        run = Run(tmp_path, sim)
        await run.go(ids, run.options(out=str(tmp_path / "all.jsonl")))
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_bytes().splitlines()]
    order = list(dict.fromkeys(row["interaction_id"] for row in rows))
    assert sorted(order) == sorted(ids)
    assert [row["interaction_id"] for row in rows] == sorted(
        (row["interaction_id"] for row in rows), key=order.index
    )


async def test_one_listing_of_all_is_not_shown_when_the_run_is_stopped(tmp_path: Path) -> None:
    """A part would look like the whole; the next run lists all of it."""
    out = tmp_path / "all.jsonl"
    async with Simulator("quiet", archive=ArchiveSettings(turns=(2, 3))) as sim:
        run = Run(tmp_path, sim)

        def stop(result: Result) -> None:
            run.results.append(result)
            run.stop.set()

        await run.go(some(30), ArchiveOptions(out=str(out), on_result=stop))
        assert 1 <= len(run.results) < 30
        assert not out.exists()


class Found:
    """Finds two conversations in any range."""

    async def conversations(self, from_us: int, to_us: int) -> AsyncGenerator[str, None]:
        """Yield them."""
        del from_us, to_us
        yield "conv-1"
        yield "conv-9"


async def test_a_conversation_named_twice_is_taken_once() -> None:
    """Twice in a list, or in a list and the range; a line that is no id is told by its number."""
    bad: list[int] = []
    wanted = Wanted(["conv-1", " conv-2\n", "", "../x", "conv-1"], 1, 2, bad.append)
    ids = _Ids(wanted, Found())  # type: ignore[arg-type]  # no more is asked of it
    assert [name async for name in ids.all()] == ["conv-1", "conv-2", "conv-9"]
    assert (bad, ids.bad) == ([4], 1)


async def test_what_has_no_transcript_is_told_apart(tmp_path: Path) -> None:
    """Missing, empty, failed, unreadable and never finished are five; none stops the rest."""
    ids = some(40)
    shares = ArchiveSettings(
        turns=(2, 4),
        missing=0.2,
        empty=0.2,
        failed=0.1,
        never=0.1,
        legacy=0.2,
        legacy_form="nested",
    )
    async with Simulator("quiet", archive=shares) as sim:
        run = Run(tmp_path, sim)
        done = await run.go(ids, poll_limit_s=0.2, concurrency=16)
    outcomes = done.tally.outcomes
    assert set(outcomes) == {
        Outcome.WRITTEN,
        Outcome.MISSING,
        Outcome.EMPTY,
        Outcome.FAILED,
        Outcome.IN_WORK,
        Outcome.LEGACY,
    }
    assert sum(outcomes.values()) == 40
    assert len(run.objects()) == outcomes[Outcome.WRITTEN]


async def test_another_content_under_the_same_key_is_a_conflict(tmp_path: Path) -> None:
    """What is archived is never overwritten: here the same transcripts, redacted this time."""
    ids = some(6)
    async with Simulator("quiet", archive=ArchiveSettings(turns=(20, 30))) as sim:
        run = Run(tmp_path, sim)
        await run.go(ids)
        before = run.objects()
        await run.go(ids, redact=True)
    assert Outcome.CONFLICT in {one.outcome for one in run.results}
    assert run.objects() == before


async def test_what_another_filter_left_is_not_taken_for_known(tmp_path: Path) -> None:
    """The archive holds the agents' turns; asked for the customers' it says so."""
    ids = some(2)
    async with Simulator("quiet", archive=ArchiveSettings(turns=(20, 30))) as sim:
        run = Run(tmp_path, sim)
        for role, outcome in (
            (Role.AGENT, Outcome.WRITTEN),
            (Role.AGENT, Outcome.KNOWN),
            (Role.CUSTOMER, Outcome.CONFLICT),
        ):
            options = run.options(criteria=Criteria(roles=frozenset({role})), kept_filtered=True)
            await run.go(ids, options)
            assert {one.outcome for one in run.results} == {outcome}


async def test_pictures_of_several_transcripts_are_not_written_over_one_another(
    tmp_path: Path,
) -> None:
    """Each has its communication in its name, and in its lines; one name for all is an error."""
    ids = some(1)
    legs = ArchiveSettings(turns=(3, 9), legs=(2, 2))
    async with Simulator("quiet", archive=legs) as sim:
        run = Run(tmp_path, sim, "genesys-cloud")
        out = tmp_path / "all.jsonl"
        named = ExtraOptions(picture=str(tmp_path / "{conversation}.svg"))
        await run.go(ids, run.options(extras=named, out=str(out)))
        legs_seen = {one.communication for one in run.results}
        assert len(legs_seen) == 2
        names = {path.name for path in tmp_path.glob("*.svg")}
        assert names == {f"{ids[0]}.{leg}.svg" for leg in legs_seen}
        lines = [json.loads(line) for line in out.read_bytes().splitlines()]
        assert {line["communication"] for line in lines} == legs_seen
        one = ExtraOptions(picture=str(tmp_path / "one.svg"))
        await run.go(ids, run.options(extras=one))
    assert sorted(one.outcome for one in run.results) == [Outcome.FAILED, Outcome.KNOWN]
    assert "several transcripts" in next(one.detail for one in run.results if one.detail)


class Elsewhere:
    """A source whose transcripts are of one conversation, whichever is asked for."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def find(self, conversation: str) -> list[FoundTranscript]:
        """Return one."""
        return [FoundTranscript(conversation)]

    async def download(
        self, found: FoundTranscript, progress: FetchProgress | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Give it out; of the conversation ``broken`` nothing but a fault of ours."""
        del progress
        if found.conversation == "broken":
            raise KeyError("a caller's words")
        yield self.body


async def test_one_conversation_does_not_take_the_others(tmp_path: Path) -> None:
    """A transcript of another conversation is refused, a fault of ours told without its words."""
    run = Run(tmp_path, None)
    config = run.config()
    place = place_of(config)
    around = Surroundings(
        source=Elsewhere(json.dumps(transcript()).encode()),
        workshop=Shop(config, run.options(), place),
        telemetry=LogTelemetry(level="error"),
        now=lambda: "2026-01-05T10:00:00Z",
        store=place,
        on_result=run.results.append,
    )

    async def ids() -> AsyncGenerator[str, None]:
        for name in ("broken", "conv-2", "conv-1"):
            yield name

    await ArchiveService(around, concurrency=1).run(ids(), asyncio.Event())
    told = {one.conversation: (one.outcome, one.error) for one in run.results}
    assert told == {
        "broken": (Outcome.FAILED, "KeyError"),
        "conv-2": (Outcome.FAILED, "IntegrityError"),
        "conv-1": (Outcome.WRITTEN, ""),
    }
    assert "words" not in "".join(one.detail for one in run.results)
    assert list(run.objects()) == ["conv-1.json"]


class Opening:
    """A store that is being asked for a writer, until it may answer."""

    def __init__(self) -> None:
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.aborted = 0

    def manifest(self, key: str, *, conversation: str = "") -> None:
        """Nothing is archived."""

    def writer(self, item: object) -> Opening:
        """Return one, in a while."""
        self.asked.set()
        assert self.may_answer.wait(10)
        return self

    def abort(self) -> None:
        """Count."""
        self.aborted += 1


async def test_what_is_opened_while_the_run_is_stopped_is_given_up(tmp_path: Path) -> None:
    """A claim that nobody gives back would be in the way of the next run."""
    run, store = Run(tmp_path, None), Opening()
    config = run.config()
    around = Surroundings(
        source=Elsewhere(b""),
        workshop=Shop(config, run.options(), place_of(config)),
        telemetry=LogTelemetry(level="error"),
        now=lambda: "2026-01-05T10:00:00Z",
        store=store,  # type: ignore[arg-type]  # no more is asked of it
    )

    async def ids() -> AsyncGenerator[str, None]:
        yield "conv-1"

    going = asyncio.create_task(ArchiveService(around).run(ids(), run.stop))
    await asyncio.to_thread(store.asked.wait, 10)
    run.stop.set()
    asyncio.get_running_loop().call_later(0.02, store.may_answer.set)
    await going
    assert store.aborted == 1


async def test_refused_credentials_end_the_run(tmp_path: Path) -> None:
    """Nobody else could get past them."""
    async with Simulator("quiet") as sim:
        run = Run(tmp_path, sim)
        run.client = ("steno-demo", "wrong")
        with pytest.raises(AuthError):
            await run.go(some(3))
    assert run.objects() == {}


async def test_a_stop_leaves_whole_objects_only(tmp_path: Path) -> None:
    """And the next run does the rest; together they are what one run would have made."""
    ids = some(30)
    settings = ArchiveSettings(turns=(200, 300), inline_bytes=0)
    async with Simulator("quiet", archive=settings) as sim:
        run = Run(tmp_path, sim)

        def stop_soon(result: Result) -> None:
            run.results.append(result)
            if len(run.results) == 5:
                run.stop.set()

        await run.go(ids, ArchiveOptions(on_result=stop_soon))
        assert 5 <= len(run.objects()) < 30
        run.stop = asyncio.Event()
        await run.go(ids)
        whole = run.objects()
        other = Run(tmp_path / "other", sim)
        await other.go(ids)
    assert whole == other.objects()
    assert len(whole) == 30


# --- local files -----------------------------------------------------------------------------


def transcript(**more: object) -> dict[str, object]:
    """Return a small transcript of the document's shape."""
    return {
        "conversation": "conv-1",
        "participants": [{"id": "a", "name": "Ann", "role": "agent"}],
        "transcript": [
            {"start_time": 0, "end_time": 1, "text": "hi", "speaker_id": "a", "confidence": 0.5}
        ],
        **more,
    }


def written(folder: Path, body: object, name: str = "t.json") -> str:
    """Write a file; return its path."""
    path = folder / name
    path.write_text(json.dumps(body))
    return str(path)


def test_a_local_file_needs_no_platform(tmp_path: Path) -> None:
    """And no state directory."""
    run = Run(tmp_path, None)
    result = archive_file(run.config(), written(tmp_path, transcript()), run.options())
    assert result.outcome is Outcome.WRITTEN
    assert list(run.objects()) == ["conv-1.json"]
    assert not (tmp_path / "state").exists()


def test_a_file_that_names_its_conversation_last_is_archived_under_that_name(
    tmp_path: Path,
) -> None:
    """Also behind more than is read at once."""
    body = transcript()
    turns = body["transcript"] * 20_000  # type: ignore[operator]  # a list
    late = {"participants": body["participants"], "transcript": turns, "conversation": "conv-9"}
    run = Run(tmp_path, None)
    archive_file(run.config(), written(tmp_path, late), run.options())
    assert list(run.objects()) == ["conv-9.json"]


def test_a_file_that_names_no_conversation_is_named_by_whoever_has_it(tmp_path: Path) -> None:
    """By option, else by its file's name; standard input has none."""
    body = transcript()
    del body["conversation"]
    run = Run(tmp_path, None)
    archive_file(run.config(), written(tmp_path, body, "call-7.json"), run.options())
    archive_file(run.config(), written(tmp_path, body), run.options(), conversation="call-8")
    assert list(run.objects()) == ["call-7.json", "call-8.json"]
    with open(written(tmp_path, body), "rb") as stdin, pytest.raises(ConfigError):
        archive_file(run.config(), "-", run.options(), stdin=stdin)


def test_a_file_of_another_conversation_is_refused(tmp_path: Path) -> None:
    """Nothing is archived under the wrong name."""
    run = Run(tmp_path, None)
    path = written(tmp_path, transcript())
    with pytest.raises(IntegrityError):
        archive_file(run.config(), path, run.options(), conversation="conv-2")
    assert run.objects() == {}


def test_a_truncated_file_archives_nothing(tmp_path: Path) -> None:
    """Unless what is complete is wanted."""
    run = Run(tmp_path, None)
    path = tmp_path / "t.json"
    path.write_text(json.dumps(transcript())[:-20])
    with pytest.raises(RemoteProtocolError, match="offset"):
        archive_file(run.config(), str(path), run.options())
    assert run.objects() == {}
    result = archive_file(run.config(), str(path), run.options(keep_truncated=True))
    assert result.truncated_at is not None


def test_what_was_kept_of_a_truncated_file_is_no_archived_transcript(tmp_path: Path) -> None:
    """It is told how it was made, so the whole file is a difference, and not known."""
    run = Run(tmp_path, None)
    bad = {"start_time": -1, "end_time": 1, "text": "no", "speaker_id": "a"}
    turns = [*transcript()["transcript"], bad]  # type: ignore[misc]  # a list
    path = tmp_path / "t.json"
    path.write_text(json.dumps(transcript(transcript=turns))[:-1])
    result = archive_file(run.config(), str(path), run.options(keep_truncated=True))
    assert (result.bad, len(result.bad_segments)) == (1, 1)
    held = place_of(run.config()).manifest("transcripts/conv-1.json")
    assert held is not None
    assert held.made_with == "document as-far-as-complete"


def test_options_that_exclude_one_another_are_refused_before_the_work(tmp_path: Path) -> None:
    """The source's own bytes are neither redacted nor filtered."""
    run = Run(tmp_path, None)
    path = written(tmp_path, transcript())
    with pytest.raises(ConfigError):
        archive_file(run.config(redact=True), path, run.options(original=True))
    with pytest.raises(ConfigError):
        archive_file(run.config(), path, run.options(original=True, kept_filtered=True))
    assert not run.place.exists()


# --- further outputs -------------------------------------------------------------------------


async def test_a_table_stands_beside_each_transcript_with_the_roles_of_its_segments(
    tmp_path: Path,
) -> None:
    """Also where participants come last; a second run finds it and adds nothing."""
    ids = some(3)
    async with Simulator("quiet", archive=ArchiveSettings(turns=(5, 30), order="last")) as sim:
        run = Run(tmp_path, sim)
        for _ in range(2):
            await run.go(ids, run.options(extras=ExtraOptions(parquet=True)))
        truths = {name: sim.archive.truth(name)[0] for name in ids}
    tables = sorted((run.place / "parquet").rglob("*.parquet"))
    assert len(tables) == 3
    for path in tables:
        table = polars.read_parquet(path, hive_partitioning=False)
        (name,) = table["conversation"].unique()
        turns = truths[name].turns
        assert table["text"].to_list() == [turn.text for turn in turns]
        assert table["role"].to_list() == [turn.role for turn in turns]
        assert table["index"].to_list() == list(range(len(turns)))


async def test_pictures_and_a_page_are_made_of_what_is_known_too(tmp_path: Path) -> None:
    """From the archive, not from the platform."""
    ids = some(2)
    extras = ExtraOptions(
        picture=str(tmp_path / "{conversation}.svg"), report=str(tmp_path / "page.html")
    )
    async with Simulator("quiet", archive=ArchiveSettings(turns=(5, 9))) as sim:
        run = Run(tmp_path, sim)
        await run.go(ids)
        await run.go(ids, run.options(extras=extras))
    assert {one.outcome for one in run.results} == {Outcome.KNOWN}
    for name in ids:
        assert (tmp_path / f"{name}.svg").read_text().startswith("<svg")
    assert all(name in (tmp_path / "page.html").read_text() for name in ids)


async def test_compressed_and_redacted_transcripts_are_what_they_say(tmp_path: Path) -> None:
    """Everything is there, and no planted secret."""
    ids = some(2)
    async with Simulator("quiet", archive=ArchiveSettings(turns=(40, 60), language="en-US")) as sim:
        run = Run(tmp_path, sim)
        await run.go(ids, compress=True, redact=True)
        truths = {name: sim.archive.truth(name) for name in ids}
    place = place_of(run.config())
    for name, data in run.objects().items():
        assert name.endswith(".json.zst")
        assert data[:4] == b"\x28\xb5\x2f\xfd"
        payload = b"".join(place.read(f"transcripts/{name}"))
        score = score_payload(truths[name.removesuffix(".json.zst")], payload, redacted=True)
        assert (score.leaked, score.missing, score.extra) == (0, 0, 0)
        assert score.expected >= 40
