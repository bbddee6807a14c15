"""Bits which say what a word may mean to redaction; ``meanings`` gives each word its own.

A sentence has thirty words and few of them mean anything here. The bits are looked up once
per word; what comes behind looks at a word only where a bit is set.
"""

from __future__ import annotations

NUMBER = 1
"""A number word, a multiplier, digits: here a run may begin."""
TELLING = 2
"""``context.topic_at`` has something to say on it."""
SECRET = 4
"""The sentence is worth an analysis."""
ENDING = 8
"""It stands before the last digits of something."""
COUNTRY = 16
"""An IBAN may begin with it even where none is spoken of."""
AT = 32
"""The English "at", which is a word of an address only beside a dot."""
DOT = 64
"""A "dot" said, a full stop inside a word, or a provider whose last label is left out."""
EMAIL = 128
"""The sentence speaks of an e-mail address."""
ADDRESS = 256
"""Said in addresses only: "arroba", "underscore"."""
IBAN = 512
"""The sentence speaks of an IBAN, or has something that begins like one."""
ODD = 1024
"""Not a plain word: has signs or digits in it."""
NAMES = 2048
"""The word "number" itself."""
SMALL = 4096
"""A number word below a hundred: by itself no secret."""
TENS = 8192
"""A number word which makes one number with a ``UNIT`` behind it."""
UNIT = 16384
"""A number word from one to nine."""

FAR = EMAIL | ADDRESS | IBAN
"""What makes words matter which are far from any number: nothing may be left out."""
