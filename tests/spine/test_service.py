"""The live service on a real store: commits, timers, back-pressure, switches, restarts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from steno.adapters.sealing import AesGcmSealer
from steno.adapters.store_sqlite import SqliteStore
from steno.core.language import LanguageRule
from steno.core.records import Kind, Record
from steno.core.transcript import Fragment, RawText
from steno.errors import AuthError, PeerUnavailable, StorageError
from steno.observability import LogTelemetry
from steno.ports import Commit, FeedTarget, FeedUp, ModelSwitcher, RecordStore
from steno.redaction.redactor import Redactor
from steno.spine.pipeline import Pipeline, PipelineSettings
from steno.spine.service import SpineService, SpineSettings

S = 1_000_000
KEY = bytes(range(32))
REDACTOR = Redactor()


def frag(at_s: float, text: str, *, final: bool = False, language: str = "en-US") -> Fragment:
    return Fragment(
        "c1", "p1", RawText(text), 0.95, final, language, int(at_s * S), received_s=time.monotonic()
    )


def make_service(
    store: RecordStore,
    *,
    window_s: float = 5.0,
    switcher: ModelSwitcher | None = None,
    settings: SpineSettings | None = None,
    rule: LanguageRule | None = None,
    pipeline: Pipeline | None = None,
) -> SpineService:
    return SpineService(
        pipeline
        or Pipeline(
            PipelineSettings(
                source="transcript-stream",
                host_group="h",
                window_s=window_s,
                language=rule or LanguageRule(),
            ),
            REDACTOR,
        ),
        store=store,
        sealer=AesGcmSealer(KEY),
        switcher=switcher,
        telemetry=LogTelemetry(level="error", strict=True),
        settings=settings or SpineSettings(commit_s=0.001, journal_s=0.002),
        clock=time.monotonic,
        utc_us=lambda: time.time_ns() // 1000,
        draw=lambda: 0.0,
    )


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[SqliteStore, list[Record]]]:
    store = SqliteStore.open(path / "steno.db", {"sink": frozenset(Kind)})
    store.start()
    committed: list[Record] = []
    store.on_committed(committed.extend)
    try:
        yield store, committed
    finally:
        await store.close()


async def until(condition: object, *, limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.002)


def texts(records: Sequence[Record]) -> list[str]:
    return [json.loads(r.payload)["text"] for r in records if r.kind is Kind.SENTENCE]


async def test_a_final_is_stored_without_waiting_for_another_fragment(tmp_path: Path) -> None:
    """One accept, one commit, one record."""
    async with opened(tmp_path) as (store, committed):
        service = make_service(store)
        assert service.accept(frag(1, "good morning", final=True))
        await until(lambda: committed)
        assert texts(committed) == ["good morning"]
        assert await service.finish(timeout_s=2.0)


async def test_two_sentences_in_one_fragment_do_not_wait_for_the_journal(tmp_path: Path) -> None:
    """A commit that was to journal a window later is brought forward for any sentence."""
    async with opened(tmp_path) as (store, committed):
        service = make_service(store, settings=SpineSettings(commit_s=0.001, journal_s=30.0))
        service.accept(frag(1, "tulips"))
        service.accept(frag(2, "and roses. Lilies too", final=True))
        await until(lambda: len(committed) == 2)
        await service.finish(timeout_s=2.0)


async def test_an_open_window_is_stored_by_its_own_timer(tmp_path: Path) -> None:
    """Nothing else has to happen for it."""
    async with opened(tmp_path) as (store, committed):
        service = make_service(store, window_s=0.05)
        service.accept(frag(1, "still there"))
        await until(lambda: committed)
        assert texts(committed) == ["still there"]
        await service.finish(timeout_s=2.0)


async def test_a_new_process_goes_on_with_the_sentence_of_the_killed_one(tmp_path: Path) -> None:
    """The journal is sealed on disk; the words come back, once, and then leave the journal."""
    async with opened(tmp_path) as (store, committed):
        service = make_service(store)
        service.accept(frag(1, "my parcel from Zanzibar"))

        async def journalled() -> bool:
            return bool(await store.windows())

        async with asyncio.timeout(5):
            while not await journalled():
                await asyncio.sleep(0.002)
        assert committed == []
        # No finish: the process is gone here.
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"Zanzibar" not in on_disk
    async with opened(tmp_path) as (store, committed):
        service = make_service(store)
        assert await service.restore(down_since_us=10 * S) == []
        service.accept(FeedUp("f", "h", 20 * S))
        service.accept(frag(2, "never came", final=True))
        await until(lambda: texts(committed))
        assert texts(committed) == ["my parcel from Zanzibar never came"]
        assert await service.finish(timeout_s=2.0)
        assert await store.windows() == {}
        gaps = [json.loads(r.payload) for r in committed if r.kind is Kind.GAP]
        assert {gap["cause"] for gap in gaps} == {"process_down"}
        assert gaps[-1]["to_us"] == 20 * S


class Unlucky(Pipeline):
    """A pipeline with a bug that one conversation meets."""

    def fragment(self, fragment: Fragment, *, now: float, now_us: int) -> None:
        if "unlucky" in fragment.text:
            raise ZeroDivisionError(fragment.text)
        super().fragment(fragment, now=now, now_us=now_us)


async def test_a_bug_met_by_one_fragment_is_a_gap_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``accept`` never raises; what is missing is told by class, never by its text."""
    async with opened(tmp_path) as (store, committed):
        settings = PipelineSettings(source="transcript-stream", host_group="h")
        service = make_service(store, pipeline=Unlucky(settings, REDACTOR))
        assert service.accept(frag(1, "an unlucky word", final=True))
        assert service.accept(frag(2, "good morning", final=True))
        await until(lambda: len(committed) == 2)
        assert await service.finish(timeout_s=2.0)
    assert texts(committed) == ["good morning"]
    (gap,) = [json.loads(r.payload) for r in committed if r.kind is Kind.GAP]
    assert (gap["cause"], gap["detail"]) == ("quarantine", "ZeroDivisionError")
    assert "unlucky" not in capsys.readouterr().err


class FailingStore:
    """A store that refuses its first commits, as a full disk does."""

    def __init__(self, store: SqliteStore, failures: int) -> None:
        self._store = store
        self.left = failures

    def submit(self, commit: Commit) -> asyncio.Future[list[Record]]:
        if self.left:
            self.left -= 1
            future: asyncio.Future[list[Record]] = asyncio.get_running_loop().create_future()
            future.set_exception(StorageError("no space"))
            return future
        return self._store.submit(commit)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


async def test_what_a_full_disk_refused_is_stored_later_and_in_order(tmp_path: Path) -> None:
    """Nothing is dropped, nothing overtakes."""
    async with opened(tmp_path) as (store, committed):
        failing = FailingStore(store, 2)
        service = make_service(failing)  # type: ignore[arg-type]  # all else is passed on
        service.accept(frag(1, "first", final=True))
        await until(lambda: failing.left < 2)
        service.accept(frag(2, "second", final=True))
        await until(lambda: len(committed) == 2)
        assert texts(committed) == ["first", "second"]
        assert [record.seq for record in committed] == [1, 2]
        await service.finish(timeout_s=2.0)


async def test_feeds_are_asked_to_wait_while_too_much_is_uncommitted(tmp_path: Path) -> None:
    """``accept`` says no at the mark, and ``ready`` returns after the commit."""
    async with opened(tmp_path) as (store, committed):
        service = make_service(store, settings=SpineSettings(commit_s=0.001, high_water=8, batch=4))
        answers = [service.accept(frag(i, f"word{i}", final=True)) for i in range(40)]
        assert answers[0] is True
        assert answers[-1] is False
        async with asyncio.timeout(5):
            await service.ready()
        await until(lambda: len(committed) == 40)
        assert await service.finish(timeout_s=2.0)


class ScriptedSwitcher:
    """Answers each switch with the next of its script."""

    def __init__(self, *script: bool | Exception) -> None:
        self.script = list(script)
        self.asked: list[tuple[str, str]] = []

    async def switch(self, conversation: str, language: str) -> bool:
        self.asked.append((conversation, language))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Idle:
    """A feed that follows nothing until it is closed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def run(self, target: FeedTarget) -> None:
        await self.closed.wait()

    async def close(self) -> None:
        self.closed.set()


async def test_a_switch_is_recorded_and_a_failing_one_delays_no_sentence(tmp_path: Path) -> None:
    """The PUT goes its own way; sentences are stored meanwhile, and the change once it is made."""
    rule = LanguageRule(recent=3, min_evidence=2, cooldown_s=0.0)
    switcher = ScriptedSwitcher(PeerUnavailable(), True)
    async with opened(tmp_path) as (store, committed):
        service = make_service(store, switcher=switcher, rule=rule)
        feed = Idle()
        running = asyncio.create_task(service.run([feed]))
        for i in range(6):
            service.accept(frag(i, f"hola {i}", final=True, language="es-ES"))
        await until(lambda: len(texts(committed)) == 6)
        await until(lambda: switcher.asked)
        assert switcher.asked == [("c1", "es-ES")]
        assert not [record for record in committed if record.kind is Kind.LANGUAGE_CHANGED]
        await feed.close()
        await running
        await service.finish(timeout_s=2.0)


async def test_without_the_write_scope_detection_goes_on_and_nothing_is_asked_again(
    tmp_path: Path,
) -> None:
    """One refusal, then changes are recorded as not applied."""
    rule = LanguageRule(recent=2, min_evidence=2, cooldown_s=0.0)
    switcher = ScriptedSwitcher(AuthError("missing scope"))
    async with opened(tmp_path) as (store, committed):
        service = make_service(store, switcher=switcher, rule=rule)
        feed = Idle()
        running = asyncio.create_task(service.run([feed]))

        def changes() -> list[dict[str, object]]:
            found = [r for r in committed if r.kind is Kind.LANGUAGE_CHANGED]
            return [json.loads(r.payload) for r in found]

        for i, language in enumerate(["es-ES", "es-ES", "fr-FR", "fr-FR"]):
            service.accept(frag(i, f"palabra {i}", final=True, language=language))
            if i == 1:
                await until(lambda: len(changes()) == 1)
        await until(lambda: len(changes()) == 2)
        assert [change["language"] for change in changes()] == ["es-ES", "fr-FR"]
        assert not any(change["applied"] for change in changes())
        assert len(switcher.asked) == 1
        await feed.close()
        await running
        await service.finish(timeout_s=2.0)


async def test_committed_waits_for_what_is_finished_and_for_nothing_later(tmp_path: Path) -> None:
    """The caller may tell its peer that the words are stored."""
    async with opened(tmp_path) as (store, committed):
        service = make_service(store)
        service.accept(frag(1.0, "Hello there.", final=True))
        async with asyncio.timeout(5):
            await service.committed()
        assert texts(committed) == ["Hello there."]
        async with asyncio.timeout(1):
            await service.committed()  # nothing waits


async def test_two_services_share_a_store_without_reading_each_others_journal(
    tmp_path: Path,
) -> None:
    """Each restores its own open windows, whatever conversation they are of."""
    said = (("", "spoken live"), ("media", "heard in a call"))
    async with opened(tmp_path) as (store, committed):
        for at_s, (journal, words) in enumerate(said):
            service = make_service(
                store, settings=SpineSettings(commit_s=0.001, journal_s=0.002, journal=journal)
            )
            service.accept(frag(at_s, words))
        expected = {"c1", "media/c1"}
        async with asyncio.timeout(5):
            while set(await store.windows()) != expected:
                await asyncio.sleep(0.01)
        for journal, words in said:
            service = make_service(
                store, settings=SpineSettings(commit_s=0.001, journal_s=0.002, journal=journal)
            )
            before = len(texts(committed))
            await service.restore(down_since_us=None)
            assert await service.finish(timeout_s=5)
            assert texts(committed)[before:] == [words]
