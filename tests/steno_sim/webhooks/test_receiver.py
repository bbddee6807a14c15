"""The receiver of webhooks, delivered to by ``aiohttp`` and signed for by ``standardwebhooks``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from standardwebhooks import Webhook

from steno_sim.webhooks.receiver import WebhookReceiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
BODY = '{"status":"completed","text":"größer"}'


def signed(name: str, *, secret: str = SECRET, body: str = BODY, age_s: int = 0) -> dict[str, str]:
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    return {
        "webhook-id": name,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(name, at, body),
    }


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[tuple[WebhookReceiver, aiohttp.ClientSession]]:
    async with (
        WebhookReceiver(**options) as receiver,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session,
    ):
        yield receiver, session


async def send(
    receiver: WebhookReceiver, session: aiohttp.ClientSession, name: str = "m", **options: Any
) -> aiohttp.ClientResponse:
    headers = options.pop("headers", {"webhook-id": name})
    url = receiver.url
    async with session.post(url, data=BODY.encode(), headers=headers, **options) as response:
        await response.read()
        return response


async def test_signatures_of_the_public_library_verify_and_others_do_not() -> None:
    """Valid, by another key, by a changed body, too old, and none at all."""
    async with receiving(secret=SECRET) as (receiver, session):
        for headers in (
            signed("a"),
            signed("b", secret=OTHER),
            signed("c", body=BODY + " "),
            signed("d", age_s=400),
            signed("e", age_s=-400),
            {"webhook-id": "f"},
        ):
            assert (await send(receiver, session, headers=headers)).status == 200
        found = [one.signature for one in receiver.deliveries]
    assert found == ["valid", "wrong", "wrong", "stale", "stale", "unsigned"]


async def test_one_good_signature_of_several_is_enough() -> None:
    """A sender and a receiver may each have two keys while one takes over from the other."""
    async with receiving(secret=f"{OTHER} {SECRET}") as (receiver, session):
        one, two = signed("a"), signed("a", secret=OTHER)
        assert (await send(receiver, session, headers=two)).status == 200
        both = f"v1a,xxxx {one['webhook-signature']}"
        await send(receiver, session, headers=one | {"webhook-signature": both})
        assert receiver.stats()["signatures"] == {"valid": 2}


async def test_a_delivery_is_kept_as_it_came(tmp_path: Path) -> None:
    """Headers in their order, body byte by byte; the file has a line for each."""
    out = tmp_path / "deliveries.jsonl"
    async with receiving(secret=SECRET, out=out) as (receiver, session):
        await send(receiver, session, headers=signed("a") | {"X-Transcript-Id": "t"})
        await send(receiver, session)
        first = receiver.deliveries[0]
        assert (first.method, first.target, first.message_id) == ("POST", "/hook", "a")
        assert first.body == BODY.encode()
        assert dict(first.headers)["x-transcript-id"] == "t"
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["body"] for line in lines] == [BODY, BODY]
    assert [line["signature"] for line in lines] == ["valid", "unsigned"]


async def test_each_message_has_its_own_place_in_the_script() -> None:
    """Two messages by turns: both are refused twice, then taken."""
    async with receiving(script="503,429:7,200") as (receiver, session):
        seen = [(await send(receiver, session, name)).status for name in "ababab"]
        waits = (await send(receiver, session, "c")), (await send(receiver, session, "c"))
        stats = receiver.stats()
        assert receiver.attempts == {"a": 3, "b": 3, "c": 2}
        assert [one.attempt for one in receiver.deliveries][:6] == [0, 0, 1, 1, 2, 2]
    assert seen == [503, 503, 429, 429, 200, 200]
    assert [one.headers.get("Retry-After") for one in waits] == [None, "7"]
    assert (stats["accepted"], stats["repeated"], stats["most_attempts"]) == (2, 0, 3)


async def test_a_message_that_comes_again_after_2xx_is_counted() -> None:
    """What a sender must not do without need."""
    async with receiving() as (receiver, session):
        await send(receiver, session)
        await send(receiver, session)
        assert receiver.stats()["repeated"] == 1
        assert receiver.connections == 1


async def test_a_share_of_the_messages_is_struck_by_their_ids() -> None:
    """The same messages each time, and about as many as asked."""
    async with receiving(script="500", share=0.3) as (receiver, session):
        runs = [
            [(await send(receiver, session, f"m{n}")).status for n in range(100)] for _ in range(2)
        ]
    assert runs[0] == runs[1]
    assert 15 < runs[0].count(500) < 45


async def test_a_redirect_names_its_target() -> None:
    """A client that follows it would arrive there."""
    async with receiving(script="redirect308:/elsewhere") as (receiver, session):
        found = await send(receiver, session, allow_redirects=False)
    assert (found.status, found.headers["Location"]) == (308, "/elsewhere")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("reset", aiohttp.ClientConnectionError),
        ("garbage", aiohttp.ClientError),
        ("headers", aiohttp.ClientError),
        ("timeout", TimeoutError),
        ("drip", TimeoutError),
    ],
)
async def test_an_answer_that_never_comes_right_is_an_error(
    script: str, error: type[Exception]
) -> None:
    """Reset, rubbish, headers without end, silence, drips; the delivery counts all the same."""
    async with receiving(script=script) as (receiver, session):
        with pytest.raises(error):
            await send(receiver, session, timeout=aiohttp.ClientTimeout(0.3))
        assert receiver.attempts == {"m": 1}
        assert receiver.stats()["accepted"] == 0


async def test_a_huge_body_has_no_end_or_the_one_that_was_set() -> None:
    """A reader that wants all of it never comes back."""
    async with receiving(script="huge:300000,huge") as (receiver, session):
        headers = {"webhook-id": "m"}
        async with session.post(receiver.url, data=b"", headers=headers) as response:
            assert len(await response.read()) == 300_000
        async with session.post(receiver.url, data=b"", headers=headers) as response:
            assert response.status == 200
            assert len(await response.content.readexactly(2_000_000)) == 2_000_000


async def test_what_is_no_request_is_answered_400() -> None:
    """And a body in chunks is read like any other."""
    async with receiving() as (receiver, session):
        reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        writer.write(b"HELLO\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        await writer.wait_closed()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        async with session.post(receiver.url, data=pieces()) as response:
            assert response.status == 200
        assert receiver.deliveries[-1].body == b"onetwo"
        assert receiver.count == 1


async def test_waiting_for_deliveries_ends() -> None:
    """With the delivery, or with a timeout."""
    async with receiving() as (receiver, session):
        with pytest.raises(TimeoutError):
            await receiver.wait_for(1, limit_s=0.02)
        waiting = asyncio.create_task(receiver.wait_for(1))
        await send(receiver, session)
        await waiting


def test_a_secret_that_is_none_is_refused_without_showing_it() -> None:
    """Nor is a script that is none."""
    with pytest.raises(ValueError, match="whsec_") as caught:
        WebhookReceiver(secret="whsec_not base64")
    assert "not" not in str(caught.value)
    with pytest.raises(ValueError, match="step 2"):
        WebhookReceiver(script="200,never")
