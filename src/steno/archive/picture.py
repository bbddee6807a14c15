"""The picture of a conversation: its waveform coloured by who speaks, and a lane for each role.

As SVG (words, both themes) and as PNG (no words: an image for where SVG is not shown).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from steno.archive.sound import Sound
from steno.archive.strip import ROLES, Strip
from steno.core.page import clean
from steno.core.tables import clock
from steno.core.transcript import Role

COLUMNS: Final = 1200
STYLES: Final = {Role.CUSTOMER: "c1", Role.AGENT: "c0", Role.SYSTEM: "c3", Role.UNKNOWN: "rest"}
"""Classes of ``core.page`` by role."""

_COLOURS: Final = {
    Role.CUSTOMER: (188, 76, 0),
    Role.AGENT: (9, 105, 218),
    Role.SYSTEM: (130, 80, 223),
    Role.UNKNOWN: (140, 149, 159),
}
_PAPER: Final = (255, 255, 255)
_LABELS: Final = 90
_WAVE: Final = 120
_LANE: Final = 22
_BAR: Final = 14
_AXIS: Final = 24
_STEPS_S: Final = (
    (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
)  # fmt: skip
_TICKS: Final = 12

ALONE_STYLE: Final = (
    "svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#1b1f24}"
    ".time{fill:#57606a;text-anchor:middle}.tick{stroke:#d0d7de}"
    ".c0{fill:#0969da}.c1{fill:#bc4c00}.c3{fill:#8250df}.rest{fill:#8c959f}"
    "@media (prefers-color-scheme:dark){svg{background:#0d1117}text{fill:#e6edf3}"
    ".time{fill:#9198a1}.tick{stroke:#3d444d}.c0{fill:#58a6ff}.c1{fill:#f0883e}.c3{fill:#bc8cff}}"
)


def seconds_of(strip: Strip, sound: Sound | None) -> float:
    """Return how much time a picture shows."""
    return max(strip.end_s, sound.seconds if sound is not None else 0.0)


def svg(strip: Strip, sound: Sound | None, *, title: str, alone: bool = True) -> Iterator[str]:
    """Yield the picture as SVG.

    Args:
        strip: Finished.
        alone: It is a file of its own: with its own style; else part of a page.
    """
    seconds = seconds_of(strip, sound)
    bars = strip.bars(COLUMNS, seconds)
    lanes = [role for role in ROLES if role in bars]
    wave = _WAVE if sound is not None else 0
    width = _LABELS + COLUMNS
    height = wave + _LANE * len(lanes) + _AXIS
    head = 'xmlns="http://www.w3.org/2000/svg" ' if alone else ""
    yield (
        f'<svg {head}role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<title>{clean(title)}</title><desc>{clean(_described(strip, lanes, seconds))}</desc>"
    )
    if alone:
        yield f"<style>{ALONE_STYLE}</style>"
    yield from _axis(seconds, height)
    if sound is not None:
        yield from _wave(strip, sound, seconds)
    for number, role in enumerate(lanes):
        top = wave + number * _LANE
        yield f'<text x="0" y="{top + _BAR}">{role.value}</text><g class="{STYLES[role]}">'
        for first, behind in bars[role]:
            yield (
                f'<rect x="{_LABELS + first}" y="{top + 4}" width="{behind - first}" '
                f'height="{_BAR}"/>'
            )
        yield "</g>"
    yield "</svg>\n"


def _described(strip: Strip, lanes: list[Role], seconds: float) -> str:
    who = ", ".join(role.value for role in lanes) or "nobody"
    return f"{strip.turns} turns in {clock(seconds)}; speaking: {who}."


def _axis(seconds: float, height: int) -> Iterator[str]:
    step = next((one for one in _STEPS_S if seconds / one <= _TICKS), _STEPS_S[-1])
    at = 0
    while seconds > 0 and at <= seconds and at / step <= _TICKS * 40:
        x = _LABELS + at / seconds * COLUMNS
        yield f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - _AXIS}"/>'
        yield f'<text class="time" x="{x:.1f}" y="{height - 6}">{clock(at)}</text>'
        at += step


def _wave(strip: Strip, sound: Sound, seconds: float) -> Iterator[str]:
    """Draw the waveform: in each column the colour of who speaks, of the first that does."""
    levels = sound.columns(COLUMNS, seconds)
    colours = _speaking(strip, seconds)
    middle = _WAVE / 2
    reach = middle - 4
    for role in ROLES:
        places = np.flatnonzero(colours == ROLES.index(role)).tolist()
        if not places:
            continue
        path = "".join(
            f"M{_LABELS + x} {middle - levels[x, 1] * reach:.1f}h1"
            f"V{middle - levels[x, 0] * reach + 0.5:.1f}h-1z"
            for x in places
        )
        yield f'<path class="{STYLES[role]}" d="{path}"/>'


def _speaking(strip: Strip, seconds: float) -> npt.NDArray[np.int64]:
    """Return for each column the place in ``ROLES`` of who speaks; unknown where nobody does."""
    colours = np.full(COLUMNS, ROLES.index(Role.UNKNOWN))
    columns = strip.columns(COLUMNS, seconds)
    for role in reversed(ROLES):
        if role in columns:
            colours[columns[role]] = ROLES.index(role)
    return colours


def png(strip: Strip, sound: Sound | None) -> bytes:
    """Return the picture as a PNG."""
    seconds = seconds_of(strip, sound)
    columns = strip.columns(COLUMNS, seconds)
    lanes = [role for role in ROLES if role in columns]
    wave = _WAVE if sound is not None else 0
    pixels = np.full((max(1, wave + _LANE * len(lanes)), COLUMNS, 3), _PAPER, np.uint8)
    if sound is not None:
        _draw_wave(pixels, strip, sound, seconds)
    for number, role in enumerate(lanes):
        top = wave + number * _LANE + 4
        pixels[top : top + _BAR, columns[role]] = _COLOURS[role]
    return _encoded(pixels)


def _draw_wave(pixels: npt.NDArray[np.uint8], strip: Strip, sound: Sound, seconds: float) -> None:
    levels = sound.columns(COLUMNS, seconds)
    colours = _speaking(strip, seconds)
    middle, reach = _WAVE / 2, _WAVE / 2 - 4
    rows = np.arange(_WAVE)[:, None]
    top = np.floor(middle - levels[:, 1] * reach)[None, :]
    bottom = np.ceil(middle - levels[:, 0] * reach)[None, :]
    drawn = (rows >= top) & (rows <= np.maximum(bottom, top))
    palette = np.array([_COLOURS[role] for role in ROLES], np.uint8)
    pixels[:_WAVE][drawn] = np.broadcast_to(palette[colours], (_WAVE, COLUMNS, 3))[drawn]


def _encoded(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return pixels, shape (height, width, 3), as a PNG (W3C, PNG specification, 3rd edition)."""
    height, width, _ = pixels.shape
    rows = np.concatenate((np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)), axis=1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", head),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
