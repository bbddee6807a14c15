"""Fuzz target: envelopes of the JSON form, through a whole session.

Usage: python fuzz/media_envelope.py [--executions 1000000] [--seed 1]

Each execution is one message. Messages come in batches, as from a socket, mixed with good ones of
the same call, and sessions are broken off and resumed. Whatever comes in: nothing is raised, every
message is accounted for, runs obey their bounds, and numbers rise within an epoch.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from random import Random

from mutation import Mutator, Report

from steno.core.audio import MAX_RATE_HZ, MIN_RATE_HZ, SAMPLE_BYTES
from steno.core.ids import is_id
from steno.core.sequence import MAX_SEQUENCE
from steno.wire.media_json import (
    MAX_LANES,
    MAX_SKIPPED_KEPT,
    AudioRun,
    HoldState,
    MediaJsonSession,
)

CONVERSATION = "0b9d7a44-2c5e-4f10-8e3b-6a1c9d5e7f22"
SESSION_MESSAGES = 400


def _envelope(number: int, **changes: object) -> bytes:
    fields: dict[str, object] = {
        "conversationId": CONVERSATION,
        "participantId": "c4e8f1a6-93b2-4d07-b5c8-1e2f3a4b5c6d",
        "audio": base64.b64encode(bytes(range(40))).decode(),
        "format": "PCMU",
        "sampleRate": 8000,
        "sequenceNumber": number,
        "timestamp": "2024-01-15T10:30:00.020Z",
    }
    return json.dumps(fields | changes).encode()


SEEDS = [
    _envelope(0),
    _envelope(7, participantId="agent-1"),
    _envelope(8, format="L16", sampleRate=16000, timestamp=1705314600000),
    _envelope(9, format="audio/x-mulaw", conversationId="other:call"),
    _envelope(2**31 - 1, format="PCMA"),
]
WORDS = (b'"audio":', b'"sequenceNumber":', b"-1", b"2147483648", b"QUI=", b"==", b"PCMA", b"L16")


class Caller:
    """Feeds sessions of one call and holds the machine to its promises."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], HoldState] = {}
        self._now = 0.0
        self._begin()

    def _begin(self) -> None:
        self._session = MediaJsonSession(
            self._now, resume=lambda *whose: self._held.pop(whose, None)
        )
        self._taken = 0
        self._last: dict[int, AudioRun] = {}

    @property
    def used_up(self) -> bool:
        """Whether the session has seen enough."""
        return self._taken >= SESSION_MESSAGES

    def feed(self, messages: list[bytes]) -> list[str]:
        """Give a batch to the session; return what became of each message, in no order."""
        self._now += 0.2
        used = 0
        self._taken += len(messages)
        for run in self._session.receive_texts(messages, now=self._now, now_us=1):
            self._check(run)
            used += run.frames
        counters = self._session.counters
        known = counters.frames + counters.repeated_frames + counters.late_frames
        _promise(known + counters.skipped_total == self._taken, "accounting")
        skipped = [note.reason.value for note in self._session.skipped()]
        _promise(len(skipped) <= MAX_SKIPPED_KEPT, "skipped notes")
        before = len(messages) - used - len(skipped)
        return ["used"] * used + skipped + ["came before"] * before

    def break_off(self) -> None:
        """Lose the connection and come back."""
        self._session.receive_closed(1006)
        for held in self._session.hold(self._now):
            self._held[held.conversation, held.participant] = held
        while len(self._held) > MAX_LANES:
            del self._held[next(iter(self._held))]
        self._begin()

    def _check(self, run: AudioRun) -> None:
        size = SAMPLE_BYTES[run.encoding]
        _promise(0 <= run.lane < MAX_LANES, "lane")
        _promise(is_id(run.conversation) and is_id(run.participant), "ids")
        _promise(run.format.isprintable(), "format")
        _promise(MIN_RATE_HZ <= run.rate_hz <= MAX_RATE_HZ, "rate")
        _promise(0 < len(run.audio) <= run.frames * run.rate_hz * size, "size")
        _promise(len(run.audio) % size == 0, "whole samples")
        _promise(0 <= run.first_sequence <= run.last_sequence <= MAX_SEQUENCE, "numbers")
        _promise(run.start_samples >= 0 and run.gap_samples >= 0, "position")
        before = self._last.get(run.lane)
        if before is not None:
            _promise(run.epoch in (before.epoch, before.epoch + 1), "epoch")
            if run.epoch == before.epoch:
                _promise(run.first_sequence > before.last_sequence, "order")
                _promise(run.start_samples > before.start_samples, "clock")
        self._last[run.lane] = run
        _ = run.at_us


def _promise(kept: bool, what: str) -> None:
    if not kept:
        raise AssertionError(what)


def main() -> int:
    """Run the target; 1 when a promise was broken or something was raised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = Random(options.seed)  # noqa: S311  # chance that can be repeated, not secrecy
    mutator = Mutator(SEEDS, random, WORDS)
    report = Report("media_envelope")
    caller = Caller()
    done = number = 0
    while done < options.executions:
        batch = []
        for _ in range(random.choice((1, 1, 2, 4, 10))):
            good = random.random() < 0.2
            number += good
            batch.append(_envelope(number) if good else mutator.next())
        done += len(batch)
        try:
            outcomes = caller.feed(batch)
            if caller.used_up:
                caller.break_off()
        except Exception as exc:  # noqa: BLE001  # what a target is for
            report.fail(exc, b"\n".join(batch))
            caller, outcomes = Caller(), []
        for outcome in outcomes:
            report.count(outcome)
    sys.stdout.write("\n".join(report.lines()) + "\n")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
