"""How the job service and the media of recordings behave: sizes, delays, and shares of trouble.

On the command line ``--jobs KEY=VALUE`` and ``--media KEY=VALUE``, any number of each; in Python
``Simulator(jobs=JobSettings(failed=0.03), media=MediaSettings(url_ttl_s=5))``. A range is written
``2,10``; one number alone is both ends. Shares are 0..1. What befalls a recording follows from
the seed and its id, so it is the same in every run; what befalls a request is drawn in the order
in which requests come.

``--jobs``:

==========================  ==================================================================
``seed``                    another set of recordings and fates (0)
``recordings``              recordings there are (100)
``only_known``              others are answered 404 (false: any UUID is a recording)
``languages``               languages taken: ``en-US,en-GB,es-ES,fr-FR,de-DE``
``clock``                   seconds of the service in one second (1); divides every delay here
``queued_s``                time in the queue (2,10)
``processing_s``            time of work (5,60)
``words``                   words of a result (40,400), at most 1,000,000
``speakers``                voices of a recording (2), at most 8
``confidence``              mean confidence of words (0.92)
``secrets``                 numbers and addresses are planted in what is said (true)
``id_key``                  where the id is: ``id``, ``transcriptId`` or ``both``
``keys``                    ``Idempotency-Key`` is honoured (true)
``listing``                 jobs can be listed by recording (true; otherwise 404)
``listing_lag_s``           a job is listed so long after it was accepted (0)
``failed never no_result``  shares of recordings whose jobs fail, stay in work for ever, are
                            completed without a result,
``bad_words silent``        have words that cannot be read (about one in 20), or no words
``missing forbidden``       shares of recordings that are answered 404 and 403
``errors``                  share of requests answered 500, 502 (as a page), 503 or 504
``lost dropped``            shares of requests cut off without an answer: ``lost`` before they
                            had an effect, ``dropped`` after it (the job exists)
``answer_s``                time that every answer takes (0): what makes requests meet
``slow slow_s``             share of requests whose answer takes so long (3)
``burst_every burst_size``  after so many requests (0: never) so many (20) are answered 429;
                            every second burst lacks ``Retry-After``
``burst_wait_s``            what ``Retry-After`` asks for in a burst (1)
==========================  ==================================================================

``--media``:

==========================  ==================================================================
``clock``                   as above
``transcode_s``             recordings asked for in a format are answered 202 for so long (0)
``transcode_body``          body of a 202: ``estimate`` or ``empty``
``url_ttl_s``               life of presigned addresses in real seconds (3600)
``item_s``                  time until an item of a batch request is ready (0.5,3)
``missing_status``          share of batch requests whose answers never have a ``status``
``item_errors``             share of recordings that batch requests answer with ``errorMsg``
``archived``                share of recordings that have to be restored, without media
``encodings``               codecs of the originals: ``pcm,ulaw,alaw``
``layouts``                 ``mono`` (mixed), ``stereo`` (one file, two channels), ``dual`` (one
                            file for each channel)
``repeats``                 how often a voice is played in its recording (1)
``truncated slow``          shares of downloads that break off half-way, or come in drips
``drip_s``                  time between the drips of 16 KiB (0.2)
==========================  ==================================================================
"""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

LANGUAGES = ("en-US", "en-GB", "es-ES", "fr-FR", "de-DE")
MAX_WORDS = 1_000_000
MAX_RECORDINGS = 1_000_000
MAX_SPEAKERS = 8
_RANGES = ("queued_s", "processing_s", "words", "answer_s", "item_s")

Encoding = Literal["pcm", "ulaw", "alaw"]
Layout = Literal["mono", "stereo", "dual"]
_Settings = TypeVar("_Settings", bound=msgspec.Struct)


class JobSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Behaviour of the job service; see the module's table.

    Raises:
        ValueError: A share, range or number is out of bounds.
    """

    seed: int = 0
    recordings: int = 100
    only_known: bool = False
    languages: tuple[str, ...] = LANGUAGES
    clock: float = 1.0
    queued_s: tuple[float, float] = (2.0, 10.0)
    processing_s: tuple[float, float] = (5.0, 60.0)
    words: tuple[int, int] = (40, 400)
    speakers: int = 2
    confidence: float = 0.92
    secrets: bool = True
    id_key: Literal["id", "transcriptId", "both"] = "id"
    keys: bool = True
    listing: bool = True
    listing_lag_s: float = 0.0
    failed: float = 0.0
    never: float = 0.0
    no_result: float = 0.0
    bad_words: float = 0.0
    silent: float = 0.0
    missing: float = 0.0
    forbidden: float = 0.0
    errors: float = 0.0
    lost: float = 0.0
    dropped: float = 0.0
    answer_s: tuple[float, float] = (0.0, 0.0)
    slow: float = 0.0
    slow_s: float = 3.0
    burst_every: int = 0
    burst_size: int = 20
    burst_wait_s: float = 1.0

    def __post_init__(self) -> None:
        _check_shares(self, "failed", "never", "no_result", "bad_words", "silent")
        _check_shares(self, "missing", "forbidden")
        _check_shares(self, "errors", "lost", "dropped")
        _check_shares(self, "slow")
        _check_ranges(self, "queued_s", "processing_s", "words", "answer_s")
        _check(self.clock > 0, "clock is above 0")
        _check(0.05 <= self.confidence <= 0.99, "confidence is from 0.05 to 0.99")
        _check(1 <= self.speakers <= MAX_SPEAKERS, f"speakers are 1 to {MAX_SPEAKERS}")
        _check(self.words[1] <= MAX_WORDS, f"words are at most {MAX_WORDS}")
        _check(0 <= self.recordings <= MAX_RECORDINGS, f"recordings are up to {MAX_RECORDINGS}")
        _check(self.burst_every >= 0 and self.burst_size >= 1, "a burst has at least one request")


class MediaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Behaviour of the platform's recordings; see the module's table.

    Raises:
        ValueError: A share, range or number is out of bounds.
    """

    clock: float = 1.0
    transcode_s: float = 0.0
    transcode_body: Literal["estimate", "empty"] = "estimate"
    url_ttl_s: float = 3600.0
    item_s: tuple[float, float] = (0.5, 3.0)
    missing_status: float = 0.0
    item_errors: float = 0.0
    archived: float = 0.0
    encodings: tuple[Encoding, ...] = ("pcm", "ulaw", "alaw")
    layouts: tuple[Layout, ...] = ("mono", "stereo", "dual")
    repeats: int = 1
    truncated: float = 0.0
    slow: float = 0.0
    drip_s: float = 0.2

    def __post_init__(self) -> None:
        _check_shares(self, "missing_status")
        _check_shares(self, "item_errors")
        _check_shares(self, "archived")
        _check_shares(self, "truncated", "slow")
        _check_ranges(self, "item_s")
        _check(self.clock > 0 and self.url_ttl_s > 0, "clock and url_ttl_s are above 0")
        _check(bool(self.encodings and self.layouts), "encodings and layouts are not empty")
        _check(1 <= self.repeats <= 1000, "repeats are 1 to 1000")


def parse_settings(kind: type[_Settings], pairs: list[str]) -> _Settings:
    """Read settings given as ``key=value``.

    Raises:
        ValueError: No such key, or a value that it does not take; the message names the key.
    """
    fields = {f.name: f for f in msgspec.structs.fields(kind)}
    found: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or key not in fields:
            raise ValueError(f"{key!r} is no setting of {kind.__name__} (write KEY=VALUE)")
        if isinstance(fields[key].default, tuple):
            parts: object = [part.strip() for part in value.split(",")]
            if key in _RANGES and "," not in value:
                parts = [value, value]
        else:
            parts = value.strip()
        try:
            found[key] = msgspec.convert(parts, fields[key].type, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(f"{key}: {error}") from None
    try:
        return kind(**found)
    except (TypeError, ValueError) as error:
        raise ValueError(str(error)) from None


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _check_shares(settings: msgspec.Struct, *names: str) -> None:
    shares = [getattr(settings, name) for name in names]
    _check(all(0 <= share <= 1 for share in shares), f"{', '.join(names)}: shares are 0 to 1")
    _check(sum(shares) <= 1 + 1e-9, f"{', '.join(names)}: together at most 1")


def _check_ranges(settings: msgspec.Struct, *names: str) -> None:
    for name in names:
        least, most = getattr(settings, name)
        _check(0 <= least <= most, f"{name} is a range such as 2,10")
