"""A run over recorded events that is killed is simply run again: nothing doubled, nothing lost."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from diarisation.recorded_killed import HORIZON_S, run
from steno.adapters.store_sqlite.timeline import TimelineReader
from steno.core.records import Kind, Record

CONVERSATIONS, EACH = 5, 60
CHILD = Path(__file__).with_name("recorded_killed.py")
ROOT = Path(__file__).resolve().parents[2]
BEGAN_AT = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
TEXTS = (
    "well let me see what I can do",
    "the card is four one one one",
    "one one one one one one one one",
    "one one one one and it ends next May",
    "you can call me on 415-555-0142",
    "my number is four one five",
    "five five five oh one four two",
    "thank you very much",
)


def event(conversation: int, speaker: str, text: str, start: float, **more: object) -> str:
    item = {"speaker": speaker, "text": text, "start": start, "end": start + 3.0}
    item |= {"confidence": 0.9, "isFinal": True, **more}
    name = "conversation.transcription.update"
    body = {"conversationId": f"conversation-{conversation}", "transcripts": [item]}
    received_at = (BEGAN_AT + timedelta(seconds=start)).isoformat()
    return json.dumps({"received": received_at, "message": {"type": name, "data": body}})


def written(path: Path, seed: int) -> Path:
    """Write conversations with all that makes a segment's fate depend on what came before."""
    draw = random.Random(seed)
    lines: list[tuple[float, str]] = []
    for conversation in range(CONVERSATIONS):
        for index in range(EACH):
            at_s, speaker = index * 3.5, f"speaker_{index // 4 % 2}"
            text = TEXTS[index % len(TEXTS)]
            final = event(conversation, speaker, text, at_s)
            late_s = draw.choice([0.0, 0.0, 0.0, draw.uniform(0, HORIZON_S / 2)])
            lines.append((at_s - 1, event(conversation, speaker, text[:9], at_s, isFinal=False)))
            lines.append((at_s + late_s, final))
            if draw.random() < 0.2:  # a repeat, sooner or much later
                lines.append((at_s + draw.choice([1.0, HORIZON_S * 3]), final))
            if draw.random() < 0.1:  # a better version, sooner or when the first was given out
                better = event(conversation, speaker, f"{text} please", at_s, confidence=0.95)
                lines.append((at_s + draw.choice([1.0, HORIZON_S * 3]), better))
            if draw.random() < 0.1:
                lines.append((at_s, event(conversation, "", text, at_s + 0.5)))
            if draw.random() < 0.1:
                lines.append((at_s, event(conversation, speaker, text, at_s + 1, confidence=0.2)))
            if draw.random() < 0.05:  # a partial without a final
                alone = event(conversation, "speaker_2", text, at_s, isFinal=False)
                lines.append((at_s, alone))
    lines.sort()
    path.write_text("\n".join(line for _, line in lines))
    return path


def timeline(state: Path) -> list[tuple[str, ...]]:
    """Return what is stored, by place: everything but ids and the order of commits."""

    def told(record: Record) -> tuple[str, ...]:
        return (record.conversation, record.kind, record.key, record.payload.decode())

    with TimelineReader(state / "steno.db") as reader:
        return [
            told(record)
            for kind in (Kind.SEGMENT, Kind.SEGMENT_AUDIT)
            for entry in reader.conversations(kind)
            for record in reader.read(entry.conversation, kind)
        ]


def killed(state: Path, events: Path, after: int) -> bool:
    """Run until so many records are stored, then kill; False when it ended by itself."""
    call = [sys.executable, str(CHILD), str(state), str(events)]
    env = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "PATH": ""}
    with subprocess.Popen(call, env=env, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= after:
                child.kill()
                break
        return child.wait(30) != 0


async def undisturbed(folder: Path, events: Path) -> list[tuple[str, ...]]:
    """Return the timeline of a run that nobody disturbs."""
    progress = await run(folder / "whole", events, tells=False)
    assert progress.malformed == 0
    found = timeline(folder / "whole")
    segments = [one for one in found if one[1] == Kind.SEGMENT]
    assert len(segments) == CONVERSATIONS * EACH
    assert len(found) > len(segments)
    return found


async def test_a_second_run_over_the_same_events_changes_nothing(tmp_path: Path) -> None:
    """Slots are found again by their content."""
    events = written(tmp_path / "events", seed=1)
    whole = await undisturbed(tmp_path, events)
    await run(tmp_path / "whole", events, tells=False)
    assert timeline(tmp_path / "whole") == whole


async def test_another_file_with_a_better_version_makes_a_new_revision(tmp_path: Path) -> None:
    """What earlier runs stored is known, and the worse version does not come back."""
    first, second = tmp_path / "first", tmp_path / "second"
    neighbour = event(0, "speaker_1", "thank you very much", 8.0)
    first.write_text("\n".join([event(0, "speaker_0", "well I see", 1.0), neighbour]))
    better = event(0, "speaker_0", "well let me see", 1.0, confidence=0.95)
    second.write_text("\n".join([better, neighbour]))
    for events in (first, second, first):
        await run(tmp_path / "state", events, tells=False)
    with TimelineReader(tmp_path / "state" / "steno.db") as reader:
        found = list(reader.read("conversation-0", Kind.SEGMENT))
    assert [(one.revision, b"well let me see" in one.payload) for one in found] == [
        (1, True),
        (0, False),
    ]


@pytest.mark.parametrize("seed", [2, 3])
async def test_a_run_killed_anywhere_is_run_again_and_nothing_is_doubled(
    tmp_path: Path, seed: int
) -> None:
    """The timeline, redacted texts and audit included, is that of a run nobody disturbed."""
    await killed_and_run_again(tmp_path, seed, kills=2)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 20))
async def test_a_run_killed_many_times_ends_like_one_that_was_not(
    tmp_path: Path, seed: int
) -> None:
    """The same with other events and more kills."""
    await killed_and_run_again(tmp_path, seed, kills=6)


async def killed_and_run_again(folder: Path, seed: int, *, kills: int) -> None:
    events = written(folder / "events", seed)
    whole = await undisturbed(folder, events)
    draw = random.Random(seed)
    for _ in range(kills):
        # A run again stores the new ones only, so less and less is left to be killed at.
        assert killed(folder / "again", events, draw.randint(1, len(whole) // (kills + 1)))
    await run(folder / "again", events, tells=False)
    assert timeline(folder / "again") == whole
