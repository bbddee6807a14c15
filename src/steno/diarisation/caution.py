"""Redaction of what has no neighbours: audit texts, late corrections, speaker labels.

What runs through a conversation in order is redacted by ``redaction.Carry``, which knows what
was said before. A text that is looked at by itself may be a piece of a number whose rest is
elsewhere, so here every piece that may be one is removed, however short.
"""

from __future__ import annotations

import re
from hashlib import sha256

import msgspec

from steno.core.transcript import Fragment, RawText
from steno.errors import RedactionError
from steno.redaction import masking
from steno.redaction.context import NOTHING, Context
from steno.redaction.entities import Entity, Span
from steno.redaction.redactor import Redacted, Redactor
from steno.redaction.spoken import Topic
from steno.redaction.tokens import normalise

MAX_LABELS = 4096
MAX_LABEL_CHARS = 128

# As if a code had been asked for: three digits in a row are one. What follows them ("… and that is
# my mobile") does not tell that they are all of it: the beginning may be elsewhere.
_SUSPICION = Context(Topic.CODE, strong=True, firm=True)


def redact_strictly(redactor: Redactor, text: RawText, *, language: str) -> Redacted:
    """Redact a text whose neighbours are unknown: all that may be part of a number goes.

    Raises:
        RedactionError: It failed; the text must be withheld.
    """
    try:
        masked, entities = _masked(redactor, text, language)
    except Exception as exc:  # noqa: BLE001 - whatever fails, the text must not pass
        cause = type(exc).__name__
    else:
        rest = redactor.redact(RawText(masked), language=language)
        for entity, number in rest.entities.items():
            entities[entity] = entities.get(entity, 0) + number
        return Redacted(rest.text, entities)
    # Outside of the handler, so that the error drags no frame or message with text along.
    raise RedactionError(cause=cause)


def _masked(redactor: Redactor, raw: str, language: str) -> tuple[str, dict[str, int]]:
    text = normalise(raw)
    if not redactor.is_notable(text, language=language):
        return text, {}
    spans = redactor.inspect(text, language=language, hint=NOTHING).spans
    suspect = redactor.inspect(text, language=language, hint=_SUSPICION)
    pieces = [Span(each.start, each.end, Entity.NUMBER) for each in suspect.spans]
    if suspect.open is not None and not suspect.open.complete:
        pieces.append(Span(suspect.open.start, len(text), Entity.NUMBER))
    known = {(each.start, each.end) for each in spans}
    spans = spans + [each for each in pieces if (each.start, each.end) not in known]
    spans = masking.tidy(spans, text)
    return redactor.mask(text, spans), masking.count(spans)


def may_be(raw: str, redacted: str) -> bool:
    """Whether ``redacted`` may be what is left of ``raw``: equal outside of the masks."""
    kept = (re.escape(piece.strip()) for piece in masking.MASKED.split(redacted))
    return re.fullmatch(".*?".join(kept), normalise(raw), re.DOTALL) is not None


class Labels:
    """Speaker labels as they may be shown.

    A label comes from the peer. One that redaction would change (a phone number, an address) is
    replaced by 16 bits of its hash: enough to tell speakers apart, too little to be turned back.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self.shown: dict[str, bool] = {"": True}
        """Labels met, and whether they may be shown as they are."""

    def relabelled(self, fragment: Fragment) -> Fragment:
        """Return a fragment whose lane, a speaker's label, may be shown."""
        label = fragment.lane
        shown = self.shown.get(label)
        if shown is None:
            shown = self._may_be_shown(label)
            if len(self.shown) >= MAX_LABELS:
                self.shown.clear()
            self.shown[label] = shown
        if shown:
            return fragment
        digest = sha256(f"{fragment.conversation}\x1f{label}".encode()).hexdigest()
        return msgspec.structs.replace(fragment, lane=f"speaker-{digest[:4]}")

    def _may_be_shown(self, label: str) -> bool:
        if not label:
            return True
        if len(label) > MAX_LABEL_CHARS or not label.isprintable():
            return False
        try:
            redacted = self._redactor.redact(RawText(label), language="")
        except RedactionError:
            return False
        return not redacted.entities and redacted.text == normalise(label)
