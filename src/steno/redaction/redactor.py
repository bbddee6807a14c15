"""Redaction of one piece of speech; ``carry`` joins what runs over several."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from steno.core.transcript import RawText, RedactedText
from steno.errors import ConfigError, RedactionError
from steno.redaction import checksums, masking, prefilter
from steno.redaction.analysis import Analysis, analyse, ends_number, regions_for
from steno.redaction.context import NOTHING, Context
from steno.redaction.entities import Recogniser, Span
from steno.redaction.masking import Mask
from steno.redaction.meanings import meanings
from steno.redaction.spoken import TABLES, UNTOLD, guess, lexicon
from steno.redaction.tokens import normalise

_LABEL = re.compile(r"[a-z][a-z0-9_]*")
_MAX_PASSES = 4


class Redacted(msgspec.Struct, frozen=True, gc=False):
    """Redacted text, and the number of spans removed by entity."""

    text: RedactedText
    entities: dict[str, int]


class Redactor:
    """Removes personal data from speech. Immutable, shared, safe for threads.

    Args:
        mask: ``redacted`` puts ``[REDACTED]`` in place of a span, ``label`` its kind
            (``[PHONE]``).
        languages: Languages whose tables are built now rather than at the first sentence.
        recognisers: Custom recognisers, asked for every sentence.
        default_region: Region (ISO 3166) whose phone numbers need no country code.

    Raises:
        ConfigError: Nobody has phone numbers in ``default_region``.
    """

    def __init__(
        self,
        *,
        mask: Mask = "redacted",
        languages: Sequence[str] = ("en", "es", "fr", "de"),
        recognisers: Sequence[Recogniser] = (),
        default_region: str = "US",
    ) -> None:
        # Asked now, so that loading the tables never stalls a conversation.
        if not checksums.knows_region(default_region):
            raise ConfigError(
                "unknown region of phone numbers",
                setting="redaction.default_region",
                fix="Use a two-letter country code such as US or DE.",
            )
        self._mask: Mask = mask
        self._recognisers = tuple(recognisers)
        self._regions = {code: regions_for(code, default_region) for code in TABLES}
        self._secrets = {code: prefilter.secrets(code).search for code in TABLES}
        self._notable = {code: prefilter.notable(code).search for code in TABLES}
        for language in languages:
            meanings(lexicon(language).code)

    def redact(self, text: RawText, *, language: str) -> Redacted:
        """``text`` without its personal data, blanks normalised.

        Args:
            language: BCP-47 tag; of an unknown language, written forms and the number words
                of all known ones are still found. Empty or ``und``: the text itself tells which
                of the known ones it is most like.

        Raises:
            RedactionError: Something failed; the text must be withheld.
        """
        try:
            return self._redact(text, language)
        except Exception as exc:  # noqa: BLE001 - whatever fails, the text must not pass
            cause = type(exc).__name__
        # Outside of the handler, so that the error drags no frame or message with text along.
        raise RedactionError(cause=cause)

    def _redact(self, text: str, language: str) -> Redacted:
        clean = normalise(text)
        entities: dict[str, int] = {}
        # Masking moves words closer to the numbers left over, so look again until nothing is
        # found: what has passed once passes unchanged ever after.
        if language in UNTOLD:
            language = guess(clean)
        for _ in range(_MAX_PASSES):
            if not self._recognisers and not self._may_hold_secret(clean, language):
                break
            spans = self.inspect(clean, language=language, hint=NOTHING).spans
            if not spans:
                break
            for entity, number in masking.count(spans).items():
                entities[entity] = entities.get(entity, 0) + number
            clean = masking.apply(clean, spans, self._mask)
        return Redacted(RedactedText(clean), entities)

    def is_notable(self, text: str, *, language: str) -> bool:
        """Whether normalised ``text`` holds a secret, part of one, or the mention of one."""
        if self._recognisers:
            return True
        return self._notable[lexicon(language).code](text.encode()) is not None

    def ends_number(self, text: str, *, language: str) -> bool:
        """Whether normalised ``text`` begins with a word no number before it goes on with."""
        return not self._recognisers and ends_number(text, lexicon(language))

    def inspect(self, text: str, *, language: str, hint: Context) -> Analysis:
        """Spans, unfinished end and topic of normalised ``text``; for ``carry``."""
        if language in UNTOLD:
            language = guess(text)
        table = lexicon(language)
        if self._recognisers:
            return self._with_custom(text, language, hint)
        return analyse(text, table, self._regions[table.code], hint)

    def _may_hold_secret(self, text: str, language: str) -> bool:
        return self._secrets[lexicon(language).code](text.encode()) is not None

    def mask(self, text: str, spans: Sequence[Span]) -> RedactedText:
        """``text`` with tidy ``spans`` masked as this redactor does."""
        return masking.apply(text, spans, self._mask)

    def _with_custom(self, text: str, language: str, hint: Context) -> Analysis:
        table = lexicon(language)
        found = analyse(text, table, self._regions[table.code], hint, always=True)
        own: list[Span] = []
        for recogniser in self._recognisers:
            for span in recogniser.find(text, language=language.lower()):
                if not 0 <= span.start < span.end <= len(text) or not _LABEL.fullmatch(span.entity):
                    raise ValueError("a recogniser returned a span outside of the text")
                own.append(span)
        if not own:
            return found
        masked = [match.span() for match in masking.MASKED.finditer(text)]
        own = [s for s in own if not any(a < s.end and s.start < b for a, b in masked)]
        return found._replace(spans=masking.tidy([*found.spans, *own], text))
