"""Calls of the platform at a bounded rate, tried again by one policy.

429 is waited out as the platform asks, and holds everybody; without a wish the waits double
from 1 s to 30 s. Other failures of transport wait by the usual backoff. All tries of one call end
at its patience.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from steno.core.hosts import Host
from steno.core.pacing import Turns
from steno.core.timing import Backoff, Deadline, Retries, SteppedBackoff
from steno.errors import AuthError, ProtocolError, RateLimited, TransportError
from steno.ports import Telemetry
from steno.wire.http import MAX_ANSWER_BYTES, AnswerSink, HttpAnswer, RateBudget

LIMITED_FIRST_S: Final = 1.0
LIMITED_MOST_S: Final = 30.0
FAILED_MOST_S: Final = 10.0
SMALL_LIMIT_S: Final = 30.0


class PlatformCalls(Protocol):
    """What ``platform_http.PlatformHttp`` offers: token, 401, and errors of ours."""

    @property
    def host(self) -> Host:
        """Where the calls go."""

    @property
    def rate(self) -> RateBudget | None:
        """What the platform last said of our rate."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        action: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        accept: frozenset[int] = frozenset(),
        fix: str = "",
        limit_s: float | None = None,
        patience_s: float = ...,
        max_bytes: int = ...,
        into: AnswerSink | None = None,
    ) -> HttpAnswer:
        """Call the platform once and map what it answers."""


class PacedCalls:
    """Calls of one platform, of everything that fetches, together.

    Args:
        http: Makes one call.
        per_minute: Calls begun in a minute, tries counted one by one.
        patience_s: Time within which a further try of a call may start.
        telemetry: Told of tries and holds.
        retry_first_s: Shortest wait between tries.
        draw: A number in [0, 1) for the jitter.
    """

    def __init__(
        self,
        http: PlatformCalls,
        *,
        per_minute: float,
        telemetry: Telemetry,
        patience_s: float = 300.0,
        retry_first_s: float = LIMITED_FIRST_S,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._http = http
        self._turns = Turns(per_minute)
        self._telemetry = telemetry
        self._patience_s = patience_s
        self._retry_first_s = retry_first_s
        self._draw = draw
        self._in_flight = 0
        self._seen: RateBudget | None = None
        self._permitted: set[str] = set()

    @property
    def host(self) -> Host:
        """Where the calls go."""
        return self._http.host

    async def call(
        self,
        method: str,
        path: str,
        *,
        action: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        accept: frozenset[int] = frozenset(),
        fix: str = "",
        limit_s: float = SMALL_LIMIT_S,
        patience_s: float | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
        into: AnswerSink | None = None,
        is_of_one: bool = False,
    ) -> HttpAnswer:
        """Call, and call again while that can help. Every method here may be repeated.

        Args:
            method, path, query, body: What to ask.
            action: What this does, in fixed words.
            accept: Statuses beyond 2xx that are answers.
            fix: What a reader can do about a 401 or 403.
            limit_s: Time for one try.
            patience_s: Time for further tries, where it is not the usual.
            max_bytes: Longest answer taken.
            into: Takes a long body.
            is_of_one: It is about one conversation, which may be closed to us while others are
                not: a refusal that says so is a ``ProtocolError`` with status 403.

        Raises:
            AuthError, ObjectMissing, ProtocolError: See ``PlatformHttp.request``.
            TransportError: After the last try.
        """
        now = asyncio.get_running_loop().time
        first_s = self._retry_first_s
        patience_s = self._patience_s if patience_s is None else patience_s
        deadline = Deadline.after(now(), patience_s)
        stepped = SteppedBackoff(first_s, max(LIMITED_MOST_S, first_s), jitter_s=first_s / 2)
        limited = Retries(stepped, deadline)
        failed = Retries(Backoff(first_s, max(FAILED_MOST_S, first_s)), deadline)
        while True:
            await self._turn()
            self._in_flight += 1
            try:
                answer = await self._http.request(
                    method,
                    path,
                    action=action,
                    query=query,
                    body=body,
                    accept=accept,
                    fix=fix,
                    limit_s=limit_s,
                    patience_s=0.0,
                    max_bytes=max_bytes,
                    into=into,
                )
                self._permitted.add(action)
                return answer
            except TransportError as error:
                failure = error
            except AuthError as error:
                if is_of_one and self._is_of_one(error, action):
                    raise _closed(error) from None
                raise
            finally:
                self._in_flight -= 1
                self._learn()
            is_limit = isinstance(failure, RateLimited)
            wish_s = _wish_s(failure)
            if is_limit and wish_s:
                self._turns.hold(now(), wish_s)
            retries = limited if is_limit else failed
            wait_s = retries.next_delay(now(), self._draw(), retry_after_s=wish_s)
            if wait_s is None:
                raise failure
            self._telemetry.info(
                "platform.call_retried", action=action, error=failure.error_class, wait_s=wait_s
            )
            await asyncio.sleep(wait_s)

    def _is_of_one(self, error: AuthError, action: str) -> bool:
        """Tell whether a refusal is about the conversation rather than about us.

        The platform has a code for it; without one, it is where others have been permitted.
        """
        if error.fields.get("status") != 403:
            return False
        return error.fields.get("code") == "not.authorized" or action in self._permitted

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            mine = self._turns.take(now())
            if (wait_s := mine - now()) > 0:
                await asyncio.sleep(wait_s)
            if self._turns.stands(mine):
                return

    def _learn(self) -> None:
        """Hold until the window resets where calls in flight may use it up."""
        budget = self._http.rate
        if budget is None or budget is self._seen:
            return
        self._seen = budget
        if budget.left <= self._in_flight and budget.reset_s > 0:
            now = asyncio.get_running_loop().time()
            self._turns.hold(now, budget.reset_s)
            self._telemetry.info("archive.rate_held", wait_s=self._turns.held_s(now))


def _wish_s(failure: TransportError) -> float | None:
    told = failure.fields.get("retry_after_s")
    return float(told) if isinstance(told, (int, float)) else None


def _closed(refused: AuthError) -> ProtocolError:
    return ProtocolError(
        "the platform does not let this client read the conversation",
        fix=f"Check the divisions of the client's roles. {refused.fix}".rstrip(),
        **refused.fields,
    )
