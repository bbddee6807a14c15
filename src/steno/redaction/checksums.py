"""Check digits and published number formats: cards, IBANs, SSNs, phone numbers."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

MIN_CARD, MAX_CARD = 13, 19

# Source: ISO 13616 registry, length of an IBAN by country.
IBAN_LENGTHS = {
    code: int(length)
    for code, length in (
        pair.split(":")
        for pair in [
            "AD:24",
            "AE:23",
            "AL:28",
            "AT:20",
            "AZ:28",
            "BA:20",
            "BE:16",
            "BG:22",
            "BH:22",
            "BR:29",
            "BY:28",
            "CH:21",
            "CR:22",
            "CY:28",
            "CZ:24",
            "DE:22",
            "DK:18",
            "DO:28",
            "EE:20",
            "EG:29",
            "ES:24",
            "FI:18",
            "FO:18",
            "FR:27",
            "GB:22",
            "GE:22",
            "GI:23",
            "GL:18",
            "GR:27",
            "GT:28",
            "HR:21",
            "HU:28",
            "IE:22",
            "IL:23",
            "IQ:23",
            "IS:26",
            "IT:27",
            "JO:30",
            "KW:30",
            "KZ:20",
            "LB:28",
            "LC:32",
            "LI:21",
            "LT:20",
            "LU:20",
            "LV:21",
            "LY:25",
            "MC:27",
            "MD:24",
            "ME:22",
            "MK:19",
            "MR:27",
            "MT:31",
            "MU:30",
            "NL:18",
            "NO:15",
            "PK:24",
            "PL:28",
            "PS:29",
            "PT:25",
            "QA:29",
            "RO:24",
            "RS:22",
            "SA:24",
            "SC:31",
            "SE:24",
            "SI:19",
            "SK:24",
            "SM:27",
            "ST:25",
            "SV:28",
            "TL:23",
            "TN:24",
            "TR:26",
            "UA:29",
            "VA:22",
            "VG:24",
            "XK:20",
        ]
    )
}

_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of the rest (ISO/IEC 7812-1)."""
    total = 0
    for position, character in enumerate(reversed(digits)):
        value = ord(character) - 48
        total += _DOUBLED[value] if position % 2 else value
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether ``digits`` can be a payment card number: length and check digit."""
    return MIN_CARD <= len(digits) <= MAX_CARD and luhn(digits) and digits.strip("0") != ""


def has_issuer(digits: str) -> bool:
    """Whether length and first digits are those of a card scheme in wide use."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4":
        return length in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return length == 16
    if two in (34, 37):
        return length == 15
    if two in (36, 38, 30):
        return length in (14, 16)
    return (two in (35, 60, 62, 64, 65) or two == 50 or 56 <= two <= 69) and 16 <= length <= 19


def is_iban(text: str) -> bool:
    """Whether ``text`` (no blanks) has its country's length and the ISO 7064 check digits."""
    text = text.upper()
    if len(text) != IBAN_LENGTHS.get(text[:2], 0) or not text.isascii() or not text.isalnum():
        return False
    turned = text[4:] + text[:4]
    return int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def is_ssn(digits: str) -> bool:
    """Whether nine digits can be an SSN or ITIN (areas 000 and 666 were never given out)."""
    return (
        len(digits) == 9
        and digits[:3] not in ("000", "666")
        and digits[3:5] != "00"
        and digits[5:] != "0000"
    )


@cache
def _phonenumbers() -> ModuleType:
    import phonenumbers

    return phonenumbers


REGIONS = {
    "en": ("US", "GB"),
    "es": ("ES", "MX"),
    "fr": ("FR", "BE", "CH"),
    "de": ("DE", "AT", "CH"),
}


def knows_region(region: str) -> bool:
    """Whether ``region`` (ISO 3166, upper case) has phone numbers; loads the tables."""
    return region in _phonenumbers().SUPPORTED_REGIONS


def is_phone(digits: str, regions: tuple[str, ...]) -> bool:
    """Whether ``digits`` is a number a subscriber can have in one of ``regions``.

    A leading plus makes it international and the regions do not matter.
    """
    library = _phonenumbers()
    for region in regions[:1] if digits.startswith("+") else regions:
        try:
            number = library.parse(digits, region)
        except library.NumberParseException:
            continue
        if library.is_valid_number(number):
            return True
    return False
