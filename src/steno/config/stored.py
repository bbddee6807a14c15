"""Settings of what works on stored material: jobs of recordings, and stored transcripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from steno.config.base import ID_PATTERN, NO_SECRET, TAG_PATTERN, Section, doc
from steno.core.secret import Secret

RECORDING_PATTERN = ID_PATTERN.replace("^", "^(?:[A-Za-z0-9][A-Za-z0-9._:-]{0,127}/)?")
"""An id, or ``CONVERSATION/RECORDING``."""


class Transcribe(Section, frozen=True):
    """Transcription jobs of recordings."""

    recordings: Annotated[
        tuple[Annotated[str, Meta(pattern=RECORDING_PATTERN)], ...],
        doc("Recordings that `steno transcribe` is for when it is given none."),
    ] = ()
    engine: Annotated[
        Literal["service", "audio", "transcript"],
        doc(
            "Who transcribes: the platform's transcription `service`; our own recogniser, given "
            "the recording's `audio` (see `speech`); or nobody, as the platform has a finished "
            "`transcript`. The last two need the conversation of each recording."
        ),
    ] = "service"
    transcript_first: Annotated[
        bool,
        doc("Engine `audio`: take the platform's finished transcript where there is one."),
    ] = False
    transcript_wait_s: Annotated[
        float,
        doc(
            "Engine `transcript`: after the end of a recording, its transcript is waited for so "
            "long.",
            unit="s",
            ge=0,
        ),
    ] = 600.0
    audio_source: Annotated[
        Literal["batch", "media"],
        doc(
            "Engine `audio`: recordings come by `batch` download, in their own codec, or as "
            "`media` in `audio_format`."
        ),
    ] = "batch"
    audio_format: Annotated[
        Literal["WAV", "WAV_ULAW", "OGG_OPUS", "OGG_VORBIS", "MP3"],
        doc("Format that `media` are asked for in."),
    ] = "WAV"
    audio_rate_hz: Annotated[
        Literal[8000, 16000],
        doc("Samples a second that the recogniser is given.", unit="Hz"),
    ] = 8000
    audio_speakers: Annotated[
        tuple[Annotated[str, Meta(max_length=128)], ...],
        doc(
            "Names of a recording's channels or files, in their order. The platform does not "
            "promise which one is the customer. Empty: `channel_0`, `channel_1`."
        ),
    ] = ()
    audio_concurrency: Annotated[
        int, doc("Recordings that are fetched and recognised side by side.", ge=1, le=64)
    ] = 2
    audio_max_mb: Annotated[
        int, doc("Longest file that is fetched; a longer one fails its job.", unit="MB", ge=1)
    ] = 1024
    language: Annotated[
        str, doc("What is spoken, where the input does not say.", pattern=TAG_PATTERN)
    ] = "en-US"
    languages: Annotated[
        tuple[Annotated[str, Meta(pattern=TAG_PATTERN)], ...],
        doc("Languages the service takes beside en-US, en-GB, es-ES, fr-FR and de-DE."),
    ] = ()
    format: Annotated[
        Literal["text", "srt", "vtt", "json"],
        doc("Form of a transcript, where the input does not say."),
    ] = "text"
    webhook: Annotated[
        Secret, doc("Address that is told of each end, where the input does not say.")
    ] = NO_SECRET
    webhook_allow: Annotated[
        tuple[str, ...],
        doc(
            "Networks, addresses or host names that webhooks may lead to although they are not "
            "public. `localhost` is a name."
        ),
    ] = ()
    webhook_secret: Annotated[
        Secret,
        doc(
            "Secret that webhooks are signed with, `whsec_…`; during a rotation several, separated "
            "by spaces, the newest first. Without one, a secret is made and kept in "
            "`webhook.secret` in the state directory."
        ),
    ] = NO_SECRET
    audit_log: Annotated[
        Path | None,
        doc("File of the audit log; by default `transcription_audit.jsonl` in `state_dir`."),
    ] = None
    concurrency: Annotated[
        int, doc("Calls of the service side by side, of all jobs together.", ge=1, le=32)
    ] = 20
    per_minute: Annotated[
        float,
        doc(
            "Calls begun in a minute, of all jobs together. The platform allows a client 300.",
            gt=0,
            le=1_000_000,
        ),
    ] = 240.0
    preflight: Annotated[
        bool, doc("Ask for a recording before its job is submitted: one call more for each.")
    ] = False
    strict_words: Annotated[
        bool, doc("A word that cannot be read fails its job, instead of being left out.")
    ] = False
    poll_first_s: Annotated[
        float, doc("First wait between polls of a job; it grows.", unit="s", gt=0)
    ] = 5.0
    poll_max_s: Annotated[float, doc("Longest wait between polls.", unit="s", gt=0)] = 30.0
    retries: Annotated[
        int,
        doc("Failed calls in a row after which a job fails; more for long outages.", ge=0),
    ] = 5
    retry_first_s: Annotated[
        float, doc("First wait after a failed call; doubles with jitter.", unit="s", gt=0)
    ] = 2.0
    retry_max_s: Annotated[float, doc("Longest wait after a failed call.", unit="s", gt=0)] = 30.0
    deadline_s: Annotated[
        float,
        doc("From the first submission to the end of a job; pauses do not count.", unit="s", gt=0),
    ] = 21600.0
    settle_s: Annotated[
        float,
        doc(
            "After a submission without an answer, the service is asked for the job no sooner "
            "than this. A submission itself is given a little less.",
            unit="s",
            ge=1,
            le=600,
        ),
    ] = 45.0
    doubt: Annotated[
        Literal["look", "resubmit", "fail"],
        doc(
            "What to do when it is not known whether the service has a job: `look` for it there, "
            "`resubmit` it (only where the service tells repeats by `Idempotency-Key`), or "
            "`fail` it."
        ),
    ] = "look"
    unlookable: Annotated[
        Literal["resubmit", "fail"],
        doc("The same where the service has no list to look into."),
    ] = "fail"


class Archive(Section, frozen=True):
    """Stored transcripts: fetched, archived, summarised."""

    conversations: Annotated[
        tuple[Annotated[str, Meta(pattern=ID_PATTERN)], ...],
        doc("Conversations that `steno archive` is for when it is given none."),
    ] = ()
    url: Annotated[
        str,
        doc(
            "Where transcripts are archived: `s3://bucket/prefix`, `gs://…`, `az://…`, "
            "`file:///folder`, or a plain path. Credentials come from the provider's own variables."
        ),
    ] = "s3://genesys-transcript-archive"
    endpoint: Annotated[str, doc("Address of an S3-compatible service, with its scheme.")] = ""
    region: Annotated[str, doc("Region of the bucket, where its variables do not name it.")] = ""
    key: Annotated[
        str,
        doc(
            "Key of an archived transcript. `{conversation}` stands for the id, `{date}` for the "
            "UTC date of archiving, with `-`, `{communication}` for the platform's; where that is "
            "not in it, a communication is a level after the conversation."
        ),
    ] = "transcripts/{conversation}.json"
    redact: Annotated[bool, doc("Remove personal data from what is archived and listed.")] = False
    compress: Annotated[bool, doc("Archive with zstd; the key gets `.zst`.")] = False
    sample_rate: Annotated[
        int, doc("Samples per second that segments are aligned to.", ge=1, le=768_000)
    ] = 48_000
    concurrency: Annotated[int, doc("Conversations worked on side by side.", ge=1, le=32)] = 4
    per_minute: Annotated[
        float,
        doc("Calls to the platform begun in a minute. It allows a client 300.", gt=0, le=1_000_000),
    ] = 240.0
    poll_s: Annotated[
        float, doc("Wait before a transcript still in work is asked for again.", unit="s", gt=0)
    ] = 5.0
    poll_limit_s: Annotated[
        float, doc("Longest time a transcript may be in work.", unit="s", gt=0)
    ] = 600.0
    renewals: Annotated[
        int, doc("Fresh links asked for in one download, beyond those that brought data.", ge=0)
    ] = 5
    patience_s: Annotated[
        float,
        doc(
            "Longest time a call is tried again while the platform fails or limits.", unit="s", ge=0
        ),
    ] = 300.0
    missing_s: Annotated[
        float,
        doc(
            "How long to ask for a transcript that the platform does not know, of a conversation "
            "that ended long ago. After a recent one it is asked for anyway.",
            unit="s",
            ge=0,
        ),
    ] = 0.0
    per_recording: Annotated[
        bool, doc("Fetch a transcript for each recording of a leg, where the platform has them.")
    ] = False
    link_allow: Annotated[
        tuple[str, ...],
        doc("Networks or addresses that download links may lead to although they are not public."),
    ] = ()
    repair: Annotated[
        bool,
        doc(
            "Live delivery: fill in what gaps cost from stored transcripts, in the background. "
            "`steno repair` does it by hand."
        ),
    ] = False
    repair_after_s: Annotated[
        float,
        doc(
            "So long after a gap is closed, and after the last words of a conversation, it is "
            "repaired. The wait doubles while its transcript is not ready.",
            unit="s",
            gt=0,
        ),
    ] = 120.0
