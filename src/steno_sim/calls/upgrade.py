"""The headers of an AudioHook upgrade, right or wrong on purpose."""

from __future__ import annotations

import base64
import binascii
import secrets
import time

from steno_sim.calls.client import Opening
from steno_sim.calls.dialling import authority, target
from steno_sim.calls.faults import CallFault
from steno_sim.calls.plan import fresh_id
from steno_sim.calls.signature import Signing, sign

LIFE_S = 10
"""From ``created`` to ``expires``."""
_LONG_S = 120

_WRONG_COMPONENT = {
    CallFault.BAD_TARGET: "@request-target",
    CallFault.BAD_AUTHORITY: "@authority",
    CallFault.BAD_ORGANISATION: "audiohook-organization-id",
    CallFault.BAD_SESSION: "audiohook-session-id",
    CallFault.BAD_CORRELATION: "audiohook-correlation-id",
    CallFault.BAD_KEY: "x-api-key",
}


class SecretError(ValueError):
    """The client secret is not base64; nothing of it is in the message."""


def decoded(secret: str) -> bytes:
    """Give the bytes of a client secret; empty for no secret.

    Raises:
        SecretError: It is not base64.
    """
    try:
        return base64.b64decode(secret.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SecretError("the client secret is not base64") from None


def upgrade_headers(
    url: str,
    opening: Opening,
    *,
    api_key: str,
    secret: str,
    fault: CallFault | None = None,
    created: int | None = None,
) -> dict[str, str]:
    """Give the headers, signed when there is a secret.

    Args:
        url: Where the upgrade goes: its Host and path are signed.
        opening: Names organisation and session.
        api_key: Value of X-API-KEY.
        secret: Client secret as base64 text; empty for none.
        fault: What to do wrong, of the upgrade's faults.
        created: Time of the signature, seconds; now when None.

    Raises:
        SecretError: The secret is not base64.
    """
    key = secrets.token_urlsafe(24) if fault is CallFault.UNKNOWN_KEY else api_key
    headers = {
        "Audiohook-Organization-Id": opening.organisation,
        "Audiohook-Session-Id": opening.session,
        "Audiohook-Correlation-Id": fresh_id(),
        "X-API-KEY": key,
    }
    if fault is CallFault.NO_SESSION_HEADER:
        del headers["Audiohook-Session-Id"]
    if not secret or fault is CallFault.UNSIGNED:
        return headers
    components = {
        "@request-target": target(url),
        "@authority": authority(url),
        "audiohook-session-id": opening.session,
        **{name.lower(): value for name, value in headers.items()},
    }
    wrong = _WRONG_COMPONENT.get(fault) if fault is not None else None
    if wrong is not None:
        value = components[wrong]
        components[wrong] = fresh_id() if wrong.startswith("audiohook") else f"{value}x"
    if fault is CallFault.METHOD_IN_TARGET:
        components["@request-target"] = f"get {components['@request-target']}"
    signing = _signing(key, fault, int(time.time()) if created is None else created)
    bare = secret.encode() if fault is CallFault.UNDECODED_SECRET else decoded(secret)
    signed = sign(components, signing, key=bare)
    if fault is CallFault.BAD_SIGNATURE:
        text = signed["Signature"]
        signed["Signature"] = text[:6] + ("A" if text[6] != "A" else "B") + text[7:]
    return headers | signed


def _signing(key_id: str, fault: CallFault | None, created: int) -> Signing:
    shift = {CallFault.EXPIRED: -_LONG_S, CallFault.FUTURE: _LONG_S}
    begin = created + (shift.get(fault, 0) if fault is not None else 0)
    raw = secrets.token_bytes(6 if fault is CallFault.SHORT_NONCE else 18)
    return Signing(key_id, base64.b64encode(raw).decode(), begin, begin + LIFE_S)
