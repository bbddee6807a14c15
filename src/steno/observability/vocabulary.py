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
    "code": "a peer's own word for an error, dotted (`missing.permissions`)",
    "conversation": "the platform's conversation id",
    "conversations": "how many conversations",
    "correlation_id": "id of a call by which the peer's support finds it: the peer's, or ours",
    "count": "how many",
    "damaged": "recorded inputs that are broken or end in the middle",
    "destination": "name of a destination",
    "duration_s": "how long it lasted, seconds",
    "error": "class of an exception",
    "error_class": "class of an error of ours",
    "expires_in_s": "life of a token, seconds",
    "feed": "name of a live source",
    "file": "which of several recorded inputs, from 1",
    "frames": "frames read",
    "held_back": "quarantined messages that were not logged one by one",
    "host": "host name of a peer",
    "identifier": "name of a language identifier",
    "kind": "kind of record",
    "lag_s": "how late the event loop was, seconds",
    "language": "BCP 47 tag",
    "library": "a library's logger",
    "line": "line in a library's source, or in recorded input",
    "lost": "how many could not be recovered",
    "malformed": "messages that could not be read",
    "messages": "messages read",
    "missing_s": "audio that never came or was given up, seconds",
    "outcome": "what became of a transcript, a fixed word",
    "port": "port number",
    "previous_host": "host name before the change",
    "reason": "class of an error, as stored with a dead letter",
    "record_id": "id of a record of ours",
    "records": "how many records",
    "retry_s": "seconds until the next try",
    "scopes": "names of OAuth scopes",
    "sha256": "hash of a message whose content is gone",
    "size_bytes": "size of a message",
    "source": "name of a live source",
    "speech_s": "speech heard, seconds",
    "state": "a fixed word for a state",
    "status": "HTTP status",
    "taken": "port taken instead",
    "wait_s": "seconds waited",
}

EVENTS: Final[dict[str, str]] = {
    "archive.download_continued": "A download broke off and goes on from the same place.",
    "archive.link_renewed": "A download link had ended, or was refused; a fresh one is used.",
    "archive.not_archived": "A conversation's transcript is not where it was wanted; why is told.",
    "archive.rate_held": "Calls are held until the platform's rate window resets.",
    "archive.unconditional_store_met": (
        "The archive's store cannot refuse to create twice; objects are looked for, then put."
    ),
    "audit.checkpoint_failed": (
        "The audit log could not be sealed; its entries are there, the next checkpoint is tried."
    ),
    "audit.recovered": (
        "After a kill, an unfinished write at the audit log's end was put into a file of its own."
    ),
    "delivery.catch_up_failed": "Records that wait could not be read from the store; tried again.",
    "delivery.dead_lettered": "A record was refused for good or too often: a dead letter now.",
    "delivery.paused": "A destination is unavailable; everything for it waits.",
    "delivery.resumed": "A destination takes records again.",
    "delivery.settling_failed": "Outcomes could not be stored; records may be delivered again.",
    "diarisation.export_failed": "An export while running failed; the next one is tried.",
    "diarisation.exported": "An export was made while running.",
    "diarisation.reattributed": (
        "A conversation is over: its last roster gave stored segments another speaker."
    ),
    "diarisation.roster_failed": "A bug of ours met one roster; the others go on.",
    "diarisation.roster_unusable": "The platform described a conversation in an unknown way.",
    "diarisation.rosters_available": "The platform describes conversations again.",
    "diarisation.rosters_refused": (
        "The platform refuses to describe conversations: speakers are told by channel."
    ),
    "diarisation.rosters_unavailable": (
        "Conversations cannot be read from the platform: speakers are told by channel meanwhile."
    ),
    "diarisation.segments_unreadable": (
        "Stored segments could not be read, to put their speakers right; they stay as they are."
    ),
    "gateway.feeds_slow_to_close": "At the end, a feed did not close its sockets in time.",
    "gateway.started": "The gateway follows.",
    "gateway.stopped": "The gateway has ended; closing line with its totals.",
    "health.listening": "The health and metrics pages are served at this address.",
    "health.port_busy": "The wanted health port was taken by another program; the next was used.",
    "library.logged": "A library wrote a warning or an error; its words are withheld.",
    "live.channel_call_failed": (
        "A notification channel's REST call failed; tried again while its socket goes on."
    ),
    "live.channel_replaced": (
        "A notification channel or its socket was replaced before its end, without a gap."
    ),
    "live.channels_full": "A new conversation is not followed: every notification channel is full.",
    "live.connected": "A feed is connected.",
    "live.dial_failed": "A feed could not be connected; tried again.",
    "live.disconnected": "A feed lost its connection, or closed it; closing line with its totals.",
    "live.failed_over": "A feed changed to the other region.",
    "live.platform_unreachable": "No token could be had at the start; tried again.",
    "live.quarantined": "A message could not be decoded; its content is gone.",
    "live.refused": "A feed is refused for our credentials or permissions; tried again slowly.",
    "live.topics_refused": "The platform refused topics; the missing permissions are the cause.",
    "loop.stalled": "The event loop stood still for more than a second.",
    "media.call_ended": "A call is over; its totals. A warning: there was speech, but no words.",
    "media.call_failed": "A bug of ours met the end of a call; the others go on.",
    "media.call_resumed": "A caller came back after a lost connection: the call goes on.",
    "media.calls_slow_to_end": "At the end, calls did not close in time.",
    "media.certificate_replaced": "The TLS certificate was read again; new connections have it.",
    "media.certificate_unusable": "The TLS certificate's new files do not fit; the old one stays.",
    "media.handler_failed": "A bug of ours: one connection or upgrade failed, the others go on.",
    "media.identifier_failed": "The language identifier failed; it is left alone for a while.",
    "media.identifier_recovered": "The language identifier works again.",
    "media.language_not_identified": "Languages are not identified: calls carry the default tag.",
    "media.listening": "Call audio is taken at this address.",
    "media.probed": "Genesys has probed the AudioHook server; nothing is recorded.",
    "media.recording_behind": "The disk is too slow: audio is missing in recordings.",
    "media.recording_stopped": "Recordings ended before their calls; the calls go on.",
    "media.session_broken": "An AudioHook client broke a rule; its session is ended.",
    "media.signature_refused": "AudioHook upgrades are refused; the cause, now and then.",
    "media.token_check_failed": "The check call gave no verdict about a token: answered 503.",
    "media.token_keys_missing": "The issuer's keys could not be had; those at hand stay good.",
    "media.token_keys_read": "The issuer's keys were read.",
    "media.upgrade_refused": "Upgrades were refused, by cause; repeats are counted, not logged.",
    "platform.call_retried": "A call of the platform failed and is tried again.",
    "process.stray_error": "A thread or finaliser raised what nobody caught: a bug, report it.",
    "recorded.message_unreadable": "A recorded message could not be read; its content is gone.",
    "recorded.read": "Recorded events have been read; closing line with their totals.",
    "recordings.audio_failed": "A recording could not be fetched, read or recognised this time.",
    "recordings.audio_recognised": "A recording was fetched and recognised.",
    "recordings.job_ended": "A transcription job has ended; closing line with its totals.",
    "recordings.rate_held": "The transcription service limits our rate: every job waits.",
    "recordings.webhook_of_no_job": "A webhook was called for a job that is not listed any more.",
    "recordings.words_left_out": (
        "Words of a transcript could not be read, or redacted (`lost` turns), and were left out."
    ),
    "repair.failed": "Repair of live delivery cannot work now; tried again, live goes on.",
    "repair.not_repaired": "Something of a conversation is missing still; why is told.",
    "repair.postponed": "A conversation cannot be repaired yet; tried again later, if `retry_s`.",
    "repair.reconciled": (
        "A conversation was held against its transcript: segments (`count`), sentences filled in"
        " (`records`), and still missing (`lost`)."
    ),
    "sink.close_timed_out": "At the end, a destination did not take what was on its way in time.",
    "sink.credentials_refused": "A consumer refuses our token or certificate.",
    "sink.endpoint_disabled": "A webhook's endpoint is gone; it is left alone until a restart.",
    "sink.mode_found": "Which service a consumer offers.",
    "sink.protocol_broken": "A consumer broke the contract, as by acknowledging what was not sent.",
    "speech.available": "The speech service takes audio.",
    "speech.close_timed_out": "At the end, the speech service did not answer for all in time.",
    "speech.contract_found": "Which contract the speech service offers.",
    "speech.engine_failed": "The engine failed on a piece of audio; a gap, the rest goes on.",
    "speech.listening": "Speech-to-text is served at this address.",
    "speech.unavailable": "The speech service is away or refuses; audio is kept, tried again.",
    "spine.commit_failed": "The store took nothing; the same records are tried again.",
    "spine.fragment_failed": "A bug of ours: a fragment was lost, a gap says so, the rest goes on.",
    "spine.language_changed": "A conversation's language changed.",
    "spine.language_switch_failed": "The platform's model could not be switched; tried again.",
    "spine.language_switch_refused": "The write scope is missing: changes are only recorded.",
    "spine.windows_lost": "Journalled windows could not be read; a gap tells what is missing.",
    "spine.windows_restored": "Open windows of the process before were read back.",
    "store.opened": "The store is open: its records, those still to deliver, how it was left.",
    "store.retention_failed": "Old records could not be deleted; tried again in an hour.",
    "store.salvaged": "The store was damaged: what was readable was kept, the rest moved aside.",
    "token.cache_unusable": "The token cache cannot be used; tokens are fetched without it.",
    "token.obtained": "A token was obtained.",
    "token.primary_reused": "The backup region gives no token; the primary's is used there.",
    "token.refused": "The platform refused a token before its time; another is fetched.",
    "token.renewal_failed": "No new token could be had; an error when there is none to go on with.",
    "token.retried": "A request for a token failed and is tried again.",
    "token.scopes_excess": "The token may do more than is needed: take the scopes away.",
    "token.scopes_missing": "The token lacks scopes that an enabled feature needs.",
}


class Metric(NamedTuple):
    """One metric: its type, its labels (few values each) and what it tells."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str


METRICS: Final[dict[str, Metric]] = {
    "steno_archive_transcripts_total": Metric(
        "counter", ("outcome",), "Stored transcripts archived, known, missing or failed."
    ),
    "steno_reconciled_ratio": Metric(
        "gauge", (), "Share of the last reconciled conversation that is delivered, by now."
    ),
    "steno_reconciled_segments_total": Metric(
        "counter", ("outcome",), "Segments of stored transcripts: live, filled in, missing."
    ),
    "steno_media_window_seconds": Metric(
        "gauge", (), "How long audio is gathered into one message."
    ),
    "steno_media_unauthorised_total": Metric(
        "counter", ("reason",), "AudioHook upgrades refused, by cause."
    ),
    "steno_media_skipped_total": Metric(
        "counter", ("reason",), "Messages of the JSON form that were not used."
    ),
    "steno_media_results_dropped_total": Metric(
        "counter", (), "Entities that found no room on their way to Genesys."
    ),
    "steno_media_pauses_asked_total": Metric(
        "counter", ("wish",), "Pauses and resumptions asked of callers."
    ),
    "steno_media_language_unsupported_total": Metric(
        "counter", (), "Calls in a language that is not configured."
    ),
    "steno_media_drifts_total": Metric(
        "counter", (), "AudioHook clocks that came apart from ours."
    ),
    "steno_media_client_errors_total": Metric(
        "counter", (), "Errors that AudioHook clients told us of."
    ),
    "steno_media_audiohook_faults_total": Metric(
        "counter", (), "AudioHook sessions ended because the client broke a rule."
    ),
    "steno_media_calls": Metric("gauge", (), "Calls under way."),
    "steno_fragments_total": Metric("counter", (), "Fragments taken in."),
    "steno_sentences_total": Metric("counter", (), "Sentences finished."),
    "steno_segments_total": Metric("counter", (), "Speaker segments finished."),
    "steno_segments_reattributed_total": Metric(
        "counter", (), "Stored segments that got another speaker after their conversation's end."
    ),
    "steno_rosters_total": Metric(
        "counter", ("result",), "Rosters asked for, by what became of it."
    ),
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
    "steno_language_guesses_total": Metric(
        "counter", ("identifier",), "Answers of the language identifier."
    ),
    "steno_language_questions_dropped_total": Metric(
        "counter",
        ("identifier",),
        "Questions to the language identifier that were given up: too many, or it had failed.",
    ),
    "steno_source_to_stored_seconds": Metric(
        "histogram", (), "From reading the completing fragment to its record's fsync."
    ),
    "steno_delivery_source_to_acked_seconds": Metric(
        "histogram",
        ("destination",),
        "From reading the completing fragment to the consumer's acknowledgement.",
    ),
    "steno_delivery_committed_to_acked_seconds": Metric(
        "histogram",
        ("destination",),
        "From the commit of a record to the consumer's acknowledgement.",
    ),
    "steno_open_windows": Metric("gauge", (), "Windows not closed yet."),
    "steno_conversations": Metric("gauge", (), "Conversations held in memory."),
    "steno_commit_waiting_records": Metric(
        "gauge", (), "Commits handed to the store and not durable yet."
    ),
    "steno_feed_messages_total": Metric(
        "counter", ("source",), "Messages read from a live source."
    ),
    "steno_feed_ignored_total": Metric("counter", ("source",), "Messages of other kinds, ignored."),
    "steno_reconnects_total": Metric("counter", ("source",), "Connections lost and made again."),
    "steno_failovers_total": Metric(
        "counter", ("source",), "Changes to the other region, both ways."
    ),
    "steno_channel_rollovers_total": Metric(
        "counter", (), "Notification channels or sockets replaced before their end."
    ),
    "steno_pong_seconds": Metric("histogram", ("source",), "How long a pong took."),
    "steno_delivery_depth": Metric(
        "gauge", ("destination",), "Records a destination has not settled."
    ),
    "steno_delivery_oldest_age_seconds": Metric(
        "gauge", ("destination",), "Age of the oldest record that waits at a destination."
    ),
    "steno_delivery_in_flight": Metric(
        "gauge", ("destination",), "Batches handed over and not answered yet."
    ),
    "steno_delivery_acked_total": Metric("counter", ("destination",), "Records acknowledged."),
    "steno_delivery_retried_total": Metric(
        "counter", ("destination",), "Records to be tried again."
    ),
    "steno_delivery_dead_total": Metric(
        "counter", ("destination",), "Records that became dead letters."
    ),
    "steno_delivery_unwanted_total": Metric(
        "counter", ("destination",), "Records the consumer turned out not to carry."
    ),
    "steno_delivery_leases_lost_total": Metric(
        "counter", ("destination",), "Outcomes that came after their lease had ended."
    ),
    "steno_delivery_unavailable_total": Metric(
        "counter", ("destination",), "Deliveries that found the consumer unavailable."
    ),
    "steno_sink_protocol_errors_total": Metric(
        "counter", ("destination",), "Breaches of the contract by a consumer."
    ),
    "steno_media_connections": Metric("gauge", (), "WebSocket connections of call audio."),
    "steno_media_accepted_total": Metric("counter", (), "WebSocket connections accepted."),
    "steno_media_refused_total": Metric("counter", ("reason",), "Upgrades refused, by cause."),
    "steno_media_slow_readers_total": Metric(
        "counter", (), "Connections cut off because the peer did not read."
    ),
    "steno_media_protocol_errors_total": Metric(
        "counter", (), "Connections closed because the peer broke a rule of WebSocket."
    ),
    "steno_speech_streams": Metric("gauge", (), "Streams to the speech service."),
    "steno_speech_breaks_total": Metric(
        "counter", ("reason",), "Calls to the speech service that broke or were refused."
    ),
    "steno_speech_resent_chunks_total": Metric(
        "counter", (), "Chunks of audio sent again after a break."
    ),
    "steno_speech_repeats_total": Metric(
        "counter", (), "Answers of the speech service dropped as repeats."
    ),
    "steno_speech_shed_seconds_total": Metric(
        "counter", (), "Seconds of audio given up because the speech service was away too long."
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

_SUFFIX: Final = {"counter": "_total", "histogram": "_seconds", "gauge": ""}


def full_name(kind: str, name: str) -> str:
    """Return the name under which a metric is served: ``delivery_acked`` is short for
    ``steno_delivery_acked_total``.
    """
    prefixed = name if name.startswith("steno_") else f"steno_{name}"
    return prefixed if prefixed.endswith(_SUFFIX[kind]) else prefixed + _SUFFIX[kind]
