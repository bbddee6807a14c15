"""Recordings of the simulated platform, fetched and recognised: the words said are the words out.

The speech service is the example's, which understands tone words, so text and times can be
compared exactly. Everything speaks over real sockets on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import numpy as np
import pytest
from aiohttp import web

from recordings.tone_recordings import file_of, give, lead, listener, tones
from steno.adapters.error_rates import error_rates
from steno.adapters.job_store import JobReader
from steno.adapters.state_dir import StateDir
from steno.adapters.store_sqlite.reader import OutboxReader
from steno.app import engines as building
from steno.app.platform import hosts_of
from steno.app.recordings import Outcome, TranscribeOptions, rules_of, transcribe
from steno.config import load
from steno.core.records import JobPayload, Kind
from steno.core.secret import Secret
from steno.errors import ConfigError
from steno.observability import LogTelemetry
from steno.ports.jobs import Job, TranscriptionRequest
from steno.recordings import engines, media_sources
from steno.recordings.requests import BadLine, Line, read_arguments
from steno_sim.calls.voices import channels, spoken_call
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.recordings.catalogue import Recording
from steno_sim.recordings.settings import JobSettings, MediaSettings
from steno_sim.server import Simulator

CUSTOMER = "please call me back. the order is late."
AGENT = "one moment please. i will look."


class Run:
    """A state directory, a platform and a speech service."""

    def __init__(self, folder: Path, sim: Simulator, speech: str) -> None:
        self.folder = folder
        self.sim = sim
        self.speech = speech
        self.url = ""
        self.state = StateDir(folder / "state")
        self.stop = asyncio.Event()
        self.told: list[Line] = []

    async def go(
        self,
        *recordings: Recording | str,
        options: Mapping[str, object] | None = None,
        settings: Mapping[str, object] | None = None,
        **more: Any,
    ) -> Outcome:
        given: dict[str, object] = {
            "transcribe.engine": "audio",
            "transcribe.per_minute": 60_000.0,
            "transcribe.poll_first_s": 0.02,
            "transcribe.poll_max_s": 0.05,
            "transcribe.retry_first_s": 0.01,
            "transcribe.retry_max_s": 0.02,
            "transcribe.settle_s": 1.0,
            "observability.listen": "",
            "platform.host": self.url or self.sim.url,
            "platform.client_id": DEFAULT_CLIENT_ID,
            "platform.client_secret": Secret(DEFAULT_CLIENT_SECRET),
            "speech.address": self.speech,
            "speech.service": "transcription",
            "state_dir": self.state.root,
            **{f"transcribe.{name}": value for name, value in more.items()},
            **(settings or {}),
        }
        config = load(None, {"HOME": str(self.folder)}, given)
        names = [r if isinstance(r, str) else f"{r.conversation}/{r.id}" for r in recordings]
        lines = list(
            read_arguments(names, rules_of(config), TranscriptionRequest("", format="json"))
        )
        return await transcribe(
            config,
            lines,
            stop=self.stop,
            telemetry=LogTelemetry(level="warning"),
            options=TranscribeOptions(
                out=f"{self.folder}/{{recording}}.json",
                redact=False,
                engine=config.transcribe.engine,
                on_line=self.told.append,
                **(options or {}),  # type: ignore[arg-type]  # names of options
            ),
        )

    def jobs(self) -> list[Job]:
        with JobReader(self.state.jobs) as reader:
            return [listed.job for listed in reader.page(limit=1000)]

    def records(self) -> list[JobPayload]:
        with OutboxReader(self.state.database) as reader:
            return [
                msgspec.json.decode(record.payload, type=JobPayload)
                for record in reader.records()
                if record.kind is Kind.JOB
            ]


@asynccontextmanager
async def running(folder: Path, recordings: int = 4, **media: Any) -> AsyncIterator[Run]:
    settings = MediaSettings(**({"item_s": (0.0, 0.0), "layouts": ("stereo",)} | media))
    sim = Simulator("quiet", jobs=JobSettings(recordings=recordings), media=settings)
    async with sim, listener() as speech:
        yield Run(folder, sim, speech)


def said(words: list[dict[str, Any]]) -> dict[str, str]:
    """Return what each speaker said."""
    found: dict[str, str] = {}
    for word in words:
        speaker = word.get("speaker", "")
        found[speaker] = f"{found.get(speaker, '')} {word['text']}".strip()
    return found


def words_of(run: Run, one: Recording) -> list[dict[str, Any]]:
    """Return the words of a transcript's file."""
    text = (run.folder / f"{one.id}.json").read_text()
    found: list[dict[str, Any]] = json.loads(text)["words"]
    return found


def times_of(text: str, at_s: float = 0.0) -> list[tuple[float, float]]:
    """Return when each word of tone words is said, seconds, as ``tones.spoken`` makes them."""
    at = at_s * tones.RATE_HZ + tones.SENTENCE_GAP_SAMPLES
    found = []
    for word in text.split():
        end = at + len(word) * (tones.TONE_SAMPLES + tones.SYMBOL_GAP_SAMPLES)
        found.append((at / tones.RATE_HZ, (end - tones.SYMBOL_GAP_SAMPLES) / tones.RATE_HZ))
        gap = tones.SENTENCE_GAP_SAMPLES if word[-1] in ".?!" else tones.WORD_GAP_SAMPLES
        at = end - tones.SYMBOL_GAP_SAMPLES + gap
    return found


def some(run: Run, count: int) -> list[Recording]:
    return run.sim.catalogue.recordings()[:count]


async def test_words_out_are_the_words_said_at_the_times_they_were_said(tmp_path: Path) -> None:
    """Each channel is a speaker; times are those of the recording, to a fiftieth of a second."""
    async with running(tmp_path) as run:
        (one,) = some(run, 1)
        give(run.sim, one, file_of(lead(CUSTOMER), lead(AGENT, 3.0)))
        outcome = await run.go(one)
        assert outcome.tally.states == Counter(completed=1), run.jobs()
        words = words_of(run, one)
    assert said(words) == {"channel_0": CUSTOMER, "channel_1": AGENT}
    started = one.start_ms / 1000
    for speaker, text, at_s in (("channel_0", CUSTOMER, 0.0), ("channel_1", AGENT, 3.0)):
        mine = [word for word in words if word["speaker"] == speaker]
        for word, bounds in zip(mine, times_of(text, at_s), strict=True):
            for name, expected in zip(("startTimestamp", "endTimestamp"), bounds, strict=True):
                told = datetime.fromisoformat(word[name]).timestamp() - started
                assert told == pytest.approx(expected, abs=0.021), word
    (record,) = run.records()
    assert [turn["text"] for turn in record.speakers] == [CUSTOMER, AGENT]
    assert not list((run.state.root / "downloads").iterdir())


@pytest.mark.parametrize(
    ("kind", "subtype", "rate_hz"),
    [
        ("WAV", "PCM_U8", 8000),
        ("WAV", "PCM_24", 16000),
        ("WAV", "PCM_32", 44100),
        ("WAV", "ULAW", 8000),
        ("WAV", "ALAW", 8000),
        ("OGG", "OPUS", 48000),
    ],
)
async def test_every_codec_is_heard(tmp_path: Path, kind: str, subtype: str, rate_hz: int) -> None:
    """In whatever rate it comes."""
    async with running(tmp_path) as run:
        (one,) = some(run, 1)
        data = file_of(lead(CUSTOMER), lead(AGENT), subtype=subtype, kind=kind, rate_hz=rate_hz)
        give(run.sim, one, data)
        await run.go(one, audio_speakers=("caller", "agent"))
        assert said(words_of(run, one)) == {"caller": CUSTOMER, "agent": AGENT}


async def test_two_files_are_two_speakers_and_a_mixed_one_is_nobody(tmp_path: Path) -> None:
    """A recording of two channels may come as two files."""
    async with running(tmp_path / "dual", layouts=("dual",)) as run:
        (one,) = some(run, 1)
        give(run.sim, one, file_of(lead(CUSTOMER)), file_of(lead(AGENT), subtype="ULAW"))
        await run.go(one)
        assert said(words_of(run, one)) == {"channel_0": CUSTOMER, "channel_1": AGENT}
    async with running(tmp_path / "mono", layouts=("mono",)) as run:
        (one,) = some(run, 1)
        give(run.sim, one, file_of(lead(CUSTOMER)))
        await run.go(one, audio_speakers=("caller", "agent"))
        assert [turn["speaker_id"] for turn in run.records()[0].speakers] == ["unknown"]


@pytest.mark.parametrize("body", ["estimate", "empty"])
async def test_presigned_media_are_waited_for_while_they_are_made(
    tmp_path: Path, body: str
) -> None:
    """202 until the platform has transcoded them; one order of nothing."""
    async with running(tmp_path, transcode_s=0.2, transcode_body=body) as run:
        (one,) = some(run, 1)
        give(run.sim, one, file_of(lead(CUSTOMER), lead(AGENT)))
        outcome = await run.go(one, audio_source="media", preflight=True)
        assert outcome.tally.states == Counter(completed=1), run.jobs()
        assert said(words_of(run, one)) == {"channel_0": CUSTOMER, "channel_1": AGENT}
        assert run.sim.platform.batches.submitted == 0


async def test_an_order_without_a_status_ends_when_it_is_full_and_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such answers were seen."""
    monkeypatch.setattr(media_sources, "QUIET_S", 0.1)
    async with running(tmp_path, missing_status=1.0, layouts=("mono",)) as run:
        (one,) = some(run, 1)
        give(run.sim, one, file_of(lead(CUSTOMER)))
        outcome = await run.go(one)
        assert outcome.tally.states == Counter(completed=1), run.jobs()


@pytest.mark.parametrize("source", ["batch", "media"])
@pytest.mark.parametrize("status", [403, 410])
async def test_a_link_that_ended_is_asked_for_again(
    tmp_path: Path, source: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where the same comes again, the recording is ordered anew."""
    monkeypatch.setattr(engines, "RENEW_S", 0.02)
    async with running(tmp_path, layouts=("mono",)) as run:
        (one,) = some(run, 1)
        give(run.sim, one, file_of(lead(CUSTOMER)))
        run.sim.inject(kind="answer", path="/recording-store/*", status=status)
        outcome = await run.go(one, audio_source=source)
        assert outcome.tally.states == Counter(completed=1), run.jobs()
        assert run.jobs()[0].submissions == 1
        assert run.sim.platform.batches.submitted == (2 if source == "batch" else 0)


async def test_a_download_that_breaks_off_is_fetched_again(tmp_path: Path) -> None:
    """Half of a file is no file."""
    async with running(tmp_path, layouts=("mono",)) as run:
        (one,) = some(run, 1)
        give(run.sim, one, file_of(lead(CUSTOMER)))
        run.sim.inject(kind="truncate", path="/recording-store/*", times=2)
        outcome = await run.go(one)
        assert outcome.tally.states == Counter(completed=1), run.jobs()
        assert said(words_of(run, one)) == {"": CUSTOMER}
        assert run.sim.platform.batches.submitted == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "audio.empty"),
        (b"RIFF\x04\0\0\0WAVE", "audio.truncated"),
        (file_of(lead(CUSTOMER))[:-4000], "audio.truncated"),
        (file_of(lead(CUSTOMER), kind="OGG", subtype="OPUS")[:-40], "audio.truncated"),
        (b"ID3 no sound at all" * 40, "audio.codec_unknown"),
        (file_of(np.zeros(0, np.int16)), "audio.empty"),
    ],
)
async def test_audio_that_cannot_be_read_fails_its_job_and_no_other(
    tmp_path: Path, data: bytes, code: str
) -> None:
    """With a reason and a code; it is not tried again."""
    async with running(tmp_path, layouts=("mono",)) as run:
        bad, good = some(run, 2)
        give(run.sim, bad, data)
        give(run.sim, good, file_of(lead(CUSTOMER)))
        outcome = await run.go(bad, good)
        assert outcome.tally.states == Counter(completed=1, failed=1)
        (job,) = [job for job in run.jobs() if job.request.recording_id == bad.id]
        assert (job.reason, job.code) == ("audio_unreadable", code)
        assert run.sim.platform.batches.submitted == 2
        assert not list((run.state.root / "downloads").iterdir())


@pytest.mark.parametrize(
    ("source", "media", "code"),
    [
        ("batch", {"item_errors": 1.0}, "recording.refused"),
        ("media", {"archived": 1.0}, "recording.archived"),
    ],
)
async def test_what_the_platform_does_not_hand_out_fails_its_job(
    tmp_path: Path, source: str, media: dict[str, Any], code: str
) -> None:
    """By a class of ours, and nothing of the platform's text."""
    async with running(tmp_path, **media) as run:
        (one,) = some(run, 1)
        outcome = await run.go(one, audio_source=source)
        assert outcome.tally.reasons == Counter(export_failed=1)
        assert run.jobs()[0].code == code
        assert run.records()[0].error == "ExportFailed"


async def test_a_restart_does_recognition_again_and_nothing_else_twice(tmp_path: Path) -> None:
    """The order of the first process is found by the second."""
    async with running(tmp_path, layouts=("mono",)) as run:
        (one,) = some(run, 1)
        give(run.sim, one, file_of(np.tile(lead(CUSTOMER), 40)))
        run.sim.inject(kind="drip", path="/recording-store/*", delay_s=0.05)
        going = asyncio.create_task(run.go(one))
        while not run.sim.platform.store.downloads:
            await asyncio.sleep(0.01)
        run.stop.set()
        outcome = await going
        assert (outcome.tally.ended, outcome.left) == (0, 1)
        run.stop.clear()
        outcome = await run.go(one)
        assert outcome.tally.states == Counter(completed=1), run.jobs()
        assert run.sim.platform.batches.submitted == 1
        assert run.sim.platform.store.downloads == 2
        assert said(words_of(run, one)) == {"": " ".join([CUSTOMER] * 40)}


async def test_an_order_without_an_answer_is_given_again(tmp_path: Path) -> None:
    """It binds nobody: there is no list to look into, and none is needed."""
    async with running(tmp_path, layouts=("mono",)) as run:
        (one,) = some(run, 1)
        give(run.sim, one, file_of(lead(CUSTOMER)))
        run.sim.inject(kind="lose_answer", path="/api/v2/recording/batchrequests", method="POST")
        outcome = await run.go(one)
        assert outcome.tally.states == Counter(completed=1), run.jobs()
        assert run.jobs()[0].submissions == 2
        assert run.sim.platform.batches.submitted == 2


async def test_no_more_is_ordered_than_can_be_worked_on(tmp_path: Path) -> None:
    """The rest stays planned, so that no deadline begins."""
    async with running(tmp_path, recordings=12, layouts=("mono",)) as run:
        recordings = some(run, 12)
        for one in recordings:
            give(run.sim, one, file_of(lead("yes.")))
        run.sim.inject(kind="answer", path="/recording-store/*", status=503, for_s=60.0)
        going = asyncio.create_task(run.go(*recordings, audio_concurrency=1, retries=1000))
        while run.sim.platform.batches.submitted < engines.AHEAD:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert run.sim.platform.batches.submitted == engines.AHEAD
        run.sim.region.faults.clear()
        outcome = await going
        assert outcome.tally.states == Counter(completed=12)
        assert run.sim.platform.batches.submitted == 12


async def test_a_speech_service_that_is_away_fails_the_job_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the retries; the recording was ordered once."""
    monkeypatch.setattr(building, "AWAY_S", 0.1)
    async with running(tmp_path, layouts=("mono",)) as run:
        (one,) = some(run, 1)
        run.speech = "127.0.0.1:1"
        outcome = await run.go(one, retries=1)
        assert outcome.tally.reasons == Counter(speech_unavailable=1)
        assert run.sim.platform.batches.submitted == 1


async def test_a_recording_without_its_conversation_is_a_bad_line(tmp_path: Path) -> None:
    """Told before any network."""
    async with running(tmp_path) as run:
        (one,) = some(run, 1)
        outcome = await run.go(one.id)
        assert outcome.added.bad == 1
        (line,) = run.told
        assert isinstance(line, BadLine)
        assert [problem.setting for problem in line.problems] == ["conversationId"]
        assert run.sim.platform.batches.submitted == 0


async def test_jobs_of_another_engine_are_told_and_stay(tmp_path: Path) -> None:
    """They are neither failed nor carried out by an engine they were not meant for."""
    async with running(tmp_path) as run:
        (one,) = some(run, 1)
        run.stop.set()
        await run.go(one)
        run.stop.clear()
        with pytest.raises(ConfigError, match="another engine"):
            await run.go(engine="transcript")
        assert [job.has_ended for job in run.jobs()] == [False]


async def test_an_engine_that_cannot_be_had_leaves_no_jobs(tmp_path: Path) -> None:
    """They would be in the way of every later run with another engine."""
    async with running(tmp_path) as run:
        (one,) = some(run, 1)
        run.speech = ""
        with pytest.raises(ConfigError, match="no recogniser"):
            await run.go(one)
        assert run.jobs() == []


@pytest.mark.soak
async def test_an_engine_in_this_process_hears_the_voices_of_the_simulator(
    tmp_path: Path,
) -> None:
    """Each channel its own, with times inside of what is spoken."""
    async with running(tmp_path, recordings=30) as run:
        one = next(each for each in some(run, 30) if each.voice == "tickets")
        local = {"speech.address": "", "speech.engine": "pocketsphinx", "speech.grammar": "orders"}
        outcome = await run.go(one, settings=local)
        assert outcome.tally.states == Counter(completed=1), run.jobs()
        heard = said(words_of(run, one))
    (file,) = one.files()
    for number, channel in enumerate(file.channels):
        turns = [t for t in spoken_call("tickets").turns if t.channel == channels()[channel]]
        spoken = re.findall(r"[a-z']+", " ".join(t.text for t in turns).lower())
        rates = error_rates(" ".join(spoken), heard[f"channel_{number}"])
        assert rates.words.rate is not None
        assert rates.words.rate < 0.1, (spoken, heard)


@pytest.mark.parametrize("engine", ["audio", "transcript"])
def test_an_engine_on_recordings_means_the_real_platform(engine: str) -> None:
    """Its hosts and its way to a token, unless the settings say otherwise."""
    given: dict[str, object] = {"transcribe.engine": engine, "platform.host": "mypurecloud.de"}
    config = load(None, {"HOME": "/"}, given)
    assert (config.platform.family, config.platform.oauth_shape) == ("genesys-cloud", "basic")
    assert hosts_of(config).login.name == "login.mypurecloud.de"
    given |= {"platform.family": "tutorial"}
    assert load(None, {"HOME": "/"}, given).platform.family == "tutorial"
    assert load(None, {"HOME": "/"}, {}).platform.family == "tutorial"


async def test_an_engine_for_audio_needs_a_recogniser(tmp_path: Path) -> None:
    """Told by the setting's name, before anything is begun."""
    async with running(tmp_path) as run:
        run.speech = ""
        with pytest.raises(ConfigError) as caught:
            await run.go(*some(run, 1))
        assert caught.value.setting == "speech.address"


async def test_no_link_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither of downloads that work nor of those that fail."""
    async with running(tmp_path, layouts=("mono",)) as run:
        bad, good = some(run, 2)
        give(run.sim, bad, b"")
        run.sim.inject(kind="answer", path="/recording-store/*", status=500)
        await run.go(bad, good)
        logs = capfd.readouterr()
        for text in (logs.out, logs.err):
            assert "recording-store" not in text
            assert "Signature" not in text


# --- finished transcripts --------------------------------------------------------------------


class Stored:
    """Gives the simulated recordings transcripts, which are asked for by their communication.

    It stands in front of the simulator and passes everything else on to it.
    """

    def __init__(self, sim: Simulator, words: list[dict[str, Any]]) -> None:
        self.sim = sim
        self.url = ""
        self.words = words
        self.missing: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.authorised = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get(
            "/api/v2/speechandtextanalytics/conversations/{c}/communications/{s}/transcripturl",
            self._where,
        )
        app.router.add_get("/store/{s}", self._file)
        app.router.add_route("*", "/{rest:.*}", self._pass)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as self.session:
            try:
                yield
            finally:
                await runner.cleanup()

    async def _where(self, request: web.Request) -> web.Response:
        name = request.match_info["s"]
        self.asked[name] += 1
        if name in self.missing:
            return web.json_response({"code": "not.found", "status": 404}, status=404)
        return web.json_response({"url": f"{self.url}/store/{name}?Signature=planted"})

    async def _file(self, request: web.Request) -> web.Response:
        self.authorised += "Authorization" in request.headers
        phrases = [{"phraseIndex": 0, "participantPurpose": "external", "words": self.words}]
        return web.json_response({"startTime": 0, "transcripts": [{"phrases": phrases}]})

    async def _pass(self, request: web.Request) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k != "Host"}
        async with self.session.request(
            request.method,
            self.sim.url + request.path_qs,
            headers=headers,
            data=await request.read(),
        ) as answer:
            kept = {"Content-Type": answer.headers.get("Content-Type", "")}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)


def session_of(one: Recording) -> str:
    found: str = one.facts()["sessionId"]
    return found


def stored_words(one: Recording) -> list[dict[str, Any]]:
    at = one.start_ms
    return [
        {"word": text, "confidence": 0.5, "startTimeMs": at + 1000 * n, "duration": 500}
        for n, text in enumerate(("we", "have", "it"))
    ]


async def test_a_finished_transcript_is_taken_as_it_is(tmp_path: Path) -> None:
    """By the communication of the recording; no token goes to the store."""
    async with running(tmp_path) as run:
        (one,) = some(run, 1)
        stored = Stored(run.sim, stored_words(one))
        async with stored.running():
            run.url = stored.url
            outcome = await run.go(one, engine="transcript")
        assert outcome.tally.states == Counter(completed=1), run.jobs()
        assert said(words_of(run, one)) == {"external": "we have it"}
        assert run.records()[0].metrics["word_error_rate"] == 0.5
        assert (stored.asked[session_of(one)], stored.authorised) == (1, 0)
        assert run.sim.platform.batches.submitted == 0


async def test_a_transcript_is_waited_for_only_so_long_after_the_recording(
    tmp_path: Path,
) -> None:
    """These recordings ended long ago, unless somebody waits for months."""
    async with running(tmp_path) as run:
        (one,) = some(run, 1)
        stored = Stored(run.sim, stored_words(one))
        stored.missing.add(session_of(one))
        async with stored.running():
            run.url = stored.url
            patient = asyncio.create_task(run.go(one, engine="transcript", transcript_wait_s=1e12))
            while stored.asked[session_of(one)] < 3:
                await asyncio.sleep(0.01)
            stored.missing.clear()
            outcome = await patient
            assert outcome.tally.states == Counter(completed=1)
            stored.missing.add(session_of(one))
            outcome = await run.go(one, engine="transcript", options={"again": "all"})
            assert outcome.tally.reasons == Counter(transcript_missing=1)


async def test_a_transcript_comes_before_the_audio_where_there_is_one(tmp_path: Path) -> None:
    """Nothing is fetched or recognised for it."""
    async with running(tmp_path, layouts=("mono",)) as run:
        has, lacks = some(run, 2)
        give(run.sim, lacks, file_of(lead(CUSTOMER)))
        stored = Stored(run.sim, stored_words(has))
        stored.missing.add(session_of(lacks))
        async with stored.running():
            run.url = stored.url
            outcome = await run.go(has, lacks, transcript_first=True)
        assert outcome.tally.states == Counter(completed=2), run.jobs()
        assert said(words_of(run, has)) == {"external": "we have it"}
        assert said(words_of(run, lacks)) == {"": CUSTOMER}
        assert run.sim.platform.batches.submitted == 1
