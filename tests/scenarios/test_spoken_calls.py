"""Spoken calls end to end: audio by AudioHook, a recogniser of its own, records and entities."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from steno.adapters.speech.engines.choosing import choose_engine
from steno.app.capability import RunOptions
from steno.app.gateway import run_gateway
from steno.config import load
from steno.core.secret import Secret
from steno.observability import LogTelemetry
from steno_sim.calls.playing import play_calls
from steno_sim.calls.scoring import score_speech
from steno_sim.calls.voices import spoken_call
from steno_sim.score import Heard

KEY, SECRET = "scenario-api-key", "c2NlbmFyaW8tY2xpZW50LXNlY3JldA=="


async def test_a_spoken_call_is_understood_redacted_and_given_back(tmp_path: Path) -> None:
    """Every turn arrives, the phone number does not, and Genesys gets the same sentences."""
    choose_engine("pocketsphinx", grammar="orders").close()  # its model is in the page cache now
    out = tmp_path / "out.jsonl"
    config = load(
        None,
        {"HOME": str(tmp_path)},
        {
            "media.listen": "127.0.0.1:0",
            "media.audiohook_keys": Secret(json.dumps({KEY: SECRET})),
            "speech.engine": "pocketsphinx",
            "speech.grammar": "orders",
            "state_dir": tmp_path / "state",
            "observability.listen": "",
            "delivery.destinations": ({"type": "jsonl", "path": str(out)},),
        },
    )
    stop = asyncio.Event()
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(
        run_gateway(
            config,
            stop=stop,
            telemetry=LogTelemetry(level="error", strict=True),
            features=("media",),
            options=RunOptions(on_listening=listening.set_result),
        )
    )
    try:
        url = f"ws://{await listening}/audiohook"
        played = await play_calls(
            url, [spoken_call("tickets")], api_key=KEY, secret=SECRET, speed=2.0
        )
    finally:
        stop.set()
        await running
    records = [json.loads(line) for line in out.read_text().splitlines()]
    sentences = [(r["conversation"], r["payload"]) for r in records if r["kind"] == "sentence"]
    heard = [
        Heard(conversation, said["participant"], said["text"], said["started_us"])
        for conversation, said in sentences
    ]
    score = score_speech(played.truths, heard)
    assert score.word_error_rate < 0.1
    assert (score.total("lost"), score.total("leaked"), score.total("partly")) == (0, 0, 0)
    (call,) = played.results
    assert call.violations == []
    given = {entity.text for entity in call.entities}
    assert given
    assert given <= {each.text for each in heard}
