"""How good a transcript is: what can be told without a reference, and how texts are compared.

``word_error_rate`` of the tutorial is an estimate: 1 - mean confidence. It says how sure the
recogniser was, not how often it was right. The true rate needs a reference transcript
(``adapters.error_rates``) and has names of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from math import fsum
from typing import Final

import msgspec

ESTIMATE_LABEL: Final = "estimate (1 - mean confidence)"
"""What has to stand beside ``word_error_rate`` wherever people read it."""

_APOSTROPHES: Final = str.maketrans("’ʼ＇", "'''")
_NO_WORD: Final = re.compile(r"[^\w\s']|_")
_EDGES: Final = re.compile(r"(?<!\w)'+|'+(?!\w)")


class Metrics(msgspec.Struct, frozen=True, gc=False):
    """The tutorial's metrics, with its keys.

    Attributes:
        latency_seconds: From submission to result, two decimals; None when not known.
        word_error_rate: The estimate, four decimals; None when no word has a confidence.
        total_words: Words and marks as the service counts them, those left out excepted.
    """

    latency_seconds: float | None
    word_error_rate: float | None
    total_words: int


def metrics_of(confidences: Iterable[float | None], *, latency_s: float | None) -> Metrics:
    """Return the metrics of a transcript.

    Decimals are rounded half to even, on the value as the machine holds it: 0.125 becomes
    0.12, and 2.675, which is stored a little smaller, 2.67.

    Args:
        confidences: One for each word, 0..1; None for a word without, which is counted as a
            word and left out of the mean.
        latency_s: Seconds; a negative one (a clock was set back) counts as 0.
    """
    told = list(confidences)
    mean = mean_confidence(told)
    return Metrics(
        latency_seconds=None if latency_s is None else round(max(0.0, latency_s), 2),
        word_error_rate=None if mean is None else round(1.0 - mean, 4),
        total_words=len(told),
    )


def mean_confidence(confidences: Iterable[float | None]) -> float | None:
    """Return the mean of those that are told, whatever their order; None when none is."""
    told = [one for one in confidences if one is not None]
    return fsum(told) / len(told) if told else None


def normalised(text: str) -> str:
    """Return text as it is compared with a reference.

    In this order: compatible forms of a character become one (NFKC); upper and lower case
    become one (case folding); every apostrophe becomes ``'``; punctuation, symbols and
    underscores become blanks, apostrophes inside a word excepted; blanks become single. Numbers
    stay as they are written: "20" is not "twenty". Accents stay: "ou" is not "où".
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)
    return " ".join(_EDGES.sub(" ", _NO_WORD.sub(" ", plain)).split())
