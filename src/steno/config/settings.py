"""Every setting with its unit, default and reason; the reference page is made from here.

The description of a field is its documentation: ``docs/reference/settings.md`` is generated
from it and ``make check`` compares the two. Defaults that a tutorial fixes (5 s window, 0.85
language threshold, 30 s ping with 15 s pong limit) are the documents' own.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, field

from steno.config.base import (
    ID_PATTERN,
    NO_SECRET,
    TAG_PATTERN,
    Section,
    doc,
)
from steno.config.destinations import AnyDestination
from steno.config.stored import Archive, Transcribe
from steno.core.secret import Secret


class Family(StrEnum):
    """Which wire family the platform speaks."""

    TUTORIAL = "tutorial"
    GENESYS_CLOUD = "genesys-cloud"


class OAuthShape(StrEnum):
    """How a token is asked for."""

    QUERY = "query"
    FORM = "form"
    BASIC = "basic"


class Source(StrEnum):
    """Where live transcripts come from."""

    TRANSCRIPT_STREAM = "transcript-stream"
    NOTIFICATIONS = "notifications"


class SegmentSource(StrEnum):
    """Where speaker segments come from."""

    EVENT_SOCKET = "event-socket"
    NOTIFICATIONS = "notifications"


class Platform(Section, frozen=True):
    """The organisation to listen to, and who we are there."""

    family: Annotated[
        Family,
        doc(
            "`tutorial` (one host, transcript stream) or `genesys-cloud` (the real platform: "
            "`api.` and `login.` hosts of a region). Taken from `live.source` or "
            "`transcribe.engine` when not given."
        ),
    ] = Family.TUTORIAL
    host: Annotated[
        str,
        doc(
            "Platform host: `name`, `name:port`, `https://…`, or plain `http://…`/`ws://…` for "
            "loopback only (where a bare name is plain too). Wins over `environment`."
        ),
    ] = ""
    backup_host: Annotated[
        str, doc("Host of the backup region, tried when the primary fails; same forms as `host`.")
    ] = ""
    environment: Annotated[
        str,
        doc(
            "Tutorial family: the API host as it stands. Real platform: the region's domain, such "
            "as `mypurecloud.ie` (a leading `api.` is removed), or its AWS name, `eu-west-1`."
        ),
    ] = "api.mypurecloud.com"
    client_id: Annotated[str, doc("OAuth client id.")] = ""
    client_secret: Annotated[Secret, doc("OAuth client secret.")] = NO_SECRET
    private_key: Annotated[
        Secret,
        doc("PEM private key that signs a client assertion (RFC 7523) in place of the secret."),
    ] = NO_SECRET
    jwt_config: Annotated[
        Secret,
        doc("A ready client assertion (JWT), or the JSON that says how to make one."),
    ] = NO_SECRET
    oauth_shape: Annotated[
        OAuthShape | None,
        doc(
            "`query`: Basic and `?grant_type=client_credentials` at `/api/v2/oauth/token`; `form`: "
            "all in the form at `/oauth/token`; `basic`: Basic at `login.{domain}/oauth/token`. "
            "Follows the family when not given: `query`, or `basic` on the real platform."
        ),
    ] = None
    scope: Annotated[
        str, doc("Scopes asked for, separated by spaces; empty asks for what the client has.")
    ] = ""
    token_margin_s: Annotated[
        float,
        doc(
            "A token is renewed this long before it expires, or at 20 % of a short life; long "
            "enough for a slow OAuth service to come back.",
            unit="s",
            ge=0,
        ),
    ] = 300.0
    request_timeout_s: Annotated[
        float, doc("Limit of one HTTP request to the platform.", unit="s", gt=0)
    ] = 10.0
    proxy: Annotated[str, doc("HTTP proxy for the platform, `http://host:port`.")] = ""
    ca_file: Annotated[
        Path | None, doc("PEM bundle trusted besides the system's, for an inspecting proxy.")
    ] = None


class Live(Section, frozen=True):
    """Following live transcripts."""

    source: Annotated[
        Source,
        doc(
            "`transcript-stream` or `notifications`. Follows the family when not given: the real "
            "platform has notifications only."
        ),
    ] = Source.TRANSCRIPT_STREAM
    conversations: Annotated[
        tuple[Annotated[str, Meta(pattern=ID_PATTERN)], ...],
        doc("Conversations to follow; empty follows what the source offers."),
    ] = ()
    queues: Annotated[
        tuple[Annotated[str, Meta(pattern=ID_PATTERN)], ...],
        doc("Notifications: follow every conversation of these queues."),
    ] = ()
    users: Annotated[
        tuple[Annotated[str, Meta(pattern=ID_PATTERN)], ...],
        doc("Notifications: follow every conversation of these users."),
    ] = ()
    sockets: Annotated[
        int,
        doc(
            "Transcript stream: sockets opened side by side; the conversations are spread over "
            "them. More than one when a single socket's loss must not touch every conversation.",
            ge=1,
            le=64,
        ),
    ] = 1
    window_s: Annotated[
        float,
        doc(
            "A sentence without an end is closed this long after its first fragment, by its own "
            "timer. Longer joins more, shorter delivers sooner.",
            unit="s",
            gt=0,
            le=300,
        ),
    ] = 5.0
    ping_interval_s: Annotated[
        float, doc("A ping is sent this often; a silent peer is found by it.", unit="s", gt=0)
    ] = 30.0
    pong_timeout_s: Annotated[
        float, doc("A pong later than this means failover.", unit="s", gt=0)
    ] = 15.0
    handshake_timeout_s: Annotated[
        float, doc("Limit of connecting and upgrading a socket.", unit="s", gt=0)
    ] = 15.0
    backoff_first_s: Annotated[
        float, doc("First wait before a reconnect; doubles with jitter.", unit="s", gt=0)
    ] = 1.0
    backoff_max_s: Annotated[float, doc("Longest wait between reconnects.", unit="s", gt=0)] = 30.0
    tries_before_failover: Annotated[
        int, doc("Failed tries at one host before the other is tried.", ge=1, le=10)
    ] = 2
    failback_after_s: Annotated[
        float,
        doc(
            "The primary must have been healthy for this long before we return to it, so that a "
            "flapping region does not make us thrash.",
            unit="s",
            gt=0,
        ),
    ] = 60.0
    max_message_bytes: Annotated[
        int, doc("A larger message closes the socket with 1009.", unit="bytes", ge=1024)
    ] = 1_048_576


class Diarisation(Section, frozen=True):
    """Collecting who said what, when. Sockets have the limits of `live`."""

    source: Annotated[
        SegmentSource,
        doc(
            "`event-socket` (the tutorial's `/api/v2/websocket`) or `notifications`. Follows the "
            "family when not given: the real platform has notifications only."
        ),
    ] = SegmentSource.EVENT_SOCKET
    conversations: Annotated[
        tuple[Annotated[str, Meta(pattern=ID_PATTERN)], ...],
        doc("Conversations to collect; empty collects what the source offers."),
    ] = ()
    queues: Annotated[
        tuple[Annotated[str, Meta(pattern=ID_PATTERN)], ...],
        doc("Notifications: collect every conversation of these queues."),
    ] = ()
    users: Annotated[
        tuple[Annotated[str, Meta(pattern=ID_PATTERN)], ...],
        doc("Notifications: collect every conversation of these users."),
    ] = ()
    path: Annotated[
        str, doc("Event socket: its path at the host.", pattern=r"^/[A-Za-z0-9._~/-]*$")
    ] = "/api/v2/websocket"
    subscribe: Annotated[
        bool,
        doc("Event socket: send a subscription after connecting; off where events come unasked."),
    ] = True
    events: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")], ...],
        doc("Event socket: event types asked for and taken."),
    ] = ("conversation.transcription.update",)
    min_confidence: Annotated[
        float,
        doc("Exports and reports leave out segments below this confidence.", ge=0, le=1),
    ] = 0.85
    audit_confidence: Annotated[
        float,
        doc(
            "A final segment below this confidence, or without a speaker, never enters the "
            "result; it goes to the audit stream (`segment_audit` records).",
            ge=0,
            le=1,
        ),
    ] = 0.5
    settle_s: Annotated[
        float,
        doc(
            "A segment waits so long for repeats, corrections and neighbours that come out of "
            "order, before it is redacted with them and stored as a record.",
            unit="s",
            ge=0,
            le=60,
        ),
    ] = 2.0
    horizon_s: Annotated[
        float,
        doc(
            "Recorded events: by how much of the conversation's own time they may be out of order.",
            unit="s",
            gt=0,
            le=3600,
        ),
    ] = 60.0
    keep_days: Annotated[
        float,
        doc(
            "Segments of a conversation (and their audit) are kept for export this long after its "
            "last one, then erased, unless one still waits for a destination. Their retention is "
            "not `store.acked_days`.",
            unit="days",
            ge=0,
        ),
    ] = 30.0
    names: Annotated[
        bool,
        doc(
            "Notifications: fetch each conversation's participants and put names and user ids "
            "into its segments. Off: fetched all the same, to tell agents apart, but not kept."
        ),
    ] = True
    roster_s: Annotated[
        float,
        doc(
            "Notifications: participants are fetched again at the soonest after this while "
            "agents speak (sooner while only prompts do), and once at the end.",
            unit="s",
            ge=5,
        ),
    ] = 60.0
    backoff_first_s: Annotated[
        float,
        doc(
            "Event socket: first wait before a reconnect; doubles, and once more on 429.",
            unit="s",
            gt=0,
        ),
    ] = 2.0
    backoff_max_s: Annotated[
        float, doc("Event socket: longest wait between reconnects.", unit="s", gt=0)
    ] = 30.0
    jitter_s: Annotated[
        float, doc("Event socket: up to this is added to each wait by chance.", unit="s", ge=0)
    ] = 0.5
    out: Annotated[
        str,
        doc(
            "`steno run`: where the export goes: a file, `-`, or an object store's address "
            "(`s3://bucket/key`, `gs://`, `az://`, `file:///`). `{conversation}` in it makes one "
            "export of each. Empty: none."
        ),
    ] = ""
    format: Annotated[
        Literal["json", "jsonl", "csv", "parquet", "rttm", "srt", "vtt"] | None,
        doc("Format of the export; by the ending of `out` when not given, else `json`."),
    ] = None
    follow: Annotated[
        bool,
        doc(
            "Export while running: JSON lines, CSV and VTT are appended to, the others replaced "
            "whole at an interval."
        ),
    ] = False
    interval_s: Annotated[
        float,
        doc("`follow`: how often an export is replaced whole.", unit="s", ge=1),
    ] = 30.0


class Media(Section, frozen=True):
    """Serving call audio: AudioHook and the JSON form on one port."""

    listen: Annotated[
        str,
        doc(
            "Address of `/audiohook` and `/media-api`. Beyond loopback it needs TLS, or a proxy "
            "that does TLS (`behind_proxy`)."
        ),
    ] = "127.0.0.1:8080"
    tls_cert: Annotated[Path | None, doc("PEM certificate chain; read again when replaced.")] = None
    tls_key: Annotated[Path | None, doc("Its private key; readable by us alone.")] = None
    behind_proxy: Annotated[
        tuple[str, ...],
        doc(
            "Addresses or networks of proxies that do TLS for us; only from them are "
            "`X-Forwarded-For` and `X-Forwarded-Proto` believed."
        ),
    ] = ()
    public_authority: Annotated[
        str,
        doc(
            "`host[:port]` as the caller dials it, when a proxy changes the Host header: "
            "AudioHook signatures are made over it."
        ),
    ] = ""
    audiohook_path: Annotated[
        str, doc("Path of the AudioHook server.", pattern=r"^/[A-Za-z0-9._~/-]*$")
    ] = "/audiohook"
    json_path: Annotated[str, doc("Path of the JSON form.", pattern=r"^/[A-Za-z0-9._~/-]*$")] = (
        "/media-api"
    )
    audiohook_keys: Annotated[
        Secret,
        doc(
            "JSON object of AudioHook API key to its client secret (base64). An empty secret "
            "allows unsigned requests with that key."
        ),
    ] = NO_SECRET
    audiohook_public_path: Annotated[
        str,
        doc("Path as the caller dials it, when a proxy changes it: signatures are made over it."),
    ] = ""
    organisations: Annotated[
        tuple[str, ...], doc("Organisation ids that may connect by AudioHook; empty: any.")
    ] = ()
    signature_age_s: Annotated[
        float, doc("A signature older than this is refused.", unit="s", gt=0, le=300)
    ] = 10.0
    signature_skew_s: Annotated[
        float, doc("By how much the caller's clock may differ from ours.", unit="s", ge=0, le=60)
    ] = 3.0
    bearer_tokens: Annotated[
        Secret,
        doc(
            "Tokens that open the JSON form, separated by commas or spaces; several while one "
            "is being replaced."
        ),
    ] = NO_SECRET
    bearer_jwks_url: Annotated[
        str, doc("JWKS address: bearer tokens are JWTs, verified with its keys.")
    ] = ""
    bearer_issuer: Annotated[str, doc("`iss` that a JWT must have; empty: not looked at.")] = ""
    bearer_audience: Annotated[str, doc("`aud` that a JWT must have; empty: not looked at.")] = ""
    bearer_scope: Annotated[
        str, doc("Scope that a JWT, or the check call's answer, must grant; empty: none.")
    ] = "media:websocket:read"
    bearer_check_url: Annotated[
        str,
        doc(
            "Address called with the bearer token: 200 means it is good (the platform's own "
            "token; answers are kept for a minute)."
        ),
    ] = ""
    origins: Annotated[
        tuple[str, ...],
        doc(
            "Origins that may open the JSON form, `*.genesys.cloud` for any host of a domain; "
            "empty: not looked at. A request without the header passes."
        ),
    ] = ()
    max_calls: Annotated[
        int, doc("Calls at once; more are refused with 503.", ge=1, le=100_000)
    ] = 2000
    max_calls_per_peer: Annotated[
        int, doc("Connections of one address at once; 0: no limit of its own.", ge=0)
    ] = 0
    idle_s: Annotated[
        float,
        doc(
            "JSON form: a call that sends nothing for so long is closed; after `reconnect_s` a gap "
            "is recorded.",
            unit="s",
            gt=0,
        ),
    ] = 60.0
    ping_interval_s: Annotated[
        float, doc("JSON form: a WebSocket ping is sent this often.", unit="s", gt=0)
    ] = 20.0
    reconnect_s: Annotated[
        float,
        doc(
            "After an unexpected end, a call's state is kept for so long for the caller to "
            "come back.",
            unit="s",
            ge=0,
        ),
    ] = 30.0
    coalesce_ms: Annotated[
        float,
        doc("Audio is gathered for so long into one message.", unit="ms", ge=20, le=1000),
    ] = 100.0
    coalesce_max_ms: Annotated[
        float,
        doc(
            "So long when the machine is busy: fewer, larger messages cost less.",
            unit="ms",
            ge=20,
            le=2000,
        ),
    ] = 200.0
    replay_s: Annotated[
        float,
        doc(
            "Audio of one stream that is kept until the speech service has answered for it; "
            "older is given up, and a gap recorded.",
            unit="s",
            gt=0,
        ),
    ] = 30.0
    replay_mb: Annotated[int, doc("Limit of all kept audio together.", unit="MB", ge=1)] = 512
    shutdown_s: Annotated[
        float,
        doc(
            "After the end of a call, and of the process, results are waited for so long.",
            unit="s",
            ge=0,
            le=300,
        ),
    ] = 30.0
    entities: Annotated[
        bool,
        doc("AudioHook: give the redacted transcript back to Genesys as `transcript` entities."),
    ] = True
    partials: Annotated[
        bool,
        doc(
            "AudioHook: give partial transcripts back as well, at most two a second. One that may "
            "hold a secret, or the beginning of one, is held back."
        ),
    ] = False
    recordings: Annotated[
        Path | None,
        doc(
            "Folder for WAV recordings of the calls; nothing of a paused interval is written. "
            "Recordings are not redacted: leave it empty unless you need them."
        ),
    ] = None
    languages: Annotated[
        tuple[Annotated[str, Meta(pattern=TAG_PATTERN)], ...],
        doc(
            "Languages that calls may be in (BCP 47): what is told to Genesys, and what an "
            "identifier's bare `en` is mapped to. The first of them is the default."
        ),
    ] = ("en-US", "es-ES", "fr-FR")
    identifier: Annotated[
        Literal["declared", "text", "whisper", "none"],
        doc(
            "How the language is identified: `declared` believes the platform, `text` looks at "
            "the recognised words (extra `lingua`), `whisper` listens (extra `whisper`), `none` "
            "takes the default for every call."
        ),
    ] = "declared"
    identifier_model: Annotated[
        str, doc("`whisper`: the model, a folder, or a name that is downloaded once.")
    ] = ""
    identifier_confidence: Annotated[
        float, doc("An identified language counts from this confidence on.", gt=0, le=1)
    ] = 0.8
    voice_activity: Annotated[
        Literal["webrtc", "silero"], doc("How speech is told from the rest.")
    ] = "webrtc"
    silero_model: Annotated[
        Path | None, doc('The silero model\'s ONNX file, for `voice_activity = "silero"`.')
    ] = None


class Speech(Section, frozen=True):
    """The recogniser: a speech-to-text service over gRPC, or an engine in this process."""

    address: Annotated[str, doc("Speech service, `host:port` (`TRANSCRIPTION_GRPC_ADDR`).")] = ""
    service: Annotated[
        Literal["auto", "steno.v1", "transcription"],
        doc("Contract to speak; `auto` tries `steno.v1` first."),
    ] = "auto"
    tls: Annotated[
        Literal["auto", "on", "off"],
        doc("`auto`: TLS except on loopback. `off` beyond loopback is refused."),
    ] = "auto"
    ca_file: Annotated[Path | None, doc("PEM bundle that signs the service's certificate.")] = None
    cert_file: Annotated[Path | None, doc("Our certificate, for mutual TLS.")] = None
    key_file: Annotated[Path | None, doc("Its private key; readable by us alone.")] = None
    server_name: Annotated[
        str, doc("Name expected in the service's certificate, if not its host.")
    ] = ""
    token: Annotated[Secret, doc("Bearer token sent with each stream; only over TLS.")] = NO_SECRET
    engine: Annotated[
        Literal["", "none", "pocketsphinx", "whisper", "sherpa", "vosk"],
        doc(
            "Recogniser in this process, in place of a service. `none`: no recognition, only "
            "protocol, gaps and recording."
        ),
    ] = ""
    model: Annotated[
        str,
        doc("The engine's model: a folder or file; for `whisper` also a name, downloaded once."),
    ] = ""
    grammar: Annotated[
        str,
        doc(
            "`pocketsphinx`: what may be said: the file of a JSGF grammar or a language model, or "
            "a grammar of its own, `digits` or `orders`. Empty: free English, poorly recognised."
        ),
    ] = ""
    workers: Annotated[
        int, doc("Streams recognised side by side; 0: the number of processors.", ge=0, le=256)
    ] = 0
    max_streams: Annotated[
        int, doc("Streams at once in `steno stt`; more get RESOURCE_EXHAUSTED.", ge=1)
    ] = 200


class Language(Section, frozen=True):
    """Watching the spoken language, and telling the platform when it changes."""

    initial: Annotated[
        str, doc("Language a conversation starts in (BCP 47).", pattern=TAG_PATTERN)
    ] = "en-US"
    switch: Annotated[bool, doc("Switch the platform's model; off only records the change.")] = True
    threshold: Annotated[
        float, doc("Share of recent confidence the other language must hold.", gt=0, le=1)
    ] = 0.85
    min_evidence: Annotated[
        int, doc("Fragments in the other language before a switch is considered.", ge=1)
    ] = 3
    cooldown_s: Annotated[
        float, doc("No second switch of a conversation sooner than this.", unit="s", ge=0)
    ] = 30.0


class MaskStyle(StrEnum):
    """How a removed span looks."""

    REDACTED = "redacted"
    LABEL = "label"


class Redaction(Section, frozen=True):
    """Removing personal data; it cannot be turned off."""

    mask: Annotated[
        MaskStyle, doc("`redacted` writes `[REDACTED]`, `label` writes `[PHONE]` and the like.")
    ] = MaskStyle.REDACTED
    languages: Annotated[
        tuple[Annotated[str, Meta(pattern=TAG_PATTERN)], ...],
        doc("Languages whose spoken numbers and phrases are recognised."),
    ] = ("en", "es", "fr", "de")
    hold_s: Annotated[
        float,
        doc(
            "A sentence that may be the beginning of a number is held back no longer than this, "
            "so that a number spoken across two sentences is caught.",
            unit="s",
            gt=0,
            le=60,
        ),
    ] = 5.0
    default_region: Annotated[
        str,
        doc("Region of phone numbers without a country code (ISO 3166).", pattern=r"^[A-Z]{2}$"),
    ] = "US"


class Delivery(Section, frozen=True):
    """Where finished records go."""

    destinations: Annotated[
        tuple[AnyDestination, ...],
        doc(
            "Array of tables `[[delivery.destinations]]`, each with a `type`. None at all: "
            "`steno live` writes JSON lines to standard output."
        ),
    ] = ()
    drain_s: Annotated[
        float,
        doc(
            "Short commands deliver for at most this long before they end; the rest waits in the "
            "store.",
            unit="s",
            ge=0,
        ),
    ] = 30.0


class Store(Section, frozen=True):
    """The database of records in the state directory."""

    group_commit_ms: Annotated[
        float,
        doc(
            "Records that finish within this time share one fsync; more saves CPU and adds "
            "latency.",
            unit="ms",
            ge=0,
            le=1000,
        ),
    ] = 10.0
    acked_days: Annotated[
        float, doc("Delivered records are kept this long, then erased.", unit="days", ge=0)
    ] = 7.0
    dead_days: Annotated[
        float, doc("Dead letters are kept this long, then erased.", unit="days", ge=0)
    ] = 30.0
    ballast_mb: Annotated[
        int,
        doc(
            "A file of this size is given up when the disk is full, so that retention can still "
            "delete.",
            unit="MB",
            ge=0,
        ),
    ] = 16


class Observability(Section, frozen=True):
    """Logs, health and metrics."""

    listen: Annotated[
        str,
        doc(
            "Address of `/healthz`, `/readyz` and `/metrics`; empty turns them off. A busy port "
            "is a warning and the next free one is taken. They carry no personal data and ask "
            "for no password: keep them off public networks."
        ),
    ] = "127.0.0.1:9464"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], doc("Least level written to stderr.")
    ] = "info"
    log_format: Annotated[
        Literal["json", "console"], doc("`json`: one event, one line. `console`: for people.")
    ] = "json"


class Config(Section, frozen=True):
    """All settings, parsed once. ``origins`` tells where each one came from."""

    platform: Platform = Platform()
    live: Live = Live()
    diarisation: Diarisation = Diarisation()
    media: Media = Media()
    speech: Speech = Speech()
    transcribe: Transcribe = Transcribe()
    archive: Archive = Archive()
    language: Language = Language()
    redaction: Redaction = Redaction()
    delivery: Delivery = Delivery()
    store: Store = Store()
    observability: Observability = Observability()
    features: Annotated[
        tuple[Literal["live", "diarisation", "media"], ...],
        doc("What `steno run` runs in one process."),
    ] = ("live",)
    state_dir: Annotated[
        Path,
        doc(
            "Folder of the database, keys and token cache, mode 0700. Default "
            "`$XDG_STATE_HOME/steno`, or `~/.local/state/steno`."
        ),
    ] = Path("~/.local/state/steno")
    origins: dict[str, str] = field(default_factory=dict)


SECTIONS: dict[str, type[Section]] = {
    "platform": Platform,
    "live": Live,
    "diarisation": Diarisation,
    "media": Media,
    "speech": Speech,
    "transcribe": Transcribe,
    "archive": Archive,
    "language": Language,
    "redaction": Redaction,
    "delivery": Delivery,
    "store": Store,
    "observability": Observability,
}

TOP_LEVEL = ("features", "state_dir")
