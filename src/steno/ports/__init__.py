"""What the capabilities and the delivery need from the outside, one small protocol per need.

Adapters implement these; ``app`` joins the two. Nothing here names a library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from steno.core.records import Draft, Kind, Record
from steno.core.transcript import Fragment

# --- telemetry -------------------------------------------------------------------------------

FieldValue = str | int | float | bool | None
Add = Callable[[float], None]


class Telemetry(Protocol):
    """Logs and metrics. Fields outside the allow-list are refused (see ``observability``)."""

    def info(self, event: str, **fields: FieldValue) -> None:
        """Tell the story: a fixed dotted name in the past tense, e.g. ``live.connected``."""

    def warning(self, event: str, **fields: FieldValue) -> None:
        """Something to read tomorrow."""

    def error(self, event: str, **fields: FieldValue) -> None:
        """Something that wakes somebody."""

    def counter(self, name: str, **labels: str) -> Add:
        """Return a bound adder, to be made once and called on the hot path."""

    def histogram(self, name: str, **labels: str) -> Add:
        """Return a bound observer of seconds."""

    def gauge(self, name: str, **labels: str) -> Add:
        """Return a bound setter."""


# --- store -----------------------------------------------------------------------------------


class Commit(msgspec.Struct, frozen=True, gc=False):
    """What one transaction writes: finished records, and what became of open windows.

    ``windows`` maps a journal key (the conversation id) to its encrypted snapshot, or to None
    when nothing of it is open any more.
    """

    drafts: Sequence[Draft] = ()
    windows: Mapping[str, bytes | None] = {}


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The consumer has stored the record."""


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Not now. ``reason`` is an error class of ours; ``after_s`` the consumer's wish."""

    reason: str
    after_s: float | None = None


class Reject(msgspec.Struct, frozen=True, gc=False):
    """Never: the record becomes a dead letter. ``reason`` is an error class of ours."""

    reason: str


class Unwanted(msgspec.Struct, frozen=True, gc=False):
    """This consumer cannot carry the record's kind: kept, marked unwanted, never blocking."""


Outcome = Ack | Retry | Reject | Unwanted


class DeliveryState(StrEnum):
    """Life of a record for one destination (``delivery.outbox`` holds the legal moves)."""

    PENDING = "pending"
    LEASED = "leased"
    RETRY = "retry"
    ACKED = "acked"
    DEAD = "dead"
    UNWANTED = "unwanted"


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What to write down after a delivery attempt of one record at one destination."""

    record_id: str
    destination: str
    state: DeliveryState
    attempts: int
    reason: str = ""
    next_at_us: int = 0


class Pending(msgspec.Struct, frozen=True, gc=False):
    """A record that a destination has not settled yet, with its attempts so far."""

    record: Record
    attempts: int = 0
    next_at_us: int = 0


class RecordStore(Protocol):
    """The durable list of records and the journal of open windows. One writer."""

    def submit(self, commit: Commit) -> asyncio.Future[list[Record]]:
        """Queue a commit; the future resolves, in order of submission, once it is fsync'ed.

        The result holds a record for each draft that was new; a draft whose key and revision
        are stored already is dropped. Commits queued close together share one transaction.

        Raises (through the future):
            StorageError: Nothing of the commit was stored.
        """

    def settle(self, settlements: Sequence[Settlement]) -> asyncio.Future[None]:
        """Queue outcomes; they ride on the next transaction."""

    def on_committed(self, callback: Callable[[list[Record]], None]) -> None:
        """Call back on the loop with each transaction's new records, in commit order."""

    async def pending(self, destination: str, *, limit: int, after: int = 0) -> list[Pending]:
        """Return unsettled records of a destination, oldest first, from row ``after`` on."""

    async def windows(self) -> dict[str, bytes]:
        """Return the journalled open windows, encrypted."""

    @property
    def depth(self) -> int:
        """Commits queued and not yet durable."""


class TimelineEntry(msgspec.Struct, frozen=True, gc=False):
    """A conversation that has records on its timeline.

    Attributes:
        records: Number of records on the timeline (newest revisions only).
        first_at_us, last_at_us: Commit times of its oldest and newest record, UTC microseconds.
    """

    conversation: str
    records: int
    first_at_us: int
    last_at_us: int


class Timeline(Protocol):
    """Reads records by conversation and place. It blocks on the disk; use it off the loop."""

    def conversations(
        self, kind: Kind, *, since_us: int = 0, conversation: str | None = None
    ) -> Iterator[TimelineEntry]:
        """Yield the conversations with records of a kind, by name.

        Args:
            since_us: Only those with a record committed at or after it.
            conversation: Only this one.

        Raises:
            StorageError: Reading failed.
        """

    def read(self, conversation: str, kind: Kind) -> Iterator[Record]:
        """Yield a conversation's records of a kind by place, then by order of commit.

        In memory there is one page of them at a time.

        Raises:
            IntegrityError: A record is damaged.
            StorageError: Reading failed.
        """

    def latest(self, conversation: str, key: str) -> Record | None:
        """Return the newest revision of a key, or None.

        Quick (an indexed lookup), and safe to call on the loop.

        Raises:
            StorageError: Reading failed.
        """

    def knows(self, conversation: str) -> bool:
        """Tell whether any record of the conversation is stored; as quick as ``latest``."""


# --- sinks -----------------------------------------------------------------------------------


class BatchShape(msgspec.Struct, frozen=True, gc=False):
    """What one ``deliver`` call of a sink may hold, and how many may run side by side."""

    max_records: int
    one_conversation: bool
    max_in_flight: int


class Sink(Protocol):
    """Hands records to one consumer. It never knows which capability made them."""

    @property
    def name(self) -> str:
        """Destination name: in the store, logs and metric labels."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """Kinds it carries, fixed for the sink's life; others are ``unwanted`` for it.

        A sink whose peer turns out to carry less answers ``Unwanted`` for the rest.
        """

    @property
    def shape(self) -> BatchShape:
        """Current limits; may change when a connection finds out what the peer offers."""

    async def deliver(self, records: Sequence[Record]) -> list[Outcome]:
        """Hand over records in order; return one outcome for each, in the same order.

        Nothing overtakes: after a ``Retry`` the later records of the same conversation come
        back as ``Retry`` too. Only the first of them was tried and counts an attempt.

        Raises:
            SinkUnavailable: Nothing is known of any of them; all are tried again.
        """

    async def close(self) -> None:
        """Let go of connections, after what is in flight."""


# --- live sources ----------------------------------------------------------------------------


class Quarantined(msgspec.Struct, frozen=True, gc=False):
    """A message that could not be decoded. Its content is gone; these facts are kept."""

    source: str
    sha256: str
    size_bytes: int
    cause: str
    at_us: int


class FeedUp(msgspec.Struct, frozen=True, gc=False):
    """A source is connected (again). ``conversations`` is empty when it carries any."""

    feed: str
    host: str
    at_us: int
    conversations: tuple[str, ...] = ()


class FeedDown(msgspec.Struct, frozen=True, gc=False):
    """A source is cut off: from here until the next ``FeedUp`` of the feed is a gap.

    ``since_us`` is the last time at which the feed was known to be whole.
    """

    feed: str
    host: str
    cause: str  # "disconnect" | "failover"
    since_us: int
    at_us: int
    conversations: tuple[str, ...] = ()
    close_code: int = 0


class ConversationEnded(msgspec.Struct, frozen=True, gc=False):
    """The source says that a conversation (or one of its communications) is over."""

    conversation: str
    at_us: int
    communication: str = ""


class Missing(msgspec.Struct, frozen=True, gc=False):
    """Speech of one lane that will not come: an interval whose bounds are known.

    Attributes:
        cause: A ``GapCause``.
        from_samples, to_samples: The interval on the lane's stream clock, for audio.
        detail: A fixed word or a count.
    """

    conversation: str
    lane: str
    cause: str
    from_us: int
    to_us: int
    at_us: int
    from_samples: int = 0
    to_samples: int = 0
    detail: str = ""


class LanguageHeard(msgspec.Struct, frozen=True, gc=False):
    """A call's language was identified, or changed. ``evidence``: seconds of speech, or words."""

    conversation: str
    lane: str
    previous: str
    language: str
    confidence: float
    evidence: int
    at_us: int


FeedEvent = Fragment | Quarantined | FeedUp | FeedDown | ConversationEnded | Missing | LanguageHeard


class FeedTarget(Protocol):
    """Where a source puts what it reads. ``accept`` never awaits and never raises."""

    def accept(self, event: FeedEvent) -> bool:
        """Take an event in; False asks the source to await ``ready`` before the next one."""

    async def ready(self) -> None:
        """Return when there is room again."""


class LiveFeed(Protocol):
    """A source of live transcripts: runs until cancelled or closed, reconnecting by itself."""

    async def run(self, target: FeedTarget) -> None:
        """Follow until ``close``; reconnects, fails over and reports gaps as events.

        Raises:
            AuthError: The credentials are refused for good.
            ConfigError: A setting can never work.
        """

    async def close(self) -> None:
        """Close the sockets with 1000 and let ``run`` return."""


# --- sockets ---------------------------------------------------------------------------------


class DialRequest(msgspec.Struct, frozen=True, gc=False):
    """What a WebSocket client needs to know of a connection to be made.

    ``url`` carries a credential (a token in its query, or a channel id): it is handed to the
    peer and to nothing else, and ``repr`` leaves it out.
    """

    url: str
    host: str
    """Host name for logs and errors."""
    subprotocol: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float = 15.0
    """Limit of the whole way to an open connection: name, TCP, TLS, upgrade."""
    connect_timeout_s: float = 15.0
    """Limit of TCP alone; shorter when another host is at hand."""

    def __repr__(self) -> str:
        return f"DialRequest(host={self.host!r})"


class SocketEnd(msgspec.Struct, frozen=True, gc=False):
    """How a connection ended. ``code`` is the peer's close code, 1006 when there was none."""

    code: int
    asked: bool = False
    """We closed it."""


class SocketReceiver(Protocol):
    """Takes what a socket reads; called on the loop, in order, and must not raise."""

    def on_messages(self, messages: Sequence[bytes]) -> None:
        """Text messages that arrived together, UTF-8 not yet checked."""

    def on_binary(self, message: bytes) -> None:
        """A binary message."""

    def on_pong(self, payload: bytes) -> None:
        """The answer to a ping."""

    def on_closed(self, end: SocketEnd) -> None:
        """The connection is over; nothing follows."""


class ClientSocket(Protocol):
    """An open WebSocket connection. None of its methods raises for a connection that is over."""

    def send_text(self, text: str) -> None:
        """Send a text message."""

    def ping(self, payload: bytes) -> None:
        """Send a ping; ``on_pong`` gets the same payload."""

    def pause(self) -> None:
        """Stop reading: back-pressure reaches the peer through TCP."""

    def resume(self) -> None:
        """Start reading, or read on; may call the receiver before it returns."""

    async def close(self, code: int = 1000) -> None:
        """Close with the handshake, within the dialer's limit, then let go of the connection."""

    def abort(self) -> None:
        """Let go of the connection at once."""


class SocketDialer(Protocol):
    """Opens WebSocket connections."""

    async def dial(self, request: DialRequest, receiver: SocketReceiver) -> ClientSocket:
        """Connect and upgrade. Nothing is read before the first ``resume``.

        Raises:
            AuthError: 401 or 403 at the upgrade; ``fields["status"]`` says which.
            RateLimited: 429.
            PeerUnavailable: Any other answer than 101.
            ConnectFailed, TimedOut: No connection, or not in time.
            RemoteProtocolError: What answers is not a WebSocket server.
            ConfigError: The address or the proxy setting can never work.
        """


# --- platform --------------------------------------------------------------------------------


class TokenSource(Protocol):
    """Access tokens of one set of credentials at one host."""

    async def token(self, *, refused: str = "") -> str:
        """Return a token that is not within its early-refresh margin.

        Args:
            refused: A token the platform has just answered 401 to; it is not given again.

        Raises:
            AuthError: Credentials, scope or role are wrong; names what is missing.
            TransportError: No token could be had in time.
        """


class ModelSwitcher(Protocol):
    """Tells the platform in which language to transcribe a conversation."""

    async def switch(self, conversation: str, language: str) -> bool:
        """Switch; False where the platform has no such call.

        Raises:
            RateLimited, TransportError: Try again later.
            AuthError: The write scope is missing: never again with these credentials.
        """


# --- sealing ---------------------------------------------------------------------------------


class Sealer(Protocol):
    """Encrypts what must survive a kill but must not be readable on disk."""

    def seal(self, plain: bytes, *, context: str) -> bytes:
        """Encrypt; ``context`` (the journal key) is authenticated with it."""

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """Decrypt.

        Raises:
            IntegrityError: Wrong key or context, or damaged.
        """


# --- gaps ------------------------------------------------------------------------------------


class KnownGap(msgspec.Struct, frozen=True, gc=False):
    """A revision of a gap as it is stored; times are UTC microseconds.

    Attributes:
        key: The gap's; of its revisions the last one counts.
        conversation: Empty for the whole source.
        to_us: 0 while it is open.
        committed_us: When this revision was stored.
    """

    key: str
    conversation: str
    cause: str
    from_us: int
    to_us: int
    committed_us: int


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """What the store has of a conversation, as far as its repair goes.

    Attributes:
        sentences: Live ones, newest revisions, in the order of their first commit.
        backfilled: Those that an earlier repair has filled in.
        reconciled: The newest reconciliation.
        whole: Nothing of the conversation has been deleted: what is not here never came.
        last_us: When its last live sentence was stored, UTC microseconds; 0 without one.
        reconciled_us: When ``reconciled`` was stored.
    """

    sentences: Sequence[Record] = ()
    backfilled: Sequence[Record] = ()
    reconciled: Record | None = None
    whole: bool = True
    last_us: int = 0
    reconciled_us: int = 0


class DeliveryHistory(Protocol):
    """What live delivery has stored, for repair. It blocks on the disk; use it off the loop.

    Every call may raise ``StorageError``.
    """

    def gaps(self) -> Iterator[KnownGap]:
        """Yield every stored revision of every gap of live sources, in the order of commit."""

    def heard(self, from_us: int, to_us: int) -> list[str]:
        """Return the conversations of which sentences were stored in a time (UTC us)."""

    def delivered(self, conversation: str) -> Delivered:
        """Return what there is of a conversation."""


Conversations = Iterable[str]
