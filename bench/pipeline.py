"""CPU per fragment from a frame's bytes to drafts of records, without sockets, store or sinks.

    python -m bench.pipeline [--conversations 50] [--fragments 400] [--runs 3] [--profile]

Frames are decoded, assembled, redacted and taken out as the service does it, a hundred frames at
a time. Each fragment bears a mark, so the line also tells whether a word went missing.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import re
import time
from collections.abc import Iterator

from steno.core.transcript import Fragment
from steno.redaction.redactor import Redactor
from steno.spine.pipeline import Pipeline, PipelineSettings
from steno.wire.transcript_stream import Decoder

SPEECH = (
    "well let me see what I can do",
    "the parcel went out on Monday and",
    "my connection drops whenever it rains, so",
    "we have changed the address for you.",
    "there are three items on that order",
    "one moment please, the page is still loading",
    "you should see it in your account by",
    "many thanks, have a good day.",
)
SECRETS = (" call me on 415-555-0142", " or mail to jane.roe@example.org")
SECRET_EVERY, FINAL_EVERY, TAKE_EVERY = 10, 4, 100
FRAME_S = 30e-6
"""Between two frames, as at the rate a busy socket gives them."""
START_US = 1_705_314_600_000_000
_MARK = re.compile(rb"\bc\d+f\d+\b")


def frames(conversations: int, fragments: int) -> Iterator[bytes]:
    """Yield frames of conversations that speak in turn."""
    for number in range(conversations * fragments):
        fragment, conversation = divmod(number, conversations)
        text = f"c{conversation}f{fragment} {SPEECH[(fragment + conversation) % len(SPEECH)]}"
        if fragment % SECRET_EVERY == SECRET_EVERY - 1:
            text += SECRETS[fragment // SECRET_EVERY % len(SECRETS)]
        is_final = (
            fragment == fragments - 1 or (fragment + conversation) % FINAL_EVERY == FINAL_EVERY - 1
        )
        at_us = int(number * FRAME_S * 1e6)
        yield json.dumps(
            {
                "event": "TRANSCRIPT_UPDATE",
                "conversationId": f"5d1f7a3c-0b2e-4c6d-8e9f-{conversation:012d}",
                "participantId": f"a7c3e1b5-9d8f-4e2a-0000-{fragment // FINAL_EVERY % 2:012d}",
                "transcript": text,
                "confidence": 0.7 + number % 30 / 100,
                "isFinal": is_final,
                "language": "en-US",
                "timestamp": f"2024-01-15T10:30:{at_us // 1_000_000:02d}.{at_us % 1_000_000:06d}Z",
            }
        ).encode()


def run(messages: list[bytes]) -> dict[str, float]:
    """Put all frames through once; return the figures."""
    decoder = Decoder()
    pipeline = Pipeline(
        PipelineSettings(source="transcript-stream", host_group="bench"), Redactor()
    )
    taken, drafts, snapshots = [], 0, 0
    started = time.process_time()
    for number, message in enumerate(messages, 1):
        now = number * FRAME_S
        fragment = decoder.decode(message, now=now, utc_us=START_US)
        assert isinstance(fragment, Fragment)
        pipeline.fragment(fragment, now=now, now_us=fragment.at_us)
        if number % TAKE_EVERY == 0:
            done, windows = pipeline.take(now)
            taken.append(done)
            snapshots += len(windows)
    cpu_s = time.process_time() - started
    pipeline.flush(now)
    taken.append(pipeline.take(now)[0])
    marks: set[bytes] = set()
    for done in taken:
        drafts += len(done)
        marks.update(*(_MARK.findall(draft.payload) for draft in done))
    return {
        "cpu_us_per_fragment": round(cpu_s / len(messages) * 1e6, 2),
        "fragments_per_cpu_s": round(len(messages) / cpu_s),
        "drafts": drafts,
        "snapshots": snapshots,
        "marks_missing": len(messages) - len(marks),
    }


def main() -> None:
    """Print the quickest of some runs as one JSON line, or a profile of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=50)
    parser.add_argument("--fragments", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    messages = list(frames(given.conversations, given.fragments))
    if given.profile:
        profile = cProfile.Profile()
        profile.runcall(run, messages)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        return
    rows = [run(messages) for _ in range(given.runs)]
    print(json.dumps(min(rows, key=lambda row: row["cpu_us_per_fragment"])))


if __name__ == "__main__":
    main()
