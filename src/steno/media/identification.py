"""Asking language identifiers on behalf of many lanes, without any of them waiting.

One question is asked at a time: identifiers use one thread, and two questions at once would
only answer both later. A lane has one question waiting at most, its newest, in the place of the
one before. When the line is full, a new lane's question is not taken; lanes ask again by
themselves, later and about more speech. An identifier that fails is left alone for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from steno.core.transcript import RawText
from steno.errors import SpeechError
from steno.ports import Telemetry
from steno.ports.speech import LanguageGuess, LanguageIdentifier, Samples, TextIdentifier

MAX_WAITING: Final = 64
"""Lanes in line; each holds at most 12 s of speech (192 KB at 8 kHz)."""

REST_S: Final = 60.0
"""A model that cannot be loaded now is not there a moment later either."""


class Asker(Protocol):
    """A lane that wants to know its language."""

    def guessed(self, guess: LanguageGuess) -> None:
        """Take the answer; called on the loop, never raises."""


Question = tuple[Samples, int] | RawText
"""Speech with its rate, or words."""


class IdentifierDesk:
    """The line of questions of one process. ``run`` must be running for answers to come.

    Args:
        listener: Asked about speech, if there is one.
        reader: Asked about words, if there is one.
        telemetry: For failures and counts.
        now: Monotonic seconds.
    """

    def __init__(
        self,
        listener: LanguageIdentifier | None,
        reader: TextIdentifier | None,
        telemetry: Telemetry,
        now: Callable[[], float],
    ) -> None:
        self._listener = listener
        self._reader = reader
        self._telemetry = telemetry
        self._now = now
        self._waiting: dict[Asker, Question] = {}
        self._woken = asyncio.Event()
        self._rest_until = 0.0
        self._failed = False
        name = listener.name if listener else reader.name if reader else "none"
        self._name = name
        self._count_guess = telemetry.counter("language_guesses", identifier=name)
        self._count_dropped = telemetry.counter("language_questions_dropped", identifier=name)

    @property
    def listens(self) -> bool:
        """Whether asking about speech leads anywhere."""
        return self._listener is not None

    @property
    def reads(self) -> bool:
        """Whether asking about words leads anywhere."""
        return self._reader is not None

    def listen(self, asker: Asker, speech: Samples, rate_hz: int) -> None:
        """Ask for the language of some speech."""
        if self._listener is not None:
            self._ask(asker, (speech, rate_hz))

    def read(self, asker: Asker, text: RawText) -> None:
        """Ask for the language of recognised words."""
        if self._reader is not None:
            self._ask(asker, text)

    def forget(self, asker: Asker) -> None:
        """Ask no more for a lane that is over. An answer under way may still come."""
        self._waiting.pop(asker, None)

    def _ask(self, asker: Asker, question: Question) -> None:
        full = len(self._waiting) >= MAX_WAITING and asker not in self._waiting
        if full or self._now() < self._rest_until:
            self._count_dropped(1)
            return
        self._waiting[asker] = question
        self._woken.set()

    async def run(self) -> None:
        """Answer questions until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            while self._waiting:
                asker = next(iter(self._waiting))
                await self._answer(asker, self._waiting.pop(asker))

    async def _answer(self, asker: Asker, question: Question) -> None:
        try:
            if isinstance(question, tuple):
                assert self._listener is not None
                guess = await self._listener.identify(*question)
            else:
                assert self._reader is not None
                guess = await self._reader.identify_text(question)
        except SpeechError as exc:
            self._give_up(exc.error_class)
            return
        except Exception as exc:  # noqa: BLE001 - a bug in one engine must not end the desk
            self._give_up(type(exc).__name__)
            return
        if self._failed:
            self._failed = False
            self._telemetry.info("media.identifier_recovered", identifier=self._name)
        if guess is not None:
            self._count_guess(1)
            asker.guessed(guess)

    def _give_up(self, error_class: str) -> None:
        self._count_dropped(1 + len(self._waiting))
        self._waiting.clear()
        self._rest_until = self._now() + REST_S
        if not self._failed:
            self._failed = True
            self._telemetry.warning(
                "media.identifier_failed",
                identifier=self._name,
                error_class=error_class,
                retry_s=REST_S,
            )

    async def close(self) -> None:
        """Let go of the identifiers; ``run`` must have ended."""
        self._waiting.clear()
        for identifier in (self._listener, self._reader):
            if identifier is not None:
                await identifier.close()
