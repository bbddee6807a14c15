"""The language of recognised words, by lingua, limited to the configured languages.

Limited on purpose: all of its languages take more than a gigabyte, and among a few it needs
fewer words. The price is that a language which is not configured looks like one that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from steno.errors import EngineUnavailable
from steno.ports.speech import LanguageGuess

if TYPE_CHECKING:
    import lingua

_FIX: Final = "Install the extra `lingua`, or take another media.identifier"

_LINGUA: Final = {"no": "NB"}
"""Languages that lingua knows by another code."""


class LinguaIdentifier:
    """Guesses from words; a port ``TextIdentifier``. Models are loaded with the first question.

    Args:
        languages: Primary language codes (``en``), each once; those lingua does not know are
            left out.

    Raises:
        EngineUnavailable: lingua is missing, or knows fewer than two of the languages.
    """

    name = "text"

    def __init__(self, languages: Iterable[str]) -> None:
        try:
            import lingua
        except ImportError as exc:
            raise EngineUnavailable("lingua is not installed", fix=_FIX) from exc
        codes = {}
        for language in languages:
            code = _LINGUA.get(language, language.upper())
            known = getattr(lingua.IsoCode639_1, code, None)
            if known is not None:
                codes[known] = language
        if len(codes) < 2:
            raise EngineUnavailable(
                "lingua can tell fewer than two of the languages apart",
                fix="Configure several of its languages in media.languages, or take another "
                "media.identifier",
                known=len(codes),
            )
        self._codes = codes
        self._detector: lingua.LanguageDetector | None = None
        self._thread = ThreadPoolExecutor(1, "language")

    async def identify_text(self, text: str) -> LanguageGuess | None:
        """Guess from several words of one lane; None when no word is of any language."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._identify, text)

    def _identify(self, text: str) -> LanguageGuess | None:
        if self._detector is None:
            import lingua

            # A second of work and some 50 MB a language; lingua lets go of the lock meanwhile.
            builder = lingua.LanguageDetectorBuilder.from_iso_codes_639_1(*self._codes)
            self._detector = builder.with_preloaded_language_models().build()
        best = self._detector.compute_language_confidence_values(text)[0]
        if best.value <= 0:
            return None
        language = self._codes[best.language.iso_code_639_1]
        return LanguageGuess(language, min(best.value, 1.0))

    async def close(self) -> None:
        """Let go of the models."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._detector = None
