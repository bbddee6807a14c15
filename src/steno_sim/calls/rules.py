"""The rules a server is held to, by name, and what was found against them."""

from __future__ import annotations

import msgspec

RULES: dict[str, str] = {
    "upgrade.refused": "a correct upgrade is accepted (or the server cannot be reached)",
    "session.refused": "a correct session is served to its end",
    "upgrade.subprotocol": "JSON form: `media-api` is chosen; AudioHook: none is",
    "message.size": "a message has at most 65535 characters",
    "message.json": "a message is one JSON object",
    "message.version": '`version` is "2"',
    "message.id": "`id` is the session's",
    "message.seq": "`seq` starts at 1 and grows by exactly 1",
    "message.clientseq": "`clientseq` is a number the client has used, and never falls",
    "message.parameters": "`parameters` is an object and has what the type asks for",
    "message.type": "the type is one a server sends",
    "message.unexpected": "the type is allowed at this point of the session",
    "message.rate": "at most 5 messages a second, bursts of 25",
    "binary.unexpected": "a server that only listens sends no binary frames",
    "opened.late": "`opened` (or `disconnect`) comes within 5 s",
    "opened.again": "`opened` comes once",
    "opened.media": "`media` is empty, or one offered item unchanged, channel order included",
    "opened.languages": "`supportedLanguages` is listed when asked for, each as xx-YY",
    "opened.quiet": "nothing unasked but `pong` between `opened` and the first `pong`",
    "pong.clientseq": "a `pong` has the `seq` of its `ping` as `clientseq`",
    "pong.unasked": "a `pong` answers a `ping`",
    "pong.late": "a `pong` comes before the next `ping` is due",
    "updated.unasked": "`updated` answers an `update`",
    "closed.unasked": "`closed` answers a `close`",
    "closed.late": "`closed` comes within 10 s",
    "closed.after": "nothing follows `closed`",
    "disconnect.reason": "`reason` is completed, unauthorized or error",
    "disconnect.blameless": "no `disconnect` for a client `error` or a needless `discarded`",
    "event.entities": "`entities` has at least one `{type, data}`",
    "event.probe": "a connection probe has no results",
    "entity.id": "`id` is a UUID",
    "entity.channel": "`channelId` is an integer index of a selected channel",
    "entity.final": "`isFinal` is a boolean; a final has `offset` and `duration`",
    "entity.repeated": "an utterance is final once",
    "entity.times": "durations are `PT…S` strings",
    "entity.future": "results are about audio that was sent",
    "entity.alternatives": "at least one, each with `confidence` 0..1 and an interpretation",
    "entity.languages": "language codes look like xx-YY",
    "entity.interpretation": '`type` is "display", `transcript` a text',
    "entity.tokens": "finals have word tokens with value, confidence, offset and duration",
    "entity.token_offsets": "tokens of one interpretation have distinct offsets",
    "socket.ended": "the client alone closes the socket, after `closed`",
    "socket.stalled": "the server reads what it is sent",
    "fault.accepted": "a fault that must be refused is refused",
    "fault.fatal": "a fault that must be survived is survived",
}
"""What each rule demands, in words for people."""


class Violation(msgspec.Struct, frozen=True):
    """A rule that was broken: where in the call, and what was seen (facts, never a text)."""

    rule: str
    at_ms: int
    detail: str = ""
