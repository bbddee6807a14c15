"""A seeded corpus of sentences with known secrets, and hard negatives without any."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from bench.redaction import phrases

_FIRST = [
    "anna",
    "maria",
    "john",
    "peter",
    "laura",
    "carlos",
    "julie",
    "marc",
    "hans",
    "lena",
    "omar",
    "nina",
]
_LAST = [
    "smith",
    "lopez",
    "dupont",
    "weber",
    "garcia",
    "martin",
    "fischer",
    "brown",
    "moreau",
    "kruse",
]
_HOSTS = ["gmail", "outlook", "example", "web", "orange", "telefonica", "posteo", "firma-mail"]
_TLDS = {"en": "com", "es": "es", "fr": "fr", "de": "de"}
_IBAN_SHAPES = {"DE": 18, "ES": 20, "FR": 23, "AT": 16, "NL": 0}


@dataclass(frozen=True)
class Line:
    """One sentence.

    Attributes:
        before, secret, after: Its parts; ``secret`` is empty in a negative.
        kind: Entity, or the sort of negative.
        style: ``written`` or ``spoken``.
    """

    language: str
    kind: str
    style: str
    before: str
    secret: str
    after: str

    @property
    def text(self) -> str:
        """The sentence as said."""
        return f"{self.before}{self.secret}{self.after}"


def lines(seed: int, count: int, *, evaluate: bool) -> Iterator[Line]:
    """``count`` lines from the phrases of development or of evaluation."""
    rng = random.Random(seed)
    for _ in range(count):
        language = rng.choice(["en", "en", "es", "fr", "de"])
        roll = rng.random()
        if roll < 0.45:
            yield _positive(rng, language, evaluate=evaluate)
        elif roll < 0.9:
            yield _negative(rng, language, evaluate=evaluate)
        else:
            text = rng.choice(phrases.PLAIN[language])
            yield Line(language, "plain", "written", text, "", "")


def _half(options: list[str], *, evaluate: bool) -> list[str]:
    return options[1::2] if evaluate else options[::2]


def _positive(rng: random.Random, language: str, *, evaluate: bool) -> Line:
    kind = rng.choice(["phone", "phone", "email", "email", "card", "ssn", "iban"])
    if kind == "ssn" and language != "en":
        kind = "phone"
    table = {
        "phone": phrases.PHONE,
        "email": phrases.EMAIL,
        "card": phrases.CARD,
        "ssn": phrases.SSN,
        "iban": phrases.IBAN,
    }[kind]
    style = rng.choice(["written", "spoken"])
    before, after = rng.choice(_half(table[language], evaluate=evaluate)).split("{}")
    secret = make_secret(rng, language, kind, style)
    return Line(language, kind, style, before, secret, after)


def make_secret(rng: random.Random, language: str, kind: str, style: str) -> str:
    """One secret of a kind, written or as said."""
    if kind == "email":
        return _email(rng, language, style)
    if kind == "iban":
        return _iban(rng, language, style)
    if kind == "ssn":
        digits = f"{rng.randint(100, 665)}{rng.randint(10, 99)}{rng.randint(1000, 9999)}"
        written = rng.choice([f"{digits[:3]}-{digits[3:5]}-{digits[5:]}", digits])
    elif kind == "card":
        digits = card_digits(rng)
        grouped = [digits[i : i + 4] for i in range(0, 16, 4)]
        written = rng.choice([digits, " ".join(grouped), "-".join(grouped)])
    else:
        digits, written = _phone(rng, language)
    return written if style == "written" else spoken(rng, language, digits)


def card_digits(rng: random.Random) -> str:
    """Sixteen digits with a valid check digit."""
    head = rng.choice(["4", "51", "55"]) + "".join(rng.choice("0123456789") for _ in range(14))
    head = head[:15]
    total = 0
    for position, character in enumerate(reversed(head)):
        value = int(character) * (2 if position % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return head + str(-total % 10)


def _phone(rng: random.Random, language: str) -> tuple[str, str]:
    tail = "".join(rng.choice("0123456789") for _ in range(8))
    if language == "en":
        area = rng.choice(["415", "212", "303", "617", "206"])
        middle, last = f"{rng.randint(2, 9)}{tail[:2]}", tail[2:6]
        digits = area + middle + last
        forms = ["{}-{}-{}", "({}) {}-{}", "{} {} {}", "{}.{}.{}", "{}{}{}", "+1 {} {} {}"]
        return digits, rng.choice(forms).format(area, middle, last)
    if language == "es":
        digits = rng.choice(["6", "7"]) + tail
        if digits.startswith("7"):
            digits = "71" + tail[:7]
        parts = [digits[:3], digits[3:6], digits[6:]]
        return digits, rng.choice([digits, " ".join(parts), "+34 " + " ".join(parts)])
    if language == "fr":
        digits = rng.choice(["06", "01"]) + tail
        if digits[2] == "0":
            digits = digits[:2] + "4" + digits[3:]
        pairs = [digits[i : i + 2] for i in range(0, 10, 2)]
        forms = [digits, " ".join(pairs), ".".join(pairs), "+33 " + " ".join(pairs)[1:]]
        return digits, rng.choice(forms)
    digits = rng.choice(["0176", "0151", "0160"]) + tail[:8]
    if digits[3] == "0":
        digits = "01601" + tail[:7]
    return digits, rng.choice(
        [digits, f"{digits[:4]} {digits[4:]}", f"{digits[:4]}/{digits[4:]}", "+49 " + digits[1:]]
    )


def _email(rng: random.Random, language: str, style: str) -> str:
    first, last = rng.choice(_FIRST), rng.choice(_LAST)
    host, tld = rng.choice(_HOSTS), _TLDS[language]
    number = rng.choice(["", "", str(rng.randint(2, 99))])
    if style == "written":
        return f"{first}{rng.choice(['.', '_', ''])}{last}{number}@{host}.{tld}"
    at, dot = phrases.AT[language], phrases.DOT[language]
    local = rng.choice(
        [
            f"{first} {dot} {last}",
            f"{first} {phrases.UNDERSCORE[language]} {last}",
            f"{first}",
            " ".join(first),
        ]
    )
    if number:
        local += " " + rng.choice([number, _number(rng, language, int(number))])
    return f"{local} {at} {host.replace('-', '')} {dot} {tld}"


def _iban(rng: random.Random, language: str, style: str) -> str:
    country = {"en": "AT", "es": "ES", "fr": "FR", "de": "DE"}[language]
    body = "".join(rng.choice("0123456789") for _ in range(_IBAN_SHAPES[country]))
    turned = body + country + "00"
    check = 98 - int("".join(str(int(c, 36)) for c in turned)) % 97
    digits = f"{check:02d}{body}"
    if style == "written":
        text = country + digits
        return rng.choice([text, " ".join(text[i : i + 4] for i in range(0, len(text), 4))])
    return f"{' '.join(country)} {spoken(rng, language, digits, pairs=False)}"


def spoken(rng: random.Random, language: str, digits: str, *, pairs: bool = True) -> str:
    """``digits`` as a person says them: one by one, in pairs, doubled, with fillers."""
    words: list[str] = []
    paired = pairs and (language == "fr" or rng.random() < 0.15)
    index = 0
    while index < len(digits):
        if index and rng.random() < 0.06:
            words.append(rng.choice(phrases.FILLERS[language]))
        two = digits[index : index + 2]
        if paired and len(two) == 2 and two[0] != "0" and (language != "fr" or int(two) < 70):
            words.append(_number(rng, language, int(two)))
            index += 2
            continue
        if len(two) == 2 and two[0] == two[1] and rng.random() < 0.3:
            words += [phrases.DOUBLE[language][0], phrases.DIGITS[language][int(two[0])]]
            index += 2
            continue
        words.append(_digit(rng, language, digits[index]))
        index += 1
    return " ".join(words)


def _digit(rng: random.Random, language: str, digit: str) -> str:
    if rng.random() < 0.05:
        return digit
    if language == "en" and digit == "0" and rng.random() < 0.5:
        return "oh"
    if language == "de" and digit == "2" and rng.random() < 0.4:
        return "zwo"
    return phrases.DIGITS[language][int(digit)]


def _number(rng: random.Random, language: str, value: int) -> str:
    if value < 10:
        return _digit(rng, language, str(value))
    if value < 20:
        return phrases.TEENS[language][value - 10]
    if value >= 70 and language == "fr":
        return " ".join(phrases.DIGITS["fr"][int(c)] for c in str(value))
    tens, unit = phrases.TENS[language][value // 10 - 2], value % 10
    if not unit:
        return tens
    word = phrases.DIGITS[language][unit]
    if language == "de":
        return f"{'ein' if unit == 1 else word}und{tens}"
    if language == "es":
        return f"{tens} y {word}"
    if language == "fr":
        return f"{tens} et un" if unit == 1 else f"{tens}-{word}"
    return f"{tens} {word}"


def _negative(rng: random.Random, language: str, *, evaluate: bool) -> Line:
    kinds = phrases.NEGATIVE[language]
    kind = rng.choice(sorted(kinds))
    text = rng.choice(_half(kinds[kind], evaluate=evaluate))
    while "{" in text:
        start, end = text.index("{"), text.index("}") + 1
        text = text[:start] + _fill(rng, language, text[start + 1 : end - 1]) + text[end:]
    style = "written" if any(c.isdigit() for c in text) else "spoken"
    return Line(language, kind, style, text, "", "")


def _fill(rng: random.Random, language: str, slot: str) -> str:
    if slot == "w":
        return _number(rng, language, rng.randint(3, 69))
    if slot == "p":
        return f"{rng.randint(5, 900)}.{rng.randint(10, 99)}"
    if slot == "d":
        return str(rng.randint(1, 9))
    if slot == "m":
        return f"{rng.randint(0, 59):02d}"
    if slot == "t":
        return rng.choice(phrases.TENS[language])
    if slot == "u":
        return rng.choice(phrases.DIGITS[language][1:])
    size = int(slot[1:])
    digits = str(rng.randint(1, 9)) + "".join(rng.choice("0123456789") for _ in range(size - 1))
    if slot[0] == "s":
        return " ".join(phrases.DIGITS[language][int(c)] for c in digits)
    return digits
