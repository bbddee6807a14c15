"""Make the spoken vectors again; needs eSpeak NG (``apt-get install espeak-ng``).

Speech alone, its silent edges cut off: mono, 8 kHz, mu-law. Tests add the silence around it.
"""

from __future__ import annotations

import io
import json
import subprocess
import wave
from pathlib import Path

import numpy as np
import soxr  # type: ignore[import-untyped]

from steno_sim.calls.audio import Sound, ulaw_wav

FOLDER = Path(__file__).parent
PEAK = 12_000
QUIET = 120
SAID = {
    "order": ("en-us", 165, "i would like to order two tickets"),
    "number": ("en-us+m3", 160, "four one five five five"),
    "goodbye": ("en-us+f2", 165, "thank you goodbye"),
    "other": ("en-us", 165, "the north wind and the sun"),
}


def speak(voice: str, speed: int, text: str) -> Sound:
    """Give a text as 8 kHz speech."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "--stdout", text]
    made = subprocess.run(command, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(made)) as file:
        rate = file.getframerate()
        raw = np.frombuffer(made[44:], dtype="<i2").astype(np.float32)
    sound = soxr.resample(raw, rate, 8000)
    sound *= PEAK / np.abs(sound).max()
    loud = np.flatnonzero(np.abs(sound) > QUIET)
    return Sound(sound[loud[0] : loud[-1] + 1].astype(np.int16)[None])


def main() -> None:
    """Write the files and the manifest."""
    for name, (voice, speed, text) in SAID.items():
        (FOLDER / f"{name}.wav").write_bytes(ulaw_wav(speak(voice, speed, text)))
    texts = {name: text for name, (_, _, text) in SAID.items()}
    (FOLDER / "manifest.json").write_text(json.dumps(texts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
