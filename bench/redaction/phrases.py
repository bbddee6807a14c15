"""Carrier phrases and ways of saying numbers, by language.

Phrases with an even index belong to development, those with an odd one to evaluation: what
is reported was never tuned on.
"""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


DIGITS = {
    "en": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "es": ["cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"],
    "fr": ["zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"],
    "de": ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"],
}
TEENS = {
    "en": [
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ],
    "es": [
        "diez",
        "once",
        "doce",
        "trece",
        "catorce",
        "quince",
        "dieciséis",
        "diecisiete",
        "dieciocho",
        "diecinueve",
    ],
    "fr": [
        "dix",
        "onze",
        "douze",
        "treize",
        "quatorze",
        "quinze",
        "seize",
        "dix-sept",
        "dix-huit",
        "dix-neuf",
    ],
    "de": [
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
    ],
}
TENS = {
    "en": ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
    "es": [
        "veinte",
        "treinta",
        "cuarenta",
        "cincuenta",
        "sesenta",
        "setenta",
        "ochenta",
        "noventa",
    ],
    "fr": ["vingt", "trente", "quarante", "cinquante", "soixante"],
    "de": ["zwanzig", "dreißig", "vierzig", "fünfzig", "sechzig", "siebzig", "achtzig", "neunzig"],
}
DOUBLE = {
    "en": ("double", "triple"),
    "es": ("doble", "triple"),
    "fr": ("double", "triple"),
    "de": ("doppel", ""),
}
FILLERS = {
    "en": ["uh", "um", "er", "and then", "sorry"],
    "es": ["eh", "este", "y luego"],
    "fr": ["euh", "et puis", "alors"],
    "de": ["äh", "ähm", "und dann"],
}
AT = {"en": "at", "es": "arroba", "fr": "arobase", "de": "ät"}
DOT = {"en": "dot", "es": "punto", "fr": "point", "de": "punkt"}
UNDERSCORE = {"en": "underscore", "es": "guion bajo", "fr": "tiret bas", "de": "unterstrich"}
BACK_CHANNELS = {
    "en": ["okay", "mhm", "got it", "yes", "go on"],
    "es": ["vale", "sí", "ajá", "siga"],
    "fr": ["oui", "d'accord", "très bien", "je note"],
    "de": ["ja", "okay", "mhm", "genau"],
}

PHONE = {
    "en": [
        "you can reach me at {} after lunch",
        "so my number is {} if you need it",
        "sure it's {}",
        "please call me back on {} tomorrow",
        "the best phone number for him would be {}",
        "yeah so that's {} thanks",
    ],
    "es": [
        "mi número de teléfono es {} por favor",
        "me puede llamar al {} por la tarde",
        "sí es el {}",
        "apunte el móvil {} gracias",
    ],
    "fr": [
        "vous pouvez me joindre au {} demain",
        "mon numéro c'est le {} merci",
        "oui alors c'est le {}",
        "rappelez-moi au {} s'il vous plaît",
    ],
    "de": [
        "Sie erreichen mich unter {} ab morgen",
        "meine Telefonnummer ist die {} danke",
        "ja das ist die {}",
        "rufen Sie mich bitte unter {} zurück",
    ],
}
CARD = {
    "en": [
        "the card number is {} okay",
        "I'd like to pay with my card {} please",
        "it's a visa {}",
        "and the long number on the front says {}",
    ],
    "es": [
        "el número de la tarjeta es {} vale",
        "quiero pagar con la tarjeta {} gracias",
    ],
    "fr": [
        "le numéro de ma carte est le {} voilà",
        "je paie avec la carte {} merci",
    ],
    "de": [
        "die Kartennummer lautet {} bitte",
        "ich zahle mit der Karte {} danke",
    ],
}
SSN = {
    "en": [
        "my social security number is {} yes",
        "for the social it is {}",
        "and my social that would be {} correct",
        "the SSN on file should be {}",
    ],
}
IBAN = {
    "en": ["the IBAN is {} okay", "please send it to {} thanks"],
    "es": ["el IBAN es {} vale", "haga la transferencia a {} gracias"],
    "fr": ["l'IBAN est {} voilà", "le virement est pour {} merci"],
    "de": ["die IBAN lautet {} bitte", "überweisen Sie es auf {} danke"],
}
EMAIL = {
    "en": [
        "my email is {} thanks",
        "please send it to {} when you can",
        "you can write to {} any time",
        "the address is {} okay",
    ],
    "es": ["mi correo es {} gracias", "escríbame a {} cuando pueda"],
    "fr": ["mon adresse mail est {} merci", "écrivez à {} quand vous pouvez"],
    "de": ["meine E-Mail ist {} danke", "schreiben Sie an {} wenn es geht"],
}

# {n2} … {n12}: a number of so many digits, {w} a small number in words, {p} a price in digits.
NEGATIVE = {
    "en": {
        "price": [
            "that comes to {w} dollars and {w} cents",
            "it was ${p} last month and now it is ${p}",
            "we charge {w} hundred and {w} dollars a year",
            "you paid {p} euros for the lot",
        ],
        "date": [
            "it was delivered on 0{d}/1{d}/20{n2} I think",
            "she was born in nineteen {t} {u}",
            "the contract runs from 2021 until 20{n2}",
            "we signed on 2023-0{d}-1{d} in the office",
        ],
        "time": [
            "the technician comes between 10:{m} and 12:{m}",
            "call me at five thirty or at six {t}",
            "we are open from nine to {w} every day",
            "the meeting was at {d}:{m} pm",
        ],
        "order": [
            "your order number is {n8} and it has shipped",
            "my order number is {s8}",
            "the reference number {n10} belongs to the old ticket",
            "I have the tracking number here it's {n12}",
        ],
        "version": [
            "we are on version {d}.{n2}.{d} of the app",
            "please update from 10.{d}.{d} to 11.{d}",
            "it fails with firmware {d}.{d}.{n3}",
            "the model {n4} runs release {d}.{d}",
        ],
        "quantity": [
            "we need {n3} units and {n4} boxes",
            "there are {w} people in {w} rooms",
            "about 1,{n3},{n3} customers use it",
            "I have two or three questions and {w} complaints",
        ],
        "percent": [
            "it went up by {w} percent in {w} months",
            "a share of {n2}.{n3}% of the market",
        ],
    },
    "es": {
        "price": ["son {w} euros con {w} céntimos", "cuesta {p} euros al mes"],
        "date": ["fue el {d} de mayo de mil novecientos {t}", "desde 2019 hasta 20{n2}"],
        "time": ["venga a las {w} y media", "abrimos de 9:{m} a 14:{m}"],
        "order": ["su pedido número {n8} ha salido", "la referencia {n10} es antigua"],
        "quantity": ["necesitamos {n3} unidades y {n3} cajas", "somos {w} personas"],
        "version": ["la versión {d}.{n2}.{d} no va bien", "con la versión {d}.{d} funciona"],
    },
    "fr": {
        "price": ["ça fait {w} euros et {w} centimes", "il coûte {p} euros par mois"],
        "date": ["c'était le 1{d} mars 19{n2}", "depuis 2019 jusqu'en 20{n2}"],
        "time": ["on se voit à {w} heures", "nous ouvrons de 9:{m} à 18:{m}"],
        "order": ["votre commande numéro {n8} est partie", "la référence {n10} est ancienne"],
        "quantity": ["il nous faut {n3} pièces et {n3} cartons", "nous sommes {w} personnes"],
        "version": ["la version {d}.{n2}.{d} ne marche pas", "avec la version {d}.{d} ça va"],
    },
    "de": {
        "price": ["das macht {w} Euro und {w} Cent", "es kostet {p} Euro im Monat"],
        "date": ["das war am 1{d}.0{d}.20{n2} glaube ich", "von 2019 bis 20{n2}"],
        "time": ["wir treffen uns um {w} Uhr", "geöffnet von 9:{m} bis 18:{m}"],
        "order": ["Ihre Bestellnummer ist {n8} bitte", "die Rechnungsnummer {n10} ist alt"],
        "quantity": ["wir brauchen {n3} Stück und {n3} Kartons", "wir sind {w} Personen"],
        "version": ["die Version {d}.{n2}.{d} läuft nicht", "mit Version {d}.{d} geht es"],
    },
}
PLAIN = {
    "en": [
        "thank you very much for waiting",
        "I will have a look at that for you right away",
        "it stopped working after the storm last night",
        "could you spell your last name for me please",
    ],
    "es": ["muchas gracias por esperar", "ahora mismo lo miro y le digo algo"],
    "fr": ["merci beaucoup d'avoir patienté", "je regarde cela tout de suite pour vous"],
    "de": ["vielen Dank für Ihre Geduld", "ich sehe mir das gleich für Sie an"],
}
