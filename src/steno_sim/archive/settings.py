"""How stored transcripts behave: what is in them, how they are found, and shares of trouble.

On the command line ``--archive KEY=VALUE``, any number; in Python
``Simulator(archive=ArchiveSettings(url_ttl_s=5))``. A range is written ``2,10``; one number alone
is both ends. Shares are 0..1. What befalls a conversation follows from the seed and its id, what
befalls a request or a download is drawn in the order in which they come.

Which conversations there are, and what they say:

==========================  ==================================================================
``seed``                    another set of conversations and fates (0)
``conversations``           conversations that the analytics calls find (100)
``first_day days``          they begin evenly from midnight UTC of ``first_day`` (2026-01-05),
                            on so many days (30)
``only_known``              others are answered 404 (false: any UUID has a transcript)
``size``                    bytes of a transcript, such as ``300MB`` (0: as many turns as
                            ``turns`` says); up to 10GB, made while it is read
``turns``                   turns of a transcript (20,200)
``language``                ``mixed`` by conversation, or one of ``en-US es-ES fr-FR de-DE``
``secrets``                 numbers and addresses are planted in what is said (true)
``unknown``                 share of turns by a speaker whom nobody knows (0.03)
``sparse``                  share of turns without a speaker and a confidence (0)
``order``                   ``first`` (participants before the turns), ``last``, or ``mixed``
                            (last, and keys of turns in changing order)
``pretty``                  indented over many lines (false)
``ascii``                   letters beyond ASCII as escapes (false)
``extra``                   keys that nobody has documented, nested ones among them (false)
``words analytics``         platform's files: words of phrases, analytics (true, true)
``runs``                    platform's files: transcripts in a file (1,1); each has a language
                            of its own
``legs``                    calls of the customer, each with a file of its own (1,1)
``parts``                   recordings of a call, one after the other, each with a file of its
                            own (1,1); only ``transcripturls`` tells of those after the first
``ids``                     turns of played conversations have an ``utteranceId`` (false; the
                            platform's files have none)
==========================  ==================================================================

The calls (those of ``/api/v2/conversations/media`` and ``/api/v2/speechandtextanalytics``):

==========================  ==================================================================
``clock``                   seconds of the service in one second (1); divides every delay here
``queued_s processing_s``   time in the queue and in work, from the first request (0, 0); the
                            platform's calls answer 404 until then
``ready_s``                 played conversations: time from their end until they are stored (5)
``inline_bytes``            documents up to this size are answered inline (65536)
``failed never empty``      shares of conversations that fail, stay in work for ever, have a
                            transcript without turns,
``legacy``                  are answered in a form of older days (``legacy_form``),
``missing forbidden``       have no transcript (404), or none that may be read (403); analytics
                            and ``GET /api/v2/conversations/{id}`` tell of them all the same,
``truncated_file bad``      have a file that ends in the middle, or turns that cannot be read
``legacy_form``             ``mixed``, or one of ``no_status`` (no ``status``), ``list`` (the turns
                            alone), ``camel`` (``startTime endTime speakerId``), ``nested`` (all
                            under ``transcripts[0]``)
``errors lost``             shares of requests answered 500, 502 (as a page), 503 or 504, or
                            cut off without an answer
``throttled``               share answered 429; every second lacks ``Retry-After``
``throttle_s``              what ``Retry-After`` asks for (1)
==========================  ==================================================================

Links and downloads:

==========================  ==================================================================
``url_ttl_s``               life of links in real seconds (600)
``expiry``                  a download under way when its link ends: ``finish``, or ``cut``
``expired_status``          403, or 410
``range etag``              the store knows ``Range``, and sends ``ETag`` (true, true)
``gzip``                    ``Content-Encoding: gzip`` for who accepts it, of whole files (false)
``changing``                each link leads to another version of its file than the one before
                            (false; not of played conversations)
``redirects``               302 answers before the file (0)
``length``                  ``right``, ``none`` (chunked), ``long`` or ``short`` by a byte
``checksum``                ``x-amz-checksum-sha256`` for files up to 16 MB (true)
``rate``                    bytes/s of a download (0: as fast as it is read)
``truncated cut slow``      shares of downloads that end early as if whole were sent (without a
                            length), are cut off half-way, or come in drips
``drip_s``                  time between the drips of 16 KiB (0.2)
``unavailable``             share of downloads answered 503
==========================  ==================================================================

Finding conversations (``/api/v2/analytics/conversations/details``):

==========================  ==================================================================
``job_queued_s``            a job is ``QUEUED`` so long (0),
``job_pending_s``           then ``PENDING`` (0), then ``FULFILLED``
``job_failed``              share of jobs that end ``FAILED``
``job_ttl_s``               results are kept so long, then the job is ``EXPIRED`` (86400)
``lag_s``                   jobs know what began so long ago or earlier (0)
``page``                    most conversations of a page (1000; of a query 100)
``chats``                   share of conversations that are chats, without a call (0)
==========================  ==================================================================
"""

from __future__ import annotations

import re
from datetime import date
from typing import Literal

import msgspec

from steno_sim.setting_pairs import check, check_ranges, check_shares

LANGUAGES = ("en-US", "es-ES", "fr-FR", "de-DE")
MAX_CONVERSATIONS = 1_000_000
MAX_BYTES = 10_000_000_000
MAX_TURNS = 100_000_000
MAX_PARTS = 20

Order = Literal["first", "last", "mixed"]
LegacyForm = Literal["mixed", "no_status", "list", "camel", "nested"]
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB)?", re.IGNORECASE)
_UNITS = {"B": 1, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


class ArchiveSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Behaviour of stored transcripts; see the module's tables.

    Raises:
        ValueError: A share, range or number is out of bounds.
    """

    seed: int = 0
    conversations: int = 100
    first_day: str = "2026-01-05"
    days: int = 30
    only_known: bool = False
    size: str = "0"
    turns: tuple[int, int] = (20, 200)
    language: Literal["mixed", "en-US", "es-ES", "fr-FR", "de-DE"] = "mixed"
    secrets: bool = True
    unknown: float = 0.03
    sparse: float = 0.0
    order: Order = "first"
    pretty: bool = False
    ascii: bool = False
    extra: bool = False
    words: bool = True
    analytics: bool = True
    runs: tuple[int, int] = (1, 1)
    legs: tuple[int, int] = (1, 1)
    parts: tuple[int, int] = (1, 1)
    ids: bool = False

    clock: float = 1.0
    queued_s: tuple[float, float] = (0.0, 0.0)
    processing_s: tuple[float, float] = (0.0, 0.0)
    ready_s: float = 5.0
    inline_bytes: int = 65_536
    failed: float = 0.0
    never: float = 0.0
    empty: float = 0.0
    legacy: float = 0.0
    missing: float = 0.0
    forbidden: float = 0.0
    truncated_file: float = 0.0
    bad: float = 0.0
    legacy_form: LegacyForm = "mixed"
    errors: float = 0.0
    lost: float = 0.0
    throttled: float = 0.0
    throttle_s: float = 1.0

    url_ttl_s: float = 600.0
    expiry: Literal["finish", "cut"] = "finish"
    expired_status: Literal[403, 410] = 403
    range: bool = True
    etag: bool = True
    gzip: bool = False
    changing: bool = False
    redirects: int = 0
    length: Literal["right", "none", "long", "short"] = "right"
    checksum: bool = True
    rate: float = 0.0
    truncated: float = 0.0
    cut: float = 0.0
    slow: float = 0.0
    drip_s: float = 0.2
    unavailable: float = 0.0

    job_queued_s: float = 0.0
    job_pending_s: float = 0.0
    job_failed: float = 0.0
    job_ttl_s: float = 86_400.0
    lag_s: float = 0.0
    page: int = 1000
    chats: float = 0.0

    def __post_init__(self) -> None:
        check_shares(
            self,
            *("failed", "never", "empty", "legacy"),
            *("missing", "forbidden", "truncated_file", "bad"),
        )
        check_shares(self, "errors", "lost", "throttled")
        check_shares(self, "truncated", "cut", "slow", "unavailable")
        for share in ("unknown", "sparse", "job_failed", "chats"):
            check_shares(self, share)
        check_ranges(self, "turns", "runs", "legs", "parts", "queued_s", "processing_s")
        check(0 <= self.size_bytes <= MAX_BYTES, f"size is at most {MAX_BYTES} bytes")
        check(self.turns[1] <= MAX_TURNS, f"turns are at most {MAX_TURNS}")
        check(self.clock > 0 and self.url_ttl_s > 0, "clock and url_ttl_s are above 0")
        counted = 0 <= self.conversations <= MAX_CONVERSATIONS
        check(counted, f"conversations are up to {MAX_CONVERSATIONS}")
        for name in ("runs", "legs", "parts"):
            least, most = getattr(self, name)
            check(1 <= least <= most <= MAX_PARTS, f"{name} are 1 to {MAX_PARTS}")
        check(1 <= self.days <= 36_500, "days are 1 to 36500")
        check(1 <= self.page <= 10_000, "page is 1 to 10000")
        check(0 <= self.redirects <= 100, "redirects are 0 to 100")
        check(self.rate >= 0 and self.inline_bytes >= 0, "rate and inline_bytes are not negative")
        self.first_date  # noqa: B018 - it refuses what is no date

    @property
    def size_bytes(self) -> int:
        """Bytes of a transcript; 0 where ``turns`` decides."""
        return bytes_of(self.size)

    @property
    def first_date(self) -> date:
        """The first day with conversations.

        Raises:
            ValueError: It is no date.
        """
        try:
            return date.fromisoformat(self.first_day)
        except ValueError:
            raise ValueError("first_day is a date such as 2026-01-05") from None


def bytes_of(text: str) -> int:
    """Give the bytes that ``300MB`` stands for; units are powers of ten.

    Raises:
        ValueError: It is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size such as 300MB")
    return round(float(match[1]) * _UNITS[(match[2] or "B").upper()])
