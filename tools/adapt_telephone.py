"""Estimate how the English model inside pocketsphinx hears telephone lines; needs eSpeak NG.

``apt-get install espeak-ng`` once, then ``python tools/adapt_telephone.py``. Writes
``feat.params`` and ``telephone.mllr`` of ``src/steno/adapters/speech/engines/telephone``.

The model was made from wideband speech: its means are cepstra of 130-6800 Hz. A call has
130-3700 Hz. Both ends of a linear map between the two are known here, since synthetic speech can
be had in both widths at once:

1. the same frames in both widths give a first map, by least squares;
2. with it, the texts are aligned with the narrow speech, and the means are mapped anew so that the
   speech is most likely (MLLR, one class; Leggetter and Woodland 1995), twice.

No text here is one of the demonstration's, and single words are shared with it only by chance,
digits excepted.
"""

from __future__ import annotations

import io
import random
import re
import struct
import subprocess
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import numpy as np
import soxr  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pocketsphinx import Config, Decoder, get_model_path  # type: ignore[import-untyped]

from steno.core.audio import Encoding, decode, encode_ulaw

FOLDER = Path(__file__).parents[1] / "src/steno/adapters/speech/engines/telephone"
HMM = get_model_path("en-us/en-us")
DICT = get_model_path("en-us/cmudict-en-us.dict")
PHONES = get_model_path("en-us/en-us-phone.lm.bin")
STREAMS, CEPSTRA = 3, 13
NOISE = 5.0
STEPS = 2
WIDE_BEAMS = {"beam": 1e-80, "wbeam": 1e-60, "pbeam": 1e-80}

Floats = NDArray[np.float64]
Maps = list[tuple[Floats, Floats]]
"""For each feature stream: a matrix and an offset for the means."""

VOICES = (
    "en-us", "en-us+f2", "en-us+m3", "en-us+f5", "en-us+klatt4", "en-us+Annie", "en-us+m7",
    "en-us+f4", "en-us+klatt2", "en-us+steph", "en-gb", "en-us+klatt", "en-us+m1",
)  # fmt: skip
SPEEDS = (140, 150, 130, 165)
LEVELS = (0.3, 0.6, 1.0)
TEXTS = """
the quick brown fox jumps over the lazy dog while the wizards jump quickly
a small plastic snake and a big toy frog for the kids
the north wind and the sun were talking when a traveller came along in a warm cloak
a rainbow is a division of white light into many beautiful colours
people look but no one ever finds it when a man looks for something beyond his reach
the museum opens at nine in the morning and closes late
could you please tell me the address of the nearest library
we had a lovely dinner by the river with our neighbours
my sister wants to travel to the mountains in september
the doctor will see you in a few minutes please take a seat
what time does the next train to the city leave from this platform
i have been waiting for the delivery and nobody called me
i really appreciate your help and i hope to see you again soon
the door of the house is beside the window
would you rather have some tea or coffee before we begin
he said that he may change his mind about the car
she put the blue cheese and the fresh fish into the basket
they should have known that the weather would be bad in the valley
give me the paper and a sharp pencil from the top drawer
our office is on the third floor opposite the old theatre
""".strip().splitlines()
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh"]

FEAT_PARAMS = """-lowerf 130
-upperf 3700
-nfilt 20
-transform dct
-lifter 22
-feat 1s_c_d_dd
-svspec 0-12/13-25/26-38
-agc none
-cmn {cmn}
-cmninit {cmninit}
-varnorm no
-model ptm
-remove_noise yes
"""


def speak(text: str, voice: str, speed: int, level: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give a text as 16 kHz and as 8 kHz telephone speech, of the same length."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "--stdout", text]
    made = subprocess.run(command, capture_output=True, check=True).stdout
    with wave.open(io.BytesIO(made)) as file:
        rate = file.getframerate()
        raw = np.frombuffer(made[44:], dtype="<i2").astype(np.float32) * level
    padded = np.pad(raw, (rate // 5, rate // 3))
    rng = np.random.default_rng(len(raw))
    narrow = soxr.resample(padded, rate, 8000)
    wide = soxr.resample(padded, rate, 16_000)
    count = min(len(narrow), len(wide) // 2) // 80 * 80
    line = decode(encode_ulaw(_int16(narrow[:count])), Encoding.PCMU)
    return (
        _int16(wide[: 2 * count] + rng.normal(0, NOISE, 2 * count)),
        _int16(line + rng.normal(0, NOISE, count)),
    )


def _int16(values: NDArray[Any]) -> NDArray[np.int16]:
    whole: NDArray[np.int16] = np.clip(np.rint(values), -32768, 32767).astype(np.int16)
    return whole


def cepstra_of(folder: Path) -> list[Floats]:
    """Read the feature files a decoder wrote, in order."""
    found = []
    for file in sorted(folder.glob("*.mfc")):
        data = file.read_bytes()
        order = "<" if struct.unpack("<I", data[:4])[0] * 4 == len(data) - 4 else ">"
        values = np.frombuffer(data[4:], order + "f4").astype(np.float64)
        found.append(values.reshape(-1, CEPSTRA))
    return found


def front_end(sounds: list[NDArray[Any]], rate_hz: int, **options: Any) -> list[Floats]:
    """Return the cepstra of whole sounds; the decoder beside the front end is idle."""
    with tempfile.TemporaryDirectory() as folder:
        decoder = Decoder(
            Config(
                hmm=HMM, lm=None, dict=None, allphone=PHONES, beam=1e-5, pbeam=1e-5,
                samprate=rate_hz, mfclogdir=folder, loglevel="FATAL", **options,
            )
        )  # fmt: skip
        for sound in sounds:
            decoder.start_utt()
            decoder.process_raw(sound.tobytes(), True, False)
            decoder.end_utt()
        del decoder
        return cepstra_of(Path(folder))


def first_maps(wide: list[Floats], narrow: list[Floats]) -> Maps:
    """Return the least-squares map from wide to narrow cepstra, means taken out."""
    pairs = [
        (a[: len(b)] - a.mean(0), b[: len(a)] - b.mean(0))
        for a, b in zip(wide, narrow, strict=True)
    ]
    x = np.vstack([a[: min(len(a), len(b))] for a, b in pairs])
    y = np.vstack([b[: min(len(a), len(b))] for a, b in pairs])
    matrix = np.linalg.solve(x.T @ x + 1e-3 * np.eye(CEPSTRA), x.T @ y).T
    return [(matrix, np.zeros(CEPSTRA))] * STREAMS


def write_maps(file: Path, maps: Maps) -> None:
    """Write an MLLR file: one class, three streams, variances as they are."""
    lines = ["1", str(STREAMS)]
    for matrix, offset in maps:
        lines.append(str(CEPSTRA))
        lines += [" ".join(f"{value:.5f}" for value in row) for row in matrix]
        lines.append(" ".join(f"{value:.5f}" for value in offset))
        lines.append(" ".join(["1"] * CEPSTRA))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def gaussians(name: str) -> Floats:
    """Read a parameter file of the model: (phone, stream, density, cepstrum)."""
    data = Path(HMM, name).read_bytes()
    at = data.index(b"endhdr\n") + 7 + 4
    books, streams, densities = struct.unpack_from("<III", data, at)
    at += 12 + 4 * streams + 4
    values = np.frombuffer(data, "<f4", books * streams * densities * CEPSTRA, at)
    return values.astype(np.float64).reshape(books, streams, densities, CEPSTRA)


def phone_names() -> list[str]:
    """Read the context-independent phones of the model, in the order of its codebooks."""
    data = Path(HMM, "mdef").read_bytes()
    _, length = struct.unpack_from("<II", data, 4)
    at = 12 + length
    (count,) = struct.unpack_from("<I", data, at)
    return [name.decode() for name in data[at + 40 :].split(b"\0")[:count]]


def features(cepstra: Floats) -> Floats:
    """Return (frames, streams, cepstra): static, delta and double delta, mean taken out."""
    centred = cepstra - cepstra.mean(0)
    padded = np.pad(centred, ((3, 3), (0, 0)), mode="edge")

    def moved(by: int) -> Floats:
        return padded[3 + by : 3 + by + len(centred)]

    delta = moved(2) - moved(-2)
    double = (moved(3) - moved(-1)) - (moved(1) - moved(-3))
    return np.stack([centred, delta, double], axis=1)


Aligned = list[tuple[list[tuple[str, int, int]], Floats]]
"""For each utterance: its phones (name, first frame, frames), and its features."""


def align(items: list[tuple[str, NDArray[Any]]], params: Path, mllr: Path) -> Aligned:
    """Say which phone is where; what cannot be aligned is left out."""
    found: Aligned = []
    for text, sound in items:
        with tempfile.TemporaryDirectory() as folder:
            decoder = Decoder(
                Config(
                    hmm=HMM, dict=DICT, lm=None, samprate=8000, featparams=str(params),
                    mllr=str(mllr), mfclogdir=folder, loglevel="FATAL", **WIDE_BEAMS,
                )
            )  # fmt: skip
            decoder.set_align_text(text)
            try:
                _decode(decoder, sound)
                if decoder.hyp() is None:
                    continue
                decoder.set_alignment()  # of the words; now the phones within them
                _decode(decoder, sound)
            except RuntimeError:
                continue
            phones = [
                (phone.name, phone.start, phone.duration)
                for word in decoder.get_alignment()
                for phone in word
            ]
            del decoder
            found.append((phones, features(cepstra_of(Path(folder))[0])))
    return found


def _decode(decoder: Any, sound: NDArray[Any]) -> None:
    decoder.start_utt()
    decoder.process_raw(sound.tobytes(), False, True)
    decoder.end_utt()


def better_maps(aligned: Aligned, maps: Maps) -> Maps:
    """Return the maps of the means that make the aligned speech most likely."""
    means, variances = gaussians("means"), np.maximum(gaussians("variances"), 1e-4)
    place = {name: number for number, name in enumerate(phone_names())}
    size = CEPSTRA + 1
    left = np.zeros((STREAMS, CEPSTRA, size, size))
    right = np.zeros((STREAMS, CEPSTRA, size))
    for phones, frames in aligned:
        for name, start, count in phones:
            if name not in place or count < 1:
                continue
            book = place[name]
            for stream, (matrix, offset) in enumerate(maps):
                x = frames[start : start + count, stream]
                mean, variance = means[book, stream], variances[book, stream]
                away = x[:, None, :] - (mean @ matrix.T + offset)
                score = -0.5 * ((away**2 / variance).sum(2) + np.log(variance).sum(1))
                share = np.exp(score - score.max(1, keepdims=True))
                share /= share.sum(1, keepdims=True)
                extended = np.hstack([mean, np.ones((len(mean), 1))])
                weights = share.sum(0)[:, None] / variance
                sums = share.T @ x / variance
                left[stream] += np.einsum("kd,ki,kj->dij", weights, extended, extended)
                right[stream] += np.einsum("kd,ki->di", sums, extended)
    solved = np.linalg.solve(left + 1e-6 * np.eye(size), right[..., None])[..., 0]
    return [(each[:, :CEPSTRA], each[:, CEPSTRA]) for each in solved]


def main() -> int:
    """Estimate, and write both files."""
    rng = random.Random(5)
    numbers = [" ".join(rng.choice(DIGITS) for _ in range(8)) for _ in range(16)]
    texts = [re.sub(r"[^a-z ]", "", text) for text in (*TEXTS, *numbers)] * 4
    sounds = [
        speak(
            text,
            VOICES[(number + number // len(TEXTS)) % len(VOICES)],
            SPEEDS[number % len(SPEEDS)],
            LEVELS[number % len(LEVELS)],
        )
        for number, text in enumerate(texts)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        params, mllr = Path(scratch, "feat.params"), Path(scratch, "first.mllr")
        params.write_text(FEAT_PARAMS.format(cmn="batch", cmninit="40,3,-1"), encoding="utf-8")
        wide = front_end([sound for sound, _ in sounds], 16_000)
        narrow = front_end([sound for _, sound in sounds], 8000, featparams=str(params))
        cmninit = ",".join(f"{value:.2f}" for value in np.vstack(narrow).mean(0))
        maps = first_maps(wide, narrow)
        write_maps(mllr, maps)
        items = [(text, sound) for text, (_, sound) in zip(texts, sounds, strict=True)]
        for step in range(STEPS):
            aligned = align(items, params, mllr)
            print(f"step {step + 1}: {len(aligned)} of {len(items)} utterances aligned")
            maps = better_maps(aligned, maps)
            write_maps(mllr, maps)
        write_maps(FOLDER / "telephone.mllr", maps)
    (FOLDER / "feat.params").write_text(
        FEAT_PARAMS.format(cmn="live", cmninit=cmninit), encoding="utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
