"""Signed HTTP requests with records in them (Standard Webhooks).

A record's request has the record's id as message id, whatever the attempt, so a receiver can
drop repeats by it. Redirects are not followed, proxies of the environment are not used, and the
address connected to is one that was checked.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from steno.adapters.sinks.encoding import to_json
from steno.adapters.sinks.posting import Poster, reason_of_status
from steno.adapters.ssrf import EgressRules
from steno.core.records import Kind, Record
from steno.core.secret import Secret
from steno.errors import IntegrityError, SinkUnavailable
from steno.ports import Ack, BatchShape, Outcome, Reject, Retry, Telemetry
from steno.wire.webhooks import signed_headers, signing_keys

ALL_KINDS: Final = frozenset(Kind)
MAX_BATCH_BYTES: Final = 1024 * 1024

_ACK: Final = Ack()

# Statuses that blame what was sent. All others blame the endpoint or our settings, and nothing
# sent later would fare better: those records wait.
_REFUSALS: Final = frozenset({400, 409, 413, 415, 422})


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """One endpoint.

    Attributes:
        url: https; plain http only to allow-listed addresses, or with ``allow_http``.
        secret: ``whsec_…``, several separated by spaces during a rotation.
        rules: Which addresses may be connected to.
        max_records: More than 1 sends ``{"records": […]}`` in place of one record.
        max_in_flight: Requests side by side, each of another conversation.
        deadline_s: Limit of a request, from resolving the name to the end of the answer.
    """

    url: str
    secret: Secret
    rules: EgressRules
    allow_http: bool = False
    max_records: int = 1
    max_in_flight: int = 8
    deadline_s: float = 10.0


class WebhookSink:
    """Posts records to one endpoint.

    Raises:
        ConfigError: URL or secret are not acceptable.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        telemetry: Telemetry,
        name: str = "webhook",
        kinds: frozenset[Kind] = ALL_KINDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._url = settings.rules.check_url(settings.url, allow_http=settings.allow_http)
        self._keys = signing_keys(settings.secret)
        self._settings = settings
        self._telemetry = telemetry
        self._name = name
        self._kinds = kinds
        self._clock = clock
        self._poster = Poster(
            settings.rules,
            max_in_flight=settings.max_in_flight,
            deadline_s=settings.deadline_s,
        )
        self._disabled = ""
        self._closed = False

    @property
    def name(self) -> str:
        """Destination name."""
        return self._name

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds posted."""
        return self._kinds

    @property
    def shape(self) -> BatchShape:
        """Records of one conversation, in order; conversations side by side."""
        return BatchShape(self._settings.max_records, True, self._settings.max_in_flight)

    @property
    def disabled_reason(self) -> str:
        """Why nothing is sent any more, after a 410; empty otherwise. A restart tries again."""
        return self._disabled

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Post the records; see ``ports.Sink``.

        Raises:
            SinkUnavailable: Fields ``cause`` (an error class), ``retry_after_s``, ``status``.
        """
        if self._closed or self._disabled:
            raise SinkUnavailable(cause=self._disabled or "SinkClosed")
        outcomes: list[Outcome] = [_ACK] * len(records)
        bodies: dict[int, bytes] = {}
        for place, record in enumerate(records):
            try:
                bodies[place] = to_json(record)
            except IntegrityError:
                outcomes[place] = Reject("IntegrityError")
        if await self._post_batch(records, bodies):
            return outcomes
        # Refused or too large as a whole: one by one, so that only the culprit suffers.
        is_any_sent = False
        for place, body in bodies.items():
            try:
                is_taken = await self._post(
                    records[place].id, _one(body, self._settings.max_records)
                )
            except SinkUnavailable as error:
                if not is_any_sent:
                    raise
                # What was accepted must not be sent again; nothing overtakes the rest.
                waiting = _retry(error)
                for later in bodies:
                    if later >= place:
                        outcomes[later] = waiting
                break
            is_any_sent = True
            if not is_taken:
                outcomes[place] = Reject("ConsumerRefused")
        return outcomes

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        await self._poster.close()

    async def _post_batch(self, records: Sequence[Record], bodies: dict[int, bytes]) -> bool:
        """Send all in one request, where that is wanted and possible; True when accepted."""
        if len(bodies) < 2 or sum(map(len, bodies.values())) > MAX_BATCH_BYTES:
            return False
        ids = "\n".join(records[place].id for place in bodies)
        message_id = "batch-" + hashlib.sha256(ids.encode()).hexdigest()[:32]
        return await self._post(message_id, b'{"records":[' + b",".join(bodies.values()) + b"]}")

    async def _post(self, message_id: str, body: bytes) -> bool:
        """Send one request; True: accepted, False: what it held is refused.

        Raises:
            SinkUnavailable: Neither; to be tried again.
        """
        headers = signed_headers(self._keys, message_id, int(self._clock()), body)
        answer = await self._poster.post(self._url, headers, body)
        if answer.is_success:
            return True
        if answer.status in _REFUSALS:
            return False
        if answer.status == 410:
            self._disabled = "EndpointGone"
            self._telemetry.error(
                "sink.endpoint_disabled", destination=self._name, status=answer.status
            )
        raise SinkUnavailable(
            cause=reason_of_status(answer.status),
            status=answer.status,
            retry_after_s=answer.retry_after_s,
        )


def _retry(error: SinkUnavailable) -> Retry:
    wait_s = error.fields.get("retry_after_s")
    return Retry(str(error.fields["cause"]), wait_s if isinstance(wait_s, float) else None)


def _one(body: bytes, max_records: int) -> bytes:
    """A receiver of batches gets batches always."""
    return body if max_records == 1 else b'{"records":[' + body + b"]}"
