"""Signatures of Standard Webhooks, held against the public library."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from steno.core.secret import Secret
from steno.errors import ConfigError, RemoteProtocolError
from steno.wire.webhooks import signed_headers, signing_keys, verify

OLD = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NEW = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
BODY = json.dumps({"text": "grüße"}).encode()


@pytest.mark.parametrize("known", [OLD, NEW])
def test_a_foreign_library_accepts_it_with_either_key(known: str) -> None:
    """During a rotation a receiver may know the old key or the new one."""
    now_s = int(datetime.now(UTC).timestamp())
    headers = signed_headers(signing_keys(Secret(f"{NEW} {OLD}")), "msg_1", now_s, BODY)
    assert Webhook(known).verify(BODY, headers) == {"text": "grüße"}


def test_we_accept_what_a_foreign_library_signed() -> None:
    """Our check agrees with the library's signature."""
    at = datetime.fromtimestamp(1_700_000_000, UTC)
    signature = Webhook(OLD).sign("msg_1", at, BODY.decode())
    verify(
        signing_keys(Secret(f"{NEW} {OLD}")),
        message_id="msg_1",
        timestamp="1700000000",
        signatures=f"v1a,other {signature}",
        body=BODY,
        now_s=1_700_000_100.0,
    )


@given(field=st.sampled_from(["message_id", "timestamp", "signatures", "body"]), data=st.data())
def test_any_change_is_noticed(field: str, data: st.DataObject) -> None:
    """Id, time, signature and body are all covered."""
    keys = signing_keys(Secret(OLD))
    headers = signed_headers(keys, "msg_1", 1_700_000_000, BODY)
    given_: dict[str, str | bytes] = {
        "message_id": "msg_1",
        "timestamp": headers["webhook-timestamp"],
        "signatures": headers["webhook-signature"],
        "body": BODY,
    }
    original = given_[field]
    if isinstance(original, bytes):
        changed: str | bytes = data.draw(st.binary().filter(lambda v: v != original))
    elif field == "timestamp":
        changed = str(data.draw(st.integers(1_699_999_800, 1_700_000_200)))
    else:
        changed = data.draw(st.text().filter(lambda v: original not in v.split(" ")))
    if changed == original:
        return
    given_[field] = changed
    with pytest.raises(RemoteProtocolError):
        verify(keys, now_s=1_700_000_000.0, **given_)  # type: ignore[arg-type] # mixed on purpose


@pytest.mark.parametrize("offset_s", [-301, 301])
def test_stale_messages_are_refused(offset_s: int) -> None:
    """Five minutes either way, no more."""
    keys = signing_keys(Secret(OLD))
    headers = signed_headers(keys, "msg_1", 1_700_000_000, BODY)
    with pytest.raises(RemoteProtocolError):
        verify(
            keys,
            message_id="msg_1",
            timestamp=headers["webhook-timestamp"],
            signatures=headers["webhook-signature"],
            body=BODY,
            now_s=1_700_000_000.0 + offset_s,
        )


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_c2hvcnQ=", "not base64 at all!", "whsec_" + "A" * 200]
)
def test_unusable_secrets_are_refused_and_not_shown(secret: str) -> None:
    """Too short, too long or not base64: a configuration error without the secret in it."""
    with pytest.raises(ConfigError) as caught:
        signing_keys(Secret(secret))
    assert "c2hvcnQ" not in str(caught.value)
    assert "AAAA" not in str(caught.value)


def test_keys_do_not_show_themselves() -> None:
    """The key's ``repr`` holds nothing of it."""
    (key,) = signing_keys(Secret(OLD))
    assert repr(key) == "SigningKey([hidden])"
