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

from typing import Literal

import msgspec

from steno_sim.setting_pairs import check, check_ranges, check_shares, parse_settings

LANGUAGES = ("en-US", "en-GB", "es-ES", "fr-FR", "de-DE")
MAX_WORDS = 1_000_000
MAX_RECORDINGS = 1_000_000
MAX_SPEAKERS = 8
__all__ = ["JobSettings", "MediaSettings", "parse_settings"]

Encoding = Literal["pcm", "ulaw", "alaw"]
Layout = Literal["mono", "stereo", "dual"]


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
        check_shares(self, "failed", "never", "no_result", "bad_words", "silent")
        check_shares(self, "missing", "forbidden")
        check_shares(self, "errors", "lost", "dropped")
        check_shares(self, "slow")
        check_ranges(self, "queued_s", "processing_s", "words", "answer_s")
        check(self.clock > 0, "clock is above 0")
        check(0.05 <= self.confidence <= 0.99, "confidence is from 0.05 to 0.99")
        check(1 <= self.speakers <= MAX_SPEAKERS, f"speakers are 1 to {MAX_SPEAKERS}")
        check(self.words[1] <= MAX_WORDS, f"words are at most {MAX_WORDS}")
        check(0 <= self.recordings <= MAX_RECORDINGS, f"recordings are up to {MAX_RECORDINGS}")
        check(self.burst_every >= 0 and self.burst_size >= 1, "a burst has at least one request")


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
        check_shares(self, "missing_status")
        check_shares(self, "item_errors")
        check_shares(self, "archived")
        check_shares(self, "truncated", "slow")
        check_ranges(self, "item_s")
        check(self.clock > 0 and self.url_ttl_s > 0, "clock and url_ttl_s are above 0")
        check(bool(self.encodings and self.layouts), "encodings and layouts are not empty")
        check(1 <= self.repeats <= 1000, "repeats are 1 to 1000")
