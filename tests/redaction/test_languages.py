"""Per language: what is masked, and what stays exactly as it was said."""

from __future__ import annotations

import pytest

from redaction.redaction_helpers import REDACTOR, redacted
from steno.core.transcript import RawText

MASKED = [
    # written
    ("en", "ring 415-555-0142 tonight", "ring [PHONE] tonight"),
    ("en", "it was (415) 555-0142, right", "it was [PHONE], right"),
    ("en", "415.555.0142", "[PHONE]"),
    ("en", "fax +44 20 7946 0958 now", "fax [PHONE] now"),
    ("en", "try 4155550142 or mail me", "try [PHONE] or mail me"),
    ("en", "is it 4111 1111 1111 1111?", "is it [CARD]?"),
    ("en", "3782-822463-10005", "[CARD]"),
    ("en", "ssn 219-09-9999.", "ssn [SSN]."),
    ("en", "mail j.doe+x@mail.example.co.uk!", "mail [EMAIL]!"),
    ("en", "gb29 nwbk 6016 1331 9268 19", "[IBAN]"),
    ("en", "ours: GB29NWBK60161331926819, ok", "ours: [IBAN], ok"),
    ("en", "４１５-５５５-０１４２", "[PHONE]"),
    ("en", "4\u200b15-555-01\u200b42", "[PHONE]"),
    # spoken English
    ("en", "four one five five five five oh one four two", "[PHONE]"),
    ("en", "dial four fifteen, uh, triple five oh one forty two", "dial [PHONE]"),
    ("en", "four 1 five, 555 zero one 4 two", "[PHONE]"),
    ("en", "one eight hundred five five five nineteen eighty", "[PHONE]"),
    ("en", "FOUR ONE FIVE FIVE FIVE FIVE OH ONE FOUR TWO", "[PHONE]"),
    ("en", "four one five to five five for oh one four", "[PHONE]"),
    ("en", "card: forty one eleven eleven eleven eleven eleven eleven eleven", "card: [CARD]"),
    ("en", "my social is two one nine oh nine nine nine nine nine", "my social is [SSN]"),
    ("en", "bob dot lee at mail dot example dot com", "[EMAIL]"),
    ("en", "email b o b underscore seven at x dash y dot org, ok", "email [EMAIL], ok"),
    ("en", "bob.lee at example.com", "[EMAIL]"),
    (
        "en",
        "G B two nine N W B K six zero one six one three three one nine two six eight one nine",
        "[IBAN]",
    ),
    ("en", "bob.lee (at) example (dot) com", "[EMAIL]"),
    ("en", "b lee 1 9 8 4 at example dot com", "[EMAIL]"),
    ("en", "write to georg dot emil one at example dot com", "write to [EMAIL]"),
    ("en", "it's boblee at gmail", "it's [EMAIL]"),
    ("en", "x @ example.com", "[EMAIL]"),
    # Spanish
    ("es", "es el 612 345 678", "es el [PHONE]"),
    ("es", "seis uno dos, treinta y cuatro, cincuenta y seis, setenta y ocho", "[PHONE]"),
    ("es", "seiscientos doce trescientos cuarenta y cinco seiscientos setenta y ocho", "[PHONE]"),
    ("es", "luisa guion bajo gil arroba correo punto es", "[EMAIL]"),
    ("es", "ES91 2100 0418 4502 0005 1332", "[IBAN]"),
    ("es", "tarjeta 5555 5555 5555 4444", "tarjeta [CARD]"),
    # French
    ("fr", "au 06 12 34 56 78 demain", "au [PHONE] demain"),
    ("fr", "zéro six douze trente-quatre soixante-dix-huit quatre-vingt-dix-sept", "[PHONE]"),
    ("fr", "zéro six quatre vingt onze soixante et onze euh vingt et un", "[PHONE]"),
    ("fr", "luc tiret bas roux arobase poste point fr", "[EMAIL]"),
    ("fr", "à luc point roux un arobase poste point fr", "à [EMAIL]"),
    ("fr", "FR14 2004 1010 0505 0001 3M02 606", "[IBAN]"),
    # German
    ("de", "unter 030 12345678", "unter [PHONE]"),
    ("de", "null eins sieben zwo äh dreiundvierzig fünf sechs doppelt sieben", "[PHONE]"),
    ("de", "uwe punkt roth ät post punkt de", "[EMAIL]"),
    (
        "de",
        "IBAN D E acht neun drei sieben null vier null null vier vier null fünf drei zwo "
        "null eins drei null null null",
        "IBAN [IBAN]",
    ),
    ("de", "Meine Nummer ist zweihundertdrei vierzig fünf und sechs", "Meine Nummer ist [PHONE]"),
    # another language than the tag says, and tags nobody knows
    ("en", "seis uno dos tres cuatro cinco seis siete ocho", "[PHONE]"),
    ("de", "zero six douze trente-quatre cinquante-six soixante-dix-huit", "[PHONE]"),
    ("ja", "four one five five five five oh one four two", "[PHONE]"),
    ("", "null eins sieben sechs eins zwei drei vier fünf", "[PHONE]"),
    ("xx-YY", "x@example.com 415-555-0142", "[EMAIL] [PHONE]"),
]
KEPT = [
    ("en", "c7f12 the sun is out c7f13"),
    ("en", "forty two dollars and ninety nine cents, or $1,299.99 or 45 EUR"),
    ("en", "in nineteen eighty four, 2001 and two thousand and six"),
    ("en", "on 05/13/2024, 2024-05-13 and 13.05.24 at 10:30 and 18:45:10"),
    ("en", "at five thirty, half past nine or twelve o'clock"),
    ("en", "version 10.15.7 and 2.0.1, build 20240513"),
    ("en", "the order number is 4155550142 from May"),
    ("en", "order number four five six seven eight nine one two"),
    ("en", "order 114-3941689-8772232"),
    ("en", "twenty, thirty, forty, fifty"),
    ("en", "1,234,567 people, 3.14159265 and 99.999%"),
    ("en", "host 192.168.100.200 port 8080"),
    ("en", "zip code nine four one oh five"),
    ("en", "call me at five thirty"),
    ("en", "the card ends in four two four two"),
    ("en", "look at example dot com, it's at shop.example.com"),
    ("en", "I bought the red one at amazon dot com"),
    ("en", "rooms 101, 102, 103 and 104"),
    ("en", "I have two phones and one card"),
    ("en", "go to www dot example dot com slash help"),
    ("en", "release three dot five dot one"),
    ("en", "reference is R F 4 4 5 5 6 6 7"),
    ("en", "my phone bill was 120 dollars in two months"),
    ("en", "1200 1300 and 1400 units in 2019 2020 and 2021"),
    ("en", "flight twelve forty five from gate thirty two at six fifteen"),
    ("es", "son cuarenta y dos euros y veinte céntimos"),
    ("es", "el pedido 12345678 del 13/05/2024 a las 10:30"),
    ("es", "en mil novecientos ochenta y cuatro"),
    ("fr", "ça fait quatre-vingt-dix-neuf euros le 13 mai 1984"),
    ("fr", "la commande numéro 12345678, version 2.3.4"),
    ("de", "zweiundvierzig Euro, neunzehnhundertvierundachtzig und 14 Uhr 30"),
    ("de", "Bestellnummer vier fünf sechs sieben acht neun eins zwei"),
    ("ja", "version 1.2.3 costs forty two dollars"),
]


@pytest.mark.parametrize(("language", "text", "expected"), MASKED)
def test_personal_data_are_masked_and_nothing_beside_them(
    language: str, text: str, expected: str
) -> None:
    assert redacted(text, language) == expected


@pytest.mark.parametrize(("language", "text"), KEPT)
def test_other_numbers_stay_as_they_were_said(language: str, text: str) -> None:
    """Prices, dates, times, orders, versions, quantities, years."""
    assert redacted(text, language) == text


@pytest.mark.parametrize("secret", ["415-555-0142", "anna.smith@example.com"])
def test_words_mixing_letters_and_digits_beside_a_secret_are_untouched(secret: str) -> None:
    for text in (f"c7f12 so {secret} c7f13 on", f"c7f12 {secret} c7f13", f"x9 {secret}"):
        assert "[" not in text
        expected = text.replace(secret, "[REDACTED]")
        assert REDACTOR.redact(RawText(text), language="en-US").text == expected


def test_blanks_are_normalised_and_entities_counted() -> None:
    result = REDACTOR.redact(
        RawText("  call\t415-555-0142 \n or  a@example.com or b@example.com "), language="en"
    )
    assert result.text == "call [REDACTED] or [REDACTED] or [REDACTED]"
    assert result.entities == {"phone": 1, "email": 2}


def test_a_card_among_other_groups_is_found_and_they_are_judged_alone() -> None:
    text = "4111 1111 1111 1111 415 555 0142, 212-555-0143"
    assert redacted(text).replace("[PHONE], [PHONE]", "[PHONE]") == "[CARD] [PHONE]"


@pytest.mark.parametrize("untold", ["", "und"])
@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (
            "Mi correo es lucia punto vega arroba example punto com todo junto.",
            "Mi correo es [REDACTED] todo junto.",
        ),
        (
            "Meine E-Mail ist lucia punkt vega at example punkt com.",
            "Meine E-Mail ist [REDACTED].",
        ),
        (
            "My email is lucia dot vega at example dot com all together.",
            "My email is [REDACTED] all together.",
        ),
    ],
)
def test_a_source_that_does_not_tell_the_language_is_redacted_in_its_own(
    untold: str, text: str, masked: str
) -> None:
    """The everyday words of a sentence tell which language's phrases are looked for."""
    assert REDACTOR.redact(RawText(text), language=untold).text == masked
