"""One lane's stream: bytes between its machine and its present call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from steno.adapters.speech.grpc_codec import (
    DOCUMENT_PATH,
    STENO_PATH,
    Codec,
    DocumentCodec,
    SequenceOverflow,
    StenoCodec,
)
from steno.adapters.speech.grpc_link import Call, Link
from steno.adapters.speech.grpc_service import Contract
from steno.errors import RemoteProtocolError
from steno.ports.speech import AudioChunk, SpeechListener, StreamSpec
from steno.wire import grpc_wire
from steno.wire.grpc_wire import CallEnded
from steno.wire.speech_stream import SAMPLE_BYTES, SpeechStreamMachine, State

if TYPE_CHECKING:
    from steno.adapters.speech.grpc_client import GrpcRecogniser


class GrpcSpeechStream:
    """One lane; made by ``GrpcRecogniser.open``. Implements ``steno.ports.speech.SpeechStream``.

    It is the handler of its own calls: ``on_message`` and ``on_end``.
    """

    __slots__ = (
        "_bytes_per_s",
        "_call",
        "_codec",
        "_flushes",
        "_link",
        "_listener",
        "_owner",
        "_repeats",
        "_resent",
        "_shed_bytes",
        "deadline",
        "is_dirty",
        "is_on_trial",
        "is_probe",
        "is_silent",
        "machine",
    )

    def __init__(self, owner: GrpcRecogniser, spec: StreamSpec, listener: SpeechListener) -> None:
        self._owner = owner
        self._listener = listener
        self.machine = SpeechStreamMachine(spec, limits=owner.settings.limits, budget=owner.budget)
        self._bytes_per_s = spec.rate_hz * SAMPLE_BYTES[spec.format]
        self._call: Call | None = None
        self._link: Link | None = None
        self._codec: Codec | None = None
        self._resent = self._repeats = self._shed_bytes = 0
        self._flushes = -1  # number of the flush before which a chunk was written through
        self.deadline: float | None = None
        self.is_dirty = False
        self.is_on_trial = False  # its call has not been answered yet
        self.is_silent = False  # the call outlived the wait without an answer
        self.is_probe = False  # the call was opened while the breaker was not closed

    @property
    def pressure(self) -> float:
        """Share of the buffer that waits, or of all streams' if that is more."""
        budget = self._owner.budget
        return max(self.machine.pressure, min(1.0, budget.waiting / budget.limit))

    @property
    def held_s(self) -> float:
        """Seconds of audio that are kept."""
        return self.machine.held_bytes / self._bytes_per_s

    def send(self, chunk: AudioChunk) -> None:
        """Take audio in; it leaves with the next flush."""
        owner = self._owner
        machine = self.machine
        # One chunk between two flushes is the rule, and nothing holds it up. More of them wait
        # for the flush, to be joined.
        is_written = False
        if self._flushes != owner.flushes and machine.may_write_through:
            is_written = self._write_through(chunk)
        if is_written:
            self._flushes = owner.flushes
            owner.wake()
        else:
            machine.push(chunk, now=owner.clock())
        if owner.budget.held > owner.budget.limit:
            owner.relieve()
        if not is_written and not self.is_dirty and machine.state is not State.OVER:
            owner.touch(self)

    def _write_through(self, chunk: AudioChunk) -> bool:
        link, call, codec = self._link, self._call, self._codec
        if link is None or call is None or codec is None or link.room(call) <= 0:
            return False
        try:
            link.send(call, codec.audio(chunk))
        except SequenceOverflow:
            return False  # the flush opens another call
        self.machine.wrote_through(chunk)
        return True

    def finish(self) -> None:
        """No audio follows."""
        self.machine.finish(now=self._owner.clock())
        if not self.is_dirty and self.machine.state is not State.OVER:
            self._owner.touch(self)
        self._owner.settle(self)

    def abort(self) -> None:
        """Let go at once."""
        self.machine.abort()
        self._owner.forget(self)

    def give_up(self, now: float) -> None:
        """Be over now, whatever is left."""
        self.machine.give_up(now=now)
        self._owner.settle(self)

    # --- for the owner -----------------------------------------------------------------------

    def begin(self, link: Link, contract: Contract, now: float) -> None:
        """Open a call on this link."""
        machine = self.machine
        is_document = contract == "transcription"
        self._codec = DocumentCodec(machine.spec) if is_document else StenoCodec(machine.spec)
        self._link = link
        path = DOCUMENT_PATH if is_document else STENO_PATH
        self._call = link.open(path, self._owner.metadata, self)
        opening = self._codec.opening(machine.resume_from)
        if opening:
            link.send(self._call, opening)
        machine.opened(now=now)

    def pump(self, now: float) -> None:
        """Write what there is and what the windows admit; the owner flushes the link."""
        link, call, codec, machine = self._link, self._call, self._codec, self.machine
        if link is not None and call is not None and codec is not None:
            while machine.has_audio:
                if link.room(call) <= 0:
                    machine.blocked(now=now)
                    self._owner.block(self)
                    break
                chunk = machine.next_audio()
                if chunk is None:
                    break
                try:
                    link.send(call, codec.audio(chunk))
                except SequenceOverflow:
                    self.drop_call()
                    self._owner.call_ended(self, CallEnded(grpc_wire.CANCELLED))
                    return
            else:
                if machine.wants_end:
                    machine.end_sent()
                    link.end(call)
        if machine.has_news or machine.needs_watch:
            self._owner.settle(self)

    def drop_call(self) -> None:
        """Reset the call, if there is one."""
        link, call = self._link, self._call
        self._link = self._call = self._codec = None
        if link is not None and call is not None:
            link.reset(call)
            self._owner.wake()

    def deliver(self) -> None:
        """Pass on what happened, and count."""
        machine, owner = self.machine, self._owner
        for event in machine.events():
            self._listener.on_speech(event)
        if machine.resent != self._resent:
            owner.count_resent(machine.resent - self._resent)
            self._resent = machine.resent
        if machine.repeats != self._repeats:
            owner.count_repeats(machine.repeats - self._repeats)
            self._repeats = machine.repeats
        if machine.shed_bytes != self._shed_bytes:
            owner.count_shed((machine.shed_bytes - self._shed_bytes) / self._bytes_per_s)
            self._shed_bytes = machine.shed_bytes

    # --- of the call -------------------------------------------------------------------------

    def on_message(self, message: bytes) -> None:
        """Take an answer."""
        if self._codec is None:
            return
        try:
            languages = self._codec.take(message, self.machine)
        except DecodeError as exc:
            raise RemoteProtocolError("an answer cannot be decoded") from exc
        if languages is not None:
            self._owner.told(languages)
        self._owner.settle(self)

    def on_end(self, ended: CallEnded) -> None:
        """The call is over."""
        self._link = self._call = self._codec = None
        self._owner.call_ended(self, ended)
