"""REST calls to the platform over aiohttp.

``HttpClient`` moves bytes and maps aiohttp's exceptions. ``PlatformHttp`` adds the token, the
retries and the mapping of answers. ``NotificationsApi`` and ``HttpModelSwitcher`` are the calls
themselves. TLS certificates are always verified; another authority is named by a file.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import aiohttp
import msgspec

from steno.core.hosts import Host
from steno.core.ids import is_id, quoted
from steno.core.timing import Backoff, Deadline, Retries
from steno.errors import (
    ConfigError,
    ConnectFailed,
    LocalProtocolError,
    RateLimited,
    RemoteProtocolError,
    StenoError,
    TimedOut,
    TransportError,
)
from steno.ports import ModelSwitcher, Telemetry, TokenSource
from steno.ports.jobs import TranscriptionRequest
from steno.wire.http import (
    KEPT_HEADERS,
    MAX_ANSWER_BYTES,
    AnswerSink,
    HttpAnswer,
    HttpExchange,
    HttpRequest,
    RateBudget,
    StreamingExchange,
    asked_to_wait,
    error_of,
    rate_budget,
)
from steno.wire.notifications_rest import (
    ChannelInfo,
    SubscriptionState,
    TopicInfo,
    decode_channel,
    decode_subscriptions,
    decode_topics,
    encode_topics,
)
from steno.wire.recording_jobs import (
    JOBS_PATH,
    KEY_HEADER,
    MAX_RESULT_BYTES,
    MAX_SMALL_BYTES,
    FoundJob,
    JobAnswer,
    RecordingFacts,
    decode_job,
    decode_jobs,
    decode_recording,
    decode_submission,
    encode_request,
    job_path,
    look_query,
    recording_path,
)

REQUEST_LIMIT_S = 10.0
PATIENCE_S = 30.0
_BACKOFF_FIRST_S = 1.0
_BACKOFF_CAP_S = 10.0
_CLOSE_LIMIT_S = 2.0
_MAX_CONNECTIONS = 32
_READ_BYTES = 64 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=None)  # callers hold the deadlines
_STREAMED = aiohttp.ClientTimeout(total=None, sock_connect=30.0, sock_read=60.0)
_RESULT_LIMIT_S = 120.0  # of a poll: the answer may carry the words of a whole day
_FIX_WRITE = "Give the client transcription:write."
_FIX_READ = "Give the client transcription:read."
_FIX_DOWNLOAD = "Give the client access to the recording (recordings:download)."

_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_NEVER_RETRIED_5XX = frozenset({501, 505})


# --- bytes -----------------------------------------------------------------------------------


class HttpClient:
    """Carries requests out over one pool of connections (``wire.http.HttpExchange``).

    No environment variable changes what it does: a proxy is used when it is given, and
    ``HTTPS_PROXY`` or ``.netrc`` are not looked at.

    Args:
        proxy: Address of an HTTP proxy, possibly with a password in it; None for none.
        ca_file: PEM file of authorities to trust instead of the system's.

    Raises:
        ConfigError: ``ca_file`` cannot be read or holds no certificate.
    """

    def __init__(self, *, proxy: str | None = None, ca_file: Path | None = None) -> None:
        self._proxy = proxy
        self._tls = trusted_tls(ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. A later ``send`` opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            try:
                async with asyncio.timeout(_CLOSE_LIMIT_S):
                    await session.close()
            except TimeoutError:
                pass  # a peer that does not finish its TLS goodbye must not hold the shutdown up

    async def send(
        self, request: HttpRequest, *, limit_s: float, max_bytes: int = MAX_ANSWER_BYTES
    ) -> HttpAnswer:
        """See ``HttpExchange.send``."""
        return await self._within(request, limit_s, max_bytes, None)

    async def stream(
        self, request: HttpRequest, into: AnswerSink, *, limit_s: float, max_bytes: int
    ) -> HttpAnswer:
        """See ``StreamingExchange.stream``."""
        return await self._within(request, limit_s, max_bytes, into)

    async def _within(
        self, request: HttpRequest, limit_s: float, max_bytes: int, into: AnswerSink | None
    ) -> HttpAnswer:
        try:
            async with asyncio.timeout(limit_s):
                return await self._exchange(request, max_bytes, into)
        except StenoError:
            raise
        # aiohttp's texts quote addresses, and ours may hold a token: none of them is kept.
        except Exception as error:
            mapped = map_aiohttp_error(error)
            if mapped is None:
                raise
            raise mapped from None

    async def _exchange(
        self, request: HttpRequest, max_bytes: int, into: AnswerSink | None
    ) -> HttpAnswer:
        session = self._session or self._open()
        async with session.request(
            request.method,
            request.url,
            headers=request.headers,
            data=request.body,
            allow_redirects=False,
            proxy=self._proxy,
            timeout=_TIMEOUT if into is None else _STREAMED,
        ) as response:
            body = bytearray()
            size = 0
            sink = into if 200 <= response.status < 300 else None
            if sink is not None:
                await sink.begin()
            async for piece in response.content.iter_chunked(_READ_BYTES):
                size += len(piece)
                if sink is None:
                    body += piece
                else:
                    await sink.take(piece)
                if size > (MAX_ANSWER_BYTES if into is not None and sink is None else max_bytes):
                    raise RemoteProtocolError(
                        "the answer is too long", status=response.status, limit_bytes=max_bytes
                    )
            kept = {
                name.lower(): value
                for name, value in response.headers.items()
                if name.lower() in KEPT_HEADERS
            }
            return HttpAnswer(response.status, kept, bytes(body))

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=_MAX_CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_TIMEOUT,
            headers={"User-Agent": "steno"},
            trust_env=False,
        )
        return self._session


def trusted_tls(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that verifies names and certificates.

    Raises:
        ConfigError: ``ca_file`` cannot be read or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            "the file of certificate authorities cannot be used",
            setting="ca_file",
            fix="Give a readable PEM file",
            error=type(error).__name__,
        ) from None


def map_aiohttp_error(error: Exception) -> StenoError | None:
    """Return the error of ours for one of aiohttp or of the socket below it; None for others."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            fix = "Check the host name, the clock and the certificate authorities (ca_file)"
            return ConnectFailed("the peer's certificate is not trusted", fix=fix)
        case aiohttp.ServerFingerprintMismatch() | aiohttp.ClientSSLError():
            return ConnectFailed("no trusted TLS connection could be made")
        case aiohttp.ConnectionTimeoutError() | TimeoutError():
            return TimedOut()
        case aiohttp.ClientHttpProxyError():
            return ConnectFailed("the proxy refused the connection", status=error.status)
        case aiohttp.ClientConnectorDNSError():
            return ConnectFailed("the host name was not found", fix="Check the host setting")
        case aiohttp.ClientConnectorError() | aiohttp.ClientProxyConnectionError():
            return ConnectFailed()
        case aiohttp.InvalidURL():
            return LocalProtocolError("the address is not one")
        case aiohttp.ClientPayloadError():
            return TransportError("the answer ended too early")
        case aiohttp.ClientConnectionError() | OSError():
            return TransportError()
        case aiohttp.ClientResponseError():
            return RemoteProtocolError("the peer does not speak HTTP as it should")
        case aiohttp.ClientError():
            return TransportError(error=type(error).__name__)
        case _:
            return None


# --- platform calls --------------------------------------------------------------------------


class PlatformHttp:
    """REST calls to one host with a token, retried and mapped to errors of ours.

    Args:
        host: Where the REST API is.
        tokens: Gives the access tokens.
        exchange: Carries the requests; not closed here, since others share it.
        telemetry: Logs retries.
        limit_s: Time for one try, where a call does not say.
        retry_first_s: Shortest wait between tries.
        draw: A number in [0, 1) for the jitter.
    """

    def __init__(
        self,
        host: Host,
        tokens: TokenSource,
        *,
        exchange: HttpExchange,
        telemetry: Telemetry,
        limit_s: float = REQUEST_LIMIT_S,
        retry_first_s: float = 1.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._host = host
        self._tokens = tokens
        self._exchange = exchange
        self._telemetry = telemetry
        self._limit_s = limit_s
        self._retry_first_s = retry_first_s
        self._draw = draw
        self._budget: RateBudget | None = None

    @property
    def host(self) -> Host:
        """Where the calls go."""
        return self._host

    @property
    def rate(self) -> RateBudget | None:
        """What the platform last said of our rate; None before it said anything."""
        return self._budget

    async def request(
        self,
        method: str,
        path: str,
        *,
        action: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: frozenset[int] = frozenset(),
        fix: str = "",
        limit_s: float | None = None,
        patience_s: float = PATIENCE_S,
        max_bytes: int = MAX_ANSWER_BYTES,
        into: AnswerSink | None = None,
    ) -> HttpAnswer:
        """Call the platform; return the answer if its status is 2xx or in ``accept``.

        A 401 is tried once more with another token. 429 is waited out, whatever the method. 5xx
        and network failures are tried again for methods that may be repeated, with backoff and
        jitter. All of it ends at ``patience_s``.

        Args:
            method: HTTP method.
            path: Begins with ``/``; ids in it are quoted already.
            action: What this does, in fixed words, for errors and logs.
            query: Query parameters.
            body: JSON.
            headers: Beside those of every call.
            accept: Statuses beyond 2xx which are answers rather than errors.
            fix: What a reader can do about a 401 or 403.
            limit_s: Time for one try; the client's own where it is None.
            patience_s: Time within which a further try may start; 0 means one try.
            max_bytes: Longest answer taken.
            into: Takes the body of a 2xx answer as it comes; the answer's own is then empty.

        Raises:
            AuthError: 401 with a fresh token, or 403.
            RateLimited, PeerUnavailable, ConnectFailed, TimedOut, TransportError: After the
                last try. ``retry_after_s`` among the fields is the platform's wish.
            ObjectMissing: 404 or 410.
            ProtocolError: Refused, or the answer was not the expected one.
        """
        now = asyncio.get_running_loop().time
        retries = Retries(
            Backoff(self._retry_first_s, max(_BACKOFF_CAP_S, self._retry_first_s)),
            Deadline.after(now(), patience_s),
        )
        target = f"{self._host.http_base}{path}{'?' + urlencode(query) if query else ''}"
        while True:
            wait_s: float | None = None
            try:
                answer = await self._authorised(
                    method, target, body, headers or {}, limit_s or self._limit_s, max_bytes, into
                )
                if answer.ok or answer.status in accept:
                    return answer
                wall = datetime.now(UTC)
                failure = error_of(answer, wall, action=action, fix=fix)
                wait_s = asked_to_wait(answer, wall)
                if isinstance(failure, TransportError) and wait_s is not None:
                    failure.fields.setdefault("retry_after_s", wait_s)
                again = answer.status == 429 or (
                    method in _IDEMPOTENT
                    and failure.retryable
                    and answer.status not in _NEVER_RETRIED_5XX
                )
            except TransportError as error:
                error.fields.setdefault("action", action)
                failure, again = error, method in _IDEMPOTENT
            delay_s = (
                retries.next_delay(now(), self._draw(), retry_after_s=wait_s) if again else None
            )
            if delay_s is None:
                raise failure
            self._telemetry.info(
                "platform.call_retried", action=action, error=failure.error_class, wait_s=delay_s
            )
            await asyncio.sleep(delay_s)

    async def authorise(self) -> None:
        """Have a token in hand, so that the next call fails for no lack of one.

        Raises:
            AuthError: The credentials are refused.
            TransportError: The token could not be fetched.
        """
        await self._tokens.token()

    async def _authorised(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        limit_s: float,
        max_bytes: int,
        into: AnswerSink | None,
    ) -> HttpAnswer:
        token = await self._tokens.token()
        answer = await self._once(method, target, body, headers, token, limit_s, max_bytes, into)
        if answer.status == 401:
            token = await self._tokens.token(refused=token)
            answer = await self._once(
                method, target, body, headers, token, limit_s, max_bytes, into
            )
        return answer

    async def _once(
        self,
        method: str,
        target: str,
        body: bytes | None,
        more: Mapping[str, str],
        token: str,
        limit_s: float,
        max_bytes: int,
        into: AnswerSink | None,
    ) -> HttpAnswer:
        headers = {"Accept": "application/json", **more, "Authorization": f"Bearer {token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        request = HttpRequest(method, target, headers, body)
        if into is None:
            answer = await self._exchange.send(request, limit_s=limit_s, max_bytes=max_bytes)
        elif isinstance(self._exchange, StreamingExchange):
            answer = await self._exchange.stream(
                request, into, limit_s=limit_s, max_bytes=max_bytes
            )
        else:
            raise LocalProtocolError("this exchange does not stream")
        self._budget = rate_budget(answer.headers) or self._budget
        return answer


# --- language model --------------------------------------------------------------------------


class HttpModelSwitcher:
    """Switches the platform's transcription model by the tutorial family's call.

    One try a call: the language rules decide when to come back, so a slow platform cannot pile
    calls up.
    """

    def __init__(self, http: PlatformHttp, *, limit_s: float = REQUEST_LIMIT_S) -> None:
        self._http = http
        self._limit_s = limit_s

    async def switch(self, conversation: str, language: str) -> bool:
        """Switch the model; see ``ports.ModelSwitcher``. 200 and 204 are success.

        Raises:
            RateLimited, TransportError: Try again later.
            AuthError: ``conversation:transcript:write`` is missing.
            ProtocolError, ObjectMissing: Refused: the language or the conversation is unknown.
            LocalProtocolError: ``conversation`` is no id.
        """
        if not is_id(conversation):
            raise LocalProtocolError("this is not a conversation id", size=len(conversation))
        answer = await self._http.request(
            "PUT",
            f"/api/v2/conversations/{quoted(conversation)}/transcription/config",
            action="switch the transcription model",
            body=msgspec.json.encode({"languageCode": language, "autoDetect": False}),
            fix="Grant the OAuth client the scope conversation:transcript:write",
            limit_s=self._limit_s,
            patience_s=0.0,
        )
        if answer.status not in (200, 204):
            raise RemoteProtocolError(
                "the model switch was answered neither 200 nor 204", status=answer.status
            )
        return True


class RegionalSwitcher:
    """Switches at the first region that answers: the primary, or the backup while it is down."""

    def __init__(self, regions: Sequence[ModelSwitcher]) -> None:
        self._regions = tuple(regions)

    async def switch(self, conversation: str, language: str) -> bool:
        """Switch the model; see ``ports.ModelSwitcher``.

        Raises:
            TransportError: No region could be reached.
            AuthError: As ``HttpModelSwitcher.switch``.
        """
        for region in self._regions[:-1]:
            try:
                return await region.switch(conversation, language)
            except RateLimited:
                raise  # it answered: the other region is no way around its limits
            except TransportError:
                continue
        return await self._regions[-1].switch(conversation, language)


class NoModelSwitch:
    """The real platform has no such call: the language of a conversation cannot be set."""

    async def switch(self, conversation: str, language: str) -> bool:
        """Return False: nothing was switched, the change is only recorded."""
        del conversation, language
        return False


# --- transcription jobs ----------------------------------------------------------------------


class RecordingJobsApi:
    """The job service's calls, one try each, with errors of ours.

    Args:
        http: To the host; a 401 is tried once more there with a new token.
        limit_s: Time of a call that carries no words, submissions excepted.
    """

    def __init__(self, http: PlatformHttp, *, limit_s: float = REQUEST_LIMIT_S) -> None:
        self._http = http
        self._limit_s = limit_s

    @property
    def rate(self) -> RateBudget | None:
        """What the service last said of our rate."""
        return self._http.rate

    @property
    def room(self) -> int | None:
        """The service takes any number of jobs."""
        return None

    async def ready(self) -> None:
        """Have a token in hand."""
        await self._http.authorise()

    async def submit(self, request: TranscriptionRequest, *, key: str, limit_s: float) -> JobAnswer:
        """Submit a job; the key makes a repeat recognisable.

        Raises:
            TimedOut: ``limit_s`` over all of it, a second try with a new token included.
            AuthError, TransportError, ObjectMissing, ProtocolError: See ``PlatformHttp.request``.
            RemoteProtocolError: The answer cannot be read: the service may have the job.
        """
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._http.request(
                    "POST",
                    JOBS_PATH,
                    action="submit a transcription job",
                    body=encode_request(request),
                    headers={KEY_HEADER: key},
                    fix=_FIX_WRITE,
                    limit_s=limit_s,
                    patience_s=0.0,
                    max_bytes=MAX_SMALL_BYTES,
                )
        except TimeoutError:
            raise TimedOut(action="submit a transcription job") from None
        return decode_submission(answer.body)

    async def poll(
        self, transcript_id: str, request: TranscriptionRequest
    ) -> tuple[JobAnswer, float | None]:
        """Ask how a job stands; and when the service wants the next poll, seconds.

        Raises:
            AuthError, TransportError, ObjectMissing, ProtocolError: See ``PlatformHttp.request``.
        """
        del request  # the service remembers it
        answer = await self._http.request(
            "GET",
            job_path(transcript_id),
            action="poll a transcription job",
            fix=_FIX_READ,
            limit_s=_RESULT_LIMIT_S,
            patience_s=0.0,
            max_bytes=MAX_RESULT_BYTES,
        )
        wait_s = asked_to_wait(answer, datetime.now(UTC))
        return decode_job(answer.body, transcript_id), wait_s

    async def look(self, request: TranscriptionRequest) -> list[FoundJob]:
        """List the jobs of a recording.

        Raises:
            AuthError, TransportError, ObjectMissing, ProtocolError: See ``PlatformHttp.request``.
        """
        answer = await self._http.request(
            "GET",
            JOBS_PATH,
            action="look for a transcription job",
            query=look_query(request.recording_id),
            fix=_FIX_READ,
            limit_s=self._limit_s,
            patience_s=0.0,
            max_bytes=MAX_SMALL_BYTES,
        )
        return decode_jobs(answer.body)

    async def preflight(self, request: TranscriptionRequest) -> RecordingFacts:
        """Ask whether a recording is there and ours to read.

        Raises:
            ObjectMissing: It is not there.
            AuthError, TransportError, ProtocolError: See ``PlatformHttp.request``.
        """
        answer = await self._http.request(
            "GET",
            recording_path(request.recording_id),
            action="look at a recording",
            fix=_FIX_DOWNLOAD,
            limit_s=self._limit_s,
            patience_s=0.0,
            max_bytes=MAX_SMALL_BYTES,
        )
        return decode_recording(answer.body, request.recording_id)


# --- notification channels -------------------------------------------------------------------


class NotificationsApi:
    """REST calls of the notification channels."""

    def __init__(self, http: PlatformHttp) -> None:
        self._http = http

    async def create_channel(self) -> ChannelInfo:
        """Return a new channel. The platform drops the oldest idle one beyond 20 of a client.

        Raises:
            AuthError, TransportError, ProtocolError: See ``PlatformHttp.request``.
        """
        answer = await self._http.request(
            "POST", "/api/v2/notifications/channels", action="create a notification channel"
        )
        return decode_channel(answer.body)

    async def subscribe(
        self, channel_id: str, topics: Sequence[str], *, replace: bool = False
    ) -> list[SubscriptionState]:
        """Add topics to a channel, or replace all it has; return what became of each.

        A topic that is refused does not fail the call: it comes back not permitted, with the
        permissions that are missing. Subscribing again extends the channel's life.

        Raises:
            ObjectMissing: The channel is gone; make another one.
            LocalProtocolError: More than 1000 topics, or one that is none.
            AuthError, TransportError, ProtocolError: See ``PlatformHttp.request``.
        """
        answer = await self._http.request(
            "PUT" if replace else "POST",
            f"/api/v2/notifications/channels/{quoted(channel_id)}/subscriptions",
            action="subscribe to topics",
            query={"ignoreErrors": "true"},
            body=encode_topics(topics),
        )
        return decode_subscriptions(answer.body)

    async def channel_alive(self, channel_id: str) -> bool:
        """Tell whether the platform still has the channel.

        Raises:
            AuthError, TransportError, ProtocolError: See ``PlatformHttp.request``.
        """
        answer = await self._http.request(
            "HEAD",
            f"/api/v2/notifications/channels/{quoted(channel_id)}",
            action="look for a notification channel",
            accept=frozenset({404, 410}),
        )
        return answer.ok

    async def delete_subscriptions(self, channel_id: str) -> None:
        """Remove every topic of a channel; a channel that is gone counts as done.

        Raises:
            AuthError, TransportError, ProtocolError: See ``PlatformHttp.request``.
        """
        await self._http.request(
            "DELETE",
            f"/api/v2/notifications/channels/{quoted(channel_id)}/subscriptions",
            action="remove subscriptions",
            accept=frozenset({404, 410}),
        )

    async def available_topics(self) -> list[TopicInfo]:
        """Return the topics the platform offers, with the permissions each takes.

        Raises:
            AuthError, TransportError, ProtocolError: See ``PlatformHttp.request``.
        """
        answer = await self._http.request(
            "GET",
            "/api/v2/notifications/availabletopics",
            action="list the topics",
            query={"expand": "requiresPermissions"},
        )
        return decode_topics(answer.body)

    async def conversation(
        self, conversation_id: str, *, patience_s: float = PATIENCE_S
    ) -> bytes | None:
        """Return a conversation as the platform describes it, undecoded; None if it has none.

        Args:
            conversation_id: Its id.
            patience_s: Time within which a further try may start; 0 means one try.

        Raises:
            LocalProtocolError: ``conversation_id`` is no id.
            AuthError, TransportError, ProtocolError: See ``PlatformHttp.request``.
        """
        if not is_id(conversation_id):
            raise LocalProtocolError("this is not a conversation id", size=len(conversation_id))
        answer = await self._http.request(
            "GET",
            f"/api/v2/conversations/{quoted(conversation_id)}",
            action="read a conversation",
            accept=frozenset({404, 410}),
            patience_s=patience_s,
        )
        return answer.body if answer.ok else None
