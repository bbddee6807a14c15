"""Refusals: status, code and correlation id in any spelling, and never a peer's words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.wire.refusals import MAX_REFUSAL_BYTES, NOTHING_SAID, Refusal, is_code, read_refusal

ID = "5f9d3c2e-8a11-4a5b-9d3e-0c1f2a3b4c5d"


@pytest.mark.parametrize(
    "told",
    [
        {"status": 403, "code": "missing.permissions", "contextId": ID},
        {"status": 403, "code": "missing.permissions", "correlationId": ID},
        {"Status": 403, "Code": "missing.permissions", "correlation_id": ID},
        {"status": "403", "errorCode": "missing.permissions", "context_id": ID},
        {"statusCode": 403, "error_code": "missing.permissions", "ININ-Correlation-Id": ID},
        {"code": 403, "error": "missing.permissions", "requestId": ID},
        {"status": 403, "error": {"code": "missing.permissions", "contextId": ID}},
        {"type": "error", "data": {"status": 403, "code": "missing.permissions", "contextId": ID}},
        {"status": 403, "body": {"errorCode": "missing.permissions"}, "correlationId": ID},
    ],
)
def test_spellings_say_the_same(told: dict[str, object]) -> None:
    """However a peer spells its keys, and with one object around them, the facts are found."""
    assert read_refusal(json.dumps(told).encode()) == Refusal(403, "missing.permissions", ID)


@pytest.mark.parametrize(
    "told",
    [
        {"message": "not.for.you"},
        {"code": "call 555 0100 and ask"},
        {"code": "Jane Doe"},
        {"code": "card4111111111111111"},
        {"code": "a." + "b" * 64},
        {"code": "dots..dots"},
        {"code": ".leading"},
        {"code": "new\nline"},
        {"code": "é"},
        {"code": ["missing.permissions"]},
        {"status": 99},
        {"status": 600},
        {"status": True},
        {"status": 403.5},
        {"status": "4031"},
        {"status": "٤٠٣"},
        {"contextId": "../../etc/passwd"},
        {"contextId": "two words"},
        {"contextId": "x" * 129},
        {"contextId": 7},
        [],
        "403",
        403,
        None,
    ],
)
def test_what_has_not_the_form_is_not_taken(told: object) -> None:
    """Words, numbers, names and paths are no codes and no ids."""
    assert read_refusal(json.dumps(told).encode()) == NOTHING_SAID


def test_codes_are_words_with_dots() -> None:
    """The platform's and OAuth's own codes have the form; a token has not."""
    for code in ("bad.credentials", "invalid_client", "not-authorized", "AUTH.403", "error.4031"):
        assert is_code(code)
    assert not is_code("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.x")


def test_a_long_refusal_is_not_read() -> None:
    """What is longer than the bound says nothing, however well it begins."""
    long = json.dumps({"status": 403, "message": "x" * MAX_REFUSAL_BYTES}).encode()
    assert read_refusal(long) == NOTHING_SAID


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.text() | st.sampled_from(["status", "code", "error", "data", "contextId"]), inner
        )
    ),
    max_leaves=20,
)


@given(data=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_checked_facts(data: bytes) -> None:
    """Nothing raises, and what comes out has its form."""
    told = read_refusal(data)
    assert told.status == 0 or 100 <= told.status <= 599
    assert told.code == "" or is_code(told.code)
    assert len(told.correlation_id) <= 128


def test_deep_nesting_says_nothing() -> None:
    """A thousand brackets are no refusal."""
    assert read_refusal(b"[" * 8000 + b"]" * 8000) == NOTHING_SAID
