"""Checking signatures of webhooks from outside. Pure.

Source: Standard Webhooks specification: ``v1`` is HMAC-SHA256 over ``{id}.{timestamp}.{body}``,
several signatures are separated by blanks, a timestamp is good for five minutes either way.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Literal

TOLERANCE_S = 300
Verdict = Literal["valid", "unsigned", "stale", "wrong", "unchecked"]


def keys_of(text: str) -> tuple[bytes, ...]:
    """Give the keys of secrets written ``whsec_…``, separated by blanks.

    Raises:
        ValueError: One is not base64, or empty; the message does not hold it.
    """
    keys = []
    for secret in text.split():
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            key = b""
        if not key:
            raise ValueError("a webhook secret is whsec_ and base64")
        keys.append(key)
    return tuple(keys)


def judge(keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, *, now: float) -> Verdict:
    """Tell whether a delivery is signed with one of the keys.

    Args:
        keys: The receiver's; none means that nothing is checked.
        headers: Names in lower case.
        body: As it came.
        now: Epoch seconds.
    """
    if not keys:
        return "unchecked"
    name, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = headers.get("webhook-signature", "")
    if not (name and given and at.isascii() and at.isdigit()):
        return "unsigned"
    if abs(now - int(at)) > TOLERANCE_S:
        return "stale"
    signed = f"{name}.{at}.".encode() + body
    for key in keys:
        digest = hmac.new(key, signed, hashlib.sha256).digest()
        expected = b"v1," + base64.b64encode(digest)
        if any(hmac.compare_digest(expected, each.encode()) for each in given.split()):
            return "valid"
    return "wrong"
