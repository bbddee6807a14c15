"""Error rates of speaker segments against a reference: DER and cpWER.

``read_document`` reads a reference, or an export of ours, from a file; ``score`` compares two.
Both rates come with the extra ``score``; ``require_scoring`` tells early when it is missing.
"""

from steno.adapters.scoring.pieces import Document, Piece
from steno.adapters.scoring.reading import read_document
from steno.adapters.scoring.scores import (
    DEFAULT_COLLAR_S,
    ConversationScore,
    Options,
    Scores,
    require_scoring,
    score,
)
from steno.adapters.scoring.speakers import SpeakerErrors
from steno.adapters.scoring.words import WordErrors

__all__ = [
    "DEFAULT_COLLAR_S",
    "ConversationScore",
    "Document",
    "Options",
    "Piece",
    "Scores",
    "SpeakerErrors",
    "WordErrors",
    "read_document",
    "require_scoring",
    "score",
]
