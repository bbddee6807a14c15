"""What a live feed is given in tests: tokens from a list, and a target that keeps all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from steno.core.transcript import Fragment
from steno.ports import FeedEvent

T = TypeVar("T")


class Tokens:
    """Gives tokens from a list; a refused one is never given again."""

    def __init__(self, *tokens: str) -> None:
        self.left = list(tokens) or ["token-1"]
        self.asked: list[str] = []

    async def token(self, *, refused: str = "") -> str:
        self.asked.append(refused)
        if refused and refused in self.left and len(self.left) > 1:
            self.left.remove(refused)
        return self.left[0]


class Target:
    """Keeps what a feed gives; full when ``room`` is cleared."""

    def __init__(self) -> None:
        self.events: list[FeedEvent] = []
        self.room = asyncio.Event()
        self.room.set()
        self.closes_after: int | None = None
        self._changed = asyncio.Event()

    def accept(self, event: FeedEvent) -> bool:
        self.events.append(event)
        self._changed.set()
        if self.closes_after is not None and len(self.texts()) >= self.closes_after:
            self.room.clear()
        return self.room.is_set()

    async def ready(self) -> None:
        await self.room.wait()

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Fragment)]

    async def until(self, ready: Callable[[], bool], limit_s: float = 10.0) -> None:
        async with asyncio.timeout(limit_s):
            while not ready():
                self._changed.clear()
                await self._changed.wait()
