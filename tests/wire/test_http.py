"""Answers: what they mean as errors of ours, and nothing of a peer's text in them."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steno.errors import RateLimited, StenoError
from steno.wire.http import (
    HttpAnswer,
    HttpRequest,
    RateBudget,
    asked_to_wait,
    error_of,
    rate_budget,
    read_error,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = {
    "inin-ratelimit-count": "10",
    "inin-ratelimit-allowed": "300",
    "inin-ratelimit-reset": "42",
}


@given(st.integers(100, 599), st.binary(max_size=300))
def test_any_answer_is_an_error_of_ours(status: int, body: bytes) -> None:
    """Whatever a proxy invents; only 408, 429 and 5xx are worth another try."""
    error = error_of(HttpAnswer(status, {}, body), NOW, action="test")
    assert isinstance(error, StenoError)
    assert error.retryable == (status in (408, 429) or status >= 500)
    assert error.fields["status"] == status


@given(st.text(max_size=200))
def test_peer_texts_do_not_pass(text: str) -> None:
    """A code with a space, a digit group or markup in it is no code."""
    body = msgspec.json.encode(
        {"code": f"planted {text}", "message": text, "contextId": f"a {text}"}
    )
    told = read_error(HttpAnswer(400, {}, body))
    assert (told.code, told.correlation) == ("", "")


def test_oauth_and_platform_errors_are_both_read() -> None:
    """``error`` of OAuth, ``code`` of REST; the header's correlation id goes first."""
    assert read_error(HttpAnswer(400, {}, b'{"error":"invalid_client"}')).code == "invalid_client"
    told = read_error(
        HttpAnswer(403, {"inin-correlation-id": "abc-1"}, b'{"code":"not.authorized"}')
    )
    assert (told.code, told.correlation) == ("not.authorized", "abc-1")


def test_long_error_bodies_are_not_decoded() -> None:
    """Nobody makes us parse megabytes of error."""
    body = b'{"code":"a.b","message":"' + b"x" * 70_000 + b'"}'
    assert read_error(HttpAnswer(500, {}, body)).code == ""


def test_rate_is_read_from_its_headers() -> None:
    """Three numbers, or nothing."""
    assert rate_budget(LIMITS) == RateBudget(10, 300, 42.0)
    assert RateBudget(10, 300, 42.0).left == 290
    assert RateBudget(301, 300, 42.0).left == 0


@pytest.mark.parametrize("value", ["", "-1", "x", "1.5", "٣", "9" * 20])
def test_rates_in_other_words_are_not_guessed(value: str) -> None:
    """A header that is no number says nothing."""
    assert rate_budget(LIMITS | {"inin-ratelimit-reset": value}) is None
    assert rate_budget({}) is None


def test_wait_is_the_servers_wish_or_the_windows_end() -> None:
    """``Retry-After`` first; the window's reset only when the rate was the reason."""
    assert asked_to_wait(HttpAnswer(429, LIMITS | {"retry-after": "7"}), NOW) == 7.0
    assert asked_to_wait(HttpAnswer(429, LIMITS), NOW) == 42.0
    assert asked_to_wait(HttpAnswer(503, LIMITS), NOW) is None
    assert asked_to_wait(HttpAnswer(503, {"retry-after": "9"}), NOW) == 9.0
    error = error_of(HttpAnswer(429, LIMITS), NOW, action="test")
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 42.0


def test_requests_and_answers_show_no_content() -> None:
    """Addresses, headers and bodies may hold secrets."""
    request = HttpRequest("GET", "https://planted/", {"a": "planted"}, b"planted")
    assert "planted" not in repr(request)
    assert "planted" not in repr(HttpAnswer(200, {"date": "planted"}, b"planted"))
