"""What a recording says: turns, words, times and secrets, all from its seed and its id.

Nothing is kept: a talk of a million words is made up while it is read. Asking again gives the
same. Times are milliseconds from the start of the recording.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from steno_sim.pieces import Secret, stable_id
from steno_sim.recordings import phrases

_BEGIN_S = 1_767_600_000  # 5 January 2026
_SPAN_S = 60 * 86_400
_SECRET_EVERY = 7  # turns
_LEAD_MS = 500
_LETTER_MS, _WORD_MS, _PAUSE_MS = 42, 90, 40
_TABLE = 1024


class Said(msgspec.Struct, frozen=True, gc=False):
    """One word, with its confidence in 0..1 and its bounds in ms."""

    text: str
    confidence: float
    start_ms: int
    end_ms: int


class Turn(msgspec.Struct, frozen=True):
    """What one voice says in one go; ``voice`` counts from 0.

    Turns that meet are of two voices, unless there is only one.
    """

    voice: int
    words: list[Said]
    secrets: list[Secret]

    @property
    def text(self) -> str:
        """The words with blanks between."""
        return " ".join(word.text for word in self.words)


def draw(seed: int, recording: str, what: str) -> random.Random:
    """Give the dice for one question about a recording."""
    return random.Random(f"{seed}/{recording}/{what}")  # noqa: S311  # nothing secret


def recording_id(seed: int, number: int) -> str:
    """Give the id of the n-th recording, a UUID of version 4 in form."""
    return str(uuid.UUID(int=uuid.UUID(stable_id("recording", seed, number)).int, version=4))


def start_ms(seed: int, recording: str) -> int:
    """Give when a recording began, in ms since 1970."""
    return (_BEGIN_S + draw(seed, recording, "start").randrange(_SPAN_S)) * 1000


def turns(
    seed: int,
    recording: str,
    *,
    language: str,
    words: int,
    voices: int = 2,
    confidence: float = 0.92,
    secrets: bool = True,
) -> Iterator[Turn]:
    """Give what is said, exactly so many words, turn by turn."""
    rng = draw(seed, recording, f"talk/{language[:2].lower()}")
    marks = _confidences(confidence)
    plan = _plan(rng, language, voices, secrets)
    at_ms, left = _LEAD_MS, words
    while left > 0:
        voice, text, planted = next(plan)
        spoken = text.split()
        if len(spoken) > left:
            # A secret cut in half would be one that nobody can find.
            spoken, planted = phrases.speech_of(language).sentences[0].split()[:left], []
            spoken += ["so"] * (left - len(spoken))
        left -= len(spoken)
        said = []
        for word in spoken:
            end_ms = at_ms + _WORD_MS + _LETTER_MS * len(word)
            said.append(Said(word, marks[int(rng.random() * _TABLE)], at_ms, end_ms))
            at_ms = end_ms + _PAUSE_MS
        at_ms += 250 + int(rng.random() * 600)
        yield Turn(voice, said, planted)


def _plan(
    rng: random.Random, language: str, voices: int, secrets: bool
) -> Iterator[tuple[int, str, list[Secret]]]:
    """Give voice, text and secrets of turn after turn, without end."""
    speech, voice, number = phrases.speech_of(language), 0, 0
    while True:
        number += 1
        if secrets and number % _SECRET_EVERY == 0:
            teller, hearer = voice, _next(rng, voice, voices)
            for part, (text, planted) in enumerate(_secret(rng, language, speech, number)):
                yield (teller, hearer)[part % 2], text, planted
            voice = _next(rng, teller, voices)
            continue
        count = 1 + int(rng.random() * 3)
        yield voice, " ".join(rng.choices(speech.sentences, k=count)), []
        voice = _next(rng, voice, voices)


def _next(rng: random.Random, voice: int, voices: int) -> int:
    """Give another voice; alone, one goes on talking to itself."""
    return voice if voices == 1 else (voice + 1 + int(rng.random() * (voices - 1))) % voices


def _secret(
    rng: random.Random, language: str, speech: phrases.Speech, number: int
) -> list[tuple[str, list[Secret]]]:
    """Give the turns that tell a secret: one, or three of which the second is the other's yes."""
    kind = rng.choice(("phone", "card", "email"))
    if kind == "phone":
        text, frame = phrases.phone(language, rng), speech.phone
    elif kind == "card":
        text, frame = phrases.card(rng), speech.card
    else:
        text, frame = phrases.email(rng), speech.email
    parts = [text]
    if kind == "card" and rng.random() < 0.4:
        parts = [text[:9], text[10:]]
    if rng.random() < 0.5:
        parts = [phrases.spoken(part, speech) for part in parts]
    group = f"{kind}-{number}"
    told = [(frame.format(parts[0]), [Secret(kind, parts[0], group)])]
    for part in parts[1:]:
        told.append((speech.yes, []))
        told.append((speech.more.format(part), [Secret(kind, part, group)]))
    return told


@lru_cache(maxsize=16)
def _confidences(mean: float) -> list[float]:
    """Give a table of confidences around a mean, most of them above it, some far below."""
    rng = random.Random(f"confidence/{mean}")  # noqa: S311  # nothing secret
    sure = min(40.0, 4 / min(mean, 1 - mean))
    return [
        round(min(0.999, max(0.01, rng.betavariate(mean * sure, (1 - mean) * sure))), 3)
        for _ in range(_TABLE)
    ]
