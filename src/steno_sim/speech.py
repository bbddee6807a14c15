"""How written text sounds: the spoken form that transcription engines put beside it.

The platform gives each utterance twice: ``transcript`` as spoken (lower case, numbers as
words, no punctuation) and ``decoratedTranscript`` as displayed. Scenarios are written in the
displayed form; this makes the spoken one, well enough to be realistic, word by word.
"""

from __future__ import annotations

import re

_DIGITS = {
    "en": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "es": ["cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"],
    "fr": ["zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"],
    "de": ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"],
}
_SIGNS = {
    "en": {"@": "at", ".": "dot", "_": "underscore", "+": "plus", "%": "percent", "€": "euros"},
    "es": {
        "@": "arroba",
        ".": "punto",
        "_": "guion bajo",
        "+": "más",
        "%": "por ciento",
        "€": "euros",
    },
    "fr": {
        "@": "arobase",
        ".": "point",
        "_": "tiret bas",
        "+": "plus",
        "%": "pour cent",
        "€": "euros",
    },
    "de": {"@": "at", ".": "punkt", "_": "unterstrich", "+": "plus", "%": "prozent", "€": "euro"},
}
_EDGES = '.,;:!?¿¡"()«»„“”…'
_PARTS = re.compile(r"\d|[^\W\d_]+(?:['’-][^\W\d_]+)*|[@._+%€]")


def spoken(text: str, language: str) -> str:
    """Give the spoken form of a displayed text.

    Args:
        text: Displayed form: "Call 415-555-0142, Ms Lind."
        language: BCP-47 tag; other languages than en, es, fr and de are spoken as English.
    """
    base = language.split("-")[0].lower()
    digits = _DIGITS.get(base, _DIGITS["en"])
    signs = _SIGNS.get(base, _SIGNS["en"])
    words: list[str] = []
    for word in text.split():
        bare = word.strip(_EDGES)
        for part in _PARTS.findall(bare):
            if part in signs:
                words.append(signs[part])
            elif part.isdigit() and part.isascii():
                words.append(digits[int(part)])
            else:
                words.append(part.lower())
    return " ".join(words)
