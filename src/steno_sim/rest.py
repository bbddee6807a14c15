"""The REST API and the sockets of a region: what each path answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from steno_sim import wire
from steno_sim.answers import (
    CORRELATION,
    ApiRefusal,
    json_answer,
    require_permission,
    require_scope,
    require_token,
)
from steno_sim.channels import (
    TOPIC_KINDS,
    Channel,
    Subscription,
    TopicsRefused,
)
from steno_sim.oauth import OAuthRefusal, Token
from steno_sim.region import ConfigPut, Region
from steno_sim.sockets import Socket
from steno_sim.world import World

STREAM_PATH = "/api/v2/conversations/transcripts/stream"
CHANNELS_PATH = "/api/v2/notifications/channels"
_MAX_MESSAGE_BYTES = 1 << 20
_T = TypeVar("_T")


class _TopicBody(msgspec.Struct):
    id: str


class _ConfigBody(msgspec.Struct):
    languageCode: str  # noqa: N815 - the wire's own name
    autoDetect: bool = False  # noqa: N815 - the wire's own name


class _SocketRequest(msgspec.Struct):
    message: str
    topics: list[str] = []
    correlationId: str = ""  # noqa: N815 - the wire's own name


class Api:
    """Handlers of one region, over the world's conversations.

    Args:
        region: Whose API it is.
        world: Whose conversations it tells of.
        secure: The port speaks TLS, so sockets are announced as ``wss``.
        conversation: Gives a conversation as the platform tells it, of whichever kind it is.
    """

    def __init__(
        self,
        region: Region,
        world: World,
        *,
        secure: bool,
        conversation: Callable[[str], dict[str, Any] | None],
    ) -> None:
        self.region = region
        self.world = world
        self.secure = secure
        self._conversation = conversation
        self._begun = time.monotonic()

    def routes(self) -> list[web.RouteDef]:
        """Give every route of the API."""
        subscriptions = CHANNELS_PATH + "/{channel}/subscriptions"
        return [
            web.post("/oauth/token", self.token),
            web.post("/api/v2/oauth/token", self.token),
            web.get(STREAM_PATH, self.stream),
            web.put("/api/v2/conversations/{id}/transcription/config", self.put_config),
            web.get("/api/v2/conversations/{id}", self.conversation),
            web.get("/api/v2/organizations/me", self.organization),
            web.get("/api/v2/routing/settings/transcription", self.transcription_settings),
            web.post(CHANNELS_PATH, self.create_channel),
            web.get(CHANNELS_PATH, self.list_channels),
            web.head(CHANNELS_PATH + "/{channel}", self.head_channel),
            web.get(subscriptions, self.get_subscriptions),
            web.post(subscriptions, self.add_subscriptions),
            web.put(subscriptions, self.put_subscriptions),
            web.delete(subscriptions, self.delete_subscriptions),
            web.get("/api/v2/notifications/availabletopics", self.available_topics),
            web.get("/channels/{channel}", self.channel_socket),
        ]

    # --- OAuth ------------------------------------------------------------------------

    async def token(self, request: web.Request) -> web.Response:
        """Answer a token request of either family."""
        form: dict[str, str] = dict(request.query)
        if request.content_type == "application/x-www-form-urlencoded":
            form |= {k: v for k, v in (await request.post()).items() if isinstance(v, str)}
        schemes = ("https", "http")
        urls = {f"{s}://{request.host}" for s in schemes}
        urls |= {f"{s}://{request.host}{request.path}" for s in schemes}
        try:
            answer = self.region.tokens.grant(
                authorization=request.headers.get("Authorization", ""),
                form=form,
                audiences=frozenset(urls),
                now=_now(),
                wall=time.time(),
            )
        except OAuthRefusal as refusal:
            return json_answer(refusal.body(), status=refusal.status)
        return json_answer(answer, headers={"Cache-Control": "no-store"})

    # --- transcript stream ------------------------------------------------------------

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Upgrade to the transcript stream, and serve it."""
        token = require_token(request, self.region)
        require_scope(token, "conversation:transcript:read")
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        protocols = [p.strip() for p in offered.split(",")]
        if self.region.settings.require_subprotocol and "v2" not in protocols:
            raise ApiRefusal(400, "bad.request", "The subprotocol v2 must be offered")
        wanted = frozenset(v for v in request.query.getall("conversationId", []) if v)
        ws = await upgrade(request, protocols=("v2",))
        socket = Socket(
            ws, request, "stream", self.region, now=_now(), token=token, conversations=wanted
        )
        return await self._serve(socket, ws)

    async def _serve(self, socket: Socket, ws: web.WebSocketResponse) -> web.StreamResponse:
        async def hear(text: str) -> None:
            if socket.channel is not None:
                await self._channel_text(socket, socket.channel, text)

        self.region.add(socket)
        try:
            await socket.serve(hear)
        finally:
            self.region.discard(socket)
        return ws

    async def put_config(self, request: web.Request) -> web.Response:
        """Set the transcription language of a conversation (tutorial family)."""
        token = require_token(request, self.region)
        require_scope(token, "conversation:transcript:write")
        body = await _body(request, _ConfigBody)
        if self.region.settings.config_delay_s:
            await asyncio.sleep(self.region.settings.config_delay_s)
        conversation = request.match_info["id"]
        if conversation not in self.world.by_id:
            raise ApiRefusal(404, "conversation.not.found", "The conversation was not found")
        at_s = round(time.monotonic() - self._begun, 3)
        self.region.configs.append(
            ConfigPut(conversation, body.languageCode, body.autoDetect, at_s)
        )
        self.region.config_count += 1
        if not body.autoDetect:
            self.world.languages[conversation] = body.languageCode
        else:
            self.world.languages.pop(conversation, None)
        return web.Response(status=204)

    # --- organisation and conversations -----------------------------------------------

    async def conversation(self, request: web.Request) -> web.Response:
        """Tell of one conversation."""
        token = require_token(request, self.region)
        require_permission(token, "conversation:communication:view")
        found = self._conversation(request.match_info["id"])
        if found is None:
            raise ApiRefusal(404, "conversation.not.found", "The conversation was not found")
        return json_answer(found)

    async def organization(self, request: web.Request) -> web.Response:
        """Tell of the organisation."""
        require_token(request, self.region)
        return json_answer(
            {
                "id": wire.ORGANIZATION_ID,
                "name": "Simulated organisation",
                "defaultLanguage": "en-us",
                "defaultCountryCode": "US",
                "state": "active",
                "domain": "sim",
                "version": 1,
                "selfUri": f"/api/v2/organizations/{wire.ORGANIZATION_ID}",
            }
        )

    async def transcription_settings(self, request: web.Request) -> web.Response:
        """Tell whether the organisation transcribes."""
        token = require_token(request, self.region)
        require_permission(token, "routing:transcriptionSettings:view")
        return json_answer(
            {
                "transcription": "EnabledGlobally",
                "transcriptionConfidenceThreshold": 1,
                "lowLatencyTranscriptionEnabled": True,
                "contentSearchEnabled": False,
                "pciDssRedactionEnabled": False,
                "piiRedactionEnabled": False,
            }
        )

    # --- notification channels --------------------------------------------------------

    async def create_channel(self, request: web.Request) -> web.Response:
        """Make a channel."""
        token = require_token(request, self.region)
        channel, evicted = self.region.channels.create(token, now=_now())
        if evicted is not None:
            self.region.evict(evicted)
        return json_answer(self._channel(request, channel))

    async def list_channels(self, request: web.Request) -> web.Response:
        """List the channels of the token, or of the OAuth client."""
        token = require_token(request, self.region)
        which = request.query.get("includechannels", "token").lower()
        if which not in ("token", "oauthclient"):
            raise ApiRefusal(400, "invalid.value", "includechannels is token or oauthclient")
        found = self.region.channels.of(token, by_client=which == "oauthclient", now=_now())
        return json_answer({"entities": [self._channel(request, c) for c in found]})

    async def head_channel(self, request: web.Request) -> web.Response:
        """Tell whether a channel is alive."""
        self._own(request)
        return web.Response(status=200)

    async def get_subscriptions(self, request: web.Request) -> web.Response:
        """List the topics of a channel."""
        _, channel = self._own(request)
        return _listing([*channel.subscriptions.values()])

    async def add_subscriptions(self, request: web.Request) -> web.Response:
        """Add topics to a channel."""
        return await self._subscribe(request, replace=False)

    async def put_subscriptions(self, request: web.Request) -> web.Response:
        """Replace the topics of a channel."""
        return await self._subscribe(request, replace=True)

    async def delete_subscriptions(self, request: web.Request) -> web.Response:
        """Take all topics off a channel."""
        _, channel = self._own(request)
        self.region.channels.unsubscribe(channel)
        return web.Response(status=200)

    async def _subscribe(self, request: web.Request, *, replace: bool) -> web.Response:
        token, channel = self._own(request)
        topics = [t.id for t in await _body(request, list[_TopicBody])]
        ignore = request.query.get("ignoreErrors", "").lower() == "true"
        try:
            results = self.region.channels.subscribe(
                channel, topics, token, now=_now(), replace=replace, ignore_errors=ignore
            )
        except TopicsRefused as refused:
            raise ApiRefusal(refused.status, refused.code, refused.message) from None
        self.region.changed()
        return _listing(results)

    async def available_topics(self, request: web.Request) -> web.Response:
        """List the kinds of topic, expanded as asked."""
        require_token(request, self.region)
        wanted: set[str] = set()
        for value in request.query.getall("expand", []):
            wanted |= set(value.split(","))
        return json_answer({"entities": [_topic_kind(number, wanted) for number in _KINDS]})

    def _own(self, request: web.Request) -> tuple[Token, Channel[Socket]]:
        """Give the asking token and the channel it names.

        Raises:
            ApiRefusal: 401 without a token, 404 for a channel of nobody or somebody else.
        """
        token = require_token(request, self.region)
        channel = self.region.channels.get(request.match_info["channel"], now=_now())
        if channel is None or channel.token.client.id != token.client.id:
            raise ApiRefusal(404, "not.found", "The channel was not found")
        return token, channel

    def _channel(self, request: web.Request, channel: Channel[Socket]) -> dict[str, str]:
        expires = datetime.now(UTC) + timedelta(seconds=channel.expires - _now())
        scheme = "wss" if self.secure else "ws"
        return {
            "connectUri": f"{scheme}://{request.host}/channels/{channel.id}",
            "id": channel.id,
            "expires": wire.milli_stamp(int(expires.timestamp() * 1e6)),
        }

    # --- notification sockets ---------------------------------------------------------

    async def channel_socket(self, request: web.Request) -> web.StreamResponse:
        """Upgrade to a channel's socket, and serve it; the channel id is the credential."""
        channel = self.region.channels.get(request.match_info["channel"], now=_now())
        if channel is None:
            raise ApiRefusal(404, "not.found", "The channel was not found")
        ws = await upgrade(request)
        socket = Socket(
            ws, request, "channel", self.region, now=_now(), token=channel.token, channel=channel
        )
        return await self._serve(socket, ws)

    async def _channel_text(self, socket: Socket, channel: Channel[Socket], text: str) -> None:
        try:
            asked = msgspec.json.decode(text, type=_SocketRequest)
        except (ValueError, msgspec.MsgspecError):
            await socket.send(msgspec.json.encode({"result": "400", "status": "bad message"}))
            return
        if asked.message == "ping":
            await socket.send(wire.control("pong"))
        elif asked.message in ("subscribe", "unsubscribe"):
            result, status = self._socket_subscription(channel, asked)
            answer: dict[str, Any] = {"result": result, "status": status}
            if asked.correlationId:
                answer["correlationId"] = asked.correlationId
            await socket.send(msgspec.json.encode(answer))
        else:
            await socket.send(msgspec.json.encode({"result": "400", "status": "bad message"}))

    def _socket_subscription(
        self, channel: Channel[Socket], asked: _SocketRequest
    ) -> tuple[str, str]:
        book, now = self.region.channels, _now()
        if book.get(channel.id, now=now) is None or not channel.token.alive(now):
            return "404", "channel not found"
        if asked.message == "unsubscribe":
            book.unsubscribe(channel, asked.topics)
            return "200", "unsubscribed"
        try:
            book.subscribe(channel, asked.topics, channel.token, now=now)
        except TopicsRefused:
            return "400", "subscription failed"
        self.region.changed()
        return "200", "subscribed"


_KINDS = range(len(TOPIC_KINDS))


def _topic_kind(number: int, wanted: set[str]) -> dict[str, Any]:
    kind = TOPIC_KINDS[number]
    facts: dict[str, Any] = {
        "description": kind.description,
        "enforced": True,
        "visibility": "Public",
        "transports": ["Websocket", "EventBridge"],
        "requiresPermissions": kind.permissions,
        "permissionDetails": [{"type": "requiresPermissions", "permissions": kind.permissions}]
        if kind.permissions
        else [],
        "topicParameters": ["id"] if "{id}" in kind.template else [],
        "publicApiTemplateUriPaths": [],
        "schema": {},
    }
    return {"id": kind.template} | {k: v for k, v in facts.items() if k in wanted}


def _listing(subscriptions: list[Subscription]) -> web.Response:
    return json_answer({"entities": [msgspec.to_builtins(s) for s in subscriptions]})


def _now() -> float:
    return asyncio.get_running_loop().time()


async def upgrade(request: web.Request, protocols: tuple[str, ...] = ()) -> web.WebSocketResponse:
    """Upgrade to a WebSocket that answers nothing by itself.

    Raises:
        ApiRefusal: 400 when no upgrade was asked for.
    """
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise ApiRefusal(400, "bad.request", "This path is a WebSocket")
    # Pings and closes are answered by us, so that they can be late or missing.
    ws = web.WebSocketResponse(
        protocols=protocols,
        autoping=False,
        autoclose=False,
        compress=False,
        timeout=2.0,
        max_msg_size=_MAX_MESSAGE_BYTES,
    )
    ws.headers["ININ-Correlation-Id"] = request[CORRELATION]
    await ws.prepare(request)
    return ws


async def _body(request: web.Request, kind: type[_T]) -> _T:
    if request.content_type != "application/json":
        raise ApiRefusal(415, "unsupported.media.type", "The body must be application/json")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (ValueError, msgspec.MsgspecError):
        raise ApiRefusal(400, "bad.request", "The body is not what this call takes") from None


def refusal_of(error: Exception) -> ApiRefusal:
    """Give the refusal that an exception of a handler stands for."""
    if isinstance(error, ApiRefusal):
        return error
    if isinstance(error, web.HTTPException):
        return ApiRefusal(error.status)
    return ApiRefusal(500, "internal.server.error", "The simulator failed")
