"""What a caller can do wrong on purpose, and what a good server makes of it.

One fault a call, by name: ``steno-sim call … --fault NAME``, or ``fault=`` of a plan. Those in
mid-call strike after half of the sound. ``expected`` are the ends that a server which obeys the
protocol may give the call; another end is the violation ``fault.accepted`` (it should have been
refused) or ``fault.fatal`` (it should have been survived).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

Family = Literal["audiohook", "json", "both"]


class End(StrEnum):
    """How a connection came to its end."""

    COMPLETED = "completed"
    """Said ``close``, was answered ``closed`` (JSON form: the caller hung up)."""
    REFUSED = "refused"
    """The upgrade was answered with an HTTP error."""
    UNAUTHORIZED = "unauthorized"
    """``disconnect`` with that reason."""
    DISCONNECTED = "disconnected"
    """``disconnect`` for another reason."""
    DROPPED = "dropped"
    """The server ended the socket."""
    ABANDONED = "abandoned"
    """The caller ended the socket without a word."""
    FAILED = "failed"
    """The caller gave up: a violation, or no ``closed``."""
    UNREACHABLE = "unreachable"
    """No connection came about."""


class CallFault(StrEnum):
    """One thing done wrong; ``FAULTS`` says what and by whom."""

    # At the upgrade, AudioHook.
    BAD_TARGET = "bad_target"
    BAD_AUTHORITY = "bad_authority"
    BAD_ORGANISATION = "bad_organisation"
    BAD_SESSION = "bad_session"
    BAD_CORRELATION = "bad_correlation"
    BAD_KEY = "bad_key"
    BAD_SIGNATURE = "bad_signature"
    METHOD_IN_TARGET = "method_in_target"
    UNDECODED_SECRET = "undecoded_secret"  # noqa: S105  (a fault's name)
    SHORT_NONCE = "short_nonce"
    EXPIRED = "expired"
    FUTURE = "future"
    REPLAYED = "replayed"
    UNKNOWN_KEY = "unknown_key"
    UNSIGNED = "unsigned"
    NO_SESSION_HEADER = "no_session_header"
    # In the session, AudioHook.
    WRONG_ORGANISATION = "wrong_organisation"
    BINARY_BEFORE_OPEN = "binary_before_open"
    OPEN_TWICE = "open_twice"
    WRONG_SEQUENCE = "wrong_sequence"
    REPEATED_SEQUENCE = "repeated_sequence"
    AHEAD_OF_SERVER = "ahead_of_server"
    OTHER_SESSION = "other_session"
    UNKNOWN_TYPE = "unknown_type"
    MISSING_PARAMETERS = "missing_parameters"
    MALFORMED_POSITION = "malformed_position"
    POSITION_BACK = "position_back"
    ODD_FRAME = "odd_frame"
    CLIENT_ERROR = "client_error"
    PAUSES = "pauses"
    DISCARDS = "discards"
    NEEDLESS_DISCARD = "needless_discard"
    UPDATES = "updates"
    # Both.
    SILENCE = "silence"
    DROP = "drop"
    DROP_AND_CONTINUE = "drop_and_continue"
    HALF_OPEN = "half_open"
    SLOW_READER = "slow_reader"
    MALFORMED_JSON = "malformed_json"
    OVERSIZED = "oversized"
    BURST = "burst"
    # JSON form.
    WRONG_TOKEN = "wrong_token"  # noqa: S105  (a fault's name)
    NO_TOKEN = "no_token"  # noqa: S105
    WRONG_ORIGIN = "wrong_origin"
    NO_SUBPROTOCOL = "no_subprotocol"
    BAD_BASE64 = "bad_base64"
    MISSING_FIELD = "missing_field"
    WRONG_FORMAT = "wrong_format"
    BINARY = "binary"
    HOLES = "holes"
    REPEATS = "repeats"
    DISORDER = "disorder"


class FaultText(msgspec.Struct, frozen=True):
    """Who does it, how the call may end, and what it is."""

    family: Family
    expected: frozenset[End]
    text: str


_REFUSAL = frozenset({End.REFUSED, End.UNAUTHORIZED})
_NO = frozenset({End.REFUSED, End.UNAUTHORIZED, End.DISCONNECTED, End.DROPPED})
_ENDED = frozenset({End.DISCONNECTED, End.DROPPED})
_FINE = frozenset({End.COMPLETED})
_EITHER = frozenset({End.COMPLETED, End.DISCONNECTED, End.DROPPED})
_GONE = frozenset({End.ABANDONED, End.DROPPED, End.DISCONNECTED})

_F = CallFault
FAULTS: dict[CallFault, FaultText] = {
    _F.BAD_TARGET: FaultText("audiohook", _REFUSAL, "signed for another path"),
    _F.BAD_AUTHORITY: FaultText("audiohook", _REFUSAL, "signed for another host"),
    _F.BAD_ORGANISATION: FaultText("audiohook", _REFUSAL, "signed for another organisation"),
    _F.BAD_SESSION: FaultText("audiohook", _REFUSAL, "signed for another session"),
    _F.BAD_CORRELATION: FaultText("audiohook", _REFUSAL, "signed for another correlation id"),
    _F.BAD_KEY: FaultText("audiohook", _REFUSAL, "signed for another API key"),
    _F.BAD_SIGNATURE: FaultText("audiohook", _REFUSAL, "one bit of the signature is wrong"),
    _F.METHOD_IN_TARGET: FaultText("audiohook", _REFUSAL, "`get ` stands before the target"),
    _F.UNDECODED_SECRET: FaultText("audiohook", _REFUSAL, "the secret's base64 text is the key"),
    _F.SHORT_NONCE: FaultText("audiohook", _REFUSAL, "a nonce of 8 characters"),
    _F.EXPIRED: FaultText("audiohook", _REFUSAL, "signed two minutes ago for ten seconds"),
    _F.FUTURE: FaultText("audiohook", _REFUSAL, "signed two minutes from now"),
    _F.REPLAYED: FaultText("audiohook", _REFUSAL, "a used upgrade, once more to the byte"),
    _F.UNKNOWN_KEY: FaultText("audiohook", _REFUSAL, "a key the server does not know"),
    _F.UNSIGNED: FaultText("audiohook", _REFUSAL, "no signature for a key that has a secret"),
    _F.NO_SESSION_HEADER: FaultText("audiohook", _NO, "no Audiohook-Session-Id"),
    _F.WRONG_ORGANISATION: FaultText("audiohook", _NO, "`open` names another organisation"),
    _F.BINARY_BEFORE_OPEN: FaultText("audiohook", _ENDED, "audio before `open`"),
    _F.OPEN_TWICE: FaultText("audiohook", _ENDED, "`open` again in mid-call"),
    _F.WRONG_SEQUENCE: FaultText("audiohook", _ENDED, "`seq` leaves three numbers out"),
    _F.REPEATED_SEQUENCE: FaultText("audiohook", _ENDED, "`seq` comes twice"),
    _F.AHEAD_OF_SERVER: FaultText("audiohook", _ENDED, "`serverseq` was never sent"),
    _F.OTHER_SESSION: FaultText("audiohook", _ENDED, "`id` of another session"),
    _F.UNKNOWN_TYPE: FaultText("audiohook", _ENDED, "a type nobody knows"),
    _F.MISSING_PARAMETERS: FaultText("audiohook", _ENDED, "no `parameters`"),
    _F.MALFORMED_POSITION: FaultText("audiohook", _ENDED, "`position` in minutes"),
    _F.POSITION_BACK: FaultText("audiohook", _EITHER, "`position` of the start in mid-call"),
    _F.ODD_FRAME: FaultText("audiohook", _EITHER, "audio that ends within a sample group"),
    _F.CLIENT_ERROR: FaultText("audiohook", _FINE, "a client `error`, later `close`"),
    _F.PAUSES: FaultText("audiohook", _FINE, "three secure pauses, one of them long"),
    _F.DISCARDS: FaultText("audiohook", _FINE, "three pieces of audio discarded, and told"),
    _F.NEEDLESS_DISCARD: FaultText("audiohook", _FINE, "`discarded` although nothing was"),
    _F.UPDATES: FaultText("audiohook", _FINE, "the language changes four times"),
    _F.SILENCE: FaultText("both", _GONE, "connects and says nothing"),
    _F.DROP: FaultText("both", frozenset({End.ABANDONED}), "the socket is reset in mid-call"),
    _F.DROP_AND_CONTINUE: FaultText(
        "both", _FINE, "reset in mid-call, then a new connection goes on"
    ),
    _F.HALF_OPEN: FaultText("both", _GONE, "neither sends nor reads any more"),
    _F.SLOW_READER: FaultText("both", _FINE, "reads nothing for a while"),
    _F.MALFORMED_JSON: FaultText("both", _EITHER, "half of a message"),
    _F.OVERSIZED: FaultText("both", _EITHER, "a message of 200,000 characters"),
    _F.BURST: FaultText("both", _FINE, "audio is late, then comes all at once; three times"),
    _F.WRONG_TOKEN: FaultText("json", frozenset({End.REFUSED}), "a token nobody gave out"),
    _F.NO_TOKEN: FaultText("json", frozenset({End.REFUSED}), "no Authorization header"),
    _F.WRONG_ORIGIN: FaultText(
        "json", frozenset({End.REFUSED}), "Origin of a strange site, where the server has a list"
    ),
    _F.NO_SUBPROTOCOL: FaultText("json", frozenset({End.COMPLETED, End.REFUSED}), "asks for none"),
    _F.BAD_BASE64: FaultText("json", _FINE, "an envelope whose audio is no base64"),
    _F.MISSING_FIELD: FaultText("json", _FINE, "an envelope without `sequenceNumber`"),
    _F.WRONG_FORMAT: FaultText("json", _FINE, "an envelope in a format nobody knows"),
    _F.BINARY: FaultText("json", _EITHER, "a binary frame"),
    _F.HOLES: FaultText("json", _FINE, "every tenth envelope is missing"),
    _F.REPEATS: FaultText("json", _FINE, "every tenth envelope comes twice"),
    _F.DISORDER: FaultText("json", _FINE, "every tenth envelope changes places with the next"),
}

_AUDIOHOOK_JSON_ENDS = {_F.MALFORMED_JSON: _ENDED, _F.OVERSIZED: _ENDED}


def expected(fault: CallFault, family: Family) -> frozenset[End]:
    """Give the ends that are right; AudioHook is stricter with broken messages."""
    if family == "audiohook" and fault in _AUDIOHOOK_JSON_ENDS:
        return _AUDIOHOOK_JSON_ENDS[fault]
    return FAULTS[fault].expected


def judge(fault: CallFault | None, family: Family, end: End) -> tuple[str, str] | None:
    """Give the rule that an end breaks, with what was seen; None when it is right."""
    if fault is None:
        rules = {End.REFUSED: "upgrade.refused", End.UNREACHABLE: "upgrade.refused"}
        rules |= {End.UNAUTHORIZED: "session.refused", End.DISCONNECTED: "session.refused"}
        return (rules[end], str(end)) if end in rules else None
    right = expected(fault, family)
    if end in right:
        return None
    return ("fault.fatal" if End.COMPLETED in right else "fault.accepted"), f"{fault}: {end}"
