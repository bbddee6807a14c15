"""The words logs and metrics may use: fields, events, metrics and their labels.

The reference pages are made from these tables, and a test holds every call in the source
against them, so nothing is logged or counted that is not documented here.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

# Ids, counts, durations, states and error classes. Never text, numbers, names, tokens or signed
# addresses. A field that is not here is dropped and counted.
FIELDS: Final[dict[str, str]] = {
    "action": "what was being done, a fixed word",
    "address": "a listening address of ours",
    "applied": "whether the platform was told",
    "attempts": "tries so far",
    "cause": "a fixed word for why",
    "close_code": "WebSocket close code",
    "component": "part of this program",
    "conversation": "the platform's conversation id",
    "count": "how many",
    "destination": "name of a destination",
    "error": "class of an exception",
    "error_class": "class of an error of ours",
    "feed": "name of a live source",
    "host": "host name of a peer",
    "kind": "kind of record",
    "lag_s": "how late the event loop was, seconds",
    "language": "BCP 47 tag",
    "library": "a library's logger",
    "line": "line in a library's source",
    "lost": "how many could not be recovered",
    "name": "a fixed name of ours",
    "port": "port number",
    "records": "how many records",
    "retry_s": "seconds until the next try",
    "state": "a fixed word for a state",
    "status": "HTTP status",
    "taken": "port taken instead",
    "wait_s": "seconds waited",
}

EVENTS: Final[dict[str, str]] = {
    "health.listening": "The health and metrics pages are served at this address.",
    "health.port_busy": "The wanted health port was taken by another program; the next was used.",
    "library.logged": "A library wrote a warning or an error; its words are withheld.",
    "loop.stalled": "The event loop stood still for more than a second.",
}


class Metric(NamedTuple):
    """One metric: its type, its labels (few values each) and what it tells."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str


METRICS: Final[dict[str, Metric]] = {
    "steno_fragments_total": Metric("counter", (), "Fragments taken in."),
    "steno_sentences_total": Metric("counter", (), "Sentences finished."),
    "steno_records_stored_total": Metric("counter", (), "Records committed to the store."),
    "steno_quarantined_total": Metric(
        "counter", (), "Messages that could not be decoded; their content is gone."
    ),
    "steno_redaction_withheld_total": Metric(
        "counter", (), "Sentences withheld because redaction failed."
    ),
    "steno_redactions_total": Metric("counter", ("entity",), "Spans removed, by entity."),
    "steno_language_switches_total": Metric(
        "counter", (), "Changes of the language of a conversation."
    ),
    "steno_source_to_stored_seconds": Metric(
        "histogram", (), "From reading the completing fragment to its record's fsync."
    ),
    "steno_open_windows": Metric("gauge", (), "Windows not closed yet."),
    "steno_conversations": Metric("gauge", (), "Conversations held in memory."),
    "steno_commit_waiting_records": Metric(
        "gauge", (), "Commits handed to the store and not durable yet."
    ),
    "steno_loop_lag_seconds": Metric(
        "gauge", (), "How late the event loop was at its last look; above 1 it is starved."
    ),
    "steno_telemetry_refused_total": Metric(
        "counter", (), "Log fields dropped because they are not on the allow-list; a bug of ours."
    ),
}

BUCKETS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Histogram bounds from 1 ms to 60 s."""
