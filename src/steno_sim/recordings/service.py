"""The tutorial's transcription jobs, ``/api/v2/recordings``.

=====================================================  ======================================
``POST /api/v2/recordings/transcripts``                accepts a job: ``recordingId language
                                                       format speakerDiarization wordConfidence
                                                       timestamps webhook``; scope
                                                       ``transcription:write``
``GET /api/v2/recordings/transcripts/{id}``            how far it is; ``transcription:read``
``GET /api/v2/recordings/transcripts?recordingId=ID``  ``{"entities": […]}``, oldest first: the
                                                       jobs of a recording, with the
                                                       ``idempotencyKey`` they came with
``GET /api/v2/recordings/{id}``                        the recording; ``recordings:download``
=====================================================  ======================================

A submission is answered ``{"id": "…", "status": "queued"}``; later ``processing``, then
``completed`` with ``result.words``, or ``failed`` with ``error`` (a word, a sentence with a
telephone number in it, or an object). Results of more than 4,000 words are sent in chunks.
Refusals have the platform's error body: 400 ``invalid.value`` with the key in
``details[0].fieldName``, 401, 403, 404, 429 with ``Retry-After``, and 422 for an
``Idempotency-Key`` that came with another body before; the same key with the same body gives
the job there is. Keys belong to the OAuth client. The service calls no webhook.
Each region has jobs of its own, over the same recordings.

Every answer counts against the token's rate limit (``inin-ratelimit-*``), 300 a minute unless
``--rate-limit`` says otherwise.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from aiohttp import web

from steno_sim.answers import (
    CORRELATION,
    RATE_HEADERS,
    ApiRefusal,
    LostAnswer,
    json_answer,
    require_scope,
    require_token,
)
from steno_sim.recordings.catalogue import Catalogue
from steno_sim.recordings.job_book import Asked, Full, Job, JobBook, KeyReused
from steno_sim.recordings.results import SMALL_WORDS, Truth, error_of, result_pieces, truth_of
from steno_sim.recordings.settings import JobSettings
from steno_sim.region import Region

JOBS_PATH = "/api/v2/recordings/transcripts"
FORMATS = ("text", "srt", "vtt", "json")
_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
_MAX_LISTED = 1000
_MAX_BEGUN = 100_000


class JobService:
    """The job service of one region.

    Args:
        region: Whose tokens, limits and faults hold.
        settings: Its behaviour.
        catalogue: The recordings there are.
    """

    def __init__(self, region: Region, settings: JobSettings, catalogue: Catalogue) -> None:
        self.book = JobBook(settings)
        self.settings = settings
        self.in_flight = 0
        self.peak_in_flight = 0
        self.peak_in_window = 0
        self.struck: dict[str, int] = {}
        self._region = region
        self._catalogue = catalogue
        self._begun: deque[float] = deque(maxlen=_MAX_BEGUN)
        self._dice = random.Random(f"requests/{settings.seed}")  # noqa: S311  # nothing secret
        self._since_burst = 0
        self._burst_left = 0
        self._bursts = 0

    def routes(self) -> list[web.RouteDef]:
        """Give the routes of the service."""
        return [
            web.post(JOBS_PATH, self._guard(self._submit)),
            web.get(JOBS_PATH, self._guard(self._list)),
            web.get(JOBS_PATH + "/{id}", self._guard(self._look)),
            web.get("/api/v2/recordings/{id}", self._guard(self._recording)),
        ]

    def truth(self, recording: str, language: str = "en-US") -> Truth:
        """Give what a recording says in the results for a language."""
        return truth_of(self.book, recording, language)

    def stats(self) -> dict[str, object]:
        """Give the counts of jobs, of requests at a time, and of what went wrong on purpose.

        Requests meet only where answers take time: see ``answer_s`` and ``slow``. The most
        requests in any stretch as long as a window of the rate limit are ``peak_in_window``.
        """
        return self.book.stats(_now()) | {
            "peak_requests": self.peak_in_flight,
            "peak_in_window": self.peak_in_window,
            "struck": dict(sorted(self.struck.items())),
        }

    # --- trouble ----------------------------------------------------------------------

    def _guard(self, handler: Any) -> Any:  # Any: aiohttp's handlers
        async def guarded(request: web.Request) -> web.StreamResponse:
            self._note_begun(_now())
            self.in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
            try:
                return await self._troubled(request, handler)
            finally:
                self.in_flight -= 1

        return guarded

    def _note_begun(self, now: float) -> None:
        begun = self._begun
        while begun and begun[0] <= now - self._region.settings.rate_window_s:
            begun.popleft()
        begun.append(now)
        self.peak_in_window = max(self.peak_in_window, len(begun))

    async def _troubled(self, request: web.Request, handler: Any) -> web.StreamResponse:
        settings = self.settings
        takes_s = self._dice.uniform(*settings.answer_s)
        if self._chance(settings.slow):
            self._note("slow")
            takes_s += settings.slow_s
        if takes_s:
            await asyncio.sleep(takes_s / settings.clock)
        self._burst()
        at = self._dice.random() if settings.errors + settings.lost + settings.dropped else 1.0
        if at < settings.errors:
            self._note("errors")
            return self._error()
        if at < settings.errors + settings.lost:
            self._note("lost")
            raise LostAnswer
        answer: web.StreamResponse = await handler(request)
        if at < settings.errors + settings.lost + settings.dropped and not answer.prepared:
            self._note("dropped")
            raise LostAnswer
        return answer

    def _error(self) -> web.Response:
        status = self._dice.choice((500, 502, 503, 504))
        if status == 502:
            return web.Response(status=502, text=_PAGE, content_type="text/html")
        raise ApiRefusal(status)

    def _burst(self) -> None:
        settings = self.settings
        if not settings.burst_every:
            return
        if not self._burst_left:
            self._since_burst += 1
            if self._since_burst <= settings.burst_every:
                return
            self._since_burst, self._burst_left = 0, settings.burst_size
            self._bursts += 1
        self._burst_left -= 1
        self._note("burst")
        wait_s = settings.burst_wait_s / settings.clock if self._bursts % 2 else 0.0
        raise ApiRefusal(429, message="Rate limit exceeded", retry_after_s=wait_s)

    def _chance(self, share: float) -> bool:
        return share > 0 and self._dice.random() < share

    def _note(self, what: str) -> None:
        self.struck[what] = self.struck.get(what, 0) + 1

    # --- calls ------------------------------------------------------------------------

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        token = require_token(request, self._region)
        require_scope(token, "transcription:write")
        asked = asked_of(await _object(request), self.settings.languages)
        self._refuse(asked.recording_id)
        key = request.headers.get("Idempotency-Key", "")
        if len(key) > 255:
            raise invalid("Idempotency-Key", "at most 255 characters")
        try:
            job = self.book.submit(asked, now=_now(), client=token.client.id, key=key)
        except KeyReused:
            raise ApiRefusal(
                422, "idempotency.key.reused", "This key came with another request before"
            ) from None
        except Full:
            raise ApiRefusal(503, message="The service keeps no more jobs") from None
        return json_answer(self._ids(job) | {"status": job.status(_now())})

    async def _look(self, request: web.Request) -> web.StreamResponse:
        token = require_token(request, self._region)
        require_scope(token, "transcription:read")
        job = self.book.get(request.match_info["id"])
        if job is None or job.client != token.client.id:
            raise ApiRefusal(404, "not.found", "The transcript was not found")
        status = job.status(_now())
        told = self._ids(job) | {
            "status": status,
            "recordingId": job.asked.recording_id,
            "language": job.asked.language,
        }
        if status == "failed":
            return json_answer(told | {"error": error_of(job, self.settings.seed)})
        if status != "completed":
            return json_answer(told)
        if job.fate == "no_result":
            # Both ways of having none are met in the wild.
            return json_answer(told | ({"result": None} if job.id[0] in "02468ace" else {}))
        return await self._result(request, job, told)

    async def _result(
        self, request: web.Request, job: Job, told: dict[str, Any]
    ) -> web.StreamResponse:
        pieces = result_pieces(self.book, job, told)
        if self.book.words(job.asked.recording_id) <= SMALL_WORDS:
            return web.Response(body=b"".join(pieces), content_type="application/json")
        answer = web.StreamResponse()
        answer.content_type = "application/json"
        answer.headers["ININ-Correlation-Id"] = request[CORRELATION]
        answer.headers.update(request.get(RATE_HEADERS, {}))
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        for piece in pieces:
            await answer.write(piece)
            await asyncio.sleep(0)  # others wait too while a million words are made
        await answer.write_eof()
        return answer

    async def _list(self, request: web.Request) -> web.StreamResponse:
        token = require_token(request, self._region)
        require_scope(token, "transcription:read")
        if not self.settings.listing:
            raise ApiRefusal(404)
        recording = request.query.get("recordingId", "")
        if not is_uuid(recording):
            raise invalid("recordingId", "a UUID is needed")
        now = _now()
        found = self.book.of_recording(recording.lower(), now=now)[:_MAX_LISTED]
        entities = [self._listed(job, now) for job in found if job.client == token.client.id]
        return json_answer({"entities": entities, "total": len(entities)})

    def _listed(self, job: Job, now: float) -> dict[str, Any]:
        told = self._ids(job) | {
            "status": job.status(now),
            "recordingId": job.asked.recording_id,
            "language": job.asked.language,
            "format": job.asked.format,
        }
        return told | ({"idempotencyKey": job.key} if job.key else {})

    async def _recording(self, request: web.Request) -> web.StreamResponse:
        token = require_token(request, self._region)
        require_scope(token, "recordings:download")
        recording = request.match_info["id"].lower()
        if not is_uuid(recording):
            raise ApiRefusal(404, "not.found", "The recording was not found")
        self._refuse(recording)
        return json_answer(self._catalogue.any_recording(recording).facts())

    # --- small things -----------------------------------------------------------------

    def _refuse(self, recording: str) -> None:
        status = self.book.refusal(recording)
        if status == 404:
            raise ApiRefusal(404, "not.found", "The recording was not found")
        if status == 403:
            raise ApiRefusal(403, "not.authorized", "The recording is not yours to transcribe")

    def _ids(self, job: Job) -> dict[str, Any]:
        keys = {"both": ("id", "transcriptId")}.get(self.settings.id_key, (self.settings.id_key,))
        return dict.fromkeys(keys, job.id)


def asked_of(body: dict[str, object], languages: tuple[str, ...]) -> Asked:
    """Read a submission; the first field that is wrong is named.

    Raises:
        ApiRefusal: 400.
    """
    recording = body.get("recordingId")
    if not isinstance(recording, str) or not is_uuid(recording):
        raise invalid("recordingId", "a UUID is needed")
    language = body.get("language", "en-US")
    if language not in languages:
        raise invalid("language", "no such language")
    form = body.get("format", "text")
    if form not in FORMATS:
        raise invalid("format", "no such format")
    flags = {}
    for name in ("speakerDiarization", "wordConfidence", "timestamps"):
        flags[name] = body.get(name, True)
        if type(flags[name]) is not bool:
            raise invalid(name, "a boolean is needed")
    webhook = body.get("webhook", "")
    if "webhook" in body and not _is_web_address(webhook):
        raise invalid("webhook", "an http or https address is needed")
    return Asked(
        recording.lower(),
        str(language),
        str(form),
        bool(flags["speakerDiarization"]),
        bool(flags["wordConfidence"]),
        bool(flags["timestamps"]),
        str(webhook),
    )


def invalid(field: str, message: str) -> ApiRefusal:
    """Give the refusal of a field's value."""
    return ApiRefusal(400, "invalid.value", f"{field}: {message}", field=field)


def is_uuid(text: str) -> bool:
    """Tell whether this is a UUID in its usual form."""
    try:
        return len(text) == 36 and str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_web_address(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


async def _object(request: web.Request) -> dict[str, object]:
    if request.content_type != "application/json":
        raise ApiRefusal(415, "unsupported.media.type", "The body must be application/json")
    try:
        return msgspec.json.decode(await request.read(), type=dict[str, object])
    except (ValueError, msgspec.MsgspecError):
        raise ApiRefusal(400, "bad.request", "The body is not a JSON object") from None


def _now() -> float:
    return asyncio.get_running_loop().time()
