"""``steno`` with a bug planted, to prove that the tests beside it would see one.

Usage: gateway_planted.py BUG live …

Bugs: ``none``; ``early-ack`` settles records before the consumer has them; ``no-journal`` keeps
open windows in memory only; ``plain-journal`` does not encrypt them; ``late-journal`` leaves
them in the journal after their sentence was stored, and names sentences anew at each start;
``no-redaction`` lets the text through.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence

import msgspec

from steno.adapters.sealing import AesGcmSealer
from steno.adapters.sinks.grpc import GrpcSink
from steno.core.records import Draft, Record
from steno.ports import Ack, Outcome
from steno.spine import pipeline


def early_ack() -> None:
    """Acknowledge at once, deliver afterwards."""
    deliver = GrpcSink.deliver
    later: set[asyncio.Task[list[Outcome]]] = set()

    async def lying(self: GrpcSink, records: Sequence[Record]) -> list[Outcome]:
        async def deliver_later() -> list[Outcome]:
            await asyncio.sleep(0.1)
            return await deliver(self, records)

        later.add(asyncio.create_task(deliver_later()))
        return [Ack() for _ in records]

    GrpcSink.deliver = lying  # type: ignore[method-assign]


def no_journal() -> None:
    """Keep open windows in memory only."""
    take = pipeline.Pipeline.take

    def taken(self: pipeline.Pipeline, now: float) -> tuple[list[Draft], dict[str, bytes | None]]:
        return take(self, now)[0], {}

    pipeline.Pipeline.take = taken  # type: ignore[method-assign]


def plain_journal() -> None:
    """Write open windows as they are."""
    AesGcmSealer.seal = lambda self, plain, *, context: plain  # type: ignore[method-assign]
    AesGcmSealer.open = lambda self, sealed, *, context: sealed  # type: ignore[method-assign]


def late_journal() -> None:
    """Take closed windows out of the journal a commit too late, and let no key outlive us."""
    take = pipeline.Pipeline.take
    held: dict[str, bytes | None] = {}

    def taken(self: pipeline.Pipeline, now: float) -> tuple[list[Draft], dict[str, bytes | None]]:
        drafts, windows = take(self, now)
        finished = {draft.conversation for draft in drafts}
        ready = {name: held.pop(name) for name in list(held) if name not in windows}
        for name, snapshot in windows.items():
            if name in finished:
                held[name] = snapshot
            else:
                ready[name] = snapshot
        named = [msgspec.structs.replace(d, key=f"{os.getpid()}.{d.key}") for d in drafts]
        return named, ready

    pipeline.Pipeline.take = taken  # type: ignore[method-assign]


def no_redaction() -> None:
    """Let the text through as it was said."""
    from steno.core.transcript import RedactedSentence

    release = pipeline.Pipeline._release

    def unmasked(
        self: pipeline.Pipeline, state: pipeline._Conversation, released: list[RedactedSentence]
    ) -> None:
        plain = [msgspec.structs.replace(r, text=r.sentence.text) for r in released]
        release(self, state, plain)

    pipeline.Pipeline._release = unmasked  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "early-ack": early_ack,
    "no-journal": no_journal,
    "plain-journal": plain_journal,
    "late-journal": late_journal,
    "no-redaction": no_redaction,
}

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    from steno.cli.main import main

    main()
