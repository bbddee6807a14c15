"""``steno transcribe`` with engines of its own, as a process."""

from __future__ import annotations

from pathlib import Path

from recordings.tone_recordings import file_of, give, lead, listener
from recordings.transcribe_command import Command
from steno_sim.oauth import DEFAULT_CLIENT_ID, DEFAULT_CLIENT_SECRET
from steno_sim.recordings.settings import JobSettings, MediaSettings
from steno_sim.server import Simulator

SAID = "where is my order?"


def simulator() -> Simulator:
    media = MediaSettings(item_s=(0.0, 0.0), layouts=("mono",))
    return Simulator("quiet", jobs=JobSettings(recordings=2), media=media)


def command(folder: Path, sim: Simulator) -> Command:
    made = Command(folder, sim.url)
    made.env |= {
        "GENESYS_CLIENT_ID": DEFAULT_CLIENT_ID,
        "GENESYS_CLIENT_SECRET": DEFAULT_CLIENT_SECRET,
        "STENO_SPEECH_SERVICE": "transcription",
    }
    return made


async def test_audio_is_fetched_and_recognised(tmp_path: Path) -> None:
    """By options and an argument alone; the audit log has its entry."""
    async with simulator() as sim, listener() as speech:
        one = sim.catalogue.recordings()[0]
        give(sim, one, file_of(lead(SAID)))
        ours = command(tmp_path, sim)
        arguments = ("--engine", "audio", "--stt", speech, f"{one.conversation}/{one.id}")
        code, out, err = await ours.run("transcribe", *arguments)
        assert (code, out) == (0, f"[00:00:00] unknown: {SAID}\n"), err
        (entry,) = ours.entries()
        assert (entry.recording_id, entry.status) == (one.id, "completed")


async def test_a_recording_without_its_conversation_is_told(tmp_path: Path) -> None:
    """With what to write, and exit code 2."""
    async with simulator() as sim:
        one = sim.catalogue.recordings()[0]
        code, _, err = await command(tmp_path, sim).run(
            "transcribe", "--engine", "transcript", one.id
        )
    assert code == 2
    assert "setting=conversationId" in err
    assert "CONVERSATION/RECORDING" in err
