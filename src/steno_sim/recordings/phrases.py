"""What is said in recordings: sentences, numbers and addresses in four languages. Pure.

Numbers are from ranges kept for fiction where the country has one, cards are well-formed and
nobody's, addresses end in ``example.com``.
"""

from __future__ import annotations

import random

import msgspec


class Speech(msgspec.Struct, frozen=True):
    """One language: sentences, digits from 0 to 9, and frames that hold a secret (``{}``)."""

    sentences: tuple[str, ...]
    digits: tuple[str, ...]
    at: str
    dot: str
    yes: str
    phone: str
    card: str
    email: str
    more: str


SPEECH = {
    "en": Speech(
        (
            "Good morning, how can I help you today?",
            "My parcel was meant to come on Tuesday.",
            "Nobody rang at our door.",
            "I looked at the tracking page, but it still says on its way.",
            "Let me check where the van is right now.",
            "Please stay on the line for a moment.",
            "The new delivery date is Thursday morning.",
            "Is there anything else that I can do for you?",
            "That would suit me well, thank you very much.",
            "I would also like to change the address.",
            "No, that was all.",
            "We are sorry about the delay.",
        ),
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        "at",
        "dot",
        "Yes, please go on.",
        "You can reach me on {}.",
        "The card number is {}.",
        "Please write to {}.",
        "And then {}.",
    ),
    "es": Speech(
        (
            "Buenos días, ¿en qué puedo ayudarle?",
            "El paquete tenía que llegar el martes.",
            "Nadie ha llamado a la puerta.",
            "He mirado la página y sigue en camino.",
            "Un momento, que lo consulto con el almacén.",
            "No cuelgue, por favor.",
            "La nueva fecha es el jueves por la mañana.",
            "¿Necesita alguna otra cosa?",
            "Me viene muy bien, muchas gracias.",
            "También quiero cambiar la dirección.",
            "No, eso era todo.",
            "Sentimos mucho el retraso.",
        ),
        ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
        "arroba",
        "punto",
        "Sí, siga por favor.",
        "Mi teléfono es {}.",
        "El número de la tarjeta es {}.",
        "Escríbame a {}.",
        "Y después {}.",
    ),
    "fr": Speech(
        (
            "Bonjour, comment puis-je vous aider ?",
            "Mon colis devait arriver mardi.",
            "Personne n'a sonné à notre porte.",
            "J'ai regardé la page et il est toujours en route.",
            "Je vérifie tout de suite où se trouve le camion.",
            "Restez en ligne, s'il vous plaît.",
            "La nouvelle date est jeudi matin.",
            "Puis-je faire autre chose pour vous ?",
            "Cela me convient très bien, merci beaucoup.",
            "Je voudrais aussi changer l'adresse.",
            "Non, c'était tout.",
            "Nous sommes désolés de ce retard.",
        ),
        ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
        "arobase",
        "point",
        "Oui, continuez.",
        "Mon numéro de téléphone est le {}.",
        "Le numéro de la carte est {}.",
        "Écrivez-moi à {}.",
        "Et ensuite {}.",
    ),
    "de": Speech(
        (
            "Guten Morgen, wie kann ich Ihnen helfen?",
            "Mein Paket sollte am Dienstag kommen.",
            "Bei uns hat niemand geklingelt.",
            "Auf der Seite steht immer noch unterwegs.",
            "Ich sehe gleich nach, wo der Wagen ist.",
            "Bleiben Sie bitte am Apparat.",
            "Der neue Termin ist am Donnerstag in der Früh.",
            "Kann ich sonst noch etwas für Sie tun?",
            "Das passt mir sehr gut, vielen Dank.",
            "Ich möchte auch die Adresse ändern.",
            "Nein, das war alles.",
            "Die Verspätung tut uns leid.",
        ),
        ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
        "at",
        "punkt",
        "Ja, bitte weiter.",
        "Meine Telefonnummer ist {}.",
        "Die Kartennummer lautet {}.",
        "Schreiben Sie an {}.",
        "Und dann {}.",
    ),
}

_PHONES = {"en": "415-555-01##", "es": "612 34# ###", "fr": "01 99 00 ## ##", "de": "030 23125 ###"}
_NAMES = ("anna", "ben", "carla", "david", "emil", "fatima", "georg", "hanna")


def speech_of(language: str) -> Speech:
    """Give the words of a language tag; English for one that we do not speak."""
    return SPEECH.get(language[:2].lower(), SPEECH["en"])


def phone(language: str, rng: random.Random) -> str:
    """Give a telephone number as people write it."""
    form = _PHONES.get(language[:2].lower(), _PHONES["en"])
    return "".join(str(rng.randrange(10)) if c == "#" else c for c in form)


def card(rng: random.Random) -> str:
    """Give a card number in groups of four, with a right check digit."""
    digits = [4, 0, 0, 0, 0, 0, *(rng.randrange(10) for _ in range(9))]
    # Luhn: from the right, every second digit doubled, of which the digits are added up.
    total = sum(sum(divmod(2 * d, 10)) if n % 2 == 0 else d for n, d in enumerate(digits))
    text = "".join(map(str, digits)) + str(-total % 10)
    return " ".join(text[n : n + 4] for n in range(0, 16, 4))


def email(rng: random.Random) -> str:
    """Give an address."""
    return f"{rng.choice(_NAMES)}.{rng.choice(_NAMES)}{rng.randrange(10)}@example.com"


def spoken(text: str, speech: Speech) -> str:
    """Give a number or an address as it is said, digit by digit."""
    signs = {"@": speech.at, ".": speech.dot}
    words: list[str] = []
    name = ""
    for c in text:
        if c.isdigit() or c in "@.":
            if name:
                words.append(name)
            name = ""
            words.append(speech.digits[int(c)] if c.isdigit() else signs[c])
        elif c.isalpha():
            name += c
    return " ".join([*words, name] if name else words)
