"""One ``steno.v1`` stream: numbered batches out, cumulative acknowledgements back.

A session lives as long as its stream. It never reconnects: when the stream ends, for whatever
reason, every batch that was not acknowledged fails with the same verdict, and the sink opens
the next session when the relay comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from steno._proto import steno_v1_pb2
from steno.adapters.grpc_status import (
    CLOSED,
    PROTOCOL_BROKEN,
    TIMED_OUT,
    Blame,
    Verdict,
    judge,
)
from steno.adapters.sinks.encoding import to_batch
from steno.core.records import Record
from steno.errors import IntegrityError, RemoteProtocolError
from steno.ports import Ack, Outcome, Reject, Retry, Unwanted

Call = grpc.aio.StreamStreamCall[bytes, bytes]

ACK: Final = Ack()
UNWANTED: Final = Unwanted()
OVERHEAD_BYTES: Final = 512  # of a record beside its payload, ids at their longest left out
MAX_RETRY_AFTER_S: Final = 3600.0


class StreamEnded(Exception):
    """The stream is over and nothing is known of the batch; ``verdict`` says why.

    Stays inside the sink, which answers with an error or an outcome of ours.
    """

    def __init__(self, verdict: Verdict, *, any_acked: bool) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict
        self.any_acked = any_acked


class _Delivery:
    """One ``deliver`` call: its outcomes so far, and the future its caller awaits."""

    __slots__ = ("all_sent", "done", "outcomes", "under_way")

    def __init__(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.outcomes: list[Outcome] = [ACK] * size
        self.done: asyncio.Future[None] = loop.create_future()
        self.under_way = 0  # batches
        self.all_sent = False

    def settle_if_complete(self) -> None:
        if self.all_sent and not self.under_way and not self.done.done():
            self.done.set_result(None)


class _Batch:
    """A batch on its way: which slice of which delivery it is."""

    __slots__ = ("delivery", "first", "size")

    def __init__(self, delivery: _Delivery, first: int, size: int) -> None:
        self.delivery = delivery
        self.first = first
        self.size = size


class StreamSession:
    """Delivers over one open stream. ``run`` must be running for acknowledgements to arrive.

    Args:
        call: A stream that has just been opened.
        ack_timeout_s: The stream is ended when batches are on their way and this long none was
            acknowledged: a half-open connection, or a consumer that hangs. One that is slow
            but moves keeps its stream.
        max_batch_bytes: Batches are cut to about this size; a larger record is refused.
    """

    def __init__(self, call: Call, *, ack_timeout_s: float, max_batch_bytes: int) -> None:
        self._call = call
        self._ack_timeout_s = ack_timeout_s
        self._max_batch_bytes = max_batch_bytes
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._sent = 0
        self._acked = 0
        self._batches: dict[int, _Batch] = {}
        self._verdict: Verdict | None = None
        self._moved_at = 0.0  # the loop's time: the last ack, or the first batch after a pause
        self._watch: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        """Nothing can be delivered any more."""
        return self._verdict is not None

    @property
    def any_acked(self) -> bool:
        """The peer has shown that it offers the service."""
        return self._acked > 0

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Send the records in order and return their outcomes once the last is acknowledged.

        Raises:
            StreamEnded: The stream broke first.
        """
        delivery = _Delivery(len(records), self._loop)
        try:
            # No timeout here: the watch over the whole stream ends every wait below.
            # Batches are numbered without holes, so one caller writes at a time.
            async with self._turn:
                await self._send(delivery, records)
                if not self.any_acked:
                    # Until the first ack nobody writes more: a write that meets the end of
                    # the stream would hide its status, which may be UNIMPLEMENTED.
                    await delivery.done
            await delivery.done
        finally:
            if delivery.done.done() and not delivery.done.cancelled():
                delivery.done.exception()  # known already when the write failed first
        return delivery.outcomes

    async def _send(self, delivery: _Delivery, records: Sequence[Record]) -> None:
        for first, end in self._slices(delivery, records):
            chunk = records[first:end]
            try:
                message = to_batch(self._sent + 1, chunk)
            except IntegrityError:
                # Some record cannot be encoded: it is refused, the others go one by one.
                for place, record in enumerate(chunk, first):
                    try:
                        message = to_batch(self._sent + 1, [record])
                    except IntegrityError:
                        delivery.outcomes[place] = Reject("IntegrityError")
                    else:
                        await self._write(message, _Batch(delivery, place, 1))
            else:
                await self._write(message, _Batch(delivery, first, end - first))
        delivery.all_sent = True
        delivery.settle_if_complete()

    def _slices(self, delivery: _Delivery, records: Sequence[Record]) -> Iterator[tuple[int, int]]:
        """Cut the records into runs of a bounded size, leaving out what is too large alone."""
        first = size = 0
        for index, record in enumerate(records):
            record_bytes = len(record.payload) + OVERHEAD_BYTES
            if record_bytes > self._max_batch_bytes:
                delivery.outcomes[index] = Reject("MessageTooLarge")
                if index > first:
                    yield first, index
                first, size = index + 1, 0
                continue
            if size and size + record_bytes > self._max_batch_bytes:
                yield first, index
                first, size = index, 0
            size += record_bytes
        if first < len(records):
            yield first, len(records)

    async def _write(self, message: bytes, batch: _Batch) -> None:
        if self._verdict is not None:
            raise self._ended()
        self._sent += 1
        if not self._batches:
            self._moved_at = self._loop.time()
        self._batches[self._sent] = batch
        batch.delivery.under_way += 1
        if self._watch is None:
            self._watch = self._loop.call_later(self._ack_timeout_s, self._on_watch)
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The stream has ended; its reader knows why in a moment and fails the delivery.
            return
        except asyncio.CancelledError:
            # Raised by grpc also when the *call* was cancelled (by ``abort``), not this task.
            if _is_cancelled():
                raise
            self._finish(CLOSED)
            raise self._ended() from None

    def _on_watch(self) -> None:
        self._watch = None
        if not self._batches:
            return
        left_s = self._moved_at + self._ack_timeout_s - self._loop.time()
        if left_s <= 0:
            self.abort(TIMED_OUT)
        else:
            self._watch = self._loop.call_later(left_s, self._on_watch)

    async def run(self) -> None:
        """Read acknowledgements until the stream ends; never raises but when cancelled."""
        try:
            while True:
                # Bytes, not messages: gRPC's own decoding would log an error and give None.
                ack = await self._call.read()
                if not isinstance(ack, bytes):
                    break
                self._on_ack(steno_v1_pb2.BatchAck.FromString(ack))
            self._finish(await self._end_of_stream())
        except grpc.aio.AioRpcError as error:
            self._finish(judge(error))
        except (RemoteProtocolError, DecodeError):
            self.abort(PROTOCOL_BROKEN)
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
        finally:
            self.abort(CLOSED)

    async def _end_of_stream(self) -> Verdict:
        code = await self._call.code()
        return Verdict(Blame.PEER, "StreamEnded", code=code.name)

    def _on_ack(self, ack: steno_v1_pb2.BatchAck) -> None:
        """Settle what an acknowledgement covers.

        Raises:
            RemoteProtocolError: It covers what was never sent, or takes an older one back.
        """
        for rejection in ack.rejections:
            batch = self._batches.get(rejection.batch)
            if batch is None or rejection.index >= batch.size:
                raise RemoteProtocolError("a rejection names no record in flight")
            batch.delivery.outcomes[batch.first + rejection.index] = _outcome(rejection)
        through = ack.acked_through
        if not self._acked <= through <= self._sent:
            raise RemoteProtocolError("an acknowledgement goes beyond what was sent")
        for number in range(self._acked + 1, through + 1):
            batch = self._batches.pop(number)
            batch.delivery.under_way -= 1
            batch.delivery.settle_if_complete()
        if through > self._acked:
            self._moved_at = self._loop.time()
        self._acked = through

    def abort(self, verdict: Verdict) -> None:
        """End the stream at once; what is in flight fails with ``verdict``."""
        self._finish(verdict)
        self._call.cancel()

    async def close(self) -> None:
        """Tell the peer that nothing more comes; ``run`` returns when it has ended too."""
        if not self.is_over:
            async with self._turn:
                await self._call.done_writing()

    def _finish(self, verdict: Verdict) -> None:
        if self._verdict is not None:
            return
        self._verdict = verdict
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for batch in self._batches.values():
            if not batch.delivery.done.done():
                batch.delivery.done.set_exception(self._ended())
        self._batches.clear()

    def _ended(self) -> StreamEnded:
        return StreamEnded(self._verdict or CLOSED, any_acked=self.any_acked)


def _outcome(rejection: steno_v1_pb2.Rejection) -> Outcome:
    """Translate; the peer's words stay outside, they may quote the record."""
    match rejection.verdict:
        case steno_v1_pb2.VERDICT_LATER:
            wait_s = min(rejection.retry_after_ms / 1000, MAX_RETRY_AFTER_S)
            return Retry("ConsumerBusy", wait_s or None)
        case steno_v1_pb2.VERDICT_UNWANTED:
            return UNWANTED
        case _:  # refused, and any verdict of a later contract that we cannot know
            return Reject("ConsumerRefused")


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
