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

from steno._proto import steno_v1_pb2
from steno.adapters.sinks.encoding import to_batch
from steno.adapters.sinks.grpc_status import (
    CLOSED,
    PROTOCOL_BROKEN,
    TIMED_OUT,
    Blame,
    Verdict,
    judge,
)
from steno.core.records import Record
from steno.errors import IntegrityError, RemoteProtocolError
from steno.ports import Ack, Outcome, Reject, Retry, Unwanted

Call = grpc.aio.StreamStreamCall[bytes, steno_v1_pb2.BatchAck]

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

    __slots__ = ("done", "outcomes")

    def __init__(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self.outcomes: list[Outcome] = [ACK] * size
        self.done: asyncio.Future[None] = loop.create_future()


class _Batch:
    """A batch on its way: which slice of which delivery it is."""

    __slots__ = ("delivery", "first", "is_last", "size")

    def __init__(self, delivery: _Delivery, first: int, size: int, *, is_last: bool) -> None:
        self.delivery = delivery
        self.first = first
        self.size = size
        self.is_last = is_last


class StreamSession:
    """Delivers over one open stream. ``run`` must be running for acknowledgements to arrive.

    Args:
        call: A stream that has just been opened.
        ack_timeout_s: A batch not acknowledged this long after its turn came ends the stream:
            the way to notice a half-open connection and a consumer that hangs.
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
            async with asyncio.timeout(self._ack_timeout_s):
                # Batches are numbered without holes, so one caller writes at a time.
                async with self._turn:
                    await self._send(delivery, records)
                    if not self.any_acked:
                        # Until the first ack nobody writes more: a write that meets the end of
                        # the stream would hide its status, which may be UNIMPLEMENTED.
                        await delivery.done
                await delivery.done
        except TimeoutError:
            self.abort(TIMED_OUT)
            raise self._ended() from None
        finally:
            if delivery.done.done() and not delivery.done.cancelled():
                delivery.done.exception()  # known already when the write failed first
        return delivery.outcomes

    async def _send(self, delivery: _Delivery, records: Sequence[Record]) -> None:
        slices = list(self._slices(delivery, records))
        if not slices and not delivery.done.done():
            delivery.done.set_result(None)
        for first, end in slices:
            if self._verdict is not None:
                raise self._ended()
            chunk = records[first:end]
            try:
                message = to_batch(self._sent + 1, chunk)
            except IntegrityError:
                message = self._only_encodable(delivery, first, chunk)
            self._sent += 1
            self._batches[self._sent] = _Batch(
                delivery, first, end - first, is_last=end == slices[-1][1]
            )
            await self._write(message)

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

    def _only_encodable(self, delivery: _Delivery, first: int, chunk: Sequence[Record]) -> bytes:
        """Encode a run in which some record cannot be; that one is refused.

        An empty record keeps its place, so that positions in the batch stay true.
        """
        batch = steno_v1_pb2.RecordBatch(batch=self._sent + 1)
        for index, record in enumerate(chunk):
            try:
                one = steno_v1_pb2.RecordBatch.FromString(to_batch(0, [record]))
            except IntegrityError:
                delivery.outcomes[first + index] = Reject("IntegrityError")
                batch.records.add()
            else:
                batch.records.append(one.records[0])
        return batch.SerializeToString()

    async def _write(self, message: bytes) -> None:
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

    async def run(self) -> None:
        """Read acknowledgements until the stream ends; never raises but when cancelled."""
        try:
            while True:
                ack = await self._call.read()
                if not isinstance(ack, steno_v1_pb2.BatchAck):
                    break
                self._on_ack(ack)
            self._finish(await self._end_of_stream())
        except grpc.aio.AioRpcError as error:
            self._finish(judge(error))
        except RemoteProtocolError:
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
            if batch.is_last and not batch.delivery.done.done():
                batch.delivery.done.set_result(None)
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
