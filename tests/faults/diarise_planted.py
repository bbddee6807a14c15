"""``steno`` with a bug planted in diarisation, to prove that the tests beside it would see one.

Usage: diarise_planted.py BUG diarise …

Bugs: ``none``; ``no-journal`` keeps waiting segments in memory only; ``plain-journal`` does not
encrypt them; ``late-journal`` leaves them in the journal after they were stored, and names segments
anew at each start; ``no-redaction`` lets the text through; ``other-speaker`` swaps labels.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import msgspec

from steno.adapters.sealing import AesGcmSealer
from steno.core.records import Draft
from steno.core.transcript import Fragment
from steno.diarisation.drafts import DraftMaker
from steno.diarisation.roster import Who
from steno.diarisation.segments import SegmentPipeline

Taken = tuple[list[Draft], dict[str, bytes | None]]


def no_journal() -> None:
    """Keep what waits in memory only."""
    take = SegmentPipeline.take

    def taken(self: SegmentPipeline, now: float) -> Taken:
        return take(self, now)[0], {}

    SegmentPipeline.take = taken  # type: ignore[method-assign]


def plain_journal() -> None:
    """Write what waits as it is."""
    AesGcmSealer.seal = lambda self, plain, *, context: plain  # type: ignore[method-assign]
    AesGcmSealer.open = lambda self, sealed, *, context: sealed  # type: ignore[method-assign]


def late_journal() -> None:
    """Never take back what the journal has, and let no key outlive us."""
    take = SegmentPipeline.take
    known: set[str] = set()

    def taken(self: SegmentPipeline, now: float) -> Taken:
        drafts, windows = take(self, now)
        kept = {name: found for name, found in windows.items() if name not in known}
        known.update(kept)
        named = [msgspec.structs.replace(d, key=f"{os.getpid()}.{d.key}") for d in drafts]
        return named, kept

    SegmentPipeline.take = taken  # type: ignore[method-assign]


def _changed(change: Callable[[Fragment, Who, str], tuple[Who, str]]) -> None:
    segment = DraftMaker.segment

    def made(
        self: DraftMaker,
        fragment: Fragment,
        utterance: str,
        revision: int,
        who: Who,
        text: str,
        entities: dict[str, int],
    ) -> Draft:
        who, text = change(fragment, who, text)
        return segment(self, fragment, utterance, revision, who, text, entities)

    DraftMaker.segment = made  # type: ignore[method-assign]


def no_redaction() -> None:
    """Let the text through as it was said."""
    _changed(lambda fragment, who, text: (who, fragment.text))


def other_speaker() -> None:
    """Take one speaker for the other."""
    _changed(lambda fragment, who, text: (msgspec.structs.replace(who, speaker="speaker_0"), text))


BUGS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "no-journal": no_journal,
    "plain-journal": plain_journal,
    "late-journal": late_journal,
    "no-redaction": no_redaction,
    "other-speaker": other_speaker,
}

if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    from steno.cli.main import main

    main()
