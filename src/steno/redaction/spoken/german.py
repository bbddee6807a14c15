"""German: "zwo", compounds ("vierundzwanzig", "zweihundertdrei"), "ät" and "Punkt"."""

from __future__ import annotations

from steno.redaction.spoken.lexicon import Form, Number, Table, Topic, digits, topics, words

_ONES = ["ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"]
_TENS = ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"]
_TEENS = [
    "zehn",
    "elf",
    "zwölf",
    "dreizehn",
    "vierzehn",
    "fünfzehn",
    "sechzehn",
    "siebzehn",
    "achtzehn",
    "neunzehn",
]


def _below_hundred() -> dict[str, int]:
    table = dict(zip(_ONES, range(1, 10), strict=True)) | {"eins": 1}
    table |= dict(zip(_TEENS, range(10, 20), strict=True))
    for tens_index, tens in enumerate(_TENS, 2):
        table[tens] = 10 * tens_index
        for unit_index, unit in enumerate([*_ONES, "zwo"], 1):
            table[f"{unit}und{tens}"] = 10 * tens_index + (2 if unit == "zwo" else unit_index)
    return table


def _compounds() -> dict[str, Number]:
    """Every number from 21 to 1999 said as one word, the irregular spellings included."""
    below = _below_hundred()
    table = {word: Number(value, Form.WHOLE) for word, value in below.items() if value > 20}
    heads = dict(zip(_ONES, range(1, 10), strict=True)) | {"": 1, "zwo": 2}
    heads |= dict(zip(_TEENS[1:], range(11, 20), strict=True))
    for head, hundreds in heads.items():
        table[f"{head}hundert"] = Number(100 * hundreds, Form.HUNDREDS)
        for joint in ("", "und"):
            for tail, rest in below.items():
                table[f"{head}hundert{joint}{tail}"] = Number(100 * hundreds + rest, Form.FULL)
    for head, thousands in zip([*_ONES, ""], [*range(1, 10), 1], strict=True):
        table[f"{head}tausend"] = Number(1000 * thousands, Form.FULL)
        for tail, rest in below.items():
            table[f"{head}tausend{tail}"] = Number(1000 * thousands + rest, Form.FULL)
    for word in list(table):
        plain = word.replace("ß", "ss")
        table.setdefault(plain, table[word])
        table.setdefault(plain.replace("ü", "ue").replace("ö", "oe"), table[word])
    return table


TABLE = Table(
    code="de",
    numbers=_compounds()
    | digits(
        "null eins/ein/eine zwei/zwo drei vier fünf/fuenf/fünnef sechs sieben acht neun",
        "zehn elf zwölf/zwoelf dreizehn vierzehn fünfzehn/fuenfzehn sechzehn siebzehn achtzehn "
        "neunzehn",
        "zwanzig dreißig/dreissig vierzig fünfzig/fuenfzig sechzig siebzig achtzig neunzig",
    )
    | {
        "hundert": Number(100, Form.HUNDRED),
        "tausend": Number(1000, Form.THOUSAND),
        "million": Number(1_000_000, Form.MILLION),
        "millionen": Number(1_000_000, Form.MILLION),
    },
    not_numbers=words("o oh on once die mil un une cent ten sept"),
    weak=words("ein eine"),
    multipliers={"doppel": 2, "doppelt": 2, "doppelte": 2, "zweimal": 2, "dreimal": 3},
    fillers=words(
        "äh ähm öh hm hmm mhm ja genau so dann also moment bitte und strich bindestrich "
        "leerzeichen komma punkt nochmal vorwahl okay ok gut schrägstrich plus warten"
    ),
    joins=words("und"),
    ors=words("oder"),
    units=words(
        "euro euros dollar cent prozent sekunde sekunden minute minuten stunde stunden tag tage "
        "tagen nacht nächte nächten woche wochen monat monate monaten jahr jahre jahren mal uhr "
        "meter metern kilometer kilometern kilo kilogramm gramm liter grad personen leute kunden "
        "nutzer mitarbeiter stück stueck teile kartons karten seiten punkte megabyte gigabyte "
        "flaschen kinder artikel pakete plätze franken"
    ),
    time_words=words(
        "in im seit bis um ab von vom am jahr gegen januar februar märz maerz april mai juni juli "
        "august september oktober november dezember"
    ),
    topics=topics(
        {
            Topic.PHONE: "telefon handy mobil mobilnummer telefonnummer handynummer rufnummer "
            "rückrufnummer festnetz fax faxnummer festnetznummer erreichen erreichbar durchwahl "
            "whatsapp mobilfunknummer",
            Topic.CALL: "anrufen anruf zurückrufen rufen",
            Topic.CARD: "karte kreditkarte kartennummer kreditkartennummer visa mastercard amex "
            "ec-karte girokarte",
            Topic.SSN: "sozialversicherungsnummer rentenversicherungsnummer "
            "versicherungsnummer steuernummer sozialversicherung",
            Topic.ACCOUNT: "konto kontonummer reisepass ausweis ausweisnummer personalausweis "
            "bankverbindung bankleitzahl",
            Topic.IBAN: "iban",
            Topic.CODE: "cvv cvc prüfziffer kartenprüfnummer",
            Topic.EMAIL: "email e-mail mail e-mail-adresse mailadresse emailadresse",
            Topic.KEEP: "bestellung bestellnummer rechnung rechnungsnummer auftrag auftragsnummer "
            "referenz referenznummer sendung sendungsnummer buchung buchungsnummer version modell "
            "modellnummer teil teilenummer serie seriennummer produkt produktnummer artikel "
            "artikelnummer flug flugnummer zimmer zimmernummer seite police vertrag "
            "vertragsnummer postleitzahl plz paket paketnummer beleg belegnummer vorgang "
            "vorgangsnummer ticket ticketnummer zähler zählerstand zählernummer preis kostet "
            "kosten summe betrag saldo gezahlt jahr geboren geburtsdatum ablaufdatum gültig "
            "datum kunde kundennummer mitgliedsnummer lieferung lieferschein menge charge "
            "reklamation fallnummer schadennummer",
        }
    ),
    number_words=words("nummer nummern ziffern"),
    mine=words("meine deine ihre seine unsere meiner ihrer"),
    ending=words("endet endend letzten letzte"),
    at=words("ät klammeraffe ätt at"),
    dots=words("punkt"),
    joiners=words("unterstrich bindestrich minus strich plus"),
    stops=words(
        "ist lautet die der das den dem ein eine meine deine ihre seine unsere adresse e-mail "
        "email mail e-mail-adresse mailadresse emailadresse an auf in im von vom zu zur für mit "
        "und oder bei schreiben schicken senden sie mir uns ich es ja also dann äh ähm bitte "
        "unter war name benutzername konto wäre heißt privat"
    ),
)
