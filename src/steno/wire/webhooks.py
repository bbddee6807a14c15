"""Signatures of webhooks, as Standard Webhooks defines them (``v1``: HMAC-SHA256).

What is signed is ``{id}.{timestamp}.{body}``. During the rotation of a key the header carries
one signature for each valid key, so a receiver may change over at its own time.

Source: Standard Webhooks specification, "Webhook Metadata" and "Signature scheme".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from steno.core.secret import Secret
from steno.errors import ConfigError, RemoteProtocolError

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how a secret begins, not a secret
MIN_KEY_BYTES: Final = 24
MAX_KEY_BYTES: Final = 64
TOLERANCE_S: Final = 300
MAX_SIGNATURES: Final = 8

RETRY_SCHEDULE_S: Final = (0, 5, 300, 1800, 7200, 18_000, 36_000, 36_000)
"""Seconds between an attempt and the one before it, the first included; then no more.

Source: Standard Webhooks specification, "Deliverability and reliability".
"""


class WebhookOutcome(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of one attempt to call the webhook of a transcription job.

    It has what an audit entry needs and neither the address nor a word that was said.

    Attributes:
        record_id: Of the record sent; the message id of every attempt.
        status, metrics, error: How the job ended, as in its record.
        attempt: Which attempt, from 1.
        failure: Class of the error, a word of ours; empty when the receiver took it.
        is_final: No attempt follows by itself.
    """

    record_id: str
    job_id: str
    recording_id: str
    transcript_id: str
    status: str
    metrics: dict[str, float | int | None]
    error: str
    attempt: int
    failure: str
    is_final: bool

    @property
    def webhook_status(self) -> str:
        """``delivered`` or ``failed: <class of ours>``."""
        return f"failed: {self.failure}" if self.failure else "delivered"


class SigningKey:
    """A decoded secret; shows itself to nobody."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, message_id: str, timestamp_s: int, body: bytes) -> str:
        """Return one ``v1,…`` signature."""
        signed = f"{message_id}.{timestamp_s}.".encode() + body
        digest = hmac.new(self._key, signed, hashlib.sha256).digest()
        return f"v1,{base64.b64encode(digest).decode()}"

    def __repr__(self) -> str:
        return "SigningKey([hidden])"


def signing_keys(secret: Secret) -> tuple[SigningKey, ...]:
    """Return the keys of a setting: ``whsec_…``, several separated by white space.

    The first signs for receivers that look at one signature only.

    Raises:
        ConfigError: Not base64 of 24 to 64 bytes, or none at all.
    """
    keys = tuple(_key(text) for text in secret.reveal().split())
    if not keys or len(keys) > MAX_SIGNATURES:
        raise ConfigError(
            "a webhook needs a signing secret",
            setting="secret",
            fix="Give whsec_ and 24 to 64 random bytes in base64.",
        )
    return keys


def _key(text: str) -> SigningKey:
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ConfigError(
            "a webhook secret is not usable",
            setting="secret",
            fix="Give whsec_ and 24 to 64 random bytes in base64.",
        )
    return SigningKey(key)


def signed_headers(
    keys: Sequence[SigningKey], message_id: str, timestamp_s: int, body: bytes
) -> dict[str, str]:
    """Return the three headers of a message.

    Args:
        keys: All that are valid now; each signs.
        message_id: The same for every attempt of the same message.
        timestamp_s: Unix seconds of this attempt.
    """
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(timestamp_s),
        SIGNATURE_HEADER: " ".join(key.sign(message_id, timestamp_s, body) for key in keys),
    }


def verify(
    keys: Sequence[SigningKey],
    *,
    message_id: str,
    timestamp: str,
    signatures: str,
    body: bytes,
    now_s: float,
) -> None:
    """Accept a message only if one of its signatures is by one of the keys, and fresh.

    Raises:
        RemoteProtocolError: It is not.
    """
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 16):
        raise RemoteProtocolError("a webhook's timestamp is not a number")
    at_s = int(timestamp)
    if abs(now_s - at_s) > TOLERANCE_S:
        raise RemoteProtocolError("a webhook's timestamp is too far from now")
    given = signatures.split(" ")[:MAX_SIGNATURES]
    expected = [key.sign(message_id, at_s, body) for key in keys]
    # Every pair is compared, so the time taken does not tell which one was near.
    matches = [
        hmac.compare_digest(one.encode(), other.encode()) for one in given for other in expected
    ]
    if not any(matches):
        raise RemoteProtocolError("a webhook's signature does not match")
