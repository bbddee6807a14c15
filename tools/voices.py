"""Make the spoken calls of ``src/steno_sim/voices`` from their script; needs eSpeak NG.

``apt-get install espeak-ng`` once, then ``python tools/voices.py``. Every call becomes a stereo
mu-law WAV at 8 kHz, the customer (``external``) left, the agent (``internal``) right, and
``manifest.json`` tells who says what when.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tomllib
import wave
from pathlib import Path
from typing import Any

import numpy as np
import soxr  # type: ignore[import-untyped]  # theirs has no types
from numpy.typing import NDArray

from steno_sim.calls.audio import RATE_HZ, Sound, ulaw_wav

FOLDER = Path(__file__).resolve().parent.parent / "src" / "steno_sim" / "voices"
LIMIT_BYTES = 1_500_000
PEAK = 14_000
QUIET = 120  # below this, the edges of an utterance are silence
SECRET = re.compile(r"\{([a-z]+):([^{}]*)\}")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS = {name: digit for digit, name in enumerate(NAMES)} | {"oh": 0}
CHANNELS = {"customer": "external", "agent": "internal"}


def speak(text: str, voice: dict[str, Any]) -> NDArray[np.int16]:
    """Give a text as 8 kHz speech, silent edges cut off."""
    command = ["espeak-ng", "-v", voice["voice"], "-s", str(voice["speed"])]
    command += ["-p", str(voice["pitch"]), "--stdout", text]
    made = subprocess.run(command, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(made)) as file:
        rate = file.getframerate()
        raw = np.frombuffer(made[44:], dtype="<i2").astype(np.float32)
    sound: NDArray[np.float32] = soxr.resample(raw, rate, RATE_HZ)
    sound *= PEAK / np.abs(sound).max()
    loud = np.flatnonzero(np.abs(sound) > QUIET)
    spoken: NDArray[np.int16] = sound[loud[0] : loud[-1] + 1].astype(np.int16)
    return spoken


def words(text: str) -> str:
    """Give the words alone."""
    return " ".join(SECRET.sub(r"\2", text).replace(",", " ").split())


def digits(text: str) -> str:
    """Give the digits that words say."""
    out, times = "", 1
    for word in words(text).split():
        if word in ("double", "triple"):
            times = 2 if word == "double" else 3
            continue
        out += str(DIGITS[word]) * times
        times = 1
    return out


def make(call: dict[str, Any], script: dict[str, Any]) -> tuple[Sound, dict[str, Any]]:
    """Give the sound of a call, and its part of the manifest."""
    at = script["lead_in_ms"] * RATE_HZ // 1000
    spoken: list[tuple[str, int, NDArray[np.int16]]] = []
    turns = []
    for turn in call["turns"]:
        who = call.get("customer", "customer") if turn["who"] == "customer" else "agent"
        said = SECRET.sub(r"\2", turn["say"])
        sound = speak(said, script["voices"][who])
        channel = CHANNELS[turn["who"]]
        spoken.append((channel, at, sound))
        turns.append(
            {
                "channel": channel,
                "start_ms": at * 1000 // RATE_HZ,
                "end_ms": (at + len(sound)) * 1000 // RATE_HZ,
                "text": words(turn["say"]),
                "secrets": [
                    {"kind": kind, "text": words(text), "digits": digits(text)}
                    for kind, text in SECRET.findall(turn["say"])
                ],
            }
        )
        at += len(sound) + script["gap_ms"] * RATE_HZ // 1000
    length = at + (script["tail_ms"] - script["gap_ms"]) * RATE_HZ // 1000
    rows = np.zeros((2, length), dtype=np.int16)
    for channel, start, sound in spoken:
        rows[list(CHANNELS.values()).index(channel), start : start + len(sound)] = sound
    facts = {
        "name": call["name"],
        "file": f"{call['name']}.wav",
        "language": script["language"],
        "duration_ms": length * 1000 // RATE_HZ,
        "turns": turns,
    }
    return Sound(rows), facts


def main() -> int:
    """Write every file; 1 when they are too large together."""
    script = tomllib.loads((FOLDER / "script.toml").read_text())
    calls, size = [], 0
    for call in script["calls"]:
        sound, facts = make(call, script)
        data = ulaw_wav(sound)
        (FOLDER / facts["file"]).write_bytes(data)
        size += len(data)
        calls.append(facts)
    manifest = {"rate_hz": RATE_HZ, "channels": list(CHANNELS.values()), "calls": calls}
    (FOLDER / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    length_s = sum(call["duration_ms"] for call in calls) / 1000
    print(f"{len(calls)} calls, {length_s:.1f} s, {size:,} bytes", file=sys.stderr)
    return int(size > LIMIT_BYTES)


if __name__ == "__main__":
    sys.exit(main())
